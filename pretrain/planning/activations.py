"""The memory that a forward and a backward pass take, from running them on fake tensors.

Fake tensors have shapes and no contents, so the real objective runs in seconds for any size of
model while every allocation and release is counted. The estimate therefore follows the code of the
networks, with activation checkpointing and chunked logits.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convbert.models.architecture import PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.ops.convolution import use_backend
from convbert.models.pretraining import PretrainingModel, build_model
from convbert.pretrain.objective.losses import Normalizers, build_objective
from convbert.pretrain.objective.masking import MaskedBatch
from convbert.pretrain.settings.objective import ObjectiveConfig


@dataclass(frozen=True)
class Activations:
    """Bytes of one micro-batch beyond parameters: ``peak`` without and with whole gradients.

    ``kept`` is what the forward pass leaves for the backward pass.
    """

    kept: int
    peak: int
    peak_with_gradients: int


class _AllocationCounter(TorchDispatchMode):
    """Counts the bytes of live storages that were allocated under it.

    ``peak`` is the most that was alive at once, ``peak_without`` the same without what ``exclude``
    took out.
    """

    def __init__(self, ignore_scores: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.excluded = self.peak_without = 0
        self._scores = ignore_scores
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and not self._in_fused_attention(leaf):
                self._add(leaf.untyped_storage())
        return out

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Count neither these tensors nor views of them."""
        self._known |= {t.untyped_storage()._cdata: 0 for t in tensors}

    def _in_fused_attention(self, tensor: Tensor) -> bool:
        """Return whether it has the shape of scores, [B, N, L, L], which fused kernels drop."""
        length = self._scores
        return tensor.dim() in (3, 4) and tensor.shape[-2:] == (length, length)

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = self._known[key] = storage.nbytes()
        self.live += size
        self._look()
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.live -= self._known.pop(key)

    def exclude(self, size: int) -> None:
        """Leave ``size`` bytes that are alive out of ``peak_without`` from here on."""
        self.excluded += size

    def _look(self) -> None:
        self.peak = max(self.peak, self.live)
        self.peak_without = max(self.peak_without, self.live - self.excluded)


def masked_rows(rows: int, length: int, slots: int) -> MaskedBatch:
    """Return a batch of the right shapes, one document a row."""
    ids = torch.zeros(rows, length, dtype=torch.long)
    per_slot = torch.zeros(rows, slots, dtype=torch.long)
    return MaskedBatch(
        input_ids_BL=ids,
        token_type_ids_BL=ids,
        document_ids_BL=ids,
        masked_BL=ids,
        slots_BM=per_slot,
        valid_BM=per_slot > 0,
        uniforms_BM=torch.zeros(rows, slots),
        packed=False,
    )


def _network(config: PretrainingConfig, checkpointing: bool) -> PretrainingModel:
    model = build_model(config)
    for module in model.modules():
        if isinstance(module, Encoder):
            module.gradient_checkpointing = checkpointing
    return model


def _fake(module: nn.Module, dtype: torch.dtype) -> None:
    """Replace parameters on the meta device, where some operators do not run, by fake ones."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(torch.empty(parameter.shape, dtype=dtype)))


def trace(
    networks: PretrainingConfig,
    objective: ObjectiveConfig,
    *,
    rows: int,
    seq_len: int,
    dtype: torch.dtype,
    checkpointing: bool = False,
    fused_attention: bool = False,
) -> Activations:
    """Return the activations of one micro-batch of ``rows`` rows in eager execution.

    ``fused_attention`` leaves out the attention scores, which fused kernels never store. Compiled
    networks need less.
    """
    counter = _AllocationCounter(seq_len if fused_attention else None)
    with torch.device("meta"):
        module = build_objective(_network(networks, checkpointing), objective)
    with FakeTensorMode(), use_backend("eager"):
        _fake(module, dtype)
        batch = masked_rows(rows, seq_len, objective.masking.slots(seq_len))
        one = torch.ones(())
        counter.leave_out(module.parameters())
        for parameter in module.parameters():
            parameter.register_post_accumulate_grad_hook(
                lambda p: counter.exclude(p.numel() * p.element_size())
            )
        with counter:
            loss, _ = module(batch, Normalizers(one, one))
            kept = counter.live
            loss.backward()
    return Activations(kept, counter.peak_without, counter.peak)
