"""Copies of checkpoints elsewhere: complete or not there, compared, continued, fetched again."""

import logging
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch

from convbert.models.errors import TransientError, UserError
from convbert.pretrain.checkpoints import writer
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.checkpoints.upload import Uploader, complete, download_newest
from convbert.pretrain.engine.fragments import Fragment
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.run.identity import identity
from convbert.pretrain.settings.checkpoint import CheckpointConfig
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.settings.run import RunConfig

CONFIG = resolve("tiny")


def save(root: Path, step: int, config: RunConfig = CONFIG) -> Path:
    folder = root / f".tmp-{step}"
    value = torch.full((35,), float(step))
    taken = Snapshot()
    taken.take(
        [Fragment("w", 0, 35, {"param": value, "exp_avg": value, "exp_avg_sq": value}, owned=True)]
    )
    writer.write_part(folder, 0, taken)
    parts = writer.wait_for_parts(folder, 1, threading.Event())
    assert parts is not None
    trainer = {"metrics": {}, "skipped": [], "settings": identity(config)}
    writer.commit(folder, step, {"w": (35,)}, parts, trainer)
    return checkpoint_directory(root, step)


def flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def stored(store: Path, *steps: int, config: RunConfig = CONFIG) -> list[Path]:
    """Put checkpoints of the run ``base`` where its uploads go."""
    for step in steps:
        save(store / "base", step, config)
    (store / "base" / "latest").unlink()
    return [checkpoint_directory(store / "base", step) for step in steps]


def same(left: Path, right: Path) -> bool:
    names = sorted(p.name for p in left.iterdir())
    return names == sorted(p.name for p in right.iterdir()) and all(
        (left / n).read_bytes() == (right / n).read_bytes() for n in names
    )


def test_checkpoints_arrive_whole_and_come_back(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "convbert")
    root, store = tmp_path / "base" / "checkpoints", tmp_path / "store"
    before = save(root, 1)  # left by an earlier start
    uploader = Uploader(root, f"file://{store}")
    folder = save(root, 2)
    uploader.submit(2)
    uploader.finish(patience=30)
    assert uploader.waiting() == []
    assert same(before, store / "base" / before.name)
    assert same(folder, store / "base" / folder.name)

    (store / "base" / "step-00000003").mkdir()  # an upload that never got to its manifest
    elsewhere = tmp_path / "elsewhere" / "base" / "checkpoints"
    download_newest(f"file://{store}", elsewhere, CONFIG)
    assert same(folder, elsewhere / folder.name)
    assert [p.name for p in elsewhere.iterdir()] == [folder.name]
    assert "step-00000002" in caplog.messages[0]


def test_a_run_of_another_name_has_a_place_of_its_own(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "convbert")
    url = f"file://{tmp_path / 'store'}"
    root, other = tmp_path / "base" / "checkpoints", tmp_path / "other" / "checkpoints"
    save(root, 1)
    Uploader(root, url).finish(patience=30)
    download_newest(url, other, CONFIG)
    assert not caplog.messages
    assert checkpoint_steps(other) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("seed=1", "seed: 0 -> 1"),
        ("model.overrides={num_layers: 1}", "model.overrides.num_layers: None -> 1"),
        ("optimizer.learning_rate=1.0", "update 2 would have had a learning rate"),
        ("model.init_from=weights", "model.init_from: None -> weights"),
    ],
)
def test_a_copy_of_a_run_with_other_settings_is_refused(
    tmp_path: Path, change: str, named: str
) -> None:
    stored(tmp_path / "store", 3)
    root = tmp_path / "base" / "checkpoints"
    with pytest.raises(UserError, match=rf"checkpoint.upload=.*base/step-00000003.*{named}"):
        download_newest(f"file://{tmp_path / 'store'}", root, resolve("tiny", [change]))
    assert checkpoint_steps(root) == []


