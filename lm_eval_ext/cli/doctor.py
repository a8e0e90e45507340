"""`lm-eval-tts doctor`: what is plugged in, what is not, and what to do."""

from __future__ import annotations

import sys

import typer


def doctor() -> None:
    """Show what is plugged in on this machine, what is not, and what to do; exits with 1 if nothing can work."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from lm_eval_ext.harness.doctor import findings

    table = Table("", "what", "found", "what to do")
    found = list(findings())
    for one in found:
        mark = "✗" if one.broken else "!" if one.todo else "✓"
        table.add_row(mark, one.what, escape(one.found), escape(one.todo))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if any(one.broken for one in found):
        raise typer.Exit(1)
