"""Runs a gate: the base as far as it is needed, then every candidate until its verdict stands."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lm_eval_ext.errors import TTSError
from lm_eval_ext.gating.gate_report import GateReport
from lm_eval_ext.gating.gate_study import GateStudy
from lm_eval_ext.gating.verdicts import report
from lm_eval_ext.redaction import line
from lm_eval_ext.sweep.collect import found_with, is_over
from lm_eval_ext.sweep.launchers import LaunchKind, Tell, launch
from lm_eval_ext.sweep.plan import PlannedRun
from lm_eval_ext.sweep.slurm import states

_PAUSE = 5.0  # seconds between two looks at what a cluster runs


def run_gate(study: GateStudy, kind: LaunchKind, jobs: int | None, tell: Tell) -> GateReport:
    """Run what is needed for every verdict; started again, it goes on where it was.

    Each model is loaded once while the base has answered enough. Where a candidate needs more of the base, the base is
    loaded again, then those that are undecided.

    Args:
        study: the gate.
        kind: where models are evaluated.
        jobs: most at once, on this machine.
        tell: called with each line about what starts and ends.

    Raises:
        TTSError: the base can't be evaluated, or is far from its published score.
    """
    study.begin()
    study.check_results()
    while True:
        if study.base_run is not None:
            failed = _launch(study, [study.base_run], kind, jobs, tell)
            if failed:
                raise TTSError(f"the base could not be evaluated: {next(iter(failed.values()))}")
        study.check_published()
        failures = _launch(study, study.candidate_runs, kind, jobs, tell)
        undecided = [study.standing(run.name) for run in study.candidate_runs if run.name not in failures]
        needs = {task for found in undecided for task in found.needs}
        if not needs or not study.extend_base(sorted(needs)):
            return report(study, failures)
        tell(f"base: answers more of {', '.join(sorted(needs))}, for candidates that are undecided")


def _launch(
    study: GateStudy, runs: Sequence[PlannedRun], kind: LaunchKind, jobs: int | None, tell: Tell
) -> dict[str, str]:
    """Evaluate some models and wait until they are done; returns why those failed that did."""
    runs = [run for run in runs if study.found(run).state != "done"]
    if not runs:
        return {}
    launch(study, runs, kind, jobs, tell)
    while kind is LaunchKind.slurm and not is_over(study, runs, states(study)):
        time.sleep(_PAUSE)
    queue = states(study) if kind is LaunchKind.slurm else {}
    found = {run.name: found_with(study, run, queue) for run in runs}
    said = {run.name: queue.get(study.ticket(run), "") for run in runs}
    return {
        name: line(one.said.get("why") or (f"Slurm says {said[name]}" if said[name] else one.state))
        for name, one in found.items()
        if one.state != "done"
    }
