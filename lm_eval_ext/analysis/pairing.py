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
from lm_eval_ext.runs.task_results import Asked

LEAST = 0.95  # of the questions of the smaller side
_SHOWN = 3  # examples in an error
_SHORTEST = 10  # characters of a text that is looked for in prompts; a number stands in many


class Pairs(NamedTuple):
    """Positions of the same questions in two results, in the order of the first."""

    base: tuple[int, ...]
    candidate: tuple[int, ...]


def paired(base: Sequence[Asked], candidate: Sequence[Asked], *, common: bool = False) -> Pairs:
    """Pair the questions of two results.

    Args:
        base, candidate: what was asked.
        common: take what is paired, however little it is.

    Raises:
        ResultsError: too few are paired, two questions are paired with the same one, or golds differ; the message has
            examples.
    """
    found = _matches(base, candidate)
    twice = [at for at, times in Counter(found.values()).items() if times > 1]
    if twice:
        raise ResultsError(f"several questions are paired with one: {_examples([candidate[at] for at in twice])}")
    fewer = min(len(base), len(candidate))
    if not found or (len(found) < LEAST * fewer and not common):
        lost = [one for at, one in enumerate(base) if at not in found]
        raise ResultsError(
            f"only {len(found):,} of {len(base):,} and {len(candidate):,} questions are the same, judged by their "
            f"texts; not paired: {_examples(lost)}" + ("; --common takes only those that are paired" if found else "")
        )
    other = [
        base[at] for at, same in found.items() if not _agree(base[at].gold, candidate[same].gold)
    ]  # fmt: skip
    if other:
        raise ResultsError(f"{len(other):,} questions have other gold answers: {_examples(other)}")
    return Pairs(tuple(found), tuple(found.values()))


def _examples(some: Sequence[Asked]) -> str:
    return "; ".join(f"{line(one.bare or one.prompt, 60)!r}" for one in some[:_SHOWN]) or "none"


def _matches(base: Sequence[Asked], candidate: Sequence[Asked]) -> dict[int, int]:
    """Positions in the base, and of the same questions in the candidate, by whatever finds most."""
    texts, others = _texts(base), _texts(candidate)
    places = {text: at for at, text in enumerate(others) if text}
    equal = {at: places[text] for at, text in enumerate(texts) if text in places}
    if len(equal) == min(len(base), len(candidate)):
        return equal
    longer = [_within(texts, normalised(one.prompt or one.bare)) for one in candidate]
    in_prompts = {at: same for same, at in enumerate(longer) if at is not None}
    if len(in_prompts) < len(longer) - longer.count(None):
        several = next(at for at, times in Counter(longer).items() if at is not None and times > 1)
        raise ResultsError(f"several questions of the candidate have the text of one: {_examples([base[several]])}")
    shorter = [_within(others, normalised(one.prompt or one.bare)) for one in base]
    in_ours = {at: same for at, same in enumerate(shorter) if same is not None}
    return dict(sorted(max(equal, in_prompts, in_ours, key=len).items()))


def _texts(asked: Sequence[Asked]) -> list[str]:
    """Normalised texts; empty where another question has the same, so that it can't be told which it is."""
    every = [normalised(one.bare or one.prompt) for one in asked]
    times = Counter(every)
    return [text if times[text] == 1 else "" for text in every]


def _within(texts: Sequence[str], prompt: str) -> int | None:
    """The position of the text that a prompt contains and that ends last in it; of several, the longest."""
    best: tuple[int, int, int] | None = None
    for at, text in enumerate(texts):
        end = _end(text, prompt) if len(text) >= _SHORTEST else 0
        if end and (best is None or (end, len(text)) > best[:2]):
            best = end, len(text), at
    return None if best is None else best[2]


def _end(text: str, prompt: str) -> int:
    """Where a text ends that stands in a prompt, the last time, between other words; 0 if it doesn't."""
    start = prompt.rfind(text)
    while start >= 0:
        end = start + len(text)
        before, after = prompt[start - 1 : start], prompt[end : end + 1]
        if not (before.isalnum() and text[0].isalnum()) and not (after.isalnum() and text[-1].isalnum()):
            return end
        start = prompt.rfind(text, 0, end - 1)
    return 0


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two sets of accepted answers have one in common, or one of them is not known."""
    if not one or not other or {*map(normalised, one)} & {*map(normalised, other)}:
        return True
    return any(grade.correct for grade in grades([(gold, answer) for gold in one for answer in other]))


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
        pairs = paired(asked, _asked(theirs), common=common)
    except ResultsError as error:
        raise ResultsError(f"{name}: {error}") from error
    counts = [f"{len(pairs.base):,} of {len(one.scores):,}" for one in (ours, theirs)]
    some_left = len(pairs.base) < max(len(ours.scores), len(theirs.scores))
    mismatch = [Mismatch(f"{name}: questions that are paired", *counts)] if some_left else []
    question_set = digest(["paired", *(normalised(asked[at].bare or asked[at].prompt) for at in pairs.base)])[:16]
    return (_cut(ours, pairs.base, question_set), _cut(theirs, pairs.candidate, question_set)), mismatch


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]+", "-", name.casefold().removeprefix("tts_"))


def _asked(task: TaskScores) -> list[Asked]:
    return task.sources[0].asked(task.task)


def _cut(task: TaskScores, places: Sequence[int], question_set: str) -> TaskScores:
    """A task with some of its questions, in another order; what single samples say is left out."""
    metrics: Mapping[str, tuple[float, ...]] = {
        name: tuple(values[at] for at in places) for name, values in task.metrics.items()
    }
    parts = {column: tuple(values[at] for at in places) for column, values in task.result.parts.items()}
    result = task.result.model_copy(update={"question_set": question_set, "scores": metrics["acc"], "parts": parts})
    return replace(task, result=result, metrics=metrics, ids=tuple(range(len(places))), sources=())
