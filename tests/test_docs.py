"""The documentation: its commands run, its reference is what the code says, its pages link to each other.

A block of commands is run by a shell, the blocks of a page one after the other in one new folder; one that cannot be is
marked by the line before it, `<!-- not run: why -->`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from examples.pictures import IMAGES
from examples.reference import pages, schemas, write
from tests.shared import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
GUIDE = DOCS / "howto" / "add-a-benchmark.md"
PROGRAMS = (
    "lm_eval ",
    "lm-eval-tts ",
    "python ",
    "pip ",
    "make ",
    "cd ",
    "for ",
    "ray ",
    "hf ",
    "pytest ",
    "git ",
    "uv ",
    "vllm ",
    "sbatch ",
    "docker ",
    "export ",
    "#!",
    "...",
)
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^>]+) -->\n\n)?(?P<text>(?:^    .*\n(?:^\s*\n(?=    ))*)+)", re.MULTILINE
)


def blocks(page: Path) -> Iterator[tuple[str, str | None]]:
    """Commands of a page, and why they are not run, if they are not."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8") + "\n", flags=re.MULTILINE | re.DOTALL)
    for found in _BLOCK.finditer(text):
        commands = re.sub(r"^    ", "", found["text"], flags=re.MULTILINE)
        if commands.startswith(PROGRAMS):
            yield commands, found["why"]


