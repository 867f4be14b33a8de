"""From a configuration to what trains: networks, objective, optimizer and engine."""

import torch
from torch import nn

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import PretrainingConfig
from convbert.models.compiling import compile_layers
from convbert.models.encoder import Encoder
from convbert.models.heads import MaskedLMHead
from convbert.models.ops.compilation import compile_for_training
from convbert.models.pretraining import ReplacedTokenModel, build_model
from convbert.pretrain.engine.assembly import build_engine
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.engine.norms import PartNorms
from convbert.pretrain.exchange.initializing import initialize_from
from convbert.pretrain.objective.losses import Objective, build_objective
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.seeds import mix
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    require_graphs,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.run import RunConfig


def build_training(
    config: RunConfig, networks: PretrainingConfig, division: BatchDivision
) -> tuple[Engine, PartNorms]:
    """Build the engine of a run, with fresh or imported weights, and its norms by part."""
    objective = _objective(config, networks)
    deepspeed = resolve_deepspeed_config(
        load_deepspeed_config(config.deepspeed),
        precision=config.settled_precision,
        micro_batch=division.micro_batch,
        accumulation=division.accumulation,
        clip=config.optimizer.clip,
        world=division.world,
        pin_memory=torch.cuda.is_available(),
        place=config.deepspeed,
    )
    whole = updates_on_device(config, division.world)
    if config.replays_graphs and not whole:
        require_graphs(deepspeed, compiled=config.compiles)
    if config.compiles:
        _compile(objective, cuda_graphs=config.replays_graphs and not whole)
    held = held_in_warmup(objective) if config.objective.generator_warmup else ()
    engine, norms = build_engine(objective, deepspeed, config.optimizer, held=held)
    engine.replays_graphs = config.replays_graphs and not whole
    for part in objective.modules():
        if isinstance(part, MaskedLMHead):  # which evaluations call by itself
            engine.lend(part, part.vocabulary)
    return engine, norms


def updates_on_device(config: RunConfig, world: int) -> bool:
    """Return whether whole updates are work of the device alone, for a GPU to record as a graph.

    Nothing may be divided among processes or lie on the host, and no step may need the host: fp16
    scales its loss there, LAMB and Muon gather norms and matrices, bias correction counts.
    """
    zero = load_deepspeed_config(config.deepspeed).get("zero_optimization", {})
    return (
        config.replays_graphs
        and world == 1
        and zero.get("stage", 0) in (0, 1)
        and not zero.get("offload_optimizer")
        and config.settled_precision in ("bf16", "fp32")
        and config.optimizer.name == "adamw"
        and not config.optimizer.bias_correction
    )


def _compile(objective: Objective, *, cuda_graphs: bool) -> None:
    """Compile all of it on a GPU, where every launch counts, and one layer of a kind on a CPU."""
    if torch.cuda.is_available():
        compile_for_training(objective, cuda_graphs=cuda_graphs)
    else:
        compile_layers(objective)


def held_in_warmup(objective: Objective) -> set[str]:
    """Return the parameters that stay as they are while the generator alone learns.

    Those are all but its own: what it shares with the discriminator stays, and with ``gdes`` its
    tables, of which the discriminator's are made.
    """
    model = objective.model
    assert isinstance(model, ReplacedTokenModel)
    own = {id(p) for part in _generator(model) for p in part.parameters()}
    names = (name for name, p in objective.named_parameters() if id(p) not in own)
    return set(names)


def _generator(model: ReplacedTokenModel) -> list[nn.Module]:
    generator, apart = model.generator, model.config.tie_embeddings is False
    parts = [generator.project, generator.layers, model.generator_head]
    return [*parts, generator.embeddings] if apart else parts


def _objective(config: RunConfig, networks: PretrainingConfig) -> Objective:
    """Build the networks, the same on every process, and the losses on them."""
    torch.manual_seed(mix(config.seed, 0))
    model = build_model(networks)
    for module in model.modules():
        if isinstance(module, Encoder):
            module.gradient_checkpointing = config.activation_checkpointing
    if config.model.init_from:
        tokenizer = Tokenizer.load(config.data.tokenizer)
        initialize_from(model, config.model.init_from, config.model.adapt, tokenizer)
    return build_objective(model, config.objective)