def test_a_copy_is_taken_where_paths_and_what_is_to_come_differ(tmp_path: Path) -> None:
    phase = "phases=[{{start: 8, manifest: {}/long.json, global_batch: 16}}]"
    theirs = [phase.format("/a"), "data.manifest=/a/short.json", "model.init_from=/a/start"]
    ours = [phase.format("/b"), "data.manifest=/b/short.json", "model.init_from=/b/start"]
    stored(tmp_path / "store", 3, config=resolve("tiny", theirs))
    root = tmp_path / "base" / "checkpoints"
    config = resolve("tiny", [*ours, "micro_batch=2", "guards.max_events=3"])
    download_newest(f"file://{tmp_path / 'store'}", root, config)
    assert checkpoint_steps(root) == [3]


def test_a_damaged_copy_is_passed_over_for_the_one_before(tmp_path: Path, caplog) -> None:
    first, second = stored(tmp_path / "store", 1, 2)
    flip(second / "state-00000.safetensors")
    root = tmp_path / "base" / "checkpoints"
    download_newest(f"file://{tmp_path / 'store'}", root, CONFIG)
    assert checkpoint_steps(root) == [1]
    assert any(f"skipping a damaged copy: {second}" in text for text in caplog.messages)

    flip(first / "state-00000.safetensors")
    again = tmp_path / "again" / "base" / "checkpoints"
    with pytest.raises(UserError, match=r"no copy can be used .*step-00000002.*step-00000001"):
        download_newest(f"file://{tmp_path / 'store'}", again, CONFIG)


def test_a_target_that_cannot_be_listed_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to("base")  # a link to itself: no listing, and no "not found"
    with pytest.raises(TransientError, match=r"cannot be fetched from \(.*check the address"):
        download_newest(f"file://{tmp_path}", tmp_path / "new" / "base" / "c", CONFIG)


def test_an_interrupted_upload_is_continued_and_a_damaged_copy_replaced(tmp_path: Path) -> None:
    root, copy = tmp_path / "base" / "checkpoints", tmp_path / "store" / "base" / "step-00000001"
    folder = save(root, 1)
    shutil.copytree(folder, copy)
    (copy / "manifest.json").unlink()
    tensors = copy / "state-00000.safetensors"
    tensors.write_bytes(bytes(tensors.stat().st_size))
    uploader = Uploader(root, f"file://{tmp_path / 'store'}")
    uploader.finish(patience=30)
    assert same(folder, copy)


def test_a_damaged_checkpoint_is_not_uploaded_and_holds_up_no_other(tmp_path: Path, caplog) -> None:
    root, store = tmp_path / "base" / "checkpoints", tmp_path / "store"
    good = save(root, 1)
    flip(save(root, 2) / "state-00000.safetensors")
    uploader = Uploader(root, f"file://{store}")
    uploader.finish(patience=30)
    assert uploader.waiting() == []
    assert [p.name for p in (store / "base").iterdir()] == [good.name]
    assert "step 2 is not uploaded" in caplog.text


def test_a_finished_run_completes_its_uploads(tmp_path: Path) -> None:
    folder = save(tmp_path / "base" / "checkpoints", 1)
    complete(folder.parent, CheckpointConfig(upload=f"file://{tmp_path / 'store'}"))
    assert same(folder, tmp_path / "store" / "base" / folder.name)


def test_a_target_that_is_away_holds_nothing_up(tmp_path: Path, caplog) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    folder = save(tmp_path / "run" / "checkpoints", 1)
    uploader = Uploader(folder.parent, f"file://{tmp_path / 'store'}")
    while "uploading step 1 failed" not in caplog.text:
        time.sleep(0.01)
    before = time.monotonic()
    uploader.finish(patience=5)
    assert time.monotonic() - before < 5
    assert "steps 1 are not uploaded" in caplog.text
    assert folder.is_dir()


def test_a_url_that_nothing_serves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoint.upload=nowhere://x"):
        Uploader(tmp_path, "nowhere://x")
