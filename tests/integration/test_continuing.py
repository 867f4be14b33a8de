"""Runs that go on with other settings, other data or on another machine: exactly, or refused."""

import json
import shutil
from pathlib import Path

import pytest
from forked import Zygote, wait_for

from convbert.data_pipeline.packing.build import RowSettings, build_shards
from convbert.models.errors import DamagedError, UserError
from convbert.pretrain.cli.training import pretrain
from convbert.pretrain.exchange.export import export_checkpoint
from convbert.pretrain.exchange.trained_model import load_model
from convbert.pretrain.run.checkpoint_manifest import (
    checkpoint_directory,
    checkpoint_steps,
    verify,
)
from convbert.pretrain.run.claim import HeldError
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.preparation import prepare

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
    upload = f"checkpoint.upload=file://{tmp_path / 'store'}"
    settings = [*zygote.settings, "schedule.name=constant", "steps=8", upload]
    pretrain("tiny", settings, run, processes=2)  # raises typer.Exit where it fails
    assert verify(tmp_path / "store" / "run" / "step-00000008").step == 8
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
    shutil.rmtree(checkpoint_directory(run / "checkpoints", 8))
    zygote.finish(run, *wsd)
    assert read_losses(run) == read_losses(whole)
    with pytest.raises(UserError, match="steps=8 is less than the 12 updates"):
        zygote.start(run, *wsd, "steps=8")


def files(folder: Path) -> dict[str, bytes | None]:
    """Return everything below a folder."""
    found = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found}


