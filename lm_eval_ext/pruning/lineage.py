"""Which model a checkpoint was made from, and how: what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.paths import located
from lm_eval_ext.pruning.architecture import depth
from lm_eval_ext.pruning.checkpoint import card_metadata
from lm_eval_ext.pruning.experts import number_of_experts
from lm_eval_ext.pruning.quantization import quantization_of
from lm_eval_ext.pruning.recipe import Recipe, Shape

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class Lineage(NamedTuple):
    """Where a checkpoint comes from.

    Attributes:
        base: the model that it was made from; itself if it is a base model.
        relation: how it was made, one of `recipe.Relation`; empty for a base model.
    """

    base: str
    relation: str = ""


def lineage(pretrained: str, hub: Mapping[str, object], recipe: Recipe | None, base: str | None) -> Lineage:
    """Where a checkpoint comes from: as the recipe says, as declared, or as its model card says.

    A card is only believed if it says `quantized`, or names a model and the weights are packed: a finetuned model is
    usually a base of its own. What was declared to
    be made from a base is told apart by its config: packed weights, fewer layers, or neither.

    Args:
        pretrained: name or folder of the checkpoint that is loaded.
        hub: arguments of `cached_file`, such as the revision.
        recipe: the recipe that is used, if any.
        base: what the model argument `base` says.
    """
    of_recipe = recipe is not None and _is_base(pretrained, recipe)
    if recipe is not None and recipe.checkpoint and of_recipe:
        return Lineage(recipe.base, recipe.relation or "finetuned")
    if base is not None and not base.strip():
        raise ArgumentError("base= is empty; name the model that the checkpoint was made from")
    made_from, relation = _of_card(pretrained, hub)
    if base is not None:
        return Lineage(base, relation if made_from == base and relation else _seen(pretrained, base))
    if relation == "quantized" and made_from:
        return Lineage(made_from, relation)
    return Lineage(recipe.base if recipe is not None and of_recipe else pretrained)


def check_fits(recipe: Recipe | None, pretrained: str, config: PreTrainedConfig, base: str | None = None) -> None:
    """Refuse a model that a recipe was not made for.

    It must have the shape that the recipe says, or that the recipe's model has on this machine. If neither is known, a
    folder may be a copy of that model; another name on the Hub is another model.

    Args:
        recipe: the recipe that is used, if any.
        pretrained: name or folder of what is loaded.
        config: its config.
        base: what the model argument `base` says.

    Raises:
        ArgumentError: the model is another one, or has another number of layers than there are scores.
    """
    own = recipe is not None and located(pretrained) == recipe.pretrained
    if recipe is None or (own and not recipe.drops):
        return
    found = Shape.of(config, experts=bool(recipe.shape and recipe.shape.experts))
    expected = recipe.shape or (None if own or (known := _config(recipe.pretrained)) is None else Shape.of(known))
    if expected is not None and found != expected:
        reason = f"which is {expected}"
    elif recipe.scores and recipe.scored_layers != found.layers:
        reason = f"with scores of {recipe.scored_layers} layers"
    elif expected is None and not own and not Path(pretrained).is_dir() and base != recipe.base:
        reason = "whose shape is not known here, so only that model and local copies of it can be told to fit"
    else:
        return
    raise ArgumentError(f"pretrained={pretrained} ({found}) is not what the recipe is for: {recipe.named}, {reason}")


def _is_base(pretrained: str, recipe: Recipe) -> bool:
    """Whether what is loaded is the recipe's own model, or may be a copy of it: a folder with a config like it."""
    if located(pretrained) in (recipe.pretrained, located(recipe.base)):
        return True
    one, other = _config(pretrained), _config(recipe.pretrained)
    alike = one is None or other is None or _shape(one) == _shape(other)
    return Path(pretrained).is_dir() and alike


def _shape(config: PreTrainedConfig) -> tuple[object, ...]:
    return config.model_type, Shape.of(config), getattr(config.get_text_config(), "vocab_size", None)


def _seen(pretrained: str, base: str) -> str:
    """How a checkpoint was made, as far as the two configs on this machine tell."""
    one, other = _config(pretrained), _config(base)
    if one is not None and quantization_of(one) is not None:
        return "quantized"
    if one is not None and other is not None and (depth(one) < depth(other) or _has_fewer_experts(one, other)):
        return "pruned"
    return "finetuned"


def _has_fewer_experts(one: PreTrainedConfig, other: PreTrainedConfig) -> bool:
    try:
        return 0 < number_of_experts(one) < number_of_experts(other)
    except ArchitectureError:  # a config says several numbers
        return False


def _config(model: str) -> PreTrainedConfig | None:
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(located(model), local_files_only=True)
    except (OSError, ValueError):
        return None
    return config


_OF_CARDS = {"quantized": "quantized", "finetune": "finetuned", "merge": "merged"}


def _of_card(pretrained: str, hub: Mapping[str, object]) -> tuple[str, str]:
    """`base_model` and `base_model_relation` of a model card, if it is on this machine and names one model."""
    try:
        card = card_metadata(pretrained, {**hub, "local_files_only": True})
    except OSError:  # neither a folder nor the name of a repository
        card = {}
    named = card.get("base_model")
    bases = [named] if isinstance(named, str) else named
    if not isinstance(bases, list) or len(bases) != 1:
        return "", ""
    said = card.get("base_model_relation")
    return str(bases[0]), "quantized" if said is None and _is_packed(pretrained) else _OF_CARDS.get(str(said), "")


def _is_packed(pretrained: str) -> bool:
    config = _config(pretrained)
    return config is not None and quantization_of(config) is not None
