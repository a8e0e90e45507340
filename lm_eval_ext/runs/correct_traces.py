"""Correct replies in a base model's results, on which methods are calibrated and to which candidates are held."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.harness.effects import is_usual
from lm_eval_ext.harness.registry import models
from lm_eval_ext.pruning.calibration import Exchange
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import Source, load
from lm_eval_ext.runs.run import Run
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.wording import short_name


class CorrectTrace(NamedTuple):
    """A correct reply of a base model, and the question that it answers.

    Attributes:
        task, question: which one; by its number in the task's dataset.
        exchange: prompt and reply.
        asked: lm-eval's hash of the question's row; empty if it isn't known.
    """

    task: str
    question: int
    exchange: Exchange
    asked: str = ""


def correct_traces(folder: str, count: int) -> list[Exchange]:
    """The first `count` correct replies of the base model, one of each question before a second one of any.

    A trace that was cut at a budget is not used, because its end is not the model's own.

    Args:
        folder: of results, of one base model.
        count: maximum number of replies.

    Raises:
        ArgumentError: there are none, or results of several base models.
        ResultsError: a file is invalid.
    """
    return list(islice(dict.fromkeys(trace.exchange for trace in _in_turn(_by_question(folder, ()))), count))


def drawn_traces(folder: str, count: int, seed: int, tasks: Collection[str] = (), base: str = "") -> list[CorrectTrace]:
    """As `correct_traces`, but questions and their samples are drawn; a question is one whatever its budget.

    Args:
        folder: of results, of one base model.
        count: maximum number of traces.
        seed: of the order in which they are drawn.
        tasks: those whose questions are used; all if empty.
        base: name or folder of the model whose traces they must be; any if empty.

    Raises:
        ArgumentError: there are none, or they are of another base model, or of several.
        ResultsError: a file is invalid.
    """
    by_prompt: dict[str, dict[str, CorrectTrace]] = {}  # and by reply, as budgets share those that end before any
    for trace in _in_turn(_by_question(folder, tasks, base)):
        by_prompt.setdefault(trace.exchange.prompt, {}).setdefault(trace.exchange.reply, trace)
    questions = [list(traces.values()) for traces in by_prompt.values()]
    generator = random.Random(seed)
    for traces in questions:
        generator.shuffle(traces)
    generator.shuffle(questions)
    return list(islice(_in_turn(questions), count))


def written_tokens(folder: str) -> float:
    """Number of tokens that the runs in a folder wrote, without those that they took from a journal."""
    totals = [source.run.generation for source in load([Path(folder)], read_catalogue())]
    return sum(one.get("thinking_tokens", 0.0) + one.get("answer_tokens", 0.0) for one in totals)


def _by_question(folder: str, tasks: Collection[str], base: str = "") -> list[list[CorrectTrace]]:
    if not folder:
        raise ArgumentError("run: names no folder; give run:FOLDER, with results of the base model")
    sources = load([Path(folder)], read_catalogue())
    whole = [source for source in sources if source.run.whole]
    bases = sorted({source.run.base for source in whole})
    if len(bases) > 1:
        raise ArgumentError(f"run:{folder}: has results of several base models ({', '.join(bases)}); give one's folder")
    wanted = short_name(base).casefold()
    other = next((one for one in bases if base and short_name(one).casefold() != wanted), None)
    if other is not None:
        raise ArgumentError(f"run:{folder}: has results of {other}, not of {base}; give those of the base itself")
    known = {name for source in whole for name in source.run.tasks}
    unknown = sorted(set(tasks) - known)
    if whole and unknown:
        raise ArgumentError(
            f"run:{folder}: has no results of {unknown[0]}; expected one of: {', '.join(sorted(known))}"
        )
    found = [replies for source in whole for replies in _of_run(source, tasks)]
    if not any(found):
        raise ArgumentError(f"run:{folder}: {_missing(sources, whole)}")
    return found


def _missing(sources: Sequence[Source], whole: Sequence[Source]) -> str:
    if not whole:
        return f"has only results of smaller models ({sources[0].run.label}); give those of the base model"
    return (
        "contains no correct reply whose thinking has ended by itself; run lm_eval with --log_samples on a task that "
        "the base model can solve, with a larger budget"
    )


def _of_run(source: Source, wanted: Collection[str]) -> Iterator[list[CorrectTrace]]:
    """The correct replies to each question."""
    tasks = sorted(source.run.tasks.items(), key=lambda one: one[1].budget or float("inf"), reverse=True)
    seen = not _templates_prompts(source.run)
    for name, _ in tasks:
        if not wanted or name in wanted:
            yield from (_correct(name, sample, seen) for sample in source.samples(name))


def _correct(task: str, sample: Sample, seen: bool) -> list[CorrectTrace]:
    prompt = sample.prompt
    if prompt is None or sample.metrics.get("forced"):
        return []
    return [
        CorrectTrace(task, sample.id, Exchange(prompt, one.text, seen=seen), sample.hash)
        for one in sample.outputs
        if one.grade == "correct" and one.text
    ]


def _templates_prompts(run: Run) -> bool:
    """Whether the model class of a run applies the chat template to prompts that were saved without it."""
    return run.engine in models() and is_usual("auto_chat_template", run.model_args.get("auto_chat_template"))


def _in_turn(questions: Sequence[Sequence[CorrectTrace]]) -> Iterator[CorrectTrace]:
    """The first reply to each question, then the second ones, and so on."""
    for replies in zip_longest(*questions):
        yield from (reply for reply in replies if reply is not None)
