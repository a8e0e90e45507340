"""Which questions of two results are the same, where two tools asked them in other orders and other words.

Positions pair nothing, because tools shuffle; nor do ids. Two questions are the same if their texts are, without
differences of case, spaces and Unicode forms. Where a log has only the prompt, the question in it is the text of the
other side that it contains at word boundaries and that ends last, of several the longest: examples stand before it.
Golds that both sides have must agree, by our comparison of mathematics where they are written differently.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores
from lm_eval_ext.analysis.matching import Mismatch
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.grading.grading import grades
from lm_eval_ext.paths import digest
from lm_eval_ext.redaction import line
from lm_eval_ext.runs.logs.log import normalised
from lm_eval_ext.runs.task_results import AskedQuestion

LEAST = 0.95  # of the questions of the smaller side
_SHOWN = 3  # examples in an error
_AROUND = 3  # characters before a question that are the template's
_SHORTEST = 10  # characters of a text that is looked for in prompts; a number stands in many


class Pairs(NamedTuple):
    """Positions of the same questions in two results, in the order of the first."""

    base: tuple[int, ...]
    candidate: tuple[int, ...]


def paired(base: Sequence[AskedQuestion], candidate: Sequence[AskedQuestion], *, common: bool = False) -> Pairs:
    """Pair the questions of two results.

    Args:
        base, candidate: what was asked.
        common: take what is paired, however little it is.

    Raises:
        ResultsError: too few are paired, two questions are paired with the same one, or golds differ; the message has
            examples.
    """
    found = _matches(base, candidate)
    fewer = min(len(base), len(candidate))
    if not found or (len(found) < LEAST * fewer and not common):
        lost = [one for at, one in enumerate(base) if at not in found]
        raise ResultsError(
            f"only {len(found):,} of {len(base):,} and {len(candidate):,} questions are the same, judged by their "
            f"texts; not paired: {_examples(lost)}" + ("; --common takes only those that are paired" if found else "")
        )
    other = [base[at] for at, same in found.items() if not _agree(base[at].gold, candidate[same].gold)]
    if other:
        raise ResultsError(f"{len(other):,} questions have other gold answers: {_examples(other)}")
    options = [base[at] for at, same in found.items() if not _same_options(base[at].options, candidate[same].options)]
    if options:
        raise ResultsError(f"{len(options):,} questions have other options: {_examples(options)}")
    return Pairs(tuple(found), tuple(found.values()))


def _examples(some: Sequence[AskedQuestion]) -> str:
    return "; ".join(f"{line(one.bare or one.prompt, 60)!r}" for one in some[:_SHOWN]) or "none"


def _matches(base: Sequence[AskedQuestion], candidate: Sequence[AskedQuestion]) -> dict[int, int]:
    """Positions in the base, and of the same questions in the candidate, by whatever finds most."""
    texts, others = _texts(base), _texts(candidate)
    places = {text: at for at, text in enumerate(others) if text}
    found = {at: places[text] for at, text in enumerate(texts) if text in places}
    fewer = min(len(base), len(candidate))
    if len(found) < fewer:
        found = max(found, _in_prompts(texts, candidate), key=len)
    if len(found) < fewer:
        found = max(found, {at: same for same, at in _in_prompts(others, base).items()}, key=len)
    return dict(sorted(found.items()))


def _texts(asked: Sequence[AskedQuestion]) -> list[str]:
    """Normalised texts; empty where another question has the same, so that it can't be told which it is."""
    every = [normalised(one.bare or one.prompt) for one in asked]
    times = Counter(every)
    return [text if times[text] == 1 else "" for text in every]


class _Hit(NamedTuple):
    """A text in a prompt: its position among the texts, that of the prompt, and what stands around it."""

    text: int
    prompt: int
    before: str
    after: str


def _in_prompts(texts: Sequence[str], asked: Sequence[AskedQuestion]) -> dict[int, int]:
    """Positions of texts, and of the prompts in which they stand as the question.

    What stands around them is the template's, so it is the same in all, but for the options that follow a question of
    multiple choice: a question among the examples, or within another question, has something else around it.

    Raises:
        ResultsError: two prompts have the text of one.
    """
    by_end: dict[str, list[int]] = {}
    for at, text in enumerate(texts):
        if len(text) >= _SHORTEST:
            by_end.setdefault(text[-_SHORTEST:], []).append(at)
    prompts = [normalised(one.prompt or one.bare) for one in asked]
    hits = [hit for at, prompt in enumerate(prompts) if (hit := _last(texts, by_end, prompt, at))]
    before, after = (Counter(getattr(hit, side) for hit in hits) for side in ("before", "after"))
    if before:
        usual = before.most_common(1)[0][0], after.most_common(1)[0][0]
        choice = any(one.options for one in asked)
        hits = [hit for hit in hits if hit.before == usual[0] and (choice or hit.after == usual[1])]
    several = next((at for at, times in Counter(hit.text for hit in hits).items() if times > 1), None)
    if several is not None:
        raise ResultsError(f"several questions have the text of one: {line(texts[several], 60)!r}")
    return {hit.text: hit.prompt for hit in hits}


def _last(texts: Sequence[str], by_end: Mapping[str, Sequence[int]], prompt: str, number: int) -> _Hit | None:
    """The text in a prompt, at word boundaries, that ends last, and the longest of several."""
    for end in range(len(prompt), _SHORTEST - 1, -1):
        inside = [
            at
            for at in by_end.get(prompt[end - _SHORTEST : end], ())
            if prompt.endswith(texts[at], 0, end) and _is_apart(prompt, end - len(texts[at]), end)
        ]
        if inside:
            at = max(inside, key=lambda at: len(texts[at]))
            start = end - len(texts[at])
            return _Hit(at, number, prompt[max(0, start - _AROUND) : start], prompt[end:])
    return None


