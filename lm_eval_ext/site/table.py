"""Runs side by side: one entry for each model and pruning, with what all its runs scored, under its dense base."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from lm_eval_ext.intervals import Interval, normal_interval
from lm_eval_ext.site.run import Run, TaskResult

UNLIMITED = 1 << 62  # sorts a task without a budget behind all that have one


class Scored(NamedTuple):
    """A task's result and the run it is of."""

    task: TaskResult
    run: Run

    @property
    def interval(self) -> Interval:
        """Accuracy with its 95% interval."""
        accuracy = self.task.accuracy
        return normal_interval(accuracy.value, accuracy.stderr or 0.0, self.task.questions)


@dataclass(frozen=True, eq=False)
class Entry:
    """A model, whole or pruned in one way; its runs are oldest first, and a later result replaces an earlier one."""

    base: str
    runs: tuple[Run, ...]

    @property
    def latest(self) -> Run:
        """The newest run."""
        return self.runs[-1]

    @property
    def label(self) -> str:
        """What tells it from the others of its base."""
        return self.latest.label

    @property
    def dense(self) -> bool:
        """Whether it is the whole model."""
        return self.latest.dense

    @property
    def key(self) -> str:
        """Names it among all entries."""
        return self.latest.id

    @cached_property
    def results(self) -> dict[str, dict[int, Scored]]:
        """By benchmark and thinking budget (`UNLIMITED` where there was none); whole runs before partial ones."""
        found: dict[str, dict[int, Scored]] = defaultdict(dict)
        for run in self.runs:
            for task in run.tasks.values():
                budget, one = task.budget or UNLIMITED, Scored(task, run)
                before = found[task.benchmark].get(budget)
                if before is None or _rank(one) >= _rank(before):
                    found[task.benchmark][budget] = one
        return dict(found)

    def best(self, benchmark: str) -> Scored | None:
        """The result at the largest budget there is; one without a budget only where there is no other."""
        by_budget = self.results.get(benchmark, {})
        limited = [budget for budget in by_budget if budget != UNLIMITED]
        return by_budget[max(limited)] if limited else by_budget.get(UNLIMITED)

    def budgets(self, benchmark: str) -> list[tuple[int, Scored]]:
        """Results by thinking budget, ascending."""
        return sorted((at, one) for at, one in self.results.get(benchmark, {}).items() if at != UNLIMITED)

    def votes(self, benchmark: str) -> Scored | None:
        """The result with the most samples a question that has pass@k."""
        found = [
            Scored(task, run)
            for run in self.runs
            for task in run.tasks.values()
            if task.benchmark == benchmark and any(name.startswith("pass@") for name in task.metrics)
        ]
        return max(found, key=lambda one: (not one.task.partial, one.task.repeats), default=None)


def _rank(one: Scored) -> tuple[bool, int]:
    """A whole run goes before a partial one, and one that votes (many samples, no budget) stands in for none."""
    return (not one.task.partial, one.task.repeats)


def entries(runs: Iterable[Run]) -> list[Entry]:
    """By base, the dense one first, then by number of dropped layers and method."""
    groups: dict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.date, run.id)):
        groups[_identity(run)].append(run)
    made = [Entry(some[0].base, tuple(some)) for some in groups.values()]
    return sorted(made, key=lambda entry: (entry.base.lower(), not entry.dense, len(entry.latest.dropped), entry.label))


def _identity(run: Run) -> tuple[object, ...]:
    pruning = run.pruning
    if pruning is None:
        return (run.base, (), (), "")
    merged = tuple(sorted(pruning.merged.items()))
    return (run.base, pruning.dropped, merged, pruning.recovered)


def retention(entry: Entry, dense: Entry | None, benchmark: str) -> float | None:
    """Accuracy as a share of the dense base's, at the same budget; None where that is not known or 0."""
    own, whole = entry.best(benchmark), dense.best(benchmark) if dense else None
    if own is None or whole is None or own.task.budget != whole.task.budget or not whole.task.accuracy.value:
        return None
    return own.task.accuracy.value / whole.task.accuracy.value
