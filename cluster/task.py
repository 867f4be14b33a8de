"""``python -m convbert.cluster.task MODULE ARGUMENTS``: one of SLURM's tasks in an srun step.

It meets the processes of the other tasks (see ``rendezvous``) and then becomes ``python -m MODULE
ARGUMENTS``, so that SLURM's signals reach that module directly.
"""

import os
import signal
import sys
from pathlib import Path

from convbert.cluster import rendezvous
from convbert.models.errors import UserError
from convbert.pretrain.run.exit_codes import TRANSIENT, USER_ERROR


def main(arguments: list[str]) -> None:
    """Meet the other processes and become the module.

    Stop signals are blocked from here on, until the module is ready for them and unblocks them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP))
    patience = float(os.environ.get("CONVBERT_START_SECONDS", rendezvous.SECONDS))
    try:
        os.environ.update(rendezvous.environment(Path(os.environ["RUN_DIR"]) / "slurm", patience))
    except (TimeoutError, UserError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(USER_ERROR if isinstance(error, UserError) else TRANSIENT)
    os.execv(sys.executable, [sys.executable, "-m", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
