"""Where tasks run: in this process, on a local Dask cluster, or on one that is running already.

Tasks are pure and write their result under a name that says what it is, so a task that is run
twice, or again after its worker was killed, changes nothing.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.workers import interrupts_put_off
from convbert.models.errors import TransientError, UserError

T = TypeVar("T")
R = TypeVar("R")

# A worker that is killed takes its task along; only a task that kills many is itself the cause.
_ALLOWED_DEATHS = 10


class Engine(Protocol):
    """Something that runs tasks."""

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], done: Callable[[R], None]
    ) -> list[R]:
        """Return the results in the order of ``tasks``; each is passed to ``done`` as it comes."""
        ...


class SerialEngine:
    """Runs one task after the other here."""

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], done: Callable[[R], None]
    ) -> list[R]:
        """Run the tasks in order."""
        results = []
        for task in tasks:
            results.append(function(task))
            done(results[-1])
        return results


class DaskEngine:
    """Runs tasks on the workers of a Dask scheduler."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], done: Callable[[R], None]
    ) -> list[R]:
        """Submit all tasks.

        Raises ``UserError`` if one kills its workers, ``TransientError`` if the scheduler is lost.
        """
        from distributed import KilledWorker, as_completed

        futures = self._client.map(function, tasks, pure=False)
        numbers = {future.key: number for number, future in enumerate(futures)}
        results: dict[int, R] = {}
        try:
            for future in as_completed(futures, loop=self._client.loop):
                number = numbers[future.key]
                results[number] = future.result()
                done(results[number])
                future.release()
        except KilledWorker as error:
            raise UserError(
                f"{tasks[number]!s:.200}: {_ALLOWED_DEATHS} workers were lost with this task "
                f"({error.last_worker.address} last), most likely for lack of memory; use fewer "
                "workers or a smaller piece_megabytes, and start again: finished work is kept"
            ) from None
        except CancelledError:
            raise TransientError(
                "the scheduler does not answer any more; start it and its workers again, then the "
                "build: finished work is kept"
            ) from None
        finally:
            with suppress(Exception):  # a scheduler that is lost has no tasks any more
                self._client.cancel(futures, force=True)
        return [results[number] for number in range(len(tasks))]


@contextmanager
def open_engine(
    workers: int | None, scheduler_file: Path | None, scratch: Path
) -> Iterator[Engine]:
    """Give an engine for the block.

    With ``scheduler_file`` it is the cluster whose ``dask scheduler`` wrote that file, otherwise
    ``workers`` processes of this machine (default: one per core). ``scratch`` takes what local
    workers spill.
    """
    count = workers or len(os.sched_getaffinity(0))
    if scheduler_file is None and count == 1:
        yield SerialEngine()
        return
    dask = load_extra("dask", "corpus", "building a corpus")
    distributed = load_extra("distributed", "corpus", "building a corpus")
    settings = {
        "distributed.scheduler.allowed-failures": _ALLOWED_DEATHS,
        "distributed.worker.daemon": True,
        "temporary-directory": str(scratch),
    }
    with dask.config.set(settings):
        if scheduler_file is not None:
            with _external(distributed, scheduler_file) as client:
                yield DaskEngine(client)
        else:
            with interrupts_put_off():  # its thread also starts those that follow killed ones
                cluster = distributed.LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address="127.0.0.1:0",
                    silence_logs="CRITICAL",
                )
            with cluster, distributed.Client(cluster, set_as_default=False) as client:
                yield DaskEngine(client)


@contextmanager
def _external(distributed: Any, scheduler_file: Path) -> Iterator[Any]:
    """Connect to a running scheduler and wait for its first worker."""
    if not scheduler_file.is_file():
        raise UserError(
            f"{scheduler_file}: no scheduler file; start `dask scheduler --scheduler-file "
            f"{scheduler_file}` first"
        )
    try:
        client = distributed.Client(
            scheduler_file=str(scheduler_file), set_as_default=False, timeout="60s"
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{scheduler_file}: its scheduler does not answer ({reason}); start it again"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=600)
        except TimeoutError:
            raise UserError(
                f"{scheduler_file}: no worker came within 10 minutes; start `dask worker "
                f"--scheduler-file {scheduler_file}`"
            ) from None
        yield client
