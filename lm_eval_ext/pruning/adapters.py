"""PEFT adapters, and models that `recover` has trained: whether and how they fit a pruned model."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.paths import json_object, located
from lm_eval_ext.pruning.architecture import layer_of_tensor, renamed_tensor
from lm_eval_ext.pruning.checkpoint import find_file
from lm_eval_ext.pruning.recipe import Recipe, kept_layers

if TYPE_CHECKING:
    import torch

MARK = "recovery.json"  # what `recover` says of a training
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."  # of PEFT's names of tensors
_NUMBER = re.compile(r"(?<![\w\\])\d")  # of a layer, in the name of a module or a pattern for names


def fitted_adapter(
    peft: str, revision: str | None, pretrained: str, recipe: Recipe | None, depth: int, folder: Path
) -> str:
    """An adapter that fits the pruned model: itself, or a copy with the numbers of the layers that are kept.

    An adapter stays as it is if `recover` has trained it, or if it has weights for all layers of the pruned model and
    no others. Otherwise it must be of the base: with weights up to its last layer, or naming the base and its layers.

    Args:
        peft: name or folder of the adapter.
        revision: branch, tag or commit of it.
        pretrained: name or folder of the base model.
        recipe: of the pruned model; None for a whole one.
        depth: number of layers of the base model; 0 if its config does not say it.
        folder: where a copy is written.

    Raises:
        ArgumentError: there is no adapter, `recover` has trained it without other layers, which model it was trained
            for cannot be told, or its weights can't be given the numbers of the kept layers.
    """
    config = _config(peft, revision)
    _check_trained_for(peft, recipe)
    path = find_file(peft, _WEIGHTS, {"revision": revision or "main"})
    layers = set() if path is None else _layers(path)
    if depth and max(layers, default=0) >= depth:
        raise ArgumentError(
            f"peft={peft}: the adapter has weights for {max(layers) + 1} layers, but the model has {depth}; "
            "it was trained for another depth"
        )
    renumbered = recipe and (recipe.drop or any(recipe.blocks) or recipe.drop_experts)
    if recipe is None or not renumbered or recovery_of(peft) is not None:
        return peft
    if path is None:
        raise ArgumentError(f"peft={peft}: no {_WEIGHTS} there, so its layers can't be told; save it in that format")
    kept = kept_layers(recipe.drop, depth)
    chosen = _names_layers(config)
    if not layers or (len(kept) < depth and layers == set(range(len(kept))) and not chosen):
        return peft
    if max(layers) + 1 < depth and not (chosen and _is_of(config, {pretrained, recipe.base})):
        raise ArgumentError(
            f"peft={peft}: whether the adapter was trained for {pretrained} or for a pruned model cannot be told: it "
            f"has weights for {len(layers)} layers, and names {config.get('base_model_name_or_path') or 'no model'}; "
            "merge it into its model, and drop layers of that"
        )
    _check_can_be_renumbered(peft, config, recipe)
    _write_renumbered(peft, config, path, kept, recipe, folder)
    return str(folder)


def _config(peft: str, revision: str | None) -> dict[str, Any]:
    try:
        found, reason = find_file(peft, _CONFIG, {"revision": revision or "main"}), ""
    except OSError as error:
        found, reason = None, f" ({' '.join(str(error).split())[:200]})"
    if found is None:
        raise ArgumentError(f"peft={peft}: no {_CONFIG} there{reason}; give the folder or Hub name of a PEFT adapter")
    return json_object(found, ArgumentError)


def _check_trained_for(peft: str, recipe: Recipe | None) -> None:
    trained, loaded = (recovery_of(peft) or {}).get("left_out"), layers_left_out(recipe)
    if trained not in (None, loaded):
        raise ArgumentError(
            f"peft={peft}: the adapter was trained for a model with {_said(trained)}, and this one has "
            f"{_said(loaded)}; give the recipe that it was trained for"
        )


def _layers(path: Path) -> set[int]:
    """The layers that an adapter has weights for."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        layers = {layer_of_tensor(name.removeprefix(_PREFIX)) for name in file.keys()}  # noqa: SIM118
    return {layer for layer in layers if layer is not None}


def _names_layers(config: dict[str, Any]) -> bool:
    """Whether an adapter was asked for only some layers."""
    targets = config.get("target_modules") or ()
    named = [targets] if isinstance(targets, str) else targets
    return config.get("layers_to_transform") is not None or any(_NUMBER.search(name) for name in named)


