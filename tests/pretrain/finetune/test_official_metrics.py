"""Measures equal those of independent implementations: SQuAD's and GLUE's scripts, and seqeval.

The scripts are taken from an old wheel of transformers, which still has its copies of them. What
they give for the cases below is recorded in ``data/official_metrics.json`` by

    python tests/pretrain/finetune/test_official_metrics.py

A test marked slow downloads the wheel again and checks the record.
"""

import json
import random
import types
from pathlib import Path

import pytest

from convbert.pretrain.finetune.answer_metrics import Answer, best_threshold, exact_match, token_f1
from convbert.pretrain.finetune.metrics import METRICS

RECORD = Path(__file__).parent / "data" / "official_metrics.json"
WHEEL = "transformers==2.5.1"
SHA256 = "d08269bc7c088b47e3586002c4b10fa55d42330c9777b77ba60c3692efd5f283"

# Articles, punctuation of every script, cases that Unicode folds oddly, digits, spaces, nothing.
WORDS = ["the", "The", "a", "an", "An", "theatre", "a.", "U.S.", "don't", "don’t", "“Quoted”"]
WORDS += [
    "naïve",
    "nai\u0308ve",
    "ÉCOLE",
    "école",
    "İstanbul",
    "straße",
    "STRASSE",
    "ﬁne",
    "ﬁ",
    "你好",
]
WORDS += [
    "3.14",
    "3,14",
    "1990s",
    "$5",
    "—",
    "-",
    "...",
    "a-b",
    "the-end",
    "\u00a0",
    "\t",
    "x\u2009y",
    "",
]


def squad_cases(seed):
    """Gold answers (several, one or none), predictions and null odds with ties."""
    rng = random.Random(seed)

    def text(longest):
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(0, longest)))

    golds, answers = [], []
    for _ in range(400):
        gold = [text(4) for _ in range(rng.choice((0, 1, 1, 3)))]
        guess = rng.choice([*gold, "", text(4), "the " + text(2)])
        golds.append(gold)
        answers.append(Answer(guess, guess, rng.choice((-2.5, -1.0, 0.0, rng.gauss(0, 3)))))
    return golds, answers


def glue_cases(seed):
    rng = random.Random(seed)
    classes = {"mnli": 3}
    for task in ("cola", "sst-2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli"):
        labels = [rng.randrange(classes.get(task, 2)) for _ in range(300)]
        guesses = [x if rng.random() < 0.6 else rng.randrange(2) for x in labels]
        yield task, guesses, labels
    scores = [round(rng.uniform(0, 5), 1) for _ in range(300)]
    yield "sts-b", [x + rng.gauss(0, 1) for x in scores], scores


def official_modules():
    """Run the two files of the wheel that hold the scripts, with what they import replaced."""
    from convbert.data_pipeline.corpora import Wheel, unpacked

    with unpacked(Wheel(WHEEL, SHA256)) as wheel:
        sources = [
            wheel.read(f"transformers/data/metrics/{name}").decode()
            for name in ("squad_metrics.py", "__init__.py")
        ]
    stub = types.ModuleType("transformers.tokenization_bert")
    stub.BasicTokenizer = None
    modules = []
    for source in sources:
        source = source.replace("from transformers.tokenization_bert import BasicTokenizer", "")
        module = types.ModuleType("metrics")
        exec(compile(source, "metrics", "exec"), module.__dict__)
        modules.append(module)
    return modules


def official():
    squad, glue = official_modules()
    record = {"squad": [], "pairs": [], "glue": []}
    for seed in range(3):
        golds, answers = squad_cases(seed)
        examples = [
            types.SimpleNamespace(qas_id=i, answers=[{"text": t} for t in gold])
            for i, gold in enumerate(golds)
        ]
        guesses = {i: answer.text for i, answer in enumerate(answers)}
        odds = {i: answer.null_odds for i, answer in enumerate(answers)}
        never = float("inf")
        record["squad"].append(dict(squad.squad_evaluate(examples, guesses, odds, never)))
        record["glue"].append(
            {
                task: {k: float(v) for k, v in _glue(glue, task, guesses, labels).items()}
                for task, guesses, labels in glue_cases(seed)
            }
        )
    for gold in WORDS:
        for guess in WORDS:
            both = squad.compute_exact(gold, guess), squad.compute_f1(gold, guess)
            record["pairs"].append([float(x) for x in both])
    return record


