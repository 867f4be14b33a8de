"""CoNLL-U: what is read, what is refused with file and line, and what tagging it measures."""

import logging

import pytest
import torch
from sklearn.metrics import accuracy_score

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import DamagedError, UserError
from convbert.pretrain.finetune.conllu_table import read_conllu
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import finetune
from convbert.pretrain.finetune.reading import read_examples
from convbert.pretrain.finetune.submission import write_predictions
from convbert.pretrain.finetune.task import TaskSpec

# A range (na = em + a), an empty node, a form with a space, comments of three kinds; no line end.
SENTENCES = """\
# newdoc id = letter
# sent_id = s1
# text = Vamos na
# a remark
1\tVamos\tir\tVERB\tV\tNumber=Plur|Person=1\t0\troot\t0:root\t_
2-3\tna\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\tem\tem\tADP\tP\t_\t3\tcase\t3:case\t_
3\ta\to\tDET\tD\tDefinite=Def\t1\tobl\t1:obl:em\t_
3.1\tvão\tir\tVERB\tV\t_\t_\t_\t0:root\t_


# sent_id = s2
1\t10 000\t10 000\tNUM\tN\tNumType=Card\t0\troot\t0:root\t_"""
COLUMNS = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]


def spec(path, **fields):
    return TaskSpec.model_validate({"name": "t", "train": path} | fields)


def written(folder, text, ending="\n", bom=""):
    path = folder / "t.conllu"
    path.write_bytes((bom + text.replace("\n", ending)).encode())
    return path


@pytest.mark.parametrize(("ending", "bom"), [("\n", ""), ("\r\n", "\ufeff")])
def test_all_columns_of_the_words_are_read_and_nothing_else(tmp_path, ending, bom):
    path = written(tmp_path, SENTENCES, ending, bom)
    (line, first), (next_line, second) = read_conllu(spec(path), path)
    assert (line, next_line) == (5, 13)
    assert first == {
        "newdoc id": "letter", "sent_id": "s1", "text": "Vamos na",
        "id": ["1", "2", "3"], "form": ["Vamos", "em", "a"], "lemma": ["ir", "em", "o"],
        "upos": ["VERB", "ADP", "DET"], "xpos": ["V", "P", "D"],
        "feats": ["Number=Plur|Person=1", "_", "Definite=Def"], "head": ["0", "3", "1"],
        "deprel": ["root", "case", "obl"], "deps": ["0:root", "3:case", "1:obl:em"],
        "misc": ["_", "_", "_"],
    }  # fmt: skip
    assert (second["form"], second["newdoc id"]) == (["10 000"], "letter")


@pytest.mark.parametrize("column", [column for column in COLUMNS if column != "form"])
def test_any_other_column_can_be_the_label(tmp_path, column):
    path = written(tmp_path, SENTENCES)
    same = {"dev": path} if column != "misc" else {"dev": path, "labels": ["_", "x"]}
    examples, names = read_examples(spec(path, label=column, **same))
    rows = [row for _, row in read_conllu(spec(path), path)]
    tags = [tuple(names[tag] for tag in example.label) for example in examples["train"]]
    assert tags == [tuple(row[column]) for row in rows]
    assert [example.texts for example in examples["train"]] == [("Vamos", "em", "a"), ("10 000",)]


def test_without_other_keys_the_task_is_part_of_speech_tags(tmp_path):
    task = spec(written(tmp_path, SENTENCES))
    assert (task.kind, task.text, task.label, task.metrics) == (
        "tagging", ["form"], "upos", ["accuracy"],
    )  # fmt: skip
    assert read_examples(task.model_copy(update={"dev": task.train}))[1] == [
        "ADP", "DET", "NUM", "VERB",
    ]  # fmt: skip


def test_columns_that_a_first_comment_names_are_those_of_the_file(tmp_path):
    text = "# global.columns = ID FORM UPOS PARSEME:MWE\n1\tVai\tVERB\t*\n2\tem\tADP\t_\n"
    path = written(tmp_path, text)
    ((_, row),) = read_conllu(spec(path), path)
    assert row["upos"] == ["VERB", "ADP"]
    assert row["parseme:mwe"] == ["*", "_"]


