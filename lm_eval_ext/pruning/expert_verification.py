"""Which tensors of a model hold experts, and whether dropping some is exact: both by tiny twins of it.

The oracle is the whole twin whose router gives dropped experts a logit of -1e30 (and a bias of it, where it has one),
so that they are never chosen.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import text_config, within_layer
from lm_eval_ext.pruning.checkpoint import Changes
from lm_eval_ext.pruning.experts import (
    Axis,
    Dropped,
    ExpertTensors,
    KeptExperts,
    experts_per_token,
    groups_of,
    is_single,
    kept_experts,
    no_router_loss,
    number_of_experts,
    set_groups,
    set_kept,
    set_number_of_experts,
)
from lm_eval_ext.pruning.verification import (
    VISIBLE,
    Twin,
    check_equal,
    logits_of,
    refusing,
    relative_difference,
    tiny_config,
    tiny_twin,
    token_ids,
)

if TYPE_CHECKING:
    import torch
    from torch.overrides import TorchFunctionMode
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger("lm_eval.tts")

Shapes = Mapping[str, tuple[int, ...]]

_MANY, _FEW = 8, 6  # experts of the twins that are compared
_NEVER = -1e30  # logit of an expert that is never chosen

_known: dict[str, ExpertTensors] = {}  # of configs, in this process
_shown_exact: set[tuple[object, ...]] = set()  # configs and whether they lose as many in each layer


def find_experts(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> ExpertTensors:
    """Which tensors of a model hold experts, by comparing twins with different numbers of them.

    Args:
        config: of the base model.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the model has no experts, or what depends on their number is not known.
    """
    what = config.to_json_string(use_diff=False)
    if what not in _known:
        if not (count := number_of_experts(config)):
            raise ArchitectureError(f"drop_experts: a {text_config(config).model_type} model has no experts")
        with refusing(_refusal(config)):
            with (
                expert_twin(config, _MANY, trust_remote_code) as many,
                expert_twin(config, _FEW, trust_remote_code) as few,
            ):
                axes: dict[str, Axis] = {}
                layers: set[int] = set()
                shapes = _shapes(many)
                for one, other in zip(shapes, _shapes(few), strict=True):
                    _compare(one, other, axes, layers)
                single = any(map(is_single, shapes[1]))
            if not layers:
                raise ArchitectureError("no tensor of a tiny twin depends on the number of experts")
        _known[what] = ExpertTensors(count, tuple(sorted(layers)), axes, single)
    return _known[what]


def _refusal(config: PreTrainedConfig) -> str:
    kind = text_config(config).model_type
    return f"experts of a {kind} model cannot be dropped: a tiny twin could not show that this is exact"


@contextmanager
def expert_twin(config: PreTrainedConfig, count: int = _MANY, trust_remote_code: bool = False) -> Iterator[Twin]:
    """A twin with so many experts, in two groups if the model's form groups; it exists as long as the context."""

    def shrunk(config: PreTrainedConfig) -> PreTrainedConfig:
        tiny = tiny_config(config)
        set_number_of_experts(tiny, count)
        no_router_loss(tiny)
        if groups_of(config) != (1, 1):
            set_groups(tiny, 2, 1)
        return tiny

    with tiny_twin(config, trust_remote_code=trust_remote_code, shrunk=shrunk) as twin:
        yield twin


