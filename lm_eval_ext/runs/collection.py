"""Several runs, as a sequence or a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from lm_eval_ext.runs.run import Run, TaskResult
from lm_eval_ext.statistics.intervals import Interval, interval_from_stderr, mean_interval

if TYPE_CHECKING:
    import pandas

    from lm_eval_ext.runs.load import Source


_SHOWN = 20  # runs that are listed


class Runs(tuple[Run, ...]):
    """Runs, in order."""

    _sources: Sequence[Source]

    def __new__(cls, runs: Iterable[Run], sources: Sequence[Source] = ()) -> Runs:  # noqa: D102
        self = super().__new__(cls, runs)
        self._sources = sources
        return self

    def to_frame(self, *, samples: bool = False) -> pandas.DataFrame:
        """One row per task: the model, the accuracy with its 95% interval, and every metric.

        Args:
            samples: instead, one row per sample of a question, with its text, answer and grade; only for runs that were
                read with their samples.
        """
        import pandas

        rows = self._sample_rows() if samples else (_row(run, name) for run in self for name in run.tasks)
        frame = pandas.DataFrame(list(rows))
        return frame.astype({"budget": "Int64"}) if "budget" in frame else frame  # integers, or missing

    def _sample_rows(self) -> Iterator[dict[str, object]]:
        for source in self._sources:
            for task in source.run.samples:
                for question in source.samples(task):
                    for number, output in enumerate(question.outputs):
                        yield {
                            "run": source.run.id, "model": source.run.label, "task": task, "question": question.id,
                            "sample": number, "grade": output.grade, "answer": output.answer, "gold": question.gold,
                            "text": output.text,
                        }  # fmt: skip

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))

    def __repr__(self) -> str:
        shown = "".join(f"\n  {run.id}: {run.base} {run.label}, {len(run.tasks)} tasks" for run in self[:_SHOWN])
        more = f"\n  and {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        return f"<{len(self)} runs:{shown}{more}>"


def _row(run: Run, name: str) -> dict[str, object]:
    task = run.tasks[name]
    interval = accuracy_interval(task)
    return {
        "run": run.id, "base": run.base, "model": run.label, "dropped": len(run.dropped), "task": name,
        "benchmark": task.benchmark, "budget": task.budget, "accuracy": task.accuracy.value, "low": interval.low,
        "high": interval.high, "questions": task.questions, "samples": task.repeats,
        **{metric: score.value for metric, score in task.metrics.items() if metric != task.score},
    }  # fmt: skip


def accuracy_interval(task: TaskResult) -> Interval:
    """A task's accuracy, with the interval expected for new questions of the same kind."""
    accuracy = task.accuracy
    if not task.scores:
        return interval_from_stderr(accuracy.value, accuracy.stderr, task.questions)
    return Interval(accuracy.value, *_ends(task.scores))


@lru_cache(maxsize=1 << 16)
def _ends(scores: tuple[float, ...]) -> tuple[float, float]:
    """Both ends of the interval; a site asks for those of one result on many pages."""
    interval = mean_interval(scores)
    return interval.low, interval.high
