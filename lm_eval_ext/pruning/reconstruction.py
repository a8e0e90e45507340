"""Finds how a published pruned checkpoint was made from its base: which layers and experts it kept.

Tools that drop layers or experts write an ordinary checkpoint, and seldom say which ones they dropped. What is kept is
bitwise equal to the base's, so that a layer is recognised by its tensors and an expert by its row of the router.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.paths import named
from lm_eval_ext.pruning.architecture import depth, within_layer
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes, kept_tensors, read_config
from lm_eval_ext.pruning.expert_verification import find_experts
from lm_eval_ext.pruning.experts import Dropped, ExpertTensors, is_single, number_of_experts
from lm_eval_ext.pruning.loading import pruned_config, with_experts
from lm_eval_ext.pruning.recipe import Recipe, Shape
from lm_eval_ext.redaction import line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from lm_eval_ext.pruning.merging import LazyTensor

Tensors = Mapping[str, "LazyTensor"]  # of a checkpoint, by name


def reconstructed(
    checkpoint: str,
    base: str,
    *,
    checkpoint_revision: str = "main",
    base_revision: str = "main",
    method: str = "not known",
    trust_remote_code: bool = False,
) -> Recipe:
    """The recipe by which the base becomes the checkpoint.

    Args:
        checkpoint: Hub name or folder of the pruned checkpoint.
        base: Hub name or folder of the model that it was made from.
        checkpoint_revision, base_revision: branch, tag or commit of each.
        method: how the layers or experts were chosen, if that is known.
        trust_remote_code: run the model code that the repositories ship.

    Raises:
        ArchitectureError: the checkpoint holds anything that the base doesn't, as after merging or training, or it
            lacks nothing.
    """
    ours = read_config(checkpoint, checkpoint_revision, trust_remote_code)
    theirs = read_config(base, base_revision, trust_remote_code)
    if depth(ours) > depth(theirs) or number_of_experts(ours) > number_of_experts(theirs):
        raise ArchitectureError(f"{checkpoint}: has more layers or experts than {base}; are they the other way round?")
    with ExitStack() as files:
        small = kept_tensors(checkpoint, range(depth(ours)), NO_CHANGES, {"revision": checkpoint_revision}, files)
        large = kept_tensors(base, range(depth(theirs)), NO_CHANGES, {"revision": base_revision}, files)
        fewer = 0 < number_of_experts(ours) < number_of_experts(theirs)
        tensors = find_experts(theirs, trust_remote_code=trust_remote_code) if number_of_experts(theirs) else None
        kept = _kept_layers(checkpoint, small, large, (depth(ours), depth(theirs)), tensors)
        experts = _dropped_experts(checkpoint, small, large, kept, tensors) if fewer and tensors else {}
        drop = tuple(layer for layer in range(depth(theirs)) if layer not in kept)
        if not drop and not experts:
            raise ArchitectureError(f"{checkpoint}: has all layers and experts of {base}, so there is no recipe for it")
        changes = with_experts(NO_CHANGES, theirs, experts, trust_remote_code)
        made = pruned_config(
            base, theirs, kept, {"revision": base_revision}, trust_remote_code=trust_remote_code, changes=changes
        )
        _check_same_config(checkpoint, ours, made)
        _check_equal(checkpoint, small, base, base_revision, kept, changes)
    return Recipe(
        base=named(base), revision=base_revision, shape=Shape.of(theirs, experts=bool(experts)), drop=drop,
        drop_experts=experts, method=method,
        source=f"lm-eval-tts recipes recover {named(checkpoint)}, revision {checkpoint_revision}",
    )  # fmt: skip


def _kept_layers(
    checkpoint: str, small: Tensors, large: Tensors, depths: tuple[int, int], tensors: ExpertTensors | None
) -> tuple[int, ...]:
    """The base's layers that the checkpoint has, in its order, by the values of all but their experts."""
    mine, its = (_by_layer(some, tensors) for some in (small, large))
    found: list[int] = []
    for layer in range(depths[0]):
        if not mine.get(layer):
            raise ArchitectureError(f"{checkpoint}: layer {layer} has no tensors that can be compared")
        later = range(found[-1] + 1 if found else 0, depths[1])
        equal = next((other for other in later if _are_equal(mine[layer], its.get(other, {}))), None)
        if equal is None:
            raise ArchitectureError(
                f"{checkpoint}: layer {layer} is none of the base's: it was merged, trained, or stored in another "
                "dtype, or the base is another"
            )
        found.append(equal)
    return tuple(found)


