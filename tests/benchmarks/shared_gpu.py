"""ZeRO stages on two processes that share a GPU: ``python -m tests.benchmarks.shared_gpu``.

NCCL refuses two processes on one GPU; gloo takes their tensors through the host. It is slow and
says nothing about speed, but the partitioned code runs on the device with two processes. Every
stage has to give the losses of stage 0 in fp32, and in bf16 within what rounding does. Without a
GPU the same runs on the CPU, so that this program can be tried.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from engines import run_cases

STAGES = ("zero0", "zero1", "zero2", "zero3", "zero2-offload", "zero3-offload")
BOUNDS = {"fp32": 2e-4, "bf16": 2e-2}  # relative difference of a loss to that of zero0 in fp32


def main(
    stage: Annotated[list[str], typer.Option(help="DeepSpeed configurations.")] = list(STAGES),  # noqa: B006
    updates: Annotated[int, typer.Option(help="Of each case.")] = 8,
    output: Annotated[Path | None, typer.Option(help="Append the table to this file.")] = None,
) -> None:
    """Print a markdown table and end with 1 where a stage differs by more than its bound."""
    same = {"steps": updates, "dropout": 0.0, "width": 128, "rows": 16}
    cases: dict[str, dict[str, Any]] = {
        f"{one} {precision}": {"deepspeed": one, "precision": precision, **same}
        for precision in BOUNDS
        for one in stage
    }
    reference = {"zero0 fp32": {"deepspeed": "zero0", "precision": "fp32", **same}}
    with tempfile.TemporaryDirectory() as folder:
        found = run_cases(Path(folder), reference | cases, backend="gloo")
    expected = [update["loss"] for update in found["zero0 fp32"]]
    lines = [
        "| case | last loss | largest difference to zero0 in fp32 | bound |",
        "|---|---:|---:|---:|",
    ]
    failed = False
    for name in cases:
        losses = [update["loss"] for update in found[name]]
        apart = max(abs(a / b - 1) for a, b in zip(losses, expected, strict=True))
        bound = BOUNDS[name.split()[1]]
        failed |= not apart <= bound
        mark = "" if apart <= bound else " **exceeded**"
        lines.append(f"| {name} | {losses[-1]:.5f} | {apart:.1e} | {bound:.0e}{mark} |")
    print("\n".join(lines), flush=True)
    if output is not None:
        with output.open("a") as file:
            file.write("\n".join(lines) + "\n\n" + json.dumps(found) + "\n")
    raise typer.Exit(int(failed))


if __name__ == "__main__":
    typer.run(main)
