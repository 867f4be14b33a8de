"""Many fine-tuning jobs at once: several starting points and seeds in parallel processes."""

import functools
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from convbert.data_pipeline.workers import WorkerDied, Workers
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.device import compute_device, default_workers
from convbert.pretrain.finetune.loop import FinetuneResult, check_fit, finetune

InitialEncoder = Encoder | EncoderConfig
"""What fine-tuning starts from: trained weights, or a shape initialized anew for each seed."""


def check_starts(starts: Mapping[str, InitialEncoder], data: TaskData) -> None:
    """Raise ``UserError`` unless every start can read the task's ids and lengths."""
    for start in starts.values():
        check_fit(start.config if isinstance(start, Encoder) else start, data)


def finetune_all(
    starts: Mapping[str, InitialEncoder],
    data: TaskData,
    *,
    seeds: Sequence[int],
    workers: int | None = None,
    keep: bool = False,
    on_result: Callable[[str, FinetuneResult], None] = lambda label, result: None,
    known: Mapping[str, Sequence[FinetuneResult]] = MappingProxyType({}),
    models: Callable[[str, int], Path | None] = lambda label, seed: None,
) -> dict[str, list[FinetuneResult]]:
    """Fine-tune every start with every seed; return the results by label, ordered by seed.

    Each runs in one of ``workers`` processes (default: one per visible GPU, or per available core
    where there is none) on one thread, so that the results do not depend on how many there are.
    The processes take the GPUs in turn. ``keep`` asks for predictions too. ``on_result`` is called
    in this process as each one ends. What is ``known`` is not measured again. ``models`` says where
    the model of a start and a seed is written, or None. Raises ``UserError`` where a process is
    killed.
    """
    check_starts(starts, data)
    results = {label: list(known.get(label, ())) for label in starts}
    open_ = {
        label: [seed for seed in seeds if seed not in {r.seed for r in found}]
        for label, found in results.items()
    }
    count = min(workers or default_workers(), sum(map(len, open_.values())))
    if count:
        _measure(starts, data, open_, count, keep, on_result, models, results)
    return {label: sorted(found, key=lambda r: r.seed) for label, found in results.items()}


def _measure(
    starts: Mapping[str, InitialEncoder],
    data: TaskData,
    seeds: Mapping[str, Sequence[int]],
    count: int,
    keep: bool,
    on_result: Callable[[str, FinetuneResult], None],
    models: Callable[[str, int], Path | None],
    results: dict[str, list[FinetuneResult]],
) -> None:
    """Fine-tune each start with its ``seeds`` in ``count`` processes; append to ``results``."""
    with (
        tempfile.TemporaryDirectory(prefix="finetune-") as folder,
        Workers(count, _use_one_thread) as pool,
    ):
        task = _write(data, Path(folder, "task.pickle"))
        futures: dict[Future[FinetuneResult], str] = {}
        for number, (label, start) in enumerate(starts.items()):
            initial = _write(start, Path(folder, f"{number}.pickle"))
            for seed in seeds[label]:
                job = pool.submit(_work, initial, task, seed, keep, models(label, seed))
                futures[job] = label
        try:
            for future in as_completed(futures):
                label, result = futures[future], future.result()
                results[label].append(result)
                on_result(label, result)
        except WorkerDied as death:
            raise UserError(
                f"task {data.task.name}: one of {count} processes was {death}; lower --workers, "
                "and the seeds that have ended count"
            ) from None


def _write(content: Any, path: Path) -> Path:
    """Write once what the workers share: jobs that carried it would each send it through a pipe."""
    path.write_bytes(pickle.dumps(content))
    return path


def _use_one_thread(number: int) -> None:
    """Use one thread and, where there are GPUs, the one that this worker's number falls to."""
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())


@functools.cache
def _read_task(path: Path) -> TaskData:
    """Read the task once per worker process."""
    data: TaskData = pickle.loads(path.read_bytes())
    return data


def _work(
    initial: Path, task: Path, seed: int, keep: bool, model_to: Path | None
) -> FinetuneResult:
    encoder: InitialEncoder = pickle.loads(initial.read_bytes())
    if isinstance(encoder, EncoderConfig):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(encoder)
    encoder = encoder.to(compute_device())
    return finetune(encoder, _read_task(task), seed=seed, keep=keep, model_to=model_to)
