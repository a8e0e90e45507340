"""`lm-eval-tts results`: results in the formats of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

results = typer.Typer(help="Export results to other formats.", no_args_is_help=True)


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
