"""Shards for programs that measure speed without a network: text that every Python carries.

``python -m tests.benchmarks.sample_corpus FOLDER`` writes a tokenizer and shards of each length.
"""

import json
import sysconfig
from pathlib import Path
from typing import Annotated

import typer

from tests.benchmarks.runs import convbert


def main(
    folder: Path,
    length: Annotated[list[int], typer.Option(help="Tokens per row.")] = [128, 512],  # noqa: B006
    vocabulary: Annotated[int, typer.Option(help="Pieces of the tokenizer.")] = 30_522,
    megabytes: Annotated[float, typer.Option(help="Of text.")] = 48.0,
) -> None:
    """Write ``FOLDER/tokenizer`` and ``FOLDER/shards-LENGTH``; what exists is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    text, tokenizer, log = folder / "text.jsonl", folder / "tokenizer", folder / "build.log"
    if not text.is_file():
        _write_text(text, megabytes)
    if not tokenizer.is_dir():
        size = ["--vocab-size", str(vocabulary), "--max-sentences", "200000"]
        convbert("tokenizer", "train", str(text), "-o", str(tokenizer), *size, log=log)
    for one in length:
        shards = folder / f"shards-{one}"
        if not shards.is_dir():
            rows = ["--packing", "full", "--seq-len", str(one)]
            build = ["shards", "build", str(text), "-o", str(shards), "-t", str(tokenizer)]
            convbert(*build, *rows, log=log)


def settings(folder: Path, length: int) -> list[str]:
    """Return the settings by which a run reads the shards of a length."""
    manifest = folder / f"shards-{length}" / "manifest.json"
    return [f"data.manifest={manifest}", f"data.tokenizer={folder / 'tokenizer'}"]


def _write_text(path: Path, megabytes: float) -> None:
    """Write the source files of Python's library and of installed packages as documents."""
    places = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    left = megabytes * 1e6
    with path.open("w") as file:
        for source in (f for place in places for f in sorted(place.rglob("*.py"))):
            content = source.read_text(errors="ignore")
            if len(content) > 500:
                file.write(json.dumps({"text": content}) + "\n")
                left -= len(content)
            if left <= 0:
                return


if __name__ == "__main__":
    typer.run(main)
