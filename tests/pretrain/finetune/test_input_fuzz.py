"""Mutated task files and data: read, or refused in one line; never a traceback, nothing outside.

``make fuzz`` goes on for its share of FUZZ_MINUTES. What hypothesis finds is kept in
``.hypothesis`` and tried first the next time; add it here as an ``example`` when it is mended.
"""

import copy
import json
import tempfile
from pathlib import Path

import pytest
import yaml
from fuzzing import for_a_while
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.pretrain.finetune.answer_metrics import Answer
from convbert.pretrain.finetune.data import evaluation_batches, training_batches
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import score
from convbert.pretrain.finetune.remarks import remarks
from convbert.pretrain.finetune.submission import write_predictions
from convbert.pretrain.finetune.task import load_task

QUESTIONS = [
    {
        "id": f"q{i}",
        "question": "Where is it?",
        "context": f"It is in Rome {i}.",
        "answers": [{"text": "Rome", "answer_start": 9}] if i % 3 else [],
    }
    for i in range(8)
]
ROWS = [{"text": f"text {i}", "other": f"o {i}", "label": i % 2, "who": f"p{i}"} for i in range(16)]
SENTENCES = [{"text": ["a", f"w{i}"], "label": ["O", f"B-{'XY'[i % 2]}"]} for i in range(8)]


def as_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_table(rows, separator=","):
    cells = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(separator.join(map(str, row)) + "\n" for row in cells)


CONLL = "".join(
    "".join(f"{w} {t}\n" for w, t in zip(*s.values(), strict=True)) + "\n" for s in SENTENCES
)
WORD = "{}\t{}\t_\t{}\t_\t_\t{}\tdep\t_\t_\n"
CONLLU = "".join(
    f"# sent_id = {verb}\n"
    + WORD.format(1, "it", "PRON", 2)
    + WORD.format(2, verb, "VERB", 0)
    + "\n"
    for verb in ("is", "goes", "went", "was")
)
SQUAD = {"data": [{"paragraphs": [{"context": q["context"], "qas": [q]} for q in QUESTIONS]}]}
TEXT = {"text": ["text"], "split": {"dev": 0.4, "by": "who"}, "extra": {"more": "FILE"}}
QA = {"kind": "qa", "text": ["question", "context"], "label": "answers"}
CASES = [
    (TEXT | {"metrics": ["accuracy", "f1"]}, "t.csv", as_table(ROWS)),
    (TEXT | {"kind": "regression"}, "t.tsv", as_table(ROWS, "\t")),
    ({"text": ["text", "other"], "swap_pairs": True, "dev": "FILE"}, "t.jsonl", as_lines(ROWS)),
    ({"text": ["text"], "labels": ["0", "1"]}, "t.json", json.dumps(ROWS)),
    ({"kind": "tagging", "text": ["text"], "dev": "FILE"}, "t.conll", CONLL),
    ({"kind": "tagging", "text": ["text"], "dev": "FILE"}, "t.jsonl", as_lines(SENTENCES)),
    ({"dev": "FILE"}, "t.conllu", CONLLU),
    (QA, "t.jsonl", as_lines(QUESTIONS)),
    (QA | {"dev": "FILE", "metrics": ["best_f1", "no_answer"]}, "t.json", json.dumps(SQUAD)),
]
WORDS = [
    "",
    " ",
    "a\nb",
    "a\tb",
    "nan",
    "inf",
    "text",
    "label",
    "who",
    "train",
    "dev",
    "O",
    "B-",
    "-1",
    "3.5",
    "0",
]
WORDS += [
    "../../evil",
    "a\0b",
    "x" * 400,
    "é\u00a0",
    "\u2028",
    "\ud800",
    "# a",
    "[1",
    '{"text": 3}',
]
JUNK = st.one_of(
    st.sampled_from([None, True, 0, 1, -1, 2**70, 0.5, float("nan"), float("inf"), 1e308, [], {}]),
    st.sampled_from(WORDS),
    st.lists(st.sampled_from(["a", "text", "", None, 3]), max_size=3),
    st.dictionaries(
        st.sampled_from(["text", "train", "../x", "0"]), st.sampled_from(WORDS), max_size=2
    ),
)
KEYS = ["name", "kind", "train", "dev", "test", "extra", "text", "label", "labels", "label_names"]
KEYS += [
    "label_scale",
    "unlabelled",
    "header",
    "rename",
    "quoted",
    "skip_damaged",
    "where",
    "metrics",
]
KEYS += ["submission", "split", "train_rows", "swap_pairs", "recipe", "may_lack", "dataset"]
INNER = ["dev", "test", "seed", "by", "max_length", "qa", "stride", "splits", "directory", "x"]


