"""Collects what a study has finished: published runs, and a site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.addition import add
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import read_source
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
    added = failed = 0
    for run in runs:
        found, folder = study.found(run), study.folder_of(run)
        if found.state != "done" or folder is None:
            continue
        try:
            add(read_source(folder / str(found.said.get("results")), catalogue), to, tell)
            added += 1
        except ResultsError as error:
            tell(error)
            failed += 1
    return added, failed
