"""The arguments that our model classes take besides those of lm-eval's: one table, from which all else follows.

Checks, messages, names of runs, what a published command shows, the reference page and README's table come from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.recipe import Recipe, format_layers, load_recipe, parse_layers

ModelArgs = str | Mapping[str, object] | None  # as lm-eval takes them
BY_HAND = "selection"
_CHOOSES: JsonDict = {"chooses_layers": True}


def _flag(value: object) -> object:
    """lm-eval leaves `on` and `off` as text, and any text is true to Python."""
    words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if value in (True, False):
        return bool(value)
    raise ValueError("give True or False")


def _budget(value: object) -> int | None:
    """Of -1, None."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= -1:
        return None if value == -1 else value
    raise ValueError("give a whole number of tokens, or -1 for no limit")


def _whole(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError("give a whole number")


Flag = Annotated[bool, BeforeValidator(_flag)]
Budget = Annotated[int | None, BeforeValidator(_budget)]
Whole = Annotated[int | None, BeforeValidator(_whole)]
Text = Annotated[str | None, BeforeValidator(lambda value: None if value is None else str(value))]


class Arguments(BaseModel):
    """What `pruned-hf` and `pruned-vllm` take besides the arguments of lm-eval's `hf` and `vllm`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    drop_layers: object = Field(
        None, description='layers to drop, from 0, as `[25, 26]`, `"25-27"` or `"25+26"`', json_schema_extra=_CHOOSES
    )
    recipe: Text = Field(
        None, description="name of a recipe in `pruned_models/`, or path of a YAML", json_schema_extra=_CHOOSES
    )
    prune: Text = Field(
        None,
        description="`METHOD:N`, layers chosen on load, or by an earlier run with the same words: `shortgpt:3`, "
        "`laco:2`, `reverse:1`, `magnitude:2:norm=l2`, ...",
        json_schema_extra=_CHOOSES,
    )
    calibration: Text = Field(
        None,
        description="the texts that `prune` chooses by: `embedded`, a corpus, a text file, `task:NAME`",
        json_schema_extra={"default_is": "`embedded`"},
    )
    trust_layer_fields: Flag = Field(
        False, description="drop layers of an architecture for which that could not be shown to be exact"
    )
    thinking_format: Text = Field(
        None,
        description="name of a format in `thinking_formats.yaml`: `qwen3`, `deepseek-r1`, `s1`, `gpt-oss`, ...",
        json_schema_extra={"default_is": "found from the tokenizer"},
    )
    answer_token_budget: Budget = Field(
        1024, description="most tokens of an answer where the task says nothing; -1 is no limit"
    )
    auto_chat_template: Flag = Field(
        True, description="apply the tokenizer's chat template to thinking requests that come without it"
    )
    share_traces: Flag = Field(
        True, description="decode one trace for all budgets of a prompt; False gives the same results more slowly"
    )
    stop_loops: Flag = Field(
        False, description="end a trace that repeats itself exactly (8 copies, 256 tokens), and let it answer"
    )
    journal: str | bool | None = Field(
        "on",
        description="where finished generations are kept for a run that goes on after a crash: a path, or `off`",
        json_schema_extra={"default_is": "`~/.cache/lm-eval-tts/journal-2.sqlite`", "private": True},
    )
    seed: Whole = Field(None, description="base of all sampling seeds", json_schema_extra={"default_is": "`--seed`"})

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Arguments:
        """The arguments, checked.

        Raises:
            ArgumentError: names the argument, its value and what is allowed.

        >>> Arguments.of({"answer_token_budget": -1}).answer_token_budget is None
        True
        """
        try:
            found = cls.model_validate(dict(given))
        except ValidationError as error:
            fault = error.errors()[0]
            message = str(fault["msg"]).removeprefix("Value error, ")
            raise ArgumentError(f"{fault['loc'][0]}={fault['input']!r}: {message}") from error
        if found.calibration is not None and found.prune is None:
            raise ArgumentError(f"calibration={found.calibration}: goes with prune=METHOD:N, which is not given")
        return found


NAMES = tuple(Arguments.model_fields)


def _marked(mark: str) -> tuple[str, ...]:
    fields = Arguments.model_fields.items()
    return tuple(name for name, field in fields if mark in _extra(field.json_schema_extra))


def _extra(given: object) -> Mapping[str, object]:
    return given if isinstance(given, dict) else {}


CHOOSING = _marked("chooses_layers")  # what says which layers go
PUBLIC = tuple(name for name in NAMES if name not in _marked("private"))  # whose values a published command shows


def rows() -> list[tuple[str, str, str]]:
    """Name, meaning and default of every argument, for the documentation."""
    found = []
    for name, field in Arguments.model_fields.items():
        default = _extra(field.json_schema_extra).get("default_is") or (
            "none" if field.default is None else str(field.default)
        )
        found.append((f"`{name}`", str(field.description), str(default)))
    return found


def taken_from(kwargs: dict[str, object]) -> Arguments:
    """Our arguments, taken out of all those that a model class was given.

    Raises:
        ArgumentError: as `Arguments.of`.
    """
    return Arguments.of({name: kwargs.pop(name) for name in NAMES if name in kwargs})


def parse_model_args(model_args: ModelArgs) -> dict[str, object]:
    """Model arguments as a dictionary; unlike lm-eval's own parser, commas inside brackets stay (`[25,26]`)."""
    if not isinstance(model_args, str):
        return dict(model_args or {})
    from lm_eval._cli.utils import split_top_level
    from lm_eval.utils import handle_arg_string

    pairs = (argument.partition("=") for argument in split_top_level(model_args))
    return {key.strip(): handle_arg_string(value) for key, _, value in pairs}


def chosen_recipe(
    pretrained: str | None, revision: str | None, given: Arguments, computed: Callable[[], Recipe]
) -> Recipe | None:
    """The recipe that the arguments ask for; None for the base model.

    `pretrained` may be a local copy of the recipe's base; it is what gets loaded, and what the recipe then names.

    Args:
        computed: chooses the layers that `prune` asks for.

    Raises:
        ArgumentError: more than one of `recipe`, `drop_layers` and `prune`, or layers that are no layers.
        RecipeError: the recipe cannot be read.
    """
    named = [name for name in CHOOSING if getattr(given, name) is not None]
    if len(named) > 1:
        raise ArgumentError(f"{' and '.join(named)} contradict each other; give one of them")
    if given.prune is not None:
        return computed()
    if given.recipe is not None:
        return load_recipe(given.recipe)
    if given.drop_layers is None:
        return None
    drop = parse_layers(given.drop_layers)
    return Recipe(base=pretrained or "", revision=revision or "main", drop=drop, method=BY_HAND, source="model_args")


def run_name(model_name: str, model_args: ModelArgs) -> str:
    """lm-eval's name of a run, and what was dropped: a dense and a pruned run never share a folder."""
    arguments = parse_model_args(model_args)
    if not any(name in arguments for name in ("pretrained", "peft", "delta")):
        model_name = TINY_CHAIN.name  # lm-eval makes a random one up
    recipe, prune, drop = (arguments.get(name) for name in ("recipe", "prune", "drop_layers"))
    if recipe is not None:
        read = load_recipe(str(recipe))
        base = arguments.get("peft") or arguments.get("pretrained") or read.base
        return f"{base}-drop{format_layers(read.drop)}" + (f"-{read.variant}-{read.digest[:6]}" if read.merge else "")
    if prune is not None:
        return f"{model_name}-{str(prune).replace(':', '-')}"
    if drop is not None:
        return f"{model_name}-drop{format_layers(parse_layers(drop))}"
    return model_name
