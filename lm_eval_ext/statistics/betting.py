"""Tests that are valid whenever one looks: whether a model keeps a share of its base's accuracy, unit by unit.

A gambler who starts with 1 bets on each unit that its value is above zero, and never more than can be lost. If the
mean is at most zero, no way to bet makes the expected wealth grow, so it ever reaches 1/a with a probability of at most
a (Ville 1939). Looking after every unit, stopping and going on as one likes change nothing about that. The wealth is an
*e-value*: evidence of which an average, under any dependence, is evidence too.

Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", arXiv 2010.09686; Wang
and Ramdas 2022, "False discovery rate control with e-values", arXiv 2009.02824; Vovk and Wang 2021, "E-values:
Calibration, combination and applications", arXiv 1912.06116.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lm_eval_ext.statistics.gate import Verdict
from lm_eval_ext.statistics.intervals import Floats, Interval

if TYPE_CHECKING:
    import pandas

    from lm_eval_ext.statistics.wealth_plot import WealthPlot

_FRACTIONS = (np.arange(25) + 0.5) / 25  # of the largest bet that can't lose everything
_ADAPTIVE = 0.5  # share of the wealth that is bet by what the units showed so far; the rest, evenly by each fraction
_MOST = 0.95  # largest fraction of the adaptive bet
_LEAST = 1e-6  # where a unit can't be below zero, a bet is limited by this instead
_MOST_SHARE = 2.0  # largest share kept that an interval names
_COARSE, _FINE = 200, 20  # steps in which its ends are looked for


class BettingTest:
    """Tests whether the mean of bounded units is above zero, by the wealth of a gambler who bets on it.

    Half of the wealth is spread over fixed bets, the other half is bet by mean and variance of the units so far
    ("aGRAPA" in the source). A unit may have several independent parts, each with a mean of its own, all of which get
    the same bet: by the inequality of the means, the product of their factors is still fair if the mean over all parts
    is zero.

    Args:
        least: magnitude of the smallest value that a unit can have, more than 0; an array for several tests at once,
            which see units of the same shape.

    >>> test = BettingTest(1.0)
    >>> for _ in range(10):
    ...     test.update(0.5)
    >>> test.wealth > 20
    True
    """

    def __init__(self, least: ArrayLike) -> None:
        self.least: Floats = np.asarray(least, dtype=np.float64)
        if not (self.least > 0).all():
            raise ValueError(f"least={self.least}; expected how far a unit can be below zero, more than 0")
        self._fixed = np.zeros((*self.least.shape, len(_FRACTIONS)))  # logarithms of wealth
        self._adaptive = np.zeros(self.least.shape)
        self._count = 0
        self._sum, self._squares = np.zeros(self.least.shape), np.zeros(self.least.shape)

    @property
    def log_wealth(self) -> Floats:
        """Natural logarithm of the wealth, of the tests' shape."""
        top = self._fixed.max(-1)
        fixed = top + np.log(np.exp(self._fixed - top[..., None]).mean(-1))
        found: Floats = np.logaddexp(math.log(_ADAPTIVE) + self._adaptive, math.log(1 - _ADAPTIVE) + fixed)
        return found

    @property
    def wealth(self) -> float:
        """The wealth of a single test, an e-value against a mean of at most zero."""
        return float(np.exp(self.log_wealth))

    def update(self, unit: ArrayLike, *, parts: bool = False) -> None:
        """Bet on a unit.

        Args:
            unit: its value, of the tests' shape.
            parts: whether the last axis holds independent parts of the unit.

        Raises:
            ValueError: a value is below what was said to be the least.
        """
        values = np.asarray(unit, dtype=np.float64)
        values = values if parts else values[..., None]
        if (values < -self.least[..., None] - 1e-9).any() or not np.isfinite(values).all():
            raise ValueError(f"a unit of {values.min()}; expected at least {-self.least.max()}")
        bets = (_FRACTIONS / self.least[..., None])[..., None]
        self._fixed = self._fixed + np.log1p(bets * values[..., None, :]).sum(-1)
        self._adaptive = self._adaptive + np.log1p(self.bet[..., None] * values).sum(-1)
        self._count += values.shape[-1]
        self._sum, self._squares = self._sum + values.sum(-1), self._squares + (values**2).sum(-1)

    def copies(self, count: int) -> BettingTest:
        """As many tests that stand where this single one does, to go on with different units."""
        found = BettingTest(np.full(count, self.least))
        found._fixed, found._adaptive = found._fixed + self._fixed, found._adaptive + self._adaptive
        found._sum, found._squares = found._sum + self._sum, found._squares + self._squares
        found._count = self._count
        return found

    @property
    def bet(self) -> Floats:
        """What the adaptive half bets on the next unit: what was best so far, with one unit more of large variance."""
        mean = self._sum / (self._count + 1)
        square = (self._squares + self.least**2 / 4) / (self._count + 1)
        found: Floats = np.clip(mean / square, 0, _MOST / self.least)
        return found


