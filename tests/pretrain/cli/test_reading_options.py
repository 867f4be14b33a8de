"""Commands that read text: each has every option that a message of the readers names."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from convbert.data_pipeline.corpus_build.build import build_corpus
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.data_pipeline.filters.corpus_settings import load_config
from convbert.data_pipeline.readers import ReaderOptions
from convbert.data_pipeline.readers import options as options_module
from convbert.data_pipeline.readers.options import option_name
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.pretrain.cli import app
from convbert.pretrain.cli.data_arguments import READER_OPTIONS

COMMANDS = ["shards build", "shards tokenize", "tokenizer train", "tokenizer report", "pairs"]
NOT_OF_THE_TEXT = {"id_field", "meta_fields"}


def names(command: str) -> set[str]:
    found: Any = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]
    return {option for parameter in found.params for option in parameter.opts}


def choices(kind: Any) -> set[str]:
    """The words that a type allows, whatever it is nested in."""
    parts = get_args(kind)
    return {p for p in parts if isinstance(p, str)}.union(*map(choices, parts))


def test_commands_have_the_options_of_the_readers() -> None:
    wanted = ReaderOptions.model_fields.keys() - NOT_OF_THE_TEXT
    assert READER_OPTIONS.keys() == wanted
    for name in wanted:
        allowed = choices(ReaderOptions.model_fields[name].annotation)
        assert choices(READER_OPTIONS[name][0]) == allowed, name
    folder = Path(options_module.__file__).parent
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    wanted |= set(re.findall(r"setting\([\"'](\w+)[\"']", sources))
    for command in COMMANDS:
        assert names(command) >= {f"--{option_name(name)}" for name in wanted}


def test_the_command_that_comes_next_reads_the_text_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"my text": f"{n} {topic}"}) for n, topic in enumerate(["one", "two"] * 30)]
    Path("a b.json").write_text("\n".join([*lines, "[]"]))
    words = ["tokenizer", "train", "a b.json", "--field", "my text", "--on-bad-record", "skip"]
    words += ["--namespaces", "0", "--namespaces", "1", "--no-quotes"]
    words += ["--vocab-size", "300", "--model-type", "bpe", "-o", "my tokenizer"]
    for _ in range(2):
        said = CliRunner().invoke(app, words, catch_exceptions=False).stdout
        words = shlex.split(said.split("next: convbert ")[1])
    assert Manifest.load("shards").build == {
        **{"seed": 0, "chunk_characters": 1 << 20, "unit": "file", "field": "my text"},
        **{"on_bad_record": "skip", "namespaces": [0, 1], "quotes": False},
        "bad_records": {"no object": 1},
    }


def test_no_command_gives_a_name_to_two_options() -> None:
    def below(command: Any, path: str) -> None:
        given = [o for p in command.params for o in (*p.opts, *p.secondary_opts)]
        assert sorted(set(given)) == sorted(given), path
        for name, found in getattr(command, "commands", {}).items():
            below(found, f"{path} {name}")

    below(typer.main.get_command(app), "convbert")


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "convbert.pretrain.cli", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=300,
    )


def test_bad_records_are_said_and_counted_in_the_manifest(
    tmp_path: Path, tokenizer_dir: Path, documents: list[str]
) -> None:
    lines = [json.dumps({"text": text}) for text in documents[:5]]
    source = tmp_path / "a.jsonl"
    source.write_text("\n".join([*lines[:3], '{"text": null}', *lines[3:]]))
    build = ("shards", "build", source, "-t", tokenizer_dir, "--workers", 1)
    stopped = run(*build, "-o", tmp_path / "out")
    assert (stopped.returncode, stopped.stdout) == (2, "")
    assert "line 4: 'text' is None, not text; mend or remove it, or set --on-bad-record skip" in (
        stopped.stderr
    )
    skipped = run(*build, "-o", tmp_path / "out", "--on-bad-record", "skip")
    assert skipped.returncode == 0
    assert "passed over 1 record(s) that cannot be read ('text' is no text: 1)" in skipped.stderr
    assert f"{source}, line 4: 'text' is None" in skipped.stderr
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.num_documents == 5
    assert manifest.build["bad_records"] == {"'text' is no text": 1}
    refused = run(*build, "-o", tmp_path / "no", "--encoding", "klingon")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: options of the readers: encoding: is no known")


# The plainest locale there is: every file that is opened without a coding, and every name that is
# printed, fails in it at the first character beyond ASCII.
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_locale_without_unicode_changes_no_byte(
    tmp_path: Path, tokenizer_dir: Path, documents: list[str]
) -> None:
    source = tmp_path / "Größe.jsonl"
    texts = [f"{text} Größe “你好”" for text in documents[:5]]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = tmp_path / "corpus.yaml"
    config.write_text(
        json.dumps(
            {
                "inputs": [str(tmp_path / "Gr*.jsonl")],
                "filters": {"language": None, "gopher": {"min_words": 900}, "repetition": None},
                "tokenizer": {"path": str(tokenizer_dir)},
                "shards": {"seq_len": [64]},
            }
        )
    )
    with BuildProgress() as progress:
        build_corpus(load_config(config, BuildConfig), tmp_path / "utf8", progress, workers=1)
    out = tmp_path / "plain"
    built = run("corpus", "build", config, "-o", out, "--workers", 1, **PLAIN)
    assert built.returncode == 0, built.stderr
    found, expected = (Manifest.load(p / "shards-64") for p in (out, tmp_path / "utf8"))
    assert found.digest == expected.digest
    missing = run("shards", "build", tmp_path / "süß", "-o", tmp_path / "x", "-t", "t", **PLAIN)
    assert (missing.returncode, "Traceback" in missing.stderr) == (2, False)
