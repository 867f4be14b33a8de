"""Compare speed and memory with other implementations: ``python -m tests.benchmarks --help``.

All contenders of a table run in turns in this process: same batch, same threads, same precision.
"""

import gc
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from tests.benchmarks.data_suites import DATA_SUITES
from tests.benchmarks.fusions import attending, dropout
from tests.benchmarks.measuring import Comparison, measure, measure_rates
from tests.benchmarks.parts import parts
from tests.benchmarks.pretraining import pretraining
from tests.benchmarks.suites import SUITES, Setting
from tests.benchmarks.table import layout, machine

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MODEL_SUITES = {
    **SUITES,
    "pretraining": pretraining,
    "parts": parts,
    "dropout": dropout,
    "attention": attending,
}
EVERY = [*MODEL_SUITES, *DATA_SUITES]


def main(
    suite: Annotated[list[str], typer.Option(help=f"Any of {', '.join(EVERY)}.")] = EVERY,
    size: Annotated[list[str], typer.Option(help="Model sizes.")] = ["small", "base"],  # noqa: B006
    batch: Annotated[int, typer.Option(help="Rows per call at the first length.")] = 8,
    length: Annotated[list[int], typer.Option(help="Tokens per row.")] = [128],  # noqa: B006
    dtype: Annotated[str, typer.Option(help=f"Any of {', '.join(DTYPES)}.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads of every contender.")] = 2,
    seconds: Annotated[float, typer.Option(help="Measuring time per table.")] = 20.0,
    output: Annotated[Path | None, typer.Option(help="Append the tables to this file.")] = None,
) -> None:
    """Run all contenders in turns in this process and print a markdown table per comparison."""
    torch.set_num_threads(threads)
    rates = measure_rates(DTYPES[dtype], device)
    begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    _print(
        f"{machine(device)}, {threads} CPU threads, torch {torch.__version__}, {dtype}, {begun}; "
        f"largest matrix product {rates.gemm / 1e9:,.0f} Gflop/s, copies {rates.copy / 1e9:,.0f} "
        "GB/s read and written",
        output,
    )

    def show(heading: str, build: Callable[[], Comparison]) -> None:
        torch.manual_seed(0)
        comparison = build()
        results = measure(comparison, seconds=seconds)
        _print(layout(heading, comparison, results, rates), output)
        torch.compiler.reset()
        gc.collect()

    for one_size, one_length, name in itertools.product(size, length, suite):
        if name in MODEL_SUITES:
            rows = max(1, batch * length[0] // one_length)
            setting = Setting(one_size, rows, one_length, DTYPES[dtype], device)
            heading = f"{one_size}, {rows} x {one_length}"
            show(heading, lambda s=setting, n=name: MODEL_SUITES[n](s))  # type: ignore[misc]
    for name in suite:
        if name in DATA_SUITES:
            show(name, DATA_SUITES[name])


def _print(text: str, output: Path | None) -> None:
    print(text + "\n", flush=True)
    if output is not None:
        with output.open("a") as file:
            file.write(text + "\n\n")


if __name__ == "__main__":
    typer.run(main)