def line(number="1", upos="X", **other):
    cells = dict.fromkeys(COLUMNS, "_") | {"id": number, "form": "a", "upos": upos} | other
    return "\t".join(cells.values()) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (line() + "2\tb\tb\tX\n", r"t\.conllu:2: 4 columns separated by tabs, not the 10 id, form"),
        (line().replace("\t", "  "), r":1: 1 columns separated by tabs"),
        (line() + line("2").strip() + "\tx\n", r":2: 11 columns"),
        (line() + line("2", lemma=""), r":2: column 'lemma' is empty"),
        (line(form="a  b"), r":1: column 'form' holds two spaces in a row"),
        (line() + line("3"), r":2: ID '3' behind word 1; number words 1, 2, 3"),
        (line() + line("1"), r":2: ID '1' behind word 1; .* blank line between sentences"),
        (line() + line("3-4", upos="_"), r":2: ID '3-4' behind word 1"),
        (line() + line("2.1"), r":2: ID '2.1' behind word 1"),
        (line("_"), r":1: ID '_' behind word 0"),
        (line("one"), r":1: Failed parsing field 'id'.*'one' is not a valid ID"),
        (line("2-1"), r":1: Failed parsing field 'id'"),
        (line(head="x"), r":1: Failed parsing field 'head'"),
        (line() + line("2", upos="_", form="b"), r":2: upos of 'b' is '_', other words have one"),
        ("# global.columns = FORM UPOS\na\tX\n", r":2: 2 columns .* form, upos"),
    ],
)
def test_damaged_lines_are_refused_or_left_out_and_counted(tmp_path, text, message, caplog):
    good = SENTENCES if not text.startswith("# global") else "# c"
    path = written(tmp_path, text + "\n" + good)
    with pytest.raises(DamagedError, match=message):
        list(read_conllu(spec(path), path))
    with caplog.at_level(logging.WARNING):
        rows = [row["sent_id"] for _, row in read_conllu(spec(path, skip_damaged=True), path)]
    assert rows == (["s1", "s2"] if good == SENTENCES else [])
    assert "t.conllu: 1 damaged sentences left out" in caplog.text


def test_labels_that_are_missing_altogether(tmp_path):
    path = written(tmp_path, SENTENCES)
    (tmp_path / "u.conllu").write_text(line(upos="_") + line("2", upos="_"))
    task = spec(path, dev=path, test=tmp_path / "u.conllu")
    examples, _ = read_examples(task)
    assert [(e.texts, e.label) for e in examples["test"]] == [(("a", "a"), None)]
    with pytest.raises(UserError, match=r"u\.conllu:1: no column 'upos'; there are id, form"):
        read_examples(spec(path, dev=tmp_path / "u.conllu"))
    with pytest.raises(UserError, match=r"t\.conllu: no column 'ner'; .*; set lab"):
        read_examples(spec(path, label="ner"))


def test_predictions_for_words_with_spaces_can_be_read_back(tmp_path):
    """Vietnamese treebanks are full of them."""
    path = written(tmp_path, line("1", form="thành phố") + line("2", form="lớn", upos="ADJ") + "\n")
    examples, names = read_examples(spec(path, dev=path))
    data = TaskData(spec(path), names, 0, 9, {}, examples)
    out = write_predictions(data, "dev", [["NOUN", "ADJ"]], tmp_path)
    header = ["form", "upos"]
    again = spec(out, dev=out, kind="tagging", text=["form"], label="upos", header=header)
    assert read_examples(again)[0]["dev"][0].texts == ("thành phố", "lớn")


def test_accuracy_is_that_of_scikit_learn_on_the_written_predictions(tmp_path, tokenizer_dir):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    text = ""
    for first in range(60):
        length = 3 + first % 20  # the longer ones go on in further rows
        text += f"# sent_id = {first}\n1-2\tboth\t_\t_\t_\t_\t_\t_\t_\t_\n"
        for place in range(length):
            word = words[(first + place * 3) % 10]
            tag = "ABC"[(first + len(word) + place) % 3]
            text += line(str(place + 1), upos=tag, form=word)
        text += "\n"
    path = written(tmp_path, text, "\r\n")
    recipe = {"epochs": 2, "max_length": 10, "batch_size": 8}
    data = prepare(spec(path, dev=path, recipe=recipe), Tokenizer.load(tokenizer_dir))
    shape = {"hidden_size": 16, "embedding_size": 16, "num_layers": 1, "num_heads": 2}
    shape |= {"intermediate_size": 16, "max_positions": 16, "vocab_size": data.vocab_size}
    torch.manual_seed(0)
    result = finetune(Encoder(EncoderConfig(**shape)), data, seed=0, keep=True)
    out = write_predictions(data, "dev", result.predictions["dev"], tmp_path).read_text()
    predicted = [row.split() for row in out.splitlines() if row]
    gold = [row.split("\t") for row in text.splitlines() if row and row[0] not in "#\r"]
    gold = [cells for cells in gold if cells[0] != "1-2"]
    assert [word for word, _ in predicted] == [cells[1] for cells in gold]
    expected = accuracy_score([cells[3] for cells in gold], [tag for _, tag in predicted])
    assert result.scores["dev"]["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert 0 < expected < 1
