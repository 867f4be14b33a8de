"""What torch and DeepSpeed load beside themselves and an ordinary run never uses.

DeepSpeed's tuner of configurations imports MLflow, a second and 600 modules. Functions of torch
import its compiler, two seconds, to tell it that it shall leave them alone, and DeepSpeed to have
its own Muon compiled, which no run uses.
"""

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch.optim import Optimizer


def import_deepspeed() -> ModuleType:
    """Return DeepSpeed, imported without MLflow, which whoever needs it imports later.

    Without a GPU it is told so, or it would warn.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    loaded = "mlflow" in sys.modules
    if not loaded:
        sys.modules["mlflow"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import deepspeed
    finally:
        if not loaded:
            del sys.modules["mlflow"]
    return deepspeed


def spare_compiler() -> None:
    """Let a process that compiles nothing run without torch's compiler.

    Recomputing activations needs it all the same: torch then asks the compiler for its settings.
    """
    if "torch._dynamo" in sys.modules:
        return
    # Both are wrapped by torch._disable_dynamo, which keeps its answer as an attribute of what it
    # wraps. With nothing to disable for, the answer is the function itself.
    functions: tuple[Any, ...] = (Optimizer.add_param_group, Optimizer.zero_grad)
    for function in functions:
        plain = getattr(function, "__wrapped__", None)
        if plain is not None:
            plain.__dict__["__dynamo_disable"] = plain
    import_deepspeed()
    from deepspeed.runtime import compiler

    compile_now = compiler.compile
    compiler.compile = lambda *_, **__: _as_it_is
    try:
        import deepspeed.runtime.zero.muon.original_muon  # noqa: F401
    finally:
        compiler.compile = compile_now


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
