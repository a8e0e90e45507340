"""`lm-eval-tts trace`: shows how a model thought about one question, with its answer at each budget."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lm_eval_ext.analysis.trace import Trace


def trace(
    run: Annotated[Path, typer.Argument(help="Results folder of one model, or a published run.")],
    question: Annotated[int, typer.Option(help="Id of the question (`doc_id`).")],
    sample: Annotated[int, typer.Option(help="Number of the sample, from 0.")] = 0,
    on: Annotated[str, typer.Option(help="Benchmark; needed if the run has several.")] = "",
) -> None:
    """Show one trace: the thinking with its cuts, and the answer at each budget with its grade."""
    from rich.console import Console

    from lm_eval_ext.analysis.evaluated import read_model
    from lm_eval_ext.analysis.trace import trace_of
    from lm_eval_ext.runs.catalogue import read_catalogue

    found = trace_of(read_model(run, read_catalogue()), question, sample, on)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if not console.is_terminal:
        for line, _ in _lines(found):
            print(line)
        return
    with console.pager(styles=True):
        for line, style in _lines(found):
            console.print(line, style=style, markup=False)


def _lines(found: Trace) -> Iterator[tuple[str, str]]:
    """Lines of a trace, each with its style."""
    yield f"{found.benchmark}, question {found.question}, sample {found.sample}; gold answer: {found.gold}", "bold"
    if found.prompt:
        yield found.prompt, "dim"
    for cut in found.cuts:
        yield cut.thinking, ""
        style = "bold green" if cut.grade == "correct" else "bold red"
        yield f"--- {cut.budget}: {cut.answer or 'no answer'} ({cut.grade})", style
