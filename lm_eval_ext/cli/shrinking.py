"""`lm-eval-tts diverge` and `shrink`: what candidates would write, and the smallest one that still reasons."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.cli.reporting import NO_VERDICT, check_folders, exit_with, write
from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.sweep.launchers import LaunchKind

_BASE = "base="


def diverge(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="base=MODEL CANDIDATE...",
            help="Recipes (names or YAML files), model arguments such as drop_layers=[3,4], or checkpoints.",
        ),
    ],
    traces: Annotated[str, typer.Option(help="run:FOLDER, results of the base that were saved with --log_samples.")],
    on: Annotated[str, typer.Option(help="Tasks whose questions are used, separated by commas; all by default.")] = "",
    samples: Annotated[int, typer.Option(min=2, help="Most traces, one of each question before a second one.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=2, help="Most tokens of a trace, with its prompt.")] = 4096,
    seed: Annotated[int, typer.Option(help="Of the questions and samples that are drawn.")] = 0,
    top: Annotated[int, typer.Option(min=1, help="Tokens of the base that are kept one by one at each place.")] = 64,
    localise: Annotated[
        bool,
        typer.Option("--localise", help="What each layer's change explains alone; holds two models in memory."),
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Folder in which finished models are kept, so that a later call goes on.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything to this file as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
) -> None:
    """Measure what candidates would write at each step of their base's own correct thinking; nothing is decoded.

    It is a screen for many candidates in minutes, and a diagnosis of where they differ. Whether one still reasons is
    decided by `gate` and `compare`.
    """
    from lm_eval_ext.shrinking.diverge import TraceOptions, model_spec, model_specs
    from lm_eval_ext.shrinking.diverge import diverge as diverged
    from lm_eval_ext.shrinking.divergence_report import page

    first, *others = models
    if not first.startswith(_BASE) or len(first) == len(_BASE):
        raise ArgumentError(f"{first}: the first model is the base; expected base=MODEL, then candidates")
    if not others:
        raise ArgumentError("no candidate given; expected: lm-eval-tts diverge base=MODEL CANDIDATE...")
    kind, _, folder = traces.partition(":")
    if kind != "run" or not folder:
        raise ArgumentError(f"--traces {traces}: expected run:FOLDER, results of the base with --log_samples")
    outputs = {"json": json, "html": html}
    check_folders(outputs)
    base = model_spec(first.removeprefix(_BASE))
    tasks = tuple(name.strip() for name in on.split(",") if name.strip())
    options = TraceOptions(folder, samples, max_tokens, seed, tasks)
    candidates = model_specs(others, base.arguments)
    with tempfile.TemporaryDirectory() as temporary:
        found = diverged(base, candidates, options, keep or Path(temporary), top=top, localise=localise)
    print(found)
    write(outputs, json=lambda: found.to_json() + "\n", html=lambda: page(found))


def shrink(
    file: Annotated[Path, typer.Argument(metavar="SHRINK", help="The `shrink.yaml`.")],
    status: Annotated[bool, typer.Option("--status", help="Compute nothing, and show what is there so far.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and print what would be done.")] = False,
    launch: Annotated[
        LaunchKind, typer.Option(help="Where candidates are evaluated, as in `gate`.")
    ] = LaunchKind.local,
    jobs: Annotated[int | None, typer.Option(min=1, help="Most models at once, on this machine.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything to this file as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
) -> None:
    """Find the smallest version of a model that still reasons, and prove it.

    Exits with 0 if a smaller model is shown to keep enough, with 1 if none is, and with 2 for anything that is no
    result. Start it again after anything; it goes on where it was.
    """
    outputs = {"json": json, "html": html}
    exit_with(lambda: _shrink(file, status, dry_run, launch, jobs, outputs))


def _shrink(
    file: Path, status: bool, dry_run: bool, launch: LaunchKind, jobs: int | None, outputs: dict[str, Path | None]
) -> int:
    from lm_eval_ext.shrinking.shrink import ShrinkStudy, plan, standing
    from lm_eval_ext.shrinking.shrink import shrink as shrunk
    from lm_eval_ext.shrinking.shrink_report import page

    if dry_run and (status or any(outputs.values())):
        raise ArgumentError("--dry-run: only prints what would be done; give no --status, --json or --html with it")
    check_folders(outputs)
    study = ShrinkStudy(file)
    if status:
        found = standing(study)
        if found is None:
            print("the search isn't finished")
            return NO_VERDICT
    else:
        study.check()
        if dry_run:
            print(plan(study))
            return 0
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to stop is one as by Ctrl-C
        found = shrunk(study, launch, jobs, lambda line: print(line, file=sys.stderr, flush=True))
    print(found)
    write(outputs, json=lambda: found.to_json() + "\n", html=lambda: page(found))
    return found.exit_code
