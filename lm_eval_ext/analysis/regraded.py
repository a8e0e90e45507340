"""Answers that another tool scored, graded by ours from the saved texts, so that scores differ by the model only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lm_eval_ext.analysis.evaluated import EvaluatedModel, TaskScores
from lm_eval_ext.choices import LETTERS, lettered_lists
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.grading.kinds import KINDS
from lm_eval_ext.runs.logs.log import normalised
from lm_eval_ext.runs.regrading import SavedQuestion, TaskRules, graded_again
from lm_eval_ext.runs.run import Score
from lm_eval_ext.runs.task_results import AskedQuestion

_FILTER = "regraded"
_SUFFIX = f"-{_FILTER}"  # of the name that a task has then


def with_regraded(model: EvaluatedModel) -> EvaluatedModel:
    """A model with its tasks, and those whose answers could be graded again: as mathematics, or as chosen options.

    Raises:
        ResultsError: no answer can be graded again.
    """
    again = {f"{name}{_SUFFIX}": found for name, task in model.tasks.items() if (found := _regraded(name, task))}
    if not again:
        raise ResultsError(
            f"{model.label}: no answers can be graded again: it takes texts and gold answers, and of multiple choice "
            "prompts that show the options with their letters"
        )
    return replace(model, tasks={**model.tasks, **again})


def is_regraded(task: TaskScores) -> bool:
    """Whether it is the result of `with_regraded`."""
    return task.result.filter == _FILTER and task.result.graded_by is not None


def _regraded(name: str, task: TaskScores) -> TaskScores | None:
    own_kind = task.result.graded_by is not None and task.result.answers_as not in ("math", "choice")
    if len(task.sources) != 1 or not task.scores or own_kind:
        return None
    source = task.sources[0]
    rows, asked = source.samples(task.task), source.asked(task.task)
    texts = [[output.text for output in row.outputs] for row in rows]
    if len(asked) != len(rows) or not all(one.gold for one in asked) or not all(some and all(some) for some in texts):
        return None
    of_choice = all(one.options for one in asked)
    golds = [_right_letters(one) for one in asked] if of_choice else [one.gold for one in asked]
    if not all(golds) or (not of_choice and (task.result.chance or not _are_mathematics(golds))):
        return None
    kind = KINDS["choice" if of_choice else "math"]
    options = {"letters": LETTERS[: max(len(one.options) for one in asked)]} if of_choice else {}
    rules = TaskRules(kind.filter_name(), options, {kind.match_name(): {}}, {kind.match_name(): "mean"})
    questions = [
        SavedQuestion(gold, [str(text)], [""], None)
        for some_golds, some in zip(golds, texts, strict=True) for text in some for gold in some_golds
    ]  # fmt: skip
    graded = graded_again(questions, rules, name)
    answered = sum(any(one.answers) for one in graded) / len(graded)
    right = (float(str(one.scores["acc"])) for one in graded)
    scores = tuple(_scores(right, [(len(some), len(one)) for one, some in zip(golds, texts, strict=True)]))
    mean = Score(value=sum(scores) / len(scores))
    result = task.result.model_copy(
        update={
            "benchmark": f"{task.result.benchmark}{_SUFFIX}", "filter": _FILTER, "score": "acc", "scores": scores,
            "metrics": {"acc": mean, "answered": Score(value=answered)}, "grader_version": GRADER_VERSION,
            "chance": task.result.chance if of_choice else 0.0, "kind": "choice" if of_choice else "",
        }
    )  # fmt: skip
    return replace(task, name=f"{name}{_SUFFIX}", result=result, metrics={"acc": scores})


def _are_mathematics(golds: Sequence[Sequence[str]]) -> bool:
    """Whether gold answers may be compared as mathematics: none is in words, and not all are letters."""
    every = [gold.strip() for some in golds for gold in some]
    in_words = any(re.fullmatch(r"[^\W\d_]{2,}([ ,.'-]+[^\W\d_]+)*[.]?", gold) for gold in every)
    return not in_words and not all(re.fullmatch(r"\(?[A-Za-z]\)?", gold) for gold in every)


def _right_letters(one: AskedQuestion) -> tuple[str, ...]:
    """The letter of the right option, as the prompt shows it; empty if that isn't certain.

    Tools shuffle options, and log them in orders of their own, so that only the prompt says which letter is which.
    """
    lists = [{letter: normalised(option) for letter, option in some.items()} for some in lettered_lists(one.prompt)]
    alike = [some for some in lists if sorted(some.values()) == sorted(map(normalised, one.options))]
    if not alike or any(some != alike[0] for some in alike):  # none, or an example with the same options
        return ()
    shown = alike[0]
    right = {*map(normalised, one.gold)}
    letters = tuple(letter for letter, option in shown.items() if option in right)
    return letters if len(letters) == 1 else ()


def _scores(right: Iterator[float], shapes: list[tuple[int, int]]) -> Iterator[float]:
    """The share of a question's samples that equal any of its gold answers, for numbers of samples and golds."""
    for samples, golds in shapes:
        yield sum(max(next(right) for _ in range(golds)) for _ in range(samples)) / samples
