"""`lm-eval-tts`: the commands beside lm-eval's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.errors import TTSError
from lm_eval_ext.registry import TASKS
from lm_eval_ext.variants import sync as sync_variants


class _OneLineErrors(typer.core.TyperGroup):
    """Shows our errors as one line, as lm-eval's command line does with this package installed."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's Context is click's
        """Run a command."""
        try:
            return super().invoke(ctx)
        except TTSError as error:
            print(f"lm-eval-tts: {error}", file=sys.stderr)
            raise typer.Exit(1) from error


app = typer.Typer(
    help="Test-time scaling of layer-pruned language models: the commands beside lm_eval's own.",
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tasks = typer.Typer(help="Benchmarks as YAML.", no_args_is_help=True)
app.add_typer(tasks, name="tasks")


@app.callback()
def main() -> None:
    """Test-time scaling of layer-pruned language models: the commands beside lm_eval's own."""


@tasks.command()
def sync(
    folder: Annotated[Path, typer.Argument(help="Folder with base task YAMLs.", file_okay=False, exists=True)] = TASKS,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if a variant is out of date.")] = False,
) -> None:
    """Write the variants (thinking budgets, votes) that base YAMLs declare under metadata.variants."""
    changed = sync_variants(folder, write=not check)
    for path in changed:
        print(path.relative_to(folder))
    if check and changed:
        raise typer.Exit(1)
    print(f"{len(changed)} files {'out of date' if check else 'changed'}")
