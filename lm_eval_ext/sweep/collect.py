"""Collects what a study has finished: published runs, and a site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.addition import add
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import read_source
from lm_eval_ext.runs.study_file import StudyFile, StudyRun, write_study
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
    catalogue = read_catalogue()
    published: dict[str, str] = {}
    failed = 0
    for run in runs:
        found, folder = study.found(run), study.folder_of(run)
        if found.state != "done" or folder is None:
            continue
        try:
            source = read_source(folder / str(found.said.get("results")), catalogue)
            published[run.name] = add(source, to, tell).run.id
        except ResultsError as error:
            tell(error)
            failed += 1
    if published:
        write_study(_grid(study, published), to)
    return len(published), failed


def _grid(study: Study, published: Mapping[str, str]) -> StudyFile:
    """All runs of the study, with the ids of those that are published."""
    runs = tuple(
        StudyRun(
            model=run.model, pruning=run.pruning, seed=run.seed, tasks=run.tasks, state=study.found(run).state,
            run=published.get(run.name),
        )
        for run in study.runs
    )  # fmt: skip
    return StudyFile(name=study.path.stem, runs=runs)
