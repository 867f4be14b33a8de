"""Reports of parts merge into the report of the whole."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.documents import Document, StageReport
from convbert.models.errors import UserError

texts = st.lists(st.text(max_size=12), max_size=40)


def run(documents: list[Document]) -> StageReport:
    """Drop texts of odd length for one of three reasons and cut the others."""
    report = StageReport(stage="odd", sample_limit=3)
    for document in documents:
        report.read([document])
        if len(document.text) % 2:
            report.drop(document, f"odd-{len(document.text) % 3}", f"length {len(document.text)}")
        else:
            report.change("cut")
            report.keep([document.with_text(document.text[:4])])
    return report


@settings(max_examples=60, deadline=None)
@given(texts=texts, parts=st.integers(1, 5), seed=st.integers(0, 99))
def test_any_partition_in_any_order_gives_the_same_report(
    texts: list[str], parts: int, seed: int
) -> None:
    documents = [Document(f"f#{i}", text, "f") for i, text in enumerate(texts)]
    whole = StageReport(stage="odd", sample_limit=3).merge(run(documents))
    shuffled = random.Random(seed).sample(documents, len(documents))
    reports = [run(shuffled[i::parts]) for i in range(parts)]
    merged = StageReport(stage="odd", sample_limit=3)
    for report in reports:
        merged = merged.merge(StageReport.model_validate_json(report.model_dump_json()))
    assert merged == whole
    assert whole.documents_in - whole.documents_out == sum(whole.dropped.values())
    assert all(len(s) == min(3, whole.dropped[reason]) for reason, s in whole.samples.items())
    assert whole.bytes_in == sum(len(t.encode("utf-8", "surrogatepass")) for t in texts)


def test_a_sample_says_what_a_person_needs() -> None:
    (sample,) = run([Document("f#7", "x" * 2001, "f")]).samples["odd-0"]
    assert (sample.id, sample.detail, sample.excerpt) == ("f#7", "length 2001", "x" * 1000)


def test_reports_of_different_stages_do_not_merge() -> None:
    with pytest.raises(UserError, match="stage 'a' and 'b' differ"):
        StageReport(stage="a").merge(StageReport(stage="b"))
