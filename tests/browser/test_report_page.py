"""The report page in Chromium: pointing, hiding runs, the axes, and no request to anywhere."""

import csv
import itertools
import json

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from small_runs import branch_run, logged_run, small_run

from convbert.pretrain.report.page import write_report

pytestmark = pytest.mark.browser

FIGURE = "#measure-0"
WIDTH = "return document.querySelector('#measure-0 svg').getAttribute('viewBox')"
NOTE_PRINTED = "addEventListener('beforeprint', () => { window.printed = (() => { %s })() })"


def found(browser, selector):
    return browser.driver.find_elements(By.CSS_SELECTOR, selector)


def colors(browser):
    """The background, and the first run's line."""
    script = """const of = (s, k) => getComputedStyle(document.querySelector(s))[k];
        return [of('body', 'backgroundColor'), of('#measure-0 .curve', 'stroke')]"""
    return tuple(browser.driver.execute_script(script))


def heights(browser, selector):
    """Return the values at an element's upper and lower edge, read off the axis's labels."""
    script = """const box = document.querySelector(arguments[0]).getBBox();
        const ticks = [...document.querySelectorAll('#measure-0 text[text-anchor=end]')]
            .map(t => [Number(t.getAttribute('y')) - 4, Number(t.textContent)]);
        const [[y0, v0], [y1, v1]] = [ticks[0], ticks.at(-1)];
        return [box.y, box.y + box.height].map(y => v0 + (y - y0) / (y1 - y0) * (v1 - v0));"""
    return browser.driver.execute_script(script, f"{FIGURE} {selector}")


def gaps(browser):
    """Horizontal distances between the points of the first run, in the picture's units."""
    script = """return [...document.querySelectorAll('#measure-0 [data-run="0"] .point')]
        .map(p => p.transform.baseVal[0].matrix.e)"""
    places = browser.driver.execute_script(script)
    return [right - left for left, right in itertools.pairwise(places)]


def legend(browser):
    return [button.text.split("\n")[-1] for button in found(browser, "#legend button")]


def reach_by_keys(browser):
    """Go through the points with the arrow keys alone, from run to run and back."""
    tip = browser.driver.find_element(By.ID, "tip")
    browser.driver.execute_script(f"document.querySelector('{FIGURE} svg').focus()")
    keys = ActionChains(browser.driver)
    for _ in range(2):
        keys.send_keys(Keys.ARROW_RIGHT)
    keys.perform()
    assert tip.text.splitlines()[0::4] == ["wide", "0.65 (0.64 to 0.658, 3 seeds)"]
    ActionChains(browser.driver).send_keys(Keys.ARROW_DOWN).perform()
    assert tip.text.splitlines()[0::4] == ["deep", "0.6 (0.59 to 0.608, 3 seeds)"]
    ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()
    assert not tip.is_displayed()


