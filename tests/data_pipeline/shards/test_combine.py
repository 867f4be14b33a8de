"""Merged and split shard sets hold the same sequences; only a shard that is cut is rewritten."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.shards.combine import merge_shards, split_shards
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.data_pipeline.shards.verify import verify_shards
from convbert.models.errors import UserError

Write = Callable[[Path, np.ndarray], Manifest]


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).integers(5, 500, (count, 16), dtype=np.uint16)
    rows[:, 0], rows[:, 8], rows[:, 9:] = 2, 3, 0
    return rows


def stored(folder: Path) -> np.ndarray:
    manifest = Manifest.load(folder)
    return SequenceStore(manifest, folder).read([(0, manifest.num_sequences)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@settings(deadline=None, max_examples=12)
@given(sizes=st.lists(st.integers(1, 2600), min_size=1, max_size=3))
def test_a_merged_set_holds_all_sequences_in_order(make_shards: Write, sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(number) for number in range(len(sizes))]
        rows = [rows_of(size, number) for number, size in enumerate(sizes)]
        manifests = [make_shards(f, r) for f, r in zip(folders, rows, strict=True)]
        merged = merge_shards(folders, Path(name) / "all")
        assert np.array_equal(stored(Path(name) / "all"), np.concatenate(rows))
        assert merged.num_tokens == sum(m.num_tokens for m in manifests)
        assert merged.num_documents == len(sizes)
        assert verify_shards(Path(name) / "all") == []
        # Blocks that are not 512 long in the middle of a set leave the order exact.
        loader = ShardLoader(Path(name) / "all", global_batch=1)
        order = loader.streams[0].order
        for step in (0, len(np.concatenate(rows)) - 1):
            expected = np.concatenate(rows)[order.sequences(step, step + 1)]
            assert np.array_equal(loader.batch(step).input_ids.numpy(), expected)
        loader.close()


# Every part has a block of 512 at least: a ninth of the smallest set is more.
@settings(deadline=None, max_examples=12)
@given(size=st.integers(4700, 8000), shares=st.lists(st.floats(0.5, 2), min_size=1, max_size=3))
def test_parts_of_a_split_set_are_the_whole(
    make_shards: Write, size: int, shares: list[float]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name) / "set", rows_of(size)
        whole = make_shards(folder, rows)
        parts = split_shards(folder, Path(name) / "parts", shares)
        found = [stored(Path(name) / "parts" / f"part-{n}") for n in range(len(shares))]
        assert np.array_equal(np.concatenate(found), rows)
        assert sum(part.num_tokens for part in parts) == whole.num_tokens
        for part, share in zip(parts, shares, strict=True):
            assert abs(part.num_sequences - size * share / sum(shares)) <= 512
        assert all(len(part) % 512 == 0 for part in found[:-1])
        known = {shard.sha256 for shard in whole.shards}
        rewritten = [s for part in parts for s in part.shards if s.sha256 not in known]
        assert len(rewritten) <= 2 * (len(shares) - 1)


def test_both_are_deterministic_and_take_whole_shards_over_as_links(
    make_shards: Write, tmp_path: Path
) -> None:
    make_shards(tmp_path / "a", rows_of(4000))
    make_shards(tmp_path / "b", rows_of(3000, 1))
    for turn in "12":
        merge_shards([tmp_path / "a", tmp_path / "b"], tmp_path / f"merged{turn}")
        split_shards(tmp_path / "a", tmp_path / f"parts{turn}", [2, 1])
    assert contents(tmp_path / "merged1") == contents(tmp_path / "merged2")
    assert contents(tmp_path / "parts1") == contents(tmp_path / "parts2")
    first = tmp_path / "a" / "shard-000000.tar"
    assert os.path.samefile(first, tmp_path / "merged1" / "shard-000000.tar")
    assert os.path.samefile(first, tmp_path / "parts1" / "part-0" / "shard-000000.tar")


READ_IN_ANY_ORDER = """
import hashlib, itertools, json, sys
import webdataset
group = webdataset.tariterators.group_by_keys
files = webdataset.tariterators.tar_file_expander
found = set()
for paths in itertools.permutations(sys.argv[1:]):
    entries = files({"url": path, "stream": open(path, "rb")} for path in paths)
    # Up to 0.2.86 nothing marks where a tar ends, so neighbors of one name are one sample.
    samples = list(group(entry for entry in entries if entry))
    found.add((len(samples), len({sample["__key__"] for sample in samples})))
print(json.dumps(sorted(found)))
"""


def test_webdataset_reads_merged_sets_of_small_shards(make_shards: Write, tmp_path: Path) -> None:
    sizes = (300, 500, 1, 1700)  # three of one block, one of four in two shards
    for number, size in enumerate(sizes):
        make_shards(tmp_path / str(number), rows_of(size, number))
    folders = [tmp_path / str(number) for number in range(len(sizes))]
    merge_shards(folders, tmp_path / "all")
    assert verify_shards(tmp_path / "all") == []
    rows = [rows_of(size, number) for number, size in enumerate(sizes)]
    assert np.array_equal(stored(tmp_path / "all"), np.concatenate(rows))
    tars = sorted(map(str, (tmp_path / "all").glob("*.tar")))
    command = [sys.executable, "-c", READ_IN_ANY_ORDER, *tars]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [[7, 7]]
    again = merge_shards([tmp_path / "all", tmp_path / "0"], tmp_path / "more")
    assert again.num_sequences == sum(sizes) + 300
    first = tmp_path / "0" / "shard-000000.tar"
    assert os.path.samefile(first, tmp_path / "more" / "shard-000000.tar")


def test_damage_is_not_copied_under_a_new_digest(make_shards: Write, tmp_path: Path) -> None:
    for name in "ab":
        make_shards(tmp_path / name, rows_of(300))
    path = tmp_path / "b" / "shard-000000.tar"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"b/shard-000000\.tar: its SHA-256 .*; copy"):
        merge_shards([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_damage_and_strangers_are_refused_and_leave_nothing(
    make_shards: Write, tmp_path: Path, spoilable: Path
) -> None:
    make_shards(tmp_path / "a", rows_of(3000))
    other = Manifest.load(tmp_path / "a").model_copy(update={"seq_len": 8})
    (tmp_path / "b").mkdir()
    other.save(tmp_path / "b" / "manifest.json")
    path = spoilable / "shard-000001.tar"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"b/manifest\.json: has seq_len 8, .* pack all to one"):
        merge_shards([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    with pytest.raises(UserError, match=r"spoilable/shard-000001\.tar: .*SHA-256.*; copy"):
        merge_shards([tmp_path / "a", spoilable], tmp_path / "out")
    with pytest.raises(UserError, match=r"shard-000001\.tar: .*damaged .*; copy"):
        split_shards(spoilable, tmp_path / "out", [1, 1])
    with pytest.raises(
        UserError, match=r"shares 1 0\.001: leave a part of 3,000 sequences without"
    ):
        split_shards(tmp_path / "a", tmp_path / "out", [1, 0.001])
    assert sorted(tmp_path.iterdir()) == before