def test_a_command_that_is_refused_changes_nothing_and_the_checkpoint_knows_the_run(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    zygote.finish(whole, processes=1)
    hang = {"hang": {"on": 0, "step": 7}}
    training = zygote.start(run, processes=1, faults=hang)
    wait_for(checkpoint_directory(run / "checkpoints", 4).is_dir)
    config = (run / "config.yaml").read_bytes()
    environment = (run / "environment.json").read_bytes()
    quicker = "checkpoint.every=2"  # would be allowed if nobody trained the run
    for command in (pretrain, prepare):
        with pytest.raises(HeldError, match="tracked by a running process"):
            command("tiny", [*zygote.settings, quicker], run, 1)
    prepare("tiny", zygote.settings, run, 1)  # says the same
    assert (run / "config.yaml").read_bytes() == config
    assert (run / "environment.json").read_bytes() == environment
    training.kill(0)
    training.wait()

    before = files(run)
    other = ("optimizer.learning_rate=5e-3", r"update 2 would have had a learning rate of 0.002292")
    for setting, reason in (other, ("seed=1", r"with other settings \(seed: 0 -> 1\)")):
        with pytest.raises(UserError, match=reason):
            pretrain("tiny", [*zygote.settings, setting], run, 1)
    assert files(run) == before

    # A file that says something else decides nothing, neither for the command nor for the worker.
    (run / "config.yaml").write_bytes(config.replace(b"seed: 0", b"seed: 1"))
    started = zygote.launch(run, 1)
    assert started.wait() == [2]
    assert "step-00000004: this run was started with other settings (seed: 0 -> 1)" in (
        started.log.read_text()
    )
    with pytest.raises(UserError, match=r"with other settings \(seed: 0 -> 1\)"):
        load_model(RunDirectory(run))
    zygote.finish(run, "checkpoint.keep_last=2", processes=1)
    assert read_losses(run) == read_losses(whole)

    # Nor does a new directory, in which there is none.
    copied = tmp_path / "copied"
    (copied / "checkpoints").mkdir(parents=True)
    last = checkpoint_directory(run / "checkpoints", 8)
    shutil.copytree(last, copied / "checkpoints" / last.name)
    before = files(copied)
    for setting in ("seed=1", "global_batch=16", "optimizer.clip=0.5"):
        with pytest.raises(UserError, match="with other settings"):
            pretrain("tiny", [*zygote.settings, setting], copied, 1)
    assert files(copied) == before
    zygote.finish(copied, processes=1)
    assert read_losses(copied) == {s: v for s, v in read_losses(whole).items() if s > 8}


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
    before = files(run)
    with pytest.raises(UserError, match="is not the data this run was trained on"):
        pretrain("tiny", [*zygote.settings, data, "schedule.name=constant"], run, 2)
    assert files(run) == before
    started = zygote.launch(run)
    assert started.wait() == [2, 2]
    assert "is not the data this run was trained on" in started.log.read_text()

    shutil.rmtree(shards)
    shutil.copytree(shards_dir, shards)
    zygote.finish(run, data, "schedule.name=constant")


def test_a_lost_run_directory_goes_on_from_the_uploaded_checkpoint(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    whole, lost, new = (tmp_path / name for name in ("whole", "here/run", "elsewhere/run"))
    upload = f"checkpoint.upload=file://{tmp_path / 'store'}"
    zygote.finish(whole)
    started = zygote.start(lost, upload, faults={"pace": {"seconds": 0.1}})
    copied = tmp_path / "store" / "run" / "step-00000008" / "manifest.json"
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
    assert (tmp_path / "store" / "run" / "step-00000012" / "manifest.json").exists()

    other = zygote.start(tmp_path / "other" / "run", upload, "seed=1")
    assert other.wait()[0] == 2
    assert "with other settings (seed: 0 -> 1)" in other.log.read_text()


def test_no_process_leaves_before_the_last_upload(zygote: Zygote, tmp_path: Path) -> None:
    run, store = tmp_path / "run", tmp_path / "store"
    settings = (f"checkpoint.upload=file://{store}", "steps=4")
    started = zygote.start(run, *settings, faults={"slow_uploads": {"seconds": 2}})
    state = Path(f"/proc/{started.pids[1]}/stat")
    wait_for(lambda: state.read_text().split(") ")[1].startswith("Z"))
    assert verify(store / "run" / "step-00000004").step == 4
    assert started.wait() == [0, 0]


def test_the_wait_for_uploads_ends_before_the_watchdog_ends_the_run(
    zygote: Zygote, tmp_path: Path
) -> None:
    settings = (f"checkpoint.upload=file://{tmp_path / 'store'}", "steps=4")
    fault = {"slow_uploads": {"seconds": 60}}
    started = zygote.start(tmp_path / "run", *settings, "guards.hang_seconds=8", faults=fault)
    assert started.wait() == [0, 0]
    assert "steps 4 are not uploaded" in started.log.read_text()


def cut(folder: Path) -> None:
    file = folder / "state-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def test_damaged_checkpoints_are_set_aside_and_a_run_with_no_other_does_not_begin_anew(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    run, root = tmp_path / "run", tmp_path / "run" / "checkpoints"
    zygote.finish(run, "checkpoint.keep_last=3")
    before = read_losses(run)
    for step in (8, 12):
        cut(checkpoint_directory(root, step))
    directory = RunDirectory(run)
    assert not directory.finished(directory.open())
    with pytest.raises(DamagedError, match=r"step-00000012.*again.*another step \(4, 8\)"):
        export_checkpoint(directory, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    zygote.finish(run, "checkpoint.every=5", "checkpoint.keep_last=2")
    assert checkpoint_steps(root) == [10, 12]
    assert sorted(p.name for p in root.glob("damaged-*")) == [
        "damaged-step-00000008",
        "damaged-step-00000012",
    ]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    damaged = [r["facts"] for r in records if r.get("event") == "checkpoint_damaged"]
    assert damaged == [{"checkpoint": 8}, {"checkpoint": 12}]
    assert read_losses(run) == before

    for step in (10, 12):
        cut(checkpoint_directory(root, step))
    started = zygote.start(run)
    assert started.wait()[0] == 2
    assert "no checkpoint can be used" in started.log.read_text()
    assert checkpoint_steps(root) == [10, 12]
    assert read_losses(run) == before
