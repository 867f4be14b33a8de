"""What an earlier version wrote still opens, and its run goes on to the losses it had.

README.md says how the files were made. Only the command line is used, so that the test does not
depend on where modules lie.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.integration

KEPT = Path(__file__).with_name("kept")
PREFIX = "/kept/"  # what all paths in the files begin with
SAME = ("loss/total", "loss/mlm", "loss/rtd", "generator/accuracy", "optimizer/gradient_norm")
SAME += ("optimizer/learning_rate", "data/first_sequence", "flops/electra", "tokens")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A copy of the files in which all paths lead to the copy."""
    folder = tmp_path / "kept"
    shutil.copytree(KEPT, folder)
    for pattern in ("*.yaml", "*.json", "*.jsonl"):
        for path in folder.rglob(pattern):
            if PREFIX in (text := path.read_text()):
                path.write_text(text.replace(PREFIX, f"{folder}/"))
    return folder


def convbert(folder: Path, *arguments: str) -> str:
    """Run a command beside the folder and return its output; fails if the command does."""
    done = subprocess.run(
        [sys.executable, "-m", "convbert.pretrain.cli", *arguments],
        cwd=folder.parent,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def updates(run: Path) -> dict[int, dict[str, Any]]:
    return {record["step"]: record for record in records(run) if "step" in record}


def held_out(run: Path, step: int) -> dict[str, float]:
    """Return what was measured of a checkpoint on held-out text, the newest measurement."""
    points = (r for r in records(run) if r.get("curve", "").startswith("held_out/"))
    return {p["curve"]: p["value"] for p in points if p["extra"]["step"] == step}


def assert_same_shards(found: Path, expected: Path) -> None:
    """Compare all bytes, but for the version in the manifest."""
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in found.iterdir()) == names
    for name in names:
        if name == "manifest.json":
            tool = {"tool": "of any version"}
            assert read(found / name) | tool == read(expected / name) | tool
        else:
            assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def test_no_shard_is_found_damaged(kept: Path) -> None:
    for name in ("shards-32", "shards-64", "more-64", "held-out", "corpus-build/shards-32"):
        assert ": 0 fault(s) in" in convbert(kept, "shards", "verify", f"kept/{name}")


def test_shards_keep_their_digest_and_their_text(kept: Path) -> None:
    shown = convbert(kept, "shards", "info", "kept/shards-32", "--format", "json")
    facts = {row["what"]: row["value"] for row in json.loads(shown)["rows"]}
    # The digest keys the order of training; the checkpoint holds it too.
    assert (
        facts["digest"]
        == read(kept / "run/checkpoints/step-00000008/manifest.json")["trainer"]["data"]
    )
    assert facts["digest"].startswith("1d55b58fc9d2")
    assert (facts["documents"], facts["sequences"]) == (47, 427)
    assert facts["tokens"] == "12,870 (94.2% of the room)"
    rows = ["shards", "head", "kept/shards-32", "-t", "kept/tokenizer", "-n", "2", "--ids"]
    shown = convbert(kept, *rows)
    assert "A (30) Masking and sampling draw from a counter-based\n    261 374 321 262 " in shown
    assert "A (30) generator keyed by (seed, global positi\n    261 309 339 301 275 " in shown


def test_kept_tokens_are_packed_to_the_kept_shards(kept: Path) -> None:
    pack = ("shards", "pack", "kept/tokens", "-o")
    convbert(kept, *pack, "new-32", "--seq-len", "32")
    convbert(kept, *pack, "new-64", "--seq-len", "64", "--packing", "full")
    assert_same_shards(kept.parent / "new-32", kept / "shards-32")
    assert_same_shards(kept.parent / "new-64", kept / "shards-64")


def test_kept_text_is_tokenized_to_the_kept_tokens(kept: Path) -> None:
    tokenize = ("shards", "tokenize", "kept/corpus.jsonl", "-t", "kept/tokenizer")
    convbert(kept, *tokenize, "-o", "tokens", "--workers", "1")
    for name in ("tokens.json", "tokens-000000.tar"):
        assert (kept.parent / "tokens" / name).read_bytes() == (kept / "tokens" / name).read_bytes()


