"""Metrics of a question's samples: shares, pass@k, maj@k, tokens; and their aggregations over questions.

Plain functions with the arguments that lm-eval passes to a metric; `harness/registration.py` registers them. `acc` is
the mean over all samples of a question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lm_eval_ext.grading import COMPARED
from lm_eval_ext.grading.grading import Grade
from lm_eval_ext.grading.kinds import KINDS
from lm_eval_ext.grading.rules import TRACE, Rules
from lm_eval_ext.statistics.estimators import g_pass_at_k, ks, maj_at_k, pass_at_k
from lm_eval_ext.statistics.intervals import mean_interval

# Fields of every entry of `metric_list`; the others are options of a kind of answers.
METRIC_FIELDS = ("metric", "aggregation", "higher_is_better", "votes", "g_pass")
Samples = Sequence[str | Sequence[str]]


Function = Callable[..., Mapping[str, object]]


def _matching(kind: type[Rules]) -> Function:
    def match(
        references: Sequence[object], predictions: Samples, *, votes: bool = False, g_pass: Sequence[float] = (),
        **options: Any,
    ) -> dict[str, float]:  # fmt: skip
        rules, gold, answers = kind.of(options), str(references[0]), _answers(predictions)
        graded = rules.grades([(gold, answer) for answer in answers])
        return _scores(answers, graded, rules, votes=votes, g_pass=g_pass) | rules.extra(gold, answers)

    return _named(
        match,
        kind.match_name(),
        f"""Grade {kind.KIND} answers against the gold one.

    Returns `acc`, the share of correct samples; `answered`, the share of samples with an answer; and with
    `votes: true` also `pass@k` and `maj@k` for k = 2, 4, ... (`acc` is both for k = 1).

    Raises:
        TaskError: an option that such answers do not have.
    """,
    )


def _reasons(kind: type[Rules]) -> Function:
    def graded(references: Sequence[object], predictions: Samples, **options: Any) -> dict[str, list[str]]:
        gold = str(references[0])
        grades = kind.of(options).grades([(gold, answer) for answer in _answers(predictions)])
        return {"graded": [grade.reason for grade in grades]}

    return _named(
        graded,
        kind.graded_name(),
        """Give the reason of each grade.

    `graded` is the list of them in the samples file, and in the results the share that could be compared.
    """,
    )


def code_failed(predictions: Samples, **_: object) -> dict[str, list[str]]:
    """Give the first test that each program fails, and why.

    `failed` is the list of them in the samples file, empty for a program that passes, and their share in the results.
    """
    runs = [getattr(answer, "run", None) for answer in _answers(predictions)]
    return {"failed": [run.failed if run else "no program" for run in runs]}


def _named(function: Function, name: str, about: str) -> Function:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = about
    return function


def _scores(
    answers: Sequence[str],
    graded: Sequence[Grade],
    rules: Rules,
    *,
    votes: bool,
    g_pass: Sequence[float],
) -> dict[str, float]:
    scores = {
        "acc": _mean([grade.correct for grade in graded]),
        "answered": _mean([answer != "" for answer in answers]),
    }
    right = sum(grade.correct for grade in graded)
    for k in ks(len(answers))[1:] if votes or not rules.VOTES else ():
        scores[f"pass@{k}"] = pass_at_k(len(answers), right, k)
    if votes and rules.VOTES and len(answers) > 1:
        scores |= _majorities(rules.clusters([answers])[0], graded)
    return scores | {
        f"g-pass@{len(answers)}_{share}": g_pass_at_k(len(answers), right, len(answers), share) for share in g_pass
    }


def _majorities(labels: Sequence[int | None], graded: Sequence[Grade]) -> dict[str, float]:
    """maj@k of one question; a cluster of equal answers is correct if most of its members are."""
    votes = Counter(label for label in labels if label is not None)
    right = Counter(label for label, grade in zip(labels, graded, strict=True) if grade.correct)
    correct = [2 * right[label] > votes[label] for label in votes]
    abstained = sum(label is None for label in labels)
    return {f"maj@{k}": maj_at_k(list(votes.values()), correct, k, abstained) for k in ks(len(labels))[1:]}


def share_compared(reasons: Sequence[Sequence[str]]) -> float:
    """Share of samples that were graded without a failure; the others count as wrong."""
    return _mean([_mean([reason in COMPARED for reason in sample]) for sample in reasons])


def share_failed(failures: Sequence[Sequence[str]]) -> float:
    """Share of samples of which there is something that failed."""
    return _mean([_mean([one != "" for one in sample]) for sample in failures])


def ci95_low(scores: Sequence[float]) -> float:
    """Lower end of the 95% interval of the mean over questions."""
    return mean_interval(scores).low


def ci95_high(scores: Sequence[float]) -> float:
    """Upper end of the 95% interval of the mean over questions."""
    return mean_interval(scores).high


def trace_stats(predictions: Samples, **_: object) -> dict[str, float]:
    """Means over a question's samples: `thinking_tokens`, `answer_tokens`, shares `forced` and `looped`.

    Empty for models whose generations do not record them.
    """
    traces = [getattr(answer, "trace", None) for answer in _answers(predictions)]
    known = [trace for trace in traces if trace]
    return {name: _mean([trace[name] for trace in known]) for name in TRACE} if len(known) == len(traces) else {}


def _answers(predictions: Samples) -> list[str]:
    samples = predictions[0]
    return [samples] if isinstance(samples, str) else list(samples)


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))


AGGREGATIONS: dict[str, Callable[..., float]] = {  # by lm-eval's names; of a sequence of scores
    "mean": _mean,
    "share_compared": share_compared,
    "share_failed": share_failed,
    "ci95_low": ci95_low,
    "ci95_high": ci95_high,
}


class Measure(NamedTuple):
    """One number that a metric computes per question; results hold its mean over questions, or another aggregate.

    Attributes:
        name: as in results, with `k` and `t` as placeholders for numbers.
        meaning: for the documentation.
        unit: `share`, from 0 to 1, or `tokens`.
        higher_is_better: None if neither direction is better.
        shown: whether the site has a column for it.
    """

    name: str
    meaning: str
    unit: str = "share"
    higher_is_better: bool | None = True
    shown: bool = True


class Metric(NamedTuple):
    """An entry of a task's `metric_list`, and the scores it computes."""

    function: Function
    aggregation: str
    higher_is_better: bool
    gives: tuple[Measure, ...]

    @property
    def name(self) -> str:
        """The name in `metric_list`."""
        return self.function.__name__


