"""Regrades saved texts: extracts answers from them and grades them with the current grader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.grading.kinds import FILTERS, GRADED, MATCHING, extractor
from lm_eval_ext.metrics import AGGREGATIONS, FUNCTIONS
from lm_eval_ext.runs.untrusted import mapping, sequence, whole
from lm_eval_ext.thinking_formats import answer_after_thinking, text_marks

_OPTIONS = ("metric", "aggregation", "higher_is_better")  # in metric_list; other keys are a metric's own


class Kept(NamedTuple):
    """The saved data of a question.

    Attributes:
        gold: its gold answer, as the task passed it to the metric.
        texts: the text of every sample, thinking included.
        answers: the answers extracted from them.
        thinking_tokens: mean over samples; None if the model did not record it.
        doc: the dataset's row, if it was saved.
    """

    gold: object
    texts: Sequence[str]
    answers: Sequence[str]
    thinking_tokens: float | None
    doc: Mapping[str, object] = {}


class Graded(NamedTuple):
    """A question as graded by the current grader: the answer of every sample, and the scores by name."""

    answers: list[str]
    scores: dict[str, object]


@dataclass(frozen=True)
class Rules:
    """How a task extracts and grades answers.

    Attributes:
        filter: one of ours, such as `math_answer`, or None for any other filter, whose answers are kept.
        filter_options: its options.
        metrics: our grading metrics, with their options.
        aggregations: aggregation by metric.
    """

    filter: str | None
    filter_options: Mapping[str, object]
    metrics: Mapping[str, Mapping[str, object]]
    aggregations: Mapping[str, str]

    def aggregation(self, score: str) -> str:
        """Name of the aggregation of a score over questions."""
        giving = GRADED if score == "graded" else MATCHING
        return self.aggregations[next(name for name in giving if name in self.metrics)]


def graded_by(config: Mapping[str, object]) -> int | None:
    """Version of our grader, from a task's configuration in results; None if it was not graded by ours."""
    if not set(MATCHING) & {mapping(one).get("metric") for one in sequence(config.get("metric_list"))}:
        return None
    return whole(mapping(config.get("metadata")).get("grader_version")) or 1


def rules_of(config: Mapping[str, object], filter_name: str, place: str) -> Rules:
    """The rules that a task's configuration declares.

    Args:
        config: the task's configuration, with at least one of our metrics.
        filter_name: a filter of the task.
        place: location for error messages.

    Raises:
        ResultsError: an aggregation is not one of ours.
    """
    steps = [
        mapping(step)
        for one in map(mapping, sequence(config.get("filter_list")))
        for step in sequence(one.get("filter"))
        if one.get("name") == filter_name
    ]
    finder = steps[0] if len(steps) == 1 and steps[0].get("function") in FILTERS else {}
    declared = {one.get("metric"): one for one in map(mapping, sequence(config.get("metric_list")))}
    ours = {str(name): one for name, one in declared.items() if name in (*MATCHING, *GRADED)}
    aggregations = {name: str(one.get("aggregation", "mean")) for name, one in ours.items()}
    if unknown := next((one for one in aggregations.values() if one not in AGGREGATIONS), None):
        raise ResultsError(f"{place}: unknown aggregation {unknown!r}; expected one of: {', '.join(AGGREGATIONS)}")
    return Rules(
        str(finder["function"]) if finder else None,
        {name: value for name, value in finder.items() if name != "function"},
        {name: {key: value for key, value in one.items() if key not in _OPTIONS} for name, one in ours.items()},
        aggregations,
    )


def graded_again(questions: Sequence[Kept], rules: Rules, place: str) -> list[Graded]:
    """Grade every question with the current grader.

    Args:
        questions: the questions of one task and filter.
        rules: how the task extracts and grades answers.
        place: location for error messages.

    Raises:
        ResultsError: a question has more texts than answers or fewer, so some samples were not saved.
    """
    found = _answers(questions, rules, place) if rules.filter else [list(one.answers) for one in questions]
    return [
        Graded(
            [str(answer) for answer in answers],
            _merged(FUNCTIONS[metric]([one.gold], [answers], **chosen) for metric, chosen in rules.metrics.items()),
        )
        for one, answers in zip(questions, found, strict=True)
    ]


