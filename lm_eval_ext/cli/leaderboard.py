"""`lm-eval-tts leaderboard`: publishes results as runs, and builds a site from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.api import build_site
from lm_eval_ext.errors import ArgumentError, ResultsError
from lm_eval_ext.runs.catalogue import Catalogue, read_catalogue
from lm_eval_ext.runs.load import Source, files, read_source
from lm_eval_ext.runs.publish import Golds, RunFinding, findings, stray_files
from lm_eval_ext.runs.regrading import TaskRegrading
from lm_eval_ext.runs.run import TIERS, Run
from lm_eval_ext.runs.samples import RUN_FILE
from lm_eval_ext.runs.study_file import FOLDER as STUDIES
from lm_eval_ext.runs.study_file import read_study
from lm_eval_ext.runs.tiers import add as publish_run
from lm_eval_ext.wording import markdown_table

leaderboard = typer.Typer(help="Publish results and build a static leaderboard site.", no_args_is_help=True)
Results = Annotated[list[Path], typer.Argument(help="Output folders of lm_eval, or folders of published runs.")]
SiteYaml = Annotated[Path | None, typer.Option("--site", help="A site.yaml to use instead of the default one.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output folder for the site.")]
PUBLISHED = Path("leaderboard/results")


@leaderboard.command()
def build(results: Results, out: Out = Path("site"), site: SiteYaml = None) -> None:
    """Build the site from results."""
    print(build_site(results, out, site=site))


@leaderboard.command()
def new(
    folder: Annotated[Path, typer.Argument(help="New folder for the repository.")],
    title: Annotated[str, typer.Option(help="Title of the leaderboard.")] = "Can a smaller model still think?",
) -> None:
    """Write the beginning of a leaderboard repository: settings, a folder for runs, workflows."""
    from lm_eval_ext.site.skeleton import write_skeleton

    for path in write_skeleton(folder, title):
        print(path)


@leaderboard.command()
def add(
    output: Annotated[Path, typer.Argument(help="Output folder of lm_eval, or a results file.")],
    to: Annotated[Path, typer.Option(help="Folder of published runs.")] = PUBLISHED,
    base: Annotated[str | None, typer.Option(help="Hub name of the base model, if loaded from a folder.")] = None,
    site: SiteYaml = None,
) -> None:
    """Publish runs: paths, secrets and gated texts are removed, and scores are recomputed from the samples.

    Exits with 1 if a file could not be published; the others are still published.
    """
    if base is not None and not re.fullmatch(r"(?:\w[\w.-]*/)?\w[\w.-]*", base, re.ASCII):
        raise ArgumentError(f"--base {base}: expected a name on the Hub, such as ORG/NAME")
    catalogue, failed = read_catalogue(site), False
    for path in files(output, logs=True):
        try:
            if path.name == RUN_FILE:
                raise ResultsError(f"{path}: is already published; expected an lm-eval results_*.json")
            publish_run(read_source(path, catalogue, base, logs=True), to, print)
        except ResultsError as error:
            failed = True
            print(error)
    if failed:
        raise typer.Exit(1)


@leaderboard.command()
def check(
    results: Annotated[list[Path], typer.Argument(help="Folders of published runs.")],
    against: Annotated[Path | None, typer.Option(help="Runs published before, whose scores must not change.")] = None,
    regrade: Annotated[bool, typer.Option("--regrade", help="Regrade every answer.")] = False,
    table: Annotated[Path | None, typer.Option(help="Write a Markdown table of the runs to this file.")] = None,
    site: SiteYaml = None,
) -> None:
    """Check published runs: schema, samples, duplicates, dense baselines, changed scores. Prints one line per finding.

    Exits with 1 if there are errors; warnings alone exit with 0.
    """
    catalogue = read_catalogue(site)
    sources, found = _read(results, catalogue)
    before = _published_before(against, catalogue)
    found += findings(sources, before or (), _regraded)
    found += _unsound_studies(results)
    found += stray_files([path for path in results if path.is_dir()], sources)
    golds = Golds()
    for source in sources:
        found += _unfounded(source, before, regrade, golds)
    for finding in found:
        print(finding)
    if table:
        table.write_text(_markdown([source.run for source in sources], found), encoding="utf-8")
    faults = sum(not finding.warning for finding in found)
    print(f"{len(sources)} runs; errors: {faults}, warnings: {len(found) - faults}")
    if faults:
        raise typer.Exit(1)


def _unsound_studies(results: Sequence[Path]) -> Iterator[RunFinding]:
    for path in (one for folder in results for one in sorted((folder / STUDIES).glob("*.json"))):
        try:
            read_study(path)
        except ResultsError as error:
            yield RunFinding(path, str(error).removeprefix(f"{path}: "))


def _regraded(source: Source) -> Run:
    from lm_eval_ext.authoring.task_registry import declared_task
    from lm_eval_ext.runs.regrading import regraded

    return regraded(source, declared_task)[0]


def _read(paths: Sequence[Path], catalogue: Catalogue) -> tuple[list[Source], list[RunFinding]]:
    """The published runs that can be read, and findings for the others."""
    sources: list[Source] = []
    found: list[RunFinding] = []
    for path in (file for given in paths for file in files(given)):
        try:
            if path.name != RUN_FILE:
                raise ResultsError(f"{path}: is not a published run; expected a {RUN_FILE} from `leaderboard add`")
            sources.append(read_source(path, catalogue))
        except ResultsError as error:
            found.append(RunFinding(path, str(error).removeprefix(f"{path}: ")))
    return sources, found


def _published_before(against: Path | None, catalogue: Catalogue) -> list[Source] | None:
    empty = against is not None and against.is_dir() and not any(against.rglob(RUN_FILE))
    return None if against is None else [] if empty else _read([against], catalogue)[0]


def _unfounded(source: Source, before: Sequence[Source] | None, regrade: bool, golds: Golds) -> Iterator[RunFinding]:
    """Scores that do not follow from the samples, and a tier neither verified nor set by maintainers."""
    from lm_eval_ext.authoring.task_registry import declared_task
    from lm_eval_ext.runs.tiers import (
        by_another_chance,
        by_other_rules,
        graded_by_another_version,
        highest_tier,
        recomputed,
    )

    faults = [
        *recomputed(source, golds, regrade=regrade),
        *by_other_rules(source, declared_task),
        *by_another_chance(source, declared_task),
    ]
    yield from faults
    known = before is None or any(one.run.id == source.run.id for one in before)
    outdated = list(graded_by_another_version(source, published_before=known))
    yield from outdated
    if before is None and (outdated or source.run.tier == "reproduced"):
        return
    given = [one.run.tier for one in before or () if one.run.id == source.run.id]
    allowed = max([highest_tier(source, faults), *given], key=TIERS.index)
    if TIERS.index(source.run.tier) > TIERS.index(allowed):
        yield RunFinding(source.path, f"tier={source.run.tier}; allowed: {allowed}, or as set by maintainers on main")


def _markdown(runs: Sequence[Run], found: Sequence[RunFinding]) -> str:
    rows = []
    for run in runs:
        for name, task in run.tasks.items():
            error = f" ± {100 * task.accuracy.stderr:.1f}" if task.accuracy.stderr else ""
            score = f"{100 * task.accuracy.value:.1f}{error}"
            cells = [run.base, run.label, name, score, str(task.questions), run.tier]
            rows.append([*map(_plain, cells)])
    table = markdown_table(("base", "model", "task", "accuracy", "questions", "tier"), rows)
    return "\n".join([table, "", *(f"- {_plain(str(finding))}" for finding in found)]) + "\n"


def _plain(text: str) -> str:
    """Text as inline code, so that nothing in it acts as markup, a link or a mention."""
    return "`{}`".format(text.replace("`", "'"))


@leaderboard.command()
def regrade(
    results: Results,
    write: Annotated[bool, typer.Option("--write", help="Write the new scores instead of only showing them.")] = False,
    site: SiteYaml = None,
) -> None:
    """Regrade saved texts with the current grader, without a model, and show old and new scores.

    Takes output folders of lm_eval and published runs. Exits with 1 if a file could not be regraded.
    """
    catalogue, failed, graded = read_catalogue(site), False, 0
    for path in (file for given in results for file in files(given)):
        try:
            outcomes = _regrade(path, catalogue, write)
        except ResultsError as error:
            failed = True
            print(error)
            continue
        graded += sum(outcome.after is not None for outcome in outcomes)
        for outcome in outcomes:
            print(f"{path}: {outcome}")
    done = "written" if write else "not written; add --write to write them"
    print(f"tasks regraded: {graded}{f', {done}' if graded else ''}")
    if failed:
        raise typer.Exit(1)


def _regrade(path: Path, catalogue: Catalogue, write: bool) -> Sequence[TaskRegrading]:
    from lm_eval_ext.authoring.task_registry import declared_task
    from lm_eval_ext.paths import finish_replacing
    from lm_eval_ext.runs.regrading import regrade_output, regrade_run

    if path.name == RUN_FILE:
        if write:
            finish_replacing(path)
        return regrade_run(read_source(path, catalogue), declared_task, write=write)
    return regrade_output(path, write=write)


@leaderboard.command()
def serve(
    results: Results,
    out: Out = Path("site"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 picks a free one.")] = 8000,
    site: SiteYaml = None,
) -> None:
    """Build the site, serve it locally, and rebuild it whenever results or templates change."""
    from lm_eval_ext.site.skeleton import serve as show

    show(lambda: build_site(results, out, site=site), [*results, *([site] if site else [])], out, port)
