"""The page of a run in Chromium, while the run goes on: it looks again, what was chosen stays."""

import random

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from convbert.pretrain.report.live import PageWriter, page_of
from convbert.pretrain.report.page import write_report
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.facts import Facts, Shards
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.show.kept_looks import KeptLooks, keep
from convbert.pretrain.show.records import Filling, Look, Point, Sample
from convbert.pretrain.tracking.tracker import open_tracker

pytestmark = pytest.mark.browser

FLOPS = 1e12
SLIDE = """const slider = document.getElementById(arguments[0]); slider.value = arguments[1];
    slider.dispatchEvent(new Event('input'))"""
FACTS = Facts(
    started=1.7e9, parameters=13_549_312, all_parameters=17_000_000, processes=2,
    data=[Shards(name="shards", digest="5" * 64, tokens=512_345_678, sequences=9, seq_len=128)],
    hardware="CPU (x86_64)", precision="bf16", compile=True, deepspeed="zero1", code="v0.1",
    host="node-7", job="4711", nodes="node-[7-8]",
)  # fmt: skip


def values(step, noise, level):
    """Invent what an update measures; losses fall towards ``level`` and a tenth of it."""
    mlm, rtd = level + 7 * step**-0.25, 0.1 * level + 0.3 * step**-0.2
    parts = ("discriminator", "generator", "embeddings")
    return {
        "loss/mlm": mlm + noise.gauss(0, 0.1), "loss/rtd": rtd, "loss/total": mlm + 50 * rtd,
        "generator/accuracy": 0.6 - 0.6 * step**-0.2, "discriminator/precision": 0.6,
        "discriminator/recall": 0.2, "optimizer/learning_rate": 5e-4 * (1 - step / 2000),
        "optimizer/gradient_norm": 1 + noise.random(), "tokens": step * 16384.0,
        "speed/tokens_per_second": 41000 + noise.gauss(0, 900), "speed/step_seconds": 0.4,
        "speed/processes": 2.0, "speed/mfu": 0.31, "memory/host_peak_bytes": 2.1e9,
        **{f"gradient_norm/{part}": noise.random() for part in parts},
    }  # fmt: skip


def open_run(path, *settings):
    RunDirectory(path).prepare(
        resolve("tiny", ["steps=2000", "schedule.warmup_steps=20", *settings])
    )
    FACTS.write(path)
    return open_tracker(
        path, enabled=True, experiment="e", run_name=path.name, tracking_uri="off", params={},
        tags={}, resume_step=None,
    )  # fmt: skip


def train(tracker, path, steps, *, level=2.0, every=500):
    noise = random.Random(steps[0])
    for step in steps:
        tracker.log(step, step * FLOPS, values(step, noise, level))
        if step % every == 0:
            fillings = [
                Filling(word=word, piece=f"▁{word}", probability=p / (1 + 500 / step))
                for word, p in (("film", 0.8), ("movie", 0.1), ("story", 0.05))
            ]
            look = Look(fillings=[fillings], verdicts=None, tokens=9, left_out=0, limit=128)
            point = Point(label=f"step {step}", step=step, flops=step * FLOPS, looks=[look])
            text = Sample(text="the [MASK] was terrible, the actors were great.", answer="film")
            keep(path, step, KeptLooks(samples=[text], point=point))
            tracker.curve_point(
                step * FLOPS, "held_out/loss/mlm", level + 7 * step**-0.25, step=step
            )
            tracker.curve_point(
                step * FLOPS, "pairs/swap", 1.1 - 0.1 * level - 0.3 * step**-0.1, step=step
            )


def find(browser, selector):
    return browser.driver.find_element(By.CSS_SELECTOR, selector)


def ends(browser, figure):
    """The number of points of a chart's line."""
    script = "return document.querySelectorAll(arguments[0])[0].points.numberOfItems"
    return browser.driver.execute_script(script, f"{figure} .curve:not(.raw)")


