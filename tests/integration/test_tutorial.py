"""The tutorial, block by block as it stands on the page, with fewer updates and seeds."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "your-language.md"
BLOCK = re.compile(r"^(<!-- needs: network -->\n)?```(bash|python|yaml)\n(.*?)^```$", re.M | re.S)
SMALLER = (
    ("steps=800 checkpoint.every=200 checkpoint.keep_every=200", "steps=20 checkpoint.every=20"),
    ("schedule.warmup_steps=50", "schedule.warmup_steps=2"),
    ("--seeds 3", "--seeds 1"),
    ("epochs: 3", "epochs: 1"),
)


def name_of(language: str, text: str) -> str:
    if language == "python":
        return "convert.py"
    named = re.match(r"# ([\w.]+)\n", text)
    assert named, f"say in a first line what the file is called: {text!r}"
    return named[1]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="the text is a Debian package")
def test_every_block_of_the_tutorial_works(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    page = PAGE.read_text()
    for old, new in SMALLER:
        assert old in page, f"the page no longer says {old!r}"
        page = page.replace(old, new)
    for _, language, text in BLOCK.findall(page):
        if language != "bash":
            (tmp_path / name_of(language, text)).write_text(text)
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Die" in (tmp_path / "pages.jsonl").read_text()
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "run" / "report" / "apps" / "curve.json").is_file()
    assert (tmp_path / "model" / "config.json").is_file()
