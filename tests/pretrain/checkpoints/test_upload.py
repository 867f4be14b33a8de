"""Copies of checkpoints elsewhere: complete or not there, compared, continued, fetched again."""

import shutil
import time
from pathlib import Path

import pytest
import torch

from convbert.models.errors import UserError
from convbert.pretrain.checkpoints import checkpoint
from convbert.pretrain.checkpoints.snapshot import Snapshot
from convbert.pretrain.checkpoints.state import KINDS, Fragment
from convbert.pretrain.checkpoints.upload import Uploader, download_newest


def save(root: Path, step: int) -> Path:
    folder = root / f".tmp-{step}"
    value = torch.full((35,), float(step))
    taken = Snapshot()
    listed = taken.take([Fragment("w", 0, 35, dict.fromkeys(KINDS, value), owned=True)])
    checkpoint.write_part(folder, 0, taken, listed)
    parts = checkpoint.read_parts(folder, 1)
    assert parts is not None
    final = checkpoint.directory(root, step)
    checkpoint.commit(folder, final, step, {"w": (35,)}, parts, {"metrics": {}})
    return final


def same(left: Path, right: Path) -> bool:
    names = sorted(p.name for p in left.iterdir())
    return names == sorted(p.name for p in right.iterdir()) and all(
        (left / n).read_bytes() == (right / n).read_bytes() for n in names
    )


def test_checkpoints_arrive_whole_and_come_back(tmp_path: Path) -> None:
    root, store = tmp_path / "run", tmp_path / "store"
    before = save(root, 1)  # left by an earlier start
    uploader = Uploader(root, f"file://{store}")
    folder = save(root, 2)
    uploader.submit(2)
    uploader.finish(patience=30)
    assert uploader.waiting() == []
    assert same(before, store / before.name)
    assert same(folder, store / folder.name)

    (store / "step-00000003").mkdir()  # an upload that never got to its manifest
    heard: list[str] = []
    download_newest(f"file://{store}", tmp_path / "elsewhere", heard.append)
    reader = checkpoint.latest_good(tmp_path / "elsewhere")
    assert reader is not None
    assert reader.manifest.step == 2
    assert "step-00000002" in heard[0]


def test_an_interrupted_upload_is_continued_and_a_damaged_copy_replaced(tmp_path: Path) -> None:
    root, store = tmp_path / "run", tmp_path / "store"
    folder = save(root, 1)
    shutil.copytree(folder, store / folder.name)
    (store / folder.name / "manifest.json").unlink()
    tensors = store / folder.name / "state-00000.safetensors"
    tensors.write_bytes(bytes(tensors.stat().st_size))
    uploader = Uploader(root, f"file://{store}")
    uploader.finish(patience=30)
    assert same(folder, store / folder.name)


def test_a_target_that_is_away_holds_nothing_up(tmp_path: Path, caplog) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    folder = save(tmp_path / "run", 1)
    uploader = Uploader(tmp_path / "run", f"file://{tmp_path / 'store'}")
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
