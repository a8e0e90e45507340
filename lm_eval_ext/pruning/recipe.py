"""Pruning recipes: which layers to drop from which base model, and where that choice comes from."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from lm_eval_ext.declared import Declared, read_yaml
from lm_eval_ext.errors import ArgumentError, RecipeError
from lm_eval_ext.paths import PRUNED_MODELS, expanded, is_there, located, write_whole
from lm_eval_ext.plugins import recipe_folders
from lm_eval_ext.pruning.architecture import depth, text_config
from lm_eval_ext.pruning.attachment import Attachment
from lm_eval_ext.pruning.blocks import Blocks
from lm_eval_ext.pruning.checkpoint import Changes
from lm_eval_ext.pruning.experts import NO_EXPERTS, number_of_experts
from lm_eval_ext.pruning.merging import LinearMap, Merge, Variant, check_map, check_merges, combinations
from lm_eval_ext.pruning.quantization import Quantization
from lm_eval_ext.pruning.sparsity import Sparsity
from lm_eval_ext.redaction import public_name, scrubbed
from lm_eval_ext.wording import ranges

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


Relation = Literal["quantized", "pruned", "distilled", "finetuned", "merged"]

_ADDED = (
    "checkpoint",
    "quantization",
    "drop_attention",
    "drop_mlp",
    "drop_experts",
)  # fields of the digest that older recipes don't have
_ATTACHED = ("linear_map", "sparsity")  # fields with a file beside the recipe
_RANGE = re.compile(r"^\s*(\d+)\s*(?:-\s*(\d+)\s*)?$", re.ASCII)
_WRITTEN = list[object] | int | str  # numbers, see `parse_layers`
_MOST_LAYERS = 10_000  # more than any model has: a mistyped range is not expanded


class CalibrationSet(Declared):
    """The calibration texts used to choose the layers."""

    name: Annotated[str, Field(min_length=1)]
    samples: Annotated[int, Field(gt=0)]
    max_tokens: Annotated[int, Field(gt=0, description="tokens used from each text")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the texts")]


class Shape(Declared):
    """What tells models of different kinds apart."""

    model_type: Annotated[str, Field(min_length=1)]
    layers: Annotated[int, Field(gt=0)]
    hidden_size: Annotated[int, Field(gt=0)] | None = None
    experts: Annotated[int | None, Field(gt=0, description="of a layer, where some are dropped")] = None

    def __str__(self) -> str:
        experts = f", {self.experts} experts" if self.experts else ""
        return f"{self.model_type}, {self.layers} layers, hidden size {self.hidden_size}{experts}"

    @classmethod
    def of(cls, config: PreTrainedConfig, *, experts: bool = False) -> Shape:
        """The shape of a config's language model; the number of its experts only if asked."""
        text = text_config(config)
        return cls(
            model_type=text.model_type, layers=depth(config), hidden_size=getattr(text, "hidden_size", None),
            experts=number_of_experts(config) or None if experts else None,
        )  # fmt: skip


