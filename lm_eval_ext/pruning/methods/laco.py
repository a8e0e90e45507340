"""LaCo: merges runs of layers into their first layer, as long as the model's last hidden states stay similar.

Starting at layer `highest` - `merged` and going down, up to `merged` - 1 layers after a layer are merged into it (in
one of the two variants in `merging`). The merge is kept if the last hidden states stay similar to the base model's:
the cosine of the two, with all tokens of a text in one vector, averaged over the texts, must be above `threshold`. The
next merge is tried `interval` layers lower, or one layer lower if this merge was not kept. It ends when enough layers
are removed. The score of a layer is the cosine when others were first merged into it. Source: arXiv 2402.11187,
algorithm 1, with the settings for Llama2-7B.

`variant: reference_code` follows the authors' program (github.com/yangyifei729/LaCo): it starts one layer lower,
because `highest` is the last layer's index instead of the number of layers; it goes down to layer 0; and after a merge
it always moves `interval` layers down, even if fewer than `merged` layers are left above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING

from tqdm import tqdm

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.architecture import is_merged
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import bypassed, check_in_memory, cosines
from lm_eval_ext.pruning.merging import Merge, MergeWeights, Variant, combinations, merged_tensor
from lm_eval_ext.pruning.methods.removal import Removal, Removals, check_finite
from lm_eval_ext.pruning.quantization import quantization_of

if TYPE_CHECKING:
    import torch


def laco(
    context: PruningContext,
    remove: Sequence[int],
    *,
    threshold: float = 0.65,
    merged: int = 4,
    interval: int = 2,
    lowest: int | None = None,
    highest: int | None = None,
    variant: Variant = "rdsc",
) -> Removals:
    """Merge until the requested number of layers is removed."""
    as_in_code = variant == "reference_code"
    lowest = (0 if as_in_code else 1) if lowest is None else lowest
    if merged < 2 or interval < 1 or lowest < 0:
        raise ArgumentError(f"merged={merged}, interval={interval}, lowest={lowest}: must be at least 2, 1 and 0")
    _check_names(context)
    reference = last_states(context)
    top = min(context.depth - as_in_code if highest is None else highest, context.depth)
    return {
        count: _merge(context, reference, count, threshold, merged, interval, lowest, top, variant) for count in remove
    }


def _merge(  # the parameters of the paper's algorithm
    context: PruningContext, reference: Sequence[torch.Tensor], count: int, threshold: float, merged: int,
    interval: int, lowest: int, highest: int, variant: Variant,
) -> Removal:  # fmt: skip
    left, merges = list(range(context.depth)), list[Merge]()
    scores: list[float | None] = [None] * context.depth
    place, lowest = highest - merged, max(lowest, context.removable.start)
    progress = tqdm(total=count, desc="Layers merged")
    while place >= lowest and len(left) > context.depth - count:
        above = [layer for layer in left[place + 1 :] if layer in context.removable]
        more = min(merged - 1, len(above), count - (context.depth - len(left)))
        if more < 1:  # only where barriers keep the layers above
            place -= 1
            continue
        tried = Merge(into=left[place], layers=tuple(left[place + 1 : place + 1 + more]))
        same_answer = _similarity(context, reference, [*merges, tried], variant)
        scores[tried.into] = same_answer
        if same_answer > threshold:
            merges.append(tried)
            left = [layer for layer in left if layer not in tried.layers]
            progress.update(more)
            place -= interval
            if variant == "rdsc":
                place = min(place, len(left) - merged)
        else:
            place -= 1
    progress.close()
    if len(left) > context.depth - count:
        raise ArgumentError(
            f"laco: with threshold={threshold}, merged={merged}, interval={interval}, lowest={lowest}, only "
            f"{context.depth - len(left)} of {count} layers can be merged away; lower the threshold or the interval "
            f"(best similarity: {max((score for score in scores if score is not None), default=0):.3f})"
        )
    drop = tuple(layer for layer in range(context.depth) if layer not in left)
    return Removal(drop, tuple(scores), tuple(merges))


def _similarity(
    context: PruningContext, reference: Sequence[torch.Tensor], merges: Sequence[Merge], variant: Variant
) -> float:
    """Mean cosine between the last hidden states of the base model and the merged model."""
    gone = [layer for merge in merges for layer in merge.layers]
    key = f"{variant} " + " ".join(f"{merge.into}<{','.join(map(str, merge.layers))}" for merge in merges)

    def found() -> float:
        with _merged_in_place(context, combinations(merges, variant)), bypassed(context.layers, gone):
            return fmean(float(cosines(*pair)) for pair in zip(last_states(context), reference, strict=True))

    same_answer = context.score_cache.value(key, found)
    check_finite([same_answer])
    return same_answer


@contextmanager
def _merged_in_place(context: PruningContext, made: MergeWeights) -> Iterator[None]:
    """Merge layers of the model within the context; only the merged layers' weights are in memory twice."""
    named = [_mergeable(layer) for layer in context.layers]
    before = {(layer, name): named[layer][name].data for layer in made for name in named[layer]}
    new = {
        (layer, name): merged_tensor(
            {str(source): share for source, share in made[layer].items()},
            lambda source, name=name: named[int(source)][name].data,  # type: ignore[misc]  # bound now
        )
        for layer, name in before
    }
    try:
        for (layer, name), tensor in new.items():
            named[layer][name].data = tensor
        yield
    finally:
        for (layer, name), tensor in before.items():
            named[layer][name].data = tensor


def _mergeable(layer: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in layer.named_parameters() if is_merged(f"model.layers.0.{name}")}


def _check_names(context: PruningContext) -> None:
    """Refuse models with layers that can only be merged in part, which neither the paper nor its code describes."""
    if quantization_of(context.config) is not None:
        raise ArchitectureError("packed weights are never merged; use laco on the unquantized model, and quantize that")
    for layer in context.layers:
        check_in_memory(layer)
    shapes = [{name: value.shape for name, value in _mergeable(layer).items()} for layer in context.layers]
    both = all(any(part in name for name in shapes[0]) for part in ("mlp", "attn"))
    left_out = [name for layer in context.layers for name, value in layer.named_parameters() if value.ndim > 1]
    left_out = [name for name in left_out if name not in shapes[0]]
    if not both or left_out or any(other != shapes[0] for other in shapes):
        missing = f"; {left_out[0]} is not" if left_out else ""
        raise ArchitectureError(
            f"layers of a {context.config.model_type} model cannot be merged: LaCo needs attention and one dense "
            "feed-forward network, with the same shapes in all layers and all matrices matched by `merged` in "
            f"architectures.yaml{missing}"
        )


def last_states(context: PruningContext) -> list[torch.Tensor]:
    """The model's last hidden states (after the final norm), one float32 vector with all tokens of each text."""
    import torch

    states: list[torch.Tensor] = []
    with torch.no_grad():
        for ids, mask in context.batches():
            hidden = context.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            states += [
                row[: int(length)].float().flatten().cpu() for row, length in zip(hidden, mask.sum(1), strict=True)
            ]
    return states
