"""The real MLflow UI in Chromium: runs, accuracy over FLOPs, system metrics, the curve's page."""

import pytest
from mlflow import MlflowClient
from mlflow_server import Server
from selenium.common.exceptions import ElementClickInterceptedException, WebDriverException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from small_runs import STEPS, branch_run, logged_run, small_run

from convbert.pretrain.tracking.tracked_run import TrackedRun

pytestmark = pytest.mark.browser

CARD = "[data-testid='experiment-view-compare-runs-card']"
SCALES = {"wide": 1e12, "deep": 2e12}
"""Training FLOPs of one update, by run."""
# What Plotly draws: name, x and y of each line, title and scale of the x axis.
LINES = """const plots = [...document.querySelectorAll('.js-plotly-plot')].filter(p => p.data);
    return plots.length != 1 ? null : {
        scale: plots[0].layout.xaxis.type || 'linear',
        title: plots[0].layout.xaxis.title?.text,
        lines: plots[0].data.filter(d => d.y?.length).map(d => [d.name, [...d.x], [...d.y]])}"""


class Pages:
    """MLflow's pages of one experiment."""

    def __init__(self, browser, url, experiment):
        self.browser, self.driver = browser, browser.driver
        self._root = f"{url}/#/experiments/{experiment}"
        self.driver.set_window_size(1500, 1000)

    def open(self, place, text):
        """Open a page of the experiment and wait until it shows ``text``."""
        self.driver.get(self._root + place)
        self.shows(text)
        for button in self.found("button[aria-label='Close']"):  # a panel that offers an assistant
            self.click(button)

    def until(self, condition):
        """Wait for a true value of ``condition`` while the page changes, and return it."""
        wait = WebDriverWait(self.driver, 40, ignored_exceptions=(WebDriverException,))
        return wait.until(lambda _: condition())

    def shows(self, text):
        self.until(lambda: text in self.driver.find_element(By.TAG_NAME, "body").text)

    def found(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, element):
        try:
            element.click()
        except ElementClickInterceptedException:  # still moving
            self.driver.execute_script("arguments[0].click()", element)

    def press(self, selector):
        """Click what ``selector`` finds, as soon as there is something."""
        self.click(self.until(lambda: self.found(selector))[0])

    def configure(self):
        """Open the configuration of the chart."""
        self.press("[data-testid='experiment-view-compare-runs-card-menu']")
        self.press("[data-testid='experiment-view-compare-runs-card-edit']")
        self.until(
            lambda: self.found("[aria-label='x-axis-min'], [role='dialog'] [value='metric']")
        )

    def confirm(self):
        """Accept the configuration and wait until the window is gone."""
        confirm = "[data-testid='experiment-view-compare-runs-chart-modal-confirm']"
        self.press(confirm)
        self.until(lambda: not self.found(confirm))

    def drawn(self, condition=lambda drawn: True):
        """Return the lines and the x axis of the only chart as soon as ``condition`` holds."""

        def look():
            drawn = self.driver.execute_script(LINES)
            return drawn if drawn and drawn["lines"] and condition(drawn) else None

        return self.until(look)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def points(drawn):
    """Return x and y of the two runs, without child runs and without smoothing."""
    return {name.split(" ")[0]: (x, y) for name, x, y in drawn["lines"]}