def reaches(units: Iterable[ArrayLike], least: float, threshold: float, *, parts: bool = False) -> bool:
    """Whether a bet that the mean of units is above zero ever reaches a wealth."""
    test = BettingTest(least)
    for unit in units:
        test.update(unit, parts=parts)
        if test.wealth >= threshold:
            return True
    return False


class KeptTest:
    """Decides, one unit at a time, whether a model keeps a share of its base's accuracy above chance.

    With c and b the shares of right samples of a question, g the score of guessing on it and S the share to keep, `d =
    c - S b - (1 - S) g` has a mean of at least zero exactly if the model keeps S. Two tests by betting ask whether it
    is above and below, each at half the error, so that `kept` and `lost` hold at every look. Both wait until a third
    bet has shown that the base is above chance; before, there is nothing that could be kept.

    Args:
        keep: the share S, such as 0.9.
        chance: accuracy of guessing.
        error: probability of a wrong verdict, over all looks together.

    Raises:
        ValueError: a number is out of its range.

    >>> test = KeptTest(0.9)
    >>> while test.update(score=0.0, base=1.0) == "undecided":
    ...     pass
    >>> test.verdict, test.units
    ('lost', 8)
    """

    def __init__(self, keep: float, *, chance: float = 0.0, error: float = 0.05) -> None:
        if not 0 < keep <= 1 or not 0 <= chance < 1 or not 0 < error < 1:
            raise ValueError(
                f"keep={keep}, chance={chance}, error={error}; expected a share to keep and an error between 0 and 1, "
                "and a chance from 0 to less than 1"
            )
        self.keep, self.chance, self.error = keep, chance, error
        self.verdict: Verdict = "undecided"
        self.least_kept, self.least_lost = keep + (1 - keep) * chance, 1 - (1 - keep) * chance
        self._above, self._below = BettingTest(self.least_kept), BettingTest(self.least_lost)
        self._base = BettingTest(max(chance, _LEAST))
        self.measurable = False  # whether the base is above chance
        self._units: list[tuple[Floats, Floats]] = []
        self._wealth: list[tuple[float, float]] = []

    @property
    def units(self) -> int:
        """Number of units so far."""
        return len(self._units)

    @property
    def e_kept(self) -> float:
        """Evidence that the share is kept: the wealth of the bet on it."""
        return self._above.wealth

    @property
    def e_lost(self) -> float:
        """Evidence that the share is not kept."""
        return self._below.wealth

    @property
    def wealth(self) -> list[tuple[float, float]]:
        """The wealth of the bets on `kept` and on `lost` after each unit."""
        return list(self._wealth)

    def update(self, score: float | Sequence[float], base: float | Sequence[float]) -> Verdict:
        """Take one unit and return the verdict; once it is `kept` or `lost`, it stays.

        Args:
            score, base: shares of right samples, from 0 to 1. For new questions, a unit is a question, so these are
                numbers; for the same questions sampled again, it is a round, so each has an entry for every question.

        Raises:
            ValueError: a share is not from 0 to 1, or there are not as many of both.
        """
        first, second = np.atleast_1d(np.asarray(score, float)), np.atleast_1d(np.asarray(base, float))
        if first.shape != second.shape or not all(((side >= 0) & (side <= 1)).all() for side in (first, second)):
            raise ValueError(f"score={score}, base={base}; expected shares from 0 to 1, as many of both")
        difference = first - self.keep * second - (1 - self.keep) * self.chance
        self._above.update(difference, parts=True)
        self._below.update(-difference, parts=True)
        self._base.update(second - self.chance, parts=True)
        self.measurable = self.measurable or self._base.wealth >= 1 / self.error
        self._units.append((first, second))
        self._wealth.append((self.e_kept, self.e_lost))
        if self.verdict == "undecided" and self.measurable:
            kept, lost = (wealth >= 2 / self.error for wealth in self._wealth[-1])
            self.verdict = "kept" if kept else "lost" if lost else "undecided"
        return self.verdict

    def interval(self) -> Interval | None:
        """The shares that neither test has ruled out, valid at every look; None unless the base is above chance.

        The estimate is the share that the tests speak least against. An upper end of infinity means more than 2.
        """
        return share_interval(self._units, chance=self.chance, error=self.error) if self.measurable else None

    def to_frame(self) -> pandas.DataFrame:
        """A table with a row for each unit: shares of right samples of both models, and the wealth of both bets."""
        import pandas

        return pandas.DataFrame(
            {"unit": number, "score": score.mean(), "base": base.mean(), "e_kept": kept, "e_lost": lost}
            for number, ((score, base), (kept, lost)) in enumerate(zip(self._units, self._wealth, strict=True), 1)
        )

    def plot(self) -> WealthPlot:
        """The wealth of both bets by units, as a picture that notebooks show and `save` writes as SVG."""
        from lm_eval_ext.statistics.wealth_plot import WealthLine, WealthPlot

        kept, lost = zip((1.0, 1.0), *self._wealth, strict=True)
        lines = [WealthLine("kept", range(self.units + 1), kept), WealthLine("lost", range(self.units + 1), lost)]
        return WealthPlot(lines, 2 / self.error, "units")


