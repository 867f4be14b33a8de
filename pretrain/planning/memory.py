"""Memory of one GPU by ZeRO stage: the bytes that DeepSpeed keeps for N parameters on P processes.

The coefficients are bytes per parameter as read in DeepSpeed 0.19; those of fp32 and bf16 were
compared with what one and two processes allocate (``tests/integration/test_plan.py``). A step has
two peaks: the backward pass, with activations and the bucket that collects gradients, and the
optimizer's step, with its temporaries.
"""

from dataclasses import dataclass
from typing import Any

from convbert.pretrain.planning.activations import Activations

_DEFAULT_BUCKET = 500_000_000


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, but ``offloaded``, which its process keeps on the host.

    ``total`` is a step's peak on the GPU.
    """

    parameters: float
    gradients: float
    optimizer: float
    bucket: float
    activations: float
    step_work: float
    offloaded: float

    @property
    def total(self) -> float:
        """The most that is allocated at any moment of a step."""
        lasting = self.parameters + self.optimizer + self.gradients
        return lasting + max(self.bucket + self.activations, self.step_work)


def memory(
    count: int,
    config: dict[str, Any],
    world: int,
    activations: Activations,
    matrices: int = 0,
) -> Memory:
    """Return the memory of ``count`` parameters under a resolved DeepSpeed configuration.

    ``matrices`` of them belong to matrices that Muon updates, which have one moment.
    """
    zero = config.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    bf16 = bool(config.get("bf16", {}).get("enabled"))
    low = bf16 or bool(config.get("fp16", {}).get("enabled"))
    width = 2 if low else 4
    share = 1 if stage == 0 else world
    # Master copies exist beside parameters that are low or, with ZeRO, flattened anew.
    optimizer: float = ((12 if low or stage else 8) * count - 4 * matrices) / share
    parameters: float = width * count
    gradients: float = width * count
    step_work: float = 4 * count / share + (4 * count / share if low else 0)
    bucket = width * float(zero.get("reduce_bucket_size", _DEFAULT_BUCKET)) if stage else 0.0
    offload = zero.get("offload_optimizer", {}).get("device") == "cpu"
    if stage == 1 and bf16 and not offload:
        # DeepSpeed takes another optimizer here: gradients add up in fp32, without a bucket.
        optimizer, bucket, step_work = optimizer + 4 * count, 0.0, 4 * count + 4 * count / share
    if stage == 2:
        gradients += 4 * count / share
    if stage == 3:
        # Gathered layers stay until DeepSpeed's limit of a billion is reached: all of them. A
        # single process has nothing to gather.
        parameters += width * count / share if world > 1 else 0
        gradients = width * count + 4 * count / share
    # With one micro-batch, gradients take the place of activations that the backward pass frees.
    held = activations.peak
    if config.get("gradient_accumulation_steps", 1) == 1:
        held = max(0, activations.peak_with_gradients - width * count)
    # What is to be orthogonalized, here and with its owner, which has the results as well.
    step_work += 4 * matrices / share + 8 * matrices / world
    moved = optimizer if offload else 0.0
    on_host = 0.0
    if offload:
        # Beside the optimizer's state lies its share of the gradients in fp32, and before stage 3
        # a second copy as they were received.
        on_host = optimizer + (4 + (width if stage < 3 else 0)) * count / share
        gradients = width * count
    if zero.get("offload_param", {}).get("device") == "cpu":
        on_host += width * count / share
        parameters = width * count  # gathered
    return Memory(
        parameters=parameters,
        gradients=gradients,
        optimizer=optimizer - moved,
        bucket=bucket,
        activations=float(held),
        step_work=0.0 if offload else step_work,
        offloaded=on_host,
    )
