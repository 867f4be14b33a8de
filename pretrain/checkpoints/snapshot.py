"""Copies of the training state in host memory, which training may not change under the writer."""

from collections.abc import Iterable

import torch
from torch import Tensor

from convbert.pretrain.engine.fragments import Fragment


def tensor_key(kind: str, name: str, start: int) -> str:
    """Return the key of a fragment's tensor in a safetensors file."""
    return f"{kind}|{name}|{start}"


class Snapshot:
    """Host buffers of this process's owned fragments, used again for every checkpoint.

    They take 12 bytes for each element that this process owns, 8 for the matrices of Muon,
    page-locked where there is a GPU.
    """

    def __init__(self) -> None:
        self.fragments: list[tuple[str, int, int]] = []
        """``(name, start, count)`` of each fragment that was copied."""
        self._buffers: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None

    def take(self, held: Iterable[Fragment]) -> None:
        """Copy those of the fragments ``held`` by this process that it owns.

        On a GPU the copies are queued behind the last update and before the next one, so nothing
        waits here; ``tensors`` waits for them.
        """
        owned = [f for f in held if f.owned]
        for fragment in owned:
            for kind, view in fragment.views.items():
                key = tensor_key(kind, fragment.name, fragment.start)
                self._buffer(key, view).copy_(view.detach(), non_blocking=view.is_cuda)
        if torch.cuda.is_available():
            self._copied = torch.cuda.Event()
            self._copied.record()
        self.fragments = [(f.name, f.start, f.count) for f in owned]

    def tensors(self) -> dict[str, Tensor]:
        """Return the copies by key, once they are complete."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._buffers

    def _buffer(self, name: str, like: Tensor) -> Tensor:
        if name not in self._buffers:
            self._buffers[name] = torch.empty(
                like.numel(), dtype=torch.float32, pin_memory=torch.cuda.is_available()
            )
        return self._buffers[name]
