"""The Hub: `.eval_results/*.yaml` of a model's repository, and a section of its model card.

Format: https://huggingface.co/docs/hub/eval-results; a scored dataset is named by its repository, so tasks with data of
their own are only in the model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.collection import accuracy_interval
from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.run import Run, TaskResult

START, END = "<!-- lm-eval-tts results -->", "<!-- end of lm-eval-tts results -->"


def write_hub(sources: Sequence[Source], out: Path) -> list[Path]:
    """Write `.eval_results/BENCHMARK.yaml` and the model card's section below a folder.

    Raises:
        ResultsError: the runs are of several models, which have a repository each.
    """
    runs = [source.run for source in sources]
    if len({(run.base, run.label) for run in runs}) > 1:
        labels = sorted({f"{run.base} {run.label}" for run in runs})
        raise ResultsError(f"results of {len(labels)} models ({'; '.join(labels)}); export each to a folder of its own")
    folder = out / ".eval_results"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for benchmark, entries in _entries(runs).items():
        written.append(folder / f"{benchmark}.yaml")
        written[-1].write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return [*written, write_card(out / "README.md", card(runs))]


def _entries(runs: Sequence[Run]) -> dict[str, list[dict[str, object]]]:
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    found: dict[str, list[EvalResultEntry]] = {}
    for run in runs:
        for name, task in run.tasks.items():
            if "/" in task.dataset and not task.partial:
                entry = EvalResultEntry(
                    dataset_id=task.dataset, task_id=name, value=round(task.accuracy.value, 6), date=run.date,
                    notes=_notes(run, task),
                )  # fmt: skip
                found.setdefault(task.benchmark, []).append(entry)
    return {benchmark: eval_result_entries_to_yaml(entries) for benchmark, entries in found.items()}


def _notes(run: Run, task: TaskResult) -> str:
    budget = "no thinking budget" if task.budget is None else f"thinking budget {task.budget}"
    software = f"lm-eval-tts {run.software.get('lm-eval-tts', '')}".strip()
    return f"{budget}, {task.repeats} samples, {software}, {run.engine}"


def card(runs: Sequence[Run]) -> str:
    """A section of a model card, between two comments."""
    rows = [_row(name, task) for run in runs for name, task in run.tasks.items()]
    date = max(run.date for run in runs)[:10]
    return "\n".join([
        START, "## Evaluation", "", f"By lm-eval-tts, {date}; accuracies with 95% intervals.",
        "", "| task | thinking budget | accuracy | questions x samples |", "|---|---|---|---|", *rows, END,
    ])  # fmt: skip


def _row(name: str, task: TaskResult) -> str:
    interval = accuracy_interval(task)
    shown = f"{100 * interval.estimate:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    return f"| `{name}` | {task.budget or 'none'} | {shown} | {task.questions} x {task.repeats} |"


def write_card(path: Path, section: str) -> Path:
    """Put the section into a model card, in place of an earlier one; other text stays."""
    there = path.read_text("utf-8") if path.exists() else ""
    before, start, rest = there.partition(START)
    after = rest.partition(END)[2] if start else ""
    text = f"{before.rstrip()}\n\n{section}\n{after.lstrip()}" if there else f"{section}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
