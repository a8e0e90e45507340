"""Simulates how often `lm-eval-tts gate` is wrong at the worst moment to stop, and how many questions it takes.

    python -m benchmarks.gate --sequential [--repeats 200]

- False "kept" and false "lost" of a model that keeps exactly the share in question, by the highest wealth over all
  looks, in scenarios of accuracy, spread of difficulty, correlation of samples, loss, chance, samples and questions;
  for new questions, and for rounds of the same ones. The 20 worst are simulated again, 25 times as often.
- Of 12 candidates that share their base, some of them at the border: the expected share of wrong ones among those
  called kept, each of them stopped at its worst moment.
- Several critical benchmarks of different difficulty, all at the border: any called lost, and all called kept.
- Mean questions until a verdict, with those of the last block, against the whole benchmark and against a test of a
  fixed size with the same error and a power of 80%.
- The same bets in `confseq` (PyPI, by the authors of the method) give the same wealth, if it can be imported. It has no
  wheels for current Pythons, but the part for this is pure Python: put `src` of its source on PYTHONPATH, and install
  matplotlib and multiprocess.

Exits with 1 if a share is larger than promised by more than three standard errors of the simulation.
"""

from __future__ import annotations

import importlib
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.scenarios import LOSSES, SPREADS, Pairs, questions
from lm_eval_ext.gating.standing import Policy, block_end
from lm_eval_ext.statistics.betting import BettingTest, e_bh, e_closed
from lm_eval_ext.statistics.intervals import Floats
from lm_eval_ext.statistics.power import kept_bounds

ERROR = 0.05
SIZES = (30, 90, 198, 500, 2000)
SAMPLES = (1, 4, 32)
ACCURACIES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
SHARES = (0.9, 0.95)
CHANCE = 0.25
ROUNDS = 32
WORST, MORE = 20, 25
CANDIDATES = 12


@dataclass(frozen=True)
class Border:
    """A model that keeps exactly `keep` of its base's accuracy above chance."""

    population: str
    samples: int
    accuracy: float
    spread: str
    keep: float
    loss: str
    chance: float = 0.0

    def pairs(self) -> Pairs:
        """Kinds of questions."""
        base, smaller, weight = LOSSES[self.loss](questions(self.accuracy, self.spread), self.keep)
        guessed = self.chance
        return Pairs(guessed + (1 - guessed) * base, guessed + (1 - guessed) * smaller, weight)


def scenarios() -> list[Border]:
    given = product(SAMPLES, ACCURACIES, SPREADS, SHARES, LOSSES)
    found = [
        Border("new questions", *one, CHANCE if one[-1] == "harder" else 0.0)
        for one in given
        if not (one[1] == 1 and one[2] != SPREADS[0])
    ]
    for accuracy, spread, keep, loss in product(ACCURACIES, SPREADS, SHARES, LOSSES):
        if not (accuracy == 1 and spread != SPREADS[0]):
            found.append(Border("these questions", 1, accuracy, spread, keep, loss))
    return found


def tests(keep: float, chance: float, runs: int) -> tuple[BettingTest, BettingTest]:
    """The bets on `kept` and on `lost`, for many runs at once."""
    return (
        BettingTest(np.full(runs, keep + (1 - keep) * chance)),
        BettingTest(np.full(runs, 1 - (1 - keep) * chance)),
    )


def at_the_border(scenario: Border, repeats: int) -> dict[str, Any]:
    """Shares of runs in which a bet ever reached its threshold, until each number of questions or rounds."""
    generator = np.random.default_rng(repeats)
    base, smaller, weight = scenario.pairs()
    weight = weight / weight.sum()
    if scenario.population == "these questions":
        return _rounds(scenario, generator, repeats)
    kept, lost = tests(scenario.keep, scenario.chance, repeats)
    ever = np.zeros((2, repeats), dtype=bool)
    found: dict[str, Any] = asdict(scenario)
    kinds = generator.choice(len(weight), (SIZES[-1], repeats), p=weight)
    for number in range(SIZES[-1]):
        b = generator.binomial(scenario.samples, base[kinds[number]]) / scenario.samples
        c = generator.binomial(scenario.samples, smaller[kinds[number]]) / scenario.samples
        _bet(scenario, kept, lost, ever, c, b, parts=False)
        if number + 1 in SIZES:
            found[f"kept_{number + 1}"], found[f"lost_{number + 1}"] = ever.mean(1)
    return found | {"false_kept": ever[0].mean(), "false_lost": ever[1].mean()}


