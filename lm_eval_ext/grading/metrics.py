"""What lm-eval registers: filters that find final answers, metrics that grade them and count votes.

A filter keeps every repeat (lm-eval's default keeps the first alone), so a metric sees all samples of a question;
`acc` is their mean. The filter sees all questions at once and has their answers graded in one go; the metrics, called
question by question, then find that done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from string import ascii_uppercase
from typing import Any

from lm_eval.api.filter import Filter
from lm_eval.api.metrics import mean
from lm_eval.api.registry import register_aggregation, register_filter, register_metric

from lm_eval_ext.grading import COMPARED
from lm_eval_ext.grading.extract import ChoiceExtractor, Extractor
from lm_eval_ext.grading.grade import Grade, grades
from lm_eval_ext.grading.letters import ALL
from lm_eval_ext.grading.vote import clusters
from lm_eval_ext.statistics.estimators import g_pass_at_k, ks, maj_at_k, pass_at_k
from lm_eval_ext.statistics.intervals import mean_interval

TRACE = ("thinking_tokens", "answer_tokens", "forced", "looped")

Samples = Sequence[str | Sequence[str]]


class Answer(str):
    """A final answer that remembers how its text came about, where the text knows."""

    trace: dict[str, float] | None = None

    @classmethod
    def of(cls, output: str, text: str) -> Answer:
        """The answer `text` that was found in `output`."""
        answer = cls(text)
        if all(hasattr(output, name) for name in TRACE):
            answer.trace = {name: float(getattr(output, name)) for name in TRACE}
        return answer


class _AnswerFilter(Filter):  # type: ignore[misc]  # lm-eval has no type information
    """Finds every sample's answer.

    Args:
        find: where answers are looked for, in this order: `boxed`, `declared`, `last_expression`.
        thinking_end: what ends the thinking, for a stock model whose marker is not among the known ones.
    """

    def __init__(self, find: Sequence[str] = ("boxed", "declared"), thinking_end: str | None = None) -> None:
        self.extractor = Extractor(find, thinking_end)

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
        """Answers by question and sample; empty where a sample has none."""
        outputs = [list(samples) for samples in resps]
        found = self.extractor.answers(outputs)
        return [
            [Answer.of(output, text) for output, text in zip(*question, strict=True)]
            for question in zip(outputs, found, strict=True)
        ]


@register_filter("math_answer")
class MathAnswer(_AnswerFilter):
    """The final answer of every sample: the last box after the thinking, or what is declared as the answer.

    Args:
        gold: the dataset's field that holds the gold answer, in any case; where there is none of that name, or it
            holds a whole solution of several lines, answers are graded later, question by question.
    """

    def __init__(self, gold: str = "answer", **options: Any) -> None:
        super().__init__(**options)
        self.gold = gold

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
        """Answers by question and sample; empty where a sample has none."""
        answers = super().apply(resps, docs)
        golds = [_field(doc, self.gold) for doc in docs]
        grades([(gold, answer) for gold, some in zip(golds, answers, strict=True) if gold for answer in some])
        return answers


def _field(doc: Any, name: str) -> str | None:
    fields = {str(key).lower(): value for key, value in doc.items()} if isinstance(doc, dict) else {}
    value = fields.get(name.lower())
    return str(value) if isinstance(value, (str, int)) and "\n" not in str(value) else None


@register_filter("choice_answer")
class ChoiceAnswer(_AnswerFilter):
    """The letter that every sample chose, of those that its question has.

    Args:
        letters: those allowed where a question does not list its choices.
        choices: the dataset's field that does.
    """

    def __init__(self, letters: str = ALL, choices: str = "choices", **options: Any) -> None:
        super().__init__(**options)
        self.letters = letters
        self.choices = choices

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
        """Letters by question and sample; empty where a sample has none."""
        outputs = [list(samples) for samples in resps]
        allowed = [self._allowed(doc) for doc in docs]
        found = ChoiceExtractor(self.extractor, allowed).answers(outputs)
        return [
            [Answer.of(output, text) for output, text in zip(*question, strict=True)]
            for question in zip(outputs, found, strict=True)
        ]

    def _allowed(self, doc: Any) -> str:
        listed = doc.get(self.choices) if isinstance(doc, dict) else None
        return ascii_uppercase[: len(listed)] if isinstance(listed, (list, tuple)) and listed else self.letters


@register_metric(metric="math_verify", higher_is_better=True, aggregation="mean")  # type: ignore[untyped-decorator]
def math_verify(references: Sequence[object], predictions: Samples, **options: Any) -> dict[str, Any]:
    """Answers equal to the gold one by Math-Verify.

    Gives `acc`, their share; `answered`, the share of samples with an answer; and with `votes: true` also `pass@k`
    and `maj@k` for k = 2, 4, ... (`acc` is both for k = 1).
    """
    gold, answers = str(references[0]), _answers(predictions)
    return _scores(answers, grades([(gold, answer) for answer in answers]), clusters, **options)


@register_metric(metric="choice_match", higher_is_better=True, aggregation="mean")  # type: ignore[untyped-decorator]
def choice_match(references: Sequence[object], predictions: Samples, **options: Any) -> dict[str, Any]:
    """Letters that are the gold one; gives what `math_verify` gives."""
    letters = _answers(predictions)
    graded = [
        Grade(letter == references[0], "correct" if letter == references[0] else "wrong" if letter else "no answer")
        for letter in letters
    ]
    return _scores(letters, graded, _by_letter, **options)


def _by_letter(questions: Sequence[Sequence[str]]) -> list[list[int | None]]:
    return [[ord(letter) if letter else None for letter in letters] for letters in questions]


def _scores(
    answers: Sequence[str],
    graded: Sequence[Grade],
    clustered: Callable[[Sequence[Sequence[str]]], list[list[int | None]]],
    *,
    votes: bool = False,
    g_pass: Sequence[float] = (),
    **_: Any,
) -> dict[str, float]:
    scores = {
        "acc": _mean([grade.correct for grade in graded]),
        "answered": _mean([answer != "" for answer in answers]),
    }
    right = sum(grade.correct for grade in graded)
    for k in ks(len(answers))[1:] if votes else ():
        scores[f"pass@{k}"] = pass_at_k(len(answers), right, k)
    if votes and len(answers) > 1:
        scores |= _majorities(clustered([answers])[0], graded)
    return scores | {
        f"g-pass@{len(answers)}_{share}": g_pass_at_k(len(answers), right, len(answers), share) for share in g_pass
    }


def _majorities(labels: Sequence[int | None], graded: Sequence[Grade]) -> dict[str, float]:
    """maj@k of one question; a cluster is correct if most of it is, its members being equal to each other."""
    votes = Counter(label for label in labels if label is not None)
    right = Counter(label for label, grade in zip(labels, graded, strict=True) if grade.correct)
    correct = [2 * right[label] > votes[label] for label in votes]
    abstained = sum(label is None for label in labels)
    return {f"maj@{k}": maj_at_k(list(votes.values()), correct, k, abstained) for k in ks(len(labels))[1:]}


@register_aggregation("share_compared")  # type: ignore[untyped-decorator]
def share_compared(reasons: Sequence[Sequence[str]]) -> float:
    """Share of samples whose grade nothing got in the way of; the others count as wrong."""
    return _mean([_mean([reason in COMPARED for reason in sample]) for sample in reasons])


@register_metric(metric="math_graded", higher_is_better=True, aggregation="share_compared")  # type: ignore[untyped-decorator]
def math_graded(references: Sequence[object], predictions: Samples, **_: Any) -> dict[str, list[str]]:
    """`graded`: in the samples file why each grade was given, in the results the share that could be compared."""
    gold = str(references[0])
    return {"graded": [grade.reason for grade in grades([(gold, answer) for answer in _answers(predictions)])]}


@register_aggregation("ci95_low")  # type: ignore[untyped-decorator]
def ci95_low(scores: Sequence[float]) -> float:
    """Lower end of the 95% interval of the mean over questions."""
    return mean_interval(scores).low


@register_aggregation("ci95_high")  # type: ignore[untyped-decorator]
def ci95_high(scores: Sequence[float]) -> float:
    """Upper end of the 95% interval of the mean over questions."""
    return mean_interval(scores).high


@register_metric(metric="trace_stats", higher_is_better=False, aggregation="mean")  # type: ignore[untyped-decorator]
def trace_stats(predictions: Samples, **_: Any) -> dict[str, float]:
    """Means over a question's samples: `thinking_tokens`, `answer_tokens`, shares `forced` and `looped`.

    Nothing for texts of models that tell none of it.
    """
    traces = [getattr(answer, "trace", None) for answer in _answers(predictions)]
    known = [trace for trace in traces if trace]
    return {name: _mean([trace[name] for trace in known]) for name in TRACE} if len(known) == len(traces) else {}


def _answers(predictions: Samples) -> list[str]:
    samples = predictions[0]
    return [samples] if isinstance(samples, str) else list(samples)


def _mean(values: Sequence[float]) -> float:
    return float(mean(values))
