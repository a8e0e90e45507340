"""The Hub: `.eval_results/*.yaml` of a model's repository, and a section of its model card.

Format: https://huggingface.co/docs/hub/eval-results; a scored dataset is named by its repository, so tasks with data of
their own are only in the model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.pruning.recipe import Recipe
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


def check_same_model(recipe: Recipe, sources: Sequence[Source]) -> None:
    """Refuse results that belong to another model than the recipe's.

    Raises:
        ResultsError: there are none, or a run's base, dropped layers or merges are others.
    """
    if not sources:
        raise ResultsError("no results there; expected output folders of lm_eval, or folders of published runs")
    for source in sources:
        if not _is_of(source.run, recipe):
            run, expected = source.run, f"{_name(recipe.base)}, {recipe.summary}"
            raise ResultsError(f"{source.path}: results of {_name(run.base)} {run.label}; expected those of {expected}")


def _is_of(run: Run, recipe: Recipe) -> bool:
    """By the recipe's hash; for a copy of the base elsewhere, which has another hash, by its name and the layers."""
    if run.pruning is None or run.pruning.recovered:
        return False
    same_base = _name(run.base).lower() == _name(recipe.base).lower()
    pruning = run.pruning
    asked = (recipe.merge, any(recipe.blocks), recipe.checkpoint, recipe.quantization)
    done = (pruning.merged, pruning.dropped_attention, pruning.dropped_mlp, pruning.checkpoint, pruning.quantization)
    dropped_alone = not any(asked) and not any(done) and run.dropped == recipe.drop
    return run.pruning.recipe_hash == recipe.digest or (same_base and dropped_alone)


def _name(base: str) -> str:
    return base.rstrip("/").split("/")[-1]


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
