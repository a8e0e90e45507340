"""`lm-eval-tts journal`: listing and deleting saved generations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.errors import ArgumentError, JournalError
from lm_eval_ext.generation.journal import Journal, default_journal

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
    return Journal(chosen)
