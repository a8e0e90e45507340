"""CSV and Parquet: one table with a row a task, and one with a row a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.analysis.matching import answer_budget
from lm_eval_ext.runs.collection import Runs
from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.run import Run

if TYPE_CHECKING:
    import pandas


def write_csv(sources: Sequence[Source], out: Path) -> list[Path]:
    """Write `tasks.csv` and `samples.csv`."""
    return _write(sources, out, "csv", lambda frame, path: frame.to_csv(path, index=False))


def write_parquet(sources: Sequence[Source], out: Path) -> list[Path]:
    """Write `tasks.parquet` and `samples.parquet`."""
    return _write(sources, out, "parquet", lambda frame, path: frame.to_parquet(path, index=False))


def _write(
    sources: Sequence[Source], out: Path, ending: str, save: Callable[[pandas.DataFrame, Path], object]
) -> list[Path]:
    runs = Runs([source.run for source in sources], sources)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, frame in (("tasks", tasks_frame(runs)), ("samples", runs.to_frame(samples=True))):
        if len(frame):
            written.append(out / f"{name}.{ending}")
            save(frame, written[-1])
    return written


def tasks_frame(runs: Runs) -> pandas.DataFrame:
    """A row a task: model and engine, accuracy with its interval, every metric, sizes, settings and seeds."""
    import pandas

    of_runs = {run.id: _of_run(run) for run in runs}
    frame = runs.to_frame()
    asked = [{"setting_answer_token_budget": answer_budget(task, run)} for run in runs for task in run.tasks.values()]
    more = pandas.DataFrame([{**of_runs[name], **own} for name, own in zip(frame["run"], asked, strict=True)])
    return pandas.concat([frame.reset_index(drop=True), more], axis=1)


def _of_run(run: Run) -> dict[str, object]:
    parameters = run.pruning.parameters_after if run.pruning else None
    return {
        "revision": run.revision, "engine": run.engine, "dtype": run.dtype, "date": run.date, "tier": run.tier,
        "method": run.pruning.method if run.pruning else "none", "dropped_layers": " ".join(map(str, run.dropped)),
        "parameters": parameters or None, "fingerprint": run.fingerprint, "seconds": run.seconds,
        **{f"setting_{name}": value for name, value in run.settings.items()},
        **{f"cost_{name}": value for name, value in run.costs.items()},
        **{f"run_{name}": value for name, value in run.generation.items()},
        **run.seeds, **{f"version_{name}": value for name, value in run.software.items()}, "command": run.command,
    }  # fmt: skip
