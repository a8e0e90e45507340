"""Collects what a study has finished: published runs, and a site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lm_eval_ext.errors import ManifestError, ResultsError
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import Source, read_source
from lm_eval_ext.runs.run import Run
from lm_eval_ext.runs.study_file import StudyFile, StudyRun, path_of_study, read_study, write_study
from lm_eval_ext.runs.verification import add
from lm_eval_ext.sweep.plan import PlannedRun
from lm_eval_ext.sweep.study import Study


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
            published[run.name] = add(_source(study, run), to, tell).run
        except ResultsError as error:
            tell(error)
            failed += 1
    if published:
        planned = tuple(_planned(study, run, published.get(run.name), before) for run in study.runs)
        write_study(StudyFile(name=study.name, runs=planned), to)
    return len(published), failed


def _source(study: Study, run: PlannedRun) -> Source:
    folder = study.folder_of(run)
    assert folder is not None
    return read_source(folder / str(study.found(run).said["results"]), read_catalogue())


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
