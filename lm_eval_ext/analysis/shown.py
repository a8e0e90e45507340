"""What results hold, and what they lack for which command: `lm-eval-tts results show`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.run import TaskResult, accuracy_interval, told
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.wording import limit


class Lack(NamedTuple):
    """Something that results don't have, and what can't be done without it."""

    what: str
    without: str

    def __str__(self) -> str:
        return f"{self.what} ({self.without})"


def lacks(task: TaskResult, samples: list[Sample]) -> Iterator[Lack]:
    """What a result doesn't have.

    Args:
        task: the result.
        samples: its samples, none if they weren't saved.
    """
    if not task.scores:
        yield Lack("scores of questions", "a paired comparison, a verdict, diagnose")
        return
    if not task.question_set:
        yield Lack("texts or hashes that tell its questions apart", "compare")
    if not any(output.text for sample in samples for output in sample.outputs):
        yield Lack("texts", "diagnose, regrading")
    elif not all(sample.gold for sample in samples):
        yield Lack("gold answers", "regrading")
    if task.repeats > 1 and any(output.grade == "not told" for sample in samples for output in sample.outputs):
        yield Lack("grades of single samples", "pass@k, votes")


def shown(source: Source) -> Iterator[str]:
    """Lines about a run: the tool, the model, and each benchmark with its settings and what is missing."""
    run = source.run
    version = run.software.get(run.tool or "lm-eval", "")
    date = run.date[:10] or "no date"
    yield f"{source.path}"
    model = run.base if run.tool else f"{run.base}, {run.label}"
    yield f"  {run.tool or 'lm-eval'} {version or '(version not recorded)'}, {date}: {model}"
    for name, task in run.tasks.items():
        interval = accuracy_interval(task)
        budget = "" if "thinking_token_budget" in task.unknown or not task.budget else f", {limit(task.budget)}"
        of = f" of {task.of:,}" if task.partial else ""
        questions = (
            "an unknown number of questions" if "questions" in task.unknown else f"{task.questions:,}{of} questions"
        )
        samples = "1 sample" if task.repeats == 1 else f"{task.repeats} samples"
        yield (
            f"  {name}: {task.score} {100 * interval.estimate:.1f}% ({100 * interval.low:.1f} to "
            f"{100 * interval.high:.1f}), {questions} x {samples}{budget}"
        )
        if task.generation_kwargs:
            yield f"    asked: {told(task.generation_kwargs)}"
        if missing := list(lacks(task, source.samples(name))):
            yield f"    missing: {'; '.join(map(str, missing))}"
        if task.unknown:
            yield f"    not recorded: {', '.join(task.unknown)} (compare asks for --allow)"
