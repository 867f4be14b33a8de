"""Which runs a study has, where the learning rates of its variants are tuned first.

The first seed of a variant trains with each factor of its rates, all for the same FLOPs; its other
seeds follow with the factor that had the lowest masked-token loss on held-out text.
"""

from convbert.pretrain.study.design import Design, StudyRun, plan_runs
from convbert.pretrain.study.measured import Results


def tried_rates(design: Design, results: Results) -> dict[str, dict[float, float]]:
    """Return the loss at each factor, for the variants that have tried all of them."""
    tried: dict[str, dict[float, float]] = {}
    for run in plan_runs(design):
        if run.factor is not None and (result := results.get(run)):
            tried.setdefault(run.variant, {})[run.factor] = result.loss
    return {name: found for name, found in tried.items() if len(found) == len(design.rate_factors)}


def chosen_factors(tried: dict[str, dict[float, float]]) -> dict[str, float]:
    """Return the best factor by variant, the smallest of equals."""
    return {name: min(found, key=lambda f: (found[f], f)) for name, found in tried.items()}


def known_runs(design: Design, results: Results) -> list[StudyRun]:
    """Return the runs that are known by now: those of further seeds once a factor is chosen."""
    return plan_runs(design, chosen_factors(tried_rates(design, results)))


def compared_runs(design: Design, results: Results) -> list[StudyRun]:
    """Return the finished runs that the results compare: none with a factor not chosen."""
    factors = chosen_factors(tried_rates(design, results))
    return [
        run
        for run in plan_runs(design, factors)
        if run.factor == factors.get(run.variant) and results.get(run)
    ]
