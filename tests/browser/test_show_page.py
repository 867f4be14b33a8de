"""The page of fillings and verdicts in Chromium: the slider, narrow screens, hostile texts."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from convbert.pretrain.show.page import write_page
from convbert.pretrain.show.records import Filling, Look, Point, Sample, Series, Verdict

pytestmark = pytest.mark.browser

TEXT = "</script><script>window.hacked = 1</script> <b>שלום</b> [MASK] 日本語のとても長い文章" * 3


def look(number):
    fillings = [Filling(word=f"<i>w{number}-{n}", piece="x", probability=0.5**n) for n in (1, 2)]
    verdicts = [
        Verdict(word="w" * 90 if n == 5 else f"t{n}", piece=f"▁t{n}", masked=n == 1,
                original="was", changed=n == 1, replaced=number / 4)
        for n in range(40)
    ]  # fmt: skip
    return Look(fillings=[fillings] * 2, verdicts=verdicts, tokens=40, left_out=3, limit=42)


def written(path, count):
    points = [
        Point(label=f"step {n}", step=n, flops=1e9 * n, looks=[look(n)])
        for n in range(1, count + 1)
    ]
    samples = [Sample(text=TEXT, answer="<u>x")]
    series = Series(source="a <run>", samples=samples, share=0.15, seed=0, points=points)
    return write_page(series, path).as_uri()


def seen(browser, selector):
    """Return the texts of the elements that are displayed."""
    script = """return [...document.querySelectorAll(arguments[0])]
        .filter((e) => e.offsetParent !== null).map((e) => e.innerText)"""
    return browser.driver.execute_script(script, selector)


def test_the_slider_shows_one_checkpoint_after_the_other(tmp_path, browser):
    browser.driver.get(written(tmp_path / "page.html", 3))
    slider, label = (browser.driver.find_element(By.ID, name) for name in ("point", "label"))
    for step, key in ((3, None), (2, Keys.ARROW_LEFT), (1, Keys.ARROW_LEFT), (2, Keys.ARROW_RIGHT)):
        if key:
            slider.send_keys(key)
        assert label.text == f"step {step}, {step}.00e+09 FLOPs"
        assert len(seen(browser, ".point")) == 1
        words = [f"<i>w{step}-1", f"<i>w{step}-2"]
        assert seen(browser, ".fillings th") == [*words, *words]
        assert set(seen(browser, ".p")) == {f"{step / 4:.2f}"}
        assert len(seen(browser, ".suspected .p")) == (40 if step > 1 else 0)
    assert seen(browser, ".text")[0] == " ".join(TEXT.split())
    assert seen(browser, ".drawn .origin") == ["was"]
    assert "the last 3 are left out" in seen(browser, ".remark")[0]
    assert browser.driver.execute_script("return window.hacked") is None
    for width in (1200, 400):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wide = browser.driver.execute_script("return document.documentElement.scrollWidth")
        assert wide == width
        browser.picture(f"show-{width}")
    assert browser.complaints() == []
    assert browser.requests_elsewhere() == []


def test_one_model_needs_no_slider(tmp_path, browser):
    browser.driver.get(written(tmp_path / "page.html", 1))
    assert seen(browser, "#label") == []
    assert seen(browser, ".point > h2") == ["step 1, 1.00e+09 FLOPs"]