def _rounds(scenario: Border, generator: np.random.Generator, repeats: int) -> dict[str, Any]:
    """The same 30 questions in every round, whose difficulties are drawn so that exactly the share is kept."""
    base, smaller, weight = scenario.pairs()
    kinds = generator.choice(len(weight), (repeats, 30), p=weight / weight.sum())
    b, c = base[kinds], smaller[kinds]
    ratio = (scenario.keep * b.mean(1) / np.maximum(c.mean(1), 1e-12))[:, None]
    b, c = b / np.maximum(1, ratio), c * np.minimum(1, ratio)
    kept, lost = tests(scenario.keep, 0.0, repeats)
    ever = np.zeros((2, repeats), dtype=bool)
    for _ in range(ROUNDS):
        right = [(generator.random(skill.shape) < skill).astype(np.float64) for skill in (c, b)]
        _bet(scenario, kept, lost, ever, *right, parts=True)
    return asdict(scenario) | {"false_kept": ever[0].mean(), "false_lost": ever[1].mean()}


def _bet(
    scenario: Border, kept: BettingTest, lost: BettingTest, ever: np.ndarray[Any, Any], c: Floats, b: Floats, *,
    parts: bool,
) -> None:  # fmt: skip
    difference = c - scenario.keep * b - (1 - scenario.keep) * scenario.chance
    kept.update(difference, parts=parts)
    lost.update(-difference, parts=parts)
    ever[0] |= kept.log_wealth >= math.log(2 / ERROR)
    ever[1] |= lost.log_wealth >= math.log(2 / ERROR)


def wrong_among_kept(given: tuple[int, float, int, float], repeats: int) -> dict[str, Any]:
    """Expected share of wrong ones among the kept of 12 candidates, of which some are at the border."""
    wrong, accuracy, samples, others = given
    keep, generator = 0.9, np.random.default_rng(repeats)
    shares = [0.0] * repeats
    alone = np.zeros(repeats)
    some = questions(accuracy, "0.5")
    for run in range(repeats):
        skill = generator.choice(some.skill, 500, p=some.weight)
        b = generator.binomial(samples, skill) / samples
        test = BettingTest(np.full(CANDIDATES, keep))
        kept = np.array([keep] * wrong + [others] * (CANDIDATES - wrong))
        most = np.zeros(CANDIDATES)
        for number in range(500):
            c = generator.binomial(samples, skill[number] * kept) / samples
            test.update(c - keep * b[number])
            most = np.maximum(most, np.exp(np.minimum(test.log_wealth, 50)))
        alone[run] = (most[:wrong] >= 2 / ERROR).mean()
        # Each stops where its evidence is highest, which is worse than any rule that can't look ahead.
        called = np.array(e_bh(list(most), ERROR)) & (most >= 2 / ERROR)
        shares[run] = called[:wrong].sum() / max(1, called.sum())
    return {
        "at the border": wrong, "accuracy": accuracy, "samples": samples, "others keep": others,
        "wrong share": float(np.mean(shares)), "alone": float(alone.mean()),
    }  # fmt: skip


