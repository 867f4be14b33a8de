"""What a CUDA graph would record never asks for a value: it runs on tensors that have none."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from convbert.data_pipeline.loading.batch import Batch
from convbert.models.ops.convolution import use_backend
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.engine.optimizer import AdamW, parameter_groups
from convbert.pretrain.objective.losses import Normalizers, build_objective
from convbert.pretrain.objective.masking import SpecialIds, mask_batch
from convbert.pretrain.settings.objective import MaskingConfig, ObjectiveConfig

SHAPE = {"num_layers": 2, "hidden_size": 32, "embedding_size": 16, "num_heads": 2}


def rows(packed: bool) -> Batch:
    ids = torch.zeros(4, 16, dtype=torch.long)
    places = torch.arange(4)
    return Batch(ids, torch.zeros_like(ids), torch.ones_like(ids), places, packed=packed)


def forget_values(module: nn.Module) -> None:
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(torch.empty(parameter.shape)))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("model", ["tiny", "bert-tiny"])
def test_an_update_reads_nothing_back(model: str, packed: bool) -> None:
    """Masking, sampling, both networks, losses, gradients and AdamW, in training with dropout."""
    config = preset(model, vocab_size=100, **SHAPE)
    objective = build_objective(build_model(config), ObjectiveConfig())
    with FakeTensorMode(), use_backend("eager"):
        forget_values(objective)
        optimizer = AdamW(parameter_groups(objective, 0.01))
        masked = mask_batch(MaskingConfig(), SpecialIds(0, 2, 3, 4), 0, rows(packed))
        counts = Normalizers(masked.valid_BM.sum().float(), (masked.document_ids_BL > 0).sum())
        loss, statistics = objective(masked, counts)
        loss.backward()
        optimizer.step()
        assert statistics.shape == (8,)
        assert all(p.grad is not None for p in objective.parameters())
        with pytest.raises(DataDependentOutputException):
            float(loss.detach())  # the check can fail
