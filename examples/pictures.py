"""Takes the pictures in README and docs from the leaderboard's own pages.

    python -m examples.pictures
    python -m examples.pictures --check

Needs Chromium and the extra `browser`. Writes `docs/images/*.png`, and beside them `made-from.txt`: a hash of what the
pictures show. `--check`, which needs neither, fails when they are out of date.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
MADE_FROM = IMAGES / "made-from.txt"
SOURCES = (
    "leaderboard/templates", "leaderboard/assets", "leaderboard/results", "leaderboard/site.yaml", "lm_eval_ext/site",
    "lm_eval_ext/analysis", "lm_eval_ext/statistics", "examples/pictures.py",
)  # fmt: skip
PICTURES = {  # page, width and height of the window
    "overview.png": ("index.html", 1440, 1010),
    "budgets.png": ("budgets.html", 1440, 960),
    "compare.png": ("compare.html#a=tiny-chain-dense-fc97c339&b=tiny-chain-shortgpt-1-603da503", 1440, 820),
}


def fingerprint() -> str:
    """A hash of templates, assets, data and this command."""
    found = hashlib.sha256()
    for source in SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                found.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return found.hexdigest()


def check() -> None:
    """Exit with a message unless the pictures are of the pages as they are."""
    if MADE_FROM.read_text("utf-8").strip() != fingerprint():
        sys.exit("The pictures in docs/images are older than what they show: run python -m examples.pictures.")
    if {path.name for path in IMAGES.glob("*.png")} != set(PICTURES):
        sys.exit(f"docs/images/*.png are not {', '.join(sorted(PICTURES))}: run python -m examples.pictures.")


def take() -> None:
    """Build the site and take the pictures."""
    from playwright.sync_api import sync_playwright

    from lm_eval_ext.api import build_site

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = build_site([ROOT / "leaderboard" / "results"], Path(folder) / "site").parent
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (path, width, height) in PICTURES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
            page.goto(f"{site.as_uri()}/{path}")
            page.wait_for_timeout(500)
            page.screenshot(path=str(IMAGES / name))
        browser.close()
    MADE_FROM.write_text(f"{fingerprint()}\n", encoding="utf-8")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["--check"] else take()
