"""A headless Chromium that only loads the page under test, and the queries of the tests."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from selenium import webdriver

from tools.fetch_assets import FETCHED

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"
WIDE, PHONE = (1280, 900), (390, 844)
PATIENCE = 20  # seconds until a page is fully rendered; most take less than one
FLAGS = [
    "--headless=new",
    "--no-sandbox",  # as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
DRAWN = """
return document.readyState === "complete" && !document.querySelector("pre.mermaid")
    && [...document.querySelectorAll(".arithmatex")].every(formula => formula.querySelector(".katex"))
"""
# Most of a page is highlighted code. One element per colour is enough: the others become text without markup.
AXE = """
const [options, done] = arguments
const seen = new Set()
for (const word of document.querySelectorAll(".highlight code span[class]:not(:has(*))")) {
    if (seen.has(word.className)) word.replaceWith(word.textContent)
    seen.add(word.className)
}
const severe = ({ impact }) => ["serious", "critical"].includes(impact)
const said = ({ id, nodes }) => `${id}, ${nodes.length} times: ${nodes[0].html.slice(0, 160)}`
axe.run(document, { resultTypes: ["violations"], ...options })
    .then(({ violations }) => done(violations.filter(severe).map(said)), error => done([String(error)]))
"""


def page(version: str, name: str) -> str:
    """The end of the address of a page such as `api/config`: a folder on a server, a file in a folder."""
    if version == "folder":
        return f"{name}.html"
    return "" if name == "index" else f"{name}/"


def missing() -> list[str]:
    """Missing parts of the browser and its driver on this machine."""
    lacks = [] if any(map(shutil.which, BROWSERS)) else ["Chromium"]
    return lacks if shutil.which(DRIVER) else [*lacks, DRIVER]


class Chromium:
    """A browser that is reused for all pages."""

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = next(path for path in map(shutil.which, BROWSERS) if path)
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which(DRIVER)))
        self.driver.get("about:blank")  # the first page is the browser's own and makes many requests
        self.driver.set_script_timeout(60)
        self.axe_source = (FETCHED / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")

    def open(self, address: str, size: tuple[int, int] = WIDE) -> None:
        """Load a page and wait until its diagrams and formulas are drawn."""
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.resize(size)
        self.colours("light")
        self.driver.get(address)
        self.wait(DRAWN)

    def resize(self, size: tuple[int, int]) -> None:
        """Set a viewport of `size`; a phone has a touch screen."""
        width, height = size
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )

    def colours(self, scheme: str) -> None:
        """Set the preferred scheme to `light` or `dark`, without animations, so that measurements are final."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.command("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])

    def command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: Any) -> Any:
        """The result of the script as soon as it is true; after the timeout, the last result."""
        until = time.monotonic() + PATIENCE
        while not (answer := self.ask(script, *arguments)) and time.monotonic() < until:
            time.sleep(0.05)
        return answer

    def errors(self) -> list[str]:
        """The console errors since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """The addresses requested since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def axe(self, **options: Any) -> list[str]:
        """The serious and critical violations reported by axe, for all rules or for those in `options`."""
        if not self.ask("return typeof axe === 'object'"):
            self.ask(self.axe_source)
        violations: list[str] = self.driver.execute_async_script(AXE, options)
        return violations

    def diagrams(self) -> list[str]:
        """The texts of each diagram; the theme keeps them in a closed shadow tree, which only the debugger can read."""
        root = self.command("DOM.getDocument", depth=-1, pierce=True)["root"]
        return [" ".join(_words(tree)) for tree in _shadows(root)]

    def quit(self) -> None:
        self.driver.quit()


def _shadows(node: dict[str, Any]) -> list[dict[str, Any]]:
    inside = [tree for child in node.get("children", []) for tree in _shadows(child)]
    return [tree for tree in node.get("shadowRoots", []) if tree.get("shadowRootType") == "closed"] + inside


def _words(node: dict[str, Any]) -> list[str]:
    if node["nodeName"].lower() == "style":
        return []
    own = [node["nodeValue"].strip()] if node["nodeName"] == "#text" and node["nodeValue"].strip() else []
    return own + [word for child in node.get("children", []) for word in _words(child)]
