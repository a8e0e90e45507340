"""Writes the site: static pages that need no server or network, and no JavaScript for numbers and charts."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from pathlib import Path

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.runs.collection import accuracy_interval
from lm_eval_ext.runs.load import SITE_MARK, Source
from lm_eval_ext.runs.run import Run, TaskResult
from lm_eval_ext.site import charts, curves, pages
from lm_eval_ext.site.overview import overview
from lm_eval_ext.site.shards import write_shards
from lm_eval_ext.statistics.intervals import Interval
from lm_eval_ext.thinking_formats import text_marks

_PAGES = ("index", "budgets", "votes", "depth", "compare", "about")
_NO_MARKS = "const THINKING_MARKS = []"  # placeholder in `site.js` for the markers of `thinking_formats.yaml`
_ENTRIES = {SITE_MARK, "assets", "data", "runs", *(f"{name}.html" for name in _PAGES)}


def build(sources: Sequence[Source], out: Path, board: Board) -> Path:
    """Build the whole site in a temporary folder and move it into place when complete; returns its first page.

    Args:
        sources: the runs.
        out: folder of the site: new, empty, or a site to overwrite.
        board: the same runs, side by side.

    Raises:
        ResultsError: the folder contains something else.
    """
    place = out.resolve()
    _may_be_written(place, sources)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as beside:
        fresh, old = Path(beside, "fresh"), Path(beside, "old")
        _write(sources, fresh, board)
        if place.exists():
            place.rename(old)
        fresh.rename(place)
    return out / "index.html"


def _may_be_written(out: Path, sources: Sequence[Source]) -> None:
    if out.is_file():
        raise ResultsError(f"{out}: is a file; expected a new or empty folder, or a site")
    if out.is_dir() and any(out.iterdir()) and not (out / SITE_MARK).is_file():
        raise ResultsError(f"{out}: is not a site and not empty; expected a new or empty folder, or a site")
    if inside := next((one.path for one in sources if out in one.path.resolve().parents), None):
        raise ResultsError(f"{out}: contains {inside}, which the site is built from; use a folder outside of it")
    foreign = sorted(path.name for path in out.iterdir() if path.name not in _ENTRIES) if out.is_dir() else []
    if foreign:
        raise ResultsError(f"{out}: contains {foreign[0]}, which is not part of a site and would be lost; move it")


def _write(sources: Sequence[Source], out: Path, board: Board) -> None:
    out.mkdir()
    (out / SITE_MARK).write_text("Written by `lm-eval-tts leaderboard build`.\n", encoding="utf-8")
    render = _renderer(out, board)
    _write_assets(out)
    render("index.html", "index.html", **overview(board))
    lines = {"budgets": curves.budget_curves, "votes": curves.vote_curves, "depth": curves.depth_curves}
    for name, found in lines.items():
        render(f"{name}.html", f"{name}.html", sections=[_section(board, base, found, name) for base in board.bases])
    render("compare.html", "compare.html")
    render("about.html", "about.html", paper=_paper())
    _write_data(out, board)
    for source in _with_progress(sources):
        _write_run(source, out, render, board)


def _renderer(out: Path, board: Board) -> Callable[..., None]:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(LEADERBOARD / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "count": _count, "layers": _short, "span": _span}
    environment.globals |= {"board": board, "catalogue": board.catalogue, "title": board.title}

    def render(template: str, path: str, **values: object) -> None:
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        root = "../" * path.count("/")
        text = environment.get_template(template).render(root=root, page=path, **values)
        target.write_text(text, encoding="utf-8")

    return render


def _percent(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{100 * value:.{digits}f}"


def _count(value: float | None) -> str:
    """Format a number: `7.6B`, `1,234`, `12.5`."""
    if value is None:
        return ""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _short(layers: Iterable[int]) -> str:
    """Format layers: `3, 25-27`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _span(interval: Interval) -> str:
    """Format an interval: `42–48`, with a decimal if it is narrow."""
    digits = 0 if interval.high - interval.low > 0.05 else 1
    return f"{_percent(interval.low, digits)}–{_percent(interval.high, digits)}"


