"""Measure the latency of an edit on the page `Audit a network` in headless Chromium: a row of `tools.bench`."""

from __future__ import annotations

import shutil
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from tools.site import SITE

EDITS = 20
# One edit, from the event to the next frame that shows the result.
EDIT = """
const [value, done] = arguments, field = document.querySelector(".audit [name=resolution]")
const began = performance.now()
field.value = value
field.dispatchEvent(new Event("input", { bubbles: true }))
requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)))
"""


class Quiet(SimpleHTTPRequestHandler):
    """A server that logs nothing."""

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def milliseconds(model: str = "l7") -> tuple[float, float] | None:
    """Return median and worst latency (ms) of an edit of `model` after Python has loaded.

    None without the site or chromedriver.
    """
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    driver_path = shutil.which("chromedriver")
    if driver_path is None or not SITE.is_dir():
        return None
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as profile:
        options.add_argument(f"--user-data-dir={Path(profile)}")
        driver = webdriver.Chrome(options, webdriver.ChromeService(driver_path))
        try:
            driver.get(f"http://127.0.0.1:{server.server_port}/audit/?model={model}")
            ready = "return document.querySelector('.audit').dataset.milliseconds"
            WebDriverWait(driver, 60).until(lambda page: page.execute_script(ready))
            times = [driver.execute_async_script(EDIT, str(224 + 32 * (n % 9))) for n in range(EDITS)]
        finally:
            driver.quit()
            server.shutdown()
    return median(times), max(times)
