import pickle
from pathlib import Path

import pytest

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.filters.corpus_settings import CorpusConfig, load_config
from convbert.models.errors import UserError


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_sections_become_stages_in_order(tmp_path: Path) -> None:
    text = """
inputs: [wiki.xml.bz2, s3://bucket/crawl/*.warc.gz]
reader: {unit: paragraph}
filters:
  language: {languages: [en, de]}
  gopher: {min_words: 3}
  repetition: null
  c4: {min_sentences: 1}
samples: 5
"""
    config = load_config(write(tmp_path / "a.yaml", text), CorpusConfig)
    stages = pickle.loads(pickle.dumps(config.stages()))
    documents = [Document("f#1", "It is what we have said to the man. Well,\nyes.", "f")]
    names = []
    for stage in stages:
        documents, report = stage(documents)
        names.append(report.stage)
        assert report.sample_limit == 5
    assert names == ["clean", "language", "gopher", "c4"]
    assert documents == []
    assert CorpusConfig.model_validate(config.model_dump(mode="json")) == config
    assert [s.name for s in CorpusConfig(inputs=("x",), cleaning=None).stages()] == [
        "language",
        "gopher",
        "repetition",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("inputs: [a]\nfilter: {}\n", "filter: unknown key; did you mean filters"),
        (
            "inputs: [a]\nfilters: {gopher: {min_words: -1}}",
            r"filters.gopher.min_words: .*\(got -1\)",
        ),
        ("inputs: [a]\nfilters: {gopher: {max_hashes: .inf}}", "max_hashes: give a finite number"),
        ("inputs: [a]\nfilters: {repetition: {max_top: {2: .nan}}}", "top.2: give a finite number"),
        ("inputs: [a]\nfilters: {repetition: {max_top: {0: 1}}}", "give a number of at least 1"),
        (
            "inputs: [a]\nfilters: {language: {languages: [en, jp]}}",
            r"filters\.language\.languages\.1: 'jp' is no language that the filter tells; give",
        ),
        ("reader: {}", "inputs: it is missing"),
        ("inputs: [", "not valid YAML"),
        ("- a", "give keys and values"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config(write(tmp_path / "bad.yaml", content), CorpusConfig)
    assert str(caught.value).startswith(f"{tmp_path}/bad.yaml: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.yaml: the file does not exist; check the path"):
        load_config(tmp_path / "no.yaml", CorpusConfig)
