"""Models and benchmarks with known true accuracies, from which `benchmarks.coverage` draws runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import comb, expit, logit
from scipy.stats import beta

Floats = NDArray[np.float64]

QUESTIONS = (30, 90, 198, 500)
FEW_QUESTIONS = (15, 30)  # of scenarios run again
SAMPLES = (1, 8, 32)
MIDDLE = (0.1, 0.3, 0.5, 0.7, 0.9)
EDGES = (0.02, 0.05, 0.95, 0.98)
# Spread of difficulty: 0 if a model is equally good at each question, 1 if it is always right or always wrong on each.
SPREADS = ("0.1", "0.3", "0.5", "0.8", "atoms")
BASES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
KEPT = (1.0, 0.9, 0.5, 0.2)
CHANCE = 0.25
_GRID = 400  # kinds of questions of a scenario


class Questions(NamedTuple):
    """Kinds of questions: the probability that a model answers one correctly, and how common each kind is."""

    skill: Floats
    weight: Floats

    @property
    def accuracy(self) -> float:
        """Accuracy of the model on all of them."""
        return float(self.skill @ self.weight)


@cache
def questions(accuracy: float, spread: str) -> Questions:
    """Questions on which a model has the given accuracy.

    `spread` is the correlation of two samples of a question, under a Beta distribution of its probabilities; with
    `atoms`, 30% of questions are always right or always wrong, and the others are as with 0.3; with `always`, all are.
    """
    if accuracy == 1:
        return Questions(np.ones(1), np.ones(1))
    if spread == "always":
        return Questions(np.array([0.0, 1.0]), np.array([1 - accuracy, accuracy]))
    correlated = 0.3 if spread == "atoms" else float(spread)
    size = (1 - correlated) / correlated
    skill = beta.ppf((np.arange(_GRID) + 0.5) / _GRID, accuracy * size, (1 - accuracy) * size)
    if spread != "atoms":
        return Questions(skill, np.full(_GRID, 1 / _GRID))
    weight = [*np.full(_GRID, 0.7 / _GRID), 0.3 * (1 - accuracy), 0.3 * accuracy]
    return Questions(np.array([*skill, 0.0, 1.0]), np.array(weight))


class Pairs(NamedTuple):
    """Kinds of questions: the probabilities for the base and for a smaller model, and how common each kind is."""

    base: Floats
    smaller: Floats
    weight: Floats


def _everywhere(some: Questions, kept: float) -> Pairs:
    return Pairs(some.skill, some.skill * kept, some.weight)


def _wholly(some: Questions, kept: float) -> Pairs:
    smaller = np.concatenate([some.skill, np.zeros_like(some.skill)])
    return Pairs(np.tile(some.skill, 2), smaller, np.concatenate([some.weight * kept, some.weight * (1 - kept)]))


def _harder(some: Questions, kept: float) -> Pairs:
    """Every question is harder by the same step on the logistic scale."""

    def smaller(step: float) -> Floats:
        found: Floats = expit(logit(some.skill.clip(1e-6, 1 - 1e-6)) - step)
        return found

    step = 0.0 if kept == 1 else brentq(lambda step: smaller(step) @ some.weight - kept * some.accuracy, 0, 60)
    return Pairs(some.skill, smaller(step), some.weight)


def _elsewhere(some: Questions, kept: float) -> Pairs:
    """The smaller model is good at other questions than the base: their probabilities are independent."""
    step = max(1, len(some.skill) // 100)  # pairs of all kinds would be too many
    some = Questions(some.skill[::step], some.weight[::step] / some.weight[::step].sum())
    base, smaller = (grid.ravel() for grid in np.meshgrid(some.skill, some.skill * kept))
    return Pairs(base, smaller, np.outer(some.weight, some.weight).ravel())


LOSSES: dict[str, Callable[[Questions, float], Pairs]] = {
    "everywhere": _everywhere,
    "whole questions": _wholly,
    "harder": _harder,
    "elsewhere": _elsewhere,
}


@dataclass(frozen=True)
class Single:
    """One model on one benchmark."""

    questions: int
    samples: int
    accuracy: float
    spread: str

    def chances(self) -> Floats:
        """Probabilities of 0, 1, ... correct samples of a question, [samples + 1]."""
        some = questions(self.accuracy, self.spread)
        return some.weight @ _right(some.skill, self.samples)

    @property
    def truth(self) -> float:
        """The true accuracy."""
        return questions(self.accuracy, self.spread).accuracy


@dataclass(frozen=True)
class Paired:
    """A base and a smaller model on one benchmark, on which guessing scores `chance`."""

    questions: int
    samples: int
    accuracy: float
    spread: str
    kept: float
    loss: str
    chance: float = 0.0

    def _pairs(self) -> Pairs:
        base, smaller, weight = LOSSES[self.loss](questions(self.accuracy, self.spread), self.kept)
        guessed = self.chance
        return Pairs(guessed + (1 - guessed) * base, guessed + (1 - guessed) * smaller, weight)

    @property
    def smaller(self) -> float:
        """Accuracy of the smaller model, including guesses."""
        return self.truth[1]

    def chances(self) -> Floats:
        """Probabilities of 0, 1, ... correct samples of both, [base, smaller]."""
        base, smaller, weight = self._pairs()
        return (_right(base, self.samples) * weight[:, None]).T @ _right(smaller, self.samples)

    @property
    def truth(self) -> tuple[float, float]:
        """True accuracies of the base and the smaller model."""
        base, smaller, weight = self._pairs()
        return float(base @ weight), float(smaller @ weight)


@dataclass(frozen=True)
class Fixed:
    """One model, run repeatedly on the same drawn questions."""

    questions: int
    samples: int
    accuracy: float
    spread: str

    def draw(self, generator: np.random.Generator, size: int) -> Floats:
        """Probabilities for the questions of several benchmarks, [size, questions]."""
        some = questions(self.accuracy, self.spread)
        return generator.choice(some.skill, (size, self.questions), p=some.weight)


@dataclass(frozen=True)
class Gains:
    """The gain from thinking of a smaller model less that of its base.

    With the small budget, both have the share `kept` of what the base has with the large one. With the large one, the
    smaller model is half way between the two.
    """

    questions: int
    samples: int
    accuracy: float
    spread: str
    kept: float
    loss: str

    weights = (1, -1, -1, 1)  # of the scores: the smaller model's with the large and the small budget, and the base's

    def _skills(self) -> tuple[list[Floats], Floats]:
        large, small, weight = LOSSES[self.loss](questions(self.accuracy, self.spread), self.kept)
        return [(large + small) / 2, small, large, small], weight

    def chances(self) -> Floats:
        """Probabilities of a question's contrasts, times `samples`, from the smallest to the largest."""
        skills, weight = self._skills()
        both = np.ones((len(weight), 1))
        for skill, sign in zip(skills, self.weights, strict=True):
            one = _right(skill, self.samples)[:, ::sign]
            both = np.stack([np.convolve(*rows) for rows in zip(both, one, strict=True)])
        found: Floats = weight @ both
        found /= found.sum()
        return found

    @property
    def truth(self) -> float:
        """The true difference."""
        skills, weight = self._skills()
        return float(sum(sign * (skill @ weight) for skill, sign in zip(skills, self.weights, strict=True)))


