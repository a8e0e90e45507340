"""Scores of a published run, computed again from its samples by our own grading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lm_eval_ext.grading.extract import Extractor, choice_letter
from lm_eval_ext.grading.grade import grades
from lm_eval_ext.site.load import Source
from lm_eval_ext.site.publish import Finding
from lm_eval_ext.site.run import TaskResult
from lm_eval_ext.site.samples import Sample


def disagreements(source: Source) -> Iterator[Finding]:
    """Tasks whose scores are not those that their samples are worth.

    Tasks of ours are graded again from the texts; of gated ones, whose texts are not published, and of others' tasks
    the grades and scores are compared alone.
    """
    for name in source.run.samples:
        rows = source.samples(name)
        wrong = [
            row for row, score in zip(rows, _scores(source.run.tasks[name], rows), strict=True) if row.score != score
        ]
        if wrong:
            yield Finding(
                source.path,
                f"tasks.{name}: {len(wrong)} of {len(rows)} questions score otherwise when graded again, "
                f"the first is question {wrong[0].id}",
            )


def can_be_verified(source: Source) -> bool:
    """Whether every task has samples, for its scores to be computed again."""
    return set(source.run.samples) == set(source.run.tasks)


def _scores(task: TaskResult, rows: Sequence[Sample]) -> list[float]:
    if not {"answered", "acc"} <= set(task.metrics) or not all(row.outputs for row in rows):
        return [row.score for row in rows]
    if any(one.text is None or row.gold is None for row in rows for one in row.outputs):
        return [_share([one.grade == "correct" for one in row.outputs]) for row in rows]
    answers = Extractor().answers([[one.text or "" for one in row.outputs] for row in rows])
    if "graded" in task.metrics:
        pairs = [(row.gold or "", answer) for row, some in zip(rows, answers, strict=True) for answer in some]
        verdicts = iter([grade.correct for grade in grades(pairs)])
        return [_share([next(verdicts) for _ in row.outputs]) for row in rows]
    return [
        _share([choice_letter(answer) == row.gold for answer in some]) for row, some in zip(rows, answers, strict=True)
    ]


def _share(verdicts: Sequence[bool]) -> float:
    return sum(verdicts) / len(verdicts)
