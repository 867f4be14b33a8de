"""The documentation's site in Chromium: phones, the dark theme, paper, wide tables, diagrams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SHOWN = (
    "index",
    "planning",
    "guides/continue",
    "loss-curves",
    "troubleshooting",
    "reference/config",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


def show(browser, page, width=1280, scheme="light", medium=""):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    send = browser.driver.execute_cdp_cmd
    send("Emulation.setDeviceMetricsOverride", size)
    send("Emulation.setEmulatedMedia", {"media": medium, "features": features})
    browser.driver.get(page.as_uri())


def test_no_page_is_wider_than_a_screen_and_none_asks_other_hosts(site, browser):
    pages = [p for p in sorted(site.rglob("*.html")) if p.name != "404.html"]
    assert len(pages) > 40
    wide = []
    for page in pages:
        for width in (390, 1280):
            show(browser, page, width)
            found = browser.driver.execute_script("return document.documentElement.scrollWidth")
            if found > width:
                wide.append((page.relative_to(site).as_posix(), width, found))
    assert wide == []
    assert browser.requests_elsewhere() == []


def test_pages_look_like_this(site, browser):
    modes = ((1280, "light", ""), (390, "light", ""), (1280, "dark", ""), (800, "light", "print"))
    for name in SHOWN:
        for width, scheme, medium in modes:
            show(browser, site / f"{name}.html", width, scheme, medium)
            browser.picture(f"site-{name.replace('/', '-')}-{medium or scheme}-{width}")
            navigation = browser.driver.find_element(By.CSS_SELECTOR, ".md-header")
            assert navigation.is_displayed() == (not medium)
            ground = browser.driver.execute_script(
                "return getComputedStyle(document.body).backgroundColor"
            )
            brightness = sum(map(int, ground.strip("rgba()").split(",")[:3])) / 3
            assert (brightness < 100) == (scheme == "dark"), (name, scheme, ground)


def test_the_theme_can_be_changed(site, browser):
    show(browser, site / "index.html")
    read = "return document.body.getAttribute('data-md-color-scheme')"
    seen = [browser.driver.execute_script(read)]
    for _ in range(3):
        visible = "[data-md-component=palette] label:not([hidden])"
        browser.driver.find_element(By.CSS_SELECTOR, visible).click()
        seen.append(browser.driver.execute_script(read))
    assert set(seen) == {"default", "slate"}


def test_a_wide_table_scrolls_in_its_own_box_and_keeps_its_numbers_whole(site, browser):
    show(browser, site / "planning.html", 390)
    script = """return [...document.querySelectorAll('.md-typeset__scrollwrap')].map((box) => {
        const cells = [...box.querySelectorAll('td[style*="right"]')]
        const line = parseFloat(getComputedStyle(box).lineHeight)
        return [box.scrollWidth > box.clientWidth, getComputedStyle(box).overflowX,
                Math.max(0, ...cells.map((c) => {
                    const range = document.createRange()
                    range.selectNodeContents(c)
                    return new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size
                }))]})"""
    boxes = browser.driver.execute_script(script)
    assert any(scrolls for scrolls, _, _ in boxes)
    assert {overflow for _, overflow, _ in boxes} == {"auto"}
    assert max(lines for _, _, lines in boxes) == 1


def test_texts_of_diagrams_stay_in_their_boxes(browser):
    for diagram in sorted((ROOT / "docs" / "images").glob("*.svg")):
        browser.driver.get(diagram.as_uri())
        script = """const boxes = [...document.querySelectorAll('rect')].map((r) => r.getBBox())
            const inside = (t, b) => t.x >= b.x + 3 && t.x + t.width <= b.x + b.width - 3
                && t.y >= b.y && t.y + t.height <= b.y + b.height
            const page = document.documentElement.viewBox.baseVal
            return [...document.querySelectorAll('text')].filter((t) => !boxes.some((b) =>
                b.width < page.width && inside(t.getBBox(), b))).map((t) => t.textContent)"""
        assert browser.driver.execute_script(script) == [], diagram.name
