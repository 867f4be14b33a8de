"""Faults that a forked training process applies to itself; see ``zygote.py``.

``Faults`` are hooks of the trainer (``pretrain/training/hooks.py``), made from JSON: a key names
a fault below, each value its arguments. ``slow_writes`` and ``slow_uploads`` slow down what lies
outside an update.
"""

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convbert.data_pipeline.loading.batch import Batch
from convbert.pretrain.checkpoints import tensor_file, upload
from convbert.pretrain.objective.losses import STATISTICS
from convbert.pretrain.training.hooks import Hooks


class Faults(Hooks):
    """Several hooks, called one after the other, on the process ``rank``."""

    def __init__(self, rank: int, wanted: dict[str, dict[str, Any]]) -> None:
        made = [_KINDS[name](rank=rank, **arguments) for name, arguments in wanted.items()]
        self._hooks: list[Hooks] = [hooks for hooks in made if isinstance(hooks, Hooks)]

    def before_update(self, step: int, number: int, batch: Batch) -> None:
        for hooks in self._hooks:
            hooks.before_update(step, number, batch)

    def loss(self, number: int, loss: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        for hooks in self._hooks:
            loss, statistics = hooks.loss(number, loss, statistics)
        return loss, statistics

    def after_update(self, step: int, objective: nn.Module) -> None:
        for hooks in self._hooks:
            hooks.after_update(step, objective)


class RecordPositions(Hooks):
    """Append the global positions of every batch that this process trains on, by update."""

    def __init__(self, rank: int, folder: str) -> None:
        path = Path(folder) / f"positions-{rank}-{os.getpid()}.jsonl"
        self._file = open(path, "a", buffering=1)  # noqa: SIM115

    def before_update(self, step: int, number: int, batch: Batch) -> None:
        self._file.write(json.dumps([step + 1, batch.positions.tolist()]) + "\n")


class TimeSteps(Hooks):
    """Write the seconds of every update, measured by this process, one a line."""

    def __init__(self, rank: int, folder: str) -> None:
        self._file = open(Path(folder) / f"seconds-{rank}.txt", "a", buffering=1)  # noqa: SIM115
        self._begun = 0.0

    def before_update(self, step: int, number: int, batch: Batch) -> None:
        self._begun = time.perf_counter()

    def after_update(self, step: int, objective: nn.Module) -> None:
        self._file.write(f"{time.perf_counter() - self._begun}\n")


class Pace(Hooks):
    """Take at least this long for every update."""

    def __init__(self, rank: int, seconds: float) -> None:
        self._seconds = seconds

    def before_update(self, step: int, number: int, batch: Batch) -> None:
        time.sleep(self._seconds)


class _PoisonGradient(torch.autograd.Function):
    """The identity whose gradient is NaN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.nan


class Poison(Hooks):
    """Spoil global batches on process ``on``: their loss, their gradient, or scale the loss.

    The fault is tied to the data, so training on other batches does not meet it.
    """

    def __init__(
        self, rank: int, batches: list[int], where: str, on: int, factor: float = 1.0
    ) -> None:
        self._batches = batches if rank == on else []
        self._where = where
        self._factor = factor

    def loss(self, number: int, loss: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        if number not in self._batches:
            return loss, statistics
        if self._where == "loss":
            return loss * torch.nan, statistics * torch.nan
        if self._where == "gradient":
            return _PoisonGradient.apply(loss), statistics
        scale = [self._factor if name.endswith("loss") else 1.0 for name in STATISTICS]
        return loss * self._factor, statistics * torch.tensor(scale)


class FlipParameter(Hooks):
    """Change one parameter of the forward pass on process ``on`` after update ``step``."""

    def __init__(self, rank: int, on: int, step: int) -> None:
        self._step = step if rank == on else None

    def after_update(self, step: int, objective: nn.Module) -> None:
        if step == self._step:
            parameters = dict(objective.named_parameters())
            parameters["model.discriminator.embeddings.word.weight"].data[5, 3] += 0.5


class Hang(Hooks):
    """Never come back from the beginning of update ``step`` on process ``on``."""

    def __init__(self, rank: int, on: int, step: int) -> None:
        self._step = step if rank == on else None

    def before_update(self, step: int, number: int, batch: Batch) -> None:
        if step + 1 == self._step:
            time.sleep(3600)


class LimitFiles(Hooks):
    """Let no file of this process grow beyond ``size`` bytes from update ``step`` on."""

    def __init__(self, rank: int, step: int, size: int) -> None:
        self._step, self._size = step, size

    def before_update(self, step: int, number: int, batch: Batch) -> None:
        if step + 1 == self._step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, resource.RLIM_INFINITY))


def slow_writes(rank: int, seconds: float) -> None:
    """Take this long for syncing a file of tensors."""
    inner = os.fsync

    class SlowOs:
        @staticmethod
        def fsync(descriptor: int) -> None:
            time.sleep(seconds)
            inner(descriptor)

    tensor_file.os = SlowOs  # type: ignore[assignment]


def slow_uploads(rank: int, seconds: float) -> None:
    """Take this long more for copying a checkpoint elsewhere."""
    inner = upload.upload

    def slow(*arguments: Any) -> None:
        time.sleep(seconds)
        inner(*arguments)

    upload.upload = slow


_KINDS: dict[str, Any] = {
    "record_positions": RecordPositions,
    "time_steps": TimeSteps,
    "pace": Pace,
    "poison": Poison,
    "flip_parameter": FlipParameter,
    "hang": Hang,
    "limit_files": LimitFiles,
    "slow_writes": slow_writes,
    "slow_uploads": slow_uploads,
}