def several_benchmarks(given: tuple[int, int], repeats: int) -> dict[str, Any]:
    """All of several critical benchmarks of different difficulty at the border: any lost, and all kept."""
    count, samples = given
    keep, generator = 0.9, np.random.default_rng(repeats)
    accuracies = np.linspace(0.3, 0.95, count)
    log_lost, log_kept = np.zeros((count, repeats)), np.zeros((count, repeats))
    lost_ever, kept_ever = np.zeros(repeats, dtype=bool), np.ones(repeats, dtype=bool)
    both = [tests(keep, 0.0, repeats) for _ in accuracies]
    reached = np.zeros((count, repeats), dtype=bool)
    kinds = [
        questions(float(accuracy), ("0.1", "0.5", "0.8")[number % 3]) for number, accuracy in enumerate(accuracies)
    ]
    for _ in range(500):
        for number, ((kept, lost), some) in enumerate(zip(both, kinds, strict=True)):
            skill = generator.choice(some.skill, repeats, p=some.weight)
            b = generator.binomial(samples, skill) / samples
            c = generator.binomial(samples, keep * skill) / samples
            kept.update(c - keep * b)
            lost.update(keep * b - c)
            log_kept[number], log_lost[number] = kept.log_wealth, lost.log_wealth
        reached |= log_kept >= math.log(2 / ERROR)
        candidates = np.flatnonzero((log_lost.max(0) >= math.log(2 / ERROR)) & ~lost_ever)
        for run in candidates:
            lost_ever[run] = max(e_closed(list(np.exp(log_lost[:, run])))) >= 2 / ERROR
    kept_ever &= reached.all(0)
    return {"benchmarks": count, "samples": samples, "any lost": lost_ever.mean(), "all kept": kept_ever.mean()}


# What it takes ----------------------------------------------------------------------------------------------

COSTS = [
    *(("MATH500", 500, 0.9, samples, kept) for samples in (1, 4) for kept in (0.5, 0.7, 0.95, 1.0)),
    *(("GPQA diamond", 198, 0.6, 4, kept) for kept in (0.5, 0.7, 1.0)),
    *(("2,000 questions", 2000, 0.8, samples, kept) for samples in (1, 4) for kept in (0.8, 1.0)),
]


def cost(given: tuple[str, int, float, int, float], repeats: int) -> dict[str, Any]:
    """Mean questions until a verdict on a model that keeps some share everywhere, with 90% to keep."""
    name, total, accuracy, samples, share = given
    keep, generator = 0.9, np.random.default_rng(repeats)

    def drawn(count: int) -> tuple[Floats, Floats]:
        skill = generator.beta(accuracy, 1 - accuracy, (repeats, count))  # concentration 1
        return generator.binomial(samples, share * skill) / samples, generator.binomial(samples, skill) / samples

    c, b = drawn(total)
    row: dict[str, Any] = {"benchmark": name, "questions": total, "samples": samples, "keeps": share}
    for candidates in (1, CANDIDATES):
        policy = Policy(keep, ERROR, "new questions", {"task": "critical"}, candidates)
        kept, lost = tests(keep, 0.0, repeats)
        stop = np.full(repeats, total)
        open_ = np.ones(repeats, dtype=bool)
        for number in range(total):
            kept.update(c[:, number] - keep * b[:, number])
            lost.update(keep * b[:, number] - c[:, number])
            over = (kept.log_wealth >= math.log(policy.kept_threshold("critical"))) | (
                lost.log_wealth >= math.log(policy.threshold)
            )
            stop[open_ & over] = number + 1
            open_ &= ~over
        ends = [0]
        while ends[-1] < total:
            ends.append(block_end(ends[-1], total, policy))
        spent = np.array(ends)[np.searchsorted(ends, stop)]
        row |= {f"asked, {candidates}": spent.mean(), f"decided, {candidates}": 1 - open_.mean()}
    for size in np.unique(np.geomspace(5, 20_000, 80).round().astype(int)):
        c, b = drawn(int(size))
        low, high = kept_bounds(c, b, 0.0, 1 - ERROR)
        if (low >= keep if share >= keep else high < keep).mean() >= 0.8:
            row["fixed size"] = int(size)
            break
    return row


# The authors' own code --------------------------------------------------------------------------------------