Scenario = Single | Paired | Fixed | Gains


def _right(skill: Floats, samples: int) -> Floats:
    right = np.arange(samples + 1)
    found: Floats = comb(samples, right) * skill[:, None] ** right * (1 - skill[:, None]) ** (samples - right)
    return found


def scenarios() -> Iterator[Scenario]:
    """All scenarios. With one sample, the spread of difficulty does not affect a mean."""
    for count, samples, accuracy, spread in product(QUESTIONS, SAMPLES, (*MIDDLE, *EDGES), SPREADS):
        if samples > 1 or spread == SPREADS[0]:
            yield Single(count, samples, accuracy, spread)
    for count, samples, accuracy, spread, kept, loss in product(QUESTIONS, SAMPLES, BASES, SPREADS, KEPT, LOSSES):
        if kept < 1 or loss in ("everywhere", "elsewhere"):  # without loss, the others equal the first
            yield Paired(count, samples, accuracy, spread, kept, loss, CHANCE if loss == "harder" else 0.0)
    for count, samples, accuracy, spread in product(FEW_QUESTIONS, SAMPLES[1:], (*MIDDLE, *EDGES), SPREADS):
        yield Fixed(count, samples, accuracy, spread)
    losses = ("everywhere", "whole questions", "harder")
    for count, samples, accuracy, spread, kept, loss in product(QUESTIONS, SAMPLES, BASES, SPREADS, KEPT[1:], losses):
        yield Gains(count, samples, accuracy, spread, kept, loss)
