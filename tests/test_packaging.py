"""The distributions: what is built holds every file, and works where there is no checkout."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "data_pipeline", "pretrain", "cluster", "ds_configs")
# Files of the rooms that are for the checkout alone.
NOT_INSTALLED = ("cluster/containers/", "cluster/mlflow/")


@pytest.mark.slow
def test_wheel_made_from_the_source_distribution_works_outside_the_checkout(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)  # the wheel is built from the sdist
    (source,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    code = [f for f in tracked if f.startswith(tuple(f"{r}/" for r in ROOMS))]
    wanted = {f"convbert/{f}" for f in code if not f.startswith(NOT_INSTALLED)}
    assert wanted <= held, sorted(wanted - held)
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    hidden = {f for f in tracked if f.startswith(".")}
    assert set(tracked) - hidden <= names, sorted(set(tracked) - hidden - names)

    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    empty = tmp_path / "empty"
    empty.mkdir()
    python = str(home / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", str(wheel)], check=True)
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
    assert "trec.csv" in run("tasks", "list")  # tasks/*.yaml
    assert "sdconv" in run("study", "--plan")  # recipes/study.yaml and study/tiny.yaml
