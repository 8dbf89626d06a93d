"""A page of the report in headless Chromium, with everything it says and asks for."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One opened page: what its console said, which addresses it asked for.

    Args:
        browser: a running browser.
        file: the page.
        width: of the window in pixels.
        options: of the browser's context, ``color_scheme`` and ``java_script_enabled``.
    """

    def __init__(self, browser, file, width=1400, **options):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, reduced_motion="reduce", **options
        )
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        if options.get("java_script_enabled", True):
            self.page.wait_for_selector("#front-live[data-ready]", timeout=60_000)

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.context.close()
