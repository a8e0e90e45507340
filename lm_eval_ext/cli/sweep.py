"""`lm-eval-tts sweep`: runs a whole study from one manifest, shows where it stands, and collects its results."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.cli.leaderboard import PUBLISHED
from lm_eval_ext.cli.reporting import GOES_ON, INTERRUPTED, console
from lm_eval_ext.errors import ManifestError
from lm_eval_ext.sweep.launchers import LaunchKind
from lm_eval_ext.sweep.launchers import launch as launched
from lm_eval_ext.sweep.manifest import papers, write_manifest
from lm_eval_ext.sweep.plan import PlannedRun
from lm_eval_ext.sweep.preflight import GPUS, check, speed_of
from lm_eval_ext.sweep.slurm import states
from lm_eval_ext.sweep.sources import Study

sweep = typer.Typer(help="Whole studies from one manifest (YAML).", no_args_is_help=True)
_WATCHED = 5.0  # seconds between two looks
ManifestPath = Annotated[Path, typer.Argument(help="The manifest.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Only runs of this model; can be repeated.")]


@sweep.command()
def run(
    manifest: ManifestPath,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands, each of which works by itself.")
    ] = False,
    only: Only = None,
    launch: Annotated[
        LaunchKind,
        typer.Option(
            help="Where runs are started: on this machine, as jobs of Slurm, or one after another on a Ray cluster."
        ),
    ] = LaunchKind.local,
    jobs: Annotated[int | None, typer.Option(min=1, help="Most runs at once, on this machine.")] = None,
) -> None:
    """Run what is not done yet; exits with 1 if something failed. Start it again after anything."""
    study = Study(manifest, keep=not dry_run)
    runs = _chosen(study, only)
    check(study)
    if dry_run:
        for one in runs:
            print(shlex.join(["lm_eval", *study.plain_command(one)]))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to stop is one as by Ctrl-C
    try:
        done = launched(study, runs, launch, jobs, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print(GOES_ON, file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if not done:
        raise typer.Exit(1)


@sweep.command()
def status(
    manifest: ManifestPath,
    only: Only = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every few seconds, until nothing runs.")] = False,
) -> None:
    """Show where each run stands: done, running with its progress, waiting, or failed and why."""
    from rich.live import Live

    from lm_eval_ext.sweep.collect import as_table, is_over

    study = Study(manifest, keep=False)
    runs = _chosen(study, only)
    if not watch:
        console().print(as_table(study, runs, _queue(study)))
        return
    with Live(as_table(study, runs, _queue(study)), console=console(), auto_refresh=False) as live:
        while not is_over(study, runs, queue := _queue(study)):
            time.sleep(_WATCHED)
            live.update(as_table(study, runs, queue), refresh=True)
        live.update(as_table(study, runs, _queue(study)), refresh=True)


def _queue(study: Study) -> Mapping[str, str]:
    """What Slurm says, if anything was submitted; nothing where it isn't installed or doesn't answer."""
    try:
        return states(study)
    except ManifestError as error:
        print(f"{error}; without it, this shows what is on the disk", file=sys.stderr)
        return {}


@sweep.command()
def plan(
    manifest: ManifestPath,
    only: Only = None,
    speed: Annotated[float | None, typer.Option(min=1, help="Measured speed of a GPU, in tokens/s.")] = None,
    gpu: Annotated[str | None, typer.Option(help=f"Name of a GPU: {', '.join(GPUS)}.")] = None,
) -> None:
    """Estimate what a study costs at most, before it is run: tokens, arithmetic, GPU hours."""
    from lm_eval_ext.sweep.preflight import as_sentences, as_table, estimated

    study = Study(manifest, keep=False)
    rate = speed_of(speed, gpu)
    found = estimated(study, _chosen(study, only))
    console().print(as_table(found, rate))
    print(as_sentences(found, rate))


@sweep.command()
def collect(
    manifest: ManifestPath,
    only: Only = None,
    to: Annotated[Path, typer.Option(help="Folder of published runs.")] = PUBLISHED,
    site: Annotated[Path | None, typer.Option(help="Folder for the site; by default in the study's folder.")] = None,
) -> None:
    """Publish every finished run and build a site from all that is published; also while others still run."""
    from lm_eval_ext.api import build_site
    from lm_eval_ext.sweep.collect import collect as collected

    study = Study(manifest, keep=False)
    runs = _chosen(study, only)
    added, failed = collected(study, runs, to, print)
    if added:
        print(build_site([to], site or study.folder / "site"))
    print(f"{added} of {len(runs)} runs are done and published")
    if failed:
        raise typer.Exit(1)


@sweep.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the study, and of the file NAME.yaml.")],
    like: Annotated[
        str | None, typer.Option(help=f"A paper whose study is written in full: {', '.join(papers())}.")
    ] = None,
) -> None:
    """Write a manifest to start from."""
    print(write_manifest(Path(f"{name.removesuffix('.yaml')}.yaml"), like))


def _chosen(study: Study, only: Sequence[str] | None) -> list[PlannedRun]:
    unknown = [name for name in only or () if name not in study.manifest.models]
    if unknown:
        raise ManifestError(f"--only {unknown[0]}: expected one of: {', '.join(study.manifest.models)}")
    return [one for one in study.runs if not only or one.model in only]
