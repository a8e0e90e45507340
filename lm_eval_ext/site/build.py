"""Builds the site: static pages that need no server or network, and no JavaScript for numbers and charts.

What did not change since the last build is linked from there, not written again.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from lm_eval_ext.analysis.board import Board, KeptByKind, headline, kept_of
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.plugins import own_version
from lm_eval_ext.runs.load import SITE_MARK, Source
from lm_eval_ext.runs.study_file import StudyFile
from lm_eval_ext.site.data import VERSION, scores_script, write_data, write_models
from lm_eval_ext.site.pages import grid, write_pages
from lm_eval_ext.site.rendering import NAVIGATION, STUDIES, Names, Renderer
from lm_eval_ext.site.run_page import Earlier, FromSamples, link, write_run

_NAMES = "|".join(path.removesuffix(".html") for path, _ in (*NAVIGATION, STUDIES))
_PAGE = re.compile(rf"({_NAMES})(-[a-z0-9-]+)?\.html")
_ENTRIES = {SITE_MARK, "assets", "data", "runs", "preview.png"}


def build(sources: Sequence[Source], out: Path, board: Board, studies: Sequence[StudyFile] = ()) -> Path:
    """Build the whole site in a temporary folder and move it into place when complete; returns its first page.

    Args:
        sources: the runs.
        out: folder of the site: new, empty, or a site to overwrite.
        board: the same runs, side by side.
        studies: that some of them are part of.

    Raises:
        ResultsError: the folder contains something else.
    """
    place = out.resolve()
    _may_be_written(place, sources)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as beside:
        fresh, old = Path(beside, "fresh"), Path(beside, "old")
        try:
            _write(sources, fresh, board, Earlier.read(place), studies)
        except OSError as error:
            if error.errno and error.filename is None:  # a full disk does not say which folder is on it
                error.filename = str(out)
            raise
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
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in names if name not in _ENTRIES and not _PAGE.fullmatch(name)]
    if foreign:
        raise ResultsError(f"{out}: contains {foreign[0]}, which is not part of a site and would be lost; move it")


def _write(sources: Sequence[Source], out: Path, board: Board, earlier: Earlier, studies: Sequence[StudyFile]) -> None:
    out.mkdir()
    names = Names.of(board.entries)
    kept = {entry.key: kept_of(board, entry) for entry in board.entries}
    # Nothing of this changes when a run is added, or all pages would.
    navigation = (*NAVIGATION, STUDIES) if studies else NAVIGATION
    renderer = Renderer(out, board, names, version=own_version(), data_version=VERSION, navigation=navigation)
    _write_assets(out)
    write_data(board, names, kept, out / "data")
    stamps, of_samples = {}, {}
    for source in _with_progress(sources):
        stamps[source.run.id], of_samples[source.run.id] = write_run(source, out, renderer, board, names, earlier)
    same = {key for key, stamp in stamps.items() if earlier.made_from(key, stamp)}
    _write_scores(board, of_samples, out / "data" / "scores", earlier.folder / "data" / "scores", same)
    write_models(board, names, out / "data" / "models.js")
    write_pages(renderer, board, names, kept, of_samples)
    if studies:
        runs = {run.id: run for run in board.runs}
        renderer.write("studies.html", STUDIES[0], studies=[grid(study, runs) for study in studies])
    write_preview(board, names, kept, out / "preview.png")
    mark = {"written by": "lm-eval-tts leaderboard build", "runs": stamps}
    (out / SITE_MARK).write_text(json.dumps(mark, indent=0) + "\n", encoding="utf-8")


def _write_assets(out: Path) -> None:
    (out / "assets").mkdir()
    for path in (LEADERBOARD / "assets").iterdir():
        if path.suffix != ".py":
            (out / "assets" / path.name).write_bytes(path.read_bytes())


def _write_scores(
    board: Board, of_samples: dict[str, FromSamples], folder: Path, before: Path, same: Container[str]
) -> None:
    """Write each model's results; linked from an earlier build if all of its runs are the `same` as there."""
    folder.mkdir()
    for entry in board.entries:
        name = f"{entry.key}.js"
        if all(run.id in same for run in entry.runs) and link(before, folder, [name]):
            continue
        found = {one.benchmark: one for run in entry.runs for one in of_samples[run.id].found}
        ids = {run.id: of_samples[run.id].ids for run in entry.runs}
        (folder / name).write_text(scores_script(board, entry, found.values(), ids), encoding="utf-8")


