"""Every fault of a shard set is named with its remedy, by the reader and by the verification."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.shards.damage import DamageLog, OnDamage
from convbert.data_pipeline.shards.manifest import Manifest, Shard, load_index
from convbert.data_pipeline.shards.verify import verify_shards
from convbert.models.errors import UserError

SECOND = "shard-000001"


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def flip_payload(folder: Path) -> None:
    member = load_index(folder, second(folder)).members[1]
    flip(folder / f"{SECOND}.tar", member.offset + member.size // 2)


def flip_tar_header(folder: Path) -> None:
    member = load_index(folder, second(folder)).members[1]
    flip(folder / f"{SECOND}.tar", member.offset - 512 + 100)


def truncate(folder: Path) -> None:
    path = folder / f"{SECOND}.tar"
    os.truncate(path, path.stat().st_size // 2)


def remove_shard(folder: Path) -> None:
    (folder / f"{SECOND}.tar").unlink()


def remove_index(folder: Path) -> None:
    (folder / f"{SECOND}.index.json").unlink()


def index_of_another_build(folder: Path) -> None:
    path = folder / f"{SECOND}.index.json"
    path.write_text(path.read_text().replace('"sequences":512', '"sequences":511', 1) + "\n")


def directory_in_place(folder: Path) -> None:
    remove_shard(folder)
    (folder / f"{SECOND}.tar").mkdir()


def loop_in_place_of_the_index(folder: Path) -> None:
    remove_index(folder)
    (folder / f"{SECOND}.index.json").symlink_to(f"{SECOND}.index.json")


def second(folder: Path) -> Shard:
    return Manifest.load(folder).shards[1]


# What is done, the kinds that verification finds, and what the reader says.
DAMAGES: list[tuple[Callable[[Path], None], set[str], str]] = [
    (flip_payload, {"digest", "crc"}, rf"{SECOND}.tar: member 0.*npy is damaged .*; copy"),
    (flip_tar_header, {"digest", "tar"}, rf"{SECOND}.tar: the tar header of .*damaged .*; copy"),
    (truncate, {"size", "crc", "tar"}, rf"{SECOND}.tar: ends inside member .*; copy"),
    (remove_shard, {"missing"}, rf"{SECOND}.tar: cannot be opened \(No such file.*; copy"),
    (remove_index, {"index"}, rf"{SECOND}.index.json: missing; copy"),
    (index_of_another_build, {"index"}, rf"{SECOND}.index.json: is not the index .*; copy"),
    (
        directory_in_place,
        {"unreadable"},
        rf"{SECOND}.tar: cannot be read \(Is a directory\); start",
    ),
    (
        loop_in_place_of_the_index,
        {"unreadable"},
        rf"{SECOND}.index.json: cannot be opened \(Too many levels of symbolic links\); start",
    ),
]


@pytest.mark.parametrize(("damage", "kinds", "message"), DAMAGES)
def test_verification_names_shard_kind_and_remedy(
    spoilable: Path, damage: Callable[[Path], None], kinds: set[str], message: str
) -> None:
    damage(spoilable)
    faults = verify_shards(spoilable)
    assert {fault.kind for fault in faults} == kinds
    for fault in faults:
        assert fault.shard == f"{SECOND}.tar"
        assert fault.remedy in str(fault)
        assert "\n" not in str(fault)


@pytest.mark.parametrize(("damage", "kinds", "message"), DAMAGES)
def test_the_loader_stops_at_the_damage(
    spoilable: Path, damage: Callable[[Path], None], kinds: set[str], message: str
) -> None:
    damage(spoilable)
    loader = ShardLoader(spoilable, global_batch=2000)
    with pytest.raises(UserError, match=message) as stopped:
        [loader.batch(step) for step in range(2)]
    assert "\n" not in str(stopped.value)


def test_an_id_beyond_the_vocabulary_is_never_handed_out(spoilable: Path) -> None:
    path = spoilable / "manifest.json"
    said = Manifest.load(spoilable).vocab_size
    path.write_text(path.read_text().replace(f'"vocab_size": {said}', '"vocab_size": 300'))
    assert Manifest.load(spoilable).vocab_size == 300
    with pytest.raises(UserError, match=r"tar: member .* holds the id \d+, but .* vocab_size 300"):
        ShardLoader(spoilable, global_batch=100).batch(0)


SKIPPABLE = [(damage, message) for damage, kinds, message in DAMAGES if kinds != {"unreadable"}]


@pytest.mark.parametrize(("damage", "message"), SKIPPABLE)
def test_a_run_that_skips_replaces_damaged_blocks_only_and_records_them(
    tmp_path: Path, spoilable: Path, damage: Callable[[Path], None], message: str
) -> None:
    whole = ShardLoader(spoilable, global_batch=2000)
    expected = [whole.batch(step).input_ids for step in range(4)]
    order = whole.streams[0].order
    damage(spoilable)
    log = DamageLog(tmp_path / "damage")

    def loader(rank: int, world: int, policy: OnDamage = "skip") -> ShardLoader:
        return ShardLoader(
            spoilable,
            global_batch=2000,
            rank=rank,
            world_size=world,
            on_damage=policy,
            damage=log,
        )

    alone = loader(0, 1)
    found = [alone.batch(step).input_ids for step in range(4)]
    skipped = {n for block in log.read() for n in range(block.first, block.last)}
    stored = np.concatenate([order.sequences(s * 2000, (s + 1) * 2000) for s in range(4)])
    same = (torch.cat(found) == torch.cat(expected)).all(1).numpy()
    replaced = np.isin(stored, list(skipped))
    assert same[~replaced].all()
    assert not same[replaced].all()
    shard = second(spoilable)
    assert skipped <= set(range(shard_start(spoilable), shard_start(spoilable) + shard.sequences))
    assert len(skipped) == 512 or (
        len(skipped) > 512 and damage not in (flip_payload, flip_tar_header)
    )
    for block in log.read():
        assert re.search(message, block.reason)
        assert block.manifest == Manifest.load(spoilable).digest
        assert block.substitute not in skipped
    # Other ranks, and a run that goes on under another policy and world size, read the same.
    for step in range(2):
        parts = [loader(rank, 4).batch(step).input_ids for rank in range(4)]
        assert torch.equal(torch.cat(parts), found[step])
    assert torch.equal(loader(0, 1, "stop").batch(1).input_ids, found[1])


def shard_start(folder: Path) -> int:
    return Manifest.load(folder).shards[0].sequences


def test_what_was_skipped_stays_skipped_after_a_repair(tmp_path: Path, spoilable: Path) -> None:
    shutil.copytree(spoilable, tmp_path / "good")
    flip_payload(spoilable)
    log = DamageLog(tmp_path / "damage")
    options = {"global_batch": 4000, "damage": log}
    found = ShardLoader(spoilable, on_damage="skip", **options).batch(0).input_ids  # type: ignore[arg-type]
    repaired = ShardLoader(tmp_path / "good", **options).batch(0).input_ids  # type: ignore[arg-type]
    fresh = ShardLoader(tmp_path / "good", global_batch=4000).batch(0).input_ids
    assert torch.equal(found, repaired)
    assert not torch.equal(found, fresh)


def test_skipping_stops_where_nothing_is_left_or_the_disk_is_gone(
    tmp_path: Path, spoilable: Path
) -> None:
    loader = ShardLoader(spoilable, global_batch=100, on_damage="skip")
    for path in spoilable.glob("*.tar"):
        path.unlink()
    with pytest.raises(UserError, match="no other block could be read in its place"):
        loader.batch(0)
    (spoilable / "manifest.json").rename(tmp_path / "manifest.json")
    with pytest.raises(UserError, match=r"manifest\.json: is gone; check that its file system"):
        loader.batch(0)


def test_an_unreadable_record_is_named(tmp_path: Path, spoilable: Path) -> None:
    (tmp_path / "damage").mkdir()
    (tmp_path / "damage" / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"x\.json: not a record of a skipped block; restore it"):
        ShardLoader(spoilable, global_batch=100, damage=DamageLog(tmp_path / "damage"))


def test_the_wrong_tokenizer_is_refused_before_anything_is_read(spoilable: Path) -> None:
    for path in spoilable.glob("*.tar"):
        path.unlink()
    with pytest.raises(UserError, match=r"built with another tokenizer .* use that one or"):
        ShardLoader(spoilable, global_batch=100, tokenizer_digest="1" * 64)


def test_a_whole_set_has_no_faults_and_every_byte_is_reported(spoilable: Path) -> None:
    reported: list[int] = []
    assert verify_shards(spoilable, workers=2, report=reported.append) == []
    assert sorted(reported) == sorted(shard.bytes for shard in Manifest.load(spoilable).shards)


def test_faults_of_several_shards_come_in_order(spoilable: Path) -> None:
    for number in (2, 0):
        (spoilable / f"shard-{number:06d}.tar").unlink()
    names = [fault.shard for fault in verify_shards(spoilable, workers=3)]
    assert names == ["shard-000000.tar", "shard-000002.tar"]


def test_a_shard_of_another_set_is_reported(spoilable: Path) -> None:
    (spoilable / "shard-000099.tar").write_bytes(b"")
    (fault,) = verify_shards(spoilable)
    assert (fault.shard, fault.kind) == ("shard-000099.tar", "unlisted")


def test_wrong_counts_are_reported(spoilable: Path) -> None:
    manifest = Manifest.load(spoilable)
    shard = manifest.shards[1]
    shards = [manifest.shards[0], shard.model_copy(update={"sequences": shard.sequences + 1})]
    manifest.model_copy(update={"shards": [*shards, manifest.shards[2]]}).save(
        spoilable / "manifest.json"
    )
    faults = verify_shards(spoilable)
    assert [(fault.shard, fault.kind) for fault in faults] == [
        ("manifest.json", "count"),
        (f"{SECOND}.tar", "count"),
    ]


def test_a_wrong_sequence_length_is_reported(spoilable: Path) -> None:
    Manifest.load(spoilable).model_copy(update={"seq_len": 8}).save(spoilable / "manifest.json")
    faults = verify_shards(spoilable)
    assert {fault.kind for fault in faults} == {"count"}
    assert "(512, 16), not uint16 (512, 8)" in faults[0].detail


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"not a shard manifest \(Invalid JSON.*build the shards again"),
        ('{"format": 1}', r"not a shard manifest \(tool: .*build the shards again"),
        ('{"format": 2}', r"not a shard manifest"),
    ],
)
def test_an_unusable_manifest_is_named(spoilable: Path, content: str, message: str) -> None:
    (spoilable / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        verify_shards(spoilable)
    assert "\n" not in str(refused.value)


def test_a_damaged_index_is_not_called_missing_for_the_name_of_its_directory(
    spoilable: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "missing shards"
    shutil.copytree(spoilable, folder)
    index = sorted(folder.glob("*.index.json"))[0]
    index.write_bytes(index.read_bytes()[:-3])
    (damaged,) = (f for f in verify_shards(folder) if f.kind == "index")
    assert damaged.detail == f"{index.name} is of another build or damaged"
    index.unlink()
    (missing,) = (f for f in verify_shards(folder) if f.kind == "index")
    assert missing.detail == f"{index.name} is missing"
