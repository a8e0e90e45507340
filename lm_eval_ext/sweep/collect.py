"""Collects what a study has finished: published runs, and a site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ManifestError, ResultsError
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import read_source
from lm_eval_ext.runs.run import Run
from lm_eval_ext.runs.study_file import StudyFile, StudyRun, path_of_study, read_study, write_study
from lm_eval_ext.runs.tiers import add
from lm_eval_ext.sweep.one import Progress, progress
from lm_eval_ext.sweep.plan import Item, PlannedRun, stages
from lm_eval_ext.sweep.slurm import RUNS, WAITS
from lm_eval_ext.sweep.sources import LOG, Found, State, Study

if TYPE_CHECKING:
    from rich.table import Table


def collect(study: Study, runs: Sequence[PlannedRun], to: Path, tell: Callable[[object], None]) -> tuple[int, int]:
    """Publish the results of every finished run; returns how many were, and how many could not be.

    Args:
        study: the study.
        runs: of the study.
        to: folder of published runs.
        tell: called with each finding, and each run's folder and tier.
    """
    before = _collected_before(study, to)
    published: dict[str, Run] = {}
    failed = 0
    for run in (one for one in runs if study.found(one).state == "done"):
        try:
            published[run.name] = add(read_source(study.results_of(run), read_catalogue()), to, tell).run
        except ResultsError as error:
            tell(error)
            failed += 1
    if published:
        planned = tuple(_planned(study, run, published.get(run.name), before) for run in study.runs)
        write_study(StudyFile(name=study.name, runs=planned), to)
    return len(published), failed


Key = tuple[str, str, int | None]


def _collected_before(study: Study, to: Path) -> dict[Key, StudyRun]:
    """What was collected of this study before.

    Raises:
        ManifestError: another study of this name was collected there.
    """
    path = path_of_study(study.name, to)
    found = {_key(run): run for run in read_study(path).runs} if path.is_file() else {}
    if found and not any(_key(run) in found for run in study.runs):
        raise ManifestError(f"{path}: is of another study of this name; rename this manifest, or collect it elsewhere")
    return found


def _key(run: StudyRun | PlannedRun) -> Key:
    return run.model, run.pruning, run.seed


def _planned(study: Study, run: PlannedRun, published: Run | None, before: Mapping[Key, StudyRun]) -> StudyRun:
    """A run as its study's page shows it: with the tasks that it has, or those that it will have."""
    old, state, identity = before.get(_key(run)), study.found(run).state, study.identity_of(run)
    if published is None and old is not None and old.run is not None and identity and old.identity == identity:
        return old  # it was published, but not this time; another run of this name would be another number
    expected = tuple(name for task in run.tasks for name in study.tasks.members(task) or [task])
    return StudyRun(
        model=run.model, pruning=run.pruning, seed=run.seed, tasks=tuple(published.tasks) if published else expected,
        state=state, run=published.id if published else None, identity=identity,
    )  # fmt: skip


Queue = Mapping[str, str]  # what a cluster's queue says, by ticket, such as `PENDING`
_STATES: Sequence[State] = ("done", "running", "waiting", "failed")


def as_table(study: Study, runs: Sequence[PlannedRun], queue: Queue) -> Table:
    """One line for each run, and for each choice of layers that isn't made yet."""
    from rich.table import Table

    found = {run.name: found_with(study, run, queue) for run in runs}
    choices = {one.name: state for one in stages(runs) if (state := found_with(study, one, queue)).state != "done"}
    counts = Counter(one.state for one in found.values())
    title = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    table = Table("run", "state", title=title, title_justify="left")
    for name in ("requests", "tokens/s", "left"):
        table.add_column(name, justify="right")
    table.add_column("why, or how long")
    for stage in stages(runs):
        if stage.name in choices:
            _add(table, f"{stage.name} (choice of layers)", choices[stage.name], Progress())
    for run in runs:
        _add(table, run.name, found[run.name], _progress(study, run, found[run.name]))
    return table


def is_over(study: Study, runs: Sequence[PlannedRun], queue: Queue) -> bool:
    """Whether nothing runs or is queued, so that nothing will change by itself."""
    items: list[Item] = [*stages(runs), *runs]
    return not any(
        found_with(study, one, queue).state == "running" or queue.get(study.ticket(one)) in WAITS for one in items
    )


def _add(table: Table, name: str, found: Found, how_far: Progress) -> None:
    from rich.markup import escape

    said = f"{found.said.get('seconds', '?')} s" if found.state == "done" else str(found.said.get("why", ""))
    table.add_row(name, found.state, *how_far, escape(said))


def _progress(study: Study, run: PlannedRun, found: Found) -> Progress:
    folder = study.folder_of(run)
    return progress(folder / LOG) if found.state == "running" and folder is not None else Progress()


def found_with(study: Study, item: Item, queue: Queue) -> Found:
    """What is known here, with the word of a queue on what other machines do, which is newer than an old failure."""
    found = study.found(item)
    said = queue.get(study.ticket(item), "")
    if not said or found.state in ("done", "running"):
        return found
    if said in RUNS:
        return Found("running", {})
    if said in WAITS:
        return Found("waiting", {"why": f"Slurm says {said}"})
    return found if said == "COMPLETED" or found.state == "failed" else Found("failed", {"why": f"Slurm says {said}"})
