"""GLUE as it is distributed: each task's own layout and quirks, and what the server takes."""

import pytest

from convbert.models.errors import UserError
from convbert.pretrain.finetune.data import Features, TaskData
from convbert.pretrain.finetune.reading import Example, read_examples
from convbert.pretrain.finetune.submission import write_predictions
from convbert.pretrain.finetune.task import load_task, match_tasks, packaged_tasks

MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse"
MNLI = [*MNLI.split(), "sentence2_parse", "sentence1", "sentence2"]
STSB = ["index", "genre", "filename", "year", "old_index"]
STSB += ["source1", "source2", "sentence1", "sentence2"]


def mnli(index, first, second, *labels):
    return [index, "1", "1n", "fiction", "( a )", "( b )", "(S a)", "(S b)", first, second, *labels]


def stsb(index, first, second, *score):
    return [index, "news", "f", "2012", "7", "s1", "s2", first, second, *score]


# Lines of each file as the official archives have them. CoLA's sentences hold lone quotes.
FILES = {
    "CoLA/train.tsv": [["gj04", "1", "", 'He said "go away.'], ["gj04", "0", "*", "Them sleeps."]],
    "CoLA/dev.tsv": [["c_13", "1", "", '"Sue left.']],
    "CoLA/test.tsv": [["index", "sentence"], ["0", "Bill coughed."], ["1", 'They "drank.']],
    "SST-2/train.tsv": [["sentence", "label"], ["a gem ", "1"], ["dull ", "0"]],
    "SST-2/dev.tsv": [["sentence", "label"], ["fine ", "1"]],
    "SST-2/test.tsv": [["index", "sentence"], ["0", "so-so"]],
    "MRPC/train.tsv": [
        ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["1", "11", "12", 'He "quit', "He resigned"],
        ["0", "13", "14", "A", "B"],
    ],
    "MRPC/dev.tsv": [
        ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["0", "15", "16", "C", "D"],
    ],
    "MRPC/test.tsv": [
        ["\ufeffindex", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        ["0", "17", "18", "E", "F"],
    ],
    "STS-B/train.tsv": [[*STSB, "score"], stsb("0", "A", "B", "5.000"), stsb("1", "C", "D", "1.2")],
    "STS-B/dev.tsv": [[*STSB, "score"], stsb("0", "E", "F", "2.750")],
    "STS-B/test.tsv": [STSB, stsb("0", "G", "H")],
    "QQP/train.tsv": [
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["3", "5", "6", "Why?", "How come?", "1"],
        ["4", "7", "8", "broken"],
        ["9", "7", "8", 'What is "x?', "Who?", "0"],
    ],
    "QQP/dev.tsv": [
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["2", "1", "2", "A?", "B?", "0"],
    ],
    "QQP/test.tsv": [["id", "question1", "question2"], ["0", "C?", "D?"]],
    "MNLI/train.tsv": [
        [*MNLI, "label1", "gold_label"],
        mnli("0", "A", "B", "neutral", "neutral"),
        mnli("1", "A", "C", "entailment", "entailment"),
    ],
    **{
        f"MNLI/dev_{part}.tsv": [
            [*MNLI, *(f"label{i}" for i in range(1, 6)), "gold_label"],
            mnli("0", part, "D", *["neutral"] * 5, "contradiction"),
        ]
        for part in ("matched", "mismatched")
    },
    **{f"MNLI/test_{part}.tsv": [MNLI, mnli("0", "T", part)] for part in ("matched", "mismatched")},
    "diagnostic/diagnostic.tsv": [["index", "sentence1", "sentence2"], ["0", "X", "Y"]],
    "QNLI/train.tsv": [
        ["index", "question", "sentence", "label"],
        ["0", "Q?", "S", "entailment"],
        ["1", "R?", "S", "not_entailment"],
    ],
    "QNLI/dev.tsv": [["index", "question", "sentence", "label"], ["0", "D?", "S", "entailment"]],
    "QNLI/test.tsv": [["index", "question", "sentence"], ["0", "T?", "S"]],
    "RTE/train.tsv": [
        ["index", "sentence1", "sentence2", "label"],
        ["0", "A", "B", "not_entailment"],
        ["1", "A", "C", "entailment"],
    ],
    "RTE/dev.tsv": [["index", "sentence1", "sentence2", "label"], ["0", "D", "E", "entailment"]],
    "RTE/test.tsv": [["index", "sentence1", "sentence2"], ["0", "F", "G"]],
    "WNLI/train.tsv": [
        ["index", "sentence1", "sentence2", "label"],
        ["0", "A", "B", "1"],
        ["1", "A", "C", "0"],
    ],
    "WNLI/dev.tsv": [["index", "sentence1", "sentence2", "label"], ["0", "D", "E", "0"]],
    "WNLI/test.tsv": [["index", "sentence1", "sentence2"], ["0", "F", "G"]],
}
# For each task: first training example, first dev example, first test texts.
EXPECTED = {
    "cola": (('He said "go away.',), 1, ('"Sue left.',), 1, ("Bill coughed.",)),
    "sst2": (("a gem ",), 1, ("fine ",), 1, ("so-so",)),
    "mrpc": (('He "quit', "He resigned"), 1, ("C", "D"), 0, ("E", "F")),
    "stsb": (("A", "B"), 5.0, ("E", "F"), 2.75, ("G", "H")),
    "qqp": (("Why?", "How come?"), 1, ("A?", "B?"), 0, ("C?", "D?")),
    "mnli": (("A", "B"), 2, ("matched", "D"), 0, ("T", "matched")),
    "qnli": (("Q?", "S"), 0, ("D?", "S"), 0, ("T?", "S")),
    "rte": (("A", "B"), 1, ("D", "E"), 0, ("F", "G")),
    "wnli": (("A", "B"), 1, ("D", "E"), 0, ("F", "G")),
}


@pytest.fixture(scope="module", params=["\n", "\r\n"], ids=["lf", "crlf"])
def glue(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("glue")
    for name, lines in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join("\t".join(x) + request.param for x in lines), newline="")
    return folder


@pytest.mark.parametrize("name", list(EXPECTED))
def test_the_official_files_are_read(glue, name):
    splits, _ = read_examples(load_task(f"glue/{name}", glue))
    texts, label, dev_texts, dev_label, test_texts = EXPECTED[name]
    assert (splits["train"][0].texts, splits["train"][0].label) == (texts, label)
    assert len(splits["train"]) == 2  # QQP's broken line is left out
    assert (splits["dev"][0].texts, splits["dev"][0].label) == (dev_texts, dev_label)
    assert (splits["test"][0].texts, splits["test"][0].label) == (test_texts, None)


def test_the_packaged_recipes_follow_the_paper():
    tasks = {name: load_task(f"glue/{name}") for name in EXPECTED}
    assert {n for n, t in tasks.items() if t.swap_pairs} == {"mrpc", "stsb"}
    assert {n for n, t in tasks.items() if t.recipe.epochs == 10} == {"rte", "stsb"}
    assert (tasks["cola"].metric, tasks["stsb"].metric) == ("matthews", "spearman")
    assert {t.metric for n, t in tasks.items() if n not in ("cola", "stsb")} == {"accuracy"}
    assert {t.recipe.learning_rate for t in tasks.values()} == {3e-4}
    changed = load_task("glue/rte", overrides=["recipe.learning_rate=1e-4", "recipe.epochs=2"])
    assert (changed.recipe.learning_rate, changed.recipe.epochs) == (1e-4, 2)


def test_mnli_has_both_halves_and_the_diagnostic_set(glue):
    splits, names = read_examples(load_task("glue/mnli", glue))
    assert splits["dev_mismatched"] == [Example(("mismatched", "D"), 0, "0")]
    assert splits["diagnostic"] == [Example(("X", "Y"), None, "0")]
    assert names == ["contradiction", "entailment", "neutral"]


def test_without_test_files_the_rest_is_read_and_without_dev_it_is_refused(tmp_path, glue):
    rte = tmp_path / "RTE"
    rte.mkdir()
    (rte / "train.tsv").write_bytes((glue / "RTE/train.tsv").read_bytes())
    task = load_task("glue/rte", tmp_path)
    with pytest.raises(UserError, match=r"RTE/dev\.tsv: no such file; task rte needs it"):
        read_examples(task)
    (rte / "dev.tsv").write_bytes((glue / "RTE/dev.tsv").read_bytes())
    assert set(read_examples(task)[0]) == {"train", "dev"}


def test_mrpc_from_microsofts_own_files(tmp_path, glue):
    (tmp_path / "MRPC").mkdir()
    lines = (glue / "MRPC/train.tsv").read_text().splitlines()
    more = [f"{i % 2}\t{i}\t{i}\tfirst {i}\tsecond {i}" for i in range(100)]
    for part in ("train", "test"):
        path = tmp_path / f"MRPC/msr_paraphrase_{part}.txt"
        path.write_text("\n".join([lines[0], *more]) + "\n")
    splits, _ = read_examples(load_task("glue/mrpc_msr", tmp_path))
    assert len(splits["train"]) + len(splits["dev"]) == len(splits["test"]) == 100
    assert 4 <= len(splits["dev"]) <= 16


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("CoLA/dev.tsv", ["a\t1\tonly three"], r"CoLA/dev\.tsv:1: 3 fields, not the 4"),
        ("RTE/dev.tsv", ["index\ttext\tlabel"], r"no rows"),
        ("RTE/dev.tsv", ["index\ttext\tlabel", "0\tA\tentailment"], r":2: no column 'sentence1'"),
        (
            "RTE/dev.tsv",
            ["index\tsentence1\tsentence2", "0\tA\tB"],
            r":2: no column 'label'; there are index, sentence1, sentence2",
        ),
        (
            "RTE/dev.tsv",
            ["index\tsentence1\tsentence2\tlabel", "0\tA\tB\tmaybe"],
            r":2: label 'maybe' is not a class; there are entailment, not_entailment",
        ),
        ("STS-B/dev.tsv", ["sentence1\tsentence2\tscore", "A\tB\thigh"], "'high' is not a number"),
    ],
)
def test_damaged_files_are_named(glue, tmp_path, name, lines, message):
    for source in ("CoLA", "RTE", "STS-B"):
        (tmp_path / source).mkdir()
        for part in ("train", "dev"):
            path = tmp_path / source / f"{part}.tsv"
            path.write_bytes((glue / source / f"{part}.tsv").read_bytes())
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    task = {"CoLA": "cola", "RTE": "rte", "STS-B": "stsb"}[name.split("/")[0]]
    with pytest.raises(UserError, match=message):
        read_examples(load_task(f"glue/{task}", tmp_path))