def against_confseq(sequences: int = 100) -> float | None:
    """Largest relative difference of wealth to `confseq` with the same bets; None if it isn't installed."""
    vars(np).setdefault("float_", np.float64)  # confseq 0.0.11 is from before NumPy 2
    try:
        betting: Any = importlib.import_module("confseq.betting")
    except ImportError:
        return None
    generator = np.random.default_rng(0)
    most = 0.0
    for _ in range(sequences):
        keep, chance = generator.uniform(0.5, 1), generator.choice([0.0, 0.25])
        least, above = keep + (1 - keep) * chance, 1 - (1 - keep) * chance
        c, b = generator.binomial(4, generator.beta(0.7, 0.3, (2, 200))) / 4
        units = c - keep * b - (1 - keep) * chance
        width, test = least + above, BettingTest(least)
        adaptive: list[float] = []
        for unit in units:
            adaptive.append(float(test.bet))
            test.update(unit)
        fractions = (np.arange(25) + 0.5) / 25 / least
        wealth = [
            _theirs(betting, units, least, width, bets) for bets in (adaptive, *([one] * 200 for one in fractions))
        ]
        whole = 0.5 * wealth[0] + 0.5 * np.mean(wealth[1:])
        most = max(most, float(abs(test.wealth / whole - 1)))
    return most


def _theirs(betting: Any, units: Floats, least: float, width: float, bets: list[float]) -> float:
    """The last wealth of `confseq`, whose units are from 0 to 1."""
    process = betting.betting_mart(
        (units + least) / width, least / width, lambdas_fn_positive=lambda x, m: np.array(bets) * width, theta=1,
        trunc_scale=1,
    )  # fmt: skip
    return float(process[-1])


def main(repeats: int, processes: int) -> None:
    with ProcessPoolExecutor(processes) as pool:
        some = scenarios()
        border = pd.DataFrame(pool.map(partial(at_the_border, repeats=repeats), some, chunksize=4))
        more = MORE * repeats
        again = {
            kind: pd.DataFrame(
                pool.map(partial(at_the_border, repeats=more), [some[at] for at in border[kind].nlargest(WORST).index])
            )
            for kind in ("false_kept", "false_lost")
        }
        mixed = list(product((12, 6, 1), (0.5, 0.9), (1, 4), (1.0,)))
        wrong = pd.DataFrame(pool.map(partial(wrong_among_kept, repeats=4 * repeats), mixed))
        several = pd.DataFrame(pool.map(partial(several_benchmarks, repeats=10 * repeats), product((2, 5), (1, 4))))
        costs = pd.DataFrame(pool.map(partial(cost, repeats=repeats), COSTS))
    print(f"{len(border)} scenarios at the border, {repeats} runs each, the worst moment of every run")
    for kind in ("false_kept", "false_lost"):
        worst = again[kind].loc[again[kind][kind].idxmax()]
        where = ", ".join(f"{name} {worst[name]}" for name in asdict(some[0]))
        print(f"{kind}: mean {border[kind].mean():.4f}; worst {worst[kind]:.4f} ({where})")
    for table in (wrong, several, costs):
        print(table.to_string(index=False, float_format="{:.3f}".format))
    difference = against_confseq()
    print("confseq: cannot be imported, so it was not compared" if difference is None else f"confseq: {difference:.1e}")
    slack = 3 * math.sqrt(ERROR / more)
    promises = {
        "false kept in any scenario": (again["false_kept"].false_kept.max(), ERROR + slack),
        "false lost in any scenario": (again["false_lost"].false_lost.max(), ERROR + slack),
        "wrong share among the kept": (wrong["wrong share"].max(), ERROR + 3 * math.sqrt(ERROR / (4 * repeats))),
        "any of several benchmarks lost": (several["any lost"].max(), ERROR + 3 * math.sqrt(ERROR / (10 * repeats))),
        "difference to confseq": (difference or 0.0, 1e-9),
    }
    for what, (value, most) in promises.items():
        print(f"{what}: {value:.4g}; promised: at most {most:.4g}")
    if any(value > most for value, most in promises.values()):
        sys.exit(1)
