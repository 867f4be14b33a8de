"""Pretraining steps on one GPU, in turns: ``python -m tests.benchmarks.gpu``.

Compiling takes minutes and one processor core, so every contender has a process of its own that
compiles beside the others of its size; nothing is timed before all of them are ready. Then they
take turns. One size follows the other: all at once would not fit on a GPU of 80 GB.
"""

import json
import re
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Any

import torch
import typer

from convbert.models.presets import preset
from tests.benchmarks.measuring import Contender, measure_rates, synchronize
from tests.benchmarks.pretraining import ours, random_batch, rival
from tests.benchmarks.suites import Setting, compile_as_trained, compile_plainly
from tests.benchmarks.table import machine

# Without a GPU it runs all the same, so that this program can be tried.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
LOGS = Path(gettempdir())
CALLS = 10  # between two waits for the GPU: a run waits once per update
NAMES = {
    "transformers": "transformers ConvBERT, compiled",
    "electra": "our ELECTRA, compiled",
    "convbert": "our ConvBERT, compiled",
}


@dataclass(frozen=True)
class Job:
    """One contender at one size of the problem."""

    contender: str
    size: str
    rows: int
    length: int

    @classmethod
    def parse(cls, text: str) -> "Job":
        """Read ``CONTENDER:SIZE:ROWSxLENGTH``."""
        match = re.fullmatch(rf"({'|'.join(NAMES)}):([\w-]+):(\d+)x(\d+)", text)
        if match is None:
            raise typer.BadParameter(f"{text!r}: write it like convbert:base:32x512")
        contender, size, rows, length = match.groups()
        return cls(contender, size, int(rows), int(length))

    @property
    def setting(self) -> Setting:
        """The same in the terms of the other suites."""
        return Setting(self.size, self.rows, self.length, DTYPE, DEVICE)

    def build(self) -> Contender:
        """Return the step to measure."""
        setting, name = self.setting, NAMES[self.contender]
        batch = random_batch(setting)
        if self.contender == "transformers":
            return rival(setting, name, preset(self.size), batch, compile_plainly)
        family = "electra-" if self.contender == "electra" else ""
        return ours(setting, name, preset(family + self.size), batch, compile_as_trained)


class Worker:
    """The process of one job; it compiles, says so, and measures when it is told to."""

    def __init__(self, job: Job, logs: Path) -> None:
        self.job = job
        self.rounds: list[dict[str, float]] = []
        self.ready = False
        name = f"{job.contender}-{job.size}-{job.rows}x{job.length}"
        self._log = open(logs / f"{name}.log", "wb")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.gpu", "--work", json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        threading.Thread(target=self._await_ready, daemon=True).start()

    def _await_ready(self) -> None:
        answer = self._answer()
        self.first_call, self.gigabytes = answer.get("first_call"), answer.get("gigabytes", 0.0)
        self.ready = self.first_call is not None

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline() or "{}")

    @property
    def ended(self) -> bool:
        """Whether the process is gone, with an error in its log."""
        return self._process.poll() is not None

    def measure(self) -> None:
        """Let the process time some calls."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.rounds.append(self._answer())

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def median(self, key: str) -> float:
        """Return the median over the rounds."""
        return statistics.median(r[key] for r in self.rounds)


def main(
    jobs: Annotated[
        list[str] | None, typer.Argument(help="CONTENDER:SIZE:ROWSxLENGTH; default: all")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Turns of each contender.")] = 7,
    patience: Annotated[int, typer.Option(help="Seconds for compiling.")] = 1800,
    output: Annotated[Path | None, typer.Option(help="Append the table to this file.")] = None,
    logs: Annotated[Path, typer.Option(help="Where the processes log.")] = LOGS,
    work: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure a pretraining step of all contenders, size by size."""
    if work:
        _work(Job(**json.loads(work)))
        return
    shapes = ("128x128", "32x512")
    texts = jobs or [
        f"{c}:{s}:{x}" for s in ("small", "medium-small", "base") for x in shapes for c in NAMES
    ]
    parsed = [Job.parse(text) for text in texts]
    for size in dict.fromkeys(job.size for job in parsed):
        same = [job for job in parsed if job.size == size]
        table = _compare(same, rounds=rounds, patience=patience, logs=logs)
        print(table, flush=True)
        if output is not None:
            with output.open("a") as file:
                file.write(table + "\n\n")


def _compare(jobs: list[Job], *, rounds: int, patience: int, logs: Path) -> str:
    """Compile the jobs side by side and measure them in turns; return the table."""
    workers = [Worker(job, logs) for job in jobs]
    end = time.monotonic() + patience
    while time.monotonic() < end and not all(w.ready or w.ended for w in workers):
        time.sleep(1)
    ready = [w for w in workers if w.ready]
    for worker in workers:
        if worker not in ready:
            print(f"not ready, left out: {worker.job}; logs in {logs}", file=sys.stderr)
            worker.stop()
    for _ in range(rounds):
        for worker in ready:
            worker.measure()
    for worker in ready:
        worker.stop()
    return _table(ready) if ready else f"{jobs[0].size}: nothing was ready"


def _work(job: Job) -> None:
    contender = job.build()
    start = time.perf_counter()
    for _ in range(4):  # compile, record graphs, replay
        contender.run()
    synchronize()
    first_call, occupied = time.perf_counter() - start, 0.0
    if DEVICE == "cuda":
        occupied = torch.cuda.max_memory_reserved() / 1e9
    print(json.dumps({"first_call": first_call, "gigabytes": occupied}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(_measure(contender)), flush=True)


def _measure(contender: Contender) -> dict[str, float]:
    rate = measure_rates(DTYPE, DEVICE, calls=4).gemm
    contender.run()
    synchronize()
    start = time.perf_counter()
    for _ in range(CALLS):
        contender.run()
    synchronize()
    seconds = (time.perf_counter() - start) / CALLS
    return {
        "seconds": seconds,
        "utilization": contender.flops / seconds / rate,
        "gemm": rate,
    }


def _table(workers: list[Worker]) -> str:
    lines = [
        f"{machine(DEVICE)}, torch {torch.__version__}, {DTYPE}, medians of "
        f"{len(workers[0].rounds)} rounds of {CALLS} steps; matrix product "
        f"{statistics.median(w.median('gemm') for w in workers) / 1e12:,.0f} Tflop/s",
        "",
        "| size, batch | | ms | tokens/s | speed | MFU | GB reserved | first calls s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for worker in workers:
        job = worker.job
        same = [w for w in workers if w.job.setting == job.setting]
        pairs = zip(same[0].rounds, worker.rounds, strict=True)
        ratio = statistics.median(theirs["seconds"] / own["seconds"] for theirs, own in pairs)
        cells: list[Any] = [
            f"{job.size}, {job.rows} x {job.length}",
            NAMES[job.contender],
            f"{worker.median('seconds') * 1e3:,.2f}",
            f"{job.rows * job.length / worker.median('seconds'):,.0f}",
            f"{ratio:.2f}x" if len(same) > 1 else "",
            f"{worker.median('utilization'):.1%}",
            f"{worker.gigabytes:.1f}",
            f"{worker.first_call:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