def outputs(page: Path) -> list[str]:
    """The lines that a page shows as output: those between fences without a language."""
    fences = re.findall(r"^```(\S*)\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [masked(line) for language, text in fences if not language for line in text.splitlines() if line.strip()]


def masked(line: str) -> str:
    """A line without its numbers, whose last digits depend on the machine, and without the spaces that align them."""
    return re.sub(r"[\d.,e-]*\d|[-:]{3,}|\s+", "", line)


def script(page: Path) -> str:
    """What is run of a page."""
    return "".join(commands for commands, why in blocks(page) if why is None)


@pytest.mark.documentation
@pytest.mark.parametrize("page", [page for page in PAGES if script(page) and page != GUIDE], ids=lambda page: page.stem)
def test_commands_run(page: Path, tmp_path: Path) -> None:
    printed = {masked(line) for line in run(page, tmp_path).splitlines()}
    assert [line for line in outputs(page) if line not in printed] == [], "shown, but not what the commands print"


def run(page: Path, folder: Path) -> str:
    """What the commands of a page print."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}
    command = ["bash", "-euo", "pipefail", "-c", script(page)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_what_is_not_run_says_why() -> None:
    for page in PAGES:
        for commands, why in blocks(page):
            assert why is None or len(why.split()) > 2, (page, commands)
    ran = [commands for page in PAGES for commands, why in blocks(page) if why is None]
    assert len(ran) >= 8, "the pattern finds them"


def test_commands_can_be_pasted_into_zsh() -> None:
    """It takes a word with brackets for a pattern of file names, unless it is quoted."""
    quoted, unquoted = re.compile(r"'[^']*'|\"[^\"]*\""), re.compile(r"=\S*\[|\w\[")
    written = re.compile(r"<<'END'\n.*?^END$", re.MULTILINE | re.DOTALL)  # the text of a file
    shell = [(page.name, written.sub("", commands)) for page in PAGES for commands, _ in blocks(page)]
    lines = [(name, line) for name, commands in shell for line in commands.splitlines()]
    assert [one for one in lines if unquoted.search(quoted.sub("", one[1]))] == []


@pytest.mark.documentation
def test_a_benchmark_unknown_here_comes_onto_the_leaderboard_by_the_guide_alone(tmp_path: Path) -> None:
    """In at most five commands, none of them Python: what the page says, then what came of it."""
    commands = script(GUIDE)
    ours = [line for line in commands.splitlines() if line.startswith(("lm_eval ", "lm-eval-tts "))]
    assert 4 <= len(ours) <= 5 and "python" not in commands
    run(GUIDE, tmp_path)
    (path,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(path.read_text("utf-8"))["results"]
    assert {"acc,answer", "maj@8,answer", "graded,answer"} <= set(results["tts_fractions_maj8"])
    assert "tts_fractions" in (tmp_path / "site" / "index.html").read_text("utf-8")


def test_every_metric_that_a_run_has_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "metrics.md").read_text("utf-8")
    runs = [json.loads(path.read_text("utf-8")) for path in (ROOT / "leaderboard" / "results").rglob("run.json")]
    names = {re.sub(r"@\d+", "@k", name) for run in runs for task in run["tasks"].values() for name in task["metrics"]}
    assert len(names) > 5 and [name for name in names if f"`{name}`" not in text] == []


def test_the_reference_is_written_by_its_command(tmp_path: Path) -> None:
    tables = ("docs/reference/metrics.md", "docs/explanation.md")  # among handwritten text
    names = [*schemas(), *(f"docs/reference/{name}" for name in pages()), *tables]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / name).read_text("utf-8")
        outdated = re.sub(r"^\| (`(drop_layers|acc)`|shots).*\n", "", text, flags=re.MULTILINE)
        handwritten = name in tables
        assert not handwritten or outdated != text
        (tmp_path / name).write_text(outdated if handwritten else "outdated", "utf-8")
    write(tmp_path / "docs" / "reference")
    for name in names:
        assert (tmp_path / name).read_text("utf-8") == (ROOT / name).read_text("utf-8"), name


def test_links_lead_to_files_that_the_site_has() -> None:
    broken = []
    for page in PAGES:
        within = DOCS if page.is_relative_to(DOCS) else ROOT
        for link in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            target = (page.parent / link).resolve()
            if not target.exists() or not target.is_relative_to(within):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


@pytest.mark.documentation
def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip("needs the extra `docs` (make docs)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "howto" / "add-a-benchmark" / "index.html").is_file()


@pytest.mark.documentation
def test_the_figures_show_what_is_computed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.figures", "--to", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    made = {path.name: path for path in tmp_path.glob("*.csv")}
    assert set(made) == {path.name for path in IMAGES.glob("statistics-*.csv")} and len(made) >= 3
    for name, path in made.items():
        pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(IMAGES / name), rtol=1e-4)
        assert path.with_suffix(".svg").stat().st_size > 10_000


def test_arrows_of_the_architecture_are_imports() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    arrows = re.findall(r"^  (\S+\.py) -->\|.*\| (\S+\.py)$", text, re.MULTILINE)
    assert 10 < len(arrows) <= 15, "one picture that can be kept in mind"
    for importer, imported in arrows:
        source = (ROOT / "lm_eval_ext" / importer).read_text("utf-8")
        name = imported.removesuffix(".py").replace("/", ".")
        package, _, module = name.rpartition(".")
        written = (f"lm_eval_ext.{name} import", f"from lm_eval_ext.{package} import {module}", f", {module}")
        assert any(one in source for one in written), f"{importer} does not import {imported}"


def test_each_file_and_each_public_class_of_the_package_has_a_name_of_its_own() -> None:
    files = [path for path in (ROOT / "lm_eval_ext").rglob("*.py") if not path.stem.startswith("__")]
    classes = [name for path in files for name in re.findall(r"^class ([A-Z]\w*)", path.read_text("utf-8"), re.M)]
    for names in ([path.name for path in files], classes):
        assert [name for name, count in Counter(names).items() if count > 1] == []


def test_every_module_is_on_the_page_of_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    package = ROOT / "lm_eval_ext"
    names = [
        path.name + "/" * (path.is_dir() and not path.is_symlink())
        for path in package.iterdir()
        if path.name[0] not in "_."
    ]
    for name in names:
        known = name in ("py.typed", "lm_eval_tts_autoload.pth", "thinking_formats.yaml") or f"`{name}`" in text
        assert known, f"docs/architecture.md says nothing of {name}"
