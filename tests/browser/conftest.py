"""The built site, served and as a folder, and the browser that opens it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest
from browser.chromium import Chromium, missing
from filelock import FileLock

from tools import ROOT, fetch_assets, site
from tools.bench_page import Quiet

SERVED, FOLDER = "served", "folder"


def cannot(reason: str) -> NoReturn:
    """Skip, or fail if these tests are required (.ci/run sets this)."""
    if os.environ.get("BROWSER_TESTS") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def built() -> dict[str, Path]:
    """The two versions of the site, built from the current sources."""
    (ROOT / "build").mkdir(exist_ok=True)
    with FileLock(ROOT / "build" / "site.lock"):  # two processes of pytest may reach this line at the same time
        try:
            fetch_assets.fetch()
        except (subprocess.CalledProcessError, OSError) as error:
            cannot(f"the browser's assets could not be fetched, which needs a network once: {error}")
        if not site.current():
            site.make()
    return {SERVED: site.SITE, FOLDER: site.FOLDER}


@pytest.fixture(scope="session")
def addresses(built: dict[str, Path]) -> Iterator[dict[str, str]]:
    """The start address of each version."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built[SERVED])))
    except OSError as error:
        cannot(f"this machine cannot talk to itself: {error}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {SERVED: f"http://127.0.0.1:{server.server_port}/", FOLDER: f"{built[FOLDER].as_uri()}/"}
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def chromium(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if lacks := missing():
        cannot(f"not on this machine: {', '.join(lacks)}")
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture(params=[SERVED, FOLDER])
def version(request: pytest.FixtureRequest) -> str:
    """Tests with this fixture run on both versions."""
    return str(request.param)