def _section(
    board: Board, base: str, lines: Callable[[Board, str], Iterable[curves.Curves]], page: str
) -> dict[str, object]:
    found = list(lines(board, base))
    colour = curves.shown_colours(found)
    axis, log = {"budgets": ("thinking tokens", True), "votes": ("samples", True)}.get(page, ("layers removed", False))
    drawn = [
        charts.lines(f"{board.title(one.benchmark)}, {base}", axis, _shown(one, colour), colour, log=log)
        for one in found
    ]
    heat = curves.dropped_layers(board, base) if page == "depth" else []
    return {
        "base": base,
        "curves": list(zip(found, drawn, strict=True)),
        "colours": colour,
        "more": len({point.series for one in found for point in one.points}) - len(colour),
        "heat": charts.heat_map(f"Layers dropped, {base}", heat, max(row["layer"] for row in heat) + 1)
        if heat
        else None,
    }


def _shown(lines: curves.Curves, colour: dict[str, str]) -> list[charts.Point]:
    return [point for point in lines.points if point.series in colour]


def _paper() -> list[tuple[charts.Chart, dict[str, str]]]:
    reference = json.loads((LEADERBOARD / "paper_reference.json").read_text("utf-8"))
    drawn = []
    for title, points in curves.paper_curves(reference).items():
        colour = charts.colours(dict.fromkeys(point.series for point in points))
        axis = title.split(", ")[-1]
        drawn.append((charts.lines(title, axis, points, colour, log=axis != "layers removed"), colour))
    return drawn


def _write_assets(out: Path) -> None:
    shutil.copytree(LEADERBOARD / "assets", out / "assets")
    (out / "assets" / "charts.js").write_text(charts.bundle(), encoding="utf-8")
    script = out / "assets" / "site.js"
    marks = json.dumps([marks._asdict() for marks in text_marks()])
    script.write_text(script.read_text("utf-8").replace(_NO_MARKS, _NO_MARKS[:-2] + marks), encoding="utf-8")


def _write_data(out: Path, board: Board) -> None:
    folder = out / "data"
    folder.mkdir()
    records = pages.flat(board)
    text = StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in record.items()} for record in records)
    (folder / "leaderboard.csv").write_text(text.getvalue(), encoding="utf-8")
    (folder / "leaderboard.json").write_text(json.dumps(records, indent=0, allow_nan=False) + "\n", encoding="utf-8")
    schema = json.dumps(Run.model_json_schema(), indent=1) + "\n"
    (folder / "run.schema.json").write_text(schema, encoding="utf-8")
    listed = [[run.id, f"{run.base}: {board.entry_of[run.id].label}, {run.date[:10]}"] for run in board.runs]
    (folder / "runs.js").write_text(f"lmtts.runs({json.dumps(listed)});\n", encoding="utf-8")


def _no_formula(value: object) -> object:
    """Escape text that a spreadsheet would interpret as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _write_run(source: Source, out: Path, render: Callable[..., None], board: Board) -> None:
    run = source.run
    folder = out / "runs" / run.id
    folder.mkdir(parents=True)
    scores = {name: _paired(task) for name, task in run.tasks.items() if task.scores}
    (folder / "scores.js").write_text(f"lmtts.scores({json.dumps([run.id, scores])});\n", encoding="utf-8")
    (folder / "run.json").write_text(run.model_dump_json(indent=1) + "\n", encoding="utf-8")
    shards = {
        name: write_shards(source.samples(name), folder / "samples", name, run.id) for name in sorted(run.samples)
    }
    render("run.html", f"runs/{run.id}/index.html", **pages.run_page(board, run), shards=shards)


def _paired(task: TaskResult) -> list[object]:
    """Data for comparing two results in the browser: a key of the questions, scores, accuracy with its interval.

    Scores with the same key can be compared question by question; it is empty if the questions are unknown.
    """
    questions = f"{task.question_set}, {task.shots} shots, grader {task.graded_by or 0}" if task.question_set else ""
    return [questions, list(task.scores), list(accuracy_interval(task))]


def _with_progress(sources: Sequence[Source]) -> Iterable[Source]:
    from tqdm import tqdm

    shown: Iterable[Source] = tqdm(sources, desc="Pages", disable=len(sources) < 20)
    return shown
