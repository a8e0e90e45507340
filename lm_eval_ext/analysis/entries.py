"""Groups runs into entries: one per model and pruning, with the results of all its runs, under its dense base."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from lm_eval_ext.analysis.evaluated import pooled
from lm_eval_ext.analysis.matching import differing, ranked_with, required
from lm_eval_ext.runs.run import TIERS, Run, TaskResult, accuracy_interval
from lm_eval_ext.statistics.intervals import Interval

UNLIMITED, VOTES = 1 << 61, 1 << 62  # stand in for the budget if unlimited, or if samples vote (plus their number)


class Scored(NamedTuple):
    """A task's result and the run it belongs to; the newest one, if seeds are put together."""

    task: TaskResult
    run: Run

    @property
    def weight(self) -> tuple[bool, int, int]:
        """Sort key for choosing among results of one model at one `place`."""
        return not self.task.partial, self.task.graded_by or 0, TIERS.index(self.run.tier)

    @property
    def name(self) -> str:
        """The task's name in its run."""
        here = self.task.benchmark, place(self.task)
        return next(name for name, task in self.run.tasks.items() if (task.benchmark, place(task)) == here)

    @property
    def interval(self) -> Interval:
        """Accuracy with its 95% interval."""
        return accuracy_interval(self.task)


def place(task: TaskResult) -> int:
    """Position of a result within its benchmark: its budget, `UNLIMITED`, or `VOTES` plus the number of votes."""
    return VOTES + task.repeats if task.votes else task.budget or UNLIMITED


@dataclass(frozen=True, eq=False)
class Entry:
    """A model, dense or pruned in one way, and its runs, oldest first."""

    base: str
    runs: tuple[Run, ...]
    label: str

    @property
    def latest(self) -> Run:
        """The newest run."""
        return self.runs[-1]

    @property
    def dense(self) -> bool:
        """Whether it is the base model."""
        return self.latest.dense

    @property
    def whole(self) -> bool:
        """Whether it is the base model, however it was run."""
        return self.latest.whole

    @property
    def smaller(self) -> bool:
        """Whether it is a smaller model, run as usual."""
        return not self.latest.whole and not self.latest.control

    @property
    def key(self) -> str:
        """Unique key among all entries."""
        return self.latest.id

    @cached_property
    def results(self) -> dict[str, dict[int, Scored]]:
        """The preferred results by benchmark and `place`, with the samples of all seeds put together."""
        return {
            benchmark: {at: Scored(pooled(some), some[0].run) for at, some in by_place.items()}
            for benchmark, by_place in self._preferred.items()
        }

    @cached_property
    def single(self) -> dict[str, dict[int, Scored]]:
        """The preferred result of one run by benchmark and `place`; the newest, if there are several seeds."""
        return {
            benchmark: {at: some[0] for at, some in by_place.items()} for benchmark, by_place in self._preferred.items()
        }

    @cached_property
    def _preferred(self) -> dict[str, dict[int, list[Scored]]]:
        """Results by benchmark and `place`, newest first: complete before partial, then by grader and tier."""
        found: dict[str, dict[int, list[Scored]]] = defaultdict(lambda: defaultdict(list))
        for run in reversed(self.runs):
            for task in run.tasks.values():
                found[task.benchmark][place(task)].append(Scored(task, run))
        return {
            benchmark: {
                at: [one for one in some if one.weight == max(one.weight for one in some)]
                for at, some in by_place.items()
            }
            for benchmark, by_place in found.items()
        }

    def best(self, benchmark: str) -> Scored | None:
        """The result to show: complete before partial, then by largest budget; unlimited only if there is no other."""
        by_budget = self.results.get(benchmark, {})

        def preference(at: int) -> tuple[bool, int]:
            return not by_budget[at].task.partial, at if at < UNLIMITED else -at

        return by_budget[max(by_budget, key=preference)] if by_budget else None

    def budgets(self, benchmark: str) -> list[tuple[int, Scored]]:
        """Results by thinking budget, ascending: the complete ones if there are at least two, else the partial ones."""
        found = sorted((at, one) for at, one in self.results.get(benchmark, {}).items() if at < UNLIMITED)
        whole = [(at, one) for at, one in found if not one.task.partial]
        return whole if len(whole) > 1 else [(at, one) for at, one in found if one.task.partial]

    def votes(self, benchmark: str) -> Scored | None:
        """The result with the most votes, complete before partial."""
        found = self.results.get(benchmark, {})
        most = max((at for at in found if at >= VOTES), key=lambda at: (not found[at].task.partial, at), default=None)
        return None if most is None else found[most]

    def tier(self, shown: Iterable[Scored | None]) -> str:
        """The lowest tier among the runs of some results."""
        return min((one.run.tier for one in shown if one), key=TIERS.index, default="reported")