def stands_apart(text: str, prompt: str) -> bool:
    """Whether a text is somewhere in a prompt, at word boundaries.

    >>> stands_apart("1 + 2", "Q: 1 + 2 A:"), stands_apart("1 + 2", "11 + 2")
    (True, False)
    """
    start = prompt.find(text) if text else -1
    while start >= 0:
        if _is_apart(prompt, start, start + len(text)):
            return True
        start = prompt.find(text, start + 1)
    return False


def _is_apart(prompt: str, start: int, end: int) -> bool:
    """Whether no word goes on before or after a part of a prompt."""
    before, after = prompt[max(0, start - 1) : start], prompt[end : end + 1]
    return not (before.isalnum() and prompt[start].isalnum()) and not (after.isalnum() and prompt[end - 1].isalnum())


def _same_options(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two sets of options are the same, in whatever order, or one of them is not known."""
    return not one or not other or sorted(map(normalised, one)) == sorted(map(normalised, other))


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two sets of accepted answers have one in common, or one of them is not known."""
    if not one or not other or {*map(normalised, one)} & {*map(normalised, other)}:
        return True
    pairs = [(gold, answer) for gold in one for answer in other]
    return any(grade.correct for grade in grades([*pairs, *((answer, gold) for gold, answer in pairs)]))


# Two models ---------------------------------------------------------------------------------------------------


def aligned(
    base: EvaluatedModel, candidate: EvaluatedModel, *, common: bool = False
) -> tuple[EvaluatedModel, EvaluatedModel, list[Mismatch]]:
    """Two models with the questions of each benchmark in the same order, where a tool other than lm-eval asked them.

    Benchmarks may differ in case, dashes and our `tts_`; the base's names are kept.

    Args:
        base, candidate: the models.
        common: take what is paired, however little it is.

    Returns:
        both, and what was left out of them.

    Raises:
        ResultsError: questions can't be paired; the message has examples.
    """
    if not (base.run.tool or candidate.run.tool):
        return base, candidate, []
    names = {_plain(name): name for name in candidate.tasks}
    left, left_out = dict(candidate.tasks), list[Mismatch]()
    base_tasks, candidate_tasks = dict(base.tasks), dict[str, TaskScores]()
    for name, ours in base.tasks.items():
        theirs = left.pop(name, None) or left.pop(names.get(_plain(name), ""), None)
        if theirs is None:
            continue
        both = ours, replace(theirs, name=name)
        if _needs_pairing(*both):
            both, mismatch = _paired_tasks(name, *both, common=common)
            left_out += mismatch
        base_tasks[name], candidate_tasks[name] = both
    candidate_tasks |= {name: task for name, task in left.items() if name not in candidate_tasks}
    return replace(base, tasks=base_tasks), replace(candidate, tasks=candidate_tasks), left_out


def _needs_pairing(ours: TaskScores, theirs: TaskScores) -> bool:
    same = ours.result.question_set and ours.result.question_set == theirs.result.question_set
    return not same and all(one.sources and one.scores for one in (ours, theirs))


def _paired_tasks(
    name: str, ours: TaskScores, theirs: TaskScores, *, common: bool
) -> tuple[tuple[TaskScores, TaskScores], list[Mismatch]]:
    """Both with the same questions, and how many these are if some are left out."""
    asked = _asked(ours)
    try:
        pairs = pairs_of(ours, theirs, common=common)
    except ResultsError as error:
        raise ResultsError(f"{name}: {error}") from error
    counts = [f"{len(pairs.base):,} of {len(one.scores):,}" for one in (ours, theirs)]
    some_left = len(pairs.base) < max(len(ours.scores), len(theirs.scores))
    mismatch = [Mismatch(f"{name}: questions that are paired", *counts)] if some_left else []
    question_set = digest(["paired", *(normalised(asked[at].bare or asked[at].prompt) for at in pairs.base)])[:16]
    return (_cut(ours, pairs.base, question_set), _cut(theirs, pairs.candidate, question_set)), mismatch


def pairs_of(base: TaskScores, candidate: TaskScores, *, common: bool = False) -> Pairs:
    """Pair the questions of two results by their texts; otherwise as `paired`."""
    return paired(_asked(base), _asked(candidate), common=common)


def same_benchmark(name: str, other: str) -> bool:
    """Whether two tools' names of benchmarks differ only in case, dashes and our `tts_`.

    >>> same_benchmark("MATH-500", "tts_math_500")
    True
    """
    return _plain(name) == _plain(other)


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]+", "-", name.casefold().removeprefix("tts_"))


def _asked(task: TaskScores) -> list[AskedQuestion]:
    return task.sources[0].asked(task.task)


def _cut(task: TaskScores, places: Sequence[int], question_set: str) -> TaskScores:
    """A task with some of its questions, in another order; what single samples say is left out."""
    metrics: Mapping[str, tuple[float, ...]] = {
        name: tuple(values[at] for at in places) for name, values in task.metrics.items()
    }
    parts = {column: tuple(values[at] for at in places) for column, values in task.result.parts.items()}
    result = task.result.model_copy(update={"question_set": question_set, "scores": metrics["acc"], "parts": parts})
    return replace(task, result=result, metrics=metrics, ids=tuple(range(len(places))), sources=())
