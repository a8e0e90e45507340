"""`lm-eval-tts`: the commands beside lm-eval's own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext import cli_leaderboard, cli_pruning, cli_tasks
from lm_eval_ext.cli_leaderboard import PUBLISHED, leaderboard
from lm_eval_ext.cli_tasks import tasks
from lm_eval_ext.errors import ArgumentError, JournalError, TTSError
from lm_eval_ext.generation.journal import Journal, default_journal


class _OneLineErrors(typer.core.TyperGroup):
    """Shows our errors as one line, as lm-eval's command line does with this package installed."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's Context is click's
        """Run a command."""
        try:
            return super().invoke(ctx)
        except TTSError as error:
            print(f"lm-eval-tts: {error}", file=sys.stderr)
            raise typer.Exit(1) from error
        except OSError as error:
            if error.filename is None:
                raise
            print(f"lm-eval-tts: {error.filename}: {error.strerror}", file=sys.stderr)
            raise typer.Exit(1) from error


app = typer.Typer(
    help="Test-time scaling of layer-pruned language models: the commands beside lm_eval's own.",
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(tasks, name="tasks")
journal = typer.Typer(help="Finished generations, kept for runs that go on after a crash.", no_args_is_help=True)
app.add_typer(journal, name="journal")
app.command("prune")(cli_pruning.prune)
app.command("export")(cli_pruning.export)
app.command("recover")(cli_pruning.recover)
app.add_typer(cli_pruning.recipes, name="recipes")
app.add_typer(leaderboard, name="leaderboard")
JournalPath = Annotated[Path | None, typer.Option("--path", help="The journal; by default the shared one.")]


@app.callback()
def main() -> None:
    """Test-time scaling of layer-pruned language models: the commands beside lm_eval's own."""


@app.command()
def check(
    data: Annotated[bool, typer.Option("--data/--no-data", help="Look at the benchmarks' datasets as well.")] = True,
) -> None:
    """Check tasks, recipes and published runs, as a pull request is checked; exits with 1 if anything is wrong."""
    checks: list[Callable[[], object]] = [
        lambda: cli_tasks.check_(data=data),
        cli_pruning.check,
        _check_published,
    ]
    failed = False
    for one in checks:
        try:
            one()
        except typer.Exit:
            failed = True
    if failed:
        raise typer.Exit(1)


def _check_published() -> None:
    if PUBLISHED.is_dir():
        cli_leaderboard.check([PUBLISHED], regrade=True)
    else:
        print(f"no published runs: there is no folder {PUBLISHED} here")


@journal.command()
def show(path: JournalPath = None) -> None:
    """List what the journal holds, by model."""
    opened = _existing(path)
    for held in opened.holdings():
        last = time.strftime("%Y-%m-%d %H:%M", time.localtime(held.last))
        print(f"{last}  {held.completions:8} stretches of text  {int(held.tokens):12} tokens  {held.model}")
    print(f"{opened.path}: {opened.path.stat().st_size / 1e6:.1f} MB")


@journal.command()
def prune(
    path: JournalPath = None,
    older_than: Annotated[
        float | None, typer.Option(help="Delete what was finished more than so many days ago.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Delete what is of this model, as `show` names it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete everything.")] = False,
) -> None:
    """Delete from the journal by age, by model, or everything."""
    if not everything and older_than is None and model is None:
        raise ArgumentError("nothing to prune: give --older-than DAYS, --model MODEL or --all")
    before = None if older_than is None else time.time() - older_than * 86400
    print(f"{_existing(path).prune(before=before, model=model)} stretches of text deleted")


def _existing(path: Path | None) -> Journal:
    chosen = path or default_journal()
    if not chosen.is_file():
        raise JournalError(f"journal={chosen}: there is none")
    return Journal(chosen)
