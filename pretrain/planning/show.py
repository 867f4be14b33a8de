"""``convbert plan``: memory, time and cost of a run as tables on a terminal."""

from rich.console import Console
from rich.table import Table

from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.shards.sources import Source
from convbert.models.architecture import PretrainingConfig
from convbert.models.counts import parameter_counts
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.engine.gpus import Gpu, gpu
from convbert.pretrain.engine.precision import with_precision
from convbert.pretrain.planning.plan import (
    CONFIGURATIONS,
    cost,
    estimate_activations,
    largest_micro_batch,
    memory_of,
)
from convbert.pretrain.planning.rates import rate_note
from convbert.pretrain.run.timeline import Phase, Timeline, derive, stretches
from convbert.pretrain.settings.data import DataConfig
from convbert.pretrain.settings.recipes import recipe_names, resolve
from convbert.pretrain.settings.run import RunConfig

_ASSUMED_VOCABULARY = 30_522


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


def show(
    recipe: str, overrides: list[str], gpus: int, gpu_name: str, mfu: float, price: float
) -> None:
    """Print parameters, FLOPs, time and cost, and memory by ZeRO stage for every phase."""
    card = gpu(gpu_name)
    config = with_precision(resolve(recipe, overrides), bfloat16=card.bfloat16)
    networks, timeline, note = outline(recipe, config)
    console = Console()
    table = Table(title=f"{recipe}: {config.model.preset} on {gpus} x {gpu_name}", caption=note)
    table.add_column("quantity")
    table.add_column("value", justify="right")
    counts = parameter_counts(networks)
    table.add_row("parameters, encoder that is kept", f"{counts.encoder.total:,}")
    table.add_row("parameters, all that is trained", f"{counts.total:,}")
    table.add_row("updates", f"{config.steps:,}")
    table.add_row("tokens", f"{timeline.tokens(config.steps):.3e}")
    table.add_row("training FLOPs, electra", f"{timeline.flops(config.steps):.3e}")
    table.add_row("training FLOPs, hardware", f"{timeline.flops(config.steps, 'hardware'):.3e}")
    spent = cost(timeline, config.steps, gpus, card, mfu, price)
    table.add_row(f"hours at {mfu:.0%} MFU", f"{spent.hours:,.1f}")
    table.add_row("GPU hours", f"{spent.gpu_hours:,.1f}")
    if price:
        table.add_row(f"cost at {price:g} per GPU hour", f"{spent.money:,.0f}")
    console.print(table)
    if advice := rate_note(resolve(recipe), config):
        console.print(f"learning rate: {advice}", soft_wrap=True, markup=False)
    for phase in timeline.phases:
        console.print(_memory_table(config, networks, phase, gpus, card))


def _memory_table(
    config: RunConfig, networks: PretrainingConfig, phase: Phase, gpus: int, card: Gpu
) -> Table:
    if phase.global_batch % gpus:
        raise UserError(
            f"global_batch={phase.global_batch} cannot be divided over {gpus} GPUs; use a multiple"
        )
    share = phase.global_batch // gpus
    rows = min(phase.micro_batch or share, share)
    needed = estimate_activations(config, networks, phase.seq_len)
    precision = config.precision + (", recomputing" if config.activation_checkpointing else "")
    table = Table(
        title=f"GB on one GPU, {precision}, rows of {phase.seq_len}, micro-batch {rows}",
        caption=f"suggested: largest micro-batch that leaves a tenth of {card.memory / 1e9:.0f} GB",
    )
    columns = ("deepspeed", "parameters", "gradients", "optimizer", "bucket", "activations")
    for column in (*columns, "peak", "suggested micro-batch"):
        table.add_column(column, justify="left" if column == "deepspeed" else "right")
    for name in dict.fromkeys((*CONFIGURATIONS, config.deepspeed)):
        found = memory_of(config, networks, name, gpus, needed.of(rows), share // rows)
        parts = (found.parameters, found.gradients, found.optimizer, found.bucket)
        numbers = [f"{x / 1e9:.2f}" for x in (*parts, found.activations, found.total)]
        micro = largest_micro_batch(config, networks, phase, name, gpus, card, needed)
        chosen = f"[bold]{name}[/bold]" if name == config.deepspeed else name
        table.add_row(chosen, *numbers, str(micro or "does not fit"))
    return table
