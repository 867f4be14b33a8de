"""Runs that go on with other settings, other data or on another machine: exactly, or refused."""

import json
import shutil
from pathlib import Path

import pytest
from forked import Zygote, wait_for

from convbert.data_pipeline.build import RowSettings, build_shards
from convbert.models.errors import UserError
from convbert.pretrain import commands
from convbert.pretrain.checkpoints import checkpoint

pytestmark = pytest.mark.integration


def rates(run: Path) -> dict[int, float]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {r["step"]: r["values"]["optimizer/learning_rate"] for r in records if "step" in r}


def test_a_finished_run_goes_on_as_the_longer_run(
    zygote: Zygote, read_losses, tmp_path: Path, capsys
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    zygote.finish(whole, "schedule.name=constant")
    zygote.finish(run, "schedule.name=constant", "steps=8")
    settings = [*zygote.settings, "schedule.name=constant", "steps=8"]
    assert commands.pretrain("tiny", settings, run, processes=2) == 0
    assert "has finished its 8 updates; raise steps to go on" in capsys.readouterr().out
    zygote.finish(run, "schedule.name=constant")
    assert read_losses(run) == read_losses(whole)


def test_a_schedule_that_would_change_finished_updates_is_refused_with_what_works(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    linear, wsd = "schedule.name=linear", ("schedule.name=wsd", "schedule.decay_fraction=0.4")
    zygote.finish(run, linear, "steps=8")
    with pytest.raises(UserError, match=r"update 4 would have had .*schedule.total_steps=8") as no:
        zygote.start(run, linear)
    assert "start: 8" in str(no.value)
    own = "{start: 8, learning_rate: 1.0e-4, schedule: {name: linear, warmup_steps: 2}}"
    zygote.finish(run, linear, "schedule.total_steps=8", f"phases=[{own}]")
    found = rates(run)
    assert sorted(found) == list(range(1, 13))
    assert [found[step] for step in range(9, 13)] == pytest.approx([5e-5, 1e-4, 1e-4, 5e-5])

    # Stable until update 5, then decaying: only the checkpoint before is one of the longer run.
    whole, run = tmp_path / "whole", tmp_path / "wsd"
    zygote.finish(whole, *wsd)
    zygote.finish(run, *wsd, "steps=8", "checkpoint.keep_last=3")
    with pytest.raises(UserError, match=r"update 7 .*remove the checkpoints after step 4"):
        zygote.start(run, *wsd)
    shutil.rmtree(checkpoint.directory(run / "checkpoints", 8))
    zygote.finish(run, *wsd)
    assert read_losses(run) == read_losses(whole)
    with pytest.raises(UserError, match="steps=8 is less than the 12 updates"):
        zygote.start(run, *wsd, "steps=8")


def test_other_sequences_in_the_place_of_the_shards_are_refused(
    zygote: Zygote, shards_dir: Path, tokenizer_dir: Path, documents: list[str], tmp_path: Path
) -> None:
    run, shards, other = tmp_path / "run", tmp_path / "shards", tmp_path / "other.txt"
    shutil.copytree(shards_dir, shards)
    data = f"data.manifest={shards / 'manifest.json'}"
    zygote.finish(run, data, "schedule.name=constant", "steps=4")
    shutil.rmtree(shards)
    other.write_text("\n\n".join(reversed(documents)))
    build_shards([other], tokenizer_dir, shards, rows=RowSettings(64))
    started = zygote.start(run, data, "schedule.name=constant")
    assert started.wait() == [2, 2]
    assert "is not the data this run was trained on" in started.log.read_text()

    shutil.rmtree(shards)
    shutil.copytree(shards_dir, shards)
    zygote.finish(run, data, "schedule.name=constant")


def test_a_lost_run_directory_goes_on_from_the_uploaded_checkpoint(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    whole, lost, new = (tmp_path / name for name in ("whole", "lost", "new"))
    upload = f"checkpoint.upload=file://{tmp_path / 'store'}"
    zygote.finish(whole)
    started = zygote.start(lost, upload, faults={"pace": {"seconds": 0.1}})
    copied = tmp_path / "store" / "step-00000008" / "manifest.json"
    wait_for(copied.exists)
    started.kill(0)
    started.wait()
    shutil.rmtree(lost)
    zygote.finish(new, upload, "deepspeed=zero2")
    assert "fetching step-00000008 from" in (new / "output.log").read_text()
    expected = read_losses(whole)
    found = read_losses(new)
    assert sorted(found) == [9, 10, 11, 12]
    for step, values in found.items():
        assert values == pytest.approx(expected[step], rel=1e-6)
    assert (tmp_path / "store" / "step-00000012" / "manifest.json").exists()