def test_predictions_are_files_that_the_server_takes(tmp_path):
    task = load_task("glue/rte")
    examples = {"test": [Example(("a", "b"), None, "7"), Example(("c", "d"), None, "8")]}
    empty = Features([], [], [])
    data = TaskData(task, ["entailment", "not_entailment"], 0, 9, {"test": empty}, examples)
    path = write_predictions(data, "test", [1, 0], tmp_path)
    assert path.name == "RTE.tsv"
    assert path.read_text() == "index\tprediction\n7\tnot_entailment\n8\tentailment\n"
    task = load_task("glue/stsb")
    examples = {"test": [Example(("a", "b"), None), Example(("c", "d"), None)]}
    data = TaskData(task, [], 0, 9, {"test": empty}, examples)
    path = write_predictions(data, "test", [1.5, 4.2512345e-6], tmp_path)
    assert path.name == "STS-B.tsv"
    assert path.read_text() == "index\tprediction\n0\t1.5\n1\t4.251235e-06\n"
    names = {"CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI"}
    named = {file for n in EXPECTED for file in load_task(f"glue/{n}").submission.values()}
    assert named == {f"{n}.tsv" for n in names} | {"AX.tsv"}


@pytest.mark.parametrize("ids", [("7", "x"), ("7", "7"), ("7", None), ("1", "")])
def test_an_index_of_predictions_names_one_row(tmp_path, ids):
    rows = [Example(("a", "b"), None, name) for name in ids]
    empty = Features([], [], [])
    data = TaskData(load_task("glue/rte"), ["yes", "no"], 0, 9, {"test": empty}, {"test": rows})
    path = write_predictions(data, "test", [1, 0], tmp_path)
    assert path.read_text() == "index\tprediction\n0\tno\n1\tyes\n"


