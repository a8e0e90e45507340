"""`lm-eval-tts sweep`: runs a whole study from one manifest, shows where it stands, and collects its results."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.cli.leaderboard import PUBLISHED
from lm_eval_ext.errors import ManifestError
from lm_eval_ext.sweep.local import LocalLauncher, Slot, slots
from lm_eval_ext.sweep.plan import PlannedRun
from lm_eval_ext.sweep.slurm import SlurmLauncher, states
from lm_eval_ext.sweep.study import Study


class Launch(StrEnum):
    """Where runs are started."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


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
    launch: Annotated[Launch, typer.Option(help="Where runs are started.")] = Launch.local,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once, on this machine.")] = None,
) -> None:
    """Run what is not done yet; exits with 1 if something failed. Start it again after anything."""
    study = Study(manifest, keep=not dry_run)
    runs = _chosen(study, only)
    if dry_run:
        for one in runs:
            print(shlex.join(["lm_eval", *study.plain_command(one)]))
        return
    if launch is Launch.slurm:
        SlurmLauncher(study, print).run(runs)
    else:
        _run_here(study, runs, launch, jobs)


def _run_here(study: Study, runs: Sequence[PlannedRun], launch: Launch, jobs: int | None) -> None:
    """Run on this machine, or one after another on a Ray cluster, until all is done."""
    where = study.manifest.launch
    on_ray = launch is Launch.ray
    launcher = LocalLauncher(
        study,
        [Slot()] if on_ray else slots(where.local, jobs),
        lambda line: print(line, flush=True),
        extra=(f"ray_address={where.ray.address}", "data_parallel_size=auto") if on_ray else (),
    )
    try:
        done = launcher.run(runs)
    except KeyboardInterrupt:
        print("stopped; everything is kept, so run it again to go on", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"{len(runs) - len([one for one in runs if one.name in launcher.failed])} of {len(runs)} runs are done")
    if not done:
        raise typer.Exit(1)


@sweep.command()
def status(
    manifest: ManifestPath,
    only: Only = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every few seconds, until nothing runs.")] = False,
) -> None:
    """Show where each run stands: done, running with its progress, waiting, or failed and why."""
    from rich.console import Console
    from rich.live import Live

    from lm_eval_ext.sweep.status import as_table, is_over

    study = Study(manifest, keep=False)
    runs, console = _chosen(study, only), Console(width=None if sys.stdout.isatty() else 160)
    if not watch:
        console.print(as_table(study, runs, states(study)))
        return
    with Live(as_table(study, runs, states(study)), console=console, auto_refresh=False) as live:
        while not is_over(study, runs, queue := states(study)):
            time.sleep(_WATCHED)
            live.update(as_table(study, runs, queue), refresh=True)
        live.update(as_table(study, runs, states(study)), refresh=True)


@sweep.command()
def plan(
    manifest: ManifestPath,
    only: Only = None,
    speed: Annotated[float | None, typer.Option(min=1, help="Measured speed of a GPU, in tokens/s.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Name of a GPU: a100, h100, h200, l40s or rtx4090.")] = None,
) -> None:
    """Estimate what a study costs at most, before it is run: tokens, arithmetic, GPU hours."""
    from rich.console import Console

    from lm_eval_ext.sweep.estimate import as_sentences, as_table, estimated

    study = Study(manifest, keep=False)
    found = estimated(study, _chosen(study, only))
    Console(width=None if sys.stdout.isatty() else 160).print(as_table(found))
    print(as_sentences(found, speed, gpu))


@sweep.command()
def collect(
    manifest: ManifestPath,
    only: Only = None,
    to: Annotated[Path, typer.Option(help="Folder of published runs.")] = PUBLISHED,
    site: Annotated[Path | None, typer.Option(help="Folder for the site; by default in the study's folder.")] = None,
) -> None:
    """Publish every finished run and build a site from all that is published; also while others still run."""
    from lm_eval_ext.api_results import build_site
    from lm_eval_ext.sweep.collect import collect as collected

    study = Study(manifest, keep=False)
    added, failed = collected(study, _chosen(study, only), to, print)
    if added:
        print(build_site([to], site or study.folder / "site"))
    print(f"{added} of {len(study.runs)} runs are done and published")
    if failed:
        raise typer.Exit(1)


@sweep.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the study, and of the file NAME.yaml.")],
    like: Annotated[str | None, typer.Option(help="A paper whose study is written in full: 2510.22228.")] = None,
) -> None:
    """Write a manifest to start from."""
    from lm_eval_ext.sweep.templates import write_manifest

    print(write_manifest(Path(f"{name}.yaml"), like))


def _chosen(study: Study, only: Sequence[str] | None) -> list[PlannedRun]:
    unknown = [name for name in only or () if name not in study.manifest.models]
    if unknown:
        raise ManifestError(f"--only {unknown[0]}: expected one of: {', '.join(study.manifest.models)}")
    return [one for one in study.runs if not only or one.model in only]
