"""Branches of a run: what the longer run would have been, or refused before anything is written."""

import shutil
from pathlib import Path

import pytest
from forked import Zygote, wait_for
from safetensors.torch import load_file

from convbert.models.errors import UserError
from convbert.pretrain.checkpoints.branching import prepare_branches
from convbert.pretrain.cli.training import branch, pretrain
from convbert.pretrain.run.branches import read_origin
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.preparation import prepare

pytestmark = pytest.mark.integration

STABLE = ("schedule.name=constant", "checkpoint.keep_every=4")


def tensors(run: Path, step: int) -> dict[str, bytes]:
    """Return parameters and moments, as bytes, of the checkpoint of ``step``."""
    folder = checkpoint_directory(run / "checkpoints", step)
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= {name: t.numpy().tobytes() for name, t in load_file(file).items()}
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_a_branch_equals_a_run_that_decays_at_the_same_update(
    zygote: Zygote, read_losses, tmp_path: Path, processes: int
) -> None:
    trunk, whole = tmp_path / "trunk", tmp_path / "whole"
    # Of 11 updates the last three decay.
    wsd = ("steps=11", "schedule.name=wsd", f"schedule.decay_fraction={3 / 11}")
    zygote.finish(whole, *wsd, processes=processes)
    training = zygote.start(trunk, *STABLE, processes=processes, faults={"pace": {"seconds": 0.5}})
    wait_for(checkpoint_directory(trunk / "checkpoints", 8).is_dir)
    (made,) = prepare_branches(RunDirectory(trunk), [8], "3")  # while the trunk trains
    training.kill(0)
    training.wait()
    shutil.rmtree(trunk)
    zygote.finish(made.run.path, processes=processes)
    found, expected = read_losses(made.run.path), read_losses(whole)
    assert sorted(found) == [9, 10, 11]
    assert found == {step: expected[step] for step in found}
    assert tensors(made.run.path, 11) == tensors(whole, 11)
    assert made.run.finished(made.run.open())


def test_batches_that_the_trunk_left_out_stay_left_out(
    zygote: Zygote, read_losses, tmp_path: Path
) -> None:
    trunk, whole = tmp_path / "trunk", tmp_path / "whole"
    fault = {"poison": {"batches": [5], "where": "loss", "on": 0}}
    skip = ("guards.on_nan=rollback", "checkpoint.keep_every=4")
    wsd = ("steps=11", "schedule.name=wsd", f"schedule.decay_fraction={3 / 11}")
    zygote.finish(whole, *wsd, *skip, faults=fault)
    zygote.finish(trunk, "schedule.name=constant", *skip, faults=fault)
    (made,) = prepare_branches(RunDirectory(trunk), [8], "3")
    zygote.finish(made.run.path)
    found, expected = read_losses(made.run.path), read_losses(whole)
    assert found == {step: expected[step] for step in (9, 10, 11)}


@pytest.fixture(scope="module")
def trunk(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("stable") / "trunk"
    zygote.finish(run, *STABLE, processes=1)
    return run


def test_the_command_prepares_branches_and_pretrain_trains_them(
    trunk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(trunk, [8, 4], ["schedule.final_ratio=0.5"], "25%", tmp_path, False, None)
    said = capsys.readouterr().out
    first, second = tmp_path / "trunk-at-4-decay-1", tmp_path / "trunk-at-8-decay-2"
    assert f"convbert pretrain {first}" in said
    origin = read_origin(second)
    assert origin
    assert (origin.trunk, origin.path, origin.key) == ("trunk", trunk, None)
    assert (origin.step, origin.end, origin.end_flops / origin.flops) == (8, 10, 1.25)
    assert origin.hours
    assert checkpoint_steps(second / "checkpoints") == [8]
    assert checkpoint_steps(trunk / "checkpoints") == [4, 8, 12]
    assert RunDirectory(first).recipe == "tiny"

    pretrain(str(first), ["tracking.log_every=5"])
    assert checkpoint_steps(first / "checkpoints") == [4, 5]
    pretrain(str(first))
    assert "has finished its 5 updates" in capsys.readouterr().out
    assert RunDirectory(first).recipe == "tiny"
    # It may decay on other data, but not have read other data before.
    manifest = RunDirectory(second).open().data.manifest
    prepare(str(second), [f"phases=[{{start: 8, manifest: {manifest}}}]"], None, 1)
    with pytest.raises(UserError, match="update 8 would have read other data"):
        prepare(str(second), [f"phases=[{{start: 7, manifest: {manifest}}}]"], None, 1)
    # The first checkpoint of a branch is its trunk's, and so is a branch of it.
    (again,) = prepare_branches(RunDirectory(first), [4], "2", output=tmp_path / "more")
    assert (again.origin.trunk, again.origin.family) == ("trunk", str(trunk))
    with pytest.raises(UserError, match="own decay, which begins at 4"):
        prepare_branches(RunDirectory(first), [5], "2", output=tmp_path / "more")


def test_what_cannot_branch_is_refused_and_nothing_is_left(trunk: Path, tmp_path: Path) -> None:
    run = RunDirectory(trunk)
    cases = [
        ([4, 6], "3", [], r"checkpoints: no checkpoint of step 6; there are: 4, 8, 12"),
        ([4], "0", [], "--decay 0"),
        ([4, 8], "1", ["seed=3"], "seed: 0 -> 3: a branch continues its trunk"),
        ([4], "1", ["steps=30"], "steps: 12 -> 30: a branch continues"),
        ([4], "1", ["model.preset=what"], "model.preset"),
        ([4, 8], "1", ["checkpoint.evry=3"], "checkpoint.evry: unknown key"),
    ]
    for steps, decay, overrides, message in cases:
        with pytest.raises(UserError, match=message):
            prepare_branches(run, steps, decay, overrides=overrides, output=tmp_path)
    with pytest.raises(UserError, match="global_batch=8 cannot be divided over 3 processes"):
        prepare_branches(run, [4], "1", output=tmp_path, world=3)
    taken = tmp_path / "trunk-at-8-decay-1"
    taken.mkdir()
    with pytest.raises(UserError, match="trunk-at-8-decay-1: exists already; train it with"):
        prepare_branches(run, [4, 8], "1", output=tmp_path)
    taken.rmdir()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="not a run directory"):
        prepare_branches(RunDirectory(tmp_path), [4], "1")


def test_a_damaged_checkpoint_is_no_start(trunk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trunk, copy)
    file = checkpoint_directory(copy / "checkpoints", 8) / "state-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"SHA-256 differs"):
        prepare_branches(RunDirectory(copy), [8], "1", output=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
