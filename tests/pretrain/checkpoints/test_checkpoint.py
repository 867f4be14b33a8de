"""Checkpoint directories: verified before use, whole or absent."""

import json
import pickle
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from convbert.data_pipeline.digests import file_sha256
from convbert.models.errors import DamagedError, TransientError, UserError
from convbert.pretrain.checkpoints import reader, retention, writer
from convbert.pretrain.checkpoints.reader import CheckpointReader, latest_good
from convbert.pretrain.checkpoints.retention import Retention
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.engine.fragments import Fragment
from convbert.pretrain.run.checkpoint_manifest import (
    checkpoint_directory,
    checkpoint_steps,
    verify,
)
from convbert.pretrain.settings.checkpoint import CheckpointConfig

SHAPES = {"a.weight": (6, 4), "a.bias": (5,)}


def tensors() -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: {
            kind: torch.randn(shape, generator=generator).flatten()
            for kind in ("param", "exp_avg", "exp_avg_sq")
        }
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
        snapshot.take(held)
        writer.write_part(folder, rank, snapshot)
    parts = writer.wait_for_parts(folder, 2, threading.Event())
    assert parts is not None
    trainer = {"n": step, "metrics": metrics}
    writer.commit(folder, step, SHAPES, parts, trainer)
    return checkpoint_directory(root, step)


def test_reads_any_range_across_files(tmp_path: Path) -> None:
    whole = CheckpointReader(write(tmp_path, 7))
    for name, kinds in tensors().items():
        for kind, full in kinds.items():
            for start in range(len(full)):
                for stop in range(start + 1, len(full) + 1):
                    found = whole.read(kind, name, start, stop - start)
                    assert torch.equal(found, full[start:stop])
    assert whole.parameters()["a.weight"].shape == (6, 4)
    assert whole.manifest.trainer["n"] == 7


def test_commit_leaves_only_the_final_directory(tmp_path: Path) -> None:
    write(tmp_path, 7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000007"]
    assert (tmp_path / "latest").read_text() == "step-00000007\n"


def test_a_process_opens_only_the_files_that_hold_its_part(tmp_path: Path, monkeypatch) -> None:
    folder, opened = write(tmp_path, 5), []
    original = reader.safe_open
    monkeypatch.setattr(
        reader, "safe_open", lambda path, **how: opened.append(path.name) or original(path, **how)
    )
    own = CheckpointReader(folder, trusted=True)
    for kind in ("param", "exp_avg"):
        own.read(kind, "a.weight", 0, 10)
    assert opened == ["state-00000.safetensors"]


def test_notes_are_awaited_one_after_the_other(tmp_path: Path, monkeypatch) -> None:
    world, looked = 40, []
    ranks = list(range(world))
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: looked.append(path) or exists(path))

    class Slow(threading.Event):
        """Writes the next note, the last one first, whenever process 0 waits."""

        def wait(self, timeout: float | None = None) -> bool:
            note = writer.Part(file="f", sha256="", fragments=[]).model_dump_json()
            (tmp_path / f"part-{ranks.pop():05d}.json").write_text(note)
            return False

    parts = writer.wait_for_parts(tmp_path, world, Slow())
    assert parts is not None
    assert len(parts) == world
    assert len(looked) == 2 * world  # not one look at each of them for each note that comes


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
        record["sha256"][file.name] = file_sha256(file)
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
def test_damage_is_named_and_the_previous_one_is_used(tmp_path: Path, how: str, caplog) -> None:
    write(tmp_path, 1)
    damage(write(tmp_path, 2), how)
    with pytest.raises(DamagedError, match="step-00000002"):
        CheckpointReader(checkpoint_directory(tmp_path, 2))
    good = latest_good(tmp_path)
    assert good is not None
    assert good.manifest.step == 1
    assert len(caplog.messages) == 1


def test_a_pickle_in_place_of_the_tensors_is_never_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    folder = write(tmp_path, 1)
    file, manifest = folder / "state-00000.safetensors", folder / "manifest.json"
    file.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(UserError, match="no checkpoint can be used"):
        latest_good(tmp_path)
    # Also for someone who makes the digest match.
    record = json.loads(manifest.read_text())
    record["sha256"][file.name] = file_sha256(file)
    manifest.write_text(json.dumps(record))
    with pytest.raises(DamagedError, match="not a safetensors file"):
        CheckpointReader(folder)
    assert not (tmp_path / "executed").exists()


def test_prune_keeps_the_newest_and_the_permanent(tmp_path: Path) -> None:
    for step in range(1, 10):
        write(tmp_path, step)
    gone = Retention(tmp_path, CheckpointConfig(keep_last=2, keep_every=4)).prune(spared=[5])
    assert gone == [1, 2, 3, 6, 7]
    assert checkpoint_steps(tmp_path) == [4, 5, 8, 9]