def test_a_built_corpus_is_finished_and_the_same_when_built_again(kept: Path) -> None:
    report = kept / "corpus-build" / "report.json"
    (built,) = read(report)["shards"]
    before = report.stat().st_mtime_ns
    build = ("corpus", "build", "kept/corpus-build.yaml", "--workers", "1", "-o")
    assert f"digest {built['digest'][:12]}" in convbert(kept, *build, "kept/corpus-build")
    assert report.stat().st_mtime_ns == before
    assert not (kept / "corpus-build" / "work").exists()

    convbert(kept, *build, "again")
    assert_same_shards(kept.parent / "again/shards-32", kept / "corpus-build/shards-32")
    stages = {s["stage"]: s["dropped"] for s in read(kept.parent / "again/report.json")["stages"]}
    assert stages == {s["stage"]: s["dropped"] for s in read(report)["stages"]}
    assert stages["deduplicate"] == {"near duplicate": 1, "exact duplicate": 1}


@pytest.mark.parametrize(("processes", "stage"), [(2, "zero1"), (1, "zero3")])
def test_the_run_goes_on_to_the_losses_it_had(kept: Path, processes: int, stage: str) -> None:
    run = kept / "run"
    before, measured = updates(run), held_out(run, 12)
    command = ("pretrain", "kept/run/config.yaml", f"deepspeed={stage}", "--run-dir", "kept/run")
    output = convbert(kept, *command, "--processes", str(processes))
    assert f"{stage}: updates 9 to 12" in output
    after = updates(run)
    assert sorted(after) == sorted(before) == list(range(1, 13))
    for step in range(1, 13):
        if step <= 8:
            assert after[step] == before[step]
            continue
        assert after[step]["time"] > before[step]["time"]
        expected = {key: before[step]["values"][key] for key in SAME}
        found = {key: after[step]["values"][key] for key in SAME}
        assert found == pytest.approx(expected, rel=1e-5), step
    assert held_out(run, 12) == pytest.approx(measured, rel=1e-4, abs=1e-6)
    assert (run / "checkpoints" / "step-00000012" / "manifest.json").exists()


def test_the_checkpoint_is_measured_as_it_was(kept: Path) -> None:
    run = kept / "run"
    before, lines = held_out(run, 8), len(records(run))
    convbert(kept, "evaluate", "kept/run", "--step", "8")
    assert len(records(run)) > lines
    assert held_out(run, 8) == pytest.approx(before, rel=1e-4, abs=1e-6)


def test_the_checkpoint_is_exported_to_the_same_tensors(kept: Path) -> None:
    convbert(kept, "export", "kept/run", "-o", "model")
    found, expected = kept.parent / "model", kept / "model"
    for name in ("model.safetensors", "discriminator_head.safetensors"):
        tensors, wanted = load_file(found / name), load_file(expected / name)
        assert sorted(tensors) == sorted(wanted)
        for key, value in wanted.items():
            assert tensors[key].dtype == value.dtype
            assert (tensors[key] == value).all(), (name, key)
    assert read(found / "config.json").items() >= read(expected / "config.json").items()


def test_the_report_shows_what_was_measured(kept: Path) -> None:
    convbert(kept, "report", "kept/run", "-o", "page.html")
    page = (kept.parent / "page.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert data
    charts = {chart["title"]: chart["series"][0] for chart in json.loads(data[1])["charts"]}
    curve = read(kept / "run/report/pages/curve.json")
    shown = [charts["pages/accuracy"]["base"], *charts["pages/accuracy"]["points"]]
    spreads = [curve["baseline"], *(point["spread"] for point in curve["points"])]
    assert [(point["y"], point["low"], point["high"]) for point in shown] == [
        (spread["median"], spread["low"], spread["high"]) for spread in spreads
    ]
    assert [point["y"] for point in shown] == pytest.approx([0.425, 0.475])
    losses = {point["step"]: point["y"] for point in charts["held_out/loss/mlm"]["points"]}
    assert losses[8] == held_out(kept / "run", 8)["held_out/loss/mlm"]
