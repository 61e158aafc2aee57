"""A headless Chromium from the system's packages, and what a person does with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from serve.page.served import Served

WAIT_S = 20

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,1200",
)


def installed() -> tuple[str, str]:
    """Browser and driver; skips the test where one is missing."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    return browser, driver


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Chrome]:
    """A browser with an empty profile. Downloads nothing: both programs are given."""
    browser, driver = installed()
    options = ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(executable_path=driver))
    try:
        yield chrome
    finally:
        chrome.quit()


class Viewer:
    """Somebody with a tab of their own."""

    def __init__(self, chrome: Chrome, served: Served, host: str = "127.0.0.1") -> None:
        self.chrome = chrome
        self._served = served
        self._host = host  # another host is another cookie jar: another person
        chrome.switch_to.new_window("tab")
        chrome.get("about:blank")
        self._tab = chrome.current_window_handle

    def here(self) -> Viewer:
        """Look at this tab."""
        self.chrome.switch_to.window(self._tab)
        return self

    def open(self, link: str) -> None:
        self.here().chrome.get(link.replace("127.0.0.1", self._host))

    def log_in(self, name: str = "ada") -> Viewer:
        self.open(self._served.link())
        self.seen("#name").send_keys(name, Keys.ENTER)
        self.text_of("#person", name)
        return self

    def seen(self, css: str) -> WebElement:
        """The element, once it is there and shown."""

        def found(_: Any) -> WebElement | None:
            shown = [e for e in self.chrome.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()]
            return shown[0] if shown else None

        element: WebElement = self.until(found, f"{css} is not shown")
        return element

    def text_of(self, css: str, part: str) -> str:
        """The text of an element, once it holds this."""

        def holds(_: Any) -> str | None:
            texts = [e.text for e in self.chrome.find_elements(By.CSS_SELECTOR, css)]
            return next((text for text in texts if part in text), None)

        text: str = self.until(holds, f"{css} does not say {part!r}")
        return text

    def click(self, css: str) -> None:
        """Click it, once nothing moves under the pointer."""
        self.until(lambda _: not self.chrome.find_elements(By.CSS_SELECTOR, ".moving"), "moves")
        self.until(lambda _: self.seen(css).is_enabled(), f"{css} is disabled")
        self.seen(css).click()

    def until(self, true: Any, problem: str) -> Any:
        # The page may draw an element again between finding it and reading it.
        again = [StaleElementReferenceException]
        wait = WebDriverWait(self.here().chrome, WAIT_S, 0.05, ignored_exceptions=again)
        return wait.until(true, f"{problem}; the page: {self.script('document.body.innerText')}")

    def script(self, expression: str) -> Any:
        return self.chrome.execute_script(f"return {expression}")


def requested(chrome: Chrome) -> list[str]:
    """Every address that pages asked for since the last call, without the browser's own pages."""
    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]  # type: ignore[no-untyped-call]  # selenium's own
    return [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
        and not m["params"]["documentURL"].startswith("chrome")
    ]
