"""What tests of the engine share."""

import pytest
import torch.distributed as dist


@pytest.fixture
def alone():
    """A group of this process."""
    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()
