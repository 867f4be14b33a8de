"""Record work of the device as a CUDA graph, which one call then launches."""

from collections.abc import Callable

import torch

Work = Callable[[], None]
Recorder = Callable[[Work], Work]


def record(work: Work) -> Work:
    """Return what replays ``work``, which reads and writes the same tensors in every call.

    It runs twice before that, on another stream than the usual one, as CUDA asks for: what is
    compiled or allocated at first is not recorded. Raises RuntimeError for work that cannot be
    recorded, as where the host reads from the device.
    """
    usual, other = torch.cuda.current_stream(), torch.cuda.Stream()
    other.wait_stream(usual)
    with torch.cuda.stream(other):
        work()
        work()
    usual.wait_stream(other)
    graph = torch.cuda.CUDAGraph()
    # Other threads (which read batches ahead and pin them) may use the GPU meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay
