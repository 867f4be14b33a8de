"""Comparisons as markdown tables."""

import platform
from collections.abc import Callable
from pathlib import Path

import torch

from tests.benchmarks.measuring import Comparison, Rates, Result

Cell = Callable[[Result], str]


def layout(heading: str, comparison: Comparison, results: list[Result], rates: Rates) -> str:
    """Lay out one comparison; speed and memory are relative to its first row."""
    first = results[0]
    columns: dict[str, Cell] = {
        "median ms": lambda r: f"{r.median * 1e3:,.2f}",
        "tokens/s": lambda r: f"{comparison.tokens / r.median:,.0f}",
    }
    if comparison.rivals:
        columns["speed"] = lambda r: f"{r.speedup_over(first):.2f}x"
    if comparison.tensors:
        columns["peak MB"] = lambda r: f"{r.peak_bytes / 1e6:,.1f}"
    if comparison.tensors and comparison.rivals:
        columns["memory"] = lambda r: f"{r.peak_bytes / first.peak_bytes:.2f}x"
    if any(r.contender.flops for r in results):
        columns["of GEMM rate"] = lambda r: _share(r.contender.flops / r.median / rates.gemm)
    if any(r.contender.bytes for r in results):
        columns["of copy rate"] = lambda r: _share(r.contender.bytes / r.median / rates.copy)
    columns["first call s"] = lambda r: f"{r.first_call_seconds:.1f}"
    rows = [
        f"**{heading}: {comparison.title}** ({len(first.seconds)} rounds in turns)",
        "",
        f"| | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    for result in results:
        cells = [column(result) for column in columns.values()]
        rows.append(f"| {result.contender.name} | {' | '.join(cells)} |")
    for note in comparison.notes:
        rows += ["", note]
    return "\n".join(rows)


def machine(device: str) -> str:
    """Name the processor or GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [
        x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")
    ]
    return names[0].split(":")[1].strip() if names else platform.processor()


def _share(share: float) -> str:
    return f"{share:.0%}" if share else ""
