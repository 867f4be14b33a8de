"""Task files: what is read right, and what is refused with a message that helps."""

import hashlib
import json
import math
import textwrap
from collections import Counter

import pytest
import torch

from convbert.models.errors import AbsentError, DamagedError, UserError
from convbert.pretrain.finetune.data import (
    Features,
    TaskData,
    collate,
    evaluation_batches,
    training_batches,
)
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.reading import Example, part_of, read_examples
from convbert.pretrain.finetune.recipe import SplitRule
from convbert.pretrain.finetune.sentences import encode, truncate
from convbert.pretrain.finetune.task import TaskSpec, load_task


class Characters:
    """Encodes a text as the codes of its characters."""

    cls_id, sep_id, pad_id, vocab_size = 2, 3, 0, 128

    def encode_batch(self, texts):
        return [[ord(c) for c in text] for text in texts]


def spec(folder, train, **fields):
    (folder / "task.yaml").write_text("{}")
    defaults = {"name": "t", "text": ["text"], "metrics": ["accuracy"], "split": {"dev": 0.5}}
    return TaskSpec.model_validate({**defaults, "train": folder / train, **fields})


def write(folder, name, text, **how):
    (folder / name).write_text(textwrap.dedent(text).lstrip(), **how)


def rows(count):
    return "text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(count))


def test_csv_with_bom_crlf_quotes_and_index_column(tmp_path):
    data = ',text,label\r\n0,"a, ""b""\nc",yes\r\n1,d,no\r\n'
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + data.encode())
    (tmp_path / "d.csv").write_bytes(data.encode())
    splits, names = read_examples(spec(tmp_path, "t.csv", dev=tmp_path / "d.csv"))
    assert names == ["no", "yes"]
    assert splits["train"] == [Example(('a, "b"\nc',), 1), Example(("d",), 0)]
    assert splits["dev"] == splits["train"]


def test_tsv_leaves_quotes_alone(tmp_path):
    write(tmp_path, "t.tsv", 'text\tlabel\n"It is\t1\nhe said "no\t0\n')
    splits, _ = read_examples(spec(tmp_path, "t.tsv", dev=tmp_path / "t.tsv"))
    assert [e.texts[0] for e in splits["train"]] == ['"It is', 'he said "no']


def test_json_lines_and_numeric_classes_in_numeric_order(tmp_path):
    write(tmp_path, "t.jsonl", "".join(f'{{"text": "x{i}", "label": {i}}}\n' for i in range(12)))
    splits, names = read_examples(spec(tmp_path, "t.jsonl", dev=tmp_path / "t.jsonl"))
    assert names == [str(i) for i in range(12)]
    assert [e.label for e in splits["dev"]] == list(range(12))


def test_where_keeps_matching_rows_only(tmp_path):
    write(tmp_path, "t.csv", "text,label,source\na,0,x\nb,1,x\nc,1,y\n")
    task = spec(tmp_path, "t.csv", dev=tmp_path / "t.csv", where={"source": "x"})
    assert [e.texts for e in read_examples(task)[0]["train"]] == [("a",), ("b",)]


def test_a_test_file_may_lack_labels(tmp_path):
    write(tmp_path, "t.csv", "text,label\na,0\nb,1\n")
    write(tmp_path, "u.csv", "text\nc\n")
    task = spec(tmp_path, "t.csv", dev=tmp_path / "t.csv", test=tmp_path / "u.csv")
    assert read_examples(task)[0]["test"] == [Example(("c",), None)]


def test_the_split_depends_on_the_text_alone(tmp_path):
    rule = SplitRule(dev=0.2, test=0.1, seed=3)
    texts = [f"sentence {i}" for i in range(4000)]
    parts = Counter(part_of([text], rule) for text in texts)
    assert parts["dev"] == pytest.approx(800, abs=80)
    assert parts["test"] == pytest.approx(400, abs=60)
    # The rule is a contract: SHA-256 of seed and texts, as a fraction of its range.
    digest = hashlib.sha256(b"3\0sentence 0").digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    expected = "dev" if fraction < 0.2 else "test" if fraction < 0.3 else "train"
    assert part_of(["sentence 0"], rule) == expected

    write(tmp_path, "a.csv", rows(200))
    lines = rows(200).splitlines(keepends=True)
    write(tmp_path, "b.csv", lines[0] + "".join(reversed(lines[1:])) + "another,0\n")
    first, second = (read_examples(spec(tmp_path, name))[0] for name in ("a.csv", "b.csv"))
    assert set(first["dev"]) <= set(second["dev"])
    assert not set(second["dev"]) & set(second["train"])


