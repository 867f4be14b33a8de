"""Treebanks that ship in packages, as CoNLL-U files in which documents are told apart."""

import re
from collections.abc import Callable, Mapping, Sequence

from convbert.data_pipeline.corpora import Archive, Files

# A file, the package's files it is made of, and which part of a sentence's name is its document's.
Treebank = tuple[Sequence[str], str]

DANTE: Mapping[str, Treebank] = {
    "porttinari.conllu": (["dante/data/porttinari/annotated.conllu"], r"(.*)_SENT\d+"),
    "petrogold.conllu": (["dante/data/petrogold/annotated.conllu"], r"(.*)-\d+"),
    "dantestocks.conllu": (["dante/data/dantestocks/annotated.conllu"], r"(.*)"),  # tweets
}
TURKISH: Mapping[str, Treebank] = {
    "turkish.conllu": (["data/web.conllu", "data/wiki.conllu"], r"(.*):S\d+"),
}


def unpacking(treebanks: Mapping[str, Treebank]) -> Callable[[Archive], Files]:
    """Return what makes the files of treebanks out of a package."""

    def unpack(archive: Archive) -> Files:
        for file, (members, document) in treebanks.items():
            texts = [archive.read(member).decode().strip("\n") for member in members]
            yield file, with_documents("\n\n".join(texts), document).encode()

    return unpack


def with_documents(conllu: str, document: str) -> str:
    """Put the comment ``newdoc id`` before each document's first sentence, in place of others.

    ``document`` is a pattern for a whole ``sent_id`` whose first group is the document's name.
    """
    name = re.compile(rf"# sent_id = {document}\s*")
    lines: list[str] = []
    last = None
    for line in conllu.split("\n"):
        found = name.fullmatch(line)
        if found and found[1] != last:
            last = found[1]
            lines.append(f"# newdoc id = {last}")
        if not line.startswith("# newdoc"):
            lines.append(line)
    return "\n".join(lines) + "\n"
