import signal
from functools import partial
from pathlib import Path

import pytest

from convbert.data_pipeline.corpus_build.engine import open_engine


@pytest.mark.timeout(60)
def test_ctrl_c_is_left_to_the_process_that_waits_for_the_workers(tmp_path: Path) -> None:
    asked = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
    with open_engine(2, None, tmp_path) as engine:
        (blocked,) = engine.map(asked, [()], lambda _: None)
    assert signal.SIGINT in blocked
    assert signal.SIGINT not in asked(())
