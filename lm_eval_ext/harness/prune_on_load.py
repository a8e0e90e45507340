"""Which recipe the model arguments select; `prune=shortgpt:3` is computed when the model is loaded, and kept."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from filelock import FileLock

from lm_eval_ext.errors import ArgumentError, RecipeError
from lm_eval_ext.harness.arguments import BY_HAND_FIELDS, Arguments, by_hand
from lm_eval_ext.harness.effects import marked
from lm_eval_ext.paths import cache_folder, digest, located
from lm_eval_ext.plugins import software
from lm_eval_ext.pruning.architecture import check_supported, depth
from lm_eval_ext.pruning.calibration import calibration, check_source
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.pruning.context import PruningContext, ScoreCache
from lm_eval_ext.pruning.loading import checkpoint_fingerprint
from lm_eval_ext.pruning.quantization import check_quantization
from lm_eval_ext.pruning.recipe import Recipe, load_recipe, write_recipe
from lm_eval_ext.pruning.selection import check_amount, choose, complete_parameters, texts_for, uses_texts

logger = logging.getLogger("lm_eval.tts")


class PruneSpec(NamedTuple):
    """A parsed `METHOD:N[:name=value...]`; N is a number, a share such as `25%`, or of weights also `2of4`."""

    method: str
    amount: int | str
    parameters: dict[str, object]


def parse_prune_spec(prune: object) -> PruneSpec:
    """Parse `METHOD:N[:name=value...]`: a method, how much it removes, and parameters of the method.

    Raises:
        ArgumentError: it does not have this form.
    """
    method, *rest = str(prune).split(":")
    if not rest or not re.fullmatch(r"\d+(\.\d+)?%?|\d+of\d+", rest[0], re.ASCII):
        raise ArgumentError(
            f"prune={prune}: give METHOD:N, e.g. shortgpt:2 or wanda:20%, or METHOD:N:NAME=VALUE, e.g. "
            "magnitude:2:norm=l2"
        )
    amount = int(rest[0]) if rest[0].isdecimal() else rest[0]
    return PruneSpec(method, amount, parse_parameters(rest[1:]))


def parse_parameters(pairs: list[str]) -> dict[str, object]:
    """Parse parameters of a method from `name=value` pairs; a value is a Python literal or plain text."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise ArgumentError(f"parameter {wrong[0]!r}: give it as NAME=VALUE")
    return {name.strip(): _literal(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def chosen_recipe(
    pretrained: str | None, revision: str | None, given: Arguments, computed: Callable[[], Recipe]
) -> Recipe | None:
    """The recipe that the arguments select; None for the base model.

    With `recipe`, `pretrained` may be a local copy of its base, which is then loaded; the recipe keeps its own `base`.

    Args:
        pretrained: name or folder of the base model, if given.
        revision: branch, tag or commit of the base model, if given.
        given: our model arguments.
        computed: computes the recipe for `prune`.

    Raises:
        ArgumentError: more than one of `recipe`, `drop_layers` and `prune` is given, the layers are invalid, or `base`
            is another one than the recipe's.
        RecipeError: the recipe cannot be read.
    """
    named = _choosing(given)
    if given.prune is not None:
        return computed()
    if given.recipe is not None:
        recipe = given.recipe if isinstance(given.recipe, Recipe) else load_recipe(given.recipe)
        if recipe.checkpoint and given.base not in (None, recipe.base):
            raise ArgumentError(f"base={given.base}: the recipe says that its checkpoint was made from {recipe.base}")
        return recipe
    if not named:
        return None
    dropped = {BY_HAND_FIELDS[name]: getattr(given, name) for name in named}
    return by_hand(pretrained or "", dropped, revision or "main")


def check_choice(given: Arguments) -> None:
    """Check what the arguments choose, as far as that needs neither the model nor any text.

    Raises:
        ArgumentError: more than one of `recipe`, `drop_layers` and `prune` is given; or there is no such method,
            parameter or source of calibration texts.
        RecipeError: the recipe cannot be read.
    """
    _choosing(given)
    if isinstance(given.recipe, str):
        load_recipe(given.recipe)
    if given.prune is not None:
        spec = _checked_spec(given.prune)
        check_source(texts_for(spec.method, spec.parameters, given.calibration))


def _choosing(given: Arguments) -> list[str]:
    """Names of the arguments that choose what is removed."""
    named = [name for name in marked("chooses") if getattr(given, name) is not None]
    if len(named) > 1 and not set(named) <= set(BY_HAND_FIELDS):
        raise ArgumentError(f"{' and '.join(named)} contradict each other; give one of them")
    return named


def _checked_spec(prune: object) -> PruneSpec:
    spec = parse_prune_spec(prune)
    check_amount(spec.method, spec.amount, f"prune={prune}")
    complete_parameters(spec.method, spec.parameters)
    return spec


def computed_recipe(pretrained: object, revision: str | None, given: Arguments, **options: Any) -> Recipe:
    """The recipe for `prune=`, from the cache if it was computed before.

    Args:
        pretrained: Hub name or folder of the base model.
        revision: branch, tag or commit.
        given: our model arguments: `prune`, and those of the calibration.
        options: `dtype` and `trust_remote_code` of the model.
    """
    prune = given.prune
    if not isinstance(pretrained, str):
        raise ArgumentError(f"prune={prune}: pass pretrained as a name or folder of the model to prune")
    spec = _checked_spec(prune)
    numbers = {"samples": given.calibration_samples, "max_tokens": given.calibration_tokens}
    options |= {name: number for name, number in numbers.items() if number is not None}
    with ExitStack() as alone:
        context = alone.enter_context(
            choosing(pretrained, revision, spec.method, spec.parameters, given.calibration, **options)
        )
        scores = context.score_cache.path  # is named by all that the scores depend on
        determined = digest([scores and scores.stem, *spec])
        path = cache_folder() / "recipes" / f"{determined[:16]}.yaml"
        with suppress(OSError):  # where the cache cannot be written, each process computes it
            path.parent.mkdir(parents=True, exist_ok=True)
            alone.enter_context(FileLock(path.with_suffix(".lock")))
        if path.is_file():
            try:
                recipe = load_recipe(str(path))
            except RecipeError as error:
                logger.warning("prune=%s: %s; it is chosen again", prune, error)
            else:
                logger.info("prune=%s: using the recipe of an earlier run, %s", prune, path)
                return recipe
        recipe = choose(context, spec.method, [spec.amount], spec.parameters)[spec.amount]
        try:
            write_recipe(recipe, path)
            logger.info("prune=%s: recipe written to %s", prune, path)
        except OSError as error:
            logger.warning(
                "prune=%s: the recipe is not kept (%s); set XDG_CACHE_HOME to a folder that can be written",
                prune,
                error,
            )
    return recipe


@contextmanager
def choosing(
    pretrained: str,
    revision: str | None,
    method: str,
    parameters: Mapping[str, object],
    source: str | None,
    *,
    samples: int = 16,
    trust_remote_code: bool = False,
    **options: Any,
) -> Iterator[PruningContext]:
    """A base model from which a method chooses, on a GPU if there is one, with its texts and the scores of before.

    Args:
        pretrained: name or folder of the base model.
        revision: branch, tag or commit.
        method: that chooses.
        parameters: of the method.
        source: of the calibration texts.
        samples: number of texts.
        trust_remote_code: whether code of the checkpoint may run.
        options: what else `PruningContext` takes.
    """
    import torch

    pretrained, texts = located(pretrained), texts_for(method, parameters, source)
    config = read_config(pretrained, revision or "main", trust_remote_code)
    check_supported(config)
    check_quantization(config)
    options.setdefault("device_map", "auto" if torch.cuda.is_available() else None)
    context = PruningContext(
        pretrained, config, lambda: calibration(texts, samples), revision=revision or "main",
        trust_remote_code=trust_remote_code, **options,
    )  # fmt: skip
    determined = digest([
        checkpoint_fingerprint(pretrained, config, range(depth(config)), context.revision),
        pretrained, context.dtype, context.max_tokens, *software("torch", "transformers").values(),
        *([context.calibration.sha256, context.token_ids] if uses_texts(method, parameters) else [""]),
    ])  # fmt: skip
    context.score_cache = ScoreCache(cache_folder() / "prune" / f"{determined[:16]}.jsonl")
    try:
        yield context
    finally:
        context.release()
