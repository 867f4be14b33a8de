"""The test's side of ``zygote.py``: runs on forked processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from convbert.pretrain.run.branches import FILE_NAME as BRANCH
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.run.preparation import prepare

SETTINGS = [
    "steps=12",
    "global_batch=8",
    "schedule.warmup_steps=2",
    "checkpoint.every=4",
    "tracking.log_every=1",
    "tracking.uri=off",
    "tracking.system_seconds=null",
    "evaluation.show=[]",
    "tracking.page_seconds=null",
    "threads=1",
    "precision=fp32",
    "model.overrides={num_layers: 1, hidden_size: 32, embedding_size: 32, num_heads: 2}",
]


class Forked:
    """Processes of one start of a run."""

    def __init__(self, zygote: "Zygote", pids: list[int], log: Path, store: TCPStore) -> None:
        self.pids = pids
        self.log = log
        self._zygote = zygote
        self._store = store  # serves the processes for as long as this object lives

    def wait(self) -> list[int]:
        """Return the exit codes by rank; negative for a death by signal."""
        return self._zygote.ask({"do": "wait", "pids": self.pids})

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process."""
        os.kill(self.pids[rank], number)


class Zygote:
    """The process that forks training processes, and the runs that it starts."""

    def __init__(self, shards: Path, tokenizer: Path) -> None:
        manifest = f"data.manifest={shards / 'manifest.json'}"
        self.settings = [*SETTINGS, manifest, f"data.tokenizer={tokenizer}"]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, command: dict[str, Any]) -> list[int]:
        """Send a command and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        run: Path,
        *settings: str,
        processes: int = 2,
        faults: dict[str, dict[str, Any]] | None = None,
    ) -> Forked:
        """Start or continue a run; later settings override earlier ones.

        A branch, which its command has prepared, continues with the settings that it has.
        """
        if (run / BRANCH).exists():
            prepare(str(run), list(settings), None, processes)
        else:
            prepare("tiny", [*self.settings, *settings], run, processes)
        return self.launch(run, processes, faults)

    def launch(
        self, run: Path, processes: int = 2, faults: dict[str, dict[str, Any]] | None = None
    ) -> Forked:
        """Start the processes of a run as its directory is."""
        log = run / "output.log"
        log.touch()
        # It picks its own port and keeps it, so runs side by side cannot collide.
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        command = {
            "do": "start",
            "run": str(run),
            "world": processes,
            "port": store.port,
            "log": str(log),
            "faults": faults or {},
        }
        return Forked(self, self.ask(command), log, store)

    def finish(self, run: Path, *settings: str, **options: Any) -> None:
        """Run to the end; fails the test if it does not succeed."""
        started = self.start(run, *settings, **options)
        codes = started.wait()
        assert not any(codes), (codes, started.log.read_text()[-3000:])

    def close(self) -> None:
        """End the process, and with it everything it started."""
        self._process.kill()
        self._process.wait()


def wait_for(done: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until ``done``; fails the test when that takes too long."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def kill_after(zygote: Zygote, run: Path, step: int, *settings: str, processes: int = 2) -> None:
    """Start a run and kill all its processes, as a node failure does, after a checkpoint."""
    hang = {"hang": {"on": 0, "step": step + 2}}  # so that it cannot finish before it is killed
    started = zygote.start(run, *settings, processes=processes, faults=hang)
    wait_for(checkpoint_directory(run / "checkpoints", step).exists)
    for rank in range(processes):
        started.kill(rank)
    assert started.wait() == [-signal.SIGKILL] * processes


def positions(folder: Path) -> dict[int, list[list[int]]]:
    """Return by update what ``record_positions`` saw: one list of positions per reading process."""
    found: dict[int, list[list[int]]] = {}
    for file in sorted(folder.glob("positions-*.jsonl")):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                step, read = json.loads(line)
                found.setdefault(step, []).append(read)
    return found
