import signal
import time
from functools import partial
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from convbert.data_pipeline.corpus_build.engine import DaskEngine, open_engine
from convbert.models.errors import TransientError

pytestmark = pytest.mark.timeout(60)


def test_ctrl_c_is_left_to_the_process_that_waits_for_the_workers(tmp_path: Path) -> None:
    asked = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
    with open_engine(2, None, tmp_path) as engine:
        (blocked,) = engine.map(asked, [()], lambda _: None)
    assert signal.SIGINT in blocked
    assert signal.SIGINT not in asked(())


def test_a_scheduler_that_is_lost_is_an_error_that_says_so() -> None:
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with (
        LocalCluster(processes=False, silence_logs="CRITICAL", **options) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(TransientError, match="scheduler does not answer any more; start it"),
    ):
        DaskEngine(client).map(time.sleep, [0, 1, 1], lambda _: cluster.close())
