"""Exports results to the formats of others; one module each, and one entry in `EXPORTERS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.errors import ArgumentError, ResultsError
from lm_eval_ext.exporters.every_eval_ever import write_every_eval_ever
from lm_eval_ext.exporters.hub import write_hub
from lm_eval_ext.exporters.tables import write_csv, write_latex, write_parquet
from lm_eval_ext.runs.load import Source


class Exporter(NamedTuple):
    """One format.

    Attributes:
        write: writes sources to a file or folder, and returns the paths it has written.
        meaning: for the documentation.
    """

    write: Callable[[Sequence[Source], Path], list[Path]]
    meaning: str


EXPORTERS = {
    "csv": Exporter(write_csv, "a folder with `tasks.csv`, a row a task, and `samples.csv`, a row a sample"),
    "parquet": Exporter(write_parquet, "the same two tables as Parquet files"),
    "latex": Exporter(write_latex, "a file with a booktabs table: models by benchmarks and budgets, with intervals"),
    "every-eval-ever": Exporter(write_every_eval_ever, "a folder in the layout of Every Eval Ever, schema 0.3.0"),
    "hub": Exporter(write_hub, "`.eval_results/*.yaml` and a section of the model card, for the model's repository"),
}


def export_results(sources: Sequence[Source], to: str, out: Path) -> list[Path]:
    """Write results in a format of others; returns the paths of the files.

    Raises:
        ArgumentError: the format is unknown.
        ResultsError: the results lack what the format needs.
    """
    if to not in EXPORTERS:
        raise ArgumentError(f"unknown format {to!r}; expected one of: {', '.join(EXPORTERS)}")
    if other := next((source for source in sources if source.run.tool), None):
        raise ResultsError(f"{other.path}: is of {other.run.tool}; {to} would say of it what it does not record")
    return EXPORTERS[to].write(sources, out)
