import gzip
import json
import os
from pathlib import Path

import pytest

from convbert.data_pipeline.dedup.contamination import EvaluationIndex, Match
from convbert.data_pipeline.dedup.words import hash_words
from convbert.data_pipeline.documents import shown
from convbert.models.errors import UserError

QUESTION = "Which of the many rivers that cross the old town carried most of its trade then?"
RUN = "which of the many rivers that cross the old town carried most of"
CONTENTS = {
    "squad.json": json.dumps({"data": [{"paragraphs": [{"qas": [{"question": QUESTION}]}]}]}),
    "set.jsonl": json.dumps({"a": 1, "text": QUESTION}) + "\n\n",
    "glue.tsv": f'index\tsentence1\n0\t"{QUESTION}\n',
    "table.csv": f'text,label\n"{QUESTION}",1\n',
    "SET.JSONL": json.dumps({"a": QUESTION}).replace("rivers", r"\u0072ivers"),
    "set.jsonlines": json.dumps({"a": QUESTION}).replace("rivers", r"\u0072ivers"),
    os.fsdecode(b"caf\xe9.TXT"): QUESTION,
    "plain.txt": f"short line\n{QUESTION}\n",
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("packed", [False, True])
def test_runs_are_found_in_every_kind_of_file(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / (name + (".GZ" if name.isupper() else ".gz") * packed)
    content = CONTENTS[name].encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    EvaluationIndex.of([path], 13).save(tmp_path)
    texts = [
        "Nothing to see here.",
        f"He asked: {QUESTION.upper().replace('?', ' !')} and then {QUESTION}",
        "which of the many rivers that cross the old town carried most trade",
        "",
        "of",
    ]
    found = EvaluationIndex.load(tmp_path).matches(texts, hash_words(texts), 13)
    assert found == {1: Match(RUN, shown(str(path)))}


def test_a_run_belongs_to_the_first_file_that_has_it(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.txt", "two.txt")]
    for path in paths:
        path.write_text(QUESTION)
    found = EvaluationIndex.of(paths, 13).matches([QUESTION], hash_words([QUESTION]), 13)
    assert found[0].file == str(paths[0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.txt", b"too short", "short.txt: no text of 13 words or more; check it or lower"),
        ("bad.json", b"{", "bad.json: evaluation file cannot be read .*; give JSON"),
        ("latin.txt", b"\xe9" * 90, "latin.txt: evaluation file cannot be read .*UTF-8"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        EvaluationIndex.of([tmp_path / name], 13)
