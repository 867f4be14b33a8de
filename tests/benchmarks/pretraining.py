"""The whole pretraining step: generator, sampling, discriminator, backward pass and optimizer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from convbert.data_pipeline.loading.batch import Batch
from convbert.models.architecture import PretrainingConfig
from convbert.models.flops import training_flops_per_sequence
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.engine.optimizer import AdamW, parameter_groups
from convbert.pretrain.objective.losses import Normalizers, build_objective
from convbert.pretrain.objective.masking import MaskedBatch, SpecialIds, mask_batch
from convbert.pretrain.settings.objective import MaskingConfig, ObjectiveConfig
from tests.benchmarks.measuring import Comparison, Contender
from tests.benchmarks.rivals import TransformersDetection
from tests.benchmarks.suites import (
    Setting,
    compile_as_trained,
    compile_plainly,
    leave_eager,
    parameter_bytes,
)

SPECIAL = SpecialIds(pad=0, cls=101, sep=102, mask=103)
Loss = Callable[[], Tensor]


def pretraining(setting: Setting) -> Comparison:
    """A pretraining step on one batch, masked anew in every call."""
    convbert, electra = preset(setting.size), preset(f"electra-{setting.size}")
    batch = random_batch(setting)
    contenders = [
        rival(setting, "transformers ConvBERT, eager", convbert, batch, leave_eager),
        rival(setting, "transformers ConvBERT, compiled", convbert, batch, compile_plainly),
        ours(setting, "our ELECTRA, compiled", electra, batch, compile_as_trained),
        ours(setting, "our ConvBERT, eager", convbert, batch, leave_eager),
        ours(setting, "our ConvBERT, compiled", convbert, batch, compile_as_trained),
    ]
    title = "pretraining step with masking and AdamW"
    return Comparison(title, setting.tokens, contenders)


def random_batch(setting: Setting) -> Batch:
    """Return rows of one document without padding."""
    ids = setting.ids(preset(setting.size).discriminator.vocab_size - 1000) + 1000
    return Batch(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        document_ids=torch.ones_like(ids),
        positions=torch.arange(setting.batch, device=ids.device),
        packed=False,
    )


def mask(batch: Batch) -> MaskedBatch:
    """Mask 15 % of the positions."""
    return mask_batch(MaskingConfig(), SPECIAL, 0, batch)


def rival(
    setting: Setting,
    name: str,
    config: PretrainingConfig,
    batch: Batch,
    compile_it: Callable[[nn.Module], None],
) -> Contender:
    """Return a step the way it is written with transformers."""
    model = setting.place(TransformersDetection(config))
    compile_it(model)
    fused = setting.device == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, eps=1e-6, fused=fused or None)
    return _contender(setting, name, config, model, optimizer, lambda: model(mask(batch)))


def ours(
    setting: Setting,
    name: str,
    config: PretrainingConfig,
    batch: Batch,
    compile_it: Callable[[nn.Module], None],
) -> Contender:
    """Return a step of this project."""
    objective = setting.place(build_objective(build_model(config), ObjectiveConfig()))
    compile_it(objective)
    optimizer = AdamW(parameter_groups(objective, 0.01), lr=1e-5)

    def loss() -> Tensor:
        masked = mask(batch)
        counts = Normalizers(masked.valid_BM.sum().float(), (masked.document_ids_BL > 0).sum())
        return objective(masked, counts)[0]

    return _contender(setting, name, config, objective, optimizer, loss)


def _contender(
    setting: Setting,
    name: str,
    config: PretrainingConfig,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
) -> Contender:
    def run() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    work = setting.batch * training_flops_per_sequence(config, setting.length, "hardware")
    # Parameters and two moments.
    return Contender(name, run, 3 * parameter_bytes(module), flops=work)