def _glue(module, task, guesses, labels):
    import numpy as np

    return module.glue_compute_metrics(task, np.array(guesses), np.array(labels))


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text())


def test_exact_match_and_f1_of_adversarial_words(record):
    pairs = [(gold, guess) for gold in WORDS for guess in WORDS]
    for (gold, guess), (exact, f1) in zip(pairs, record["pairs"], strict=True):
        assert exact_match(gold, guess) == exact, (gold, guess)
        assert token_f1(gold, guess) == pytest.approx(f1), (gold, guess)


@pytest.mark.parametrize("seed", range(3))
def test_squad_totals_and_best_thresholds(record, seed):
    golds, answers = squad_cases(seed)
    expected = record["squad"][seed]
    measured = {name: 100 * score(golds, answers) for name, score in METRICS["qa"].items()}
    assert measured == pytest.approx(
        {
            "exact": expected["exact"],
            "f1": expected["f1"],
            "best_exact": expected["best_exact"],
            "best_f1": expected["best_f1"],
            "has_answer_exact": expected["HasAns_exact"],
            "has_answer_f1": expected["HasAns_f1"],
            "no_answer": expected["NoAns_exact"],
        }
    )
    assert best_threshold(exact_match, golds, answers)[1] == expected["best_exact_thresh"]
    assert best_threshold(token_f1, golds, answers)[1] == expected["best_f1_thresh"]


@pytest.mark.parametrize("seed", range(3))
def test_glue_measures(record, seed):
    names = {"acc": "accuracy", "mcc": "matthews", "f1": "f1"}
    names |= {"pearson": "pearson", "spearmanr": "spearman", "mnli/acc": "accuracy"}
    for task, guesses, labels in glue_cases(seed):
        kind = METRICS["regression" if task == "sts-b" else "classification"]
        for name, value in record["glue"][seed][task].items():
            if name in names:
                assert kind[names[name]](labels, guesses) == pytest.approx(value), (task, name)


SCHEMES = {"IOB": "BI", "IOBES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
AS_IOBES = str.maketrans("LUM", "ESI")


def iobes(row):
    """Tags in the names that seqeval knows."""
    return [tag[0].translate(AS_IOBES) + tag[1:] for tag in row]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_spans_are_those_of_seqeval_also_where_tags_break_the_scheme(scheme):
    seqeval = pytest.importorskip("seqeval.metrics")
    prefixes = SCHEMES[scheme]
    tags = ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("PER", "LOC"))]
    rng = random.Random(0)
    for _ in range(50):
        gold = [[rng.choice(tags) for _ in range(rng.randint(1, 12))] for _ in range(20)]
        guess = [[t if rng.random() < 0.7 else rng.choice(tags) for t in row] for row in gold]
        measured = {n: METRICS["tagging"][n](gold, guess) for n in METRICS["tagging"]}
        gold, guess = (list(map(iobes, rows)) for rows in (gold, guess))
        precision, recall = seqeval.precision_score(gold, guess), seqeval.recall_score(gold, guess)
        assert measured == pytest.approx(
            {
                "span_f05": 1.25 * precision * recall / (0.25 * precision + recall),
                "span_f1": seqeval.f1_score(gold, guess),
                "span_precision": precision,
                "span_recall": recall,
                "accuracy": seqeval.accuracy_score(gold, guess),
            }
        )


@pytest.mark.slow
def test_the_record_is_what_the_scripts_give(record):
    fresh = official()
    assert fresh["pairs"] == record["pairs"]
    assert fresh["squad"] == [pytest.approx(entry) for entry in record["squad"]]
    assert fresh["glue"] == [
        {task: pytest.approx(values) for task, values in entry.items()} for entry in record["glue"]
    ]


if __name__ == "__main__":
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(official(), indent=1) + "\n")
