"""What metrics are called in MLflow, whose UI sorts charts by name and sections by what is before
the last slash; names without a slash come last.

Measures of tasks and of held-out text come first, then losses, speed and the state of training,
and last what is there to be an axis or to be looked up. ``metrics.jsonl`` keeps the names that
``run/metric_names.py`` gives: reports, and runs of earlier versions, are read by those.
"""

from convbert.pretrain.run import metric_names

LAYOUT = "2"
"""Changed with any name below, so that a run of an earlier version is sent again as a whole."""
LAYOUT_TAG = "convbert.layout"
BRANCHES = "branches/"
"""What the metrics of a trunk's run begin with that its branches send."""
FLOPS = "flops"
CURVE_FLOPS = "curve_flops"
"""FLOPs at the points of curves, whose steps are GFLOPs; ``FLOPS`` has those of updates."""
_TASKS = "finetuned/"
_TRAINING = "training/"
_CURVES = (metric_names.HELD_OUT_PREFIX, "pairs/", "probe/", _TASKS, BRANCHES)
_OF_TRAINING = (
    *("discriminator/", "generator/", "gradient_norm/", "guards/", "memory/", "optimizer/"),
    "parameter_norm/",
)
_BOOKKEEPING = {
    metric_names.FLOPS_HARDWARE: "hardware_flops",
    metric_names.FIRST_SEQUENCE: "first_sequence",
    metric_names.LOSS_SCALE: "loss_scale",
    metric_names.PROCESSES: "processes",
}


def of_update(values: dict[str, float], flops: float) -> dict[str, float]:
    """Return the metrics of an update by their names in MLflow; ``flops`` is sent once.

    Losses come first and bookkeeping last: where the UI lists metrics it keeps this order.
    """
    left = [item for item in values.items() if item[0] != metric_names.FLOPS_ELECTRA]
    named = {_of_training(name): value for name, value in left} | {FLOPS: flops}
    return {
        name: named[name] for name in sorted(named, key=lambda n: ("/" not in n, not is_loss(n)))
    }


def of_event(event: str, action: str, fact: str) -> str:
    """Return the name for a fact of an event of the guards."""
    return f"{_TRAINING}guards/{event}_{action}/{fact}"


def of_curve(name: str) -> str:
    """Return the name for a curve: tasks stand together, so none can be taken for a section."""
    if name.startswith(BRANCHES):
        return BRANCHES + of_curve(name.removeprefix(BRANCHES))
    return name if name.startswith(_CURVES) else _TASKS + name


def is_curve(name: str) -> bool:
    """Return whether a metric in MLflow has steps in GFLOPs."""
    return name.startswith(_CURVES)


def is_result(name: str) -> bool:
    """Return whether a metric in MLflow is a measure of a task, or of branches."""
    return name.startswith((_TASKS, BRANCHES))


def is_loss(name: str) -> bool:
    """Return whether a metric in MLflow is a loss of training."""
    return name.startswith("loss/")


def _of_training(name: str) -> str:
    if name.startswith(_OF_TRAINING) and name not in _BOOKKEEPING:
        return _TRAINING + name
    return _BOOKKEEPING.get(name, name)