def entries(runs: Iterable[Run]) -> list[Entry]:
    """Entries sorted by base, dense first, then by number of dropped layers and method; labels are unique per base."""
    groups: dict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.date, run.id)):
        groups[_identity(run)].append(run)
    labels = Counter((some[-1].base, some[-1].label) for some in groups.values())
    made = [Entry(some[-1].base, tuple(some), _label(some[-1], labels)) for some in groups.values()]
    return sorted(made, key=lambda entry: (entry.base.lower(), not entry.dense, len(entry.latest.dropped), entry.label))


def _label(run: Run, labels: Counter[tuple[str, str]]) -> str:
    if labels[run.base, run.label] == 1:
        return run.label
    inexact = "" if run.settings.get("token_exact", "True") == "True" else "budgets approximated"
    recipe = run.pruning.recipe_hash[:6] if run.pruning else ""
    parts = [" ".join(map(str, run.dropped)), run.revision, recipe, inexact]
    return f"{run.label} ({', '.join(part for part in parts if part)})"


def _identity(run: Run) -> tuple[object, ...]:
    """Identity of a run's model; `hf`, and `pruned-hf` with nothing dropped, are the same."""
    pruning = run.pruning
    changes = (*sorted(pruning.merged.items()), pruning.linear_map) if pruning else ("",)
    weights = run.fingerprint if "/" not in run.base else ""  # a folder's name doesn't identify a model
    recovered = pruning.recovered if pruning else ""
    blocks = (pruning.dropped_attention, pruning.dropped_mlp) if pruning else ((), ())
    exact = run.settings.get("token_exact", "True")  # approximated budgets are another measurement
    return (run.base, run.base_revision, run.varied, run.dropped, *blocks, changes, recovered, weights, exact)


def side_by_side(one: Entry, other: Entry, benchmark: str) -> tuple[Scored, Scored] | None:
    """Two entries' complete results without a limit, or at the largest budget that both have; None if they share none.

    This is the row by which `lm-eval-tts compare` decides; votes never do.
    """
    ours, theirs = one.results.get(benchmark, {}), other.results.get(benchmark, {})
    both = [at for at in ours if at < VOTES and at in theirs and comparable(ours[at], theirs[at])]
    return (ours[max(both)], theirs[max(both)]) if both else None


def comparable(one: Scored, other: Scored) -> bool:
    """Whether both are on the whole benchmark and agree in all that a comparison needs, but for the questions."""
    if one.task.partial or other.task.partial:
        return False
    pairs = zip(required(one.task, one.run), required(other.task, other.run), strict=True)
    return not any(found for pair in pairs if pair[0].what != "questions" for found in differing(*pair))


def protocol(one: Scored) -> tuple[int, bool, tuple[str, ...]]:
    """What must match to be ranked together, the grader's version first: the newest is preferred."""
    task = one.task
    templated = task.chat_template and not task.benchmark.startswith("tts_")
    return task.graded_by or 0, templated, ranked_with(task, one.run)
