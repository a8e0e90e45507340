"""Runs pruning methods by name: validates their parameters and turns their choices into recipes."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call

from lm_eval_ext.errors import ArgumentError, first_fault, meant
from lm_eval_ext.paths import named
from lm_eval_ext.plugins import software
from lm_eval_ext.pruning.architecture import text_config
from lm_eval_ext.pruning.blocks import ATTENTION, KINDS, MLP
from lm_eval_ext.pruning.calibration import EMBEDDED
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.experts import groups_of, most_dropped
from lm_eval_ext.pruning.methods.removal import Removal
from lm_eval_ext.pruning.recipe import CalibrationSet, Recipe, Shape
from lm_eval_ext.pruning.sparsity import Amount
from lm_eval_ext.report_page import SvgChart

logger = logging.getLogger("lm_eval.tts")

Count = int | Amount  # of layers, blocks or experts; of weights
_Given = TypeVar("_Given", bound=int | str | Amount)

BARRIERS = ("early_barrier", "latter_barrier")


class Method(NamedTuple):
    """A pruning method.

    Attributes:
        target: its module in `pruning/methods/` and its function, which has its definition.
        source: where the definition comes from.
        needs_texts: whether it looks at calibration texts.
        blocks: the kinds of blocks whose numbers it takes; empty if it takes numbers of layers.
        experts: whether it takes numbers of experts of each layer.
        weights: whether it sets weights to zero, and takes a share of them or n of each m.
    """

    target: str
    source: str
    needs_texts: bool = True
    blocks: tuple[str, ...] = ()
    experts: bool = False
    weights: bool = False


METHODS = {
    "aimer": Method("expert_scores:aimer", "arXiv 2603.18492", needs_texts=False, experts=True),
    "angular": Method("similarity:angular", "arXiv 2403.17887"),
    "attention": Method("block_similarity:attention", "arXiv 2406.15786", blocks=(ATTENTION,)),
    "ean": Method("expert_scores:ean", "arXiv 2510.13999", experts=True),
    "expert-drop": Method("expert_scores:expert_drop", "arXiv 2406.02500", experts=True),
    "fisher-experts": Method("expert_scores:fisher_experts", "lm-eval-tts", experts=True),
    "frequency": Method("expert_scores:frequency", "arXiv 2404.05089", experts=True),
    "joint": Method("block_similarity:joint", "arXiv 2406.15786", blocks=KINDS),
    "laco": Method("laco:laco", "arXiv 2402.11187"),
    "magnitude": Method("without_texts:smallest_weights", "arXiv 2402.02834", needs_texts=False),
    "magnitude-weights": Method("weights:magnitude_weights", "a baseline", needs_texts=False, weights=True),
    "man": Method("expert_scores:man", "arXiv 2606.15716", experts=True),
    "mlp": Method("block_similarity:mlp", "arXiv 2406.15786", blocks=(MLP,)),
    "perplexity": Method("perplexity:one_shot", "arXiv 2402.02834"),
    "random": Method("without_texts:random_order", "a baseline", needs_texts=False),
    "random-experts": Method("expert_scores:random_experts", "a baseline", needs_texts=False, experts=True),
    "reap": Method("expert_scores:reap", "arXiv 2510.13999", experts=True),
    "replaceme": Method("replaceme:replaceme", "arXiv 2505.02819"),
    "reverse": Method("without_texts:reverse", "arXiv 2510.22228", needs_texts=False),
    "ria": Method("weights:ria", "Plug-and-Play, ICLR 2024", weights=True),
    "selection": Method("without_texts:by_hand", "layers given by hand", needs_texts=False),
    "shortgpt": Method("similarity:shortgpt", "arXiv 2403.03853"),
    "sleb": Method("perplexity:sleb", "arXiv 2402.09025"),
    "sparsegpt": Method("sparsegpt:sparsegpt", "arXiv 2301.00774", weights=True),
    "taylor": Method("perplexity:taylor", "arXiv 2402.02834"),
    "trace": Method("perplexity:trace", "lm-eval-tts"),
    "trace-experts": Method("expert_scores:trace_experts", "lm-eval-tts", experts=True),
    "wanda": Method("weights:wanda", "arXiv 2306.11695", weights=True),
    "weighted-ean": Method("expert_scores:weighted_ean", "arXiv 2510.13999", experts=True),
}


def choose(
    context: PruningContext, method: str, remove: Sequence[_Given], parameters: Mapping[str, object]
) -> dict[_Given, Recipe]:
    """Recipes by what is to be removed, from a single scoring pass if the method allows it.

    Args:
        context: the base model and its calibration texts.
        method: one of `METHODS`.
        remove: numbers of layers, numbers or shares of the experts of each layer, or shares of the weights. A share of
            experts is rounded down, to a multiple of the groups that the router chooses from.
        parameters: parameters of the method.

    Raises:
        ArgumentError: the method, a number or a parameter is invalid.
    """
    chosen = _chooser(method)
    counts = {amount: _counted(context, method, amount) for amount in remove}
    _check_numbers(context, list(counts.values()), method)
    given = complete_parameters(method, parameters)
    kept = {name: given.pop(name) for name in BARRIERS if name in given and name not in _own_parameters(method)}
    context.barriers = _barriers(context, method, kept, list(counts.values()))
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(chosen)
    try:
        removals = checked(context, list(dict.fromkeys(counts.values())), **given)
    except ValidationError as error:
        raise ArgumentError(f"{method}: {first_fault(error)}") from error
    for removal in removals.values():
        _check_barriers(context, method, removal)
    given |= {name: value for name, value in kept.items() if value}
    recipes = {count: _recipe(context, method, given, removal, count) for count, removal in removals.items()}
    return {amount: recipes[count] for amount, count in counts.items()}


def _own_parameters(method: str) -> dict[str, object]:
    """Names and defaults of a method's parameters; the default is `inspect.Parameter.empty` if it is required."""
    names = inspect.signature(_chooser(method)).parameters.values()
    return {one.name: one.default for one in names if one.kind is inspect.Parameter.KEYWORD_ONLY}