def put(draw, entry):
    """Replace, add or remove one value somewhere in a mapping or list."""
    places = list(entry) + draw(st.lists(st.sampled_from(KEYS + INNER), max_size=1))
    if isinstance(entry, list):
        places = range(len(entry))
    if not places:
        return
    place = draw(st.sampled_from(list(places)))
    inner = entry[place] if isinstance(entry, list) else entry.get(place)
    if isinstance(inner, dict | list) and inner and draw(st.booleans()):
        put(draw, inner)
    elif draw(st.integers(0, 5)):
        entry[place] = draw(JUNK)
    elif not isinstance(entry, list):
        entry.pop(place, None)


def mutated(draw, content):
    """Change some of a file: values where it is JSON lines, else characters and bytes."""
    if content.startswith("{") and "\n" in content and draw(st.booleans()):
        rows = [json.loads(line) for line in content.splitlines()]
        for _ in range(draw(st.integers(0, 2))):
            put(draw, rows)
        return as_lines(rows).encode()
    for _ in range(draw(st.integers(0, 2))):
        first = draw(st.integers(0, len(content)))
        last = first + draw(st.integers(0, 6))
        new = draw(
            st.one_of(
                st.sampled_from([*WORDS, '"', "\t", ",", "\n", "#", "\r"]), st.text(max_size=3)
            )
        )
        content = content[:first] + new + content[last:]
    data = content.encode(errors="surrogatepass")
    return data if draw(st.integers(0, 9)) else data[: len(data) // 2] + b"\xff\xfe" + data


@st.composite
def tasks(draw):
    fields, name, content = copy.deepcopy(draw(st.sampled_from(CASES)))
    entry = {"name": "t", "train": name, "recipe": {"max_length": 24}} | fields
    entry = json.loads(json.dumps(entry).replace("FILE", name))
    for _ in range(draw(st.integers(0, 3))):
        put(draw, entry)
    return entry, name, mutated(draw, content)


def attempt(case, tokenizer):
    """Read a task and do what comes before and after training; return what became of it."""
    entry, name, content = case
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "a", "b")
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        (folder / "task.yaml").write_text(yaml.safe_dump(entry, allow_unicode=False))
        try:
            data = prepare(load_task(str(folder / "task.yaml")), tokenizer)
        except UserError:
            return "refused"
        said = remarks(data)
        assert all("\n" not in remark for remark in said)
        assert next(training_batches(data, None)).input_ids_BL.numel()
        for split, examples in data.examples.items():
            assert next(evaluation_batches(data, split)).input_ids_BL.numel()
            guesses = [guess(data, example) for example in examples]
            if data.labeled(split):
                assert score(data, split, guesses).keys() == set(data.task.metrics)
            output = folder / "out" / data.task.name
            assert write_predictions(data, split, guesses, output).is_relative_to(output)
        left = {path.relative_to(root).parts for path in Path(root).rglob("*")}
        assert all(parts[:3] != ("a", "b", "out") or len(parts) <= 5 for parts in left)
        assert all(parts[:2] == ("a", "b") for parts in left if len(parts) > 1)
        return "read"


def guess(data, example):
    return {
        "classification": 0,
        "regression": 0.5,
        "tagging": [data.class_names[:1][0] if data.class_names else ""] * len(example.texts),
        "qa": Answer("Rome", "Rome", 0.0, (("Rome", 0.0),)),
    }[data.task.kind]


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_the_tasks_are_read_as_they_are(tokenizer_dir, case):
    fields, name, content = case
    entry = json.loads(json.dumps({"name": "t", "train": name} | fields).replace("FILE", name))
    assert attempt((entry, name, content.encode()), Tokenizer.load(tokenizer_dir)) == "read"


@settings(max_examples=60, derandomize=True, **QUIET)
@given(case=tasks())
def test_mutated_tasks_are_read_or_refused(tokenizer_dir, case):
    attempt(case, Tokenizer.load(tokenizer_dir))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_mutated_tasks_are_read_or_refused_for_a_while(tokenizer_dir):
    tokenizer = Tokenizer.load(tokenizer_dir)

    def check(number):
        def tried(case):
            attempt(case, tokenizer)

        seed(number)(settings(max_examples=100, **QUIET)(given(case=tasks())(tried)))()

    for_a_while(check)
