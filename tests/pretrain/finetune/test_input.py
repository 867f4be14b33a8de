"""Names and cells of task files: read as what they are, or refused with file, line and remedy."""

import json
import logging

import pytest
import yaml

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import DamagedError, UserError
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.reading import read_examples
from convbert.pretrain.finetune.remarks import remarks
from convbert.pretrain.finetune.task import TaskSpec, load_task

CSV = "text,label,who\n" + "".join(f"text {i},{'ab'[i % 2]},p{i % 7}\n" for i in range(60))


def task(folder, content, name="t.csv", **fields):
    """A task whose one file has this content, measured on what it is trained on."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    given = {"name": "t", "train": folder / name, "dev": folder / name, "text": ["text"]}
    given |= fields
    return TaskSpec.model_validate({key: value for key, value in given.items() if value != {}})


def read(folder, content, name="t.csv", **fields):
    return read_examples(task(folder, content, name, **fields))


def lines(*entries):
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def tagging(**fields):
    return {"name": "t.conll", "kind": "tagging", "text": ["words"], "label": "ner"} | fields


def answering(**fields):
    return {"kind": "qa", "text": ["question", "context"], "label": "answers"} | fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "../../evil"}, "name"),
        ({"name": ".hidden"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"extra": {"../x": "d.csv"}}, "extra"),
        ({"extra": {"dev": "d.csv"}}, "extra: 'dev' is a split of its own"),
        ({"submission": {"train": "../x.tsv"}}, "submission"),
        ({"text": ["text", "text"]}, "text: 'text' is named twice"),
        ({"metrics": ["f1", "f1"]}, "metrics: 'f1' is named twice"),
        ({"labels": ["a", "b", "a"]}, "labels: 'a' is named twice"),
        ({"labels": ["a"]}, "labels: give 2 or more"),
        ({"label": "text"}, "'text' is a column of text too; name another"),
        ({"labels": ["a", "b"], "label_names": {"x": "c"}}, "label_names: 'c' is not in labels"),
        ({"labels": ["a", "b"], "unlabelled": ["b"]}, "unlabelled: 'b' is in labels too"),
        ({"dev": "d.csv", "split": {"by": "who"}}, "split.by divides train; leave out"),
        ({"train": "a\0b.csv"}, "holds what no file name"),
    ],
)
def test_names_that_contradict_each_other_are_refused_when_the_task_is_read(
    tmp_path, fields, message
):
    (tmp_path / "t.yaml").write_text(
        yaml.safe_dump({"name": "t", "train": "t.csv", "text": ["text"]} | fields)
    )
    with pytest.raises(UserError, match=rf"t\.yaml: .*{message}"):
        load_task(str(tmp_path / "t.yaml"))


@pytest.mark.parametrize("text", ["name: 2020-13-45", "name: " + "[" * 600, "- a", "\0", "a: !x"])
def test_yaml_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(UserError, match=r"t\.yaml: "):
        load_task(str(tmp_path / "t.yaml"))


def test_rows_of_one_group_stay_together_or_the_column_is_named(tmp_path):
    splits, _ = read(tmp_path, CSV, dev=None, split={"dev": 0.4, "by": "who"})
    groups = [{example.group for example in splits[split]} for split in ("train", "dev")]
    assert groups[0] | groups[1] == {f"p{i}" for i in range(7)}
    assert not groups[0] & groups[1]
    with pytest.raises(UserError, match=r"t\.csv:2: no column 'whom', and split\.by needs it"):
        read(tmp_path, CSV, dev=None, split={"by": "whom"})
    with pytest.raises(UserError, match=r"t\.csv:2: who is empty, and split\.by needs it"):
        read(tmp_path, CSV.replace("p0", " "), dev=None, split={"by": "who"})


def test_columns_that_are_there_twice_are_refused_where_the_task_uses_them(tmp_path):
    twice = "text,label,label,x,x\na,0,1,2,3\nb,1,0,2,3\n"
    with pytest.raises(DamagedError, match=r"t\.csv:1: column 'label' is there twice"):
        read(tmp_path, twice)
    assert read(tmp_path, twice.replace("label,label", "label,other"))[1] == ["0", "1"]
    with pytest.raises(DamagedError, match=r"t\.csv:1: column 'label' is there twice"):
        read(tmp_path, "text,label,gold\na,0,1\n", rename={"gold": "label"})
    with pytest.raises(DamagedError, match=r"t\.jsonl:1: not JSON .* twice"):
        read(tmp_path, '{"text": "a", "label": 0, "label": 1}\n', "t.jsonl")
    row = {"text": "a", "label": 0, "gold": 1}
    with pytest.raises(DamagedError, match=r"t\.jsonl:1: column 'label' is there twice"):
        read(tmp_path, lines(row), "t.jsonl", rename={"gold": "label"})


def test_labels_are_read_without_spaces_and_it_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        splits, names = read(tmp_path, "text,label\na,pos\nb, pos\nc,neg\u00a0\n")
    assert names == ["neg", "pos"]
    assert [example.label for example in splits["train"]] == [1, 1, 0]
    assert "t.csv:3: label ' pos' is read without spaces, as 4 are" in caplog.text


@pytest.mark.parametrize("label", ["", "  "])
def test_an_empty_label_is_no_class_but_may_stand_in_a_test_file(tmp_path, label):
    content = f"text,label\na,0\nb,1\nc,{label}\n"
    with pytest.raises(UserError, match=r"t\.csv:4: unlabelled \(label is '.*'\); label"):
        read(tmp_path, content)
    (tmp_path / "test.csv").write_text(content)
    train = "text,label\na,0\nb,1\n"
    splits, _ = read(tmp_path, train, "train.csv", test=tmp_path / "test.csv")
    assert [example.label for example in splits["test"]] == [0, 1, None]


@pytest.mark.parametrize(
    ("kind", "label", "message"),
    [
        ("classification", ["a"], r"\['a'\] is not the name of one class"),
        ("classification", {"a": 1}, "is not the name of one class"),
        ("classification", "nan", "'nan' is no label"),
        ("classification", "a\tb", "is not the name of one class"),
        ("classification", float("nan"), "unlabelled"),
        ("classification", "\ud83d", "is not the name of one class"),
        ("regression", "nan", "'nan' is not a number"),
        ("regression", "inf", "'inf' is not a number"),
        ("regression", True, "True is not a number"),
        ("regression", [1], "is not a number"),
        ("regression", 10**400, "is not a number"),
        ("regression", "1,5", "'1,5' is not a number"),
        ("regression", "1_5", "'1_5' is not a number"),
    ],
)
def test_labels_of_another_kind_are_refused_with_their_line(tmp_path, kind, label, message):
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 1}, {"text": "c", "label": label}]
    with pytest.raises(UserError, match=rf"t\.jsonl:3: .*{message}"):
        read(tmp_path, lines(*rows), "t.jsonl", kind=kind)


@pytest.mark.parametrize(
    "labels",
    [(False, True), ("false", "TRUE"), ("2", "11"), ("1_1", "11"), ("1" * 20, "1" * 19 + "2")],
)
def test_classes_that_differ_are_told_apart_and_in_order(tmp_path, labels):
    rows = ({"text": text, "label": label} for text, label in zip("ab", labels, strict=True))
    expected = sorted(map(str, labels), key=len) if "1_1" in labels else list(map(str, labels))
    assert read(tmp_path, lines(*rows), "t.jsonl")[1] == expected


def test_one_number_in_two_ways_is_refused(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": "1e0"}]
    with pytest.raises(UserError, match=r"'1' and '1e0' are one number written in two ways"):
        read(tmp_path, lines(*rows), "t.jsonl")


@pytest.mark.parametrize("text", [["a"], {"a": 1}, True, float("nan"), "half \udc00"])
def test_texts_of_another_kind_are_refused_with_their_line(tmp_path, text):
    rows = [{"text": 3, "label": 0}, {"text": text, "label": 1}]
    with pytest.raises(UserError, match=r"t\.jsonl:2: text .*"):
        read(tmp_path, lines(*rows), "t.jsonl")


def test_one_number_written_in_two_ways_is_not_two_classes(tmp_path):
    with pytest.raises(UserError, match=r"'1' and '1\.0' are one number"):
        read(tmp_path, "text,label\na,1\nb,1.0\nc,0\n")


def test_one_class_left_to_train_on_is_refused(tmp_path):
    with pytest.raises(UserError, match="all 1 rows to train on have the label"):
        read(tmp_path, CSV, train_rows=1)


def test_folders_and_long_names_are_no_files(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("folder.csv", "x" * 300 + ".csv"):
        with pytest.raises(UserError, match=name[:200]):
            read_examples(TaskSpec(name="t", train=tmp_path / name, text=["text"]))
    with pytest.raises(UserError, match="no such file"):
        load_task("y" * 5000)


def test_a_no_break_space_is_part_of_a_word(tmp_path):
    splits, names = read(tmp_path, "10\u00a0000 B-X\nm O\n\ny z\tO\n", **tagging())
    assert [example.texts for example in splits["train"]] == [("10\u00a0000", "m"), ("y z",)]
    assert names == ["O", "B-X"]


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_comments_of_conll_u_are_left_out_and_a_hash_is_a_word(tmp_path, caplog, separator):
    content = "# newdoc\n# sent_id = 1\n# text = # 1 a\n# O\n1 B-X\n# O\n\n# a b c d\na O\n"
    body = "".join(
        line.replace(" ", separator) if line[2:] in ("O\n", "B-X\n") else line
        for line in content.splitlines(keepends=True)
    )
    splits, names = read(tmp_path, body, **tagging())
    assert [example.texts for example in splits["train"]] == [("#", "1", "#"), ("a",)]
    assert names == ["O", "B-X"]
    assert "t.conll: 4 comment lines left out" in caplog.text
    four = {"header": ["words", "pos", "chunk", "ner"]}
    splits, names = read(tmp_path, "# sent_id = 1\nA N B-NP B-X\nb V O O\n", **tagging(**four))
    assert names == ["O", "B-X"]
    with pytest.raises(DamagedError, match=r"t\.conll:2: 1 columns, not words, ner"):
        read(tmp_path, "a O\n#tag\n", **tagging())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": ["a", ""], "ner": ["O", "O"]}, "words holds an empty word"),
        ({"words": ["a", "b\nc"], "ner": ["O", "O"]}, "one of several lines"),
        ({"words": [], "ner": []}, "words holds no words"),
        ({"words": ["a", None], "ner": ["O", "O"]}, "words None is not text"),
        ({"words": ["a", "b"], "ner": ["O", None]}, "ner None is not the name"),
        ({"words": ["a", "b"], "ner": ["O", ["O"]]}, "is not the name"),
        ({"words": ["a", "b"], "ner": ["O"]}, "2 words but 1 tags"),
        ({"words": {"a": 1}, "ner": ["O"]}, "is not text"),
    ],
)
def test_words_and_tags_of_another_kind_are_refused(tmp_path, row, message):
    first = {"words": ["a", "b"], "ner": ["O", "B-X"]}
    with pytest.raises(UserError, match=rf"t\.jsonl:2: .*{message}"):
        read(tmp_path, lines(first, row), **tagging(name="t.jsonl"))


ROWS = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]


def test_a_list_of_objects_is_read_from_json(tmp_path):
    splits, names = read(tmp_path, json.dumps(ROWS, indent=1), "t.json")
    assert [example.texts for example in splits["train"]] == [("a",), ("b",)]
    assert names == ["0", "1"]
    with pytest.raises(DamagedError, match=r"t\.json:2: not a JSON object"):
        read(tmp_path, json.dumps([ROWS[0], 3]), "t.json")
    with pytest.raises(DamagedError, match=r"t\.json: not JSON .* JSON lines are called \.jsonl"):
        read(tmp_path, lines(*ROWS), "t.json")
    for other in ({"data": [1]}, {"rows": ROWS}, 3, "x", None):
        with pytest.raises(DamagedError, match=r"t\.json: not in SQuAD's format"):
            read(tmp_path, json.dumps(other), "t.json")
    with pytest.raises(DamagedError, match=r"t\.json: lists in lists"):
        read(tmp_path, "[" * 100_000, "t.json")


ANSWER = {"text": "Rome", "answer_start": 3}


@pytest.mark.parametrize(
    "answers",
    [
        [ANSWER],
        {"text": ["Rome"], "answer_start": [3]},
        ANSWER,
        "Rome",
        ["Rome"],
        [{"text": "Rome"}],
        {"text": ["Rome"]},
        [{"text": "Rome", "answer_start": "3"}],
        [{"text": "Rome", "answer_start": 3.0}],
        json.dumps([ANSWER]),
        json.dumps({"text": ["Rome"], "answer_start": [3]}),
    ],
)
@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_answers_are_read_in_every_form(tmp_path, answers, name):
    row = {"question": "Where?", "context": "In Rome.", "answers": answers}
    content = lines(row)
    if name == "t.csv":
        cell = answers if isinstance(answers, str) else json.dumps(answers)
        content = 'question,context,answers\nWhere?,In Rome.,"' + cell.replace('"', '""') + '"\n'
    assert read(tmp_path, content, name, **answering())[0]["train"][0].label == (("Rome", 3),)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([{"text": "Rome", "answer_start": "x"}], "answer_start 'x' is not a number"),
        ([{"text": "Rome", "answer_start": -5}], "answer_start -5 is not a number"),
        ([{"text": "Rome", "answer_start": True}], "answer_start True is not"),
        ([{"text": "Rome", "answer_start": [3]}], r"answer_start \[3\] is not"),
        ([{"text": "Rome", "answer_start": 4}], "'Rome' is not there at character 4"),
        ([{"text": "", "answer_start": 3}], "an answer is empty"),
        ([{"text": 3}], "'3' is found 0 times"),
        ("Paris", "'Paris' is found 0 times"),
        ("['Rome']", "is not a list of answers; write"),
        ({"text": ["Rome"], "answer_start": [3, 4]}, "is not a list of answers; write"),
        ({"answer_start": 3}, "is not a list of answers; write"),
        ("", "unlabelled"),
    ],
)
def test_answers_that_are_not_there_are_refused_with_their_line(tmp_path, answers, message):
    row = {"question": "Where?", "context": "In Rome.", "answers": answers}
    with pytest.raises(UserError, match=rf"t\.jsonl:1: .*{message}"):
        read(tmp_path, lines(row), "t.jsonl", **answering())


def test_two_questions_of_one_id_are_refused(tmp_path):
    row = {"id": "q", "question": "Where?", "context": "In Rome.", "answers": [ANSWER]}
    with pytest.raises(UserError, match=r"t\.jsonl:2: id 'q' is that of .*t\.jsonl:1 too"):
        read(tmp_path, lines(row, row), "t.jsonl", **answering())


def test_what_is_no_parquet_file_is_refused(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(DamagedError, match=r"t\.parquet: not a parquet file"):
        read(tmp_path, b"PAR1 nothing PAR1", "t.parquet")


def test_what_a_reader_of_the_measures_should_know_is_said(tmp_path, tokenizer_dir):
    (tmp_path / "dev.csv").write_text("text,label\na,y\n,x\n")
    (tmp_path / "test.csv").write_text("text,label\na,y\nb,\n")
    given = {"dev": tmp_path / "dev.csv", "test": tmp_path / "test.csv"}
    train = f"text,label\na,x\nb,y\nc,z\n{'cut ' * 9},z\n"
    given |= {"metrics": ["f1_macro", "matthews"], "recipe": {"max_length": 8}}
    told = task(tmp_path, train, **given)
    assert remarks(prepare(told, Tokenizer.load(tokenizer_dir))) == [
        "task t, train: 1 of 4 rows fill recipe.max_length=8; what is longer is cut",
        "task t, dev: 1 of 2 rows have an empty text",
        "task t, dev: f1_macro is over 2 of 3 classes, no row has z",
        "task t, test: 1 of 2 rows have no label, so nothing is measured on it",
    ]