def _shapes(twin: Twin) -> tuple[Shapes, Shapes]:
    """Shapes of a twin's tensors, by their names in memory and in its checkpoint."""
    from safetensors import safe_open

    with safe_open(Path(twin.folder) / "model.safetensors", framework="pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return {name: tuple(tensor.shape) for name, tensor in twin.model.state_dict().items()}, stored


def _compare(many: Shapes, few: Shapes, axes: dict[str, Axis], layers: set[int]) -> None:
    """Add the tensors that depend on the number of experts, and the layers that they are in."""
    for name, shape in many.items():
        place = within_layer(name)
        if name not in few:
            if place is None or not is_single(place[1]):
                raise ArchitectureError(f"there is no {name} with fewer experts")
            layers.add(place[0])
        elif shape != few[name]:
            changed = [number for number, (a, b) in enumerate(zip(shape, few[name], strict=True)) if a != b]
            if place is None or len(changed) > 1:
                raise ArchitectureError(f"how {name} depends on the number of experts is not known")
            ratio = (shape[changed[0]] - few[name][changed[0]]) // (_MANY - _FEW)
            axes[place[1]] = Axis(changed[0], blocks=ratio > 1)
            layers.add(place[0])


def ensure_experts_exact(
    config: PreTrainedConfig, *, even: bool, fused: bool = False, trust_remote_code: bool = False
) -> None:
    """Refuse to drop experts unless a check on a tiny twin shows that this is exact for the architecture.

    Args:
        config: of the model with all experts.
        even: whether each layer loses as many.
        fused: whether the checkpoint holds the experts under the names that they have in memory.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the experts cannot be dropped; the message says why.
    """
    what = (config.to_json_string(use_diff=False), even, fused)
    if what in _shown_exact:
        return
    with refusing(_refusal(config)):
        tensors = find_experts(config, trust_remote_code=trust_remote_code)
        with expert_twin(config, trust_remote_code=trust_remote_code) as twin:
            if fused:
                _store_as_in_memory(twin)
            difference = difference_without(twin, kept_of_twin(twin, tensors, even=even))
    _shown_exact.add(what)
    kind = text_config(config).model_type
    logger.info("dropping experts of a %s model: checked on a tiny random twin, exact to %.0e", kind, difference)


def difference_without(twin: Twin, kept: KeptExperts, loaded: KeptExperts | None = None) -> float:
    """Compare the logits of a twin loaded without some experts with those of the whole one that never chooses them.

    Args:
        twin: with all experts.
        kept: the experts that are kept, others in each layer.
        loaded: others that are loaded in their place, to see whether that is noticed.

    Returns:
        The largest difference, relative to the largest logit.

    Raises:
        NotExactError: the logits differ, or generation with a cache differs from generation without.
        Exception: whatever loading or running a model of this class raises.
    """
    sliced, experts = copy.deepcopy(twin.config), loaded or kept
    set_kept(sliced, experts.by_layer)
    pruned = twin.loaded(sliced, changes=Changes(experts=experts))
    ids = token_ids(twin.model)
    whole = logits_of(twin.model, ids)
    with never_chosen(twin.model, kept):
        expected = logits_of(twin.model, ids)
    if relative_difference(whole, expected) < VISIBLE:
        raise ArchitectureError("its experts change nothing in a random twin")
    return check_equal(twin.model, pruned, ids, expected)


def kept_of_twin(twin: Twin, tensors: ExpertTensors, *, even: bool) -> KeptExperts:
    """Experts that a twin keeps: others in each layer, and if not even, also more or fewer.

    Args:
        twin: with all experts.
        tensors: of the model that it is the twin of.
        even: whether each layer loses as many.
    """
    return kept_experts(twin.config, replace(tensors, count=_MANY), _pattern(twin.config, tensors.layers, even=even))


def _store_as_in_memory(twin: Twin) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.clone().contiguous() for name, tensor in twin.model.state_dict().items()}
    for name in twin.model.all_tied_weights_keys:
        tensors.pop(name, None)
    save_file(tensors, Path(twin.folder) / "model.safetensors", metadata={"format": "pt"})


def _pattern(config: PreTrainedConfig, layers: Sequence[int], *, even: bool) -> Dropped:
    """Which experts a twin loses: as many of each group, others in each layer, and if not even, more in some."""
    groups, _ = groups_of(config)
    size = _MANY // groups
    most = size - max(2, experts_per_token(config)) if groups > 1 else size - max(5, experts_per_token(config))

    def lost(number: int) -> tuple[int, ...]:
        count = most if even else 1 + number % most if most > 1 else number % 2
        places = {(number + 3 * one) % size for one in range(count)}
        return tuple(sorted(place + group * size for group in range(groups) for place in places))

    return {layer: lost(number) for number, layer in enumerate(layers) if lost(number)}


@contextmanager
def never_chosen(model: PreTrainedModel, kept: KeptExperts) -> Iterator[None]:
    """Let the routers of a whole model never choose dropped experts within the context.

    Args:
        model: with all experts.
        kept: the experts that may be chosen.
    """
    import torch

    count = kept.tensors.count
    routers: dict[int, torch.Tensor] = {}  # place in memory of a router's matrix -> its dropped experts
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        place = within_layer(name)
        axis = place and kept.tensors.axis_of(place[1])
        if not place or not axis or axis.blocks:
            continue
        dropped = torch.tensor([one for one in range(count) if one not in kept.by_layer[place[0]]], dtype=torch.long)
        if tensor.numel() == tensor.shape[axis.dimension]:
            before.append((tensor, tensor.detach().clone()))
            with torch.no_grad():
                tensor.index_fill_(axis.dimension, dropped, _NEVER)
        elif tensor.ndim == 2:
            routers[tensor.data_ptr()] = dropped
    try:
        with _masking(routers):
            yield
    finally:
        with torch.no_grad():
            for tensor, values in before:
                tensor.copy_(values)


def _masking(routers: Mapping[int, torch.Tensor]) -> TorchFunctionMode:
    import torch
    from torch.overrides import TorchFunctionMode

    products = (torch.nn.functional.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm)

    class Masking(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # as torch's
            output = func(*args, **(kwargs or {}))
            if func in products:
                for argument in args[:2]:
                    if (dropped := routers.get(argument.data_ptr())) is not None:
                        return output.index_fill(-1, dropped, _NEVER)
            return output

    return Masking()
