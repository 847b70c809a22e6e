"""Headless Chromium, as Debian's packages chromium and chromium-driver have it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

__all__ = ["Browser", "start"]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,900",
)


def start(profile: Path) -> webdriver.Chrome:
    """A browser with a fresh profile in an empty folder."""
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        pytest.fail(f"{' and '.join(missing)} not found: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(paths["chromium"])
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=str(paths["chromedriver"]))
    return webdriver.Chrome(options=options, service=service)


class Browser:
    """One page, open."""

    def __init__(self, driver: webdriver.Chrome, page: Path) -> None:
        self.driver = driver
        driver.get_log("performance")
        driver.get_log("browser")
        driver.get(page.as_uri())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        (found,) = self.all(selector)
        return found

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def press(self, selector: str) -> None:
        """Enter, on what has the focus: a group may have another at its middle."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.driver.switch_to.active_element.send_keys(Keys.ENTER)

    def find(self, text: str) -> None:
        """What is typed into the search field."""
        field = self.one("#search")
        field.clear()
        field.send_keys(text + Keys.ENTER)

    def panel(self) -> str:
        return self.one("#panel").text

    def transform(self) -> str:
        """Of the graph, once the next picture is drawn."""
        self.settle()
        return str(self.one("#world").get_attribute("transform"))

    def settle(self) -> None:
        self.run_async("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def run_async(self, script: str) -> Any:
        return self.driver.execute_async_script(script)

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call."""
        rows = [json.loads(row["message"])["message"] for row in self.driver.get_log("performance")]
        sent = [row["params"] for row in rows if row["method"] == "Network.requestWillBeSent"]
        return [str(one["request"]["url"]) for one in sent]

    def complaints(self) -> list[str]:
        return [str(row["message"]) for row in self.driver.get_log("browser")]
