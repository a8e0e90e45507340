"""Simulates how often `lm-eval-tts compare --keep S` is wrong.

    python -m benchmarks.gate [--repeats 4000]
    python -m benchmarks.gate --sequential [--repeats 200]     # lm-eval-tts gate instead: see benchmarks.sequential

- False "kept": the smaller model keeps exactly S, the border, of the base's accuracy.
- False "lost": all of ten gated rows are at the border, and any of them comes out as lost.
- The same model twice: how often it comes out as lost, and whether "kept" is as frequent as predicted from a base run.
  With one sample per question, a base run does not tell how questions differ, so that only several are promised.

The worst scenarios of each kind are simulated again, 25 or 10 times as often, so that none is bad by chance. Exits with
1 if a share is then larger than promised, by more than three standard errors of the simulation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from benchmarks import sequential
from benchmarks.coverage import paired_moments
from benchmarks.scenarios import LOSSES, QUESTIONS, SAMPLES, SPREADS, Paired, questions
from lm_eval_ext.statistics.intervals import Floats, mean_bounds
from lm_eval_ext.statistics.paired import correlation_of_moments, ratio_bounds
from lm_eval_ext.statistics.power import kept_bounds, power_of_keeping

SHARES = (0.9, 0.95)
ROWS = 10
ACCURACIES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
SAME_MODEL = 2000
PREDICTED_FROM, DRAWS = 600, 200  # base runs from which the power is predicted, and simulated comparisons of each
WORST, MORE = 20, 25  # scenarios at the border that are simulated again, and how much more often
WORST_SAME, MORE_SAME = 6, 10  # the same of the pairs of one model
FEW = 90
BORDER, LOST, SAME_LOST, POWER = 0.05, 0.05, 0.025, 0.03  # promises


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequential", action="store_true", help="`lm-eval-tts gate` instead of `compare`")
    parser.add_argument("--repeats", type=int, help="runs per scenario; 4,000 by default, or 200 with --sequential")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.sequential:
        sequential.main(options.repeats or 200, options.processes)
        return
    options.repeats = options.repeats or 4000
    with ProcessPoolExecutor(options.processes) as pool:
        some = scenarios()
        border = pd.DataFrame(pool.map(partial(at_the_border, repeats=options.repeats), some, chunksize=8))
        more = MORE * options.repeats
        again = {
            kind: pd.DataFrame(
                pool.map(partial(at_the_border, repeats=more), [some[at] for at in border[kind].nlargest(WORST).index])
            )
            for kind in ("false_kept", "false_lost")
        }
        pairs = list(product(QUESTIONS, SAMPLES, (0.3, 0.7, 0.9), ("0.3", "0.8"), SHARES))
        same = pd.DataFrame(pool.map(same_model, pairs))
        promised = same[(same.samples > 1) & (same.questions >= FEW)]
        worst = (promised.kept - promised.predicted).abs().nlargest(WORST_SAME).index
        once_more = pd.DataFrame(pool.map(partial(same_model, times=MORE_SAME), [pairs[at] for at in worst]))
    print(f"{len(border)} scenarios at the border, {options.repeats} runs each")
    for kind in ("false_kept", "false_lost"):
        worst = again[kind].loc[again[kind][kind].idxmax()]
        where = ", ".join(f"{name} {value}" for name, value in worst.items() if not str(name).startswith("false"))
        print(f"{kind}: mean {border[kind].mean():.4f}; worst {worst[kind]:.4f} ({where})")
    print(f"the same model twice, {SAME_MODEL} pairs each:")
    print(same.to_string(index=False, float_format="{:.3f}".format))
    off = (once_more.kept - once_more.predicted).abs()
    promises = {
        "false kept in any scenario": (again["false_kept"].false_kept.max(), BORDER + 3 * np.sqrt(BORDER / more)),
        f"false lost of any of {ROWS} rows": (
            again["false_lost"].false_lost.max(), LOST + 3 * ROWS * np.sqrt(LOST / ROWS / more),
        ),
        "the same model lost": (same.lost.max(), SAME_LOST),
        f"kept, from predicted, {FEW} questions or more": (off.max(), POWER),
    }  # fmt: skip
    for what, (found, most) in promises.items():
        print(f"{what}: {found:.4f}; promised: at most {most:.4f}")
    if any(found > most for found, most in promises.values()):
        sys.exit(1)


def scenarios() -> list[Paired]:
    return [
        Paired(count, samples, accuracy, spread, keep, loss)
        for count, samples, accuracy, spread, keep, loss in product(
            QUESTIONS, SAMPLES, ACCURACIES, (*SPREADS, "always"), SHARES, LOSSES
        )
        if not (accuracy == 1 and spread != SPREADS[0])
    ]


def at_the_border(scenario: Paired, repeats: int) -> dict[str, object]:
    generator = np.random.default_rng(repeats)
    moments = paired_moments(scenario, generator, repeats)
    kept = float((ratios(moments, scenario.questions)[0] >= scenario.kept).mean())
    lost = float((ratios(moments, scenario.questions, 1 - 0.05 / ROWS)[1] < scenario.kept).mean())
    return asdict(scenario) | {"false_kept": kept, "false_lost": 1 - (1 - lost) ** ROWS}


def ratios(moments: Sequence[Floats], questions: int, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Both ends of the interval of what is kept, for the moments of many runs (`paired_moments`)."""
    b, bb, c, cc, bc = moments
    one, other = (
        (mean, *mean_bounds(mean, np.maximum(0, square - mean**2), questions, confidence=confidence))
        for mean, square in ((c, cc), (b, bb))
    )
    return ratio_bounds(one, other, correlation_of_moments(c, cc, b, bb, bc, questions=questions))


def same_model(given: tuple[int, int, float, str, float], times: int = 1) -> dict[str, object]:
    count, samples, accuracy, spread, keep = given
    generator = np.random.default_rng(1)
    some = questions(accuracy, spread)
    skill = generator.choice(some.skill, (times * SAME_MODEL, count), p=some.weight)
    scores, base = (generator.binomial(samples, skill) / samples for _ in range(2))
    low, high = kept_bounds(scores, base, 0.0)
    predicted = [
        power_of_keeping(list(base[run]), samples, keep, seed=run, draws=DRAWS) for run in range(times * PREDICTED_FROM)
    ]
    return {
        "questions": count, "samples": samples, "accuracy": accuracy, "spread": spread, "keep": keep,
        "lost": float((high < keep).mean()), "kept": float((low >= keep).mean()),
        "predicted": float(np.mean(predicted)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
