"""Write tensors to a safetensors file in one pass: bytes to the disk and into the digest.

The library's own writer first copies everything into one buffer and would have to be read again
for the digest. The format is eight bytes of header length (little-endian), a JSON header with type,
shape and byte range of every tensor, and the raw values.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_CHUNK_BYTES = 1 << 24


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write flat fp32 CPU tensors to a new file, synced; return its SHA-256.

    Raises ``ValueError`` naming a tensor that holds NaN or infinity.
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"'{name}' holds values that are not finite")
        begin, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": [tensor.numel()], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("xb", buffering=0) as file:
        head = memoryview(len(text).to_bytes(8, "little") + text)
        for view in (head, *map(_bytes, tensors.values())):
            while view:  # writing and hashing release the interpreter for the training thread
                written = file.write(view[:_CHUNK_BYTES])
                digest.update(view[:written])
                view = view[written:]
        os.fsync(file.fileno())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().numpy()).cast("B")  # type: ignore[arg-type]
