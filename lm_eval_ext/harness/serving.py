"""The arguments of `vllm serve` for a model with dropped layers."""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from lm_eval_ext.declared import Declared
from lm_eval_ext.errors import ArgumentError, did_you_mean
from lm_eval_ext.generation.engines.dialects import RECIPE
from lm_eval_ext.harness.arguments import NAMES, Arguments, parse_model_args, run_name
from lm_eval_ext.harness.effects import NEAR, known_names, marked, unknown
from lm_eval_ext.harness.prune_on_load import chosen_recipe, computed_recipe
from lm_eval_ext.harness.server_arguments import ServerArguments
from lm_eval_ext.paths import located
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.pruning.loading import sliced_by
from lm_eval_ext.pruning.recipe import Recipe, format_layers
from lm_eval_ext.pruning.vllm_loader import engine_arguments

_USED = (*marked("chooses"), *marked("calibrates"), "trust_layer_fields")
_TAKEN = "cannot be combined with dropped layers, which use it"
_OWN_FLAGS = dict.fromkeys(
    ("--load-format", "--model-loader-extra-config", "--hf-overrides", "--worker-extension-cls"), _TAKEN
)
_NAMED = {"--served-model-name": "is set here: the client reads there what was dropped"}


def serve_command(model_args: str, rest: Sequence[str]) -> list[str]:
    """The command that serves a model.

    Args:
        model_args: as for `lm_eval --model_args`; what is not about dropped layers becomes an option of `vllm serve`.
        rest: further options of `vllm serve`.

    Raises:
        ArgumentError: an argument cannot be used here.

    >>> serve_command("pretrained=org/name,dtype=float32", ["--port", "8000"])[1:]
    ['serve', 'org/name', '--served-model-name', 'org/name', '--dtype', 'float32', '--port', '8000']
    """
    given = parse_model_args(model_args)
    for name in (name for name in NAMES if name in given and name not in _USED):
        to = "`lm_eval --model tts-server`" if name in ServerArguments.model_fields else "`lm_eval --model pruned-vllm`"
        raise ArgumentError(f"{name}={given[name]}: is given to {to}, not to the server")
    for name in unknown(given):
        if hint := did_you_mean(name, known_names(), NEAR):
            raise ArgumentError(f"unknown argument {name!r}{hint}")
    arguments = Arguments.of({name: given.pop(name) for name in _USED if name in given})
    if not given.get("pretrained") and arguments.recipe is None:
        raise ArgumentError("pretrained is missing; name the model to serve")
    named = located(str(given.pop("pretrained", ""))) or None
    revision = str(given.get("revision", "main"))
    _check_own(["--" + name.replace("_", "-") for name in given], _NAMED)
    _check_own(rest, _NAMED)
    choose = functools.partial(computed_recipe, named, revision, arguments)
    recipe = chosen_recipe(named, revision, arguments, choose)
    if recipe is not None and recipe.quantization is not None:
        raise ArgumentError("vLLM does not quantize as recipes say; leave that out, and give --quantization after --")
    base = named or (recipe.pretrained if recipe else "")
    if recipe is not None and base == recipe.pretrained and "revision" not in given and recipe.revision != "main":
        revision = given["revision"] = recipe.revision
    name = _served_name(base, recipe)
    if packed := given.get("quantization") or _after(("--quantization", "-q"), rest):
        name += f"-{packed}"
    words = [_vllm(), "serve", base, "--served-model-name", name]
    if recipe is not None and recipe.drops:
        said = ServedRecipe.of(recipe, _public(base if arguments.recipe is None else recipe.base))
        words.append(RECIPE + said.model_dump_json(exclude_defaults=True))
    own = (
        _dropping(base, revision, recipe, arguments, bool(given.get("trust_remote_code")))
        if recipe and recipe.drops
        else []
    )
    if own:
        _check_own([*rest, *("--" + name.replace("_", "-") for name in given)], _OWN_FLAGS)
    return [*words, *_options(given), *own, *rest]


def _check_own(words: Sequence[str], own: Mapping[str, str]) -> None:
    """Refuse options that this command sets itself, also as `--hf-overrides.field`."""
    for word in words:
        flag = word.partition("=")[0].partition(".")[0].replace("_", "-")
        if flag in own:
            raise ArgumentError(f"{flag} {own[flag]}")


def _after(flags: Collection[str], words: Sequence[str]) -> str:
    """The value of an option that has several names."""
    for at, word in enumerate(words):
        if word.partition("=")[0] in flags:
            return word.partition("=")[2] or "".join(words[at + 1 : at + 2])
    return ""


def _vllm() -> str:
    beside = Path(sys.executable).with_name("vllm")
    return str(beside) if beside.is_file() else shutil.which("vllm") or "vllm"


def _public(base: str) -> str:
    return Path(base).name if Path(base).is_dir() else base


def _served_name(base: str, recipe: Recipe | None) -> str:
    """The name of a run with this recipe."""
    name = _public(base)
    return name if recipe is None else run_name(name, {"pretrained": name, "recipe": recipe})


class ServedRecipe(Declared):
    """How a served model was made smaller, as `lm-eval-tts serve` lets the server say it.

    Attributes:
        base: name of the whole model.
        drop, drop_attention, drop_mlp: layers that are dropped, or whose attention or feed-forward block is left out.
        drop_experts: dropped experts by layer, as in a recipe.
        changes: name of changed weights; empty if there are none.
    """

    base: str
    drop: tuple[int, ...] = ()
    drop_attention: tuple[int, ...] = ()
    drop_mlp: tuple[int, ...] = ()
    drop_experts: dict[int, str] = Field(default_factory=dict)
    changes: str = ""

    @classmethod
    def of(cls, recipe: Recipe, base: str) -> ServedRecipe:
        """What is said of a recipe."""
        return cls(
            base=base, drop=recipe.drop, drop_attention=recipe.drop_attention, drop_mlp=recipe.drop_mlp,
            drop_experts={layer: format_layers(some) for layer, some in recipe.drop_experts.items()},
            changes=recipe.changes_name,
        )  # fmt: skip


def _options(given: Mapping[str, object]) -> list[str]:
    words: list[str] = []
    for name, value in given.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ArgumentError(f"unknown argument {name!r}; expected one of our names, or an option of `vllm serve`")
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", json.dumps(value) if isinstance(value, (dict, list)) else str(value)]
    return words


def _dropping(base: str, revision: str, recipe: Recipe, arguments: Arguments, trust_remote_code: bool) -> list[str]:
    config = read_config(base, revision, trust_remote_code)
    hub = {"revision": revision}
    sliced = sliced_by(recipe, base, config, hub, arguments.trust_layer_fields, trust_remote_code)
    return _options(engine_arguments(base, config, sliced, hub, trust_remote_code))
