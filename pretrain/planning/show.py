"""``convbert plan``: memory, time and cost of a run as tables on a terminal."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.sources import Source
from convbert.models.architecture import PretrainingConfig
from convbert.models.counts import parameter_counts
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.engine.execution import choose, work_left
from convbert.pretrain.engine.gpus import Gpu, gpu
from convbert.pretrain.engine.peak import peak_flops
from convbert.pretrain.engine.precision import computes_in_bfloat16, with_precision
from convbert.pretrain.planning.learning_rates import rate_note
from convbert.pretrain.planning.plan import (
    CONFIGURATIONS,
    estimate_activations,
    largest_micro_batch,
    memory_of,
)
from convbert.pretrain.planning.rehearsal import rehearse
from convbert.pretrain.planning.speeds import hours_of
from convbert.pretrain.run.tables import Output
from convbert.pretrain.run.timeline import Phase, Timeline, derive, stretches
from convbert.pretrain.settings.data import DataConfig
from convbert.pretrain.settings.recipes import recipe_names, resolve
from convbert.pretrain.settings.run import RunConfig

_ASSUMED_VOCABULARY = 30_522
_ASSUMED_GPU = "a100"


def _expected_places(recipe: str) -> set[str]:
    """Return where shards lie unless the user names them: by default or by a shipped recipe."""
    if recipe not in recipe_names():
        return {str(DataConfig().manifest)}
    return {source.manifest for source in _sources(resolve(recipe))}


def _sources(config: RunConfig) -> list[Source]:
    return [source for phase, _ in stretches(config) for source in phase.data(config.data).blend]


def _is_absent(place: str, expected: set[str]) -> bool:
    """Return whether there is no manifest at an expected place; any other fault is raised."""
    try:
        Manifest.load(place)
    except AbsentError:
        if place in expected:
            return True
        raise
    return False


def outline(recipe: str, config: RunConfig) -> tuple[PretrainingConfig, Timeline, str]:
    """Return networks and phases, and a note where shards that are not built yet were assumed.

    Without shards the vocabulary is BERT's and the rows have 128 tokens, in later phases with
    shards of their own 512. Raises ``UserError`` for a damaged manifest, and for one that the user
    named and that is not there.
    """
    expected = _expected_places(recipe)
    absent = [_is_absent(source.manifest, expected) for source in _sources(config)]
    if not any(absent):
        timeline = Timeline.load(config)
        return config.model.build(timeline.corpora[0].vocab_size), timeline, ""
    networks = config.model.build(_ASSUMED_VOCABULARY)
    lengths = [128, *(512 if p.manifest or p.sources else 128 for p in config.phases)]
    assumed = ", then ".join(dict.fromkeys(map(str, lengths)))
    note = f"no shards yet: {_ASSUMED_VOCABULARY:,} ids and rows of {assumed} tokens assumed"
    return networks, Timeline(derive(config, networks, lengths)), note


@dataclass(frozen=True)
class Duration:
    """Hours of a run, between two bounds that may be equal, and where they come from."""

    fewest: float
    most: float
    source: str

    @property
    def shown(self) -> str:
        """The hours as a person reads them."""
        alike = math.isclose(self.fewest, self.most)
        return _hours(self.fewest) if alike else f"{_hours(self.fewest)} to {_hours(self.most)}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _assumed(timeline: Timeline, steps: int, gpus: int, card: Gpu, mfu: float) -> Duration:
    hours = timeline.flops(steps, "hardware") / (card.peak * mfu) / gpus / 3600
    return Duration(hours, hours, f"an MFU of {mfu:.0%}, as given")


def _carried_over(
    config: RunConfig, networks: PretrainingConfig, timeline: Timeline, gpus: int, gpu_name: str
) -> Duration:
    spans = [(min(p.end, config.steps) - p.start, p) for p in timeline.phases]
    fewest, most, speeds = hours_of(config, networks, spans, gpus, gpu_name)
    kinds = dict.fromkeys(
        f"{'measured' if s.measured else 'extrapolated from'}: {s.source}" for s in speeds
    )
    return Duration(fewest, most, "; ".join(kinds))


def measured_duration(
    recipe: str, overrides: list[str], config: RunConfig, timeline: Timeline, processes: int
) -> Duration:
    """Return the hours of a run by its first updates, trained here on ``processes`` processes."""
    compiles, why = _compiles_here(config, timeline, processes)
    found = rehearse(recipe, overrides, processes, compiles=compiles)
    rate = timeline.phases[0].flops["hardware"] / found.seconds
    hours = (timeline.flops(config.steps, "hardware") / rate + found.first) / 3600
    source = (
        f"measured here: {found.seconds:.3g} s an update, median of {found.updates}, "
        f"{processes} processes, {found.first:.0f} s to begin{why}"
    )
    if len(timeline.phases) > 1:
        source += "; later phases by their FLOPs"
    return Duration(hours, hours, source)


def _compiles_here(
    config: RunConfig, timeline: Timeline, processes: int
) -> tuple[bool | None, str]:
    """Return whether the whole run compiles on this machine, where that is open, and why."""
    if config.compile != "auto":
        return None, ""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = with_precision(config, bfloat16=computes_in_bfloat16(device))
    networks = config.model.build(timeline.corpora[0].vocab_size)
    rate = peak_flops(device, config.precision, None)
    work = work_left(config, networks, timeline, 0, processes, rate)
    chosen = choose(config, device, networks, work)
    return chosen.compile, f"; {chosen.shown}"


def _card(name: str | None, here: bool) -> Gpu:
    """Return the GPU of this name; without one that of this machine if ``here``, or an A100."""
    if name is not None or not here:
        return gpu(name or _ASSUMED_GPU)
    # Its rate is measured, so only what decides about memory has to be known.
    bfloat16 = computes_in_bfloat16(torch.device("cuda"))
    memory = torch.cuda.get_device_properties(0).total_memory
    return replace(gpu(_ASSUMED_GPU), memory=memory, bfloat16=bfloat16)


def show(
    recipe: str,
    overrides: list[str],
    gpus: int | None,
    gpu_name: str | None,
    mfu: float | None,
    price: float,
    measure: int | None = None,
    out: Output | None = None,
    busy: AbstractContextManager[object] | None = None,
) -> None:
    """Print parameters, FLOPs, time and cost, and memory by ZeRO stage for every phase.

    The time comes from updates measured here on ``measure`` processes, from ``mfu``, or else from
    the measurements that ship with the package. ``busy`` is entered while it is measured. Where
    ``gpus`` or ``gpu_name`` are not given, memory is that of the GPUs which are measured, or else
    of one A100.
    """
    here = measure is not None and torch.cuda.is_available()
    card = _card(gpu_name, here)
    gpus = gpus or (measure if measure and here else 1)
    gpu_name = gpu_name or _ASSUMED_GPU
    asked = resolve(recipe, overrides)
    config = with_precision(asked, bfloat16=card.bfloat16)
    networks, timeline, note = outline(recipe, config)
    if measure is not None:
        if note:
            raise UserError(f"--measure trains a few updates, but there are {note}; build them")
        with busy or nullcontext():
            duration = measured_duration(recipe, overrides, asked, timeline, measure)
    elif mfu is not None:
        duration = _assumed(timeline, config.steps, gpus, card, mfu)
    else:
        duration = _carried_over(config, networks, timeline, gpus, gpu_name)
    out = out or Output()
    place = "this machine" if measure is not None else f"{gpus} x {gpu_name}"
    title = f"{recipe}: {config.model.preset} on {place}"
    rows = _quantities(config, networks, timeline, duration, gpus if measure is None else 0, price)
    out.table(("quantity", "value"), rows, title=title, caption=note)
    out.note(f"hours: {duration.source}")
    if advice := rate_note(resolve(recipe), config):
        out.note(f"learning rate: {advice}")
    for phase in timeline.phases:
        _memory_table(config, networks, phase, gpus, card, out)


def _quantities(
    config: RunConfig,
    networks: PretrainingConfig,
    timeline: Timeline,
    duration: Duration,
    gpus: int,
    price: float,
) -> list[tuple[str, str]]:
    """Return what a run takes; ``gpus`` is 0 for a plan of this machine, which has no price."""
    counts = parameter_counts(networks)
    rows = [
        ("parameters, encoder that is kept", f"{counts.encoder.total:,}"),
        ("parameters, all that is trained", f"{counts.total:,}"),
        ("updates", f"{config.steps:,}"),
        ("tokens", f"{timeline.tokens(config.steps):.3e}"),
        ("training FLOPs, electra", f"{timeline.flops(config.steps):.3e}"),
        ("training FLOPs, hardware", f"{timeline.flops(config.steps, 'hardware'):.3e}"),
        ("hours", duration.shown),
    ]
    if gpus:
        spent = Duration(duration.fewest * gpus, duration.most * gpus, "")
        rows.append(("GPU hours", spent.shown))
        if price:
            bill = Duration(spent.fewest * price, spent.most * price, "")
            rows.append((f"cost at {price:g} per GPU hour", bill.shown))
    return rows


def _memory_table(
    config: RunConfig,
    networks: PretrainingConfig,
    phase: Phase,
    gpus: int,
    card: Gpu,
    out: Output,
) -> None:
    if phase.global_batch % gpus:
        raise UserError(
            f"global_batch={phase.global_batch} cannot be divided over {gpus} GPUs; use a multiple"
        )
    share = phase.global_batch // gpus
    at_once = min(phase.micro_batch or share, share)
    needed = estimate_activations(config, networks, phase.seq_len)
    precision = config.precision + (", recomputing" if config.activation_checkpointing else "")
    parts_of = ("parameters", "gradients", "optimizer", "bucket", "activations")
    columns = ("deepspeed", *parts_of, "peak", "on the host", "suggested micro-batch")
    rows = []
    for name in dict.fromkeys((*CONFIGURATIONS, config.deepspeed)):
        found = memory_of(config, networks, name, gpus, needed.of(at_once), share // at_once)
        parts = (found.parameters, found.gradients, found.optimizer, found.bucket)
        numbers = [f"{x / 1e9:.2f}" for x in (*parts, found.activations, found.total)]
        numbers.append(f"{found.offloaded / 1e9:.2f}" if found.offloaded else "")
        micro = largest_micro_batch(config, networks, phase, name, gpus, card, needed)
        rows.append([name, *numbers, str(micro or "does not fit")])
    title = f"GB on one GPU, {precision}, rows of {phase.seq_len}, micro-batch {at_once}"
    space = f"suggested: largest micro-batch that leaves a tenth of {card.memory / 1e9:.0f} GB"
    out.table(columns, rows, title=title, caption=f"{config.deepspeed} is configured; {space}")
