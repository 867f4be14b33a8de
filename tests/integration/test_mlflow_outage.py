"""The MLflow server is killed for the middle of a run: nothing waits, is lost, or doubled."""

import statistics
from collections import Counter
from pathlib import Path

import pytest
from forked import Zygote, wait_for
from mlflow import MlflowClient
from mlflow_server import Server

from convbert.pretrain.tracking.stopped_run import sync

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STEPS = 300


def test_a_server_killed_for_the_middle_of_a_run(
    zygote: Zygote, read_losses, tmp_path: Path, record_property
) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        run = tmp_path / "run"
        started = zygote.start(
            run,
            f"steps={STEPS}",
            "checkpoint.every=100",
            f"tracking.uri={server.url}",
            faults={"time_steps": {"folder": str(tmp_path)}, "pace": {"seconds": 0.05}},
        )
        wait_for(lambda: done(run, read_losses) > 60)
        server.kill()
        killed = done(run, read_losses)
        wait_for(lambda: done(run, read_losses) > 200)
        back = done(run, read_losses)
        server.start()
        assert started.wait() == [0, 0]
        sync(run)

        client = MlflowClient(server.url)
        (experiment,) = client.search_experiments(filter_string="name = 'convbert-pretraining'")
        (tracked,) = client.search_runs([experiment.experiment_id])
        for key in ("loss/total", "training/optimizer/gradient_norm", "first_sequence"):
            history = client.get_metric_history(tracked.info.run_id, key)
            assert Counter(m.step for m in history) == Counter(range(1, STEPS + 1))
        assert tracked.info.status == "FINISHED"
    finally:
        server.kill()
    seconds = [float(line) for line in (tmp_path / "seconds-0.txt").read_text().split()]
    up, down = seconds[5:killed] + seconds[back:], seconds[killed:back]
    print(f"\nstep, server up: {summary(up)}; server away: {summary(down)}")


def done(run: Path, read_losses) -> int:
    return len(read_losses(run)) if (run / "metrics.jsonl").exists() else 0


def summary(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    median, late = statistics.median(seconds), ordered[int(0.95 * len(ordered))]
    over = sum(s > 1.2 * median for s in seconds)
    return (
        f"median {1e3 * median:.1f} ms, 95 % {1e3 * late:.1f} ms, longest {1e3 * ordered[-1]:.1f} "
        f"ms, {over} of {len(seconds)} over 1.2 medians"
    )
