"""Start training processes by fork: fast, because the parent has imported everything.

``python zygote.py`` reads one JSON command a line: ``start`` forks the processes of a run, which
then do exactly what ``python -m convbert.pretrain.training.worker`` does; ``wait`` answers with
their exit statuses. A start may name faults (of ``faults.py``), which the trainer gets as hooks.
"""

import json
import os
import signal
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(__file__))
os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed  # noqa: F401
import torch
from faults import Faults

from convbert.pretrain.tracking import tracker  # noqa: F401
from convbert.pretrain.training import trainer, worker  # noqa: F401

GRACE_SECONDS = 5.0


def _child(command: dict[str, Any], rank: int) -> None:
    log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(command["world"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(command["port"]),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the test serves the store, no process of the run
    }
    code = 1
    try:
        hooks = Faults(rank, command["faults"])
        sys.argv = ["worker", command["run"]]
        code = worker.main(hooks)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def start(command: dict[str, Any]) -> list[int]:
    """Fork the processes of a run; return their ids."""
    pids = []
    for rank in range(command["world"]):
        pid = os.fork()
        if pid == 0:
            _child(command, rank)
        pids.append(pid)
    return pids


def wait(pids: list[int]) -> list[int]:
    """Return the exit codes (negative for signals); some time after a failure, kill the rest."""
    codes: dict[int, int] = {}
    failed_at: float | None = None
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes and (found := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(found[1])
        if failed_at is None and any(codes.values()):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
            for pid in pids:
                if pid not in codes:
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


def main() -> None:
    """Serve commands until the input ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        command = json.loads(line)
        answer = start(command) if command["do"] == "start" else wait(command["pids"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
