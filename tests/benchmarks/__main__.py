"""Compare speed and memory with other implementations: ``python -m tests.benchmarks --help``."""

import platform
from pathlib import Path
from typing import Annotated

import torch
import typer

from tests.benchmarks.measuring import Comparison, Result, gemm_rate, measure
from tests.benchmarks.suites import SUITES, Setting

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main(
    suite: Annotated[list[str], typer.Option(help=f"Any of {', '.join(SUITES)}.")] = list(SUITES),  # noqa: B006
    size: Annotated[list[str], typer.Option(help="Model sizes.")] = ["small", "base"],  # noqa: B006
    batch: Annotated[int, typer.Option(help="Rows per call.")] = 16,
    length: Annotated[int, typer.Option(help="Tokens per row.")] = 128,
    dtype: Annotated[str, typer.Option(help=f"Any of {', '.join(DTYPES)}.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads of every contender.")] = 2,
    seconds: Annotated[float, typer.Option(help="Measuring time per table.")] = 20.0,
    output: Annotated[Path | None, typer.Option(help="Append the tables to this file.")] = None,
) -> None:
    """Run all contenders in turns in this process and print a markdown table per comparison."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    peak = gemm_rate(DTYPES[dtype], device)
    lines = [
        f"{_machine(device)}, {threads} CPU threads, torch {torch.__version__}, {dtype}, "
        f"{batch} x {length} tokens, largest matrix product {peak / 1e9:,.0f} Gflop/s",
        "",
    ]
    print(lines[0], flush=True)
    for one_size in size:
        for one_suite in suite:
            setting = Setting(one_size, batch, length, DTYPES[dtype], device)
            comparison = SUITES[one_suite](setting)
            table = _table(one_size, comparison, measure(comparison, seconds=seconds), peak)
            print("\n" + table, flush=True)
            lines += [table, ""]
            torch.compiler.reset()
    if output is not None:
        with output.open("a") as file:
            file.write("\n".join(lines) + "\n")


def _table(size: str, comparison: Comparison, results: list[Result], peak: float) -> str:
    """Lay out one comparison; speed and memory are relative to its first row."""
    first = results[0]
    rows = [
        f"**{size}: {comparison.title}** ({len(first.seconds)} rounds in turns)",
        "",
        "| | median ms | tokens/s | speed | peak MB | memory | of GEMM rate | first call s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        work = comparison.flops.get(result.contender.name)
        share = f"{work / result.median / peak:.0%}" if work else ""
        rows.append(
            f"| {result.contender.name} | {result.median * 1e3:,.2f} "
            f"| {comparison.tokens / result.median:,.0f} | {result.speedup_over(first):.2f}x "
            f"| {result.peak_bytes / 1e6:,.1f} | {result.peak_bytes / first.peak_bytes:.2f}x "
            f"| {share} | {result.first_call_seconds:.1f} |"
        )
    return "\n".join(rows)


def _machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [
        x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")
    ]
    return names[0].split(":")[1].strip() if names else platform.processor()


if __name__ == "__main__":
    typer.run(main)
