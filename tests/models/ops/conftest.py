"""Where the tests of operators run."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def on_device() -> Iterator[None]:
    """Make tensors on the GPU where there is one: elsewhere its kernels are interpreted."""
    if torch.cuda.is_available():
        torch.set_default_device("cuda")
    yield
    torch.set_default_device(None)
