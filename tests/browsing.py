"""Sites and pages for the tests in a real browser."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.lm_eval_output import write_board
from lm_eval_ext.api import build_site
from tests.shared import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
CAN_BROWSE = CHROMIUM is not None and importlib.util.find_spec("playwright") is not None
WHY_NOT = "needs Chromium and the extra `browser` (make test-browser)"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    return build_site([write_board(folder / "results")], folder / "out").parent


@pytest.fixture(scope="session")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of sixty models."""
    folder = tmp_path_factory.mktemp("sixty")
    command = [sys.executable, "-m", "benchmarks.site_runs", str(folder / "results"), "--runs", "60"]
    subprocess.run(command, cwd=ROOT, check=True)
    return build_site([folder / "results"], folder / "out").parent


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, as in a container, Chromium has no sandbox; the rest keeps it from the network.
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that must neither complain nor ask the network for anything."""
    given = {"viewport": {"width": 1440, "height": 900}, **getattr(request, "param", {})}
    context = browser.new_context(**given)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request",
        lambda asked: complaints.append(asked.url) if not asked.url.startswith(("file:", "data:", "blob:")) else None,
    )
    yield opened
    context.close()
    assert complaints == []


def address(site: Path, name: str) -> str:
    path = next(site.glob("runs/*shortgpt-2*/index.html")) if name == "run" else site / name
    return path.as_uri()
