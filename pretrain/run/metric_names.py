"""The names under which a run's metrics are written, shown and looked up again."""

from convbert.models.architecture import ObjectiveName

SECTIONS = ("data", "forward", "backward", "optimizer", "update", "checkpoint")
"""The parts of an update whose time is taken; ``update`` is one whose parts run as one."""

LOSS_TOTAL = "loss/total"
LOSS_MLM = "loss/mlm"
LOSS_RTD = "loss/rtd"
GENERATOR_ACCURACY = "generator/accuracy"
GENERATOR_MASKED_RATE = "generator/masked_rate"
GENERATOR_SAMPLED_RATE = "generator/sampled_rate"
GENERATOR_TEMPERATURE = "generator/temperature"
DISCRIMINATOR_PRECISION = "discriminator/precision"
DISCRIMINATOR_RECALL = "discriminator/recall"
DISCRIMINATOR_REPLACED_RATE = "discriminator/replaced_rate"

GRADIENT_NORM = "optimizer/gradient_norm"
LEARNING_RATE = "optimizer/learning_rate"
LOSS_SCALE = "optimizer/loss_scale"
LEFT_OUT = "guards/left_out"
FIRST_SEQUENCE = "data/first_sequence"

TOKENS = "tokens"
FLOPS_ELECTRA = "flops/electra"
FLOPS_HARDWARE = "flops/hardware"

TOKENS_PER_SECOND = "speed/tokens_per_second"
STEP_SECONDS = "speed/step_seconds"
PROCESSES = "speed/processes"
MFU = "speed/mfu"
HOST_PEAK_BYTES = "memory/host_peak_bytes"
DEVICE_PEAK_BYTES = "memory/device_peak_bytes"


def section_seconds(section: str) -> str:
    """Return the name for the seconds of an update that a section of it takes."""
    return f"time/{section}_seconds"


def gradient_norm(part: str) -> str:
    """Return the name for the gradient norm of a part of the networks."""
    return f"gradient_norm/{part}"


def parameter_norm(part: str) -> str:
    """Return the name for the parameter norm of a part of the networks."""
    return f"parameter_norm/{part}"


_OF_MASKING = (LOSS_MLM, GENERATOR_ACCURACY, GENERATOR_MASKED_RATE, GENERATOR_TEMPERATURE)
_OF_DETECTION = (
    LOSS_RTD,
    GENERATOR_SAMPLED_RATE,
    DISCRIMINATOR_PRECISION,
    DISCRIMINATOR_RECALL,
    DISCRIMINATOR_REPLACED_RATE,
)
_OF_EVERY_UPDATE = (
    *(LOSS_TOTAL, GRADIENT_NORM, LEARNING_RATE, LOSS_SCALE, LEFT_OUT, FIRST_SEQUENCE),
    *(TOKENS, FLOPS_ELECTRA, FLOPS_HARDWARE),
    *(TOKENS_PER_SECOND, STEP_SECONDS, PROCESSES, MFU, HOST_PEAK_BYTES),
)


def of_updates(objective: ObjectiveName) -> list[str]:
    """Return the names of what every run with this objective measures while it trains."""
    rtd = objective == "rtd"
    parts = ("discriminator", "embeddings", "generator") if rtd else ("embeddings", "encoder")
    return sorted(
        [*_OF_EVERY_UPDATE, *_OF_MASKING, *(_OF_DETECTION if rtd else ())]
        + [section_seconds(section) for section in SECTIONS]
        + [name(part) for name in (gradient_norm, parameter_norm) for part in parts]
    )


HELD_OUT_PREFIX = "held_out/"


def held_out(name: str) -> str:
    """Return the name for a metric of the objective, measured on held-out text."""
    return f"{HELD_OUT_PREFIX}{name}"


def task_measure(task: str, split: str, measure: str) -> str:
    """Return ``TASK/MEASURE``, with the split in it unless that is dev."""
    return f"{task}/{measure}" if split == "dev" else f"{task}_{split}/{measure}"


def probe_measure(task: str, split: str, measure: str, pooling: str = "mean") -> str:
    """Return the name for a measure of a linear probe; states pooled otherwise have another one."""
    name = f"probe/{task_measure(task, split, measure)}"
    return name if pooling == "mean" else f"{name}_{pooling}"


def pairs_measure(kind: str, score: str, *, per_token: bool = False) -> str:
    """Return the name for the share of minimal pairs of a kind in which the good one wins.

    Scores that are divided by the tokens are others, and their share has another name.
    """
    name = f"pairs/{kind}" if score == "discriminator" else f"pairs/{kind}_{score}"
    return f"{name}_per_token" if per_token else name
