"""Found, then lost: by budget, the shares of samples that are right, were right before, or never were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.analysis.found_lost import Traces, found_lost, rights
from lm_eval_ext.runs.run import Pruning, Run, layers
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.site.lines import Family
from lm_eval_ext.site.traces import TraceGroup


class FoundByBudget(BaseModel):
    """What became of right answers in one benchmark.

    Attributes:
        benchmark: its name.
        budgets: ascending; None for no limit.
        right, lost: shares of samples at each budget that are right, or were right at a smaller one and are not now.
        by_chance: share lost at the largest budget if the budgets had nothing to do with each other.
        questions, samples: how many.
        question_set, grader: what must be the same to be compared: hash of the questions, version of the grader.
    """

    model_config = ConfigDict(frozen=True)

    benchmark: str
    budgets: tuple[int | None, ...]
    right: tuple[float, ...]
    lost: tuple[float, ...]
    by_chance: float
    questions: int
    samples: int
    question_set: str = ""
    grader: int = 0

    def beside(self, other: FoundByBudget) -> bool:
        """Whether both are of the same questions and budgets, by the same grader."""
        return (self.benchmark, self.budgets, self.question_set, self.grader) == (
            other.benchmark, other.budgets, other.question_set, other.grader,
        )  # fmt: skip


def found_by_budget(group: TraceGroup, run: Run, rows: Mapping[str, Sequence[Sample]]) -> FoundByBudget | None:
    """The shares; None for a single budget, or if the budgets are not cuts of one trace."""
    tasks = run.tasks
    some = [rows[name] for name in group.tasks]
    if len(some) < 2 or len({len(one) for one in some}) > 1 or any(tasks[name].partial for name in group.tasks):
        return None
    try:
        right = np.array(
            [rights(question, run.thinking_format) for question in zip(*some, strict=True)], dtype=np.float64
        )
    except ValueError:  # not cuts of one trace, or gated
        return None
    budgets = tuple(tasks[name].budget for name in group.tasks)
    ids = tuple(row.id for row in some[0])
    before = np.concatenate([np.zeros_like(right[..., :1]), np.maximum.accumulate(right, axis=2)[..., :-1]], axis=2)
    return FoundByBudget(
        benchmark=group.name,
        budgets=budgets,
        right=tuple(map(float, right.mean((0, 1)))),
        lost=tuple(map(float, (before * (1 - right)).mean((0, 1)))),
        by_chance=found_lost(Traces(group.name, budgets, ids, right)).by_chance,
        questions=right.shape[0],
        samples=right.shape[1],
        question_set=tasks[group.tasks[-1]].question_set,
        grader=tasks[group.tasks[-1]].graded_by or 0,
    )


_MOST = 36  # models
_SHADES = 9


class Fates(NamedTuple):
    """One model's layers.

    Attributes:
        name, dropped, merged: its name, and its layers as text.
        of: all layers.
        shades: a shade and the SVG path of the layers that have it; from the method's scores, by their order.
        gone, into: paths of the dropped layers, and of those that others were merged into.
    """

    name: str
    dropped: str
    merged: str
    of: range
    shades: Sequence[tuple[int, str]]
    gone: str
    into: str


def fates_of(family: Family) -> list[Fates]:
    """The layers of each pruned model of a base."""
    return [
        _fates(str(family.names[entry.key]), pruning)
        for entry in family.entries[:_MOST]
        if (pruning := _pruning(entry)) is not None
    ]


def _pruning(entry: Entry) -> Pruning | None:
    pruning = entry.latest.pruning
    return pruning if pruning and pruning.dropped else None


def _fates(name: str, pruning: Pruning) -> Fates:
    into = sorted(int(layer) for layer in pruning.merged if layer.isdecimal() and int(layer) < pruning.depth)
    by_shade: dict[int, list[int]] = {}
    for layer, place in enumerate(_order(pruning.layer_scores)[: pruning.depth]):
        if place is not None:
            by_shade.setdefault(round(place * (_SHADES - 1)), []).append(layer)
    return Fates(
        name,
        layers(pruning.dropped),
        layers(into),
        range(pruning.depth),
        [(shade, _path(some, 1.0)) for shade, some in sorted(by_shade.items())],
        _path(pruning.dropped, 1.0),
        _path(into, 0.5),
    )


def _path(some: Iterable[int], height: float) -> str:
    return "".join(f"M{layer + 0.06:g} {1 - height:g}h.88v{height:g}h-.88z" for layer in some)


def _order(scores: Sequence[float | None]) -> list[float | None]:
    """Scores as ranks from 0 to 1, because methods differ in units and some scores span orders of magnitude."""
    known = sorted({score for score in scores if score is not None})
    places = {score: place / max(1, len(known) - 1) for place, score in enumerate(known)}
    return [None if score is None else places[score] for score in scores]
