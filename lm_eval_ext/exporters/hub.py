"""The Hub: `.eval_results/*.yaml` of a model's repository, and a section of its model card.

Format: https://huggingface.co/docs/hub/eval-results. The Hub shows a result beside those of others, so only what
they measured, too, gets a file: whole benchmarks without a thinking budget or votes, whose YAML says which task of a
dataset's `eval.yaml` they are (`metadata.hub`). Everything is in the model card.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from lm_eval_ext.errors import ArgumentError, ResultsError
from lm_eval_ext.paths import TASKS
from lm_eval_ext.plugins import task_folders
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.redaction import mapping, number
from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.run import Run, TaskResult, accuracy_interval
from lm_eval_ext.wording import markdown_table, short_name

logger = logging.getLogger("lm_eval.tts")

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
    written = []
    found = _entries(runs)
    if not found:
        logger.warning(
            "no .eval_results: none of these results is of a whole benchmark without a budget or votes, run as usual, "
            "of which the Hub shows results (metadata.hub of its YAML); the model card has them all",
        )
    for benchmark, entries in found.items():
        folder.mkdir(parents=True, exist_ok=True)
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
            run, expected = source.run, f"{short_name(recipe.base)}, {recipe.summary}"
            raise ResultsError(
                f"{source.path}: results of {short_name(run.base)} {run.label}; expected those of {expected}"
            )


def _is_of(run: Run, recipe: Recipe) -> bool:
    """By the recipe's hash; for a copy of the base elsewhere, which has another hash, by its name and the layers."""
    if run.pruning is None or run.pruning.recovered:
        return False
    same_base = short_name(run.base).lower() == short_name(recipe.base).lower()
    pruning = run.pruning
    others = (any(recipe.blocks), recipe.drop_experts)
    asked = (recipe.changes.computed, *others, recipe.checkpoint, recipe.quantization)
    done = (pruning.merged, pruning.linear_map, *pruning.left_out[1:], pruning.checkpoint, pruning.quantization)
    dropped_alone = not any(asked) and not any(done) and run.dropped == recipe.drop
    return run.pruning.recipe_hash == recipe.digest or (same_base and dropped_alone)


def _entries(runs: Sequence[Run]) -> dict[str, list[dict[str, object]]]:
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    found: dict[str, list[EvalResultEntry]] = {}
    for run in runs:
        for task in run.tasks.values():
            comparable = task.budget is None and not (task.votes or task.partial or run.control)
            there = _on_the_hub(task) if comparable else {}
            if there:
                entry = EvalResultEntry(
                    dataset_id=task.dataset, task_id=str(there["task_id"]), date=run.date, notes=_notes(run, task),
                    value=round((number(there.get("scale")) or 100) * task.accuracy.value, 4),
                )  # fmt: skip
                found.setdefault(task.benchmark, []).append(entry)
    return {benchmark: eval_result_entries_to_yaml(entries) for benchmark, entries in found.items()}


def _on_the_hub(task: TaskResult) -> Mapping[str, object]:
    """`metadata.hub` of the benchmark's YAML; empty if it has none, or the run was on another dataset."""
    for folder in (TASKS, *task_folders()):
        for path in folder.glob(f"*/{task.benchmark}.yaml"):
            content = yaml.load(path.read_text("utf-8"), yaml.BaseLoader)  # which runs nothing
            found = mapping(mapping(mapping(content).get("metadata")).get("hub"))
            if found.get("dataset") == task.dataset:
                return found
    return {}


def _notes(run: Run, task: TaskResult) -> str:
    software = f"lm-eval-tts {run.software.get('lm-eval-tts', '')}".strip()
    return f"no thinking budget, {task.repeats} samples, {software}, {run.engine}"


def card(runs: Sequence[Run]) -> str:
    """A section of a model card, between two comments."""
    rows = [_row(name, task) for run in runs for name, task in run.tasks.items()]
    date = max(run.date for run in runs)[:10]
    return "\n".join([
        START, "## Evaluation", "", f"By lm-eval-tts, {date}; accuracies with 95% intervals.",
        "", markdown_table(("task", "thinking budget", "accuracy", "questions x samples"), rows), END,
    ])  # fmt: skip


def _row(name: str, task: TaskResult) -> tuple[str, ...]:
    interval = accuracy_interval(task)
    shown = f"{100 * interval.estimate:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    return f"`{name}`", str(task.budget or "none"), shown, f"{task.questions} x {task.repeats}"


def write_card(path: Path, section: str) -> Path:
    """Put the section into a model card, in place of an earlier one; other text stays."""
    there = path.read_text("utf-8") if path.exists() else ""
    before, start, rest = there.partition(START)
    after = rest.partition(END)[2] if start else ""
    text = f"{before.rstrip()}\n\n{section}\n{after.lstrip()}" if there else f"{section}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def check_repository(name: str) -> None:
    """Refuse what can't be the name of a repository on the Hub, before a checkpoint is written for it.

    Raises:
        ArgumentError: it is none.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # its __all__ is lazy

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ArgumentError(f"--push {name}: {' '.join(str(error).split())}") from error


def push(folder: Path, repository: str, message: str, *, private: bool = False) -> str:
    """Upload a folder to a model repository, which is created if there is none; returns the address of the commit.

    The token is huggingface_hub's: that of `hf auth login`, or `HF_TOKEN`.

    Raises:
        ArgumentError: the Hub refuses, or cannot be reached; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        done = api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath, which changes
        reason = " ".join(str(error).split())[:300]
        raise ArgumentError(f"--push {repository}: {reason}; the checkpoint is in {folder}") from error
    return str(done.commit_url)
