"""A headless Chromium that looks at a file, and tells what it asked for and complained of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.support.beside.waiting import wait_until

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One page at a time."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1280, theme: str = "light") -> None:
        """Open a page at a width, in a theme, and wait until all its charts are drawn."""
        self.clear()
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.driver.get(page.as_uri())
        self.wait_for("document.documentElement.dataset.drawn === 'yes'")

    def run(self, script: str, *args: Any) -> Any:
        """Return what a script's `return` gives."""
        return self.driver.execute_script(script, *args)

    def wait_for(self, condition: str) -> None:
        """Wait until a condition of JavaScript holds."""
        wait_until(lambda: self.run(f"return {condition}"))

    def all(self, selector: str) -> list[Any]:
        """Return every element of a selector."""
        return list(self.driver.find_elements("css selector", selector))

    def click(self, selector: str) -> None:
        """Click the first element of a selector, wherever it has scrolled to."""
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        self.all(selector)[0].click()

    def command(self, name: str, **words: Any) -> Any:
        """Send a command of the devtools protocol."""
        return self.driver.execute_cdp_cmd(name, words)

    def clear(self) -> None:
        """Forget what was logged so far."""
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)

    def complaints(self) -> list[str]:
        """Return what stands in the console since `open`, errors and warnings alike."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return every address that was asked for since `open`."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        sent = [e for e in events if e["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a Chromium and stop it; skips where there is none, or none that starts."""
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # Root, as in a container, has no sandbox; a small /dev/shm would end the tab.
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
