"""Compiling networks for training, with a word on what goes on, and without them failing."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, fx, nn

# Below 1 the compiler repeats elementwise work in the backward pass where that saves memory; it
# begins to repeat matrix products near 0.4, which costs time. On a GPU elementwise work costs, too.
_CPU_ACTIVATION_BUDGET = 0.9
_SAID_EVERY = 15.0  # seconds

_Function = TypeVar("_Function", bound=Callable[..., Any])

log = logging.getLogger(__name__)


def compile_for_training(module: nn.Module, *, cuda_graphs: bool = False) -> None:
    """Compile the module's ``forward`` in place, for inputs whose shapes stay as they are.

    In evaluation, where shapes differ and results are kept, it runs as it is.

    On a CPU the elementwise parts of a layer are worked out again in the backward pass instead of
    being kept, which takes a quarter to a third off the activations' memory and no measurable time.
    With ``cuda_graphs`` the forward and the backward pass are each recorded once on a GPU and
    replayed: results lie in memory that the next call overwrites, so a caller copies what it keeps.

    What the compiler cannot compile runs as it is, with a warning.
    """
    plain = module.forward
    compiled = torch.compile(plain, backend=_Backend(cuda_graphs), dynamic=False)

    def forward(*inputs: Any, **named: Any) -> Any:
        return (compiled if module.training else plain)(*inputs, **named)

    module.forward = forward


def compiled_for_training(function: _Function) -> _Function:
    """Return the function compiled as ``compile_for_training`` does it.

    Modules among its arguments that are alike share what was compiled for the first of them.
    """
    return cast(_Function, torch.compile(function, backend=_Backend(False), dynamic=False))


class _Backend:
    """Compiles one graph after the other, each with its backward pass."""

    def __init__(self, cuda_graphs: bool) -> None:
        self._patches = {"triton.cudagraphs": True} if cuda_graphs else {}
        self._parts = 0

    def __call__(self, graph: fx.GraphModule, example_inputs: Sequence[Tensor]) -> Any:
        """Return the compiled graph, or the graph itself where the compiler fails."""
        # Loaded by who compiles only: they take two seconds.
        from torch._dynamo.exc import RestartAnalysis
        from torch._functorch import config as functorch_config
        from torch._inductor.compile_fx import compile_fx
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        self._parts += 1
        on_gpu = any(isinstance(x, Tensor) and x.is_cuda for x in example_inputs)
        # The backward pass at once, not when it is first needed: there nothing could replace it.
        changed = functorch_config.patch(
            activation_memory_budget=1.0 if on_gpu else _CPU_ACTIVATION_BUDGET,
            force_non_lazy_backward_lowering=True,
        )
        try:
            with changed, _announced(self._parts):
                return compile_fx(graph, example_inputs, config_patches=self._patches)
        except RestartAnalysis:  # how the compiler asks to be called again
            raise
        except Exception as error:  # of Python's, C++'s and Triton's compilers and what they call
            reason = next(iter(str(error).split("\n")), "")
            log.warning(
                "part %d of the networks runs without the compiler, which failed: %s: %s; if it "
                "worked before, its cache may be damaged: end the runs that use it, remove %s",
                self._parts,
                type(error).__name__,
                reason,
                cache_dir(),
            )
            return graph.forward


@contextmanager
def _announced(part: int) -> Iterator[None]:
    """Log that a part is being compiled, every while that it still is, and how long it took."""
    started, done = time.monotonic(), threading.Event()

    def remind() -> None:
        while not done.wait(_SAID_EVERY):
            log.info("still compiling part %d, %.0f s", part, time.monotonic() - started)

    log.info("compiling part %d of the networks, forward and backward", part)
    thread = threading.Thread(target=remind, name="compiling", daemon=True)
    thread.start()
    try:
        yield
        log.info("part %d is compiled, %.0f s", part, time.monotonic() - started)
    finally:
        done.set()
        thread.join()
