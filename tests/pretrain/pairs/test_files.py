"""Files of pairs in the layouts that others publish."""

import json

import pytest

from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.pairs.files import is_pairs_file, read_pairs
from convbert.pretrain.pairs.pair import Pair


def test_blimp(tmp_path):
    path = tmp_path / "anaphor_agreement.jsonl"
    row = {
        "sentence_good": "Many girls insulted themselves.",
        "sentence_bad": "Many girls insulted herself.",
        "UID": "anaphor_number_agreement",
    }
    path.write_text(json.dumps(row) + "\n\n")
    assert is_pairs_file(path)
    expected = Pair(row["sentence_good"], row["sentence_bad"], "anaphor_number_agreement")
    assert read_pairs(path) == ([expected], 0)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_tables_with_byte_order_mark_and_crlf(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    mark = "," if suffix == ".csv" else "\t"
    lines = ["good{}bad", "Über Nacht kam er.{}Nacht über kam er.", ""]
    path.write_bytes(("\ufeff" + "\r\n".join(lines).format(mark, mark)).encode())
    assert read_pairs(path) == ([Pair("Über Nacht kam er.", "Nacht über kam er.", "mine")], 0)


def test_labelled_sentences_are_joined_by_their_words_as_in_scala(tmp_path):
    path = tmp_path / "scala.csv"
    path.write_text(
        "text,corruption_type,label\n"
        "Han er her nu.,,correct\n"
        "Han her er nu.,flip_neighbours,incorrect\n"
        "De gik en lang tur.,,correct\n"
        "De gik lang tur.,delete,incorrect\n"
        "Hun sover.,,correct\n"
        "Ingen kender denne.,delete,incorrect\n"
    )
    pairs, alone = read_pairs(path)
    assert pairs == [
        Pair("Han er her nu.", "Han her er nu.", "flip_neighbours"),
        Pair("De gik en lang tur.", "De gik lang tur.", "delete"),
    ]
    assert alone == 2


def test_labelled_sentences_are_joined_by_a_column(tmp_path):
    path = tmp_path / "cola.jsonl"
    rows = [
        {"pair": 1, "label": 1, "sentence": "They drank the pub dry."},
        {"pair": 1, "label": 0, "sentence": "They drank the pub."},
        {"pair": 2, "label": 0, "sentence": "The car honked down the road."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_pairs(path) == (
        [Pair("They drank the pub dry.", "They drank the pub.", "cola")],
        1,
    )


def test_sentences_of_several_pairs_and_of_none_are_counted_once(tmp_path):
    path = tmp_path / "Mine.CSV"
    path.write_text("text,label\na b c,1\nb a c,0\nc a b,0\nc b a,0\nd e,1\nf g,0\n")
    assert is_pairs_file(path)
    pairs, alone = read_pairs(path)
    assert [pair.bad for pair in pairs] == ["b a c", "c a b", "c b a"]
    assert alone == 2
    path = tmp_path / "named.jsonl"  # of which some name no pair
    rows = [
        {"text": "a b", "label": True, "pair": 1},
        {"text": "b a", "label": False, "pair": 1},
        {"text": "c d", "label": True, "pair": None},
        {"text": "d c", "label": False},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_pairs(path) == ([Pair("a b", "b a", "named")], 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"good": "x y", "bad": ""}\n', r"a.jsonl, line 1: 'bad' is ''"),
        ("a.jsonl", '{"good": "x y", "bad": "z"}\n[1]\n', r"line 2: expected an object"),
        ("a.jsonl", "{\n", r"line 1: not JSON"),
        ("a.csv", "text,label\nx y,maybe\n", r"line 2: 'label' is 'maybe'; use 1 for good"),
        ("a.csv", "one,two\n1,2\n", r"columns one, two; name two 'good' and 'bad'"),
        ("a.csv", "", r"columns none"),
        ("a.csv", "text,label\nx y,1\n", r"holds no pair"),
        ("a.csv", "good,bad\nYes, he is.,Yes, is he.\n", r"line 2: 4 fields, not the 2"),
        ("a.csv", "good,bad,good\nx y,y x,z\n", r"a.csv: column 'good' is there twice"),
        ("a.tsv", 'good\tbad\n"x" y\ty x\n', r"line 2: .*expected after"),
        ("a.jsonl", "[" * 100_000, r"line 1: not JSON \(maximum recursion"),
        ("a.jsonl", '{"good": "x y", "bad": "\\ud800 x"}\n', r"line 1: 'bad' holds half a char"),
        ("a.csv", "text,label,id\na b,1,7\nb a,0,7\nc d,1,7\n", r"line 4: a second good .* '7'"),
        ("a.txt", "x", r"pairs are read from .jsonl"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_pairs(path)


def test_a_missing_file_and_other_text(tmp_path):
    with pytest.raises(AbsentError):
        read_pairs(tmp_path / "none.csv")
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "Only text."}\n')
    assert not is_pairs_file(text)
