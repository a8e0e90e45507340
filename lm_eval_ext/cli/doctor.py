"""`lm-eval-tts doctor`: what is plugged in, what is not, and what to do."""

from __future__ import annotations

import sys

import typer


def doctor() -> None:
    """Show what is plugged in on this machine, what is not, and what to do; exits with 1 if nothing can work."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from lm_eval_ext.harness.doctor import findings

    console = Console(width=None if sys.stdout.isatty() else 160)
    well, wrong = ("✓", "✗") if console.encoding.startswith("utf") else ("ok", "x")
    table = Table(*(Column(name, overflow="fold") for name in ("", "what", "found", "what to do")))
    with console.status("Looking"):
        found = list(findings())
    for one in found:
        mark = wrong if one.broken else "!" if one.todo else well
        table.add_row(mark, one.what, escape(one.found), escape(one.todo))
    console.print(table)
    if any(one.broken for one in found):
        raise typer.Exit(1)
