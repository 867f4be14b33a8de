"""The measurements that the processes of all nodes make together: speeds, links, all-reduce."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from convbert.pretrain.run.store import host_store

_REPEATS = 5


@contextmanager
def joined(local: int, patience: float) -> Iterator[None]:
    """Be one of all processes, number ``local`` on its node, while the block runs.

    Raises ``RuntimeError`` if the others do not come within ``patience`` seconds, or leave.
    """
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)
    store = host_store()
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=patience))
    dist.barrier()
    yield
    dist.barrier()
    dist.destroy_process_group()
    del store


def measure() -> dict[str, float]:
    """Return the values for ``NodeReport`` of a process that has joined the others."""
    per_node = int(os.environ["WORLD_SIZE"]) // int(os.environ["SLURM_STEP_NUM_NODES"])
    cuda = torch.cuda.is_available()
    return _measure(torch.device("cuda" if cuda else "cpu"), per_node)


def _measure(device: torch.device, per_node: int) -> dict[str, float]:
    size = (1 << 26) if device.type == "cuda" else (1 << 20)  # bytes per message
    message = torch.ones(size // 4, device=device)
    dist.barrier()
    found = {"clock": time.time()}
    world = dist.get_world_size()
    own = torch.tensor([_tflops(device)], device=device)
    everyone = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(everyone, own)
    first = dist.get_rank() // per_node * per_node
    found["tflops"] = min(float(t) for t in everyone[first : first + per_node])
    if world > 1:
        seconds = _timed(lambda: dist.all_reduce(message), device)
        found["allreduce_gbps"] = 2 * (world - 1) / world * size / seconds / 1e9
    if world // per_node > 2:
        found["link_gbps"] = _links(message, per_node, device)
    return found


def _tflops(device: torch.device) -> float:
    """Return the speed of a matrix product that keeps a GPU busy for some milliseconds."""
    width = 4096 if device.type == "cuda" else 384
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    left = torch.ones(width, width, device=device, dtype=kind)
    return 2 * width**3 / _timed(lambda: left @ left, device) / 1e12


def _links(message: Tensor, per_node: int, device: torch.device) -> float:
    """Exchange with the next and the previous node in turn; return the better bandwidth in GB/s.

    Only a slow node has two slow links: a slow neighbour slows one of them. Of the processes of a
    node the first one sends; the others return 0.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    nodes, node = world // per_node, rank // per_node
    other = torch.empty_like(message)
    best = 0.0
    for shift in (1, nodes - 1):
        if rank % per_node == 0:
            target = (node + shift) % nodes * per_node
            source = (node - shift) % nodes * per_node
            both = [dist.P2POp(dist.isend, message, target), dist.P2POp(dist.irecv, other, source)]

            def exchange(both: list[dist.P2POp] = both) -> None:
                for request in dist.batch_isend_irecv(both):
                    request.wait()

            seconds = _timed(exchange, device)
            best = max(best, message.numel() * message.element_size() / seconds / 1e9)
        dist.barrier()
    return best


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of a piece of work, after one run to warm up."""
    times = []
    for _ in range(_REPEATS + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])
