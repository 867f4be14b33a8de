"""Every ZeRO stage in every precision: trains, skips what is not finite, and does the same.

The generator's samples are discrete: a rounding difference of 1e-7 that falls on the boundary
between two tokens changes a token of the discriminator's input and, from there on, the losses. One
run of 50 updates in eight met that. A high temperature keeps the samples apart from the rounding of
the logits, so that what is compared here is the arithmetic.
"""

import math
import re
from pathlib import Path

import pytest
from forked import Zygote

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STEPS = 50
SETTINGS = (
    f"steps={STEPS}",
    "checkpoint.every=50",
    "schedule.warmup_steps=5",
    "micro_batch=2",
    "objective.masking.temperature=100",
)
SPOILED = {"poison": {"batches": [20], "where": "gradient", "on": 1}}


@pytest.fixture(scope="module")
def reference(zygote: Zygote, read_losses, tmp_path_factory: pytest.TempPathFactory):
    """Losses of one process without ZeRO in fp32, on the same global batches."""
    run = tmp_path_factory.mktemp("stages") / "run"
    spoiled = {"poison": SPOILED["poison"] | {"on": 0}}
    zygote.finish(run, *SETTINGS, "deepspeed=zero0", processes=1, faults=spoiled)
    return read_losses(run)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_stage_and_precision(
    zygote: Zygote, read_losses, reference, tmp_path: Path, stage: int, precision: str
) -> None:
    settings = (f"deepspeed=zero{stage}", f"precision={precision}")
    zygote.finish(tmp_path, *SETTINGS, *settings, faults=SPOILED)
    losses = read_losses(tmp_path)
    assert sorted(losses) == list(range(1, STEPS + 1))
    assert all(math.isfinite(loss) for loss, *_ in losses.values())
    for line in (tmp_path / "output.log").read_text().splitlines():  # nothing of a library's
        assert re.match(r"\d{4}-\d\d-\d\d [\d:]{8} rank \d (INFO|WARNING) ", line), line
    first, last = (sum(losses[s][0] for s in steps) / 5 for steps in (range(1, 6), range(46, 51)))
    assert last < 0.95 * first
    text = (tmp_path / "metrics.jsonl").read_text()
    if precision == "fp16":  # a gradient that is not finite is first taken for the loss scale's
        assert '"event":"overflow","action":"skip","at":21' in text
    else:
        assert '"event":"nan","action":"skip","at":21' in text
        assert text.count('"event"') == 1
    if precision == "fp16":  # its first updates were left out until the scale was low enough
        assert mean_of_last(losses) == pytest.approx(mean_of_last(reference), rel=0.02)
        return
    tolerance = {"fp32": 1e-5, "bf16": 0.01}[precision]
    for step, (loss, *_) in losses.items():
        assert loss == pytest.approx(reference[step][0], rel=tolerance), step


def mean_of_last(losses: dict[int, tuple[float, ...]]) -> float:
    return sum(losses[step][0] for step in range(STEPS - 9, STEPS + 1)) / 10