class Recipe(Declared):
    """One pruned model, as read from a YAML in `pruned_models/`.

    Layers are numbered from 0, starting at the input, as in the checkpoint's tensor names.
    """

    base: Annotated[str, Field(min_length=1, description="Hub name or local folder of the base model")]
    revision: Annotated[str, Field(min_length=1, description="branch, tag or commit of what is loaded")] = "main"
    checkpoint: Annotated[
        str | None, Field(min_length=1, description="Hub name or local folder of a checkpoint made from the base")
    ] = None
    relation: Annotated[Relation | None, Field(description="how the checkpoint was made")] = None
    quantization: Annotated[
        Quantization | None, Field(description="how weights are quantized while they are loaded")
    ] = None
    shape: Annotated[
        Shape | None, Field(description="of what is loaded: a recipe is only used for models of the same shape")
    ] = None
    drop: Annotated[tuple[int, ...], Field(description="indices of the dropped layers")] = ()
    drop_attention: Annotated[tuple[int, ...], Field(description="indices of layers whose attention is left out")] = ()
    drop_mlp: Annotated[
        tuple[int, ...], Field(description="indices of layers whose feed-forward network is left out")
    ] = ()
    drop_experts: Annotated[
        Mapping[int, tuple[int, ...]], Field(description="dropped experts of a mixture, by layer: `{3: 0-2+7}`")
    ] = NO_EXPERTS
    method: Annotated[str, Field(min_length=1, description="how the layers were chosen")] = "none"
    source: Annotated[str, Field(min_length=1, description="paper, page or command the layers come from")]
    merge: Annotated[
        tuple[Merge, ...], Field(description="LaCo's merges, in order, applied before the layers are dropped")
    ] = ()
    variant: Annotated[Variant, Field(description="how layers are merged")] = "rdsc"
    linear_map: Annotated[
        LinearMap | None, Field(description="a map that stands in for dropped layers, as of ReplaceMe")
    ] = None
    sparsity: Annotated[Sparsity | None, Field(description="which weights are zero, as of Wanda")] = None
    parameters: Annotated[dict[str, object], Field(description="parameters of the method")] = Field(
        default_factory=dict
    )
    calibration: CalibrationSet | None = None
    scores: Annotated[
        tuple[Annotated[float, Field(allow_inf_nan=False)] | None, ...],
        Field(description="score of each layer; null if it has none"),
    ] = ()
    versions: Annotated[dict[str, str], Field(description="versions of the software that chose the layers")] = Field(
        default_factory=dict
    )

    @field_validator("drop", "drop_attention", "drop_mlp", mode="before", json_schema_input_type=_WRITTEN)
    @classmethod
    def _layers(cls, value: object, info: ValidationInfo) -> tuple[int, ...]:
        return () if value == () else parse_layers(value, str(info.field_name))

    @field_validator("drop_experts", mode="before", json_schema_input_type=dict[str, _WRITTEN] | str)
    @classmethod
    def _experts(cls, value: object) -> dict[int, tuple[int, ...]]:
        return {} if value == {} else parse_experts(value)

    @field_serializer("drop_experts")
    def _experts_in_ranges(self, value: dict[int, tuple[int, ...]]) -> dict[int, str]:
        return {layer: format_layers(experts) for layer, experts in value.items()}

    @model_serializer(mode="wrap")
    def _without_no_experts(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """pydantic takes no field with a serializer for one that has its default."""
        content: dict[str, object] = handler(self)
        return content if self.drop_experts else {name: one for name, one in content.items() if name != "drop_experts"}

    @model_validator(mode="after")
    def _changes(self) -> Recipe:
        if not self.drops and self.checkpoint is None and self.quantization is None:
            smaller = "drop, drop_attention, drop_mlp, drop_experts, sparsity, checkpoint or quantization"
            raise ValueError(f"says nothing that makes the model smaller; give {smaller}")
        twice = sorted({*self.drop_attention, *self.drop_mlp} & set(self.drop))
        if twice:
            raise ValueError(f"layer {twice[0]} is dropped as a whole, so its blocks need not be named")
        if gone := sorted({*self.drop, *self.drop_mlp} & self.drop_experts.keys()):
            raise ValueError(f"drop_experts: layer {gone[0]} or its feed-forward network is dropped as a whole")
        if self.drop_experts and (self.merge or self.linear_map):
            raise ValueError("drop_experts: not together with merged layers or a linear map")
        if self.sparsity and (self.merge or self.linear_map):
            raise ValueError("sparsity: not together with merged layers or a linear map")
        if self.drops and self.method == "none":
            raise ValueError("method is missing; say how the layers were chosen")
        if self.checkpoint is not None and self.checkpoint == self.base:
            raise ValueError(f"checkpoint={self.checkpoint}: is the base itself; name what was made from it")
        if (self.relation is None) != (self.checkpoint is None):
            raise ValueError("checkpoint and relation belong together; give both or neither")
        check_merges(self.merge, self.drop)
        check_map(self.linear_map, self.drop)
        if self.linear_map and (self.merge or self.linear_map.after in self.drop_mlp):
            raise ValueError("linear_map: needs the feed-forward network before it, and no merged layers")
        last = max((*self.drop, *self.drop_attention, *self.drop_mlp), default=0)
        if self.scores and last >= self.scored_layers:
            raise ValueError(f"scores are those of {self.scored_layers} layers, so there is no layer {last} to drop")
        return self

    @property
    def scored_layers(self) -> int:
        """Number of layers that scores are given for."""
        return len(self.scores) // (2 if self.method == "joint" else 1)  # joint: of attention, then of MLP blocks

    @property
    def drops(self) -> bool:
        """Whether layers, blocks or experts are dropped, or weights are zero."""
        return bool(self.drop or self.drop_attention or self.drop_mlp or self.drop_experts or self.sparsity)

    @property
    def blocks(self) -> Blocks:
        """The blocks that are left out of layers that are kept."""
        return Blocks(self.drop_attention, self.drop_mlp)

    @property
    def summary(self) -> str:
        """What makes the model smaller: `drops 34-35`, `drops attention 3`, `quantized: org/name`, `quanto:int4`."""
        dropped = {"": self.drop, "attention ": self.drop_attention, "mlp ": self.drop_mlp}
        parts = [f"drops {what}{format_layers(layers)}" for what, layers in dropped.items() if layers]
        parts += [f"drops {told_experts(self.drop_experts)}"] if self.drop_experts else []
        parts += [str(self.sparsity)] if self.sparsity else []
        parts += [f"{self.relation}: {self.checkpoint}"] if self.checkpoint else []
        return ", ".join([*parts, *([str(self.quantization)] if self.quantization else [])])

    @property
    def attached(self) -> dict[str, Attachment]:
        """The fields whose arrays are in files beside the recipe."""
        found = {name: getattr(self, name) for name in _ATTACHED}
        return {name: one for name, one in found.items() if one is not None}

    @property
    def pretrained(self) -> str:
        """Hub name or local folder of what is loaded."""
        return located(self.named)

    @property
    def named(self) -> str:
        """The same as it is in the recipe: the embedded model by its name."""
        return self.checkpoint or self.base

    @property
    def changes(self) -> Changes:
        """How weights of the kept layers are computed from the base model's, where they are not the same."""
        return Changes(combinations(self.merge, self.variant), self.linear_map, sparsity=self.sparsity)

    @property
    def changes_name(self) -> str:
        """What a model's name says about these: `-rdsc-1a2b3c`, `-linear-1a2b3c`, `-zeros20-1a2b3c`, or nothing."""
        sparse = f"zeros{self.sparsity.amount.removesuffix('%')}" if self.sparsity else ""
        how = self.variant if self.merge else "linear" if self.linear_map else sparse
        return f"-{how}-{self.digest[:6]}" if how else ""

    def save(self, path: str | Path) -> Path:
        """Write the recipe as YAML, to be used as `recipe=PATH`; returns the path."""

        write_recipe(self, Path(path))
        return Path(path)

    def published(self) -> Recipe:
        """The recipe for others to read: of a local folder or file, only the last part of its path.

        Raises:
            ArgumentError: base and checkpoint are folders of the same name.
        """
        content = self.model_dump(mode="json", exclude_defaults=True)
        names = {field: _published(content[field]) for field in ("base", "checkpoint") if content.get(field)}
        if names.get("checkpoint") == names["base"]:
            raise ArgumentError(
                f"base and checkpoint are both folders named {names['base']}, by which others can't tell them apart; "
                "rename one of them"
            )
        return Recipe.model_validate({name: scrubbed(value) for name, value in content.items()} | names)

    @property
    def digest(self) -> str:
        """First 16 hex digits of SHA-256 over all fields that determine the model."""
        merged = [self.variant, [step.model_dump() for step in self.merge]] if self.merge else []
        named = self.model_dump(mode="json", include=set(_ADDED), exclude_defaults=True)
        added = {name: named[name] for name in _ADDED if name in named}
        if self.linear_map:
            added["linear_map"] = [self.linear_map.after, self.linear_map.sha256]
        if self.sparsity:
            added["sparsity"] = self.sparsity.model_dump(exclude={"file"})
        content = json.dumps([self.base, self.revision, self.drop, *merged, *([added] if added else [])])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _published(model: str) -> str:
    return public_name(Path(model).resolve() if Path(model).is_dir() else model)


def parse_layers(value: object, name: str = "drop_layers", what: str = "layer") -> tuple[int, ...]:
    """Layer indices, ascending, from `[25, 26]`, `25`, `"25-27"`, `"25+26"` or `"[25,26]"`.

    Args:
        value: in one of these forms.
        name: of what is read, for messages.
        what: is numbered.

    Raises:
        ArgumentError: there are no indices, or one is repeated, negative or not an integer.
    """
    indices = [index for part in _parts(value) for index in _indices(part, value, name, what)]
    if not indices:
        raise ArgumentError(f"{name}={value!r}: no {what}s given; give indices such as [25,26], 25-27 or 25+26")
    twice = [index for index, count in Counter(indices).items() if count > 1]
    if twice:
        raise ArgumentError(f"{name}={value!r}: {what} {min(twice)} is listed twice")
    return tuple(sorted(indices))


def parse_experts(value: object, name: str = "drop_experts") -> dict[int, tuple[int, ...]]:
    """Experts by layer, from `{0: [3, 7], 1: "2-5"}`, or the same as text, also in brackets; a key may name layers.

    Raises:
        ArgumentError: it does not have this form, or a layer is named twice.

    >>> parse_experts("{0: 3+7-9, 1-2: 5}")
    {0: (3, 7, 8, 9), 1: (5,), 2: (5,)}
    """
    pairs = list(value.items()) if isinstance(value, Mapping) else _pairs(value)
    if not pairs:
        raise ArgumentError(
            f"{name}={value!r}: give experts by layer, such as {{0: 3+7-9, 1: 2+5}}, or in model_args "
            "[0: 3+7-9, 1: 2+5]"
        )
    found: dict[int, tuple[int, ...]] = {}
    for layers, experts in pairs:
        for layer in parse_layers(layers, name):
            if layer in found:
                raise ArgumentError(f"{name}={value!r}: layer {layer} is listed twice")
            found[layer] = parse_layers(experts, f"{name}: layer {layer}", "expert")
    return dict(sorted(found.items()))


def _pairs(value: object) -> list[tuple[str, str]]:
    text = value.strip() if isinstance(value, str) else ""
    if text[:1] + text[-1:] in ("{}", "[]"):  # lm-eval's command line takes any brace for JSON
        text = text[1:-1]
    parts = [part for part in re.split(r",(?![^\[]*\])", text) if part.strip()]
    if not all(":" in part for part in parts):
        return []
    pairs = (part.partition(":") for part in parts)
    return [(layer.strip(" \"'"), experts.strip(" \"'")) for layer, _, experts in pairs]


def told_experts(dropped: Mapping[int, Sequence[int]]) -> str:
    """How many experts are dropped, of how many layers: `12 experts of 6 layers`."""
    count, layers = sum(map(len, dropped.values())), len(dropped)
    return f"{count} expert{'s' if count != 1 else ''} of {layers} layer{'s' if layers != 1 else ''}"


def _parts(value: object) -> Sequence[object]:
    if isinstance(value, str):
        return [part for part in re.split(r"[+,]", value.strip().strip("[]()")) if part.strip()]
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def _indices(part: object, whole: object, name: str, what: str) -> list[int]:
    text = str(part) if isinstance(part, (int, str)) and not isinstance(part, bool) else ""
    match = _RANGE.match(text) if len(text) < 100 else None  # Python refuses to read very long numbers
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
    article = "an" if what == "expert" else "a"
    if last < first:
        raise ArgumentError(
            f"{name}={whole!r}: {part!r} is not {article} {what} index; give integers from 0, e.g. [25,26], 25-27 or "
            "25+26"
        )
    if last >= _MOST_LAYERS:
        raise ArgumentError(
            f"{name}={whole!r}: no model has {article} {what} {last}; give indices below {_MOST_LAYERS}"
        )
    return list(range(first, last + 1))


def format_layers(layers: Sequence[int]) -> str:
    """Format layers as compactly as `parse_layers` can read: `(25, 26, 27, 30)` becomes `25-27+30`."""
    return ranges(sorted(layers), "+")


def kept_layers(drop: Sequence[int], depth: int) -> tuple[int, ...]:
    """The layers to keep, ascending, in a model with `depth` layers.

    Raises:
        ArgumentError: an index is out of range, or no layer is left.
    """
    outside = [layer for layer in drop if not 0 <= layer < depth]
    if outside:
        raise ArgumentError(
            f"drop_layers={format_layers(drop)}: layer {outside[0]} does not exist; the model has layers 0-{depth - 1}"
        )
    kept = tuple(layer for layer in range(depth) if layer not in set(drop))
    if not kept:
        raise ArgumentError(f"drop_layers={format_layers(drop)}: drops all {depth} layers; at least one must be kept")
    return kept


def recipe_info(recipe: Recipe | None) -> dict[str, object]:
    """What results say of a recipe: its method, what it leaves out and what it changes."""
    if recipe is None:
        nothing: dict[str, object] = {"dropped_layers": [], "merged_layers": [], "layer_scores": []}
        return {"method": "none", "source": "", **nothing, "recipe_hash": ""}
    blocks = {f"dropped_{name}": list(layers) for name, layers in recipe.blocks._asdict().items() if layers}
    experts = {str(layer): format_layers(some) for layer, some in recipe.drop_experts.items()}
    changed = {name: one.model_dump(exclude={"file"}, exclude_defaults=True) for name, one in recipe.attached.items()}
    return {
        "method": recipe.method,
        "source": recipe.source,
        "dropped_layers": list(recipe.drop),
        **blocks,
        **({"dropped_experts": experts} if experts else {}),
        "merged_layers": [step.model_dump(mode="json") for step in recipe.merge],
        **changed,
        "layer_scores": list(recipe.scores),
        "recipe_hash": recipe.digest,
    }


def recipe_files() -> list[Path]:
    """The recipes that ship in `pruned_models/`, and those of other installed packages."""
    return [path for folder in (PRUNED_MODELS, *recipe_folders()) for path in sorted(folder.glob("*.yaml"))]


def recipe_names() -> list[str]:
    """Names of `recipe_files`, ascending."""
    return sorted({path.stem for path in recipe_files()})


def in_names(count: object) -> str:
    """A number or share as names of files and runs have it: `20pct`."""
    return str(count).replace("%", "pct")


def chosen_name(base: str, method: str, parameters: Iterable[object], count: object) -> str:
    """File name of the recipe of a choice of layers, experts or weights.

    >>> chosen_name("Qwen/Qwen3-8B", "laco", [0.4], 2)
    'qwen3-8b-laco-0.4-2.yaml'
    """
    words = [base.rstrip("/").split("/")[-1].lower(), method, *map(str, parameters), in_names(count)]
    return f"{'-'.join(words)}.yaml"


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by its name in `pruned_models/` or another installed package, or by the path of a YAML file.

    Raises:
        RecipeError: there is no such recipe, or more than one of that name; or one of its fields is missing, unknown
            or invalid.
    """
    path = _recipe_path(str(name_or_path))
    recipe = read_yaml(path, Recipe, RecipeError, renamed={"drop_layers": "drop"}, as_text=("drop_experts",))
    return recipe.model_copy(update={name: one.beside(path) for name, one in recipe.attached.items()})


def write_recipe(recipe: Recipe, path: Path, comment: str = "") -> None:
    """Write a recipe as YAML, with what is attached beside it; fields with their default value are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = recipe.model_copy(update={name: one.copied_beside(path) for name, one in recipe.attached.items()})
    content = yaml.safe_dump(
        recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, default_flow_style=None, width=120,
        allow_unicode=True,
    )  # fmt: skip
    write_whole(path, (f"# {comment}\n" if comment else "") + content)


def _recipe_path(name_or_path: str) -> Path:
    named = [path for path in recipe_files() if path.stem == name_or_path]
    if len(named) > 1:
        raise RecipeError(
            f"recipe={name_or_path}: found more than once; give the path of one: {', '.join(map(str, named))}"
        )
    if named:
        return named[0]
    path = expanded(name_or_path)
    if not is_there(path):
        known = ", ".join(recipe_names()) or "none"
        raise RecipeError(f"recipe={name_or_path}: neither a YAML file nor an installed recipe; installed: {known}")
    return path
