"""Where a candidate stands: replays what it answered, unit by unit, and says what to ask next. Pure.

A candidate's verdict depends on its own answers and those of the base alone, taken in an order that was drawn before
anything was decoded. So it is the same in whatever order, on however many workers and after however many
interruptions the blocks were evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from lm_eval_ext.gating.gate_file import Population, Tier
from lm_eval_ext.statistics.betting import BettingTest, KeptTest, e_closed
from lm_eval_ext.statistics.gate import Verdict
from lm_eval_ext.statistics.intervals import Floats

Unit = tuple[float, ...]
Reason = Literal["", "decided", "everything asked", "out of reach", "budget", "the candidate is lost"]

_GROWTH = 8  # later blocks are this part of what was asked so far
_REACH = 0.05  # a row stops if it is decided within the rest with a smaller probability than this
_SIMULATED = 200
_LOOKED = 0.25  # share of the units after which the rest is simulated
_LOSS = 0.5  # what a lost candidate is taken to keep, before it has answered anything


@dataclass(frozen=True)
class Policy:
    """What is asked of every candidate.

    Attributes:
        keep: share of the base's accuracy above chance that must be kept.
        error: probability of a wrong verdict.
        population: what a unit is.
        tiers: of the benchmarks, in the order of the file.
        candidates: number of candidates, for which the verdicts are corrected.
        supporting_may_lose: number of supporting benchmarks that may be lost.
        block: questions of the first block.
    """

    keep: float
    error: float
    population: Population
    tiers: Mapping[str, Tier]
    candidates: int
    supporting_may_lose: int = 0
    block: int = 16

    @property
    def threshold(self) -> float:
        """Wealth at which a verdict stands by itself."""
        return 2 / self.error

    def kept_threshold(self, tier: Tier) -> float:
        """Wealth at which `kept` stands: on a critical benchmark, whatever comes out for the other candidates."""
        return max(self.threshold, self.candidates / self.error) if tier == "critical" else self.threshold

    @property
    def first_block(self) -> int:
        """Units of the first block."""
        return self.block if self.population == "new questions" else 1

    def of_tier(self, tier: Tier) -> list[str]:
        """Benchmarks of a tier."""
        return [task for task, one in self.tiers.items() if one == tier]


@dataclass(frozen=True)
class RowData:
    """The units of a benchmark that are there.

    Attributes:
        base, candidate: scores of each unit; those of the candidate are as many or fewer.
        total: units that there can be.
        chance: accuracy of guessing.
        base_tokens: tokens of a unit of the base, which the candidate's are taken to be before it has answered.
        candidate_tokens: of each of the candidate's units; empty if they are not counted.
    """

    base: Sequence[Unit]
    candidate: Sequence[Unit]
    total: int
    chance: float = 0.0
    base_tokens: float = 1.0
    candidate_tokens: Sequence[float] = ()


class NextBlock(NamedTuple):
    """Units to ask: those before `end`, of which the ones before `start` are there."""

    task: str
    start: int
    end: int


@dataclass
class RowStanding:
    """Where a candidate stands on a benchmark.

    Attributes:
        task, tier: the benchmark.
        test: both bets.
        reason: why it stopped; empty if it hasn't.
        asked: units that were evaluated; the last ones may have come after the verdict.
        total: units that there can be; None until the base has answered some.
        spent: tokens of the candidate after each unit.
        tokens: of all that was evaluated.
    """

    task: str
    tier: Tier
    test: KeptTest
    total: int | None
    reason: Reason = ""
    asked: int = 0
    spent: list[float] = field(default_factory=list)
    tokens: float = 0.0

    @property
    def e_kept(self) -> float:
        """Evidence of kept; none while the base isn't shown to be above chance."""
        return self.test.e_kept if self.test.measurable else 0.0

    @property
    def e_lost(self) -> float:
        """Evidence of lost; none while the base isn't shown to be above chance, or nothing was asked."""
        return self.test.e_lost if self.test.measurable else 0.0

    @property
    def verdict(self) -> Verdict:
        """By this benchmark alone, not corrected for the number of candidates."""
        return self.test.verdict


