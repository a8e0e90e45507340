"""`lm-eval-tts gate`: verdicts on many candidates for few tokens, with an exit code for the whole."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from lm_eval_ext.cli.reporting import check_folders, console, exit_with, write
from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.sweep.launchers import LaunchKind

if TYPE_CHECKING:
    from rich.table import Table

    from lm_eval_ext.gating.gate_report import GateReport
    from lm_eval_ext.gating.gate_study import GateStudy

Result = TypeVar("Result")
_WATCHED = 5.0  # seconds between two looks


def gate(
    file: Annotated[Path, typer.Argument(metavar="GATE", help="The `gate.yaml`.")],
    status: Annotated[bool, typer.Option("--status", help="Run nothing, and show where every verdict stands.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and print what would be run.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show the evidence anew every few seconds.")] = False,
    launch: Annotated[
        LaunchKind,
        typer.Option(help="Where models are evaluated: on this machine, as jobs of Slurm, or on a Ray cluster."),
    ] = LaunchKind.local,
    jobs: Annotated[int | None, typer.Option(min=1, help="Most models at once, on this machine.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything to this file as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary in Markdown to this file.")] = None,
) -> None:
    """Decide which candidates keep enough of their base's accuracy, and stop each as soon as its verdict stands.

    Exit codes are those of `compare`: 0 if all are kept, 1 if any is lost, 3 if any is undecided, and 2 for anything
    that is no verdict. Start it again after anything; it goes on where it was.
    """
    outputs = {"json": json, "html": html, "junit": junit, "markdown": markdown}
    exit_with(lambda: _gate(file, status, dry_run, watch, launch, jobs, outputs))


def _gate(
    file: Path, status: bool, dry_run: bool, watch: bool, launch: LaunchKind, jobs: int | None,
    outputs: dict[str, Path | None],
) -> int:  # fmt: skip
    from lm_eval_ext.gating.drive import run_gate
    from lm_eval_ext.gating.gate_report import junit, markdown, page
    from lm_eval_ext.gating.gate_study import GateStudy
    from lm_eval_ext.gating.verdicts import report
    from lm_eval_ext.sweep.preflight import check

    if status and dry_run:
        raise ArgumentError("--status and --dry-run: give one of them")
    check_folders(outputs)
    study = GateStudy(file, keep=not (status or dry_run))
    if status:
        study.check_published()
        if watch:
            _watched(study, lambda: _until_over(study))
        found = report(study)
    else:
        check(study)
        study.check_results()
        if dry_run:
            print(_plan(study))
            return 0
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to stop is one as by Ctrl-C

        def run() -> GateReport:
            return run_gate(study, launch, jobs, lambda line: print(line, file=sys.stderr, flush=True))

        found = _watched(study, run) if watch else run()
    print(found)
    write(
        outputs, json=lambda: found.to_json() + "\n", html=lambda: page(found), junit=lambda: junit(found),
        markdown=lambda: markdown(found),
    )  # fmt: skip
    return found.exit_code


def _plan(study: GateStudy) -> str:
    """What would be run: each model with its arguments, and each benchmark with its tier and units."""
    from lm_eval_ext.sweep.sources import model_args

    lines = [f"{run.name}: {study.manifest.engine} {model_args(run.arguments)}" for run in study.runs]
    lines += [f"{name}: results in {folder}" for name in ("base", *study.gate.candidates)
              if (folder := study.gate.results_of(name))]  # fmt: skip
    lines += [f"{task}: {tier}" for task, tier in study.policy.tiers.items()]
    policy = study.policy
    lines.append(
        f"on {policy.population}; at least {100 * policy.keep:g}% must be kept; a verdict stands at an evidence of "
        f"{policy.threshold:g}, and among {policy.candidates} candidates at {policy.kept_threshold('critical'):g}"
    )
    return "\n".join(lines)


def _watched(study: GateStudy, work: Callable[[], Result]) -> Result:
    """Do something while a table shows where every model stands."""
    from rich.live import Live

    refresh = 1 / _WATCHED
    with Live(get_renderable=lambda: _table(study), console=console(stderr=True), refresh_per_second=refresh):
        return work()


def _until_over(study: GateStudy) -> None:
    while any(study.found(run).state == "running" for run in study.runs):
        time.sleep(_WATCHED)


def _table(study: GateStudy) -> Table:
    from rich.table import Table

    from lm_eval_ext.gating.verdicts import report
    from lm_eval_ext.sweep.one import progress
    from lm_eval_ext.sweep.sources import LOG

    found = report(study)
    table = Table("candidate", "verdict", "benchmark", "on it", "kept", "lost", "units", "now")
    runs = {run.name: run for run in study.runs}
    for name in ("base", *(one.name for one in found.candidates)):
        run = runs.get(name)
        folder = study.folder_of(run) if run else None
        state = study.found(run).state if run else "done"
        how_far = progress(folder / LOG) if folder and state == "running" else None
        now = f"{how_far.done} {how_far.speed} tokens/s, {how_far.left} left" if how_far and how_far.done else state
        one = next((one for one in found.candidates if one.name == name), None)
        if one is None or not one.rows:
            table.add_row(name, one.verdict if one else "", "", "", "", "", "", now)
            continue
        for number, row in enumerate(one.rows):
            first = (name, one.verdict) if number == 0 else ("", "")
            table.add_row(
                *first, row.task, row.verdict, f"{row.e_kept:.3g}", f"{row.e_lost:.3g}", f"{row.units}/{row.total}",
                now if number == 0 else "",
            )  # fmt: skip
    return table
