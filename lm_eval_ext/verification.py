"""Scores of a published run, computed again from its samples by the metrics that lm-eval calls.

Tasks of ours are graded again: the answers that were found, provided that each one that counts as right is found in its
text as well. Of gated tasks, whose texts are not published, and of others' tasks the grades and scores are added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Literal

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.site.load import Source
from lm_eval_ext.site.publish import Finding, shown_though_gated
from lm_eval_ext.site.run import TaskResult
from lm_eval_ext.site.samples import Sample, question_set

CLOSE = 1e-6  # for means of means


def recomputed(source: Source, *, regrade: bool = True) -> Iterator[Finding]:
    """What a run claims beyond its samples; nothing if every number follows from them.

    Args:
        source: the run.
        regrade: grade every answer again; else scores are only added up.
    """
    for name, task in source.run.tasks.items():
        if name not in source.run.samples:
            continue
        try:
            rows = source.samples(name)
        except ResultsError as error:
            yield Finding(source.path, str(error))
            continue
        yield from shown_though_gated(source, name, rows)
        faults = [*_added_up(task, rows), *(_graded_again(task, rows) if regrade and _is_ours(name, task) else ())]
        yield from (Finding(source.path, f"tasks.{name}: {fault}") for fault in faults[:1])


def highest_tier(source: Source, faults: Sequence[Finding]) -> Literal["reported", "verified"]:
    """`verified` if every score of ours follows from samples; other tasks' scores cannot be graded again."""
    run = source.run
    ours = all(_is_ours(name, task) and name in run.samples for name, task in run.tasks.items())
    return "verified" if ours and not faults else "reported"


def _is_ours(name: str, task: TaskResult) -> bool:
    return name.startswith("tts_") and {"acc", "answered"} <= set(task.metrics) and task.score == "acc"


def _added_up(task: TaskResult, rows: Sequence[Sample]) -> Iterator[str]:
    scores = [row.score for row in rows]
    if not rows or tuple(scores) != task.scores or question_set(rows) != task.question_set:
        yield "scores: are not those of its samples"
    elif abs(fmean(scores) - task.accuracy.value) > CLOSE:
        yield f"{task.score}={task.accuracy.value} is not {fmean(scores):.6f}, the mean of its scores"
    elif task.accuracy.stderr is not None and len(scores) > 1:
        stderr = stdev(scores) / sqrt(len(scores))
        if abs(stderr - task.accuracy.stderr) > 1e-4:
            yield f"{task.score}: standard error {task.accuracy.stderr} is not {stderr:.6f}, that of its scores"


def _graded_again(task: TaskResult, rows: Sequence[Sample]) -> Iterator[str]:
    if any(len(row.outputs) != task.repeats for row in rows):
        yield f"repeats={task.repeats}, but not every question has as many samples"
        return
    again = [_by_metric(task, row, answers) for row, answers in zip(rows, _answers(task, rows), strict=True)]
    wrong = [row for row, scores in zip(rows, again, strict=True) if abs(scores["acc"] - row.score) > CLOSE]
    if wrong:
        yield (
            f"{len(wrong)} of {len(rows)} questions score otherwise when graded again, the first is question "
            f"{wrong[0].id}"
        )
    for name in again[0]:
        mean = fmean(scores[name] for scores in again)
        if name in task.metrics and abs(task.metrics[name].value - mean) > CLOSE:
            yield f"{name}={task.metrics[name].value} is {mean:.6f} when computed again"


def _answers(task: TaskResult, rows: Sequence[Sample]) -> list[list[str] | None]:
    """Answers that count, by question and sample; None where texts are not published."""
    from lm_eval_ext.grading.extract import Extractor, choice_letter
    from lm_eval_ext.grading.grade import grades

    math = "graded" in task.metrics
    open_rows = [row for row in rows if _is_open(row)]
    texts = Extractor(("boxed", "declared", "last_expression")).answers(
        [[one.text or "" for one in row.outputs] for row in open_rows]
    )
    if not math:
        texts = [[choice_letter(text) for text in some] for some in texts]
    held = [
        (row.gold or "", found, one) for row, some in zip(open_rows, texts, strict=True)
        for found, one in zip(some, row.outputs, strict=True)
    ]  # fmt: skip
    right = grades([(gold, found) for gold, found, _ in held]) if math else None
    counted = iter(
        one.answer or "" if one.grade != "correct" or (right[at].correct if right else found == gold) else ""
        for at, (gold, found, one) in enumerate(held)
    )
    return [[next(counted) for _ in row.outputs] if _is_open(row) else None for row in rows]


def _is_open(row: Sample) -> bool:
    return row.gold is not None and all(one.text is not None and one.answer is not None for one in row.outputs)


def _by_metric(task: TaskResult, row: Sample, answers: list[str] | None) -> Mapping[str, float]:
    from lm_eval_ext.grading.estimators import pass_at_k
    from lm_eval_ext.grading.metrics import choice_match, math_verify

    votes = any(name.startswith(("pass@", "maj@")) for name in task.metrics)
    if answers is not None:
        metric: Any = math_verify if "graded" in task.metrics else choice_match
        scores: dict[str, float] = metric([row.gold], [answers], votes=votes)
        return scores
    right, samples = sum(one.grade == "correct" for one in row.outputs), len(row.outputs)
    ks = [int(name[5:]) for name in task.metrics if name.startswith("pass@") and name[5:].isdecimal()]
    return {"acc": right / samples} | {f"pass@{k}": pass_at_k(samples, right, k) for k in ks if k <= samples}
