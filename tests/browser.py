"""A real browser for the tests of pages: Debian's Chromium, driven by Playwright, and what it did wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
HERE = ("data:", "blob:", "file:", "http://127.0.0.1", "ws://127.0.0.1", "http://localhost", "about:")


@dataclass
class Watched:
    """A page, and what a good one never causes: errors, and requests that leave the machine."""

    page: Any
    errors: list[str] = field(default_factory=list)
    abroad: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert not self.errors
        assert not self.abroad


@contextmanager
def started(kind: Any, *flags: str) -> Iterator[Any]:
    """A running Chromium; ``kind`` is Playwright's. Skips the test where none is installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    running = kind.launch(executable_path=chromium, args=[*FLAGS, *flags])
    yield running
    running.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)")
    with playwright.sync_playwright() as driver, started(driver.chromium) as running:
        yield running


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    """An empty page of 1280x800."""
    yield from watched_page(browser)


@pytest.fixture
def watched_in_hdr(browser: Any) -> Iterator[Watched]:
    """The same on a screen with HDR."""
    with started(browser.browser_type, "--force-color-profile=hdr10") as other:
        yield from watched_page(other)


def watched_page(browser: Any) -> Iterator[Watched]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(90_000)  # a machine may be busy
    watch = Watched(page)
    page.on("pageerror", lambda error: watch.errors.append(str(error)))
    page.on("console", lambda message: watch.errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith(HERE) else watch.abroad.append(asked.url))
    yield watch
    page.close()
