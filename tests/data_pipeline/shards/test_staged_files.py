"""Shards that are copied to a node's own disk, checked, and read there."""

import hashlib
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.shards.manifest import Manifest, index_name
from convbert.data_pipeline.shards.sources import open_store
from convbert.data_pipeline.shards.staged_files import StagedFiles
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.models.errors import DamagedError, UserError
from convbert.pretrain.settings.data import DataConfig


@pytest.fixture
def shards(shards_dir: Path, tmp_path: Path) -> Path:
    """A shard set of the test's own."""
    return Path(shutil.copytree(shards_dir, tmp_path / "shards"))


def staged(shards: Path, stage: Path) -> SequenceStore:
    return open_store(shards, Manifest.load(shards), stage=stage)


def rows(store: SequenceStore) -> list[list[int]]:
    return store.read([(0, store.manifest.num_sequences)]).tolist()


def test_rows_come_from_checked_copies_and_the_source_is_read_once(
    shards: Path, tmp_path: Path
) -> None:
    expected = rows(open_store(shards, Manifest.load(shards)))
    assert rows(staged(shards, tmp_path / "disk")) == expected
    (folder,) = (tmp_path / "disk").iterdir()
    for shard in Manifest.load(shards).shards:
        assert hashlib.sha256((folder / shard.name).read_bytes()).hexdigest() == shard.sha256
        (shards / shard.name).unlink()
    assert rows(staged(shards, tmp_path / "disk")) == expected


def test_what_a_machine_has_tidied_away_is_copied_again(shards: Path, tmp_path: Path) -> None:
    expected = rows(staged(shards, tmp_path / "disk"))
    (folder,) = (tmp_path / "disk").iterdir()
    (folder / index_name(Manifest.load(shards).shards[0].name)).unlink()
    assert rows(staged(shards, tmp_path / "disk")) == expected


def test_loader_gives_the_same_batches(shards: Path, tmp_path: Path) -> None:
    near = ShardLoader(shards, global_batch=8, stage=tmp_path / "disk")
    far = ShardLoader(shards, global_batch=8)
    for step in range(5):
        assert near.batch(step).input_ids.equal(far.batch(step).input_ids)


def test_readers_of_a_node_share_one_copy(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []
    copy = StagedFiles._copy
    monkeypatch.setattr(
        StagedFiles, "_copy", lambda *given: (copied.append(given[1]), copy(*given))[1]
    )
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: rows(staged(shards, tmp_path / "disk")), range(4)))
    assert all(one == found[0] for one in found)
    assert len(copied) == len(set(copied)) == 2 * len(Manifest.load(shards).shards)


def test_damaged_shard_is_not_staged_but_named(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = Manifest.load(shards).shards[0].name
    content = bytearray((shards / name).read_bytes())
    content[700] ^= 1
    (shards / name).write_bytes(content)
    with caplog.at_level(logging.WARNING), pytest.raises(DamagedError, match=str(shards / name)):
        rows(staged(shards, tmp_path / "disk"))
    assert f"{shards / name}: is not what its manifest says" in caplog.text
    (folder,) = (tmp_path / "disk").iterdir()
    assert not (folder / name).exists()


def test_full_disk_is_refused_before_anything_is_copied(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=rf"^data\.stage={tmp_path}: 0\.0 GB are free, .* choose"):
        staged(shards, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.stage=.*file: cannot be used \(Not a directory"):
        staged(shards, tmp_path / "file")


def test_a_lock_that_cannot_be_made_is_named(shards: Path, tmp_path: Path) -> None:
    store = staged(shards, tmp_path / "disk")
    (folder,) = (tmp_path / "disk").iterdir()
    (folder / f".{store.manifest.shards[0].name}.lock").mkdir()
    with pytest.raises(UserError, match=r"^data\.stage=.*tar cannot be locked \(Is a directory"):
        rows(store)


def test_variables_are_those_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataConfig(stage=Path("$LOCAL_DISK/x"), cache=Path("$LOCAL_DISK/c")).absolute()
    assert data.stage == Path("$LOCAL_DISK/x")
    monkeypatch.delenv("LOCAL_DISK", raising=False)
    with pytest.raises(UserError, match=r"data\.stage=\$LOCAL_DISK/x: .* does not set every"):
        data.stage_here  # noqa: B018
    monkeypatch.setenv("LOCAL_DISK", str(tmp_path))
    assert data.stage_here == tmp_path / "x"
    assert data.cache_settings.folder == tmp_path / "c"
    with pytest.raises(ValueError, match=r"s3://bucket is at an address, for which data\.cache"):
        DataConfig(manifest="s3://bucket", stage=tmp_path)
