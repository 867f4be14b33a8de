"""Where the time of traced updates goes: ``python -m tests.benchmarks.kernels FOLDER``."""

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

DEVICE_KINDS = ("kernel", "gpu_memcpy", "gpu_memset")


def main(
    folder: Annotated[Path, typer.Argument(help="Traces below it are read.")],
    top: Annotated[int, typer.Option(help="Kernels of each.")] = 25,
    updates: Annotated[int, typer.Option(help="That a trace holds.")] = 3,
) -> None:
    """Print the kernels that take longest, or the operators where the trace has no kernels."""
    traces = sorted(folder.rglob("trace-*.json.gz"))
    if not traces:
        raise typer.BadParameter(f"{folder}: no trace-*.json.gz below it")
    for path in traces:
        table = _table(path, top, updates)
        print(table + "\n", flush=True)
        with (folder / "kernels.md").open("a") as file:
            file.write(table + "\n\n")


def _table(path: Path, top: int, updates: int) -> str:
    with gzip.open(path) as file:
        events = [e for e in json.load(file)["traceEvents"] if "dur" in e]
    kinds = DEVICE_KINDS if any(e.get("cat") in DEVICE_KINDS for e in events) else ("cpu_op",)
    times: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in events:
        if event.get("cat") in kinds:
            times[event["name"]] += event["dur"] / 1e3 / updates
            calls[event["name"]] += 1
    total = sum(times.values())
    lines = [
        f"{path.parent.name}: {total:,.2f} ms an update in {sum(calls.values()) / updates:,.0f} "
        f"calls ({', '.join(kinds)})",
        "",
        "| ms an update | share | calls | name |",
        "|---:|---:|---:|---|",
    ]
    for name, spent in sorted(times.items(), key=lambda item: -item[1])[:top]:
        shown = name.replace("|", "/")[:90]
        lines.append(
            f"| {spent:.3f} | {spent / total:.1%} | {calls[name] / updates:.0f} | {shown} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
