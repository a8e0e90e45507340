"""Names of runs, which say what was dropped, quantized or switched off, so that different runs never share a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lm_eval_ext.harness.arguments import BY_HAND_FIELDS, ModelArgs, parse_model_args
from lm_eval_ext.harness.effects import marked
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.quantization import parse_quantize
from lm_eval_ext.pruning.recipe import Recipe, format_layers, load_recipe, parse_layers


def run_name(model_name: str, model_args: ModelArgs) -> str:
    """lm-eval's name for a run plus what was dropped or switched off, so that different runs never share a folder."""
    arguments = parse_model_args(model_args)
    control = "-nothinking" if str(arguments.get("thinking")).lower() in ("off", "no", "false") else ""
    control += "-paper" if arguments.get("protocol") == "paper" else ""
    return f"{_model_name(model_name, arguments)}{control}"


def _model_name(model_name: str, arguments: Mapping[str, object]) -> str:
    quantize = arguments.get("quantize")
    packed = f"-{str(parse_quantize(quantize)).replace(':', '-')}" if quantize is not None else ""
    flags = (flag for flag in ("load_in_4bit", "load_in_8bit") if str(arguments.get(flag)).lower() == "true")
    return "-".join([_name_without_layers(model_name, arguments) + packed, *flags])


def _name_without_layers(model_name: str, arguments: Mapping[str, object]) -> str:
    if not any(name in arguments for name in ("pretrained", "model", "peft", "delta", "base_url")):
        model_name = TINY_CHAIN.name  # lm-eval would make up a random name
    if "base_url" in arguments:
        return _served(arguments)
    recipe, prune = arguments.get("recipe"), arguments.get("prune")
    if recipe is not None:
        read = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
        base = arguments.get("peft") or arguments.get("pretrained") or read.named
        packed = f"-{str(read.quantization).replace(':', '-')}" if read.quantization else ""
        if not read.drops:
            return f"{base}{packed}"
        return f"{base}{_dropped(read.drop, read.drop_attention, read.drop_mlp)}{read.changes_name}{packed}"
    if prune is not None:
        texts = [Path(str(arguments[name])).name for name in marked("calibrates") if name in arguments]
        return "-".join([model_name, *(part.replace(":", "-") for part in (str(prune), *texts))])
    by_hand = (arguments.get(name) for name in BY_HAND_FIELDS)
    return model_name + _dropped(*(() if layers is None else parse_layers(layers) for layers in by_hand))


def _served(arguments: Mapping[str, object]) -> str:
    """The name of a model behind a server: as it is served, with what was declared unless that name says it."""
    named = arguments.get("model") or arguments.get("pretrained")
    recipe = arguments.get("recipe")
    read = None if recipe is None else recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
    base = str(named or (read.named if read else arguments.get("base") or arguments.get("tokenizer") or "served"))
    if read is not None:
        said = _dropped(read.drop, read.drop_attention, read.drop_mlp)
    else:
        layers = arguments.get("drop_layers")
        said = "" if layers is None else _dropped(parse_layers(layers), (), ())
    return base if not said or said in base else base + said


def _dropped(layers: Sequence[int], attention: Sequence[int], mlp: Sequence[int]) -> str:
    """The part of a name that says what was dropped: `-drop25+26-attention3`."""
    parts = {"drop": layers, "attention": attention, "mlp": mlp}
    return "".join(f"-{word}{format_layers(some)}" for word, some in parts.items() if some)
