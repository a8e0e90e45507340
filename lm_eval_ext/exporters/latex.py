"""A LaTeX table with booktabs: one row a model, one column a benchmark and budget, accuracies with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lm_eval_ext.runs.collection import accuracy_interval
from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.run import Run, TaskResult

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def write_latex(sources: Sequence[Source], out: Path) -> list[Path]:
    """Write the table to a file; it needs `\\usepackage{booktabs}`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(latex([source.run for source in sources]), encoding="utf-8")
    return [out]


def latex(runs: Sequence[Run]) -> str:
    """The table; a cell is empty where a run lacks the task, and votes are left out."""
    columns = list(
        dict.fromkeys((task.benchmark, task.budget) for run in runs for task in run.tasks.values() if not task.votes)
    )
    header = ["model", *(f"{escaped(name)}{_budget(budget)}" for name, budget in columns)]
    lines = [
        "% Accuracy in %, with 95% intervals. Needs \\usepackage{booktabs}.",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(_row(run, columns) for run in runs),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _budget(budget: int | None) -> str:
    return "" if budget is None else f" ({budget})"


def _row(run: Run, columns: Sequence[tuple[str, int | None]]) -> str:
    found = {(task.benchmark, task.budget): task for task in run.tasks.values() if not task.votes}
    cells = [_cell(found[column]) if column in found else "" for column in columns]
    return " & ".join([escaped(f"{run.base} {run.label}"), *cells]) + r" \\"


def _cell(task: TaskResult) -> str:
    interval = accuracy_interval(task)
    low, high = (f"{100 * end:.1f}" for end in interval[1:])
    return f"{100 * interval.estimate:.1f} \\scriptsize [{low}, {high}]"


def escaped(text: str) -> str:
    """Text without LaTeX's special characters.

    >>> escaped("tts_math 50%")
    'tts\\\\_math 50\\\\%'
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
