"""SYNTHETIC tasks in the official formats of CoLA, MNLI, SQuAD 2.0 and CoNLL-2003.

They stand in for data that cannot be downloaded everywhere. Sentences come from a few templates:
results show whether the code works, and nothing about language.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

PEOPLE = ("Anna", "Boris", "Clara", "David", "Elena", "Frank", "Greta", "Hugo", "Irene", "Jonas")
PLACES = ("Paris", "Lima", "Oslo", "Cairo", "Delhi", "Tokyo", "Quito", "Dublin", "Nairobi", "Riga")
FIRMS = ("Acme", "Globex", "Initech", "Umbra", "Vandelay", "Stark", "Wonka", "Hooli")
JOBS = ("baker", "doctor", "farmer", "lawyer", "painter", "sailor", "teacher", "writer")
GOODS = ("apples", "books", "chairs", "lamps", "maps", "roses", "shoes", "watches")
NOUNS = ("cat", "dog", "girl", "king", "horse", "neighbour", "pilot", "student")
VERBS = ("admire", "follow", "greet", "hear", "like", "see", "watch", "visit")
SIZES = {"train": 2000, "dev": 400, "test": 200}
TASKS: dict[str, dict[str, Any]] = {
    "cola": {
        "name": "synthetic_cola",
        "train": "SyntheticCoLA/train.tsv",
        "dev": "SyntheticCoLA/dev.tsv",
        "test": "SyntheticCoLA/test.tsv",
        "header": ["source", "label", "star", "sentence"],
        "text": ["sentence"],
        "labels": ["0", "1"],
        "metrics": ["matthews", "accuracy"],
        "submission": {"test": "SyntheticCoLA.tsv"},
    },
    "nli": {
        "name": "synthetic_nli",
        "train": "SyntheticNLI/train.tsv",
        "dev": "SyntheticNLI/dev_matched.tsv",
        "test": "SyntheticNLI/test_matched.tsv",
        "extra": {"dev_mismatched": "SyntheticNLI/dev_mismatched.tsv"},
        "rename": {"gold_label": "label"},
        "text": ["sentence1", "sentence2"],
        "labels": ["contradiction", "entailment", "neutral"],
        "metrics": ["accuracy"],
        "submission": {"test": "SyntheticNLI-m.tsv"},
    },
    "qa": {
        "name": "synthetic_qa",
        "kind": "qa",
        "train": "synthetic-train-v2.0.json",
        "dev": "synthetic-dev-v2.0.json",
        "text": ["question", "context"],
        "label": "answers",
        "metrics": ["best_f1", "best_exact", "f1", "exact", "has_answer_f1", "no_answer"],
        "recipe": {"max_length": 128, "qa": {"stride": 64, "max_query": 24}},
    },
    "tags": {
        "name": "synthetic_tags",
        "kind": "tagging",
        "train": "synthetic-train.conll",
        "dev": "synthetic-dev.conll",
        "header": ["words", "pos", "chunk", "ner"],
        "text": ["words"],
        "label": "ner",
        "metrics": ["span_f1", "span_precision", "span_recall", "accuracy"],
    },
}


def synthetic_task(name: str, folder: Path) -> str:
    """Return the YAML file of a task (cola, nli, qa or tags) in what ``write_synthetic`` wrote."""
    return str(folder / f"synthetic-{name}.yaml")


def write_synthetic(folder: Path, *, seed: int = 0) -> list[Path]:
    """Write all files below ``folder``, the same for the same seed; return their paths."""
    contents = {Path(synthetic_task(n, folder)).name: yaml.safe_dump(t) for n, t in TASKS.items()}
    for make in (_cola, _nli, _squad, _conll):
        contents |= make(random.Random(seed))
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return [folder / name for name in contents]


def _acceptable(rng: random.Random) -> list[str]:
    plural = rng.random() < 0.5
    subject, object_ = rng.sample(NOUNS, 2)
    verb = rng.choice(VERBS)
    return [
        "the",
        subject + ("s" if plural else ""),
        verb if plural else verb + ("es" if verb.endswith("ch") else "s"),
        rng.choice(("the", "a", "every")),
        object_,
        rng.choice(("today", "often", "in " + rng.choice(PLACES))),
    ]


def _broken(rng: random.Random) -> list[str]:
    words = _acceptable(rng)
    if rng.random() < 0.5:  # no agreement
        words[1] = words[1][:-1] if words[1].endswith("s") else words[1] + "s"
    else:
        place = rng.randrange(4)
        words[place], words[place + 1] = words[place + 1], words[place]
    return words


def _cola(rng: random.Random) -> dict[str, str]:
    files = {}
    for split, count in SIZES.items():
        lines = []
        for number in range(count):
            label = rng.randrange(2)
            words = _acceptable(rng) if label else _broken(rng)
            sentence = " ".join(words).capitalize() + "."
            if split == "test":
                lines.append(f"{number}\t{sentence}\n")
            else:
                lines.append(f"syn\t{label}\t{'' if label else '*'}\t{sentence}\n")
        names = "index\tsentence\n" if split == "test" else ""
        files[f"SyntheticCoLA/{split}.tsv"] = names + "".join(lines)
    return files


def _entails(rng: random.Random, who: str, what: str, where: str) -> str:
    return rng.choice((f"{who} bought {what}.", f"{who} was in {where}."))


def _contradicts(rng: random.Random, who: str, what: str, where: str) -> str:
    return rng.choice((f"{who} bought no {what}.", f"{who} was never in {where}."))


def _neither(rng: random.Random, who: str, what: str, where: str) -> str:
    return rng.choice((f"{who} dreams of {what}.", f"{where} is famous for {what}."))


_HYPOTHESES: dict[str, Callable[[random.Random, str, str, str], str]] = {
    "entailment": _entails,
    "contradiction": _contradicts,
    "neutral": _neither,
}


def _nli(rng: random.Random) -> dict[str, str]:
    parts = {
        "train": SIZES["train"],
        "dev_matched": SIZES["dev"],
        "dev_mismatched": SIZES["dev"],
        "test_matched": SIZES["test"],
    }
    files = {}
    for part, count in parts.items():
        labelled = not part.startswith("test")
        lines = ["index\tpairID\tgenre\tsentence1\tsentence2" + "\tgold_label" * labelled]
        for number in range(count):
            who, what, where = rng.choice(PEOPLE), rng.choice(GOODS), rng.choice(PLACES)
            label = rng.choice(list(_HYPOTHESES))
            lead = "Last week " if part == "dev_mismatched" else ""
            premise = f"{lead}{who} bought some {what} in {where}."
            hypothesis = _HYPOTHESES[label](rng, who, what, where)
            fields = [str(number), f"{number}s", "synthetic", premise, hypothesis]
            lines.append("\t".join(fields + [label] * labelled))
        files[f"SyntheticNLI/{part}.tsv"] = "\n".join(lines) + "\n"
    return files


def _paragraph(rng: random.Random, number: str) -> dict[str, Any]:
    who, year = rng.choice(PEOPLE), str(rng.randrange(1900, 2000))
    facts = {
        "Where does {} live?": (f"{who} lives in {{}}.", rng.choice(PLACES)),
        "When was {} born?": (f"{who} was born in {{}}.", year),
        "What does {} do?": (f"{who} works as a {{}}.", rng.choice(JOBS)),
        "Whom does {} work for?": ("The office belongs to {}.", rng.choice(FIRMS)),
    }
    questions = list(facts)
    rng.shuffle(questions)
    *told, missing = questions
    context = " ".join(facts[q][0].format(facts[q][1]) for q in told)
    entries: list[dict[str, Any]] = [
        {
            "id": f"{number}-{index}",
            "question": question.format(who),
            "answers": [
                {"text": facts[question][1], "answer_start": context.index(facts[question][1])}
            ],
            "is_impossible": False,
        }
        for index, question in enumerate(told)
    ]
    entries.append(
        {
            "id": f"{number}-none",
            "question": missing.format(who),
            "answers": [],
            "plausible_answers": [],
            "is_impossible": True,
        }
    )
    return {"context": context, "qas": entries}


def _squad(rng: random.Random) -> dict[str, str]:
    files = {}
    for split, count in (("train", SIZES["train"] // 4), ("dev", SIZES["dev"] // 4)):
        paragraphs = [_paragraph(rng, f"{split}-{number}") for number in range(count)]
        content = {"version": "v2.0", "data": [{"title": "synthetic", "paragraphs": paragraphs}]}
        files[f"synthetic-{split}-v2.0.json"] = json.dumps(content) + "\n"
    return files


def _sentence(rng: random.Random) -> list[tuple[str, str, str, str]]:
    """Return words with part of speech, chunk and entity."""
    person = [(rng.choice(PEOPLE), "NNP", "B-NP", "B-PER")]
    if rng.random() < 0.5:
        person.append((rng.choice(JOBS).capitalize(), "NNP", "I-NP", "I-PER"))
    place = (rng.choice(PLACES), "NNP", "B-NP", "B-LOC")
    firm = (rng.choice(FIRMS), "NNP", "B-NP", "B-ORG")
    middle = [("visited", "VBD", "B-VP", "O"), place, ("with", "IN", "B-PP", "O"), firm]
    if rng.random() < 0.5:
        middle = [("left", "VBD", "B-VP", "O"), firm, ("for", "IN", "B-PP", "O"), place]
    return [*person, *middle, (".", ".", "O", "O")]


def _conll(rng: random.Random) -> dict[str, str]:
    files = {}
    for split in ("train", "dev"):
        sentences = (_sentence(rng) for _ in range(SIZES[split]))
        blocks = ["".join(" ".join(word) + "\n" for word in sentence) for sentence in sentences]
        files[f"synthetic-{split}.conll"] = "-DOCSTART- -X- -X- O\n\n" + "\n".join(blocks)
    return files
