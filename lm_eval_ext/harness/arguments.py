"""Arguments of our model classes in addition to lm-eval's: what they mean, their types and their defaults.

Validation, error messages and the reference page are based on it; what each does to a run is in `effects.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError

from lm_eval_ext.declared import Declared
from lm_eval_ext.errors import ArgumentError, first_fault
from lm_eval_ext.harness.effects import effect, marked
from lm_eval_ext.paths import TINY_CHAIN, digest, expanded
from lm_eval_ext.pruning.quantization import Quantization, parse_quantize
from lm_eval_ext.pruning.recipe import Recipe, format_layers, load_recipe, parse_experts, parse_layers
from lm_eval_ext.thinking_formats import format_of

ModelArgs = str | Mapping[str, object] | None  # as lm-eval takes them
BY_HAND = "selection"
# s1's markers for every model, and nothing that limits the answer: what the paper's code does.
_OF_THE_PAPER = {"thinking_format": "s1", "answer_token_budget": -1}
BY_HAND_FIELDS = {
    "drop_layers": "drop",
    "drop_attention": "drop_attention",
    "drop_mlp": "drop_mlp",
    "drop_experts": "drop_experts",
}  # and a recipe's fields


def _flag(value: object) -> object:
    """Convert a flag: lm-eval leaves `on` and `off` as text, and any non-empty text is truthy in Python."""
    words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if value in (True, False):
        return bool(value)
    raise ValueError("give True or False")


def _as_whole(value: object) -> object:
    """A whole number of which lm-eval's command line has made a float, as it does of -1; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _budget(value: object) -> int | None:
    """Convert a token budget: -1 becomes None."""
    value = _as_whole(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= -1:
        return None if value == -1 else value
    raise ValueError("give a whole number of tokens, or -1 for no limit")


def _whole(value: object) -> int | None:
    value = _as_whole(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError("give a whole number")


def _replicas(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError("give a number of replicas, or auto")


def _journal(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, Path)) and Path(value).name:
        return str(value)
    raise ValueError("give the path of a file, on or off")


def check_sizes(arguments: Mapping[str, object]) -> None:
    """Refuse a batch size or a context length that no engine can take.

    Raises:
        ArgumentError: `max_length` is no number from 1, or `batch_size` neither that nor `auto`, perhaps with how often
            it is chosen anew: `auto:4`.
    """
    length, value = arguments.get("max_length"), arguments.get("batch_size")
    if length is not None and not re.fullmatch(r"[1-9]\d*", str(length)):
        raise ArgumentError(f"max_length={length}: give a whole number from 1")
    if value is not None and not re.fullmatch(r"[1-9]\d*|auto(?::\d+(?:\.\d+)?)?", str(value)):
        raise ArgumentError(f"batch_size={value}: give a whole number from 1, auto or auto:N")


def _recipe(value: object) -> object:
    return value if value is None or isinstance(value, Recipe) else str(value)


def _marks(value: object) -> str | None:
    """The name of a thinking format, which of one's own is its marks."""
    return None if value is None else format_of(value if isinstance(value, Mapping) else str(value)).name


def _template(value: object) -> str | None:
    """A chat template: the text of a file."""
    if value is None or "{%" in str(value) or "{{" in str(value):  # it was read already, by the process of a replica
        return None if value is None else str(value)
    try:
        return expanded(str(value)).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot be read ({reason}); give a file with a Jinja template") from error


Flag = Annotated[bool, BeforeValidator(_flag)]
Budget = Annotated[int | None, BeforeValidator(_budget)]
Whole = Annotated[int | None, BeforeValidator(_whole)]
Text = Annotated[str | None, BeforeValidator(lambda value: None if value is None else str(value))]


class ThinkingArguments(Declared):
    """The arguments about thinking, which all our models take."""

    thinking_format: Annotated[str | None, BeforeValidator(_marks)] = Field(
        None,
        description="how the model marks its thinking: a format in `thinking_formats.yaml` (`qwen3`, `deepseek-r1`, "
        "`s1`, `gpt-oss`, ...), or a YAML file or a mapping with `start` and `end`",
        json_schema_extra={"default_is": "detected from the tokenizer"},
    )
    thinking: Flag = Field(True, description="`off`: the prompt closes the thinking, so that the model answers at once")
    protocol: Literal["default", "paper"] = Field(
        "default",
        description="`paper`: as the code of arXiv 2510.22228, with s1's markers for every model and no limit on the "
        "answer; runs of two protocols are never compared",
    )
    answer_token_budget: Budget = Field(
        1024,
        description="maximum tokens in an answer, unless the task sets a limit; -1 means no limit",
        json_schema_extra={"default_is": "1024; no limit with `protocol=paper`"},
    )
    chat_template: Annotated[str | None, BeforeValidator(_template)] = Field(
        None,
        description="file with a chat template (Jinja) to use instead of the tokenizer's",
        json_schema_extra={"default_is": "the tokenizer's"},
    )
    auto_chat_template: Flag = Field(
        True, description="apply the tokenizer's chat template to thinking requests without it"
    )
    share_traces: Flag = Field(
        True, description="decode one trace for all budgets of a prompt; False gives the same results, but is slower"
    )
    stop_loops: Flag = Field(
        False, description="stop a trace that repeats itself exactly (8 copies, 256 tokens), and let it answer"
    )
    journal: Annotated[str | bool | None, BeforeValidator(_journal)] = Field(
        "on",
        description="file that stores finished generations, so that a run can continue after a crash, or `off`",
        json_schema_extra={"default_is": "`~/.cache/lm-eval-tts/journal-2.sqlite`"},
    )
    journal_alone: Flag = Field(
        False,
        description="let no other process use the journal: for file systems that several machines share",
    )
    seed: Whole = Field(
        None,
        description="base seed, from which all sampling seeds are derived",
        json_schema_extra={"default_is": "`--seed`"},
    )

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Self:
        """Validate the given arguments.

        Raises:
            ArgumentError: an argument is invalid; the message has its name, its value and what is allowed.

        >>> ThinkingArguments.of({"answer_token_budget": -1}).answer_token_budget is None
        True
        """
        of_protocol = _OF_THE_PAPER if given.get("protocol") == "paper" else {}
        try:
            found = cls.model_validate({**of_protocol, **given})
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise ArgumentError(first_fault(error, shown=effect(name) != "private")) from error
        found.check()
        return found

    def check(self) -> None:
        """Check arguments that depend on each other; raises ArgumentError."""


class Arguments(ThinkingArguments):
    """The arguments of `pruned-hf` and `pruned-vllm` in addition to those of lm-eval's `hf` and `vllm`."""

    drop_layers: object = Field(
        None,
        description='layers to drop, counted from 0: `[25, 26]`, `"25-27"` or `"25+26"`',
    )
    drop_attention: object = Field(
        None,
        description="layers whose attention block is left out, in the same form; it keeps no keys and values",
    )
    drop_mlp: object = Field(None, description="layers whose feed-forward block is left out, in the same form")
    drop_experts: object = Field(
        None,
        description="experts of a mixture to drop, by layer: `[0: 3+7-9, 1: 2+5]`, or as a mapping where arguments are "
        "given as JSON, YAML or in Python; a key may be a range of layers",
    )
    recipe: Annotated[str | Recipe | None, BeforeValidator(_recipe)] = Field(
        None, description="name of a recipe in `pruned_models/`, or path of a YAML file"
    )
    base: Text = Field(
        None,
        description="the model that `pretrained` was made from, such as the one it was quantized from: what it is "
        "compared with",
        json_schema_extra={"default_is": "the recipe's base, or what the model card says it was quantized from"},
    )
    quantize: Annotated[Quantization | None, BeforeValidator(parse_quantize)] = Field(
        None,
        description="`METHOD:WEIGHTS`: quantize weights while they are loaded, by bitsandbytes, torchao or quanto: "
        "`bitsandbytes:nf4`, `torchao:int8`, `quanto:int4`, ...; only `pruned-hf`",
    )
    prune: Text = Field(
        None,
        description="`METHOD:N`: drop N layers or experts chosen by a method, or set a share of the weights to zero, "
        "while loading (the choice is cached): `shortgpt:3`, `laco:2`, `magnitude:2:norm=l2`, `reap:25%`, "
        "`wanda:20%`, ...",
    )
    calibration: Text = Field(
        None,
        description="calibration texts for `prune`: `embedded`, a corpus, a text file, `task:NAME`, or `run:FOLDER`",
        json_schema_extra={"default_is": "`embedded`"},
    )
    calibration_samples: Whole = Field(
        None, description="number of calibration texts", json_schema_extra={"default_is": "16"}
    )
    calibration_tokens: Whole = Field(
        None, description="most tokens of each calibration text", json_schema_extra={"default_is": "512"}
    )
    trust_layer_fields: Flag = Field(
        False, description="drop layers of an unverified architecture without checking that this is exact"
    )
    reproducible: Flag = Field(
        True,
        description="give each request its own seed; False lets `pruned-vllm` sample faster, but each run differently",
    )
    data_parallel_size: Annotated[int | Literal["auto"], BeforeValidator(_replicas)] = Field(
        1,
        description="number of replicas that decode in parallel, as Ray actors; `auto`: as many as there are GPUs for",
    )
    replica_gpus: Whole = Field(
        None,
        description="GPUs of each replica",
        json_schema_extra={"default_is": "what the model class needs; one, if there is any"},
    )
    ray_address: Text = Field(
        None,
        description="address of a Ray cluster to run the replicas on, such as `auto`",
        json_schema_extra={"default_is": "a Ray of its own on this machine"},
    )

    def check(self) -> None:
        """Check arguments that depend on each other; raises ArgumentError."""
        if self.replica_gpus is not None and self.replica_gpus < 0:
            raise ArgumentError(f"replica_gpus={self.replica_gpus}: give 0 or more")
        if self.calibration is not None and self.prune is None:
            raise ArgumentError(f"calibration={self.calibration}: is only used with prune=METHOD:N; give that too")

    @property
    def replicated(self) -> bool:
        """Whether the model runs as replicas on Ray."""
        return self.data_parallel_size != 1 or self.ray_address is not None


def _in_order(of: type[ThinkingArguments]) -> list[str]:
    """Names of all arguments, those about thinking last."""
    return sorted(of.model_fields, key=lambda name: name in ThinkingArguments.model_fields)


NAMES = tuple(_in_order(Arguments))


def _extra(given: object) -> Mapping[str, object]:
    return given if isinstance(given, dict) else {}


def rows(of: type[ThinkingArguments] = Arguments) -> list[tuple[str, str, str]]:
    """Name, description and default of every argument, for the documentation."""
    found = []
    for name in _in_order(of):
        field = of.model_fields[name]
        default = _extra(field.json_schema_extra).get("default_is") or (
            "none" if field.default is None else str(field.default)
        )
        found.append((f"`{name}`", str(field.description), str(default)))
    return found


def taken_from(kwargs: dict[str, object]) -> Arguments:
    """Remove our arguments from a model class's keyword arguments, and validate them.

    Raises:
        ArgumentError: see `Arguments.of`.
    """
    return Arguments.of({name: kwargs.pop(name) for name in NAMES if name in kwargs})


def parse_model_args(model_args: ModelArgs) -> dict[str, object]:
    """Model arguments as a dictionary; unlike lm-eval's parser, it does not split at commas in brackets (`[25,26]`)."""
    if not isinstance(model_args, str):
        return dict(model_args or {})
    from lm_eval._cli.utils import split_top_level
    from lm_eval.utils import handle_arg_string

    pairs = [argument.partition("=") for argument in split_top_level(model_args)]
    names = [key.strip() for key, *_ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ArgumentError(f"{twice} is given twice in {model_args!r}")
    return {key.strip(): handle_arg_string(value) for key, _, value in pairs}


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
        return f"{base}{_dropped_by(read)}{read.changes_name}{packed}"
    if prune is not None:
        texts = [Path(str(arguments[name])).name for name in marked("calibrates") if name in arguments]
        return "-".join([model_name, *(part.replace(":", "-") for part in (str(prune), *texts))])
    given = {field: arguments[name] for name, field in BY_HAND_FIELDS.items() if arguments.get(name) is not None}
    return model_name + _dropped_by(by_hand(model_name, given)) if given else model_name


def _served(arguments: Mapping[str, object]) -> str:
    """The name of a model behind a server: as it is served, with what was declared unless that name says it."""
    named = arguments.get("model") or arguments.get("pretrained")
    recipe = arguments.get("recipe")
    read = None if recipe is None else recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
    base = str(named or (read.named if read else arguments.get("base") or arguments.get("tokenizer") or "served"))
    layers = arguments.get("drop_layers")
    if read is None and layers is not None:
        read = by_hand(base, {"drop": layers})
    said = "" if read is None else _dropped_by(read)
    return base if not said or said in base else base + said


def by_hand(base: str, dropped: Mapping[str, object], revision: str = "main") -> Recipe:
    """The recipe of what is dropped by model arguments, by the recipe's fields.

    Raises:
        ArgumentError: an argument is invalid; the message says which.
    """
    made = {"base": base, "revision": revision, "method": BY_HAND, "source": "model_args"}
    names = {field: name for name, field in BY_HAND_FIELDS.items()}
    parsed = {
        field: (parse_experts if field == "drop_experts" else parse_layers)(value, names[field])
        for field, value in dropped.items()
    }
    try:
        return Recipe.model_validate({**made, **parsed})
    except ValidationError as error:
        raise ArgumentError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error


def _dropped_by(recipe: Recipe) -> str:
    """The part of a name that says what was dropped: `-drop25+26-attention3`; of experts, their number and a digest."""
    parts = {"drop": recipe.drop, "attention": recipe.drop_attention, "mlp": recipe.drop_mlp}
    said = "".join(f"-{word}{format_layers(some)}" for word, some in parts.items() if some)
    count = sum(map(len, recipe.drop_experts.values()))
    return said + (f"-experts{count}-{digest(recipe.drop_experts)[:6]}" if count else "")
