"""README and docs: every command line would be accepted, every setting exists, files agree."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from command_lines import check_arguments

from convbert.cluster.site import Site
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.pretrain.cli import app
from convbert.pretrain.finetune.task import TaskSpec
from convbert.pretrain.settings.recipes import recipe_names, resolve

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.M | re.S)
# Before a block of commands a page says what they need that tests do not have, or which test runs
# the like. tests/integration/test_pages.py runs all others.
MARK = re.compile(r"<!-- (needs|tested): ([^>]+) -->\s*$")


def blocks(page: Path, language: str):
    """Yield (text, its mark if it has one) of the fenced blocks of a language."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        indent, kind, body = match.groups()
        if kind == language:
            lines = (line.removeprefix(indent) for line in body.splitlines())
            yield "\n".join(lines), MARK.search(text[: match.start()])


def words(line: str) -> list[str]:
    """Split a shell line; what follows another command, a pipe or a redirection is left out."""
    found = shlex.split(line, comments=True)
    for mark in ("|", ">", "&&", ";"):
        if mark in found:
            found = found[: found.index(mark)]
    return found


def command_lines(page: Path) -> list[str]:
    lines = [line for text, _ in blocks(page, "bash") for line in join(text)]
    return [line for line in lines if re.match(r"(srun .* )?convbert ", line)]


def join(text: str) -> list[str]:
    return re.sub(r"\\\n\s*", " ", text).splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_line_would_be_accepted(page: Path) -> None:
    root = typer.main.get_command(app)
    for line in command_lines(page):
        arguments = words(line[line.index("convbert ") :])[1:]
        if "..." in arguments:
            arguments.remove("...")
        try:
            _, values = check_arguments(root, arguments)
            if "recipe" in values and values["recipe"] in recipe_names():
                resolve(values["recipe"], values.get("overrides") or [])
        except Exception as error:
            pytest.fail(f"{page.name}: {line!r}: {error}")


def test_marks_name_tests_that_exist() -> None:
    marks = [mark for page in PAGES for _, mark in blocks(page, "bash") if mark]
    named = [mark[2] for mark in marks if mark[1] == "tested"]
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_pages_hold_the_commands_that_this_test_is_about() -> None:
    assert sum(len(command_lines(page)) for page in PAGES) > 60


@pytest.mark.parametrize(
    ("page", "opening", "model"),
    [
        ("tutorials/your-language.md", "# corpus.yaml", BuildConfig),
        ("tutorials/your-language.md", "name: apps", TaskSpec),
        ("guides/common-crawl.md", "# crawl.yaml", BuildConfig),
        ("guides/own-task.md", "name: tickets", TaskSpec),
        ("guides/containers.md", "python:", Site),
        ("guides/rocm.md", "# amd.yaml", Site),
        ("slurm.md", "partition: gpu", Site),
        ("corpus-build.md", "# corpus.yaml", BuildConfig),
    ],
)
def test_files_shown_on_pages_are_accepted(page: str, opening: str, model) -> None:
    (shown,) = [text for text, _ in blocks(ROOT / "docs" / page, "yaml") if opening in text]
    model.model_validate(yaml.safe_load(shown))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs/examples").glob("*.yaml")), ids=lambda p: p.name
)
def test_examples_are_corpora_or_recipes(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    if "inputs" in content:
        BuildConfig.model_validate(content)
    else:
        resolve(str(path)).model.build(8192)


def test_settings_of_the_sweep_on_the_page_exist() -> None:
    (shown,) = [t for t, _ in blocks(ROOT / "docs/slurm.md", "yaml") if "sweep.yaml" in t]
    for settings in yaml.safe_load(shown).values():
        config = resolve("small", [f"{key}={value}" for key, value in settings.items()])
        config.model.build(8000)


def test_page_of_containers_names_the_path_of_the_images() -> None:
    for page in ("containers.md", "rocm.md"):
        (site,) = [t for t, _ in blocks(ROOT / "docs/guides" / page, "yaml") if "python" in t]
        assert yaml.safe_load(site)["python"].startswith("/opt/convbert/")


def test_one_version_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"\n## {version} (" in (ROOT / "CHANGELOG.md").read_text()