def method_named(name: str) -> Method:
    """The method of a name.

    Raises:
        ArgumentError: there is none.
    """
    if name not in METHODS:
        raise ArgumentError(f"unknown method {name!r}; {meant(name, METHODS)}")
    return METHODS[name]


def uses_texts(method: str, parameters: Mapping[str, object]) -> bool:
    """Whether a method looks at calibration texts, with these parameters."""
    return method_named(method).needs_texts or parameters.get("allocation") == "owl"


def _chooser(method: str) -> Callable[..., Mapping[Count, Removal]]:
    module, _, function = method_named(method).target.partition(":")
    chooser: Callable[..., Mapping[Count, Removal]] = getattr(
        importlib.import_module(f"lm_eval_ext.pruning.methods.{module}"), function
    )
    return chooser


def _check_numbers(context: PruningContext, remove: Sequence[Count], method: str) -> None:
    kinds = method_named(method).blocks
    if method_named(method).weights and remove:
        return
    total = context.depth * max(1, len(kinds))
    most, what = total - 1, f"model's {total} {' and '.join(kinds)} blocks" if kinds else f"model's {total} layers"
    if method_named(method).experts:
        _check_has_experts(context, method)
        most = most_dropped(context.config)
        what = f"{context.experts} experts of each layer"
    wrong = [count for count in remove if isinstance(count, Amount) or not 0 < count <= most]
    if wrong or not remove:
        raise ArgumentError(f"remove={wrong[0] if wrong else ''}: from 1 to {most} of the {what} can be removed")


def _check_has_experts(context: PruningContext, method: str) -> None:
    if not context.experts:
        kind = text_config(context.config).model_type
        raise ArgumentError(f"{method}: a {kind} model has no experts; use a method that drops layers or blocks")


