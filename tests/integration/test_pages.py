"""Every block of commands on README and pages runs as it stands, unless it is marked otherwise.

One directory serves all pages, as it would a reader who begins with the README and the first run.
The tutorial on a language has a test of its own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_documentation import PAGES, ROOT
from test_reference_pages import loaded

pytestmark = [pytest.mark.slow, pytest.mark.integration]

FIRST = [ROOT / "README.md", ROOT / "docs" / "tutorials" / "first-run.md"]
SEPARATE = {ROOT / "docs" / "tutorials" / "your-language.md"}
# What a page takes for granted, made from what the first run leaves behind.
BEFORE = {"docs/report.md": "cp -r runs/first runs/second"}


def run(text: str, folder: Path) -> str:
    """Run a block the way a shell would that stops at the first failure; return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}"
    return done.stdout


def shown_words_that_are_printed(shown: str, printed: str) -> float:
    """Return the share of the words of an output on a page that a command prints today."""
    words = set(re.findall(r"[a-z]{4,}", shown))
    return len(words & set(re.findall(r"[a-z]{4,}", printed))) / max(1, len(words))


@pytest.mark.timeout(1800)  # seven minutes on two idle cores
def test_every_block_that_is_not_marked_works(tmp_path: Path) -> None:
    done = 0
    for page in [*FIRST, *(page for page in PAGES if page not in FIRST)]:
        if page in SEPARATE:
            continue
        run(BEFORE.get(page.relative_to(ROOT).as_posix(), "true"), tmp_path)
        for block in loaded("outputs").blocks(page.read_text()):
            if block.kind == "bash" and not block.marked:
                printed = run(block.body, tmp_path)
                done += 1
                if block.shown:
                    share = shown_words_that_are_printed(block.shown, printed)
                    place = f"{page.name}: {block.body}\nprints now\n{printed[-2000:]}"
                    assert share > 0.7, f"make it again with docs/outputs.py: {place}"
    assert done >= 10
    for left in ("model/config.json", "report.html", "shards-512/manifest.json", "averaged"):
        assert (tmp_path / left).exists(), left
    shutil.rmtree(tmp_path)
