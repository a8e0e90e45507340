"""Model arguments that say which layers go: checked, and turned into a name for the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.recipe import Recipe, format_layers, load_recipe, parse_layers
from lm_eval_ext.registry import TINY_CHAIN

BY_HAND = "selection"


def parse_model_args(model_args: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Model arguments as a dictionary; unlike lm-eval's own parser, commas inside brackets stay (`[25,26]`)."""
    if not isinstance(model_args, str):
        return dict(model_args or {})
    from lm_eval._cli.utils import split_top_level
    from lm_eval.utils import handle_arg_string

    pairs = (argument.partition("=") for argument in split_top_level(model_args))
    return {key.strip(): handle_arg_string(value) for key, _, value in pairs}


def chosen_recipe(
    pretrained: str | None,
    revision: str | None,
    drop_layers: object,
    recipe: str | None,
    computed: Callable[[], Recipe] | None = None,
) -> Recipe | None:
    """The recipe that the arguments ask for; None for the whole model.

    `pretrained` may be a local copy of the recipe's base; it is what gets loaded, and what the recipe then names.

    Raises:
        ArgumentError: more than one of `recipe`, `drop_layers` and `prune`, or layers that are no layers.
        RecipeError: the recipe cannot be read.
    """
    given = {"recipe": recipe, "drop_layers": drop_layers, "prune": computed}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ArgumentError(f"{' and '.join(named)} contradict each other; give one of them")
    if computed is not None:
        return computed()
    if recipe is not None:
        return load_recipe(recipe)
    if drop_layers is None:
        return None
    return Recipe(
        base=pretrained or "",
        revision=revision or "main",
        drop=parse_layers(drop_layers),
        method=BY_HAND,
        source="model_args",
    )


def flag(name: str, value: object) -> bool:
    """A model argument that is true or false; lm-eval leaves `on` and `off` as text, and any text is true to Python.

    Raises:
        ArgumentError: it is neither.
    """
    words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if value in (True, False):
        return bool(value)
    raise ArgumentError(f"{name}={value!r}: give True or False")


def budget(name: str, value: object) -> int | None:
    """A model argument that counts tokens; None for -1, no limit.

    Raises:
        ArgumentError: it is no whole number from -1.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= -1:
        return None if value == -1 else value
    raise ArgumentError(f"{name}={value!r}: give a whole number of tokens, or -1 for no limit")


def run_name(model_name: str, model_args: str | Mapping[str, Any] | None) -> str:
    """lm-eval's name of a run, and what was dropped: a dense and a pruned run never share a folder."""
    arguments = parse_model_args(model_args)
    if not any(name in arguments for name in ("pretrained", "peft", "delta")):
        model_name = TINY_CHAIN.name  # lm-eval makes a random one up
    recipe, drop = arguments.get("recipe"), arguments.get("drop_layers")
    if recipe is not None:
        read = load_recipe(str(recipe))
        base = arguments.get("peft") or arguments.get("pretrained") or read.base
        return f"{base}-drop{format_layers(read.drop)}" + (f"-{read.variant}-{read.digest[:6]}" if read.merge else "")
    if arguments.get("prune") is not None:
        return f"{model_name}-{str(arguments['prune']).replace(':', '-')}"
    if drop is not None:
        return f"{model_name}-drop{format_layers(parse_layers(drop))}"
    return model_name
