"""Judges the candidates of a gate: the verdicts among all of them, what they cost, and the order of those kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from statistics import NormalDist, fmean

import numpy as np

from lm_eval_ext.errors import TTSError
from lm_eval_ext.gating.answers import SIGNS, Answers, differences_of
from lm_eval_ext.gating.gate_file import BASE, RankedBy
from lm_eval_ext.gating.gate_report import BenchmarkVerdict, Candidate, CandidateVerdict, GateReport
from lm_eval_ext.gating.gate_study import GateStudy
from lm_eval_ext.gating.standing import Policy, Reason, RowData, RowStanding, Standing
from lm_eval_ext.redaction import line
from lm_eval_ext.statistics.betting import BettingTest, e_bh, reaches
from lm_eval_ext.statistics.gate import Verdict
from lm_eval_ext.statistics.intervals import Floats
from lm_eval_ext.statistics.power import kept_bounds

_POWER = 0.8  # of the test of a fixed size that is named for comparison
_FEWEST, _SIZES, _DRAWS = 5, 60, 200  # of that test: units, sizes that are tried, and simulated runs of each
_MORE_OFTEN = 0.1  # a sign is reported if it is more frequent than at the base by this share, and by chance
_LARGEST = 300.0  # logarithm of evidence that is counted
_EQUAL = 0.02  # costs that differ by less are equal
_TOO_GOOD = (
    "is better than its base by more than chance; check the setup: the same chat template, answer budget, sampling and "
    "grader, and no training on these questions?"
)


def report(study: GateStudy, failures: Mapping[str, str] | None = None) -> GateReport:
    """What is known now, also while the gate runs.

    Args:
        study: the gate.
        failures: why candidates could not be evaluated, by name.
    """
    failed = dict(failures or {})
    standings: dict[str, Standing] = {}
    for name in study.gate.candidates:
        try:
            standings[name] = study.standing(name)
        except TTSError as error:
            failed.setdefault(name, line(error))
    policy = study.policy
    named = [name for name in study.gate.candidates if name in standings and name not in failed]
    e_values = {name: standings[name].e_kept(policy) if name in named else 0.0 for name in study.gate.candidates}
    stand = dict(zip(e_values, e_bh(list(e_values.values()), policy.error), strict=True))
    found = [
        _candidate(study, name, standings[name], among_all=stand[name]) if name in named
        else Candidate(name, "failed", "undecided", 0.0, failure=failed[name])
        for name in study.gate.candidates
    ]  # fmt: skip
    base, whole = _of_base(study)
    return GateReport(
        study.name, policy.keep, policy.error, policy.population, study.gate.rank_by, _ranked(study, found), base, whole
    )


def _candidate(study: GateStudy, name: str, found: Standing, *, among_all: bool) -> Candidate:
    policy, data = study.policy, study.data(name)
    theirs, ours = study.answers(BASE), study.answers(name)
    stopped = study.is_late or (bool(found.needs) and study.base_is_spent)
    rows = tuple(
        _row(policy, row, data.get(task), theirs.get(task), ours.get(task), stopped=stopped)
        for task, row in found.rows.items()
    )
    alone: Verdict = "lost" if found.lost else "kept" if found.is_kept(policy) else "undecided"
    verdict: CandidateVerdict = alone if alone != "kept" or among_all else "undecided"
    gained = any(_is_better(policy, of) for of in data.values())
    if verdict == "kept" and gained and not study.gate.accept_gains:
        verdict = "check"
    evaluated = study.gate.results_of(name) is None
    return Candidate(name, verdict, alone, found.e_kept(policy), rows, evaluated=evaluated)


def _row(
    policy: Policy, row: RowStanding, of: RowData | None, base: Answers | None, candidate: Answers | None,
    *, stopped: bool,
) -> BenchmarkVerdict:  # fmt: skip
    of = of or RowData((), (), 0)  # the base hasn't answered anything
    units = row.test.units
    each = row.tokens / row.asked if row.asked else of.base_tokens
    path = tuple((spent, *wealth) for spent, wealth in zip(row.spent, row.test.wealth, strict=True))
    remarks = list(_signs(policy, base, candidate)) if base and candidate else []
    if base and candidate:
        remarks += [f"allowed to differ: {one}" for one in differences_of(base, candidate)]
    if row.reason in ("everything asked", "out of reach") and not row.test.measurable:
        remarks.insert(0, "the base isn't shown to be above chance, so nothing can be kept or lost")
    if _is_better(policy, of):
        remarks.insert(0, _TOO_GOOD)
    reason: Reason = "budget" if stopped and not row.reason else row.reason
    return BenchmarkVerdict(
        row.task, row.tier, row.verdict, reason, row.e_kept, row.e_lost, row.test.interval(), units,
        row.total, row.asked, row.tokens or None, each * of.total or None, _fixed(policy, row, of), path,
        tuple(remarks),
    )  # fmt: skip


def _is_better(policy: Policy, of: RowData) -> bool:
    """Whether a candidate is better than its base by more than chance, also on units after the verdict."""
    pairs = zip(of.candidate, of.base, strict=False)
    units = ([a - b for a, b in zip(ours, theirs, strict=True)] for ours, theirs in pairs)
    return reaches(units, 1.0, policy.threshold, parts=True)


def _signs(policy: Policy, base: Answers, candidate: Answers) -> Iterator[str]:
    """What the candidate's answers do far more often than the base's."""
    both = [(one, base.by_id[at]) for at, one in sorted(candidate.by_id.items()) if at in base.by_id]
    for name, said in SIGNS.items():
        pairs = [(ours.signs[name], theirs.signs[name]) for ours, theirs in both
                 if name in ours.signs and name in theirs.signs]  # fmt: skip
        if not pairs:
            continue
        test = BettingTest(1.0)
        for ours, theirs in pairs:
            test.update(ours - theirs)
        one, other = (fmean(side) for side in zip(*pairs, strict=True))
        if test.wealth >= policy.threshold and one - other >= _MORE_OFTEN:
            yield f"{100 * one:.0f}% of its answers {said}, {100 * other:.0f}% of the base's"


def _fixed(policy: Policy, row: RowStanding, of: RowData) -> int | None:
    """Units that a test of a fixed size would take to come to the same verdict with a power of 80%.

    New questions: the test of `compare`, on questions drawn from those that were asked. Rounds: by the normal
    approximation, from how the samples of a question differ, as the questions stay the same.
    """
    units = row.test.units
    ours, theirs = np.array(of.candidate[:units]), np.array(of.base[:units])
    if row.verdict == "undecided" or units < _FEWEST:
        return None
    if policy.population == "these questions":
        values = ours - policy.keep * theirs - (1 - policy.keep) * of.chance
        normal, mean = NormalDist(), float(values.mean())
        spread = math.sqrt(values.var(axis=0, ddof=1).mean())
        reach = (normal.inv_cdf(1 - policy.error / 2) + normal.inv_cdf(_POWER)) * spread / abs(mean)
        return max(1, math.ceil(reach**2 / len(of.base[0])))
    generator = np.random.default_rng(units)
    for size in np.geomspace(_FEWEST, 20 * of.total, _SIZES):
        count = round(float(size))
        drawn = generator.integers(0, units, (_DRAWS, count))
        low, high = kept_bounds(ours[drawn, 0], theirs[drawn, 0], of.chance, 1 - policy.error)
        decided = low >= policy.keep if row.verdict == "kept" else high < policy.keep
        if decided.mean() >= _POWER:
            return count
    return None


def _costs(study: GateStudy, kept: Sequence[Candidate]) -> dict[str, dict[RankedBy, float]]:
    """What the candidates that are kept cost, by name: on the same questions of the critical benchmarks."""
    tasks = study.policy.of_tier("critical")
    answers = {one.name: study.answers(one.name) for one in kept}
    both = {task: set.intersection(*({*some[task].by_id} for some in answers.values())) for task in tasks if answers}
    return {name: _costs_of(some, both) for name, some in answers.items()}


def _costs_of(answers: Mapping[str, Answers], questions: Mapping[str, set[int]]) -> dict[RankedBy, float]:
    run = next(iter(answers.values())).run
    same = [answers[task].only(some) for task, some in questions.items()]
    speed = run.generation.get("tokens_per_second")
    stored = run.pruning.weight_bytes if run.pruning and run.pruning.weight_bytes else run.costs.get("weight_bytes")
    known: dict[RankedBy, float | None] = {
        "bytes": stored,
        "flops": _mean([one.flops_of_an_answer for one in same]),
        "tokens": _mean([one.tokens_of_an_answer for one in same]),
        "speed": speed,
    }
    return {name: float(value) for name, value in known.items() if value}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _of_base(study: GateStudy) -> tuple[float, float]:
    """Tokens that the base spent, and would have spent on everything; none if there were results already."""
    if study.base_run is None:
        return 0.0, 0.0
    answers = study.answers(BASE)
    spent = sum(one.tokens for one in answers.values())
    whole = 0.0
    for task, one in answers.items():
        done = one.samples if study.gate.population == "these questions" else len(one.by_id)
        whole += one.tokens / max(1, done) * study.total(task, one)
    return spent, whole


# The order of those that are kept ---------------------------------------------------------------------------


def _ranked(study: GateStudy, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates, with ranks by cost for those that are kept, and by accuracy only where a test separates two."""
    by = study.gate.rank_by
    costs = _costs(study, [one for one in candidates if one.verdict in ("kept", "check")])
    kept = [name for name, some in costs.items() if by in some]
    sign = -1 if by == "speed" else 1

    def cheaper(one: str, other: str) -> bool:
        mine, its = sign * costs[one][by], sign * costs[other][by]
        return its - mine > _EQUAL * abs(its)

    equal = [pair for pair in permutations(kept, 2) if not cheaper(*pair) and not cheaper(*reversed(pair))]
    evidence = _better_evidence(study, equal)
    separated = {pair for pair, value in zip(equal, evidence, strict=True) if value >= len(equal) / study.gate.error}
    ranks = {name: 1 + sum(cheaper(other, name) or (other, name) in separated for other in kept) for name in kept}
    return tuple(replace(one, rank=ranks.get(one.name), costs=costs.get(one.name, {})) for one in candidates)


