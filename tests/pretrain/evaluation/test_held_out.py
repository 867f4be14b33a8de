"""Text that is not a run's own is a curve of its own."""

import shutil
from pathlib import Path

import pytest

from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.pretrain.evaluation.held_out import other_text


@pytest.mark.parametrize("ending", ["", "/manifest.json"])
def test_another_text_has_another_name(
    tmp_path: Path, corpus: Path, shards_dir: Path, tokenizer_dir: Path, ending: str
) -> None:
    build_shards([corpus], tokenizer_dir, tmp_path / "law, 2020", rows=RowSettings(32))
    own, other = f"{shards_dir}/manifest.json", f"{tmp_path / 'law, 2020'}{ending}"
    assert other_text(own, other) == "law_ 2020/"
    assert other_text(None, other) == ""  # what a run without one is measured on
    copy = shutil.copytree(shards_dir, tmp_path / "moved")
    assert other_text(own, f"{copy}{ending}") == ""  # the same text at another place
    assert other_text(str(tmp_path / "gone"), other) == "law_ 2020/"
