"""What `convbert plan` prints. Its memory is compared with allocations in the integration tests."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from convbert.models.errors import AbsentError, DamagedError, UserError
from convbert.pretrain.cli.plan import plan
from convbert.pretrain.planning import show
from convbert.pretrain.planning.plan import _divisors
from convbert.pretrain.planning.show import outline
from convbert.pretrain.settings.recipes import resolve


@pytest.mark.parametrize(("card", "precision"), [("t4", "fp32"), ("a100", "bf16")])
def test_auto_is_planned_as_the_precision_that_the_card_will_train_in(
    capsys: pytest.CaptureFixture[str], card: str, precision: str
) -> None:
    plan("tiny", ["global_batch=8"], 1, card, 0.4, 0.0)
    assert f"GB on one GPU, {precision}, rows of 128" in " ".join(capsys.readouterr().out.split())


def test_a_plan_that_is_measured_takes_the_memory_of_the_gpus_here(
    monkeypatch: pytest.MonkeyPatch, shards_dir: Path
) -> None:
    cards = []
    monkeypatch.setattr(show, "_memory_table", lambda *given: cards.append(given[3:5]))
    card = SimpleNamespace(total_memory=24e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    monkeypatch.setattr(show, "measured_duration", lambda *_: show.Duration(1, 1, "timed"))
    overrides = ["global_batch=8", f"data.manifest={shards_dir / 'manifest.json'}"]
    for gpus, name in ((None, None), (4, "h100")):
        show.show("tiny", overrides, gpus, name, None, 0.0, measure=2)
    assert [(gpus, found.memory) for gpus, found in cards] == [(2, 24e9), (4, 80e9)]


def planned(capsys: pytest.CaptureFixture[str], recipe: str, *overrides: str) -> str:
    plan(recipe, ["global_batch=8", *overrides], 1, "a100", 0.4, 0.0)
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, where the default places of shards hold nothing."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("recipe", "rows"), [("tiny", "rows of 128 tokens"), ("base-512", "rows of 128, then 512")]
)
def test_shards_that_are_not_built_yet_are_assumed(elsewhere: Path, recipe: str, rows: str) -> None:
    _, _, note = outline(recipe, resolve(recipe))
    assert note.startswith(f"no shards yet: 30,522 ids and {rows}")


def test_shards_that_are_there_are_read(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], shards_dir: Path
) -> None:
    (elsewhere / "shards").symlink_to(shards_dir)
    text = planned(capsys, "tiny")
    assert "no shards yet" not in text
    assert "rows of 64" in text


def test_a_damaged_manifest_is_an_error(elsewhere: Path) -> None:
    (elsewhere / "shards").mkdir()
    (elsewhere / "shards" / "manifest.json").write_text('{"format": 1')
    with pytest.raises(DamagedError, match=r"shards/manifest\.json: not a shard manifest"):
        plan("tiny", ["global_batch=8"])


@pytest.mark.parametrize(
    "override",
    [
        "data.manifest=mistyped/manifest.json",
        "data.sources=[{manifest: mistyped/manifest.json}]",
        "phases=[{start: 10, manifest: mistyped/manifest.json}]",
    ],
)
def test_a_manifest_that_the_user_named_and_that_is_not_there_is_an_error(
    elsewhere: Path, override: str
) -> None:
    with pytest.raises(AbsentError, match=r"mistyped/manifest\.json: no manifest"):
        plan("tiny", [override])


def test_a_large_batch_is_divided_without_trying_every_number() -> None:
    assert _divisors(12) == [12, 6, 4, 3, 2, 1]
    assert _divisors(999_999_937) == [999_999_937, 1]
    with pytest.raises(UserError, match=r"global_batch: give a number of at most 1e\+09"):
        resolve("tiny", ["global_batch=10000000000"])
