"""The `lm-eval-tts` app and its top-level commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from importlib.metadata import version
from typing import Annotated

import typer

from lm_eval_ext.cli import leaderboard, pruning, tasks
from lm_eval_ext.cli.compare import compare
from lm_eval_ext.cli.depth import depth
from lm_eval_ext.cli.diagnose import diagnose
from lm_eval_ext.cli.doctor import doctor
from lm_eval_ext.cli.journal import journal
from lm_eval_ext.cli.results import results
from lm_eval_ext.cli.serve import serve
from lm_eval_ext.cli.sweep import sweep
from lm_eval_ext.cli.trace import trace
from lm_eval_ext.errors import TTSError
from lm_eval_ext.version import own_version


class _OneLineErrors(typer.core.TyperGroup):
    """Prints our errors on one line, as lm-eval's command line does when this package is installed."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's Context is click's
        """Run a command."""
        try:
            return super().invoke(ctx)
        except TTSError as error:
            print(f"lm-eval-tts: {error}", file=sys.stderr)
            raise typer.Exit(1) from error
        except OSError as error:
            if error.filename is None and error.errno not in (ENOSPC, EDQUOT):
                raise
            print(f"lm-eval-tts: {error.filename or 'a file could not be written'}: {error.strerror}", file=sys.stderr)
            raise typer.Exit(1) from error


app = typer.Typer(
    help="Test-time scaling of layer-pruned language models: commands that complement lm_eval.",
    cls=_OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(tasks.tasks, name="tasks")
app.add_typer(results, name="results")
app.add_typer(journal, name="journal")
app.command("doctor")(doctor)
app.command("compare")(compare)
app.command("trace")(trace)
app.command("depth")(depth)
app.command("diagnose")(diagnose)
app.command("serve")(serve)
app.command("prune")(pruning.prune)
app.command("export")(pruning.export)
app.command("recover")(pruning.recover)
app.add_typer(pruning.recipes, name="recipes")
app.add_typer(leaderboard.leaderboard, name="leaderboard")
app.add_typer(sweep, name="sweep")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lm-eval-tts {own_version()} (lm-eval {version('lm_eval')})")
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Test-time scaling of layer-pruned language models: commands that complement lm_eval."""


@app.command()
def check(
    given: Annotated[
        list[str] | None, typer.Argument(help="Tasks (files, folders or names), to check these alone.")
    ] = None,
    data: Annotated[bool, typer.Option("--data/--no-data", help="Also check the benchmarks' datasets.")] = True,
) -> None:
    """Check tasks, recipes and published runs, like a pull request is checked; exits with 1 if there are errors.

    With tasks, it is `tasks check` of these.
    """
    if given:
        tasks.check_(given, data=data)
        return
    checks: list[Callable[[], object]] = [
        lambda: tasks.check_(data=data),
        pruning.check,
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
    if leaderboard.PUBLISHED.is_dir():
        leaderboard.check([leaderboard.PUBLISHED], regrade=True)
    else:
        print(f"no published runs: folder {leaderboard.PUBLISHED} does not exist")