def _by_layer(tensors: Tensors, experts: ExpertTensors | None) -> dict[int, dict[str, LazyTensor]]:
    """The tensors of each layer that don't depend on the number of experts, by their names within it."""
    found: dict[int, dict[str, LazyTensor]] = {}
    for name, tensor in tensors.items():
        place = within_layer(name)
        if place and not is_single(place[1]) and not (experts and experts.axis_of(place[1])):
            found.setdefault(place[0], {})[place[1]] = tensor
    return found


def _are_equal(some: Tensors, others: Tensors) -> bool:
    both = [(some[name], others[name]) for name in some if name in others]
    return bool(both) and len(both) == len(some) and all(_is_equal(*pair) for pair in both)


def _is_equal(one: LazyTensor, other: LazyTensor) -> bool:
    if list(one.get_shape()) != list(other.get_shape()):
        return False
    first = slice(1) if one.get_shape() else ...  # layers that differ do so in the first row
    return bool((one[first] == other[first]).all()) and bool((one[...] == other[...]).all())


def _dropped_experts(
    checkpoint: str, small: Tensors, large: Tensors, kept: Sequence[int], tensors: ExpertTensors
) -> Dropped:
    """The experts that the checkpoint lacks, by layer of the base."""
    routers = dict(_routers(small, tensors))
    found: dict[int, tuple[int, ...]] = {}
    for (layer, name), whole in _routers(large, tensors):
        if layer not in kept or layer in found:
            continue
        fewer = routers.get((kept.index(layer), name))
        rows = None if fewer is None else _rows(fewer[...], whole[...][: tensors.count])
        if rows is None:
            raise ArchitectureError(
                f"{checkpoint}: an expert of layer {layer} is none of the base's: experts were merged or trained"
            )
        found[layer] = tuple(expert for expert in range(tensors.count) if expert not in rows)
    return {layer: experts for layer, experts in sorted(found.items()) if experts}


def _routers(tensors: Tensors, experts: ExpertTensors) -> Iterator[tuple[tuple[int, str], LazyTensor]]:
    """The matrices with a row for each expert, by their layers and their names within these."""
    for name, tensor in tensors.items():
        place = within_layer(name)
        axis = place and experts.axis_of(place[1])
        if place and axis and axis.dimension == 0 and not axis.blocks and len(tensor.get_shape()) == 2:
            yield place, tensor


def _rows(fewer: torch.Tensor, whole: torch.Tensor) -> set[int] | None:
    """The rows of a matrix that another one consists of; None if a row is not among them, or more than once."""
    places = {row.numpy(force=True).tobytes(): number for number, row in enumerate(whole.float())}
    found = [places.get(row.numpy(force=True).tobytes()) for row in fewer.float()]
    return None if None in found or len(set(found)) < len(found) else {one for one in found if one is not None}


# Fields of a config that say nothing of what is computed.
_NOT_COMPUTED = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache")


def _check_same_config(checkpoint: str, ours: PreTrainedConfig, made: PreTrainedConfig) -> None:
    """Check that the checkpoint's config is that of the base without these layers and experts."""
    one, other = (dict(_flat(config.to_dict())) for config in (ours, made))
    for name in sorted(one.keys() | other.keys()):
        if name.rpartition(".")[2] not in _NOT_COMPUTED and one.get(name) != other.get(name):
            raise ArchitectureError(
                f"{checkpoint}: its config says {name}={line(str(one.get(name)), 80)}, but that of the base without "
                f"these layers and experts {line(str(other.get(name)), 80)}; no recipe changes that"
            )


def _flat(fields: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _check_equal(
    checkpoint: str, small: Tensors, base: str, revision: str, kept: Sequence[int], changes: Changes
) -> None:
    """Check that the base without these layers and experts holds what the checkpoint holds."""
    with ExitStack() as files:
        made = kept_tensors(base, kept, changes, {"revision": revision}, files)
        if missing := sorted(small.keys() ^ made.keys()):
            raise ArchitectureError(
                f"{checkpoint}: {missing[0]} is only in the {'base' if missing[0] in made else 'checkpoint'}: it was "
                "made in another way, or its tensors have other names"
            )
        different = next((name for name, tensor in small.items() if not _is_equal(tensor, made[name])), None)
    if different is not None:
        raise ArchitectureError(
            f"{checkpoint}: {different} differs from the base's without these layers and experts: it was trained, "
            "merged or put in another order"
        )
