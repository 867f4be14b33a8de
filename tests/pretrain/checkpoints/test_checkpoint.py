"""Checkpoint directories: verified before use, whole or absent."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from convbert.pretrain.checkpoints import checkpoint, retention
from convbert.pretrain.checkpoints.checkpoint import CheckpointReader, DamagedCheckpointError
from convbert.pretrain.checkpoints.config import CheckpointConfig
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.checkpoints.state import KINDS, Fragment

SHAPES = {"a.weight": (6, 4), "a.bias": (5,)}


def tensors() -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: {kind: torch.randn(shape, generator=generator).flatten() for kind in KINDS}
        for name, shape in SHAPES.items()
    }


def cut(name: str, start: int, stop: int, owned: bool = True) -> Fragment:
    views = {kind: full[start:stop] for kind, full in tensors()[name].items()}
    return Fragment(name, start, stop - start, views, owned)


HELD = [
    [cut("a.weight", 0, 10), cut("a.bias", 0, 5, owned=False)],
    [cut("a.weight", 10, 24), cut("a.bias", 0, 5)],
]


def write(root: Path, step: int, **metrics: float) -> Path:
    """Write a checkpoint of two processes that cut the weight in the middle of a row."""
    folder = root / f".tmp-{step}"
    for rank, held in enumerate(HELD):
        snapshot = Snapshot()
        checkpoint.write_part(folder, rank, snapshot, snapshot.take(held))
    parts = checkpoint.read_parts(folder, 2)
    assert parts is not None
    trainer = {"n": step, "metrics": metrics}
    checkpoint.commit(folder, checkpoint.directory(root, step), step, SHAPES, parts, trainer)
    return checkpoint.directory(root, step)


def test_reads_any_range_across_files(tmp_path: Path) -> None:
    reader = CheckpointReader(write(tmp_path, 7))
    for name, kinds in tensors().items():
        for kind, full in kinds.items():
            for start in range(len(full)):
                for stop in range(start + 1, len(full) + 1):
                    found = reader.read(kind, name, start, stop - start)
                    assert torch.equal(found, full[start:stop])
    assert reader.parameters()["a.weight"].shape == (6, 4)
    assert reader.manifest.trainer["n"] == 7


def test_commit_leaves_only_the_final_directory(tmp_path: Path) -> None:
    write(tmp_path, 7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000007"]
    assert (tmp_path / "latest").read_text() == "step-00000007\n"


def damage(folder: Path, how: str) -> None:
    file = folder / "state-00000.safetensors"
    content = file.read_bytes()
    manifest = folder / "manifest.json"
    record = json.loads(manifest.read_text())
    if how == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "truncated":
        file.write_bytes(content[:-10])
    elif how == "missing file":
        file.unlink()
    elif how == "missing manifest":
        manifest.unlink()
    elif how == "torn manifest":
        manifest.write_text(manifest.read_text()[:100])
    elif how == "not finite, with its digest":
        named = load_file(file)
        named["exp_avg|a.weight|0"][3] = torch.nan
        save_file(named, file)
        record["sha256"][file.name] = checkpoint.sha256(file)
        manifest.write_text(json.dumps(record))
    elif how == "files elsewhere":
        record["sha256"]["../step-00000001/manifest.json"] = "0" * 64
        manifest.write_text(json.dumps(record))
    else:
        record["fragments"]["a.weight"].pop()
        manifest.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "how",
    [
        "flipped",
        "truncated",
        "missing file",
        "missing manifest",
        "torn manifest",
        "gap",
        "not finite, with its digest",
        "files elsewhere",
    ],
)
def test_damage_is_named_and_the_previous_one_is_used(tmp_path: Path, how: str) -> None:
    write(tmp_path, 1)
    damage(write(tmp_path, 2), how)
    with pytest.raises(DamagedCheckpointError, match="step-00000002"):
        CheckpointReader(checkpoint.directory(tmp_path, 2))
    heard: list[str] = []
    good = checkpoint.latest_good(tmp_path, heard.append)
    assert good is not None
    assert good.manifest.step == 1
    assert len(heard) == 1


def test_a_pickle_in_place_of_the_tensors_is_never_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    folder = write(tmp_path, 1)
    file, manifest = folder / "state-00000.safetensors", folder / "manifest.json"
    file.write_bytes(pickle.dumps(Malicious()))
    assert checkpoint.latest_good(tmp_path) is None
    # Also for someone who makes the digest match.
    record = json.loads(manifest.read_text())
    record["sha256"][file.name] = checkpoint.sha256(file)
    manifest.write_text(json.dumps(record))
    with pytest.raises(DamagedCheckpointError, match="not a safetensors file"):
        CheckpointReader(folder)
    assert not (tmp_path / "executed").exists()


def test_prune_keeps_the_newest_and_the_permanent(tmp_path: Path) -> None:
    for step in range(1, 10):
        write(tmp_path, step)
    gone = retention.prune(tmp_path, CheckpointConfig(keep_last=2, keep_every=4), spared=[5])
    assert gone == [1, 2, 3, 6, 7]
    assert checkpoint.steps(tmp_path) == [4, 5, 8, 9]


@pytest.mark.parametrize(("mode", "kept"), [("min", [3, 5, 6]), ("max", [1, 4, 6])])
def test_prune_keeps_the_best(tmp_path: Path, mode: str, kept: list[int]) -> None:
    for step, loss in enumerate([9.0, 4.0, 2.0, 8.0, 3.0], start=1):
        write(tmp_path, step, loss=loss)
    write(tmp_path, 6)  # without the metric
    config = CheckpointConfig.model_validate(
        {"keep_last": 1, "keep_best": 2, "best_metric": "loss", "best_mode": mode}
    )
    retention.prune(tmp_path, config)
    assert checkpoint.steps(tmp_path) == kept


def test_values_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    fragment = cut("a.bias", 0, 5)
    fragment.views["param"][2] = torch.inf
    snapshot = Snapshot()
    with pytest.raises(ValueError, match=r"param\|a.bias\|0"):
        checkpoint.write_part(tmp_path / "new", 0, snapshot, snapshot.take([fragment]))


def test_sweep_removes_what_interruptions_left(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / ".tmp-00000002-abcd").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / ".tmp-00000002-abcd" / "state.safetensors")
    (tmp_path / ".deleted-step-00000000").mkdir()
    retention.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000001"]


def test_an_empty_directory_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.latest_good(tmp_path) is None
    assert checkpoint.steps(tmp_path) == []