def compare_exports(browser, folder):
    """Save what the charts show in both forms: they say the same, and what the runs' files say."""
    allowed = {"behavior": "allow", "downloadPath": str(folder)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    for form in ("csv", "json"):
        found(browser, f"#{form}")[0].click()
        WebDriverWait(browser.driver, 60).until(lambda _, f=form: (folder / f"runs.{f}").is_file())
    rows = json.loads((folder / "runs.json").read_text())
    with open(folder / "runs.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["value"] for row in table] == [str(row["value"]) for row in rows]
    measured = [
        row["value"] for row in rows if (row["chart"], row["run"]) == ("mood/accuracy", "deep")
    ]
    assert measured == [0.58, 0.6, 0.72, 0.8]
    losses = [
        row["update"] for row in rows if (row["chart"], row["run"]) == ("training loss", "wide")
    ]
    assert losses == list(range(10, 801, 10))


def test_the_page_shows_what_a_reader_points_at(tmp_path, browser):
    runs = [
        small_run(tmp_path / "wide", "off", (0.6, 0.65, 0.7, 0.75)),
        small_run(tmp_path / "deep", "off", (0.58, 0.6, 0.72, 0.8), 2e12, ["seed=7"], 4),
    ]
    browser.driver.set_window_size(1280, 1250)
    browser.driver.get(write_report(runs, tmp_path / "report.html", price=2.5).as_uri())
    # They differ in nothing but the seed, so they are one line with the range of both.
    assert legend(browser) == ["wide, 2 seeds"]
    assert len(found(browser, f"{FIGURE} .point")) == 5
    assert heights(browser, "[data-run='0'] .band") == pytest.approx([0.808, 0.57], abs=1e-3)
    found(browser, "#grouped")[0].click()
    assert legend(browser) == ["wide", "deep"]
    assert len(found(browser, f"{FIGURE} .point")) == 8
    assert len(found(browser, f"{FIGURE} .band")) == 2
    # The untrained models' ranges and the words' baseline, at their heights.
    assert heights(browser, "[data-run='0'] .range") == pytest.approx([0.56, 0.54], abs=1e-3)
    assert heights(browser, ".level line") == pytest.approx([0.68, 0.68], abs=1e-3)
    assert found(browser, f"{FIGURE} .level text")[0].text == "TF-IDF + logistic regression 0.68"
    tip = browser.driver.find_element(By.ID, "tip")
    assert not tip.is_displayed()

    last = found(browser, f"{FIGURE} [data-run='1'] .point")[-1]
    ActionChains(browser.driver).move_to_element(last).perform()
    assert tip.is_displayed()
    lines = tip.text.splitlines()
    assert lines == ["deep", "1.6×10¹⁵ FLOPs", "0.4444 process hours", "step 800",
                     "0.8 (0.79 to 0.808, 3 seeds)"]  # fmt: skip
    browser.picture("report")
    reach_by_keys(browser)

    # On a log axis doubling is the same distance everywhere, on a linear one it doubles.
    assert gaps(browser) == pytest.approx([gaps(browser)[0]] * 3, rel=1e-3)
    found(browser, "input[value=linear]")[0].click()
    first, second, third = gaps(browser)
    assert (second, third) == pytest.approx((2 * first, 4 * first), rel=1e-3)
    Select(found(browser, "#quantity")[0]).select_by_value("hours")
    assert "process hours" in found(browser, FIGURE)[0].text
    Select(found(browser, "#quantity")[0]).select_by_value("tokens")  # not logged
    assert "nothing over tokens read" in found(browser, FIGURE)[0].text
    Select(found(browser, "#quantity")[0]).select_by_value("flops")
    compare_exports(browser, tmp_path)

    button = found(browser, "#legend button")[1]
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not found(browser, "[data-run='1']")
    assert len(found(browser, f"{FIGURE} .point")) == 4
    button.click()
    assert len(found(browser, f"{FIGURE} .point")) == 8

    assert colors(browser) == ("rgb(255, 255, 255)", "rgb(0, 114, 178)")
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert colors(browser) == ("rgb(23, 24, 27)", "rgb(63, 160, 220)")
    wide = browser.driver.execute_script(WIDTH)
    browser.driver.execute_script(NOTE_PRINTED % WIDTH)
    browser.driver.execute_cdp_cmd("Page.printToPDF", {})
    assert browser.driver.execute_script("return printed") == "0 0 720 430"
    assert browser.driver.execute_script(WIDTH) == wide

    browser.pictures("report")
    assert browser.complaints() == []
    assert any(url.startswith("file:") for url in browser.requests())
    assert browser.requests_elsewhere() == []


def test_branches_are_one_curve_and_their_trainings_do_not_touch(tmp_path, browser):
    runs = [
        logged_run(tmp_path / "long-0", range(1, 51), {20: 5.0, 30: 4.5, 40: 4.2}),
        branch_run(tmp_path / "late-1", 40, 10, {40: 4.2, 50: 3.4}),
        branch_run(tmp_path / "early-2", 20, 5, {25: 4.3}),
        branch_run(tmp_path / "middle-3", 30, 7, {37: 3.8}),
    ]
    browser.driver.get(write_report(runs, tmp_path / "report.html").as_uri())
    assert legend(browser) == ["long-0", "long, 3 branches"]
    family = "[data-run='1']"
    assert len(found(browser, f"#measure-0 {family} .point")) == 3
    assert len(found(browser, f"#measure-0 {family} .curve")) == 1
    assert len(found(browser, f"#training-0 {family} .curve")) == 3
    last = found(browser, f"#measure-0 {family} .point")[-1]
    ActionChains(browser.driver).move_to_element(last).perform()
    tip = browser.driver.find_element(By.ID, "tip").text.splitlines()
    assert tip == ["long, 3 branches", "5×10¹³ FLOPs", "25 process hours", "step 50", "3.4"]
    browser.picture("branches-page")
    assert browser.complaints() == []