@dataclass(frozen=True)
class Standing:
    """Where a candidate stands.

    Attributes:
        rows: by benchmark.
        lost: whether it is lost for good.
        next: the block to evaluate; None if nothing is to be asked, or the base has to answer first.
        needs: units that the base has to answer first, by benchmark.
    """

    rows: Mapping[str, RowStanding]
    lost: bool
    next: NextBlock | None = None
    needs: Mapping[str, int] = field(default_factory=dict)

    def e_kept(self, policy: Policy) -> float:
        """Evidence that every critical benchmark is kept: that of the weakest."""
        return min(self.rows[task].e_kept for task in policy.of_tier("critical"))

    def is_kept(self, policy: Policy) -> bool:
        """Whether it is kept by its own evidence, not corrected for the number of candidates.

        Every critical benchmark is kept, and no more supporting ones than allowed look lost or could still be lost.
        """
        supporting = [self.rows[task] for task in policy.of_tier("supporting")]
        lost = sum(row.verdict == "lost" for row in supporting)
        open_ = sum(row.verdict == "undecided" and row.reason in ("", "budget") for row in supporting)
        kept = all(self.rows[task].verdict == "kept" for task in policy.of_tier("critical"))
        return kept and lost + open_ <= policy.supporting_may_lose


def block_end(units: int, total: int, policy: Policy) -> int:
    """Where the block ends that begins after some units."""
    return min(total, units + max(policy.first_block, units // _GROWTH))


def standing(policy: Policy, data: Mapping[str, RowData], allowance: float = math.inf) -> Standing:
    """Where a candidate stands with the units that are there.

    Args:
        policy: what is asked.
        data: by benchmark, of those that the base has answered.
        allowance: tokens that the candidate may use.
    """
    rows = {task: _row(policy, task, data.get(task)) for task in policy.tiers}
    while True:
        if _is_lost(policy, rows):
            return _ended(rows, "the candidate is lost", lost=True)
        waiting = _waiting(rows)
        if not waiting:
            return Standing(rows, lost=False)
        if missing := [row.task for row in waiting if row.task not in data]:
            return Standing(rows, lost=False, needs=dict.fromkeys(missing, policy.first_block))
        task = min(waiting, key=lambda row: expected_tokens(policy, row, data[row.task])).task
        if sum(row.tokens for row in rows.values()) >= allowance:
            return _ended(rows, "budget", lost=False)
        row, of = rows[task], data[task]
        end = block_end(row.asked, of.total, policy)
        if end > len(of.base):
            return Standing(rows, lost=False, needs={task: end})
        if end > len(of.candidate):
            return Standing(rows, lost=False, next=NextBlock(task, len(of.candidate), end))
        _take(policy, rows, row, of, end)


def _row(policy: Policy, task: str, of: RowData | None) -> RowStanding:
    test = KeptTest(policy.keep, chance=of.chance if of else 0.0, error=policy.error)
    return RowStanding(task, policy.tiers[task], test, of.total if of else None)


def _ended(rows: Mapping[str, RowStanding], reason: Reason, *, lost: bool) -> Standing:
    for row in rows.values():
        row.reason = row.reason or reason
    return Standing(rows, lost)


def _take(policy: Policy, rows: Mapping[str, RowStanding], row: RowStanding, of: RowData, end: int) -> None:
    """Bet on the units of a block, until a verdict stands."""
    costs = of.candidate_tokens[row.asked : end] or [0.0] * (end - row.asked)
    for number in range(row.asked, end):
        row.test.update(of.candidate[number], of.base[number])
        row.spent.append((row.spent[-1] if row.spent else 0.0) + costs[number - row.asked])
        if row.e_kept >= policy.kept_threshold(row.tier) or row.task in _lost_in(policy, rows, row.tier):
            row.reason = "decided"
            break
        if _is_lost(policy, rows):
            row.reason = "the candidate is lost"
            break
    row.tokens += sum(costs)
    row.asked = end
    if row.reason:
        return
    if end == of.total:
        row.reason = "decided" if row.verdict != "undecided" else "everything asked"
    elif end >= _LOOKED * of.total and _reach(policy, row, of) < _REACH:
        row.reason = "out of reach"


def _is_lost(policy: Policy, rows: Mapping[str, RowStanding]) -> bool:
    return bool(_lost_in(policy, rows, "critical")) or (
        len(_lost_in(policy, rows, "supporting")) > policy.supporting_may_lose
    )


def _lost_in(policy: Policy, rows: Mapping[str, RowStanding], tier: Tier) -> list[str]:
    """Benchmarks of a tier that are lost, corrected for the number of them."""
    tasks = policy.of_tier(tier)
    corrected = e_closed([rows[task].e_lost for task in tasks])
    return [task for task, value in zip(tasks, corrected, strict=True) if value >= policy.threshold]


def _waiting(rows: Mapping[str, RowStanding]) -> list[RowStanding]:
    """The open benchmarks that may be asked next: critical ones before others.

    Once a critical benchmark can't be decided, the candidate can't be kept, so that only others like it are asked.
    """
    given_up = any(
        row.tier == "critical" and row.reason not in ("", "decided") and row.verdict != "kept" for row in rows.values()
    )
    for tier in ("critical",) if given_up else ("critical", "supporting", "advisory"):
        if waiting := [row for row in rows.values() if row.tier == tier and not row.reason]:
            return waiting
    return []


def expected_tokens(policy: Policy, row: RowStanding, of: RowData) -> float:
    """Tokens until a verdict, if it goes on as it has begun; before, if the candidate has lost half."""
    left = of.total - row.asked
    cost = row.tokens / row.asked if row.tokens else of.base_tokens
    if row.asked:
        sides = ((row.test.e_kept, policy.kept_threshold(row.tier)), (row.test.e_lost, policy.threshold))
        rates = [(math.log(wealth) / row.test.units, math.log(goal / wealth)) for wealth, goal in sides if wealth > 0]
        units = min((goal / rate for rate, goal in rates if rate > 0), default=float(left))
    else:
        units = units_until_lost(policy, of)  # by the first block alone, so that it stays the same
    return min(units, left) * cost


def units_until_lost(policy: Policy, of: RowData) -> float:
    """Units until a candidate is lost that is right half as often as the base, above chance."""
    first = of.base[: block_end(0, of.total, policy)]
    values = (policy.keep - _LOSS) * (_scores(first) - of.chance)
    return _units(values, 1 - (1 - policy.keep) * of.chance, policy.threshold) / _parts(of)


def units_until_kept(policy: Policy, of: RowData, tier: Tier) -> float:
    """Units until a candidate is kept that is as good as the base, if questions it gets right are others."""
    base = _scores(of.base)
    other = np.random.default_rng(len(base)).permutation(base)
    values = other - policy.keep * base - (1 - policy.keep) * of.chance
    return _units(values, policy.keep + (1 - policy.keep) * of.chance, policy.kept_threshold(tier)) / _parts(of)


def _parts(of: RowData) -> int:
    """Scores of a unit."""
    return max(1, len(of.base[0])) if of.base else 1


def _scores(units: Sequence[Unit]) -> Floats:
    return np.concatenate([np.asarray(unit, float) for unit in units]) if units else np.zeros(0)


def _units(values: Floats, least: float, threshold: float) -> float:
    """Units until the best fixed bet on such values reaches a threshold."""
    fractions = np.linspace(0.02, 0.98, 49)[:, None] / least
    rate = float(np.log1p(fractions * values).mean(axis=1).max()) if values.size else 0.0
    return math.log(threshold) / rate if rate > 0 else math.inf


def base_target(policy: Policy, of: RowData, tier: Tier, visit: int) -> int:
    """Units that the base answers when it is loaded for the nth time: enough for most candidates, then twice as many.

    Args:
        policy: what is asked.
        of: the base's units so far, of at least one block.
        tier: of the benchmark.
        visit: 1 when it is loaded first.
    """
    wanted = units_until_kept(policy, of, tier), 2 * units_until_lost(policy, of)
    first = next((units for units in wanted if units <= of.total), float(of.total))
    wished = first * 2 ** (visit - 1)
    end = 0
    while end < min(wished, of.total):
        end = block_end(end, of.total, policy)
    return end


def _reach(policy: Policy, row: RowStanding, of: RowData) -> float:
    """Probability that the row is decided within the rest."""
    done = row.test.units
    values = tuple(
        tuple(
            score - policy.keep * base - (1 - policy.keep) * of.chance
            for score, base in zip(of.candidate[number], of.base[number], strict=True)
        )
        for number in range(done)
    )
    sides = (
        (row.test.least_kept, 1, policy.kept_threshold(row.tier)),
        (row.test.least_lost, -1, policy.threshold),
    )
    return _reached(values, of.total - done, sides)


@lru_cache(maxsize=4096)
def _reached(values: tuple[Unit, ...], left: int, sides: tuple[tuple[float, int, float], ...]) -> float:
    """Probability that one of several bets reaches its threshold, by continuations drawn from the units so far.

    Each continuation draws from the units with weights of its own (Rubin 1981, "The Bayesian Bootstrap"), so that few
    units leave room for another mean.

    Args:
        values: the units so far.
        left: how many are to come.
        sides: of each bet, what a unit can lose, its direction, and the wealth to reach.
    """
    seen = np.asarray(values)
    generator = np.random.default_rng([len(seen), left])
    weights = generator.dirichlet(np.ones(len(seen)), _SIMULATED)
    drawn = np.array([generator.choice(len(seen), left, p=one) for one in weights])
    reached = np.zeros(_SIMULATED, dtype=bool)
    for least, sign, threshold in sides:
        test = BettingTest(least)
        for value in seen:
            test.update(sign * value, parts=True)
        many = test.copies(_SIMULATED)
        for step in range(left):
            many.update(sign * seen[drawn[:, step]], parts=True)
            reached |= many.log_wealth >= math.log(threshold)
    return float(reached.mean())
