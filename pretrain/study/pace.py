"""What an update of each variant takes on this machine, where a study's budget is seconds."""

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from convbert.models.schema import read_record
from convbert.pretrain.planning.rehearsal import rehearse
from convbert.pretrain.study.design import DESIGN, Design, variant_settings
from convbert.pretrain.study.steps import data_settings

ROUNDS = 3


def kept_pace(root: Path) -> dict[str, float]:
    """Return the pace that a study's directory holds, empty if its updates were not timed yet."""
    path = root / DESIGN
    if not path.is_file():
        return {}
    return read_record(Design, path, what="a study's design", remedy="choose another --output").pace


def measure_pace(
    design: Design, root: Path, workers: int, say: Callable[[str], None] = lambda line: None
) -> Design:
    """Return the design with the median seconds of an update of each variant.

    As many updates go on side by side as later runs do. The variants are measured in turns,
    ``ROUNDS`` times, so that what else the machine does falls on all of them.
    """
    common = data_settings(root)
    found: dict[str, list[float]] = {name: [] for name in design.variants}
    with ThreadPoolExecutor(workers) as pool:
        for number in range(1, ROUNDS + 1):
            say(f"timing updates of each variant, {number} of {ROUNDS} rounds")
            for name in design.variants:
                settings = [*common, *variant_settings(design, name)]
                jobs = [pool.submit(rehearse, design.recipe, settings, 1) for _ in range(workers)]
                found[name] += [job.result().seconds for job in jobs]
    return design.model_copy(
        update={"pace": {name: statistics.median(times) for name, times in found.items()}}
    )
