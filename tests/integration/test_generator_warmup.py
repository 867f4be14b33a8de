"""Updates in which only the generator learns: nothing else changes, whatever stops the run."""

from pathlib import Path

import pytest
import torch
from forked import Zygote, kill_after
from torch import Tensor

from convbert.models.errors import UserError
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.checkpoints.reader import CheckpointReader
from convbert.pretrain.objective.losses import build_objective
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.settings.objective import ObjectiveConfig
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.training.build import held_in_warmup

pytestmark = pytest.mark.integration

SETTINGS = ("steps=6", "checkpoint.every=1", "checkpoint.keep_last=6", "schedule.warmup_steps=0")
SETTINGS += ("objective.generator_warmup=4", "optimizer.weight_decay=0.1")


def parameters(run: Path, step: int) -> dict[str, Tensor]:
    return CheckpointReader(checkpoint_directory(run / "checkpoints", step)).parameters()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_only_the_generator_learns_also_after_a_kill(zygote: Zygote, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    zygote.finish(whole, *SETTINGS, processes=1)
    kill_after(zygote, run, 2, *SETTINGS, processes=1)
    zygote.finish(run, *SETTINGS, processes=1)
    assert not changed(parameters(whole, 6), parameters(run, 6))

    assert_only_the_generator_learnt(whole)


def assert_only_the_generator_learnt(run: Path) -> None:
    learnt = changed(parameters(run, 1), parameters(run, 4))
    assert learnt
    assert all(name.startswith(("model.generator.", "model.generator_head.")) for name in learnt)
    later = changed(parameters(run, 4), parameters(run, 5))
    assert "model.discriminator.embeddings.word.weight" in later
    assert any(name.startswith("model.discriminator.layers.0") for name in later)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero0", "zero2", "zero3"])
def test_it_does_so_in_every_stage_on_two_processes(
    zygote: Zygote, stage: str, tmp_path: Path
) -> None:
    lamb = ("optimizer.name=lamb",) if stage == "zero2" else ()
    zygote.finish(tmp_path / "run", *SETTINGS, *lamb, f"deepspeed={stage}")
    assert_only_the_generator_learnt(tmp_path / "run")


@pytest.mark.parametrize("tied", [True, False, "gdes"])
def test_what_both_networks_use_is_held(tied: object) -> None:
    shape = {"num_layers": 1, "hidden_size": 32, "embedding_size": 32, "num_heads": 4}
    networks = preset("tiny", vocab_size=20, tie_embeddings=tied, **shape)
    objective = build_objective(build_model(networks), ObjectiveConfig())
    held = held_in_warmup(objective)
    names = {name for name, _ in objective.named_parameters()}
    embeddings = {name for name in names if name.startswith("model.generator.embeddings.")}
    own = {name for name in names if name.startswith("model.generator")}
    assert bool(embeddings) == (tied is not True)
    assert names - held == (own if tied is False else own - embeddings)
    assert held


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["objective.generator_warmup=10"], "leaves nothing for the discriminator in steps=10"),
        (["objective.generator_warmup=2", "optimizer.name=muon"], "not made for .*muon"),
    ],
)
def test_a_warmup_that_cannot_be_is_refused(settings: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        resolve("tiny", ["steps=10", "schedule.warmup_steps=0", *settings])


@pytest.mark.parametrize("overrides", ["objective: mlm", "tie_encoders: true"])
def test_networks_without_a_generator_of_their_own_are_refused(
    zygote: Zygote, overrides: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="these networks have no generator of their own"):
        zygote.start(tmp_path / "run", *SETTINGS, f"model.overrides={{{overrides}}}", processes=1)
    assert not (tmp_path / "run").exists()
