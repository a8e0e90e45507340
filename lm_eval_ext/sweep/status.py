"""Where the stages and runs of a study stand, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.sweep.one import Progress, progress, ticket
from lm_eval_ext.sweep.plan import PlannedRun, Stage, stages
from lm_eval_ext.sweep.slurm import RUNS, WAITS
from lm_eval_ext.sweep.study import LOG, Found, State, Study

if TYPE_CHECKING:
    from rich.table import Table

Queue = Mapping[str, str]  # what a cluster's queue says, by ticket, such as `PENDING`
_STATES: Sequence[State] = ("done", "running", "waiting", "failed")


def as_table(study: Study, runs: Sequence[PlannedRun], queue: Queue) -> Table:
    """One line for each run, and for each choice of layers that isn't made yet."""
    from rich.table import Table

    found = {run.name: _found(study, run, queue) for run in runs}
    choices = {one.name: state for one in stages(runs) if (state := _found(study, one, queue)).state != "done"}
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
    items: list[Stage | PlannedRun] = [*stages(runs), *runs]
    return not any(
        _found(study, one, queue).state == "running" or queue.get(ticket(one, study)) in WAITS for one in items
    )


def _add(table: Table, name: str, found: Found, how_far: Progress) -> None:
    from rich.markup import escape

    said = f"{found.said.get('seconds', '?')} s" if found.state == "done" else str(found.said.get("why", ""))
    table.add_row(name, found.state, *how_far, escape(said))


def _progress(study: Study, run: PlannedRun, found: Found) -> Progress:
    folder = study.folder_of(run)
    return progress(folder / LOG) if found.state == "running" and folder is not None else Progress()


def _found(study: Study, item: Stage | PlannedRun, queue: Queue) -> Found:
    """What is known here, with the word of a queue on what other machines do, which is newer than an old failure."""
    found = study.stage_found(item) if isinstance(item, Stage) else study.found(item)
    said = queue.get(ticket(item, study), "")
    if not said or found.state in ("done", "running"):
        return found
    if said in RUNS:
        return Found("running", {})
    if said in WAITS:
        return Found("waiting", {"why": f"Slurm says {said}"})
    return found if said == "COMPLETED" or found.state == "failed" else Found("failed", {"why": f"Slurm says {said}"})
