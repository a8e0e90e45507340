"""Time, memory and size of a large leaderboard, built from published runs with samples.

    python -m benchmarks.site [--runs 1000] [--questions 500]

Prints time and peak memory of the build, the time to build again after one new run, and the size of the overview page,
also for a quarter of the runs. With Chromium, also when the overview shows its first picture, and how long a filter
takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import read_source
from lm_eval_ext.runs.publish import publish

REMOVALS = [layers for count in range(4) for layers in combinations(range(12), count)]
METHODS = ("shortgpt", "reverse", "laco", "angular", "sleb")
_TEXT = "Step by step, it is seven and then eight and so on. " * 12 + "</think>\\boxed{%s}"


def write_runs(folder: Path, runs: int, questions: int, prefix: str = "Model") -> None:
    """Write published runs of 25 models, each dense and pruned, with `questions` samples each in two tasks."""
    catalogue = read_catalogue()
    for number in range(runs):
        base, place = divmod(number, max(1, runs // 25))
        dropped = REMOVALS[place % len(REMOVALS)]  # a different model each, with its own row
        tasks = {
            f"tts_aime24_b{budget}": scores(
                0.7 - 0.04 * len(dropped) - 0.1 * (budget == 512), questions // 2, 1, number
            )
            for budget in (512, 8192)
        }
        with tempfile.TemporaryDirectory() as output:
            path = write_output(
                Path(output), tasks, base=f"Org/{prefix}-{base}", dropped=dropped, method=METHODS[place % 5], text=_TEXT
            )
            publish(read_source(path, catalogue), folder)


def build(results: Path, out: Path) -> None:
    """Build the site and print seconds and peak memory; call it in a separate process."""
    from lm_eval_ext.api import build_site

    begun = time.perf_counter()
    build_site([results], out)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"seconds": time.perf_counter() - begun, "megabytes": peak / 1024}))


def measured(runs: int, questions: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder) / "results", runs, questions)
        first = _build(folder)
        write_runs(Path(folder) / "results", 1, questions, prefix="New")
        again = _build(folder)
        page = Path(folder) / "site" / "index.html"
        sizes = {"seconds again after one more run": again["seconds"], "overview kB": page.stat().st_size / 1000}
        return {**first, **sizes, **in_browser(page)}


def _build(folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.site", "--build", folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_browser(page: Path) -> dict[str, float]:
    """Milliseconds until something is painted, and for a filter; empty without Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1440, "height": 900})
        opened.goto(page.as_uri())
        painted = opened.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        filtered = opened.evaluate(
            """() => { const form = document.querySelector('form[data-for=overview]'); form.elements.q.value = 'laco';
            const start = performance.now(); form.dispatchEvent(new Event('input', {bubbles: true}));
            document.body.offsetHeight; return performance.now() - start; }"""
        )
        browser.close()
    return {"ms to the first picture": painted, "ms for a filter": filtered}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=1000)
    arguments.add_argument("--questions", type=int, default=500)
    arguments.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.build:
        build(given.build / "results", given.build / "site")
        return
    for runs in (given.runs // 4, given.runs):
        found = measured(runs, given.questions)
        shown = ", ".join(f"{value:,.1f} {name}" for name, value in found.items())
        print(f"{runs} runs of {given.questions} samples: {shown}; {1000 * found['seconds'] / runs:.1f} ms per run")


if __name__ == "__main__":
    main()
