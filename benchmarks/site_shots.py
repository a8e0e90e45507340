"""Looks at sites of 5, 60 and 186 models in Chromium: pictures of every page, accessibility, and overflow.

    python -m benchmarks.site_shots [--out out/site-shots] [--runs 5,60,186]

Pages are opened at 1440, 768 and 360 pixels, light and dark. Writes the pictures and a sheet of them, `sheet.html` and
`sheet.png`, and exits with 1 if axe (WCAG 2.2 AA) finds something, or a page is wider than its window.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.site_runs import write_runs
from lm_eval_ext.api import build_site
from lm_eval_ext.site.rendering import NAVIGATION

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = (1440, 768, 360)
SCHEMES = ("light", "dark")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "preload": False}
SHEET = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sheet</title>
<style>body { font: 13px sans-serif; } figure { display: inline-block; width: 300px; margin: 6px; vertical-align: top; }
img { width: 100%; border: 1px solid #aaa; max-height: 420px; object-fit: cover; object-position: top; }</style>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/site-shots"))
    parser.add_argument("--runs", default="5,60,186")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for count in map(int, given.runs.split(",")):
            write_runs(Path(folder) / f"results{count}", count)
            site = build_site([Path(folder) / f"results{count}"], Path(folder) / f"site{count}").parent
            faults += looked_at(browser, site, given.out, str(count))
        sheet(browser, given.out)
        browser.close()
    print("\n".join(faults) or "nothing found")
    sys.exit(1 if faults else 0)


def looked_at(browser: Browser, site: Path, out: Path, name: str) -> Iterator[str]:
    """Take pictures of all pages; what is wrong with them."""
    pages = {path.removesuffix(".html"): site / path for path, _ in NAVIGATION}
    pages["run"] = max(site.glob("runs/*/index.html"))
    for scheme in SCHEMES:
        for width in WIDTHS:
            size = {"width": width, "height": 900}
            context = browser.new_context(viewport=size, color_scheme=scheme)
            for title, path in pages.items():
                page = context.new_page()
                page.goto(path.as_uri())
                page.wait_for_timeout(300)
                page.screenshot(path=str(out / f"{name}-{title}-{width}-{scheme}.png"), full_page=title != "run")
                yield from (f"{name} runs, {title}, {width} {scheme}: {fault}" for fault in faults_of(page, width))
                page.close()
            context.close()


def faults_of(page: Page, width: int) -> Iterator[str]:
    from axe_playwright_python.sync_playwright import Axe

    found: Any = Axe().run(page, options=RULES).response
    yield from (f"axe: {one['id']}, {one['nodes'][0]['html'][:150]}" for one in found["violations"])
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        yield f"{wide} pixels wide"


def sheet(browser: Browser, out: Path) -> None:
    """All pictures on one page, and that as a picture."""
    names = sorted(path.name for path in out.glob("*.png"))
    figures = "".join(f'<figure><img src="{name}" alt=""><figcaption>{name}</figcaption></figure>' for name in names)
    (out / "sheet.html").write_text(f"{SHEET}<body>{figures}</body></html>\n", encoding="utf-8")
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.goto((out / "sheet.html").resolve().as_uri())
    page.screenshot(path=str(out / "sheet.png"), full_page=True)


if __name__ == "__main__":
    main()
