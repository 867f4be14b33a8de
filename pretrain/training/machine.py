"""What a machine has for training, what of it will be used, and what is missing."""

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import torch

from convbert.data_pipeline.locks import acquire
from convbert.models.errors import UserError
from convbert.pretrain.engine.execution import no_compiler
from convbert.pretrain.engine.precision import computes_in_bfloat16
from convbert.pretrain.run.tracking_uri import OFF, SQLITE, resolve_uri

_GB = 1e9
_LITTLE_SPACE = 20.0  # GB; a checkpoint of ConvBERT-base with its moments takes 2
_SECONDS = 5.0  # for which a tracking server may keep silent


@dataclass(frozen=True)
class Finding:
    """Something that was looked at: what is there, and what to do where that is a ``fault``."""

    what: str
    found: str
    advice: str = ""
    fault: bool = False


def examine(runs: Path) -> Iterator[Finding]:
    """Yield the findings of this machine for run directories in ``runs``, which may not exist."""
    folder = runs.resolve()
    while not folder.exists():
        folder = folder.parent
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield from _packages()
    yield from _processors(device)
    bfloat16 = computes_in_bfloat16(device)
    slow = "" if bfloat16 else "no instructions for bf16: products in fp32"
    yield Finding("precision=auto", "bf16" if bfloat16 else "fp32", slow)
    problem = no_compiler(device)
    yield Finding(
        "compiler", problem or "there", "training goes on without compiling" if problem else ""
    )
    if not folder.is_dir():
        remedy = "move it away, or choose another place for runs"
        yield Finding("place of runs", f"{folder} is a file", remedy, fault=True)
        return
    yield from _places(folder)
    yield _tracking(runs.resolve(), folder)


def _packages() -> Iterator[Finding]:
    for name in ("convbert-pretrain", "torch", "deepspeed", "mlflow", "webdataset"):
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", f"pip install {name}", fault=True)
    try:
        yield Finding("transformers", version("transformers"))
    except PackageNotFoundError:
        yield Finding("transformers", "missing", "only `export` and `show` of its models need it")


def _processors(device: torch.device) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    threads = os.environ.get("OMP_NUM_THREADS")
    said = f"{threads} threads by OMP_NUM_THREADS" if threads else ""
    yield Finding("processor cores", f"{cores} of {os.cpu_count()}", said)
    memory = psutil.virtual_memory()
    yield Finding("memory", f"{memory.available / _GB:.1f} of {memory.total / _GB:.1f} GB free")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield Finding(f"GPU {number}", f"{properties.name}, {properties.total_memory / _GB:.0f} GB")
    if device.type == "cuda":
        return
    built = torch.version.cuda or torch.version.hip
    driver = shutil.which("nvidia-smi") or shutil.which("rocm-smi")
    if driver and not built:
        advice = f"{driver} is there, but torch is the CPU build: install the one for your GPUs"
        yield Finding("GPU", "none that torch can use", advice, fault=True)
    elif built:
        advice = "torch is built for GPUs and sees none: check the driver, or CUDA_VISIBLE_DEVICES"
        yield Finding("GPU", "none", advice)
    else:
        yield Finding("GPU", "none", "training on processors")


def _places(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free / _GB
    little = free < _LITTLE_SPACE
    advice = "a few checkpoints of a large model may not fit" if little else ""
    yield Finding(f"disk of {folder}", f"{free:,.1f} GB free", advice)
    probe = folder / f".doctor-{os.getpid()}.lock"
    try:
        lock = acquire(probe)
        if lock is not None:
            kind = "leases, for the file system has none" if lock.leased else "of the file system"
            lock.release()
            yield Finding("locks", kind)
    except OSError as error:
        advice = "make it writable, or choose another place for runs"
        yield Finding("locks", f"{folder}: {error.strerror}", advice, fault=True)
    finally:
        probe.unlink(missing_ok=True)


def _tracking(runs: Path, folder: Path) -> Finding:
    """Look at the MLflow store that a new run takes; nothing is made in it.

    ``folder`` is the part of ``runs`` that exists.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        uri = resolve_uri(runs / "run", None)
    except UserError as error:
        return Finding("MLflow", str(given), str(error), fault=True)
    if uri == OFF:
        return Finding("MLflow", OFF)
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE))
        writable = os.access(database if database.exists() else folder, os.W_OK)
        advice = "" if writable else "not writable: set MLFLOW_TRACKING_URI, or change its rights"
        return Finding("MLflow", uri, advice, fault=not writable)
    address = urlsplit(uri)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), _SECONDS).close()
    except OSError as error:
        advice = f"not reachable ({error}): `convbert track sync` will send what it missed"
        return Finding("MLflow", uri, advice)
    return Finding("MLflow", uri, "answers")
