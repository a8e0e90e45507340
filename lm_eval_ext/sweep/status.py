"""Where the runs of a study stand, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.sweep.one import last_line
from lm_eval_ext.sweep.plan import PlannedRun, stages
from lm_eval_ext.sweep.study import LOG, Found, Study

if TYPE_CHECKING:
    from rich.table import Table


_QUEUED = ("PENDING", "REQUEUED", "CONFIGURING")


def as_table(study: Study, runs: Sequence[PlannedRun], queue: Mapping[str, str] | None = None) -> Table:
    """One line for each run, with what it says last if it is running or has failed.

    Args:
        study: the study.
        runs: of the study.
        queue: what a cluster's queue says of runs, by name, such as `PENDING`.
    """
    from rich.table import Table

    found = {run.name: _with_queue(study.found(run), (queue or {}).get(run.name, "")) for run in runs}
    counts = Counter(one.state for one in found.values())
    title = ", ".join(f"{counts[state]} {state}" for state in ("done", "running", "waiting", "failed") if counts[state])
    table = Table("run", "state", "", title=title, title_justify="left")
    for run in runs:
        table.add_row(run.name, found[run.name].state, _said(found[run.name], study.folder_of(run)))
    return table


def is_over(study: Study, runs: Sequence[PlannedRun], queue: Mapping[str, str]) -> bool:
    """Whether nothing runs or is queued, so that nothing will change by itself."""
    found = [_with_queue(study.found(run), queue.get(run.name, "")) for run in runs]
    choosing = any(study.stage_found(stage).state == "running" for stage in stages(runs))
    queued = any(queue.get(run.name) in _QUEUED for run in runs)
    return not (choosing or queued or any(one.state == "running" for one in found))


def _with_queue(found: Found, queued: str) -> Found:
    """What is known of a run, with the word of a queue on what other machines do."""
    if found.state in ("done", "failed", "running") or not queued:
        return found
    if queued == "RUNNING":
        return Found("running", {})
    if queued in (*_QUEUED, "COMPLETED"):
        return found
    return Found("failed", {"why": f"Slurm says {queued}"})


def _said(found: Found, folder: Path | None) -> str:
    if found.state == "done":
        return f"{found.said.get('seconds', '?')} s"
    if found.state == "failed":
        return str(found.said.get("why", ""))
    if found.state == "running" and folder is not None and (folder / LOG).is_file():
        return last_line(folder / LOG)
    return ""
