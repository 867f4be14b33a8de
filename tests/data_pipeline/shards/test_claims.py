"""What a manifest says of its rows is compared with the rows and with the tokenizer."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.store import SequenceStore
from convbert.data_pipeline.shards.verify import Fault, verify_shards
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.cli import app

PAD, CLS, SEP, TEXT, UNUSED = 0, 2, 3, 300, 900_000  # of a tokenizer trained here


@pytest.fixture(scope="module")
def sets(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, tokenizer_dir: Path
) -> dict[str, Path]:
    """Built sets of short and long rows, so with much and with little padding."""
    folder = tmp_path_factory.mktemp("claims")
    for packing in ("electra", "full"):
        rows = RowSettings(64, packing, 200_000)  # type: ignore[arg-type]
        build_shards([corpus], tokenizer_dir, folder / packing, rows=rows)
    return {packing: folder / packing for packing in ("electra", "full")}


def altered(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """Return a copy with another manifest; its tars and indexes are those of the build."""
    copy = tmp_path / "altered"
    copytree(folder, copy)
    Manifest.load(copy).model_copy(update=changes).save(copy / "manifest.json")
    return copy


def only(faults: list[Fault]) -> Fault:
    (fault,) = faults
    assert fault.shard == "manifest.json"
    assert "\n" not in str(fault)
    assert fault.remedy in str(fault)
    return fault


@pytest.mark.parametrize("packing", ["electra", "full"])
@pytest.mark.parametrize("known", [False, True])
def test_a_build_has_no_faults(
    sets: dict[str, Path], packing: str, known: bool, tokenizer_dir: Path
) -> None:
    tokenizer = Tokenizer.load(tokenizer_dir) if known else None
    assert len(Manifest.load(sets[packing]).shards) > 1
    assert verify_shards(sets[packing], tokenizer=tokenizer) == []


@pytest.mark.parametrize("packing", ["electra", "full"])
@pytest.mark.parametrize(
    ("field", "value", "shows"),
    [
        ("pad_id", TEXT, "ends with id 0"),
        ("pad_id", CLS, "ends with id 0"),
        ("pad_id", SEP, "ends with id 0"),
        ("pad_id", UNUSED, "ends with id 0"),
        ("pad_id", -1, "ends with id 0"),
        ("cls_id", TEXT, "begins with id 2"),
        ("cls_id", SEP, "begins with id 2"),
        ("cls_id", PAD, "begins with id 2"),
        ("sep_id", TEXT, "ends with id 3"),
        ("sep_id", CLS, "ends with id 3"),
        ("sep_id", PAD, "ends with id 3"),
        ("vocab_size", TEXT, "holds id"),
        ("vocab_size", 70_000, "is of uint16"),
    ],
)
def test_ids_that_the_rows_do_not_have_are_named(
    sets: dict[str, Path], tmp_path: Path, packing: str, field: str, value: int, shows: str
) -> None:
    fault = only(verify_shards(altered(sets[packing], tmp_path, **{field: value})))
    assert fault.kind == field
    assert f"says {field} {value}, but row " in fault.detail
    assert f".npy {shows}" in fault.detail
    blocks = -(-Manifest.load(sets[packing]).num_sequences // 512)
    if not (field == "pad_id" and packing == "full"):  # where few rows have padding
        assert fault.detail.endswith(f"({blocks} of {blocks} blocks are like that)")


@pytest.mark.parametrize(("built", "said"), [("electra", "full"), ("full", "electra")])
def test_rows_packed_otherwise_are_named(
    sets: dict[str, Path], tmp_path: Path, built: str, said: str
) -> None:
    fault = only(verify_shards(altered(sets[built], tmp_path, packing=said)))
    assert fault.kind == "packing"
    assert f"says packing {said}, but row " in fault.detail


@pytest.mark.parametrize("packing", ["electra", "full"])
@pytest.mark.parametrize("more", [1, -1])
def test_tokens_are_counted(sets: dict[str, Path], tmp_path: Path, packing: str, more: int) -> None:
    manifest = Manifest.load(sets[packing])
    rows = SequenceStore(manifest, sets[packing]).read([(0, manifest.num_sequences)])
    found = int((rows != PAD).sum())
    fault = only(verify_shards(altered(sets[packing], tmp_path, num_tokens=found + more)))
    assert fault.kind == "num_tokens"
    assert fault.detail == f"says num_tokens {found + more}, its shards hold {found}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokenizer_digest", "7" * 64),
        ("vocab_size", 1001),
        ("vocab_size", 999),
        ("pad_id", UNUSED),
        ("cls_id", TEXT),
        ("sep_id", TEXT),
    ],
)
def test_the_tokenizer_is_compared_by_the_command(
    sets: dict[str, Path], tmp_path: Path, tokenizer_dir: Path, field: str, value: int | str
) -> None:
    copy = altered(sets["electra"], tmp_path, **{field: value})
    known = Tokenizer.load(tokenizer_dir)
    right = getattr(known, field.removeprefix("tokenizer_"))
    arguments = ["shards", "verify", str(copy), "-t", str(tokenizer_dir)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    said = f"manifest.json: says {field} {value}, the tokenizer has {right}; "
    assert said in done.output
    assert f"{copy}: 1 fault(s) in " in " ".join(done.output.split())


def test_a_block_that_stands_out_is_found_among_others(
    electra: tuple[Path, np.ndarray], make_shards: Callable[..., Manifest], tmp_path: Path
) -> None:
    rows = electra[1].copy()
    rows[[700, 701], 0] = 7
    make_shards(tmp_path / "odd", rows)
    fault = only(verify_shards(tmp_path / "odd"))
    assert fault.kind == "cls_id"
    assert "row 188 of shard-000000.tar, 000000001.npy begins with id 7" in fault.detail
    assert fault.detail.endswith("(1 of 10 blocks are like that)")