def test_fewer_training_rows_are_nested_and_leave_dev_alone(tmp_path):
    write(tmp_path, "a.csv", rows(400))
    whole, forty, ten = (
        read_examples(spec(tmp_path, "a.csv", train_rows=n))[0] for n in (None, 40, 10)
    )
    assert (len(forty["train"]), len(ten["train"])) == (40, 10)
    assert set(ten["train"]) < set(forty["train"]) < set(whole["train"])
    assert ten["dev"] == whole["dev"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "sentence,label\na,0\n",
            r"t\.csv:2: no column 'text'; there are sentence, label",
        ),
        ("t.csv", "text,gold\na,0\n", r"column 'label'"),
        ("t.csv", "text,label\na,0\nb\n", r"t\.csv:3: 1 fields, not the 2 of"),
        ("t.csv", "text,label\na,0,7\n", r"t\.csv:2: 3 fields, not the 2 of"),
        ("t.csv", 'text,label\n"a,0\n', r"t\.csv:\d: "),
        ("t.csv", "text,label\na,0\nb,0\n", r"1 distinct label"),
        ("t.csv", "text,label\n", r"no rows"),
        ("t.jsonl", '{"text": "a", "label": 0}\n{"text": \n', r"t\.jsonl:2: not JSON"),
        ("t.jsonl", "[1]\n", r"t\.jsonl:1: not a JSON object"),
        ("t.xml", "x", r"unknown file type; use one of \.csv, \.tsv, \.jsonl"),
    ],
)
def test_unusable_files_are_named_with_line_and_remedy(tmp_path, name, content, message):
    write(tmp_path, name, content)
    with pytest.raises(UserError, match=message):
        read_examples(spec(tmp_path, name))


def test_missing_undecodable_and_unexpected_values(tmp_path):
    with pytest.raises(
        AbsentError, match=r"none\.csv: no such file; task t needs it; give its folder"
    ):
        read_examples(spec(tmp_path, "none.csv"))
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,0\n".encode("latin-1"))
    with pytest.raises(DamagedError, match="not UTF-8"):
        read_examples(spec(tmp_path, "latin.csv"))
    write(tmp_path, "t.csv", "text,label\na,0\nb,1\n")
    write(tmp_path, "d.csv", "text,label\na,2\n")
    with pytest.raises(UserError, match=r"d\.csv:2: label '2' is not a class; there are 0, 1"):
        read_examples(spec(tmp_path, "t.csv", dev=tmp_path / "d.csv"))
    write(tmp_path, "r.csv", "text,label\na,high\n")
    regression = {"kind": "regression", "metrics": ["pearson"]}
    with pytest.raises(UserError, match=r"r\.csv:2: label 'high' is not a number"):
        read_examples(spec(tmp_path, "r.csv", **regression))


@pytest.mark.parametrize("answers", [1, [["Paris"]], [{"answer_start": 0}], {"text": 3}])
def test_answers_of_another_form_are_named(tmp_path, answers):
    row = {"question": "Where?", "context": "In Paris.", "answers": answers}
    write(tmp_path, "q.jsonl", json.dumps(row) + "\n")
    fields = {"kind": "qa", "text": ["question", "context"], "label": "answers"}
    with pytest.raises(UserError, match=r"q\.jsonl:1: answers .* is not a list of answers; write"):
        read_examples(spec(tmp_path, "q.jsonl", **fields, metrics=["f1"]))


def test_task_files(tmp_path):
    write(
        tmp_path,
        "mine.yaml",
        "name: mine\ntrain: data/t.csv\ntext: [text]\nmetrics: [f1]\nrecipe: {epochs: 2}\n",
    )
    task = load_task(str(tmp_path / "mine.yaml"))
    assert task.train == tmp_path / "data" / "t.csv"
    assert (task.metric, task.recipe.epochs, task.recipe.layer_decay) == ("f1", 2, 0.8)
    assert load_task(str(tmp_path / "mine.yaml"), tmp_path / "x").train.parts[-3:-1] == (
        "x",
        "data",
    )
    packaged = load_task("rotten_tomatoes", tmp_path)
    assert packaged.train == tmp_path / "movie_reviews.csv"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recipe: {epoch: 2}", "recipe.epoch: unknown key; did you mean recipe.epochs"),
        ("metrics: [spearman]", "no 'spearman' for classification; use accuracy"),
        ("metrics: []", "metrics: give 1 or more"),
        ("metrics: [f1]\nlabels: [a, b, c]", "f1 is that of the second of two classes"),
        ("kind: tagging\nmetrics: [span_f1]\nlabels: [X, Y]", "'X' is neither"),
        ("swap_pairs: true", "two text columns"),
        ("split: {dev: 0.6, test: 0.4}", "leave no rows"),
        ("split: {test: 0.4}\ndev: d.csv", "leave out the files"),
        ("metrics: [", "not valid YAML"),
    ],
)
def test_wrong_task_files_are_named_with_their_key(tmp_path, line, message):
    base = "name: m\ntrain: t.csv\ntext: [text]\n"
    metrics = "" if "metrics" in line else "metrics: [accuracy]\n"
    write(tmp_path, "m.yaml", base + metrics + line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        load_task(str(tmp_path / "m.yaml"))
    assert "m.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values", "measures"),
    [
        ("classification", "0 1", ["accuracy"]),
        ("regression", "0 1", ["spearman"]),
        ("tagging", "NOUN VERB", ["accuracy"]),
        ("tagging", "B-PER O", ["span_f1"]),
    ],
)
def test_a_task_without_measures_gets_the_one_that_is_defined(tmp_path, kind, values, measures):
    lines = [f"word,{value}\n" for value in values.split()]
    write(tmp_path, "t.csv", "text,label\n" + "".join(lines))
    (tmp_path / "t.yaml").write_text(
        f"name: t\nkind: {kind}\ntrain: t.csv\ndev: t.csv\ntext: [text]\n"
    )
    data = prepare(load_task(str(tmp_path / "t.yaml")), Characters())
    assert data.task.metrics == measures


