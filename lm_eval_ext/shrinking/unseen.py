"""Keeps a gate's questions from a search and a training: what has seen them would be made to suit them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from lm_eval_ext.analysis.pairing import stands_apart
from lm_eval_ext.errors import ManifestError, TTSError
from lm_eval_ext.harness.prompts import TaskQuestion, task_questions
from lm_eval_ext.pruning.calibration import Calibration
from lm_eval_ext.runs.correct_traces import CorrectTrace, drawn_traces
from lm_eval_ext.runs.logs.log import normalised

_WORDED = 24  # letters from which on a question is known wherever it stands; a sum may be part of a longer one
_ALL = 10**9


class SeenQuestion(NamedTuple):
    """A question that a search or a training sees.

    Attributes:
        prompt: with whatever stands around it.
        source, number: where it is from.
        asked: lm-eval's hash of its row; empty if it isn't known.
    """

    prompt: str
    source: str
    number: int
    asked: str = ""


def of_traces(traces: Iterable[CorrectTrace]) -> list[SeenQuestion]:
    """The questions that traces answer."""
    return [SeenQuestion(one.exchange.prompt, one.task, one.question, one.asked) for one in traces]


def of_texts(source: str, texts: Calibration) -> list[SeenQuestion]:
    """The questions in texts that a model is trained on, as far as they are known.

    Args:
        source: of the texts, as for `calibration`.
        texts: what was read from it.
    """
    kind, _, name = source.partition(":")
    if kind == "run":
        return of_traces(drawn_traces(name, _ALL, 0))
    if kind == "task":
        asked = task_questions(name, len(texts.texts))
        return [SeenQuestion(one.prompt, name, number, one.asked) for number, one in enumerate(asked)]
    prompts = (one if isinstance(one, str) else one.prompt for one in texts.texts)
    return [SeenQuestion(prompt, source, number) for number, prompt in enumerate(prompts)]


def refuse_seen(tasks: Iterable[str], questions: Sequence[SeenQuestion], what: str) -> None:
    """Refuse questions that nobody may have seen.

    Args:
        tasks: benchmarks of a gate.
        questions: what is seen.
        what: the field of a file that names them, for the message.

    Raises:
        ManifestError: some are of these benchmarks.
    """
    known = cache(_questions_of)
    pairs = [(one, _as_asked(one, known(one.source) if one.asked else ())) for one in questions]
    for task in tasks:
        if common := _common(pairs, task_questions(task)):
            raise ManifestError(
                f"{what}: {len(common)} of {len(questions)} are questions of the gate's {task} (such as question "
                f"{common[0].number} of {common[0].source}); give others"
            )


def _questions_of(source: str) -> Sequence[TaskQuestion]:
    try:
        return task_questions(source)
    except TTSError:  # it isn't a task here
        return ()


def _as_asked(one: SeenQuestion, own: Sequence[TaskQuestion]) -> TaskQuestion | None:
    """A question as its own task asks it, without examples; None if that isn't known here."""
    return own[one.number] if one.number < len(own) and own[one.number].asked == one.asked else None


def _common(
    pairs: Iterable[tuple[SeenQuestion, TaskQuestion | None]], asked: Sequence[TaskQuestion]
) -> list[SeenQuestion]:
    """Those that ask a question of a benchmark: by its row, else by its text, with or without the task's template."""
    rows, prompts = {one.asked for one in asked}, {normalised(one.prompt) for one in asked}
    times = Counter(map(_plain, asked))  # what several questions have in common, such as a passage, tells none
    texts = {some for some, count in times.items() if count == 1}
    worded = [some for some in texts if sum(map(str.isalpha, "".join(some))) >= _WORDED]

    def is_asked(one: SeenQuestion, own: TaskQuestion | None) -> bool:
        if one.asked in rows:
            return True
        if own is not None and (normalised(own.prompt) in prompts or _plain(own) in texts):
            return True
        prompt = normalised(one.prompt if own is None else own.prompt)
        if own is None and any(stands_apart(text, prompt) for text in prompts):
            return True
        return any(all(stands_apart(text, prompt) for text in some) for some in worded)

    return [one for one, own in pairs if is_asked(one, own)]


def _plain(one: TaskQuestion) -> tuple[str, ...]:
    text, *options = map(normalised, one.texts)
    return text, *sorted(options)
