"""The panel of a run."""

import io
import re

from rich.console import Console

from convbert.pretrain.engine.stopwatch import Stopwatch
from convbert.pretrain.run import log
from convbert.pretrain.run.metric_names import SECTIONS
from convbert.pretrain.training.dashboard import Dashboard, sparkline
from convbert.pretrain.training.progress import Progress


def test_sparkline_spans_its_values_and_marks_what_is_not_a_number() -> None:
    assert sparkline([0.0, 7.0, 3.5]) == "▁█▅"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([1.0, float("nan"), 2.0]) == "▁×█"
    assert sparkline([]) == ""


def test_panel_shows_the_latest_report_and_its_history() -> None:
    panel = Dashboard("my-run", 100)
    for step, loss in ((10, 9.0), (20, 7.0)):
        values = {"loss/total": loss, "speed/tokens_per_second": 1234.0, "speed/step_seconds": 1.0}
        panel.update(step, values | {"time/forward_seconds": 0.25}, "0:00:08 left")
    out = io.StringIO()
    Console(file=out, width=100).print(panel)
    for text in ("my-run", "20/100", "0:00:08 left", "7.0000", "█▁", "1,234", "forward 25%"):
        assert text in out.getvalue()


def test_a_log_begins_with_what_the_run_computes_on_and_where(capsys):
    log.for_training(0)
    for enabled in (True, False):
        with Progress("my-run, bf16 on 2 x GPU, zero1", 2000, 150, enabled=enabled):
            pass
    said = capsys.readouterr().out
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    expected = rf"{time} rank 0 INFO my-run, bf16 on 2 x GPU, zero1: updates 151 to 2,000\n"
    assert re.fullmatch(expected, said), said


def test_stopwatch_starts_again_after_each_reading() -> None:
    watch = Stopwatch()
    with watch("data"):
        sum(range(10_000))
    first = watch.read()
    assert tuple(first) == SECTIONS
    assert first["data"] > 0.0
    assert first["forward"] == 0.0
    assert watch.read() == dict.fromkeys(SECTIONS, 0.0)