def _is_of(config: dict[str, Any], models: Collection[str]) -> bool:
    """Whether an adapter names one of the models as the one that it was trained for."""
    named = config.get("base_model_name_or_path") or ""
    places = {str(Path(located(model)).resolve()) for model in models if model}
    return named in models or str(Path(located(named)).resolve()) in places


def _check_can_be_renumbered(peft: str, config: dict[str, Any], recipe: Recipe) -> None:
    patterns = [*(config.get("rank_pattern") or ()), *(config.get("alpha_pattern") or ())]
    names = [*patterns, *(config.get("modules_to_save") or ())]
    unclear = next((name for name in names if _NUMBER.search(name) and layer_of_tensor(f"{name}.") is None), None)
    reasons = {
        f"it is of the kind {config.get('peft_type')}, and only LORA can be": config.get("peft_type") != "LORA",
        "it repeats layers (layer_replication)": config.get("layer_replication"),
        "it has weights for parameters (target_parameters)": config.get("target_parameters"),
        f"which layers {unclear!r} in its {_CONFIG} means is not clear": unclear is not None,
        "layers are merged": recipe.merge,
        "experts are dropped": recipe.drop_experts,
        "a linear map stands in for layers": recipe.linear_map,
    }
    reason = next((reason for reason, applies in reasons.items() if applies), None)
    if reason is not None:
        raise ArgumentError(
            f"peft={peft}: the adapter was trained for the base model, and can't be renumbered for the layers that are "
            f"kept: {reason}; merge it into the base model, and drop layers of that"
        )


def _write_renumbered(
    peft: str, config: dict[str, Any], path: Path, kept: Sequence[int], recipe: Recipe, folder: Path
) -> None:
    """Write the part of an adapter that belongs to the layers and blocks that are kept."""
    from safetensors.torch import load_file, save_file

    blocks = recipe.blocks.within(kept)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(path).items():
        new = renamed_tensor(name.removeprefix(_PREFIX), kept)
        if new is not None and not blocks.hold(new):
            tensors[new] = tensor
    targets = sorted({name.partition(".lora_")[0] for name in tensors if ".lora_" in name})
    if not targets:
        raise ArgumentError(f"peft={peft}: of all layers that the adapter has weights for, none is kept")

    def renamed(name: str) -> str:
        return (renamed_tensor(f"{name}.", kept) or "").removesuffix(".")

    patterns = {
        field: {new: value for name, value in (config.get(field) or {}).items() if (new := renamed(name))}
        for field in ("rank_pattern", "alpha_pattern")
    }
    saved = [new for name in config.get("modules_to_save") or () if (new := renamed(name))] or None
    exactly = {"target_modules": targets, "exclude_modules": None, "layers_to_transform": None, "layers_pattern": None}
    changed = config | patterns | exactly | {"modules_to_save": saved}
    (folder / _CONFIG).write_text(json.dumps(changed), "utf-8")
    save_file({_PREFIX + name: tensor for name, tensor in tensors.items()}, folder / _WEIGHTS, {"format": "pt"})


def _said(layers: object) -> str:
    """What is left out, as model arguments."""
    pairs = layers.items() if isinstance(layers, dict) else ()
    return ", ".join(f"{'drop_layers' if name == 'drop' else name}={of}" for name, of in pairs) or "all layers"


def layers_left_out(recipe: Recipe | None) -> dict[str, object]:
    """What a recipe leaves out, by the recipe's fields, and what is attached to it."""
    if recipe is None:
        return {}
    fields = {"drop", "drop_attention", "drop_mlp", "drop_experts"}
    said = recipe.model_dump(mode="json", include=fields, exclude_defaults=True)
    return said | {name: one.sha256[:16] for name, one in recipe.attached.items()}


def recovery_of(*places: object) -> dict[str, object] | None:
    """The training record of the first of these checkpoints or adapters that `recover` wrote; None if there is none.

    Raises:
        ArgumentError: it cannot be read.
    """
    for place in places:
        found = find_file(place, MARK, {}) if isinstance(place, str) and place else None
        if found is None:
            continue
        record = json_object(found, ArgumentError)
        if "recipe" in record or "left_out" in record:  # else another project's file of this name
            return record
    return None
