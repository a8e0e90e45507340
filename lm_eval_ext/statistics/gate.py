"""The verdict on a smaller model: whether it keeps a share of the base model's accuracy.

"Kept" needs the lower end of the 95% interval to reach the share in every row, without correction: claiming all of
several statements at once, each at level 5%, is wrong in at most 5% (intersection-union; Berger 1982,
"Multiparameter Hypothesis Testing and Acceptance Sampling"). "Lost" needs the upper end to be below the share in any
row, corrected for their number by Holm's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from lm_eval_ext.statistics.intervals import checked
from lm_eval_ext.statistics.paired import holm
from lm_eval_ext.statistics.power import kept_bounds

Verdict = Literal["kept", "lost", "undecided"]

_LEVEL = 0.05
_STEPS = 40  # halvings: the p-value is exact to 1e-12


class GateRow(NamedTuple):
    """Scores of both models on the questions of one task, and the score of guessing."""

    scores: Sequence[float]
    base: Sequence[float]
    chance: float = 0.0


class Gate(NamedTuple):
    """The verdict on all rows, and on each: None where the base is not above chance, so nothing can be measured."""

    verdict: Verdict
    rows: tuple[Verdict | None, ...]


def gate(rows: Sequence[GateRow | None], keep: float) -> Gate:
    """Decide whether a model keeps a share of the base's accuracy in every row.

    Args:
        rows: the gated tasks; None for one in which nothing is measurable.
        keep: the share, such as 0.95.

    Raises:
        ValueError: unless 0 < keep < 1.

    >>> gate([GateRow([0.1] * 60, [0.9] * 60)], 0.9).verdict
    'lost'
    """
    if not 0 < keep < 1:
        raise ValueError(f"keep={keep}; expected a share between 0 and 1")
    found: list[Verdict | None] = [None] * len(rows)
    bounds = {index: _bounds(row, 1 - _LEVEL) for index, row in enumerate(rows) if row is not None}
    measurable = [index for index, (low, _) in bounds.items() if not np.isnan(low)]
    corrected = holm([loss_p_value(row, keep) for index in measurable if (row := rows[index]) is not None])
    for index, p_value in zip(measurable, corrected, strict=True):
        found[index] = "lost" if p_value <= _LEVEL else "kept" if bounds[index][0] >= keep else "undecided"
    verdicts = [found[index] for index in measurable]
    if "lost" in verdicts:
        return Gate("lost", tuple(found))
    return Gate("kept" if verdicts and set(verdicts) == {"kept"} else "undecided", tuple(found))


def loss_p_value(row: GateRow, keep: float) -> float:
    """The lowest level at which the interval of the ratio ends below `keep`; 1 if it never does."""
    if not _ends_below(row, keep, 0.0):
        return 1.0
    below, above = 0.0, 1.0  # confidence levels; the interval ends below `keep` at the first
    for _ in range(_STEPS):
        middle = (below + above) / 2
        if _ends_below(row, keep, middle):
            below = middle
        else:
            above = middle
    return 1 - below


def _ends_below(row: GateRow, keep: float, confidence: float) -> bool:
    return bool(_bounds(row, confidence)[1] < keep)


def _bounds(row: GateRow, confidence: float) -> tuple[float, float]:
    scores, base = checked(row.scores), checked(row.base)
    low, high = kept_bounds(scores[None], base[None], row.chance, confidence)
    return float(low[0]), float(high[0])
