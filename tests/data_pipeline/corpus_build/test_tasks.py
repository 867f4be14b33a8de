import resource
from pathlib import Path

import numpy as np
import pytest

from convbert.data_pipeline.corpus_build.tasks import once
from convbert.models.errors import UserError


def test_a_write_that_numpy_cannot_end_says_how_far_it_came(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"/x: cannot be written \(\d+ requested and \d+ wri"):
            once(tmp_path / "x", lambda folder: np.save(folder / "a.npy", np.zeros(50_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
