"""Regrades a published run: its `run.json` and samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.grading import COMPARED, GRADER_VERSION
from lm_eval_ext.runs.load import Source, samples_path
from lm_eval_ext.runs.publish import is_gated
from lm_eval_ext.runs.regrading.outcome import TaskRegrading, why_kept
from lm_eval_ext.runs.regrading.texts import Graded, Kept, Rules, graded_again, rules_of
from lm_eval_ext.runs.run import Run, Score, TaskResult
from lm_eval_ext.runs.run_file import write_run
from lm_eval_ext.runs.samples import Sample, pack
from lm_eval_ext.runs.untrusted import sequence
from lm_eval_ext.statistics.intervals import standard_error

Declared = Callable[[str], Mapping[str, object] | None]  # configuration of a task by name, if we have it


def regrade_run(source: Source, declared: Declared, *, write: bool) -> list[TaskRegrading]:
    """Regrade the tasks of a published run; with `write`, replaces it if a task was regraded.

    Raises:
        ResultsError: a task cannot be regraded; names the file and the task.
    """
    run, samples, outcomes = regraded(source, declared)
    if write and samples:
        for task, packed in samples.items():
            samples_path(source.path.parent, task).write_bytes(packed)
        write_run(run, source.path.parent)
    return outcomes


def regraded(source: Source, declared: Declared) -> tuple[Run, dict[str, bytes], list[TaskRegrading]]:
    """The run graded by the current grader, its new samples files by task, and the outcome for each of our tasks."""
    tasks, files, outcomes = dict(source.run.tasks), {}, []
    for name, task in source.run.tasks.items():
        if task.graded_by is None:
            continue
        config = declared(name)
        reason = why_kept(task.graded_by) or _why_not(source, name, config)
        if reason or config is None:
            outcomes.append(TaskRegrading(name, task.score, task.accuracy.value, kept_because=reason))
            continue
        before = source.samples(name)
        place = f"{source.path}: tasks.{name}"
        rows = _rows(before, rules_of(config, task.filter, place), place)
        tasks[name], files[name] = _summed_up(task, rows), pack(rows)
        changed = sum(old.score != new.score for old, new in zip(before, rows, strict=True))
        after = tasks[name].accuracy.value
        outcomes.append(TaskRegrading(name, task.score, task.accuracy.value, after, changed, len(rows)))
    hashes = {name: hashlib.sha256(packed).hexdigest() for name, packed in files.items()}
    run = source.run.model_copy(update={"tasks": tasks, "samples": {**source.run.samples, **hashes}})
    return run, files, outcomes


def _why_not(source: Source, task: str, config: Mapping[str, object] | None) -> str:
    if is_gated(source, task):
        return f"gated, graded by version {source.run.tasks[task].graded_by}; its texts are not published"
    if task not in source.run.samples:
        return "its samples were not published"
    return "" if config else "not a task of this registry; regrade its output folder and publish that"


def _rows(rows: Sequence[Sample], rules: Rules, place: str) -> list[Sample]:
    graded = graded_again([_kept(row, place) for row in rows], rules, place)
    return [_row(row, new) for row, new in zip(rows, graded, strict=True)]


def _kept(row: Sample, place: str) -> Kept:
    texts, answers = ([getattr(one, part) for one in row.outputs] for part in ("text", "answer"))
    if row.gold is None or not texts or None in texts or None in answers:
        raise ResultsError(f"{place}: question {row.id} has no gold answer, or a sample without text or answer")
    return Kept(row.gold, texts, answers, row.metrics.get("thinking_tokens"))


def _row(row: Sample, new: Graded) -> Sample:
    scores = {name: value for name, value in new.scores.items() if name in row.metrics}
    reasons = sequence(new.scores.get("graded")) or [_reason(answer, row.gold) for answer in new.answers]
    outputs = [
        one.model_copy(update={"answer": answer, "grade": reason})
        for one, answer, reason in zip(row.outputs, new.answers, reasons, strict=True)
    ]
    update = {"score": new.scores["acc"], "metrics": {**row.metrics, **scores}, "outputs": tuple(outputs)}
    return row.model_copy(update=update)


def _reason(letter: str, gold: str | None) -> str:
    return "correct" if letter == gold else "wrong" if letter else "no answer"


def _summed_up(task: TaskResult, rows: Sequence[Sample]) -> TaskResult:
    """The task with scores averaged from its samples."""
    metrics = {
        name: _mean(told, [row.metrics[name] for row in rows if name in row.metrics])
        for name, told in task.metrics.items()
    }
    if "graded" in metrics:
        compared = [fmean(one.grade in COMPARED for one in row.outputs) for row in rows]
        metrics["graded"] = _mean(task.metrics["graded"], compared)
    scores = tuple(row.score for row in rows)
    return task.model_copy(update={"metrics": metrics, "scores": scores, "grader_version": GRADER_VERSION})


def _mean(told: Score, values: Sequence[float]) -> Score:
    """The new mean; the old one if the samples lack the metric."""
    if not values:
        return told
    stderr = told.stderr if told.stderr is None or len(values) < 2 else standard_error(values)
    return Score(value=sum(values) / len(values), stderr=stderr)