def check_amount(method: str, amount: int | str | Amount, written: str | None = None) -> None:
    """Check that an amount is of the kind that a method takes; 0 means the whole model.

    Args:
        method, amount: what is checked.
        written: how the user wrote them, for messages.

    Raises:
        ArgumentError: it isn't.
    """
    text, chooses = str(amount).strip(), method_named(method)
    if chooses.weights and text != "0":
        Amount.parse(text, written)
    elif not re.fullmatch(r"\d+" + (r"|\d+(\.\d+)?%" if chooses.experts else ""), text, re.ASCII):
        only = "" if chooses.experts else "; only experts and weights have shares"
        share = " or a share such as 25%" if chooses.experts else ""
        raise ArgumentError(
            f"{written or f'remove={amount}'}: {method} takes a whole number of {_what(method)}{share}{only}"
        )


def _counted(context: PruningContext, method: str, amount: int | str | Amount) -> Count:
    check_amount(method, amount)
    text = str(amount).strip()
    if method_named(method).weights:
        return Amount.parse(text)
    if text.isdecimal():
        return int(text)
    _check_has_experts(context, method)
    groups, _ = groups_of(context.config)
    return int(context.experts * float(text.removesuffix("%")) / 100) // groups * groups


def texts_for(method: str, parameters: Mapping[str, object], calibration: str | None) -> str:
    """The source of a method's calibration texts, `embedded` if none is given.

    Raises:
        ArgumentError: none is given for a method of weights, whose choice depends on the texts most.
    """
    if calibration is None and method_named(method).weights and uses_texts(method, parameters):
        raise ArgumentError(
            f"{method}: calibration is missing; weights that the texts don't use become zero, so name texts like those "
            "that the model will write: run:FOLDER, its own correct replies in results saved with --log_samples"
        )
    return calibration or EMBEDDED


def _what(method: str) -> str:
    """What the numbers of a method count."""
    if method_named(method).weights:
        return "weights"
    if method_named(method).experts:
        return "experts of each layer"
    kinds = method_named(method).blocks
    return f"layers' {' and '.join(kinds)} blocks" if kinds else "layers"


def _barriers(
    context: PruningContext, method: str, kept: Mapping[str, object], remove: Sequence[Count]
) -> tuple[int, int]:
    """The barriers that are given.

    Raises:
        ArgumentError: one is no number of layers, or they leave too few layers.
    """
    most = max((count for count in remove if isinstance(count, int)), default=0)
    numbers = [value for value in kept.values() if isinstance(value, int) and not isinstance(value, bool)]
    left = context.depth - sum(numbers)
    if (
        len(numbers) != len(kept)
        or min(numbers, default=0) < 0
        or left * max(1, len(method_named(method).blocks)) < (1 if method_named(method).experts else most)
    ):
        said = ", ".join(f"{name}={value!r}" for name, value in kept.items())
        raise ArgumentError(
            f"{method}: {said}: give numbers of layers that leave {most} {_what(method)} to remove; the model "
            f"has {context.depth} layers"
        )
    return (numbers[0], numbers[1]) if numbers else (0, 0)


def _check_barriers(context: PruningContext, method: str, removal: Removal) -> None:
    gone = {*removal.drop, *removal.drop_attention, *removal.drop_mlp, *removal.drop_experts} - set(context.removable)
    if gone:
        raise ArgumentError(f"{method}: layer {min(gone)} is to be removed, which a barrier keeps")


