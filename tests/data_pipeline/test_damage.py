"""Every fault of a shard set is named with its remedy, by the reader and by the verification."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from convbert.data_pipeline.loader import ShardLoader
from convbert.data_pipeline.manifest import Manifest, Shard, load_index
from convbert.data_pipeline.verify import verify_shards
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
    (directory_in_place, {"unreadable"}, rf"{SECOND}.tar: cannot be read \(Is a directory\); copy"),
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
        ("{", r"not a shard manifest \(file: .*build the shards again"),
        ('{"format": 1}', r"not a shard manifest \(tool: .*build the shards again"),
        ('{"format": 2}', r"not a shard manifest"),
    ],
)
def test_an_unusable_manifest_is_named(spoilable: Path, content: str, message: str) -> None:
    (spoilable / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        verify_shards(spoilable)
    assert "\n" not in str(refused.value)
