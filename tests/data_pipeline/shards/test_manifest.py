"""The manifest's digest names a corpus for as long as its file exists."""

import json
from pathlib import Path

import numpy as np
import pytest

from convbert.data_pipeline.shards.manifest import Manifest, Shard
from convbert.models.errors import UserError

Electra = tuple[Path, np.ndarray]


class LaterShard(Shard):
    """A shard as a later version may describe it."""

    source: str = "unknown"


class LaterManifest(Manifest):
    """A manifest as a later version may describe it."""

    shards: list[LaterShard]  # type: ignore[assignment]
    mixture: str = ""


def test_digest_is_the_same_before_and_after_saving(electra: Electra, tmp_path: Path) -> None:
    manifest = Manifest.load(electra[0])
    fresh = Manifest(**manifest.model_dump(exclude={"format"}))
    assert fresh.digest == manifest.digest
    fresh.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path).digest == manifest.digest


def test_fields_of_a_later_version_leave_older_corpora_their_name(electra: Electra) -> None:
    folder, _ = electra
    assert LaterManifest.load(folder).digest == Manifest.load(folder).digest
    content = json.loads((folder / "manifest.json").read_text())
    mixed = LaterManifest(**{**content, "mixture": "books"})
    assert mixed.digest != Manifest.load(folder).digest


@pytest.mark.parametrize("field", ["tool", "tokenizer_digest", "packing", "num_sequences", "build"])
def test_every_statement_is_part_of_the_name(electra: Electra, field: str) -> None:
    manifest = Manifest.load(electra[0])
    other = {"packing": "full", "num_sequences": 1, "build": {"seed": 1}}.get(field, "other")
    assert manifest.model_copy(update={field: other}).digest != manifest.digest
    shards = [shard.model_copy(update={"sha256": "0"}) for shard in manifest.shards]
    assert manifest.model_copy(update={"shards": shards}).digest != manifest.digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_sequences": 7}, r"states 7 sequences, its shards [\d,]+; it was edited or damaged"),
        ({"num_sequences": 0}, "num_sequences"),
        ({"seq_len": 0}, "seq_len"),
        ({"shards": []}, "shards"),
    ],
)
def test_a_manifest_that_was_edited_is_refused(
    electra: Electra, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    content = json.loads((electra[0] / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(content | changes))
    with pytest.raises(UserError, match=said) as error:
        Manifest.load(tmp_path)
    assert str(tmp_path / "manifest.json") in str(error.value)
    assert "build the shards again" in str(error.value)
