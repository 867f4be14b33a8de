"""What the loader gives to the trainer."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of a global batch, int64.

    ``input_ids``, ``token_type_ids`` and ``document_ids`` are [B, L]; document 0 is padding.
    ``positions`` [B] are global positions in the training order. ``packed`` says that a row may
    hold several documents.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    document_ids: Tensor
    positions: Tensor
    packed: bool

    def to(self, device: torch.device) -> "Batch":
        """Copy to ``device``; from pinned memory the copy does not wait."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in tensors.items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def pin(self) -> "Batch":
        """Move to page-locked memory, so that copies to the device need not wait."""
        pinned: dict[str, Any] = {
            f.name: getattr(self, f.name).pin_memory()
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return replace(self, **pinned)
