"""Experts of a mixture that are dropped while a checkpoint is read.

Nothing is declared for a family of models: which tensors hold experts, and along which dimension, is seen by comparing
two tiny twins with different numbers of experts (`expert_verification.py`). Whether the experts are tensors of their
own (`experts.7.up_proj.weight`) or parts of a fused one is read off the checkpoint's own names.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.architecture import text_config, within_layer
from lm_eval_ext.pruning.layers import decoder_layers
from lm_eval_ext.wording import ranges

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

Dropped = Mapping[int, tuple[int, ...]]  # layer -> its dropped experts, ascending
NO_EXPERTS: Dropped = {}

_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = (
    "num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "moe_top_k", "top_k_experts",
    "num_selected_experts",
)  # fmt: skip
_GROUPS, _CHOSEN_GROUPS = ("n_group", "num_expert_group"), "topk_group"
_INDEX = re.compile(r"(?<![^.])experts\.(\d+)(?=\.)")  # an expert that is a tensor of its own
_FIELD = "experts_of_layers"  # of a config: numbers of experts that differ by layer
_LEAST_OF_A_GROUP = 2  # the score of a group is the sum of its two best experts


class Axis(NamedTuple):
    """Where a tensor holds the experts.

    Attributes:
        dimension: along which they follow one another; rows behind them, as of shared experts, belong to none.
        blocks: whether each has several rows.
    """

    dimension: int
    blocks: bool = False


@dataclass(frozen=True)
class ExpertTensors:
    """Which tensors of a model hold experts.

    Attributes:
        count: number of experts of a layer.
        layers: the layers that have experts.
        axes: by a tensor's name within its layer; those of a single expert (`experts.7.`) are not among them.
        single: whether transformers writes each expert as tensors of its own.
    """

    count: int
    layers: tuple[int, ...]
    axes: Mapping[str, Axis]
    single: bool

    def axis_of(self, name: str) -> Axis | None:
        """Where a tensor holds the experts, by its name within its layer; None if it doesn't.

        What packed weights need stands beside them under longer names, such as `gate_up_proj_scales`.
        """
        if name in self.axes:
            return self.axes[name]
        return next((axis for known, axis in self.axes.items() if name.startswith(f"{known}_")), None)


class Rows(NamedTuple):
    """Rows of a tensor along a dimension: some of the parts of equal length that it consists of."""

    dimension: int
    parts: tuple[int, ...]
    length: int


@dataclass(frozen=True)
class KeptExperts:
    """The experts that are kept.

    Attributes:
        tensors: which tensors hold experts.
        by_layer: the kept experts of each layer that has some, ascending.
    """

    tensors: ExpertTensors
    by_layer: Mapping[int, tuple[int, ...]]

    @property
    def total(self) -> int:
        """Number of experts of the base model, over all layers."""
        return self.tensors.count * len(self.tensors.layers)

    def within(self, kept: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """The same experts, by the indices of their layers in the model with only the layers `kept`."""
        return {kept.index(layer): experts for layer, experts in self.by_layer.items() if layer in kept}

    def renamed(self, name: str) -> str | None:
        """The name of a checkpoint's tensor with fewer experts; None if it belongs to a dropped one."""
        place = within_layer(name)
        found = place and _INDEX.search(place[1])
        if not place or not found or place[0] not in self.by_layer:
            return name
        experts, index, count = self.by_layer[place[0]], int(found[1]), self.tensors.count
        if index < count and index not in experts:
            return None
        new = experts.index(index) if index < count else index - count + len(experts)  # longcat's zero experts
        start = len(name) - len(place[1])
        return f"{name[: start + found.start(1)]}{new}{name[start + found.end(1) :]}"

    def rows_of(self, name: str, shape: Sequence[int]) -> Rows | None:
        """The rows that are kept of a checkpoint's tensor; None if all are.

        Raises:
            ArchitectureError: the tensor holds another number of experts.
        """
        place = within_layer(name)
        axis = place and self.tensors.axis_of(place[1])
        count = self.tensors.count
        if not place or not axis or len(experts := self.by_layer.get(place[0], ())) in (0, count):
            return None
        size = shape[axis.dimension] if axis.dimension < len(shape) else 0
        if size < count or (axis.blocks and size % count):
            raise ArchitectureError(f"{name}: its shape {list(shape)} is not that of {count} experts")
        if axis.blocks:
            return Rows(axis.dimension, experts, size // count)
        return Rows(axis.dimension, (*experts, *range(count, size)), 1)


def expert_of(name: str) -> int | None:
    """The number of the expert that a tensor of a single one belongs to."""
    place = within_layer(name)
    found = place and _INDEX.search(place[1])
    return int(found[1]) if found else None


def is_single(name: str) -> bool:
    """Whether a tensor belongs to a single expert, by its name within its layer."""
    return _INDEX.search(name) is not None


def number_of_experts(config: PreTrainedConfig) -> int:
    """Number of routed experts of a layer; 0 if the model has none.

    Raises:
        ArchitectureError: the config says several numbers.
    """
    found = {getattr(part, name) for part, name in _counts(config)}
    if len(found) > 1:
        raise ArchitectureError(
            f"experts of a {text_config(config).model_type} model cannot be dropped: its config says that there are "
            f"{' and '.join(map(str, sorted(found)))}"
        )
    return int(found.pop()) if found else 0


def set_number_of_experts(config: PreTrainedConfig, count: int) -> None:
    """Set the number of routed experts of each layer."""
    for part, name in list(_counts(config)):
        setattr(part, name, count)


def _counts(config: PreTrainedConfig) -> Iterator[tuple[PreTrainedConfig, str]]:
    """The fields that count experts, each with the part of the config that it is in."""
    from transformers import PreTrainedConfig

    text = text_config(config)
    for part in (text, *(value for value in vars(text).values() if isinstance(value, PreTrainedConfig))):
        for name in _COUNTS:
            value = getattr(part, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 1:
                yield part, name


def count_overrides(config: PreTrainedConfig) -> dict[str, object]:
    """The fields of the text config that count experts, with their values, for loaders that accept overrides."""
    text, found = text_config(config), dict[str, Any]()
    names = {id(part): name for name, part in vars(text).items()}
    for part, name in _counts(config):
        where = found if part is text else found.setdefault(names[id(part)], {})
        where[name] = getattr(part, name)
    return found


def experts_per_token(config: PreTrainedConfig) -> int:
    """Number of routed experts that a token is given to, the largest of all layers; 0 if the config doesn't say it."""
    for name in _CHOSEN:
        value = _field(config, name)
        listed = value if isinstance(value, (list, tuple)) else [value]
        if listed and all(isinstance(one, int) for one in listed):
            return int(max(listed))
    return 0


def no_router_loss(config: PreTrainedConfig) -> None:
    """Switch off the loss by which routers are trained: it counts the experts of all layers together."""
    text = text_config(config)
    if getattr(text, "output_router_logits", None):
        text.output_router_logits = False


def most_dropped(config: PreTrainedConfig) -> int:
    """Most experts of a layer that can be dropped; 0 if none can.

    Raises:
        ArchitectureError: the config doesn't say how many experts a token is given to.
    """
    count, (groups, chosen) = number_of_experts(config), groups_of(config)
    least = experts_per_token(config)
    if not least:
        raise ArchitectureError(
            f"experts of a {text_config(config).model_type} model cannot be dropped: its config doesn't say how many "
            "experts a token is given to"
        )
    if groups == 1:
        return count - least
    return groups * (count // groups - max(_LEAST_OF_A_GROUP, -(-least // chosen)))


def groups_of(config: PreTrainedConfig) -> tuple[int, int]:
    """Number of groups that the experts form, and how many of them are chosen; (1, 1) without groups."""
    groups = next((value for name in _GROUPS if isinstance(value := _field(config, name), int)), 1)
    chosen = _field(config, _CHOSEN_GROUPS)
    return (groups, chosen if isinstance(chosen, int) else groups) if groups > 1 else (1, 1)


def set_groups(config: PreTrainedConfig, groups: int, chosen: int) -> None:
    """Set the number of groups that the experts form, and how many of them are chosen, where there are groups."""
    text = text_config(config)
    for name in _GROUPS:
        if hasattr(text, name):
            setattr(text, name, groups)
            setattr(text, _CHOSEN_GROUPS, chosen)


def _field(config: PreTrainedConfig, name: str) -> object:
    text = text_config(config)
    nested = (getattr(part, name, None) for part in vars(text).values() if hasattr(part, "to_dict"))
    return next((value for value in (getattr(text, name, None), *nested) if value is not None), None)


def kept_experts(config: PreTrainedConfig, tensors: ExpertTensors, dropped: Dropped) -> KeptExperts:
    """The experts that are left when some are dropped.

    Args:
        config: of the base model.
        tensors: which of its tensors hold experts.
        dropped: by layer of the base model.

    Raises:
        ArgumentError: a layer or an expert does not exist, too few are left, or groups lose different numbers.
    """
    count, (groups, chosen) = tensors.count, groups_of(config)
    most_dropped(config)  # fails if it isn't known how many experts a token is given to
    least = experts_per_token(config)
    for layer, experts in dropped.items():
        given = f"drop_experts: layer {layer}: {ranges(sorted(experts), '+')}"
        if layer not in tensors.layers:
            raise ArgumentError(f"{given}: this layer has no experts; those with experts: {ranges(tensors.layers)}")
        if max(experts) >= count:
            raise ArgumentError(f"{given}: there is no expert {max(experts)}; a layer has experts 0-{count - 1}")
        lost = [sum(expert * groups // count == group for expert in experts) for group in range(groups)]
        if len(set(lost)) > 1:
            raise ArgumentError(
                f"{given}: its {groups} groups of {count // groups} experts lose {', '.join(map(str, lost))}; the "
                "router compares groups, so each must lose as many"
            )
        if (left := (count - len(experts)) // groups * chosen) < least:
            where = f" in the groups that are chosen for it ({chosen} of {groups})" if groups > 1 else ""
            raise ArgumentError(f"{given}: a token is given to {least} experts, but only {left} would be left{where}")
        if groups > 1 and count // groups - lost[0] < _LEAST_OF_A_GROUP:
            raise ArgumentError(f"{given}: each of the {groups} groups needs {_LEAST_OF_A_GROUP} experts")
    whole = range(count)
    by_layer = {layer: tuple(one for one in whole if one not in dropped.get(layer, ())) for layer in tensors.layers}
    return KeptExperts(tensors, by_layer)


def set_kept(config: PreTrainedConfig, kept: Mapping[int, Sequence[int]]) -> None:
    """Set the numbers of experts that are kept.

    Args:
        config: of the pruned model.
        kept: the kept experts of its layers that have some.
    """
    counts = {layer: len(experts) for layer, experts in kept.items()}
    if len(set(counts.values())) == 1:
        set_number_of_experts(config, next(iter(counts.values())))
    elif counts:
        text = text_config(config)
        setattr(text, _FIELD, {str(layer): count for layer, count in counts.items()})
        no_router_loss(text)


def uneven(config: PreTrainedConfig) -> dict[int, int]:
    """Numbers of experts by layer, if they differ by layer; else empty."""
    found: Mapping[object, int] = getattr(text_config(config), _FIELD, None) or {}
    return {int(str(layer)): count for layer, count in found.items()}


def refuse_uneven(config: PreTrainedConfig, what: str) -> None:
    """Refuse what can't say how many experts each layer has.

    Raises:
        ArchitectureError: the numbers of experts differ by layer.
    """
    if counts := sorted(set(uneven(config).values())):
        raise ArchitectureError(
            f"{what} one number of experts for all layers, but {counts[0]} to {counts[-1]} are kept; drop as many in "
            "every layer that has experts (so without barriers and `uneven`), or use pruned-hf"
        )


def exchange_experts(
    model: PreTrainedModel, counts: Mapping[int, int], made: Callable[[PreTrainedConfig], PreTrainedModel]
) -> None:
    """Give layers other numbers of experts.

    Args:
        model: whose layers have equally many.
        counts: by layer.
        made: makes a model of the same class from a config.
    """
    layers = decoder_layers(model)
    for count in set(counts.values()):
        other = copy.deepcopy(model.config)
        set_number_of_experts(other, count)
        donor = decoder_layers(made(other))
        for layer in (layer for layer, one in counts.items() if one == count):
            for name, part in donor[layer].named_children():
                setattr(layers[layer], name, part)