def share_interval(
    units: Sequence[tuple[Floats, Floats]], *, chance: float = 0.0, error: float = 0.05
) -> Interval | None:
    """The share of the base's accuracy above chance that a model keeps, valid at every look.

    For every share, both tests are made; the interval reaches from the first to the last that no look has ruled out.

    Args:
        units: shares of right samples of model and base; of all questions, if a unit is a round.
        chance: accuracy of guessing.
        error: probability that the interval ever misses the true share.
    """
    if not units:
        return None
    shares = np.linspace(0, _MOST_SHARE, _COARSE + 1)
    low, high, estimate = _not_ruled_out(units, shares, chance, error)
    step = _MOST_SHARE / _COARSE
    for _ in range(2):  # the ends lie within a step outside; look there again, in smaller steps
        ends = [np.linspace(max(0.0, end - step), min(_MOST_SHARE, end + step), _FINE + 1) for end in (low, high)]
        low = _not_ruled_out(units, ends[0], chance, error)[0]
        high = _not_ruled_out(units, ends[1], chance, error)[1]
        step *= 2 / _FINE
    return Interval(min(max(estimate, low), high), low, high if high < _MOST_SHARE else math.inf)


def _not_ruled_out(
    units: Sequence[tuple[Floats, Floats]], shares: Floats, chance: float, error: float
) -> tuple[float, float, float]:
    """The first and the last share that no look has ruled out, and the one that the tests speak least against."""
    above = BettingTest(np.maximum(shares + (1 - shares) * chance, _LEAST))
    below = BettingTest(1 - (1 - shares) * chance)
    most = np.zeros_like(shares)
    for score, base in units:
        difference = score - shares[:, None] * base - (1 - shares[:, None]) * chance
        above.update(difference, parts=True)
        below.update(-difference, parts=True)
        most = np.maximum(most, np.maximum(above.log_wealth, below.log_wealth))
    last = np.maximum(above.log_wealth, below.log_wealth)
    left = np.flatnonzero(most < math.log(2 / error))
    left = left if left.size else np.array([int(most.argmin())])
    return float(shares[left[0]]), float(shares[left[-1]]), float(shares[int(last.argmin())])


def e_bh(e_values: Sequence[float], level: float) -> list[bool]:
    """Which of several claims stand together, so that the expected share of wrong ones among them is at most `level`.

    Holds under any dependence, such as that of models that are compared with the same base.

    Source: Wang and Ramdas 2022, the e-BH procedure.

    >>> e_bh([100.0, 25.0, 1.0, 0.2], 0.1)
    [True, True, False, False]
    """
    ranked = sorted(e_values, reverse=True)
    count = len(ranked)
    stand = max((k for k in range(1, count + 1) if ranked[k - 1] >= count / (k * level)), default=0)
    return [stand > 0 and value >= count / (stand * level) for value in e_values]


def e_closed(e_values: Sequence[float]) -> list[float]:
    """E-values corrected for their number: rejecting all that reach 1/a is wrong anywhere with probability a at most.

    Each becomes the smallest average of those sets of e-values that contain it (closed testing).

    Source: Vovk and Wang 2021, algorithm 1.

    >>> e_closed([90.0, 0.0, 30.0])
    [40.0, 0.0, 15.0]
    """
    found = []
    for place, value in enumerate(e_values):
        others = sorted(other for number, other in enumerate(e_values) if number != place)
        means = [(value + sum(others[:count])) / (count + 1) for count in range(len(others) + 1)]
        found.append(min(means))
    return found
