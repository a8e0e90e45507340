"""What is declared about a model that a server has loaded: its base, and the layers that it lacks."""

from __future__ import annotations

import re

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.harness.arguments import BY_HAND
from lm_eval_ext.harness.server_arguments import ServerArguments
from lm_eval_ext.pruning.architecture import depth
from lm_eval_ext.pruning.loading import parameter_count
from lm_eval_ext.pruning.recipe import Recipe, changes_info, format_layers, left_out_info, parse_layers
from lm_eval_ext.pruning.recipe_file import load_recipe

# The name that `lm-eval-tts serve` gives to a model (`run_names`).
_LAYERS = r"\d+(?:[-+]\d+)*"
_DROPPED = re.compile(
    rf"(?P<base>.+?)(?:-drop(?P<drop>{_LAYERS}))?(?:-attention(?P<drop_attention>{_LAYERS}))?"
    rf"(?:-mlp(?P<drop_mlp>{_LAYERS}))?(?P<changes>-(?:rdsc|reference_code|linear)-[0-9a-f]{{6}})?(?:-[a-z][a-z0-9_]*)?$"
)
_WORDS = {"drop": "layers", "drop_attention": "attention blocks", "drop_mlp": "MLP blocks"}
_FIELDS = tuple(_WORDS)  # of a recipe


def declared_recipe(arguments: ServerArguments, name: str) -> Recipe | None:
    """The recipe of the served model, as declared, or as its name says; None for a whole model.

    Args:
        arguments: what is declared.
        name: of the served model.

    Raises:
        ArgumentError: they contradict each other.
        RecipeError: the recipe cannot be read.
    """
    found = _DROPPED.match(name)
    says = {field: parse_layers(found[field]) for field in _FIELDS if found and found[field]}
    named = found if says else None
    if arguments.recipe is not None:
        recipe = arguments.recipe if isinstance(arguments.recipe, Recipe) else load_recipe(arguments.recipe)
    elif arguments.drop_layers is not None or named:
        if named and named["changes"] and arguments.drop_layers is None:
            raise ArgumentError(f"model={name}: its name says that weights are changed; give recipe=, which says how")
        dropped = says if arguments.drop_layers is None else {"drop": parse_layers(arguments.drop_layers)}
        base = arguments.base or (named["base"] if named else arguments.tokenizer or name)
        if not base:
            raise ArgumentError("drop_layers: of which model they were dropped isn't said; give base= or model=")
        recipe = Recipe.model_validate({"base": base, "method": BY_HAND, "source": "model_args", **dropped})
    else:
        return None
    if named:
        _check_base(name, named, recipe)
    for field in _FIELDS if named else ():
        declared, said = getattr(recipe, field), says.get(field, ())
        if declared != said:
            raise ArgumentError(
                f"model={name}: its name says that {_WORDS[field]} {format_layers(said) or 'none'} are dropped, but "
                f"{format_layers(declared) or 'none'} are declared"
            )
    return recipe


def _check_base(name: str, named: re.Match[str], recipe: Recipe) -> None:
    """Compare the last parts of the bases' names, because one of them may be a folder; and the changed weights."""
    said, declared = (text.rstrip("/").rpartition("/")[2].lower() for text in (named["base"], recipe.base))
    if said != declared:
        raise ArgumentError(f"model={name}: its name says that it was made from {named['base']}, not {recipe.base}")
    if (named["changes"] or "") != recipe.changes_name:
        raise ArgumentError(
            f"model={name}: its name says {named['changes'] or 'no changed weights'}, the recipe "
            f"{recipe.changes_name or 'none'}"
        )


def pruning_info(
    base: str, trust_remote_code: bool, recipe: Recipe | None, fingerprint: str
) -> dict[str, object] | None:
    """What results say about dropped layers; None if the base's config is not at hand."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        return None
    dropped = recipe.drop if recipe else ()
    return {
        "base": recipe.base if recipe else base,
        "method": recipe.method if recipe else "none",
        "source": recipe.source if recipe else "",
        "dropped_layers": list(dropped),
        **left_out_info(recipe),
        **changes_info(recipe),
        "kept_layers": [layer for layer in range(depth(config)) if layer not in dropped],
        "layer_scores": list(recipe.scores) if recipe else [],
        "parameters_before": parameter_count(config),
        "recipe_hash": recipe.digest if recipe else "",
        "model_fingerprint": fingerprint,
    }
