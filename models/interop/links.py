"""Copy tensors between our parameter names and another program's, by a table of links.

A link is read in both directions, so import and export cannot drift apart. Shapes are compared
before anything is copied: whatever does not fit is named by its file and tensor.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from convbert.models.errors import UserError
from convbert.models.shapes import shapes_alone

Transform = Callable[[Tensor], Tensor]
_M = TypeVar("_M", bound=nn.Module)


@dataclass(frozen=True)
class Conversion:
    """How a tensor is converted from another program's layout to ours, and back."""

    to_own: Transform
    to_foreign: Transform


SAME = Conversion(lambda own: own, lambda own: own)
TRANSPOSED = Conversion(lambda foreign: foreign.T, lambda own: own.T)


@dataclass(frozen=True)
class Link:
    """Our parameter ``own`` is made of the rows of the ``foreign`` tensors, one after another."""

    own: str
    foreign: tuple[str, ...]
    conversion: Conversion = SAME

    def split(self, own: Tensor) -> dict[str, Tensor]:
        """Return the foreign tensors that our parameter consists of."""
        parts = own.chunk(len(self.foreign)) if len(self.foreign) > 1 else (own,)
        return {
            name: self.conversion.to_foreign(part)
            for name, part in zip(self.foreign, parts, strict=True)
        }


class TensorSource(Protocol):
    """Named tensors of a file, read one at a time."""

    @property
    def path(self) -> Path:
        """The file, for messages."""

    def __contains__(self, name: str) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def read(self, name: str) -> Tensor:
        """Return one tensor."""


@dataclass(frozen=True)
class LoadedTensors:
    """Tensors in memory, with the file they were read from."""

    path: Path
    tensors: Mapping[str, Tensor]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def read(self, name: str) -> Tensor:
        """Return one tensor."""
        return self.tensors[name]


def export_tensors(links: Iterable[Link], module: nn.Module) -> dict[str, Tensor]:
    """Return ``module``'s parameters under their foreign names, contiguous fp32 on the CPU."""
    own = module.state_dict()
    return {
        name: tensor.to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
        for link in links
        for name, tensor in link.split(own[link.own]).items()
    }


def unfilled(build: Callable[[], _M]) -> _M:
    """Return the module that ``build`` makes without spending time on initial values.

    ``import_tensors`` must then fill each of its parts.
    """
    with shapes_alone():
        module = build()
    return module.to_empty(device="cpu")


def import_tensors(links: Iterable[Link], module: nn.Module, source: TensorSource) -> None:
    """Fill every parameter of ``module`` from ``source``.

    Raises ``UserError`` naming file and tensor when one is missing, quantized or has another shape.
    """
    own = module.state_dict()
    filled = {link.own: _gather(link, own[link.own], source) for link in links}
    module.load_state_dict(filled)


def _gather(link: Link, own: Tensor, source: TensorSource) -> Tensor:
    parts = []
    for name, expected in link.split(own).items():
        if name not in source:
            raise UserError(
                f"{source.path}: tensor {name!r} is missing: the file holds another kind or size "
                "of model than its configuration says"
            )
        tensor = source.read(name)
        if tensor.shape != expected.shape:
            raise UserError(
                f"{source.path}: tensor {name!r} has shape {tuple(tensor.shape)} where the "
                f"configuration asks for {tuple(expected.shape)}: correct the configuration"
            )
        if not tensor.is_floating_point():
            raise UserError(
                f"{source.path}: tensor {name!r} holds {str(tensor.dtype).removeprefix('torch.')}, "
                "as after quantization: get the weights from before"
            )
        parts.append(link.conversion.to_own(tensor))
    return torch.cat(parts)


def refuse_unused(
    links: Iterable[Link], source: TensorSource, belongs: Callable[[str], bool]
) -> None:
    """Raise ``UserError`` when a tensor that ``belongs`` to the model has no place in it.

    It would be a model with more layers, or with an operator that the configuration leaves out.
    """
    used = {name for link in links for name in link.foreign}
    unused = sorted(name for name in source if name not in used and belongs(name))
    if unused:
        raise UserError(
            f"{source.path}: {len(unused)} tensors have no place in the configured model, the "
            f"first is {unused[0]!r}: correct the configuration"
        )
