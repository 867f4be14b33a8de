"""The mean of several checkpoints' weights (LAWA, Kaddour 2022), for evaluation and export.

The mean of the last few checkpoints of a run whose learning rate is still high is roughly what a
lower rate would have led to. It only needs checkpoints that were kept (``checkpoint.keep_last`` or
``keep_every``).
"""

import torch
from torch import Tensor

from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.checkpoints.reader import CheckpointReader
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory


def parse_average(text: str | None) -> int:
    """Return N of ``last:N``, or 1 for None: how many checkpoints are averaged."""
    kind, _, number = (text or "last:1").partition(":")
    if kind != "last" or not number.isdecimal() or int(number) < 1:
        raise UserError(f"average '{text}': write last:N, e.g. last:5")
    return int(number)


def averaged(run: RunDirectory, newest: CheckpointReader, count: int) -> dict[str, Tensor]:
    """Return the mean of the parameters of ``newest`` and the ``count - 1`` checkpoints before it.

    Summed in float64. Raises ``AbsentError`` where there are fewer, and an error of the reader for
    one that is damaged.
    """
    earlier = [s for s in checkpoint_steps(run.checkpoints) if s < newest.manifest.step]
    chosen = earlier[len(earlier) - count + 1 :] if count > 1 else []
    if len(chosen) < count - 1:
        raise AbsentError(
            f"{run.checkpoints}: {len(earlier) + 1} checkpoints up to step "
            f"{newest.manifest.step}, not the {count} to average; lower the number or keep more "
            "(checkpoint.keep_last, checkpoint.keep_every)"
        )
    total = newest.parameters()
    if count == 1:
        return total
    sums = {name: tensor.double() for name, tensor in total.items()}
    for step in chosen:
        reader = CheckpointReader(checkpoint_directory(run.checkpoints, step))
        if reader.manifest.shapes != newest.manifest.shapes:
            raise UserError(f"{reader.folder}: of another model than {newest.folder}; move it away")
        for name, tensor in reader.parameters().items():
            sums[name] += tensor
    return {name: (tensor / count).to(torch.float32) for name, tensor in sums.items()}