def _answers(questions: Sequence[Kept], rules: Rules, place: str) -> list[list[str]]:
    short = next((number for number, one in enumerate(questions, 1) if len(one.texts) != len(one.answers)), None)
    if short is not None:
        raise ResultsError(f"{place}: question {short}: does not have one answer for each text")
    extractor(str(rules.filter), rules.filter_options)  # refused now, if it has options that it doesn't know
    outputs = [list(_outputs(one, partial(_found_in, one, rules))) for one in questions]
    return _find(outputs, [one.doc for one in questions], rules)


def _find(outputs: Sequence[Sequence[str]], docs: Sequence[object], rules: Rules) -> list[list[str]]:
    return [list(answers) for answers in extractor(str(rules.filter), rules.filter_options).answers(outputs, docs)]


def _found_in(question: Kept, rules: Rules, part: str) -> str:
    """The answer that stands in a text that is all answer."""
    ((answer,),) = _find([[_known(part, part)]], [question.doc], rules)
    return str(answer)


def _merged(scores: Iterator[Mapping[str, object]]) -> dict[str, object]:
    return {name: value for some in scores for name, value in some.items()}


class _Output(str):
    """A text whose answer part is known, like one of our own generations."""

    answer: str


def _known(text: str, part: str) -> _Output:
    output = _Output(text)
    output.answer = part
    return output


def _outputs(question: Kept, found_in: Callable[[str], str]) -> Iterator[str]:
    """The texts as the filter saw them: unchanged from a stock model, with their answer parts from ours."""
    for text, answer in zip(question.texts, question.answers, strict=True):
        if question.thinking_tokens is None:
            yield text
        else:
            yield _known(text, _answer_part(text, answer, found_in, thought=question.thinking_tokens > 0))


def _answer_part(text: str, answer: str, found_in: Callable[[str], str], *, thought: bool) -> str:
    """The part after the thinking; with several end markers, the part in which the answer is found now too.

    A text without an end marker is all answer if an answer was found in it; else it was cut while thinking.
    """
    if not thought:
        return text
    ends = {end for marks in text_marks() for end in marks.ends if end in text}
    if not ends:
        return text if answer else ""
    usual = answer_after_thinking(text) or ""
    starts = sorted(at + len(end) for end in ends for at in _places(text, end))
    parts = [part for part in (usual, *(text[start:] for start in starts)) if answer in part]
    same = (part for part in parts if len(parts) == 1 or found_in(part) == answer)
    return next(same, parts[0] if parts else usual)


def _places(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


class TaskRegrading(NamedTuple):
    """The outcome of regrading one task of one file.

    Attributes:
        task: its name.
        metric: the one used as its accuracy.
        before, after: its values; `after` is None if the task keeps its scores.
        changed: number of questions whose score changed.
        questions: number of all questions.
        kept_because: why it keeps its scores.
    """

    task: str
    metric: str
    before: float
    after: float | None = None
    changed: int = 0
    questions: int = 0
    kept_because: str = ""

    def __str__(self) -> str:
        if self.after is None:
            return f"{self.task}: {self.metric} {self.before:.4f} kept: {self.kept_because}"
        moved = f"{self.changed} of {self.questions} questions" if self.changed else "no question"
        return f"{self.task}: {self.metric} {self.before:.4f} -> {self.after:.4f}, {moved} changed"


def why_kept(version: int) -> str:
    """Why a task graded by this version is not regraded; empty if it should be."""
    if version == GRADER_VERSION:
        return f"already graded by version {version}"
    if version > GRADER_VERSION:
        return f"graded by version {version}, newer than version {GRADER_VERSION} of this lm-eval-tts"
    return ""