def complete_parameters(method: str, given: Mapping[str, object]) -> dict[str, object]:
    """Parameters of a method, with the defaults of those that aren't given.

    All but those of weights have `early_barrier` and `latter_barrier`: how many of the first and last layers stay.

    Raises:
        ArgumentError: the method is unknown, or has no such parameter, or one is missing.
    """
    own, barriers = _own_parameters(method), () if method_named(method).weights else BARRIERS
    known = own | {name: 0 for name in barriers if name not in own}
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise ArgumentError(f"{method} has no parameter {unknown!r}; {meant(unknown, known or ['none'])}")
    missing = [name for name, default in known.items() if default is inspect.Parameter.empty and name not in given]
    if missing:
        raise ArgumentError(f"{method}: parameter {missing[0]!r} is missing")
    return {**{name: value for name, value in known.items() if value is not inspect.Parameter.empty}, **given}


def _recipe(
    context: PruningContext, method: str, parameters: Mapping[str, Any], removal: Removal, count: Count
) -> Recipe:
    texts = context.calibration if uses_texts(method, parameters) else None
    total = context.experts if method_named(method).experts else context.depth
    taken = f"zeros {count}" if isinstance(count, Amount) else f"{count} of {total} {_what(method)}"
    scores = tuple(score if score is None else round(score, 9) for score in removal.scores)
    return Recipe(
        base=named(context.pretrained),
        revision=context.revision,
        shape=Shape.of(context.config, experts=method_named(method).experts),
        variant=parameters.get("variant", "rdsc"),
        method=method,
        source=f"lm-eval-tts prune, {taken}; {method_named(method).source}",
        parameters={name: value for name, value in parameters.items() if value is not None},
        calibration=CalibrationSet(
            name=texts.name, samples=len(texts.texts), max_tokens=context.max_tokens, sha256=texts.sha256
        )
        if texts
        else None,
        versions=software("torch", "transformers"),
        **removal._replace(scores=scores)._asdict(),
    )


_CHART = SvgChart(620, 280, left=16, top=36, bottom=36)
_KEPT, _DROPPED = "#8d99ae", "#d1495b"


def plot_scores(recipe: Recipe, path: Path) -> None:
    """Write an SVG of the scores by layer, or by kind of block and layer, with what is dropped highlighted."""
    base = recipe.base.rstrip("/").split("/")[-1]
    kinds = method_named(recipe.method).blocks or ("",)
    depth = len(recipe.scores) // len(kinds)
    title = f"{base}, {recipe.method}: {recipe.summary} of {depth} layers (hatched)"
    axis = "layer" if len(kinds) == 1 else f"layer: {', then '.join(kinds)}"
    parts = [
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="6" height="6" fill="{_DROPPED}"/>'
        '<line y2="6" stroke="#fff" stroke-width="2"/></pattern></defs>',
        f'<text x="{_CHART.left}" y="20">{escape(title)}</text>',
        *_bars(recipe, kinds, depth),
    ]
    path.write_text(_CHART.svg(parts, axis, title) + "\n", encoding="utf-8")


def _bars(recipe: Recipe, kinds: Sequence[str], depth: int) -> Iterator[str]:
    dropped = {"": recipe.drop, "attention": recipe.drop_attention, "mlp": recipe.drop_mlp}
    known = [score for score in recipe.scores if score is not None]
    low, high = min(0.0, *known), max(0.0, *known)
    count = len(recipe.scores)

    def y(score: float) -> float:
        return _CHART.y((score - low) / ((high - low) or 1.0))

    for place, score in enumerate(recipe.scores):
        kind, layer = kinds[place // depth], place % depth
        if score is not None:
            x, end = _CHART.x(place / count) + 1, _CHART.x((place + 1) / count) - 1
            top, bottom = min(y(score), y(0)), max(y(score), y(0))
            fill = "url(#hatch)" if layer in dropped[kind] else _KEPT
            yield (
                f'<rect x="{x:.1f}" width="{end - x:.1f}" y="{top:.1f}" height="{bottom - top:.1f}" fill="{fill}">'
                f"<title>{kind or 'layer'} {layer}: {score:g}</title></rect>"
            )
        if layer % max(1, round(count / 20)) == 0:  # so that the labels don't touch
            yield _CHART.tick((place + 0.5) / count, str(layer))
