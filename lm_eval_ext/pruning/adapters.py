"""PEFT adapters, and models that `recover` has trained: whether they belong to a pruned model."""

from __future__ import annotations

import json
import re

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.checkpoint import find_file
from lm_eval_ext.pruning.recipe import Recipe

MARK = "recovery.json"  # what `recover` says of a training


def check_adapter(peft: str, revision: str | None, recipe: Recipe | None, kept: int) -> None:
    """Refuse an adapter that was trained for another pruned model.

    Args:
        peft: name or folder of the adapter.
        revision: branch, tag or commit of it.
        recipe: of the pruned model; None for a whole one.
        kept: number of its layers.

    Raises:
        ArgumentError: there is no adapter, it has weights for more layers, or `recover` has trained it without other
            layers.
    """
    try:
        found, reason = find_file(peft, "adapter_config.json", {"revision": revision or "main"}), ""
    except OSError as error:
        found, reason = None, f" ({' '.join(str(error).split())[:200]})"
    if found is None:
        raise ArgumentError(
            f"peft={peft}: no adapter_config.json there{reason}; give the folder or Hub name of a PEFT adapter"
        )
    layers = adapter_depth(peft, revision)
    if layers is not None and layers > kept:
        raise ArgumentError(
            f"peft={peft}: the adapter has weights for {layers} layers, but the pruned model has {kept}; "
            "it was trained for another depth"
        )
    trained, loaded = (recovery_of(peft) or {}).get("left_out"), layers_left_out(recipe)
    if trained not in (None, loaded):
        raise ArgumentError(
            f"peft={peft}: the adapter was trained for a model with {_said(trained)}, and this one has "
            f"{_said(loaded)}; give the recipe that it was trained for"
        )


def _said(layers: object) -> str:
    """What is left out, as model arguments."""
    pairs = layers.items() if isinstance(layers, dict) else ()
    return ", ".join(
        f"{name.replace('drop', 'drop_layers') if name == 'drop' else name}={of}" for name, of in pairs
    ) or ("all layers")


def layers_left_out(recipe: Recipe | None) -> dict[str, list[int]]:
    """The layers and blocks that a recipe leaves out, by the recipe's fields."""
    if recipe is None:
        return {}
    fields = {"drop": recipe.drop, "drop_attention": recipe.drop_attention, "drop_mlp": recipe.drop_mlp}
    return {name: list(layers) for name, layers in fields.items() if layers}


def adapter_depth(peft: str, revision: str | None = None) -> int | None:
    """Number of layers that a PEFT adapter has weights for; None if it has no safetensors."""
    from safetensors import safe_open

    path = find_file(peft, "adapter_model.safetensors", {"revision": revision or "main"})
    if path is None:
        return None
    with safe_open(path, framework="pt") as file:
        layers = [re.search(r"\.(?:layers|h)\.(\d+)\.", name) for name in file.keys()]  # noqa: SIM118
    return max((int(match[1]) + 1 for match in layers if match), default=0)


def recovery_of(*places: object) -> dict[str, object] | None:
    """The training record of the first of these checkpoints or adapters that `recover` wrote; None if there is none."""
    for place in places:
        found = find_file(place, MARK, {}) if isinstance(place, str) and place else None
        if found is not None:
            mark: dict[str, object] = json.loads(found.read_text("utf-8"))
            return mark
    return None
