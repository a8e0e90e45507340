"""`lm-eval-tts published`: what others report of smaller models, which is never mixed with what was measured here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.wording import text_table

if TYPE_CHECKING:
    from lm_eval_ext.analysis.as_published import Effect, Group, Median
    from lm_eval_ext.runs.catalogue import Kind
    from lm_eval_ext.runs.literature import Literature
    from lm_eval_ext.statistics.intervals import Interval

FOLDER = Path("leaderboard/published")


def published(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Part of a base, model or source, to list its scores.")
    ] = "",
    folder: Annotated[Path | None, typer.Option(help="Folder of sources, in place of the installed one.")] = None,
    to: Annotated[Path | None, typer.Option("--csv", help="Also write every score to this file.")] = None,
) -> None:
    """Show how much knowledge and how much long reasoning smaller models keep, by what others have published.

    Reads every source, so that it also checks them: a file that is not right is one line, and exit code 1.
    """
    from lm_eval_ext.runs.literature import FOLDER as INSTALLED
    from lm_eval_ext.runs.literature import read_literature
    from lm_eval_ext.site.published_page import published_csv

    literature = read_literature(folder or INSTALLED)
    print("\n".join(_scores(literature, name) if name else _summary(literature)))
    if to:
        to.write_text(published_csv(literature), encoding="utf-8")
        print(f"{len(literature.rows):,} scores: {to}")


def check() -> None:
    """Check the sources of a checkout; prints how many there are."""
    from lm_eval_ext.runs.literature import read_literature

    if FOLDER.is_dir():
        found = read_literature(FOLDER)
        print(f"{len(found.rows):,} published scores of {len(found.sources)} sources: no errors")
    else:
        print(f"no published scores: folder {FOLDER} does not exist")


def _summary(literature: Literature) -> Iterator[str]:
    from lm_eval_ext.analysis.as_published import by_bits, by_share_removed, by_what_was_done, effects, models

    every = models(literature)
    yield f"As published: {len(literature.rows):,} scores of {len(literature.sources)} sources, none measured here."
    yield "Kept of the base's score above chance: median over sources of their medians, and the range over sources."
    yield ""
    yield _kept("models that have both", by_what_was_done(every))
    yield ""
    yield _kept("quantized, by bits", by_bits(every))
    for title, groups in by_share_removed(every):
        yield ""
        yield _kept(f"{title}, by share", groups)
    yield ""
    header = ("long reasoning less knowledge", "points", "95%", "models", "without the largest")
    yield text_table(header, [row for one in effects(every) for row in _effects(one, literature)])


def _effects(one: Effect, literature: Literature) -> Iterator[Sequence[str]]:
    """Over all sources if they are enough, else of each."""
    if one.overall:
        rest = f"{100 * one.without_largest.interval.estimate:+.1f}" if one.without_largest else ""
        models = sum(source.models for source in one.sources)
        yield f"{one.title}, {len(one.sources)} sources", *_points(one.overall.interval), str(models), rest
    else:
        for source in one.sources:
            title = f"{one.title}, {literature.sources[source.key].source}"
            yield title, *_points(source.interval), str(source.models), ""


def _points(effect: Interval) -> tuple[str, str]:
    return f"{100 * effect.estimate:+.1f}", f"{100 * effect.low:+.0f} to {100 * effect.high:+.0f}"


def _kept(title: str, groups: Sequence[Group]) -> str:
    from lm_eval_ext.analysis.board import KNOWLEDGE, LONG, SHORT

    kinds: Mapping[Kind, str] = {KNOWLEDGE: "knowledge", SHORT: "short reasoning", LONG: "long reasoning"}
    rows = [(one.title, *(_told(one.kept.get(kind)) for kind in kinds)) for one in groups]
    return text_table((title, *kinds.values()), rows)


def _told(kept: Median | None) -> str:
    if kept is None:
        return "-"
    reach = f" ({100 * kept.low:.0f}-{100 * kept.high:.0f})" if kept.sources > 1 else ""
    return f"{100 * kept.share:.0f}%{reach} of {kept.models}"


def _scores(literature: Literature, name: str) -> Iterator[str]:
    """Every score of what has a name in it."""
    from lm_eval_ext.analysis.as_published import kept_on

    wanted = name.lower()
    found = [
        row
        for row in literature.rows
        if any(wanted in one.lower() for one in (row.base, row.model.name, row.source.source, row.key))
    ]
    if not found:
        raise ResultsError(f"{name}: no published base, model or source has this in its name; see `published --csv`")
    rows = []
    for row in found:
        kept = kept_on(row)
        reach = f" ({100 * kept.interval.low:.0f}-{100 * kept.interval.high:.0f})" if kept and kept.interval else ""
        told = f"{100 * kept.share:.0f}%{reach}" if kept else "base at chance"
        doubt = "in doubt" if row.table.doubt else ""
        where = f"{row.source.source}, {row.table.where}"
        rows.append((row.model.name, row.benchmark, str(row.base_score), str(row.score), told, doubt, where))
    yield text_table(("model", "benchmark", "base", "smaller", "kept, 95%", "", "where"), rows)