def _with_progress(sources: Sequence[Source]) -> Iterable[Source]:
    from tqdm import tqdm

    shown: Iterable[Source] = tqdm(sources, desc="Runs", disable=len(sources) < 20)
    return shown


WIDTH, HEIGHT = 1200, 630
_ROWS = 8
_LEFT, _RIGHT, _TOP, _STEP = 430, 1120, 250, 42
_INK, _QUIET, _LINE, _KNOW, _LONG, _BACK = "#16191d", "#59626c", "#e1e3de", "#1f6fb2", "#c2410c", "#fcfcfa"


def write_preview(board: Board, names: Names, kept: Mapping[str, KeptByKind], path: Path) -> None:
    """Write the picture as PNG."""
    import vl_convert

    path.write_bytes(vl_convert.svg_to_png(preview(board, names, kept)))


def preview(board: Board, names: Names, kept: Mapping[str, KeptByKind]) -> str:
    """The picture as SVG."""
    smaller = [kept[entry.key] for entry in board.entries if entry.smaller]
    known = sorted((one for one in smaller if one.long), key=lambda one: one.standing, reverse=True)
    rows = known if len(known) <= _ROWS else [*known[: _ROWS // 2], *known[-_ROWS // 2 :]]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Liberation Sans, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{_BACK}"/>',
        *_title(board.catalogue.title, smaller),
        *_scale(len(rows)),
        *(part for number, one in enumerate(rows) for part in _row(number, one, names)),
        "</svg>",
    ]
    return "".join(parts)


def _title(title: str, smaller: Sequence[KeptByKind]) -> Iterator[str]:
    found = headline(smaller)
    lines = [title]
    if found:
        lines = [
            f"The median smaller model keeps {100 * found.easy:.0f}% of its base's",
            f"{found.kinds}, and {100 * found.long:.0f}% of its long reasoning.",
        ]
        yield _text(60, 70, title, 24, _QUIET)
    for number, line in enumerate(lines):
        yield _text(60, 125 + 48 * number, line, 38, _INK)


def _scale(rows: int) -> Iterator[str]:
    for share in (0, 0.25, 0.5, 0.75, 1) if rows else ():
        x = _x(share)
        colour = _QUIET if share == 1 else _LINE
        yield f'<line x1="{x}" x2="{x}" y1="{_TOP - 20}" y2="{_TOP + _STEP * rows - 20}" stroke="{colour}"/>'
        yield _text(x, _TOP - 30, f"{100 * share:.0f}%", 18, _QUIET, "middle")


def _x(share: float) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * min(share, 1.05), 1)


def _row(number: int, kept: KeptByKind, names: Names) -> Iterator[str]:
    y = _TOP + _STEP * number
    name = names.full(kept.entry)
    yield _text(60, y + 7, name if len(name) <= 34 else f"{name[:33]}…", 20, _INK)
    if kept.long is None:
        return
    long, easy = kept.long.interval, kept.easy
    if easy:
        yield _stroke(long.estimate, easy.estimate, y, 3, 0.55)
    yield _stroke(long.low, long.high, y, 16, 0.24)
    if easy:
        yield f'<circle cx="{_x(easy.estimate)}" cy="{y}" r="8" fill="{_BACK}" stroke="{_KNOW}" stroke-width="4"/>'
    yield f'<circle cx="{_x(long.estimate)}" cy="{y}" r="9" fill="{_LONG}"/>'


def _stroke(first: float, last: float, y: float, width: int, opacity: float) -> str:
    return (
        f'<line x1="{_x(first)}" x2="{_x(last)}" y1="{y}" y2="{y}" stroke="{_LONG}" stroke-width="{width}" '
        f'stroke-opacity="{opacity}" stroke-linecap="round"/>'
    )


def _text(x: float, y: float, text: str, size: int, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
