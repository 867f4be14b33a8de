"""The real MLflow UI in Chromium: the ways to the curve, two runs compared, the page of a run."""

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
SECTION = "[data-testid='experiment-view-compare-runs-section-header']"
CHARTS = "label:has(input[value='CHART'])"
WORKFLOW = "workflowType=machine_learning"
SCALES = {"wide": 1e12, "deep": 2e12}
"""Training FLOPs of one update, by run."""
TRAINING = (
    *("discriminator", "generator", "gradient_norm", "guards", "memory"),
    *("optimizer", "parameter_norm"),
)
# What Plotly draws: name, x and y of each line, title and scale of the x axis.
LINES = """const plots = [...document.querySelectorAll('.js-plotly-plot')].filter(p => p.data);
    return !plots.length ? null : {
        scale: plots[0].layout.xaxis.type || 'linear',
        title: plots[0].layout.xaxis.title?.text,
        lines: plots[0].data.filter(d => d.y?.length).map(d => [d.name, [...d.x], [...d.y]])}"""


class Pages:
    """MLflow's pages of one experiment; ``clicks`` counts what a person would."""

    def __init__(self, browser, url, experiment):
        self.browser, self.driver, self.url = browser, browser.driver, url
        self.experiment = experiment
        self.clicks = 0
        self.driver.set_window_size(1500, 1000)

    def front(self):
        """Open MLflow as somebody does who has its address and nothing else."""
        self.driver.get(self.url)
        self.shows("Recent Experiments")
        self._close_assistant()

    def open(self, place, text):
        """Open a page of the experiment and wait until it shows ``text``."""
        self.driver.get(f"{self.url}/#/experiments/{self.experiment}{place}")
        self.shows(text)
        self._close_assistant()

    def _close_assistant(self):
        """Close a panel that offers an assistant, which is remembered."""
        for button in self.found("button[aria-label='Close']"):
            self.click(button)

    def to_new_tab(self):
        self.until(lambda: len(self.driver.window_handles) > 1)
        self.driver.switch_to.window(self.driver.window_handles[-1])

    def run_id(self, name):
        client = MlflowClient(self.url)
        found = client.search_runs([self.experiment], f"attributes.run_name = '{name}'")
        return found[0].info.run_id

    def cards(self):
        """Return the charts, in order, once the first one has drawn something."""
        cards = self.found(CARD)
        return cards if cards and cards[0].find_elements(By.CSS_SELECTOR, ".js-plotly-plot") else []

    def sections(self):
        """Return the titles of all sections of charts, in order."""
        return [header.text.split(" (")[0].split("\n")[0] for header in self.found(SECTION)]

    def row(self, name):
        """Return the cells of the row of a description that begins with ``name``."""
        rows = (
            [cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in self.found("tr")
        )
        return next((row for row in rows if row and row[0] == name), None)

    def in_sight(self, element):
        script = """const r = arguments[0].getBoundingClientRect();
            return r.top >= 0 && r.bottom <= window.innerHeight && r.right <= window.innerWidth"""
        return self.driver.execute_script(script, element)

    def until(self, condition):
        """Wait for a true value of ``condition`` while the page changes, and return it."""
        wait = WebDriverWait(self.driver, 120, ignored_exceptions=(WebDriverException,))
        return wait.until(lambda _: condition())

    def shows(self, text):
        self.until(lambda: text in self.driver.find_element(By.TAG_NAME, "body").text)

    def found(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, element):
        self.clicks += 1
        try:
            element.click()
        except ElementClickInterceptedException:  # still moving
            self.driver.execute_script("arguments[0].click()", element)

    def mark(self, selector, text):
        """Draw a frame around an element, for a picture."""
        element = self.until(lambda: self._with_text(selector, text))
        style = "arguments[0].parentElement.style.outline = '4px solid #D55E00'"
        self.driver.execute_script(style, element)

    def press(self, selector, text=None):
        """Click the first that ``selector`` finds, with this text, as soon as there is one."""
        self.click(self.until(lambda: self._with_text(selector, text)))

    def _with_text(self, selector, text):
        return next((e for e in self.found(selector) if text is None or e.text == text), None)

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
        """Return the lines and the x axis of the first chart as soon as ``condition`` holds."""

        def look():
            drawn = self.driver.execute_script(LINES)
            return drawn if drawn and drawn["lines"] and condition(drawn) else None

        return self.until(look)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def experiment(server, tmp_path_factory):
    """Two runs of an experiment, as training and evaluations send them; returns its id."""
    folder = tmp_path_factory.mktemp("runs")
    for name, medians in (("wide", (0.6, 0.65, 0.7, 0.75)), ("deep", (0.58, 0.6, 0.72, 0.8))):
        small_run(folder / name, server.url, medians, SCALES[name], every_metric=True)
    return MlflowClient(server.url).get_experiment_by_name("small runs").experiment_id


@pytest.fixture
def pages(browser, server, experiment):
    return Pages(browser, server.url, experiment)


def points(drawn):
    """Return x and y of the two runs, without child runs and without smoothing."""
    return {name.split(" ")[0]: (x, y) for name, x, y in drawn["lines"]}


def test_the_curve_is_four_clicks_from_the_front_page(pages, browser):
    pages.front()
    pages.mark("[role='button']", "Model training")
    browser.picture("mlflow-front")
    pages.clicks = 0
    pages.press("[role='button']", "Model training")
    pages.press("a", "small runs")
    pages.shows("Pretraining runs:")
    pages.shows("wide")
    browser.picture("mlflow-runs")
    pages.press("a", "curves over training FLOPs")
    pages.to_new_tab()
    title = pages.until(lambda: pages.cards())[0]
    assert pages.clicks <= 4
    browser.picture("mlflow-curve")
    assert "finetuned/mood/accuracy" in title.text
    assert pages.in_sight(title), "without scrolling"
    drawn = pages.drawn(lambda drawn: len(drawn["lines"]) >= 2)
    assert drawn["title"] == "curve_flops"
    found = points(drawn)
    assert set(found) == set(SCALES), "both runs in one chart"
    for name, (x, y) in found.items():
        assert x == [0, *(step * SCALES[name] for step in STEPS)]
        assert (y[0], y[-1]) == (0.55, {"wide": 0.75, "deep": 0.8}[name])
    assert pages.sections()[:3] == [
        "Results against training FLOPs",
        "Held-out text, pairs, probes against FLOPs",
        "Training losses against FLOPs",
    ]
    assert pages.sections()[-2:] == ["Model metrics", "System metrics"]
    assert not [c for c in browser.complaints() if "Content Security Policy" in c["message"]]
    assert browser.requests_elsewhere() == []


def test_without_the_view_charts_begin_with_the_curve_and_end_with_bookkeeping(pages, browser):
    pages.front()
    pages.clicks = 0
    pages.press("[role='button']", "Model training")
    pages.press("a", "small runs")
    pages.press(CHARTS)
    card = pages.until(lambda: pages.cards())[0]
    assert pages.clicks <= 4
    assert "finetuned/mood/accuracy" in card.text
    for name, (x, _) in points(pages.drawn(lambda drawn: len(drawn["lines"]) >= 2)).items():
        assert x == [0, *(step * SCALES[name] / 1e9 for step in STEPS)], "steps are GFLOPs"
    assert pages.sections() == [
        *("finetuned/mood", "held_out", "held_out/loss", "loss", "speed", "time"),
        *(f"training/{part}" for part in TRAINING),
        *("Model metrics", "System metrics"),
    ]
    pages.configure()
    pages.press("[aria-label='x-axis-log']")
    pages.confirm()
    assert pages.drawn(lambda drawn: drawn["scale"] == "log")["title"] == "Step"


def test_two_runs_that_are_compared_show_both_curves_against_flops(pages, browser):
    pages.open(f"/runs?{WORKFLOW}", "wide")
    for _ in range(2):
        pages.press("input[aria-label*='toggle row selection (unchecked)']")
    pages.press("button", "Compare")
    pages.shows("Comparing 2 Runs")
    pages.press("a", "finetuned/mood/accuracy")
    found = points(pages.drawn(lambda drawn: len(drawn["lines"]) >= 2))
    assert set(found) == set(SCALES)
    for name, (x, _) in found.items():
        assert x == [0, *(step * SCALES[name] / 1e9 for step in STEPS)], "steps are GFLOPs"


def test_an_experiment_has_a_row_for_each_run_and_the_newest_picture(pages, browser):
    pages.open(f"/runs?{WORKFLOW}", "Pretraining runs:")
    pages.press("[data-testid='experiment-metadata-editor-edit-button'] ~ button")
    picture = pages.until(lambda: pages.found("img[src^='get-artifact']"))[0]
    pages.until(lambda: picture.get_property("naturalWidth") > 100)
    for name, flops, accuracy in (("wide", "8e+14", "0.75"), ("deep", "1.6e+15", "0.8")):
        run, model, *rest = pages.until(lambda name=name: pages.row(name))
        assert (run, model) == (name, "tiny (1.9M parameters)")
        assert rest == ["news", "800", flops, "0.222", f"mood/accuracy {accuracy}"]
    browser.picture("mlflow-experiment")


def test_a_run_says_what_it_is_and_holds_its_files(pages, browser):
    run = f"/runs/{pages.run_id('deep')}"
    pages.open(f"{run}?{WORKFLOW}", "Child runs")
    pages.shows("mood, seed 2 of deep")
    pages.shows("on news, 2 x CPU (x86_64), fp32")
    picture = pages.until(lambda: pages.found("img[src^='get-artifact']"))[0]
    pages.until(lambda: picture.get_property("naturalWidth") > 100)
    pages.press("[data-testid='show-comment-toggle']")
    browser.picture("mlflow-run")
    pages.open(f"{run}/system-metrics?{WORKFLOW}", "cpu_utilization")
    page = "report/mood/curve.html"
    pages.open(f"{run}/artifacts/{page}?{WORKFLOW}", page)
    for name in ("config.yaml", "environment.json"):
        pages.shows(name)
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
    assert not [c for c in browser.complaints() if "Content Security Policy" in c["message"]]
    assert browser.requests_elsewhere() == []


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
    pages.open(f"/runs?{WORKFLOW}&compareRunsMode=CHART", "branches/held_out/loss/mlm")
    # Only the trunk has it: GFLOPs of the trunk up to each branch and of its decay.
    assert points(pages.drawn()) == {"long-0": ([25e3, 38e3, 50e3], [4.2, 3.8, 3.4])}
    browser.picture("mlflow-branches")
