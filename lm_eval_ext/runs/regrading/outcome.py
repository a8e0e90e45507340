"""What grading a task again came to."""

from __future__ import annotations

from typing import NamedTuple

from lm_eval_ext.grading import GRADER_VERSION


class Outcome(NamedTuple):
    """One task of one file.

    Attributes:
        task: its name.
        metric: that is its accuracy.
        before, after: its values; `after` is None where the task keeps its scores.
        changed: questions whose score is another.
        questions: all of them.
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
            return f"{self.task}: {self.metric} {self.before:.4f} is kept: {self.kept_because}"
        moved = f"{self.changed} of {self.questions} questions" if self.changed else "no question"
        return f"{self.task}: {self.metric} {self.before:.4f} -> {self.after:.4f}, {moved} changed"


def why_kept(version: int | None) -> str:
    """Why a task of this grader's version is not graded again; empty where it is to be."""
    if version is None:
        return "another grader than ours gave it"
    if version == GRADER_VERSION:
        return f"graded by version {version} already"
    if version > GRADER_VERSION:
        return f"graded by version {version}, newer than this lm-eval-tts, which has {GRADER_VERSION}"
    return ""