def hub_tables(datasets):
    """The columns and class names that the hub's copy of MNLI, STS-B and CoLA has."""
    nli = datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])
    kinds = {
        "mnli": ({"premise": "s", "hypothesis": "s", "label": nli}, [("A", "B", 1), ("A", "C", 0)]),
        "stsb": ({"sentence1": "s", "sentence2": "s", "label": "f"}, [("A", "B", 5.0)] * 2),
        "cola": (
            {"sentence": "s", "label": datasets.ClassLabel(names=["unacceptable", "acceptable"])},
            [('He said "go', 1), ("Them sleeps.", 0)],
        ),
    }
    types = {"s": datasets.Value("string"), "f": datasets.Value("float32")}
    for name, (columns, rows) in kinds.items():
        features = datasets.Features(
            {k: types[v] if isinstance(v, str) else v for k, v in columns.items()}
        )
        blank = [(*row[:-1], -1) for row in rows]
        made = {
            split: datasets.Dataset.from_dict(
                {c: [row[i] for row in part] for i, c in enumerate(columns)}, features=features
            )
            for split, part in (("train", rows), ("dev", rows[:1]), ("test", blank))
        }
        theirs = load_task(f"glue/{name}").dataset.splits
        yield (
            name,
            datasets.DatasetDict(
                {theirs[s]: made[s.split("_")[0]] for s in theirs if s.split("_")[0] in made}
            ),
        )


@pytest.mark.parametrize("how", ["save_to_disk", "parquet"])
def test_a_dataset_on_disk_gives_the_same_examples(tmp_path, how):
    datasets = pytest.importorskip("datasets")
    for name, tables in hub_tables(datasets):
        folder = tmp_path / name
        if how == "save_to_disk":
            tables.save_to_disk(str(folder))
        else:
            folder.mkdir()
            for split, table in tables.items():
                table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    label = {}
    for name in ("mnli", "stsb", "cola"):
        splits, names = read_examples(load_task(f"glue/{name}", tmp_path))
        assert splits["test"][0].label is None
        label[name] = names[splits["dev"][0].label] if names else splits["dev"][0].label
    assert label == {"mnli": "neutral", "stsb": 5.0, "cola": "1"}
    with pytest.raises(UserError, match=r"task rte: no dataset_dict\.json and no parquet file"):
        read_examples(load_task("glue/rte", tmp_path), "datasets")


def test_patterns_name_several_tasks():
    chosen = match_tasks(["glue/*nli", "glue/rte", "glue/qnli", "mine.yaml"])
    assert chosen == ["glue/mnli", "glue/qnli", "glue/wnli", "glue/rte", "mine.yaml"]
    with pytest.raises(UserError, match="'clue/\\*': matches none of"):
        match_tasks(["clue/*"])
    assert {f"glue/{name}" for name in EXPECTED} <= set(packaged_tasks())
