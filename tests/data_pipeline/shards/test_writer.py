import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from convbert.data_pipeline.shards.manifest import Manifest, load_index
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.data_pipeline.shards.writer import ShardWriter, token_dtype

READ_WITH_WEBDATASET = """
import glob, hashlib, json, sys
import webdataset
total, digest = 0, hashlib.sha256()
for path in sorted(glob.glob(sys.argv[1] + "/*.tar")):
    for sample in webdataset.WebDataset(path, shardshuffle=False, empty_check=False).decode():
        total += sample["npy"].size
        digest.update(sample["npy"].tobytes())
assert not [name for name in sys.modules if name.startswith("convbert")]
print(json.dumps([total, digest.hexdigest()]))
"""


def test_plain_webdataset_reads_every_token(shards_dir: Path, tmp_path: Path) -> None:
    """The library of PyPI, in a process that has none of this package, sees the same bytes."""
    command = [sys.executable, "-c", READ_WITH_WEBDATASET, str(shards_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    manifest = Manifest.load(shards_dir)
    stored = SequenceStore(manifest, shards_dir).read([(0, manifest.num_sequences)])
    expected = [stored.size, hashlib.sha256(stored.tobytes()).hexdigest()]
    assert json.loads(done.stdout.splitlines()[-1]) == expected
    assert int((stored != manifest.pad_id).sum()) == manifest.num_tokens


def test_index_addresses_every_member(electra: tuple[Path, np.ndarray]) -> None:
    folder, rows = electra
    manifest = Manifest.load(folder)
    found = []
    for shard in manifest.shards:
        content = (folder / shard.name).read_bytes()
        members = load_index(folder, shard).members
        for member in members:
            payload = io.BytesIO(content[member.offset : member.offset + member.size])
            found.append(np.load(payload))
            assert len(found[-1]) == member.sequences
        with tarfile.open(folder / shard.name) as tar:
            assert tar.getnames() == [member.name for member in members]
            assert {(t.mtime, t.uid, t.gid, t.mode) for t in tar} == {(0, 0, 0, 0o644)}
    assert len(manifest.shards) > 2
    assert np.array_equal(np.concatenate(found), rows)


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_bytes_do_not_depend_on_how_rows_arrive(tmp_path: Path, pieces: int) -> None:
    rows = np.arange(1500 * 8, dtype=np.uint16).reshape(1500, 8) % 400
    contents = []
    for name, parts in (("whole", [rows]), ("parts", np.array_split(rows, pieces))):
        folder = tmp_path / name
        folder.mkdir()
        writer = ShardWriter(folder, 8, 400, shard_bytes=10_000)
        for part in parts:
            writer.write(part)
        assert sum(shard.sequences for shard in writer.close()) == 1500
        contents.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert contents[0] == contents[1]


def test_small_types_are_used_while_ids_fit() -> None:
    assert token_dtype(1 << 16).itemsize == 2
    assert token_dtype((1 << 16) + 1).itemsize == 4


def test_store_reads_any_runs(electra: tuple[Path, np.ndarray]) -> None:
    folder, rows = electra
    store = SequenceStore(Manifest.load(folder), folder)
    spans = [(0, 1), (510, 515), (1500, 4100), (4999, 5000), (3, 4)]
    expected = np.concatenate([rows[first:last] for first, last in spans])
    assert np.array_equal(store.read(spans), expected)
    store.close()
