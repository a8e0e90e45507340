"""Correct replies in a base model's results, as calibration texts of pruning methods (`calibration=run:FOLDER`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.harness.effects import is_usual
from lm_eval_ext.harness.registry import models
from lm_eval_ext.pruning.calibration import Exchange
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import Source, load
from lm_eval_ext.runs.run import Run
from lm_eval_ext.runs.samples import Sample


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
    if not folder:
        raise ArgumentError("calibration=run: names no folder; give run:FOLDER, with results of the base model")
    sources = load([Path(folder)], read_catalogue())
    whole = [source for source in sources if source.run.whole]
    if len({source.run.base for source in whole}) > 1:
        bases = ", ".join(sorted({source.run.base for source in whole}))
        raise ArgumentError(
            f"calibration=run:{folder}: has results of several base models ({bases}); give one's folder"
        )
    found = dict.fromkeys(_in_turn([replies for source in whole for replies in _of_run(source)]))
    if not found:
        raise ArgumentError(f"calibration=run:{folder}: {_missing(sources, whole)}")
    return list(islice(found, count))


def _missing(sources: Sequence[Source], whole: Sequence[Source]) -> str:
    if not whole:
        return f"has only results of smaller models ({sources[0].run.label}); give those of the base model"
    return (
        "contains no correct reply whose thinking has ended by itself; run lm_eval with --log_samples on a task that "
        "the base model can solve, with a larger budget"
    )


def _of_run(source: Source) -> Iterator[list[Exchange]]:
    """The correct replies to each question."""
    tasks = sorted(source.run.tasks.items(), key=lambda one: one[1].budget or float("inf"), reverse=True)
    seen = not _templates_prompts(source.run)
    for name, _ in tasks:
        yield from (_correct(sample, seen) for sample in source.samples(name))


def _correct(sample: Sample, seen: bool) -> list[Exchange]:
    prompt = sample.prompt
    if prompt is None or sample.metrics.get("forced"):
        return []
    return [Exchange(prompt, one.text, seen=seen) for one in sample.outputs if one.grade == "correct" and one.text]


def _templates_prompts(run: Run) -> bool:
    """Whether the model class of a run applies the chat template to prompts that were saved without it."""
    return run.engine in models() and is_usual("auto_chat_template", run.model_args.get("auto_chat_template"))


def _in_turn(questions: Sequence[Sequence[Exchange]]) -> Iterator[Exchange]:
    """The first reply to each question, then the second ones, and so on."""
    for replies in zip_longest(*questions):
        yield from (reply for reply in replies if reply is not None)