@pytest.mark.parametrize(
    ("kind", "metric", "values", "message"),
    [
        ("classification", "f1", "a b c", r"task t: metrics: f1 .* there are 3 \(a, b, c\)"),
        ("tagging", "span_f1", "NOUN B-PER", r"task t: metrics: span_f1 .* 'NOUN' is neither"),
    ],
)
def test_measures_that_the_classes_do_not_allow_are_refused(
    tmp_path, kind, metric, values, message
):
    lines = [f"word,{value}\n" for value in values.split()]
    write(tmp_path, "t.csv", "text,label\n" + "".join(lines))
    task = spec(tmp_path, "t.csv", kind=kind, metrics=[metric], dev=tmp_path / "t.csv")
    with pytest.raises(UserError, match=message):
        prepare(task, Characters())


def test_an_unknown_task_names_those_there_are():
    with pytest.raises(UserError, match="rotten_tomatoes"):
        load_task("rotten_potatoes")


def test_rows_are_cls_text_sep_and_pairs_have_two_types(tmp_path):
    single = spec(tmp_path, "t.csv", recipe={"max_length": 6})
    features = encode(single, Characters(), [Example(("abc",), 1), Example(("abcdefgh",), None)])
    assert features.input_ids == [[2, 97, 98, 99, 3], [2, 97, 98, 99, 100, 3]]
    assert features.labels[0] == 1
    assert math.isnan(features.labels[1])
    pair = spec(tmp_path, "t.csv", text=["a", "b"])
    features = encode(pair, Characters(), [Example(("ab", "c"), 0)])
    assert features.input_ids == [[2, 97, 98, 3, 99, 3]]
    assert features.token_type_ids == [[0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [((5, 3), 8, (5, 3)), ((9, 3), 8, (5, 3)), ((9, 9), 7, (4, 3)), ((2, 9), 5, (2, 3))],
)
def test_pairs_lose_tokens_from_the_longer_side(lengths, room, expected):
    def naive(first, second):
        while len(first) + len(second) > room:
            (first if len(first) > len(second) else second).pop()
        return [len(first), len(second)]

    cut = [len(p) for p in truncate(tuple(list(range(n)) for n in lengths), room)]
    assert sum(cut) == sum(naive(*(list(range(n)) for n in lengths)))
    assert tuple(cut) == expected


def ragged(tmp_path, count=1000, size=16):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 60, (count,), generator=generator).tolist()
    features = Features(
        [[2] + [9] * (n - 2) + [3] for n in lengths],
        [[0] * n for n in lengths],
        [float(i) for i in range(count)],
    )
    task = spec(tmp_path, "t.csv", recipe={"batch_size": size})
    return TaskData(task, ["a", "b"], 0, 128, {"train": features, "dev": features}, {}), lengths


def test_an_epoch_has_every_row_once_with_little_padding_in_changing_order(tmp_path):
    data, lengths = ragged(tmp_path)
    generator = torch.Generator().manual_seed(1)
    first, second = (list(training_batches(data, generator)) for _ in range(2))
    for epoch in (first, second):
        assert sorted(i for b in epoch for i in b.labels.tolist()) == list(range(1000))
        assert sum(b.input_ids_BL.numel() for b in epoch) < 1.1 * sum(lengths)
    assert [b.rows for b in first] != [b.rows for b in second]
    again = list(training_batches(data, torch.Generator().manual_seed(1)))
    assert [b.rows for b in again] == [b.rows for b in first]


def test_evaluation_sees_every_row_once(tmp_path):
    data, _ = ragged(tmp_path)
    rows = [row for batch in evaluation_batches(data, "dev") for row in batch.rows]
    assert sorted(rows) == list(range(1000))


def test_batches_are_padded_to_their_longest_row_and_masked_only_if_needed():
    features = Features(
        [[2, 5, 3], [2, 3], [2, 6, 3]], [[0] * 3, [0] * 2, [0] * 3], [0.0, 1.0, 0.0]
    )
    mixed = collate(features, [0, 1], pad_id=7)
    assert mixed.input_ids_BL.tolist() == [[2, 5, 3], [2, 3, 7]]
    assert mixed.attention_mask_BL.tolist() == [[True] * 3, [True, True, False]]
    assert collate(features, [0, 2], pad_id=7).attention_mask_BL is None
