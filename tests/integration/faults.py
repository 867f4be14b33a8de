"""Faults that a forked training process applies to itself; see ``zygote.py``.

Each is a function of the rank and its own arguments that wraps a part of the product.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from convbert.pretrain.checkpoints import tensor_file, upload
from convbert.pretrain.objective.losses import STATISTICS, ReplacedTokenDetection
from convbert.pretrain.training.trainer import Trainer


def record_positions(rank: int, folder: str) -> None:
    """Append the global positions of every batch that this process trains on, by update."""
    inner = Trainer._mask
    file = open(Path(folder) / f"positions-{rank}-{os.getpid()}.jsonl", "a", buffering=1)  # noqa: SIM115

    def mask(self: Trainer, batch: Any) -> Any:
        file.write(json.dumps([self.step + 1, batch.positions.tolist()]) + "\n")
        return inner(self, batch)

    Trainer._mask = mask  # type: ignore[method-assign]


def time_steps(rank: int, folder: str) -> None:
    """Write the seconds of every update, measured by this process, one a line."""
    inner = Trainer._update
    file = open(Path(folder) / f"seconds-{rank}.txt", "a", buffering=1)  # noqa: SIM115

    def update(self: Trainer, *arguments: Any) -> Any:
        begun = time.perf_counter()
        result = inner(self, *arguments)
        file.write(f"{time.perf_counter() - begun}\n")
        return result

    Trainer._update = update  # type: ignore[method-assign]


def pace(rank: int, seconds: float) -> None:
    """Take at least this long for every update."""
    inner = Trainer._mask

    def mask(self: Trainer, batch: Any) -> Any:
        time.sleep(seconds)
        return inner(self, batch)

    Trainer._mask = mask  # type: ignore[method-assign]


class _PoisonGradient(torch.autograd.Function):
    """The identity whose gradient is NaN."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.nan


def poison(rank: int, batches: list[int], where: str, on: int, factor: float = 1.0) -> None:
    """Spoil global batches on process ``on``: their loss, their gradient, or scale the loss.

    The fault is tied to the data, so training on other batches does not meet it.
    """
    if rank != on:
        return
    inner_mask, inner_forward = Trainer._mask, ReplacedTokenDetection.forward
    current = [0]

    def mask(self: Trainer, batch: Any) -> Any:
        current[0] = int(batch.positions[0]) // self.config.global_batch
        return inner_mask(self, batch)

    def forward(self: ReplacedTokenDetection, *inputs: Any) -> Any:
        loss, statistics = inner_forward(self, *inputs)
        if current[0] in batches:
            if where == "loss":
                return loss * torch.nan, statistics * torch.nan
            if where == "gradient":
                return _PoisonGradient.apply(loss), statistics
            scale = [factor if name.endswith("loss") else 1.0 for name in STATISTICS]
            return loss * factor, statistics * torch.tensor(scale)
        return loss, statistics

    Trainer._mask = mask  # type: ignore[method-assign]
    ReplacedTokenDetection.forward = forward  # type: ignore[method-assign]


def flip_parameter(rank: int, on: int, step: int) -> None:
    """Change one parameter of the forward pass on process ``on`` after update ``step``."""
    inner = Trainer._compare

    def compare(self: Trainer) -> None:
        if rank == on and self.step == step:
            parameter = dict(self.engine.module.named_parameters())[
                "model.discriminator.embeddings.word.weight"
            ]
            parameter.data[5, 3] += 0.5
        inner(self)

    Trainer._compare = compare  # type: ignore[method-assign]


def hang(rank: int, on: int, step: int) -> None:
    """Never come back from reading the batch of update ``step`` on process ``on``."""
    inner = Trainer._mask

    def mask(self: Trainer, batch: Any) -> Any:
        if rank == on and self.step + 1 == step:
            time.sleep(3600)
        return inner(self, batch)

    Trainer._mask = mask  # type: ignore[method-assign]


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