def test_the_page_follows_the_run_and_keeps_what_was_chosen(tmp_path, browser):
    run = tmp_path / "young"
    tracker = open_run(run)
    train(tracker, run, range(10, 1001, 10))
    tracker.event("spike", "skip", 410, {"loss": 31.2, "norm": 88.1, "score": 21.3})
    writer = PageWriter(RunDirectory(run), 1.0)
    # The page may be loaded again between two commands of the driver.
    wait = WebDriverWait(browser.driver, 120, ignored_exceptions=[WebDriverException])
    wait.until(lambda _: page_of(RunDirectory(run)).is_file())
    browser.driver.get(page_of(RunDirectory(run)).as_uri())
    pause = "document.getElementById('refresh').click()"
    browser.driver.execute_script(pause)
    told = find(browser, ".state").text
    assert told.startswith("training · update 1,000 of 2,000 · 0:06:40 left")
    assert ends(browser, "#training-0") == 100

    Select(find(browser, "#quantity")).select_by_value("tokens")
    for name, value in (("smooth", 0.5), ("point", 0)):
        browser.driver.execute_script(SLIDE, name, value)
    find(browser, "#section-speed summary").click()
    train(tracker, run, range(1010, 1511, 10))
    browser.driver.execute_script(pause)
    state = "return document.querySelector('.state').innerText"
    wait.until(lambda driver: "update 1,510 of" in driver.execute_script(state))
    browser.driver.execute_script(pause)  # from here on nothing moves below the test
    assert ends(browser, "#training-0") == 151
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, "#training-0 .raw")) == 1
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, "#training-0 .event")) == 1
    assert find(browser, "#quantity").get_attribute("value") == "tokens"
    assert find(browser, "#section-speed").get_attribute("open") is None
    assert find(browser, "#label").text.startswith("step 500, ")
    machine = find(browser, "main").text
    for told in ("13.5 M", "shards (512 M tokens)", "2 × CPU (x86_64)", "4711 on node-[7-8]"):
        assert told in machine
    browser.pictures("run")

    browser.driver.execute_script(pause)
    tracker.close("FINISHED")
    writer.close("stopped")
    wait.until(lambda driver: driver.execute_script(state).startswith("stopped · update 1,510"))
    assert not browser.driver.find_elements(By.ID, "refresh")
    assert browser.complaints() == []
    assert browser.requests_elsewhere() == []


def test_nine_runs_are_told_apart_and_none_is_lost_on_a_phone(tmp_path, browser):
    runs = [tmp_path / f"rate-{number}" for number in range(9)]
    for number, run in enumerate(runs):
        tracker = open_run(run, f"optimizer.learning_rate={number + 1}e-4")
        train(tracker, run, range(10, 601 + 100 * number, 10), level=2 + number / 9)
        tracker.close("FINISHED")
    browser.driver.get(write_report(runs, tmp_path / "report.html", price=2.0).as_uri())
    script = """return [...document.querySelectorAll('#training-0 .series')].map((line) => {
        const curve = line.querySelector('.curve');
        return [getComputedStyle(curve).stroke, getComputedStyle(curve).strokeDasharray].join()})"""
    assert len(set(browser.driver.execute_script(script))) == 9
    numbers = browser.driver.find_elements(By.CSS_SELECTOR, "#training-0 .end")
    assert [text.text for text in numbers] == [str(number) for number in range(1, 10)]
    # Every cell of the tables holds its number on one line, also where it is narrow.
    size = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    split = """return [...document.querySelectorAll('.summary td')].filter((cell) => {
        const range = document.createRange(); range.selectNodeContents(cell);
        return range.getClientRects().length > 1}).length"""
    assert browser.driver.execute_script(split) == 0
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (
        "process hours (GPU-hours, with one process per GPU) times 2" in find(browser, "main").text
    )
    browser.pictures("runs")
    assert browser.complaints() == []