def _better_evidence(study: GateStudy, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Evidence that the first of each pair is better than the second on critical benchmarks: the mean over them."""
    if not pairs:
        return []
    found = []
    for task in study.policy.of_tier("critical"):
        differences = [_differences(study, task, *pair) for pair in pairs]
        units, parts = (max(one.shape[axis] for one in differences) for axis in (0, 1))
        test = BettingTest(np.ones(len(pairs)))
        for number in range(units):
            unit = np.zeros((len(pairs), parts))
            for place, one in enumerate(differences):
                if number < len(one):
                    unit[place, : one.shape[1]] = one[number]
            test.update(unit, parts=True)
        found.append(np.exp(np.minimum(test.log_wealth, _LARGEST)))
    return [float(value) for value in np.mean(found, axis=0)]


def _differences(study: GateStudy, task: str, name: str, other: str) -> Floats:
    """Scores of a candidate less those of another, on the questions that both were asked, [units, parts]."""
    one, two = study.answers(name)[task], study.answers(other)[task]
    order = [question for question in study.order(task) if question in one.by_id and question in two.by_id]
    units = zip(*(some.units(order, study.policy.population) for some in (one, two)), strict=False)
    found = [[a - b for a, b in zip(*unit, strict=True)] for unit in units]
    return np.array(found, dtype=np.float64).reshape(len(found), -1) if found else np.zeros((0, 1))
