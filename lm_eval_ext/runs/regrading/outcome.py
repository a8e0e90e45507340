"""The outcome of regrading one task."""

from __future__ import annotations

from typing import NamedTuple

from lm_eval_ext.grading import GRADER_VERSION


class TaskRegrading(NamedTuple):
    """The outcome of regrading one task of one file.

    Attributes:
        task: its name.
        metric: the one used as its accuracy.
        before, after: its values; `after` is None if the task keeps its scores.
        changed: number of questions whose score changed.
        questions: number of all questions.
        kept_because: why it keeps its scores.
    """

    task: str
    metric: str
    before: float
    after: float | None = None
    changed: int = 0
    questions: int = 0
    kept_because: str = ""

    def __str__(self) -> str:
        if self.after is None:
            return f"{self.task}: {self.metric} {self.before:.4f} kept: {self.kept_because}"
        moved = f"{self.changed} of {self.questions} questions" if self.changed else "no question"
        return f"{self.task}: {self.metric} {self.before:.4f} -> {self.after:.4f}, {moved} changed"


def why_kept(version: int) -> str:
    """Why a task graded by this version is not regraded; empty if it should be."""
    if version == GRADER_VERSION:
        return f"already graded by version {version}"
    if version > GRADER_VERSION:
        return f"graded by version {version}, newer than version {GRADER_VERSION} of this lm-eval-tts"
    return ""
