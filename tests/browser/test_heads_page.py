"""The page of heads in Chromium: layers, tokens, weights, narrow screens, paper."""

import base64

import pytest
import torch
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from convbert.pretrain.show.heads import Head, HeadSeries, TextHeads, measure
from convbert.pretrain.show.heads_page import write_heads

pytestmark = pytest.mark.browser

REACH = 4
HOSTILE = "</script><script>window.hacked = 1</script>"


def head(length, generator):
    attention = torch.rand(length, length, generator=generator).mul(6).softmax(-1)
    kernel = torch.rand(length, 2 * REACH + 1, generator=generator).mul(4).softmax(-1)
    return Head(attention, kernel, measure(attention, kernel, REACH))


def series():
    generator = torch.Generator().manual_seed(1)
    sentences = [["[CLS]", HOSTILE, "שלום", "w" * 90, *(f"t{n}" for n in range(30)), "[SEP]"],
                 ["[CLS]", "short", "one", "[SEP]"]]  # fmt: skip
    texts = [
        TextHeads(
            " ".join(words), words, 3, 42, [[head(len(words), generator)] * 3 for _ in range(4)]
        )
        for words in sentences
    ]
    return HeadSeries("a <run>: step 9", "sdconv", REACH, texts)


def resize(browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def seen(browser, selector):
    """Return the texts of the elements that are displayed."""
    script = """return [...document.querySelectorAll(arguments[0])]
        .filter((e) => e.offsetParent !== null).map((e) => e.textContent)"""
    return browser.driver.execute_script(script, selector)


def test_layers_tokens_and_weights(tmp_path, browser):
    shown = series()
    driver = browser.driver
    driver.get(write_heads(shown, tmp_path / "heads.html").as_uri())
    slider, label, weight = (driver.find_element(By.ID, i) for i in ("layer", "label", "weight"))
    assert (label.text, seen(browser, ".layer h2")) == ("1 of 4", ["Layer 1"])
    slider.send_keys(Keys.ARROW_RIGHT)
    assert (label.text, seen(browser, ".layer h2")) == ("2 of 4", ["Layer 2"])

    attention, kernel = (
        shown.texts[0].layers[1][0].attention_LL,
        shown.texts[0].layers[1][0].kernel_LK,
    )
    driver.find_elements(By.CSS_SELECTOR, ".choose .token")[10].click()
    row = next(e for e in driver.find_elements(By.CSS_SELECTOR, ".head .row") if e.is_displayed())
    numbers = [e.text for e in row.find_elements(By.CSS_SELECTOR, ".p:not(.kernel)")]
    expected = ["" if w < 0.005 else f"{w:.2f}" for w in attention[10].tolist()]
    off = [(a, b) for a, b in zip(numbers, expected, strict=True) if a != b]
    assert all(abs(float(a or 0) - float(b or 0)) <= 0.011 for a, b in off)
    taps = [e.text for e in row.find_elements(By.CSS_SELECTOR, ".p.kernel")]
    assert [n for n, text in enumerate(taps) if text] == list(range(6, 15))
    assert sum(map(float, filter(None, taps))) == pytest.approx(1, abs=0.06)

    for kind, weights in (("attention", attention), ("kernel", kernel)):
        maps = driver.find_elements(By.CSS_SELECTOR, f"canvas.{kind}")
        canvas = next(e for e in maps if e.is_displayed())
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        # Selenium counts from the middle, which is in the middle cell of an odd number.
        ActionChains(driver).move_to_element(canvas).click().perform()
        middle = weights[len(weights) // 2, weights.shape[1] // 2]
        assert weight.text.startswith("t13 (17) ")
        assert float(weight.text.rsplit(": ", 1)[1]) == pytest.approx(float(middle), abs=0.005)
    assert seen(browser, ".row .chosen .word")[0] == "t13"

    assert driver.execute_script("return window.hacked") is None
    for width in (1200, 400):
        resize(browser, width)
        assert driver.execute_script("return document.documentElement.scrollWidth") == width
        browser.picture(f"heads-{width}")
    Select(driver.find_element(By.ID, "text")).select_by_value("1")
    assert seen(browser, ".choose .word") == ["[CLS]", "short", "one", "[SEP]"]
    assert browser.complaints() == []
    assert browser.requests_elsewhere() == []


def test_paper_gets_every_layer_of_the_chosen_text(tmp_path, browser):
    driver = browser.driver
    driver.get(write_heads(series(), tmp_path / "heads.html").as_uri())
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert seen(browser, ".layer h2") == [f"Layer {n}" for n in range(1, 5)]
    assert len(seen(browser, "canvas.attention")) == 4 * 3
    pdf = driver.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF")
