"""What Muon's update costs beside AdamW's: ``python -m tests.benchmarks.optimizers``.

Both update the same networks from the same gradients, in turns; a step is forward, backward, norm,
clipping and the optimizer, so that the ratio is that of whole updates.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer

from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.engine.assembly import build_engine
from convbert.pretrain.engine.process_group import init_distributed
from convbert.pretrain.objective.losses import Normalizers, build_objective
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.objective import ObjectiveConfig
from convbert.pretrain.settings.optimizer import OptimizerConfig
from tests.benchmarks.measuring import synchronize
from tests.benchmarks.pretraining import mask, random_batch
from tests.benchmarks.suites import Setting
from tests.benchmarks.table import machine

NAMES = ("adamw", "muon")
WARMING = 2


def main(
    size: Annotated[list[str], typer.Option(help="Model sizes.")] = ["tiny", "small", "base"],  # noqa: B006
    batch: Annotated[int, typer.Option(help="Rows of an update.")] = 8,
    length: Annotated[int, typer.Option(help="Tokens per row.")] = 128,
    rounds: Annotated[int, typer.Option(help="Updates of each that are timed.")] = 9,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    stage: Annotated[str, typer.Option(help="DeepSpeed configuration.")] = "zero1",
    output: Annotated[Path | None, typer.Option(help="Append the table to this file.")] = None,
) -> None:
    """Print a markdown table: an update with AdamW, with Muon, and their paired ratio."""
    torch.set_num_threads(threads)
    device = init_distributed().type
    precision = "bf16" if device == "cuda" else "fp32"
    lines = [
        f"{machine(device)}, torch {torch.__version__}, {batch} x {length} tokens, {precision}, "
        f"{stage}, eager, medians of {rounds} rounds in turns, "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}",
        "",
        "| size | AdamW, ms an update | Muon, ms | ratio | optimizer alone, AdamW ms | Muon ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in size:
        lines.append(_row(Setting(one, batch, length, torch.float32, device), stage, rounds))
        print(lines[-1], flush=True)
    table = "\n".join(lines)
    print(f"\n{table}", flush=True)
    if output is not None:
        with output.open("a") as file:
            file.write(table + "\n\n")
    dist.destroy_process_group()


def _row(setting: Setting, stage: str, rounds: int) -> str:
    steps = {name: _update(setting, stage, name) for name in NAMES}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    for index in range(rounds + WARMING):
        for name, step in steps.items():
            found = step()
            if index >= WARMING:
                times[name].append(found)
    whole = {name: [t[0] for t in times[name]] for name in NAMES}
    alone = {name: statistics.median(t[1] for t in times[name]) for name in NAMES}
    ratio = statistics.median(m / a for a, m in zip(*(whole[n] for n in NAMES), strict=True))
    medians = [f"{1e3 * statistics.median(whole[name]):,.1f}" for name in NAMES]
    parts = [f"{1e3 * alone[name]:,.1f}" for name in NAMES]
    return f"| {' | '.join([setting.size, *medians, f'{ratio:.3f}', *parts])} |"


def _update(setting: Setting, stage: str, name: str) -> Callable[[], tuple[float, float]]:
    """Return an update that says how long it and its optimizer took, in seconds."""
    torch.manual_seed(0)
    objective = build_objective(build_model(preset(setting.size)), ObjectiveConfig())
    config = resolve_deepspeed_config(
        load_deepspeed_config(stage),
        precision="bf16" if setting.device == "cuda" else "fp32",
        micro_batch=setting.batch,
        accumulation=1,
        clip=1.0,
    )
    engine, _ = build_engine(objective, config, OptimizerConfig.model_validate({"name": name}))
    masked = mask(random_batch(setting))
    counts = Normalizers(masked.valid_BM.sum().float(), (masked.document_ids_BL > 0).sum())

    def update() -> tuple[float, float]:
        synchronize()
        begun = time.perf_counter()
        engine.backward(engine.forward(masked, counts)[0])
        synchronize()
        backward = time.perf_counter()
        engine.gradient_norm(1e-5)
        engine.finish(apply=True)
        synchronize()
        done = time.perf_counter()
        return done - begun, done - backward

    return update


if __name__ == "__main__":
    typer.run(main)
