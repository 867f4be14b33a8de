"""Wrong input: one line that names the thing and the remedy, a non-zero exit, no traceback."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def convbert(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "convbert.pretrain.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def refusal(*arguments: object) -> str:
    """Run the command and return its one line of error."""
    done = convbert(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def pretrain(shards: Path, tokenizer: Path, run: Path, *settings: str) -> list[object]:
    data = [f"data.manifest={shards / 'manifest.json'}", f"data.tokenizer={tokenizer}"]
    return ["pretrain", "tiny", *data, "global_batch=8", *settings, "--run-dir", run]


def test_missing_input_file(tmp_path: Path) -> None:
    line = refusal("tokenizer", "train", tmp_path / "no.jsonl", "-o", tmp_path / "out")
    assert "no.jsonl: no such file" in line
    assert not (tmp_path / "out").exists()


def test_empty_corpus(tmp_path: Path, tokenizer_dir: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    out = tmp_path / "shards"
    line = refusal("shards", "build", tmp_path / "empty.txt", "-o", out, "-t", tokenizer_dir)
    assert "empty.txt: no text" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.txt"]


def test_unknown_configuration_key(shards_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    arguments = pretrain(shards_dir, tokenizer_dir, tmp_path / "run", "optimiser.clip=1")
    assert "optimiser: unknown key" in refusal(*arguments)
    assert not (tmp_path / "run").exists()


def test_sequences_longer_than_the_positions(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    setting = "model.overrides={max_positions: 32}"
    line = refusal(*pretrain(shards_dir, tokenizer_dir, tmp_path / "run", setting))
    assert "sequences of 64 tokens exceed the model's 32 positions" in line


def test_fewer_sequences_than_one_batch(
    shards_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    setting = "global_batch=1000000"
    line = refusal(*pretrain(shards_dir, tokenizer_dir, tmp_path / "run", setting))
    assert "fewer than one global batch (1000000)" in line


def test_another_tokenizer(shards_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tokenizer_dir, other)
    with (other / "tokenizer.model").open("ab") as file:
        file.write(b"\x00\x00")
    done = convbert(*pretrain(shards_dir, other, tmp_path / "run"))
    assert done.returncode == 2
    assert str(other) in done.stderr


def test_damaged_shard(shards_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "shards"
    shutil.copytree(shards_dir, broken)
    shard = broken / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    run = tmp_path / "run"
    settings = ("steps=4", "schedule.warmup_steps=1", "tracking.uri=off", "threads=1")
    line = refusal(*pretrain(broken, tokenizer_dir, run, *settings))
    assert "shard-000000.tar: member" in line
    assert "is damaged" in line
    # The same command goes on without the damaged block, and the run says which it was.
    done = convbert(*pretrain(broken, tokenizer_dir, run, *settings, "data.on_damage=skip"))
    assert done.returncode == 0, done.stderr
    assert "are skipped: " in done.stderr
    (record,) = (run / "damage").iterdir()
    block = json.loads(record.read_text())
    assert block["last"] - block["first"] == 512
    assert block["first"] != block["substitute"]


def test_traceback_on_request(tmp_path: Path) -> None:
    done = convbert("--traceback", "export", tmp_path / "absent", "-o", tmp_path / "out")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("command", "what"),
    [("export", "not a run directory"), ("finetune", "neither a run directory")],
)
def test_a_directory_that_is_no_run(command: str, what: str, tmp_path: Path) -> None:
    options = {"export": ["-o", tmp_path / "out"], "finetune": ["--task", "rotten_tomatoes"]}
    line = refusal(command, tmp_path, *options[command])
    assert f"{tmp_path}: {what}" in line
