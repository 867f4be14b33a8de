"""A person sees a bar, a log gets a line now and then, and standard output stays clean."""

import io
import time

import pytest
from rich.console import Console

from convbert.data_pipeline import log_lines
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.pretrain.cli import progress
from convbert.pretrain.cli.progress import counter, documents


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(log_lines, "WAITS", (0.01,) * 500)


@pytest.fixture
def terminal(monkeypatch):
    """Return what a terminal of 80 columns is sent."""
    sent = io.StringIO()

    def wide(**options):
        options.pop("stderr")
        return Console(file=sent, force_terminal=True, width=80, **options)

    monkeypatch.setattr(progress, "Console", wide)
    return sent


def wait_for(capsys, text):
    """Read standard error until it says ``text``."""
    said, deadline = "", time.monotonic() + 60
    while text not in said:
        assert time.monotonic() < deadline, said
        time.sleep(0.01)
        said += capsys.readouterr().err
    return said


def test_a_log_gets_count_rate_and_time_left(often, capsys):
    with counter("measuring", 4, "models") as count:
        wait_for(capsys, "measuring: 0 of 4 models, 0:00:0")
        for _ in range(10):
            count.advance(0.1)
        count.advance()
        said = wait_for(capsys, "2 of 4 models, ")
        assert "s each" in said or "/s" in said
        wait_for(capsys, " left\n")
    assert capsys.readouterr().out == ""


def test_documents_are_counted_beside_a_bar_over_bytes(often, capsys):
    with documents("packing", 1000) as report:
        report(3, 250)
        said = wait_for(capsys, "packing: 3 documents, ")
        assert "of 1,000" not in said
    with documents("packing", 0) as report:  # compressed: nobody knows
        report(3, 250)
        assert "left" not in wait_for(capsys, "packing: 3 documents, ")


def test_nothing_is_said_of_what_is_quick(capsys):
    with counter("looking"):
        pass
    assert capsys.readouterr().err == ""


def test_items_are_yielded_and_counted(often, capsys):
    with counter("reading", unit="documents") as count:
        assert list(count.each(range(130))) == list(range(130))
        wait_for(capsys, "reading: 130 documents")


@pytest.mark.parametrize("total", [None, 12])
def test_a_terminal_of_80_columns_is_wide_enough(terminal, total):
    with counter("a description of some words", total, "fine-tunings") as count:
        count.advance(3)
        count.say("a [result] that stays")
    shown = terminal.getvalue()
    assert "a [result] that stays" in shown
    assert ("3 of 12 fine-tunings" if total else "3 fine-tunings") in shown
    assert "…" not in shown


def test_a_long_step_of_a_corpus_build_is_heard_of(often, capsys):
    with BuildProgress() as build, build.step("clean", 2_000_000) as done:
        done(500_000)
        wait_for(capsys, "clean: 0.5 of 2.0 MB, 0:00:0")
    assert "clean: 2.0 MB in " in capsys.readouterr().err
