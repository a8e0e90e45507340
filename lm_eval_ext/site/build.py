"""Builds the site: static pages that need no server or network, and no JavaScript for numbers and charts.

What did not change since the last build is linked from there, not written again.
"""

from __future__ import annotations

import gc
import json
import re
import tempfile
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lm_eval_ext.analysis.board import Board
from lm_eval_ext.analysis.kept import kept_of
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.runs.load import SITE_MARK, Source
from lm_eval_ext.runs.study_file import StudyFile
from lm_eval_ext.site.comparison_data import scores_script, write_models
from lm_eval_ext.site.data import write_data
from lm_eval_ext.site.names import Names
from lm_eval_ext.site.pages import common, write_pages
from lm_eval_ext.site.preview import write_preview
from lm_eval_ext.site.rendering import NAVIGATION, STUDIES, Renderer
from lm_eval_ext.site.run_files import Earlier, link, write_run
from lm_eval_ext.site.run_page import FromSamples
from lm_eval_ext.site.studies import grid

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
            with _without_collector():
                _write(sources, fresh, board, Earlier.read(place), studies)
        except OSError as error:
            if error.errno and error.filename is None:  # a full disk does not say which folder is on it
                error.filename = str(out)
            raise
        if place.exists():
            place.rename(old)
        fresh.rename(place)
    return out / "index.html"


@contextmanager
def _without_collector() -> Iterator[None]:
    """Turn off the search for cycles of garbage: thousands of runs are kept anyway, and it looks at all of them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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
    more = {"navigation": (*NAVIGATION, STUDIES)} if studies else {}
    renderer = Renderer(out, board, names, **common(board), **more)
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
