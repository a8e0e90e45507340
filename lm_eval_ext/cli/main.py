"""The `lm-eval-tts` app and its top-level commands."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.cli import leaderboard, pruning, tasks
from lm_eval_ext.cli.compare import compare, depth, diagnose, trace
from lm_eval_ext.cli.gates import gate
from lm_eval_ext.cli.published import check as check_literature
from lm_eval_ext.cli.published import published
from lm_eval_ext.cli.reporting import console
from lm_eval_ext.cli.shrinking import diverge, shrink
from lm_eval_ext.cli.sweep import sweep
from lm_eval_ext.errors import ArgumentError, EngineError, JournalError, TTSError
from lm_eval_ext.generation.journal import Journal, default_journal
from lm_eval_ext.plugins import own_version


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
    """Check tasks, recipes, published runs and scores, like a pull request is checked; exits with 1 if one is wrong.

    With tasks, it is `tasks check` of these.
    """
    if given:
        tasks.check_(given, data=data)
        return
    checks: list[Callable[[], object]] = [
        lambda: tasks.check_(data=data),
        pruning.check,
        _check_published,
        check_literature,
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


def doctor() -> None:
    """Show what is plugged in on this machine, what is not, and what to do; exits with 1 if nothing can work."""
    from rich.markup import escape
    from rich.table import Column, Table

    from lm_eval_ext.harness.doctor import findings

    screen = console()
    well, wrong = ("✓", "✗") if screen.encoding.startswith("utf") else ("ok", "x")
    table = Table(*(Column(name, overflow="fold") for name in ("", "what", "found", "what to do")))
    with screen.status("Looking"):
        found = list(findings())
    for one in found:
        mark = wrong if one.broken else "!" if one.todo else well
        table.add_row(mark, one.what, escape(one.found), escape(one.todo))
    screen.print(table)
    if any(one.broken for one in found):
        raise typer.Exit(1)


def serve(
    model_args: Annotated[str, typer.Argument(help="As for lm_eval: pretrained=ORG/NAME,drop_layers=[25,26].")],
    rest: Annotated[list[str] | None, typer.Argument(help="After `--`: options of vllm serve.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the command.")] = False,
) -> None:
    """Serve a model with dropped layers by vLLM, for anything that talks to OpenAI's API.

    The model is named after what was dropped. Evaluate it with `lm_eval --model tts-server`.
    """
    from lm_eval_ext.harness.serving import serve_command

    command = serve_command(model_args, rest or [])
    print(shlex.join(command), flush=True)
    if dry_run:
        return
    try:
        os.execvp(command[0], command)  # it is the user's own command
    except FileNotFoundError as error:
        raise EngineError("vLLM is not installed here; pip install 'lm-eval-tts[vllm]', or see --dry-run") from error


journal = typer.Typer(help="Finished generations, saved so that a run can resume after a crash.", no_args_is_help=True)
JournalPath = Annotated[Path | None, typer.Option("--path", help="Path of the journal; by default the shared one.")]


@journal.command()
def show(path: JournalPath = None) -> None:
    """List the journal's contents by model."""
    opened = _existing(path)
    for held in opened.summaries():
        last = time.strftime("%Y-%m-%d %H:%M", time.localtime(held.last))
        print(f"{last}  {held.completions:8} stretches of text  {int(held.tokens):12} tokens  {held.model}")
    print(f"{opened.path}: {opened.path.stat().st_size / 1e6:.1f} MB")


@journal.command()
def prune(
    path: JournalPath = None,
    older_than: Annotated[
        float | None, typer.Option(help="Delete generations that finished more than this many days ago.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Delete generations of this model: a name of `show`, or its part before the comma."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete everything.")] = False,
) -> None:
    """Delete generations from the journal, by age, by model, or all of them."""
    if not everything and older_than is None and model is None:
        raise ArgumentError("nothing to prune: give --older-than DAYS, --model MODEL or --all")
    if everything and (older_than is not None or model is not None):
        raise ArgumentError("--all deletes everything; give it without --older-than and --model")
    if older_than is not None and not 0 <= older_than < 1e6:
        raise ArgumentError(f"--older-than {older_than:g}: give a number of days from 0")
    before = None if older_than is None else time.time() - older_than * 86400
    opened = _existing(path)
    names = [None] if model is None else _named(opened, model)
    print(f"{sum(opened.prune(before=before, model=name) for name in names)} stretches of text deleted")


def _named(opened: Journal, model: str) -> list[str]:
    """The models of a name; its first part, without the versions of the software, may be that of several."""
    known = [held.model for held in opened.summaries()]
    found = [name for name in known if model.strip() in (name, name.partition(",")[0])]
    if not found:
        raise ArgumentError(f"--model {model}: not in {opened.path}, which has: {'; '.join(known) or 'nothing'}")
    return found


def _existing(path: Path | None) -> Journal:
    chosen = path or default_journal()
    if not chosen.is_file():
        raise JournalError(f"journal={chosen}: no such file")
    with chosen.open("rb") as file:
        if not file.read(16).startswith(b"SQLite format 3"):  # an empty file would become a journal
            raise JournalError(f"journal={chosen}: is not a journal")
    return Journal(chosen)


results = typer.Typer(help="Show results, also those of other tools, and export them.", no_args_is_help=True)


@results.command()
def export(
    runs: Annotated[list[Path], typer.Argument(help="Output folders of lm_eval, or folders of published runs.")],
    to: Annotated[str, typer.Option(help="csv, parquet, latex, every-eval-ever or hub.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to; for latex, a file.")],
) -> None:
    """Write results as tables, for a paper, for Every Eval Ever, or for a model's repository on the Hub."""
    from lm_eval_ext.exporters import export_results
    from lm_eval_ext.runs.catalogue import read_catalogue
    from lm_eval_ext.runs.load import load

    for path in export_results(load(runs, read_catalogue()), to, out):
        print(path)


@results.command("show")
def show_results(
    paths: Annotated[
        list[Path], typer.Argument(help="Output of lm_eval, published runs, or logs of other tools; files or folders.")
    ],
) -> None:
    """Say what results hold, also those of lighteval, inspect_ai, NeMo Evaluator, Every Eval Ever and simple-evals."""
    from lm_eval_ext.analysis.shown import shown
    from lm_eval_ext.runs.catalogue import read_catalogue
    from lm_eval_ext.runs.load import load

    for source in load(paths, read_catalogue(), logs=True):
        print("\n".join(shown(source)))


app.add_typer(tasks.tasks, name="tasks")
app.add_typer(results, name="results")
app.add_typer(journal, name="journal")
app.command("doctor")(doctor)
app.command("compare")(compare)
app.command("gate")(gate)
app.command("diverge")(diverge)
app.command("shrink")(shrink)
app.command("trace")(trace)
app.command("published")(published)
app.command("depth")(depth)
app.command("diagnose")(diagnose)
app.command("serve")(serve)
app.command("prune")(pruning.prune)
app.command("export")(pruning.export)
app.command("recover")(pruning.recover)
app.add_typer(pruning.recipes, name="recipes")
app.add_typer(leaderboard.leaderboard, name="leaderboard")
app.add_typer(sweep, name="sweep")
