"""CSV and Parquet: one table with a row a task, and one with a row a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.analysis.board import Entry, Position, entries, place
from lm_eval_ext.analysis.matching import answer_budget
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.paths import write_whole
from lm_eval_ext.runs.load import Runs, Source
from lm_eval_ext.runs.run import Run

if TYPE_CHECKING:
    import pandas


def write_csv(sources: Sequence[Source], out: Path) -> list[Path]:
    """Write `tasks.csv` and `samples.csv`."""
    return _write(sources, out, "csv", lambda frame: frame.to_csv(index=False))


def write_parquet(sources: Sequence[Source], out: Path) -> list[Path]:
    """Write `tasks.parquet` and `samples.parquet`."""
    return _write(sources, out, "parquet", lambda frame: frame.to_parquet(index=False))


def _write(
    sources: Sequence[Source], out: Path, ending: str, content: Callable[[pandas.DataFrame], str | bytes]
) -> list[Path]:
    runs = Runs([source.run for source in sources], sources)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, frame in (("tasks", tasks_frame(runs)), ("samples", runs.to_frame(samples=True))):
        if len(frame):
            written.append(out / f"{name}.{ending}")
            write_whole(written[-1], content(frame))
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


_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def write_latex(sources: Sequence[Source], out: Path) -> list[Path]:
    """Write the table to a file; it needs `\\usepackage{booktabs}`."""
    write_whole(out, latex([source.run for source in sources]))
    return [out]


def latex(runs: Sequence[Run]) -> str:
    """The table, with a row a model as on the leaderboard; a cell is empty where it lacks the task, votes are left out.

    Raises:
        ResultsError: there are only votes.
    """
    columns = list(
        dict.fromkeys((task.benchmark, place(task)) for run in runs for task in run.tasks.values() if not task.votes)
    )
    if not columns:
        raise ResultsError("only results with votes, which the LaTeX table leaves out; nothing is written")
    header = ["model", *(escaped(name) + (f" ({at.budget})" if at.budget else "") for name, at in columns)]
    rows = [
        [escaped(f"{entry.base} {entry.label}"), *(_cell(entry, *column) for column in columns)]
        for entry in entries(runs)
    ]
    lines = [
        "% Accuracy in %, with 95% intervals. Needs \\usepackage{booktabs}.",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows if any(row[1:])),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _cell(entry: Entry, benchmark: str, at: Position) -> str:
    """The accuracy with its interval, and of how many of the questions if not of all."""
    found = entry.results.get(benchmark, {}).get(at)
    if found is None:
        return ""
    low, high = (f"{100 * end:.1f}" for end in found.interval[1:])
    some = f", {found.task.questions} of {found.task.of}" if found.task.partial else ""
    return f"{100 * found.interval.estimate:.1f} \\scriptsize [{low}, {high}{some}]"


def escaped(text: str) -> str:
    """Text without LaTeX's special characters.

    >>> escaped("tts_math 50%")
    'tts\\\\_math 50\\\\%'
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