_OF_ANSWERS = (
    Measure("acc", "share of a question's samples that are correct; equals pass@1 and maj@1"),
    Measure("answered", "share of samples with an answer"),
    Measure(
        "pass@k",
        "probability that at least one of k samples is correct, over all subsets; with `votes: true`, and of programs",
    ),
    Measure(
        "maj@k",
        "probability that the most frequent answer of k samples is correct, ties split; mathematically equal answers "
        "vote together; with `votes: true`",
    ),
    Measure("g-pass@k_t", "probability that at least a share t of k samples is correct; with `g_pass: [t, ...]`"),
)
_CHANCE = Measure("chance", "score of guessing among the options of the question", "share", None, shown=False)
_EXTRA = {
    "choice": (_CHANCE,),
    "text": (_CHANCE,),
    "code": (Measure("tests", "share of tests that a program passes"),),
    "json": (Measure("cells", "share of the gold answer's cells that are right"),),
}
_GRADED = Measure(
    "graded",
    "share of samples that could be compared with the gold answer, including those without an answer; the samples file "
    "says why the others could not: `unparsable`, `timeout`, `memory`; an exception of a program is a wrong answer",
)
_FAILED = Measure(
    "failed",
    "share of programs that fail a test; the samples file says which is the first, and why",
    higher_is_better=False,
    shown=False,
)
_OF_TRACES = (
    Measure("thinking_tokens", "thinking tokens per sample", "tokens", None),
    Measure("answer_tokens", "answer tokens per sample", "tokens", None),
    Measure("forced", "share of samples whose thinking was cut at the budget", higher_is_better=None),
    Measure("looped", "share of samples that end by repeating themselves", higher_is_better=False),
)
METRICS = (
    *(Metric(_matching(one), "mean", True, (*_OF_ANSWERS, *_EXTRA.get(name, ()))) for name, one in KINDS.items()),
    *(Metric(_reasons(one), "share_compared", True, (_GRADED,)) for one in KINDS.values()),
    Metric(code_failed, "share_failed", False, (_FAILED,)),
    Metric(trace_stats, "mean", False, _OF_TRACES),
)
FUNCTIONS: dict[str, Function] = {metric.name: metric.function for metric in METRICS}


def score_named(name: str) -> Measure | None:
    """The `Measure` for a name in results, such as `pass@k` for `pass@8`; None if it is not one of ours."""
    general = re.sub(r"@\d+", "@k", re.sub(r"(@\d+)_[\d.]+$", r"\1_t", name))
    return next((score for metric in METRICS for score in metric.gives if score.name == general), None)
