"""Weight files of a Hugging Face directory: read without running code, replaced whole."""

import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from convbert.models.errors import AbsentError, DamagedError, UserError
from convbert.models.interop.links import LoadedTensors
from convbert.models.schema import read_json

SAFETENSORS_FILE = "model.safetensors"
_PICKLE_FILE = "pytorch_model.bin"
_INDEX = ".index.json"
# BERT's first PyTorch files name layer norms as TensorFlow does; safetensors made of them, too.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def read_weights(directory: Path) -> LoadedTensors:
    """Return the tensors of ``model.safetensors``, or else of ``pytorch_model.bin``.

    Either may be split into several files, which ``model.safetensors.index.json`` (or
    ``pytorch_model.bin.index.json``) lists. Raises ``UserError`` naming the file when there is
    none, or when one is missing, damaged, or holds anything but the tensors it should.
    """
    for name, read in ((SAFETENSORS_FILE, read_safetensors), (_PICKLE_FILE, _read_pickle)):
        if (directory / name).is_file():
            return read(directory / name)
        if (directory / f"{name}{_INDEX}").is_file():
            return _read_shards(directory / f"{name}{_INDEX}", read)
    raise AbsentError(
        f"{directory}: holds neither {SAFETENSORS_FILE} nor {_PICKLE_FILE}, whole or in parts: put "
        "one of them there"
    )


def _read_shards(index: Path, read: Callable[[Path], LoadedTensors]) -> LoadedTensors:
    """Return the tensors of all files that an index names, each from the file it should be in."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(n, str) for n in places.values()):
        raise DamagedError(f"{index}: names no files of tensors: copy it from its source again")
    files = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise UserError(f"{index}: names {name!r}, which is no file beside it: correct it")
        files[name] = read(index.with_name(name))
    tensors = {}
    for tensor, name in places.items():
        tensor = _modern(tensor)
        if tensor not in files[name]:
            raise DamagedError(
                f"{files[name].path}: lacks tensor {tensor!r}, which {index.name} says is in it: "
                "copy both from their source again"
            )
        tensors[tensor] = files[name].read(tensor)
    return LoadedTensors(index, tensors)


def read_safetensors(path: Path) -> LoadedTensors:
    """Return the tensors of one safetensors file; errors as ``read_weights``."""
    try:
        return _named(path, load_file(path))
    except FileNotFoundError as error:
        raise AbsentError(f"{path}: no such file: copy it from its source") from error
    except SafetensorError as error:
        raise DamagedError(
            f"{path}: damaged file ({error}): copy it from its source again"
        ) from error


def _read_pickle(path: Path) -> LoadedTensors:
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: refused, it asks to run code or is damaged, a plain file of tensors does "
            f"neither: get {SAFETENSORS_FILE} instead"
        ) from error
    except Exception as error:  # the parsers behind it raise whatever they stumble over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedError(
            f"{path}: damaged file ({reason}): copy it from its source again"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise UserError(f"{path}: holds no table of tensors: get {SAFETENSORS_FILE} instead")
    return _named(path, content)


def _check_archive(path: Path) -> None:
    """Raise when a record of torch's zip archive fails its checksum, which torch ignores."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"record {damaged} fails its checksum")


def _named(path: Path, tensors: Mapping[str, Tensor]) -> LoadedTensors:
    return LoadedTensors(path, {_modern(name): tensor for name, tensor in tensors.items()})


def _modern(name: str) -> str:
    old = next((old for old in _OLD_NAMES if name.endswith(old)), None)
    return name if old is None else name.removesuffix(old) + _OLD_NAMES[old]


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write ``tensors`` whole or not at all."""
    with _replacing(path) as unfinished:
        save_file(dict(tensors), unfinished, metadata={"format": "pt"})


def write_text(path: Path, text: str) -> None:
    """Write ``text`` whole or not at all."""
    with _replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` and move it into place on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
