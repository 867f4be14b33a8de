"""A run writes its page while it trains, which changes nothing of it, and cannot end it."""

import json
import re
from pathlib import Path

import pytest

from convbert.pretrain.report.runs import RunReader
from convbert.pretrain.run.facts import read_facts
from convbert.pretrain.show.kept_looks import kept_series

pytestmark = pytest.mark.integration

TEXT = "The [MASK] statement binds a [MASK]."
SHOWN = ("tracking.page_seconds=1", f"evaluation.show=['{TEXT}']")


def data_of(page: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


@pytest.mark.parametrize("stage", ["zero1", pytest.param("zero3", marks=pytest.mark.slow)])
def test_the_page_changes_nothing_and_has_every_checkpoint(
    zygote, tmp_path, read_losses, corpus, stage
):
    plain, paged = tmp_path / "plain", tmp_path / "paged"
    # Pairs by likelihood call the generator's head by itself, as filling masks does.
    pairs = f"evaluation.pairs={{inputs: ['{corpus}'], count: 4, score: pll}}"
    zygote.finish(plain, f"deepspeed={stage}")
    zygote.finish(paged, f"deepspeed={stage}", pairs, *SHOWN, "tracking.system_seconds=1")
    assert read_losses(paged) == read_losses(plain)
    assert not (plain / "report").exists()

    page = paged / "report" / "run.html"
    text, data = page.read_text(), data_of(page)
    assert data["live"]["state"] == "finished"
    assert '"artifact":"report/run.html"' in (paged / "metrics.jsonl").read_text()
    assert data["live"]["refresh"] is None
    assert "update 12 of 12" in text
    steps = data["runs"][0]["parts"][0]["step"]
    assert steps == list(range(1, 13))
    charts = {chart["title"]: chart for chart in data["charts"]}
    losses = [found[0] for found in read_losses(paged).values()]
    assert charts["training loss"]["series"][0]["values"][0] == pytest.approx(losses, rel=1e-4)
    assert [p["step"] for p in charts["pairs/swap_pll"]["series"][0]["points"]] == [4, 8, 12]
    assert {"learning rate", "gradient norm: generator", "tokens per second"} <= charts.keys()

    series = kept_series(paged)
    filled = [4, 8, 12] if stage == "zero1" else []  # docs/report.md says so
    points = series.points if series else []
    assert [point.step for point in points] == filled
    for point in points:
        (look,) = point.looks
        assert [len(fillings) for fillings in look.fillings] == [5, 5]
        assert look.verdicts is None
    assert text.count('class="point"') == len(filled)
    facts = read_facts(paged)
    assert (facts.processes, facts.deepspeed) == (2, stage)
    assert facts.data[0].tokens > 0
    assert f"{facts.processes} × {facts.hardware}" in text
    assert RunReader(paged).read().machines


def test_a_page_that_cannot_be_written_is_a_warning(zygote, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "report").write_text("a file in the place of the folder")
    zygote.finish(run, *SHOWN, processes=1)
    log = (run / "output.log").read_text()
    warned = [line for line in log.splitlines() if "run.html: not written (" in line]
    assert len(warned) == 1
    assert "training goes on" in warned[0]
    assert "no samples on the page of the run" in log
