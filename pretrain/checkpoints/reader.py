"""Read checkpoints: verified before use, by parameter name, any range of elements."""

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from convbert.models.errors import DamagedError, UserError
from convbert.pretrain.checkpoints.snapshot import tensor_key
from convbert.pretrain.run.checkpoint_manifest import (
    checkpoint_directory,
    checkpoint_steps,
    read_manifest,
    reading,
    verify,
)

logger = logging.getLogger(__name__)


class CheckpointReader:
    """Random access to the named tensors of a checkpoint."""

    def __init__(self, folder: Path, *, trusted: bool = False) -> None:
        """Open ``folder`` and verify it, unless ``trusted``: another process has just done so.

        Raises ``DamagedError`` if anything differs from what was written, ``TransientError`` if
        the file system does not answer and ``UserError`` for an unknown format.
        """
        self.folder = folder
        self.manifest = read_manifest(folder) if trusted else verify(folder)
        self._files: dict[str, Any] = {}
        if not trusted:
            self._check_values()

    def _file(self, name: str) -> Any:
        """Open a file when something in it is needed: each process needs only few of them."""
        if name not in self._files:
            try:
                with reading(self.folder / name):
                    self._files[name] = safe_open(self.folder / name, framework="pt")
            except SafetensorError as error:
                place = self.folder / name
                raise DamagedError(f"{place}: not a safetensors file ({error})") from None
        return self._files[name]

    def read(self, kind: str, name: str, start: int, count: int) -> Tensor:
        """Return ``count`` elements of a flattened tensor from ``start`` on, in fp32.

        ``kind`` is ``param`` or the name of a moment, ``name`` the parameter's.
        """
        out = torch.empty(count)
        for part in self.manifest.fragments[name]:
            low, high = max(start, part.start), min(start + count, part.start + part.count)
            if low < high:
                stored = self._file(part.file).get_slice(tensor_key(kind, name, part.start))
                out[low - start : high - start] = stored[low - part.start : high - part.start]
        return out

    def parameters(self) -> dict[str, Tensor]:
        """Return every parameter whole, in its shape."""
        return {
            name: self.read("param", name, 0, torch.Size(shape).numel()).view(shape)
            for name, shape in self.manifest.shapes.items()
        }

    def _check_values(self) -> None:
        """Raise ``DamagedError`` for another shape than the manifest's and for NaN or infinity."""
        for name, parts in self.manifest.fragments.items():
            for part in parts:
                for kind in self._kinds(part.file, name, part.start):
                    tensor = self._file(part.file).get_tensor(tensor_key(kind, name, part.start))
                    where = f"{self.folder / part.file}: {kind} of '{name}'"
                    if tensor.shape != (part.count,) or tensor.dtype != torch.float32:
                        raise DamagedError(f"{where} has another shape or type")
                    if not torch.isfinite(tensor).all():
                        raise DamagedError(f"{where} holds values that are not finite")

    def _kinds(self, file: str, name: str, start: int) -> list[str]:
        """List what a file holds of a fragment; ``DamagedError`` if that is not the parameter."""
        place = tensor_key("", name, start)
        stored = list(self._file(file).keys())
        kinds = [key.removesuffix(place) for key in stored if key.endswith(place)]
        if "param" not in kinds:
            raise DamagedError(f"{self.folder / file}: holds nothing of '{name}'")
        return kinds


def latest_good(root: Path) -> CheckpointReader | None:
    """Open the newest checkpoint that verifies; return None where there is no checkpoint at all.

    Damaged ones are skipped with a warning. Raises ``UserError`` if all of them are damaged, and
    what ``CheckpointReader`` raises for other reasons.
    """
    damage: list[str] = []
    for step in reversed(checkpoint_steps(root)):
        try:
            return CheckpointReader(checkpoint_directory(root, step))
        except DamagedError as error:
            damage.append(str(error))
            logger.warning("skipping a damaged checkpoint: %s", error)
    if damage:
        raise UserError(
            f"{root}: no checkpoint can be used ({'; '.join(damage)}); restore a copy of one, "
            "choose another run directory, or move them away to start without them"
        )
    return None
