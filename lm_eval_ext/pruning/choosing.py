"""From a method's name to recipes: every method by its name, its parameters checked, its choices written down."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.methods.choice import Removal, Removals
from lm_eval_ext.pruning.recipe import CalibrationSet, Recipe
from lm_eval_ext.pruning.subject import Subject

logger = logging.getLogger("lm_eval.tts")

METHODS = {
    "angular": "angular",
    "laco": "laco",
    "magnitude": "magnitude",
    "perplexity": "perplexity",
    "random": "random_order",
    "reverse": "reverse",
    "selection": "selection",
    "shortgpt": "shortgpt",
    "sleb": "sleb",
    "taylor": "taylor",
}
WITHOUT_TEXTS = ("magnitude", "random", "reverse", "selection")
SOFTWARE = ("lm-eval-tts", "torch", "transformers")


def choose(subject: Subject, method: str, remove: Sequence[int], parameters: Mapping[str, Any]) -> dict[int, Recipe]:
    """Recipes by the number of layers that they remove, from one pass of scoring where the method allows it.

    Args:
        subject: the base model and its calibration texts.
        method: one of `METHODS`.
        remove: numbers of layers.
        parameters: the method's own.

    Raises:
        ArgumentError: no such method, number or parameter.
    """
    _check_numbers(remove, subject.depth)
    chosen = _chooser(method)
    given = _parameters(method, chosen, parameters)
    checked: Callable[..., Removals] = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(chosen)
    try:
        removals = checked(subject, list(remove), **given)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ArgumentError(f"{method}: {fault['loc'][0]}={fault['input']!r}: {fault['msg']}") from error
    return {count: _recipe(subject, method, given, removal, count) for count, removal in removals.items()}


def method_parameters(method: str) -> dict[str, Any]:
    """Names and defaults of a method's parameters; `inspect.Parameter.empty` where one must be given."""
    names = inspect.signature(_chooser(method)).parameters.values()
    return {one.name: one.default for one in names if one.kind is inspect.Parameter.KEYWORD_ONLY}


def _chooser(method: str) -> Callable[..., Removals]:
    if method not in METHODS:
        raise ArgumentError(f"method={method}: not known; known: {', '.join(METHODS)}")
    chooser: Callable[..., Removals] = importlib.import_module(f"lm_eval_ext.pruning.methods.{METHODS[method]}").choose
    return chooser


def _check_numbers(remove: Sequence[int], depth: int) -> None:
    wrong = [count for count in remove if not 0 < count < depth]
    if wrong or not remove:
        raise ArgumentError(f"remove={wrong[0] if wrong else ''}: of {depth} layers 1 to {depth - 1} can be removed")


def _parameters(method: str, chooser: Callable[..., Removals], given: Mapping[str, Any]) -> dict[str, Any]:
    known = method_parameters(method)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ArgumentError(f"{method}: parameter {unknown[0]!r} is not known; known: {', '.join(known) or 'none'}")
    missing = [name for name, default in known.items() if default is inspect.Parameter.empty and name not in given]
    if missing:
        raise ArgumentError(f"{method}: parameter {missing[0]!r} is missing")
    return {**{name: value for name, value in known.items() if value is not inspect.Parameter.empty}, **given}


def _recipe(subject: Subject, method: str, parameters: Mapping[str, Any], removal: Removal, count: int) -> Recipe:
    texts = None if method in WITHOUT_TEXTS else subject.calibration
    return Recipe(
        base=subject.pretrained,
        revision=subject.revision,
        drop=removal.drop,
        merge=removal.merges,
        variant=parameters.get("variant", "rdsc"),
        method=method,
        source=f"lm-eval-tts prune, {count} of {subject.depth} layers; {_definition(method)}",
        parameters={name: value for name, value in parameters.items() if value is not None},
        calibration=CalibrationSet(
            name=texts.name, samples=len(texts.texts), max_tokens=subject.max_tokens, sha256=texts.sha256
        )
        if texts
        else None,
        scores=tuple(score if score is None else round(score, 9) for score in removal.scores),
        versions={name: version(name) for name in SOFTWARE},
    )


def _definition(method: str) -> str:
    """The source that a method's module gives for its definition."""
    module = importlib.import_module(f"lm_eval_ext.pruning.methods.{METHODS[method]}")
    text = " ".join((module.__doc__ or "").split())
    found = [word.strip("().,;:") for word in text.split("arXiv ")[1:2]]
    return f"arXiv {found[0].split()[0].strip('().,;:')}" if found else text.split(":")[0].rstrip(".")
