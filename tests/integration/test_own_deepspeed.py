"""A DeepSpeed file of the user's own trains what ``config.yaml`` says."""

import json
import os
from pathlib import Path

import pytest
from forked import Zygote

from convbert.models.errors import UserError
from convbert.pretrain.settings.recipes import load

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_the_shortest_file_gives_the_losses_of_the_shipped_one(
    zygote: Zygote, read_losses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``gradient_accumulation_steps`` DeepSpeed itself would update after every half."""
    monkeypatch.chdir(tmp_path)
    Path("own.json").write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    settings = ("micro_batch=2", "optimizer.clip=0.1", "precision=bf16")
    zygote.finish(tmp_path / "shipped", *settings, "deepspeed=zero2")
    zygote.finish(tmp_path / "own", *settings, "deepspeed=own.json")
    assert read_losses(tmp_path / "own") == read_losses(tmp_path / "shipped")
    # It is found from wherever the run goes on.
    said = load(tmp_path / "own" / "config.yaml").deepspeed
    assert said == os.path.realpath(tmp_path / "own.json")


def test_a_file_that_fixes_another_value_leaves_no_directory(
    zygote: Zygote, tmp_path: Path
) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"gradient_clipping": 5.0}))
    with pytest.raises(UserError, match=r"gradient_clipping=5\.0, but the run decides 1\.0"):
        zygote.start(tmp_path / "run", f"deepspeed={own}")
    assert not (tmp_path / "run").exists()