@pytest.mark.parametrize(("mode", "kept"), [("min", [3, 5, 6]), ("max", [1, 4, 6])])
def test_prune_keeps_the_best(tmp_path: Path, mode: str, kept: list[int]) -> None:
    for step, loss in enumerate([9.0, 4.0, 2.0, 8.0, 3.0], start=1):
        write(tmp_path, step, loss=loss)
    write(tmp_path, 6)  # without the metric
    config = CheckpointConfig.model_validate(
        {"keep_last": 1, "keep_best": 2, "best_metric": "loss", "best_mode": mode}
    )
    Retention(tmp_path, config).prune()
    assert checkpoint_steps(tmp_path) == kept


def test_what_cannot_be_read_is_neither_counted_nor_deleted(tmp_path: Path, caplog) -> None:
    for step in range(1, 6):
        write(tmp_path, step, loss=float(step))
    damage(checkpoint_directory(tmp_path, 1), "torn manifest")
    damage(checkpoint_directory(tmp_path, 5), "missing manifest")
    config = CheckpointConfig(keep_last=1, keep_best=1, best_metric="loss")
    kept = Retention(tmp_path, config)
    assert kept.prune() == [3]
    assert kept.prune() == []
    assert checkpoint_steps(tmp_path) == [1, 2, 4, 5]
    assert len(caplog.messages) == 1
    assert "neither counted nor deleted" in caplog.text


def test_what_cannot_be_deleted_is_a_warning_and_tried_again(tmp_path: Path, caplog) -> None:
    root = tmp_path / "checkpoints"
    moved = write(tmp_path / "elsewhere", 1)
    root.mkdir()
    checkpoint_directory(root, 1).symlink_to(moved)  # a tree cannot be deleted through a link
    kept = Retention(root, CheckpointConfig(keep_last=1))
    for step in range(2, 5):
        write(root, step)
        assert kept.prune() == [step - 1]
    assert checkpoint_steps(root) == [4]
    (left,) = root.glob(".deleted-*")
    assert len(caplog.messages) == 1
    assert "cannot be deleted yet" in caplog.text
    left.unlink()
    (root / left.name).mkdir()
    kept.prune()
    assert not list(root.glob(".deleted-*"))


def test_a_damaged_one_is_set_aside_under_a_free_name(tmp_path: Path) -> None:
    for name in ("damaged-step-00000007", "damaged-step-00000007-2"):
        aside = retention.set_aside(write(tmp_path, 7))
        assert aside == tmp_path / name
        assert verify(aside).step == 7
    write(tmp_path, 8)
    assert Retention(tmp_path, CheckpointConfig(keep_last=1)).prune() == []
    retention.sweep(tmp_path)
    assert checkpoint_steps(tmp_path) == [8]
    assert len(list(tmp_path.glob("damaged-*"))) == 2


def test_where_none_verifies_each_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    damage(write(tmp_path, 1), "flipped")
    damage(write(tmp_path, 2), "torn manifest")
    expected = r"step-00000002.*not a checkpoint manifest.*step-00000001.*SHA-256 .*restore a copy"
    with pytest.raises(UserError, match=expected):
        latest_good(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "state-00000.safetensors"])
def test_a_file_system_that_does_not_answer_is_no_damage(tmp_path: Path, name: str) -> None:
    write(tmp_path, 1)
    file = write(tmp_path, 2) / name
    file.unlink()
    file.symlink_to(name)  # a link to itself: opening it is an OSError, also for root
    with pytest.raises(TransientError, match=rf"{name}: cannot be read \(.*start again"):
        latest_good(tmp_path)


def test_a_directory_that_cannot_be_listed_is_not_empty(tmp_path: Path, caplog) -> None:
    root = tmp_path / "checkpoints"
    root.write_text("a file where the directory should be")
    with pytest.raises(TransientError, match="checkpoints: cannot be read"):
        checkpoint_steps(root)
    assert Retention(root, CheckpointConfig()).prune() == []
    assert "old checkpoints are not deleted" in caplog.text


def test_a_format_of_another_version_is_refused_and_not_skipped(tmp_path: Path) -> None:
    write(tmp_path, 1)
    manifest = write(tmp_path, 2) / "manifest.json"
    record = json.loads(manifest.read_text()) | {"format": 3, "layout": "of tomorrow"}
    manifest.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"step-00000002.*format 3, this version reads 2"):
        latest_good(tmp_path)


def test_values_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    fragment = cut("a.bias", 0, 5)
    fragment.views["param"][2] = torch.inf
    snapshot = Snapshot()
    snapshot.take([fragment])
    with pytest.raises(ValueError, match=r"param\|a.bias\|0"):
        writer.write_part(tmp_path / "new", 0, snapshot)


def test_sweep_removes_what_interruptions_left(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / ".tmp-00000002-abcd").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / ".tmp-00000002-abcd" / "state.safetensors")
    (tmp_path / ".deleted-step-00000000").mkdir()
    retention.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000001"]


def test_an_empty_directory_has_no_checkpoint(tmp_path: Path) -> None:
    assert latest_good(tmp_path) is None
    assert checkpoint_steps(tmp_path) == []
