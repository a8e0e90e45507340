"""LaCo's merges as linear combinations of the base model's layers.

In both variants, a merged layer is a weighted sum of layers of the base model. So a loader only needs `MergeWeights`:
for each merged layer, the layers it sums and their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lm_eval_ext.errors import RecipeError
from lm_eval_ext.pruning.architecture import is_merged, layer_of_tensor, renamed_tensor

if TYPE_CHECKING:
    import torch

Variant = Literal["rdsc", "reference_code"]
MergeWeights = dict[int, dict[int, float]]  # merged layer -> layer of the base model -> its weight


class Merge(BaseModel):
    """A merge step of LaCo: `layers` are merged into `into` and dropped; layer numbers are the base model's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    into: Annotated[int, Field(ge=0)]
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


def combinations(merges: Sequence[Merge], variant: Variant) -> MergeWeights:
    """The weights of every merged layer.

    `rdsc`, as in the paper (arXiv 2402.11187, equation 1): theta_l + sum_k (theta_l+k - theta_l), where all differences
    are taken against the original theta_l. `reference_code`: the authors' program subtracts the layer as merged so far,
    so the sum telescopes to the last layer merged.
    """
    made: MergeWeights = {}
    for merge in merges:
        parts = [made.pop(layer, {layer: 1.0}) for layer in merge.layers]
        own = made.get(merge.into, {merge.into: 1.0})
        if variant == "reference_code":
            made[merge.into] = parts[-1]
        else:
            made[merge.into] = _sum([(own, 1.0 - len(parts)), *((part, 1.0) for part in parts)])
    return made


def _sum(terms: Sequence[tuple[Mapping[int, float], float]]) -> dict[int, float]:
    total: dict[int, float] = {}
    for layers, share in terms:
        for layer, part in layers.items():
            total[layer] = total.get(layer, 0.0) + share * part
    return {layer: part for layer, part in sorted(total.items()) if part}


def check_merges(merges: Sequence[Merge], drop: Sequence[int]) -> None:
    """Refuse merges of layers that are not neighbours, and those that contradict each other or the dropped layers.

    Raises:
        RecipeError: a merge is invalid; the message says which.
    """
    gone: set[int] = set()
    for merge in merges:
        there = {merge.into, *merge.layers}
        if len(there) != len(merge.layers) + 1:
            raise RecipeError(f"merge into {merge.into} of {list(merge.layers)}: a layer is listed twice")
        if there & gone:
            already = min(there & gone)
            raise RecipeError(
                f"merge into {merge.into} of {list(merge.layers)}: layer {already} was already merged into another"
            )
        following = islice((layer for layer in count(merge.into + 1) if layer not in gone), len(merge.layers))
        if merge.layers != (neighbours := tuple(following)):
            raise RecipeError(
                f"merge into {merge.into} of {list(merge.layers)}: LaCo merges the layers that follow directly, which "
                f"are {list(neighbours)} here"
            )
        gone |= set(merge.layers)
    if gone - set(drop):
        raise RecipeError(f"merge: layer {min(gone - set(drop))} is merged into another, so it must be in `drop` too")
    lost = {merge.into for merge in merges} - gone & set(drop)
    if lost & set(drop):
        raise RecipeError(f"merge: others are merged into layer {min(lost & set(drop))}, so it must not be in `drop`")


def sources(name: str, made: MergeWeights) -> dict[str, float]:
    """The tensors (by name) that are summed for a tensor, and their weights; only itself if it is not merged."""
    layer = layer_of_tensor(name)
    if layer is None or layer not in made or not is_merged(name):
        return {name: 1.0}
    prefix, _, suffix = name.rpartition(f".{layer}.")
    return {f"{prefix}.{source}.{suffix}": share for source, share in made[layer].items()}


def merged_tensor(parts: Mapping[str, float], read: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """The weighted sum of tensors, computed in float32 and returned in their own dtype."""
    import torch

    (first, share), *others = parts.items()
    tensor = read(first)
    total = tensor.to(torch.float32) * share
    for name, share in others:
        total = total + read(name).to(torch.float32) * share
    return total.to(tensor.dtype)


def merged_weights(
    weights: Iterable[tuple[str, torch.Tensor]], kept: Sequence[int], made: MergeWeights
) -> Iterator[tuple[str, torch.Tensor]]:
    """Convert a stream of the base model's tensors to the pruned model's; only tensors to be merged are held back."""
    target_of = {layer: target for target, parts in made.items() for layer in parts}
    waiting: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in weights:
        layer = layer_of_tensor(name)
        if layer is None or not is_merged(name) or layer not in {*target_of, *made}:
            if (new := renamed_tensor(name, kept)) is not None:
                yield new, tensor
        elif layer in target_of:  # otherwise other layers replace it
            target = name.replace(f".{layer}.", f".{target_of[layer]}.", 1)
            held = waiting.setdefault(target, {})
            held[name] = tensor.clone()  # the loader may reuse its buffer
            if len(held) == len(parts := sources(target, made)):
                yield str(renamed_tensor(target, kept)), merged_tensor(parts, waiting.pop(target).__getitem__)
