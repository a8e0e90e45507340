"""Which model a checkpoint was made from, and how: what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lm_eval_ext.pruning.checkpoint import card_metadata
from lm_eval_ext.pruning.recipe import Recipe


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

    A card is only believed if it says `quantized`: a finetuned model is usually a base of its own.

    Args:
        pretrained: name or folder of the checkpoint that is loaded.
        hub: arguments of `cached_file`, such as the revision.
        recipe: the recipe that is used, if any.
        base: what the model argument `base` says.
    """
    if recipe is not None and recipe.checkpoint:
        return Lineage(recipe.base, recipe.relation or "finetuned")
    made_from, relation = _of_card(pretrained, hub)
    if base is not None:
        return Lineage(base, relation if made_from == base and relation else "finetuned")
    if relation == "quantized" and made_from:
        return Lineage(made_from, relation)
    return Lineage(recipe.base if recipe is not None else pretrained)


_OF_CARDS = {"quantized": "quantized", "finetune": "finetuned", "merge": "merged"}


def _of_card(pretrained: str, hub: Mapping[str, object]) -> tuple[str, str]:
    """`base_model` and `base_model_relation` of a model card, if it is on this machine and names one model."""
    try:
        card = card_metadata(pretrained, {**hub, "local_files_only": True})
    except OSError:  # neither a folder nor the name of a repository
        card = {}
    named = card.get("base_model")
    bases = [named] if isinstance(named, str) else named
    relation = _OF_CARDS.get(str(card.get("base_model_relation")), "")
    return (str(bases[0]), relation) if isinstance(bases, list) and len(bases) == 1 else ("", "")
