"""Headless Chromium that records every request and every message of the console."""

import base64
import json
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1280,900",
)  # fmt: skip
MEDIA = (
    ("desktop", 1280, "light", "screen"), ("phone", 390, "light", "screen"),
    ("dark", 1280, "dark", "screen"), ("print", 720, "light", "print"),
)  # fmt: skip


class Browser:
    """A driver that records what its pages requested and the errors they logged."""

    def __init__(self, driver):
        self.driver = driver
        self.requested = []

    def requests(self):
        """Return the addresses that pages (not the browser itself) requested so far."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
        return self.requested

    def requests_elsewhere(self):
        """Return the requested addresses that are not on this machine."""
        inside = ("data", "file", "blob", "about", "chrome", "chrome-untrusted")
        urls = [urlsplit(url) for url in self.requests()]
        return [u.geturl() for u in urls if u.scheme not in inside and u.hostname != "127.0.0.1"]

    def complaints(self):
        """Return the console's errors since the last call."""
        return [e for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]

    def picture(self, name):
        """Save a screenshot in the folder that CONVBERT_SCREENSHOTS names, if any."""
        if folder := os.environ.get("CONVBERT_SCREENSHOTS"):
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def pictures(self, name):
        """Check that the page is no wider than each medium, and save a picture of all of it."""
        self.driver.execute_script("scrollTo(0, 0)")
        for kind, width, theme, medium in MEDIA:
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            features = [{"name": "prefers-color-scheme", "value": theme}]
            media = {"media": medium, "features": features}
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            if medium == "print":
                self.driver.execute_script("dispatchEvent(new Event('beforeprint'))")
            script = "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]"
            wide, high = self.driver.execute_script(script)
            assert wide <= width, (kind, wide)
            if folder := os.environ.get("CONVBERT_SCREENSHOTS"):
                clip = {"x": 0, "y": 0, "width": width, "height": min(high, 8000), "scale": 1}
                options = {"captureBeyondViewport": True, "clip": clip}
                shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
                Path(folder, f"{name}-{kind}.png").write_bytes(base64.b64decode(shot["data"]))
        self.driver.execute_script("dispatchEvent(new Event('afterprint'))")
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def browser(tmp_path):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.fail("needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield Browser(found)
    found.quit()
