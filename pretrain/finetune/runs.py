"""Many fine-tunings at once: several starting points and seeds in parallel processes."""

import functools
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.device import compute_device, default_workers
from convbert.pretrain.finetune.loop import FinetuneResult, check_fit, finetune_prepared

Start = Encoder | EncoderConfig
"""What fine-tuning starts from: trained weights, or a shape initialised anew for each seed."""


class _Job(BaseModel):
    """One fine-tuning as a worker gets it; without ``weights`` it starts from random ones."""

    label: str
    config: EncoderConfig
    data: Path
    weights: Path | None
    seed: int
    keep: bool


def finetune_all(
    starts: Mapping[str, Start],
    data: TaskData,
    *,
    seeds: Sequence[int],
    workers: int | None = None,
    keep: bool = False,
    on_result: Callable[[str, FinetuneResult], None] = lambda label, result: None,
) -> dict[str, list[FinetuneResult]]:
    """Fine-tune every start with every seed; return the results by label, ordered by seed.

    Each runs in one of ``workers`` processes (default: one per visible GPU, or per available core
    where there is none) on one thread, so that the results do not depend on how many there are.
    The processes take the GPUs in turn. ``keep`` asks for predictions too. ``on_result`` is called
    in this process as each one ends.
    """
    for start in starts.values():
        check_fit(_config(start), data)
    count = min(workers or default_workers(), len(starts) * len(seeds))
    results: dict[str, list[FinetuneResult]] = {label: [] for label in starts}
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    numbers = context.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    with (
        tempfile.TemporaryDirectory(prefix="finetune-") as folder,
        ProcessPoolExecutor(
            count, mp_context=context, initializer=_start_worker, initargs=(numbers,)
        ) as pool,
    ):
        jobs = _jobs(starts, data, seeds, keep, Path(folder))
        futures = {pool.submit(_work, job): job.label for job in jobs}
        try:
            for future in as_completed(futures):
                label, result = futures[future], future.result()
                results[label].append(result)
                on_result(label, result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {label: sorted(found, key=lambda r: r.seed) for label, found in results.items()}


def _config(start: Start) -> EncoderConfig:
    return start.config if isinstance(start, Encoder) else start


def _jobs(
    starts: Mapping[str, Start],
    data: TaskData,
    seeds: Sequence[int],
    keep: bool,
    folder: Path,
) -> list[_Job]:
    """Write what the workers need into ``folder`` and describe their work."""
    task = folder / "task.pickle"
    task.write_bytes(pickle.dumps(data))
    jobs = []
    for number, (label, start) in enumerate(starts.items()):
        weights = None
        if isinstance(start, Encoder):
            weights = folder / f"{number}.safetensors"
            tensors = {k: v.detach().cpu().contiguous() for k, v in start.state_dict().items()}
            save_file(tensors, weights)
        jobs += [
            _Job(
                label=label,
                config=_config(start),
                data=task,
                weights=weights,
                seed=seed,
                keep=keep,
            )
            for seed in seeds
        ]
    return jobs


def _start_worker(numbers: "SimpleQueue[int]") -> None:
    """Use one thread and, where there are GPUs, the one that this worker's number falls to."""
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(numbers.get() % torch.cuda.device_count())


@functools.cache
def _load(path: Path) -> TaskData:
    """Read the task once per worker process."""
    data: TaskData = pickle.loads(path.read_bytes())
    return data


def _work(job: _Job) -> FinetuneResult:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        encoder = Encoder(job.config)
    if job.weights is not None:
        encoder.load_state_dict(load_file(job.weights))
    encoder.to(compute_device())
    return finetune_prepared(encoder, _load(job.data), seed=job.seed, keep=job.keep)