def test_accuracy_against_flops_and_the_page_are_in_the_ui(tmp_path, server, browser):
    small_run(tmp_path / "wide", server.url, (0.6, 0.65, 0.7, 0.75), SCALES["wide"])
    deep = small_run(tmp_path / "deep", server.url, (0.58, 0.6, 0.72, 0.8), SCALES["deep"])
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("small runs").experiment_id
    found = client.search_runs([experiment], "attributes.run_name = 'deep'")
    pages = Pages(browser, server.url, experiment)

    pages.open("/runs", "deep")
    pages.shows("wide")
    pages.shows("shards (5555")  # the dataset, by digest
    browser.picture("mlflow-runs")

    pages.open("/runs?compareRunsMode=CHART", "mood")
    search = pages.found("input[placeholder='Search metric charts']")[0]
    search.send_keys("^mood/accuracy$")
    for name, (x, y) in points(pages.drawn(lambda drawn: len(drawn["lines"]) >= 2)).items():
        assert x == [0, *(step * SCALES[name] / 1e9 for step in STEPS)], "steps are GFLOPs"
        assert y[0] == 0.55
        assert y[-1] == {"wide": 0.75, "deep": 0.8}[name]

    pages.configure()
    pages.press("[aria-label='x-axis-log']")
    pages.confirm()
    assert pages.drawn(lambda drawn: drawn["scale"] == "log")["title"] == "Step"
    browser.picture("mlflow-curve")

    pages.configure()
    pages.press("[role='dialog'] input[type='radio'][value='metric']")
    choose_metric(pages, "curve_flops")
    pages.confirm()
    drawn = pages.drawn(lambda drawn: drawn["title"] == "curve_flops")
    for name, (x, _) in points(drawn).items():
        assert x == [0, *(step * SCALES[name] for step in STEPS)]
    browser.picture("mlflow-curve-flops")

    run = f"/runs/{found[0].info.run_id}"
    pages.open(run, "Child runs")
    pages.shows("mood, seed 2")
    browser.picture("mlflow-run")
    pages.open(f"{run}/system-metrics", "cpu_utilization")

    pages.open(f"{run}/artifacts/report/mood/curve.html", "report/mood/curve.html")
    frame = pages.until(lambda: pages.found("iframe"))[0]
    assert "allow-scripts" in frame.get_attribute("sandbox")
    browser.driver.switch_to.frame(frame)
    point = pages.until(lambda: pages.found("#measure-0 .point"))[-1]
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(browser.driver).move_to_element(point).perform()
    tip = browser.driver.find_element(By.ID, "tip")
    assert tip.text.splitlines()[:2] == ["deep", "1.6×10¹⁵ FLOPs"]
    browser.picture("mlflow-artifact")
    pages.press("input[value=linear]")
    assert "FLOPs (linear)" in pages.found("#measure-0")[0].text

    assert (deep / "report" / "mood" / "curve.html").is_file()
    assert not [c for c in browser.complaints() if "Content Security Policy" in c["message"]]
    assert browser.requests_elsewhere() == []


def choose_metric(pages, name):
    """Choose the metric of the x axis in the list beside its radio button."""
    script = """const label = document.querySelector(
        "[role='dialog'] input[type='radio'][value='metric']").closest('label');
        return label.querySelector('.du-bois-light-select-selector, [class*=select-selector]')"""
    box = pages.until(lambda: pages.driver.execute_script(script))
    ActionChains(pages.driver).move_to_element(box).click().perform()
    ActionChains(pages.driver).send_keys(name).perform()
    pages.press(f"[data-testid='metric-{name}']")


def test_branches_are_children_of_their_trunk_and_one_line(tmp_path, server, browser):
    trunk = logged_run(tmp_path / "long-0", range(1, 51), {20: 5.0, 40: 4.0}, uri=server.url)
    key = TrackedRun.load(trunk).state.key
    for step, decay, loss in ((20, 5, 4.2), (30, 8, 3.8), (40, 10, 3.4)):
        measures = {step: 5.0, step + decay: loss}
        branch_run(tmp_path / f"at-{step}", step, decay, measures, key, uri=server.url)
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("e").experiment_id
    (whole,) = client.search_runs([experiment], "attributes.run_name = 'long-0'")
    pages = Pages(browser, server.url, experiment)
    pages.open(f"/runs/{whole.info.run_id}", "Child runs")
    for step in (20, 30, 40):
        pages.shows(f"at-{step}")
    pages.open("/runs?compareRunsMode=CHART", "branches")
    search = pages.found("input[placeholder='Search metric charts']")[0]
    search.send_keys("^branches/held_out/loss/mlm$")
    # Only the trunk has it: GFLOPs of the trunk up to each branch and of its decay.
    assert points(pages.drawn()) == {"long-0": ([25e3, 38e3, 50e3], [4.2, 3.8, 3.4])}
    browser.picture("mlflow-branches")
