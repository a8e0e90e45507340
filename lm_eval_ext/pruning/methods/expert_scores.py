"""Methods that choose experts of a mixture: by what they do for the tokens that are given to them, or without texts.

Each scores every expert of every layer, and drops those with the lowest scores: as many of each layer (and of each
group, where the router chooses groups first), or with `uneven=true` the lowest of all layers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.expert_verification import find_experts, never_chosen
from lm_eval_ext.pruning.experts import KeptExperts, groups_of, most_dropped
from lm_eval_ext.pruning.layers import check_in_memory, in_memory, loss_sum, mean_loss
from lm_eval_ext.pruning.methods.removal import Removal, Removals, check_finite
from lm_eval_ext.wording import ranges

if TYPE_CHECKING:
    import torch

    Seen = Callable[[int, torch.nn.Module, "Given"], "torch.Tensor | None"]

Scores = Mapping[int, Sequence[float]]  # layer -> the score of each of its experts

_PIECE = 8  # tokens whose gradients are summed before they are squared


# What the methods have in common -----------------------------------------------------------------------------


def lowest_experts(context: PruningContext, remove: Sequence[int], scores: Scores, *, uneven: bool) -> Removals:
    """For each number of experts of a layer, those with the lowest scores; ties go to the earlier expert.

    Args:
        context: the base model.
        remove: numbers of experts to drop from each layer.
        scores: of every expert.
        uneven: choose as many in all, from whatever layers; each keeps as many as a token is given to.

    Raises:
        ArgumentError: the router chooses groups first, and the number is no multiple of theirs, or `uneven` is asked.
    """
    groups, _ = groups_of(context.config)
    size = len(next(iter(scores.values()))) // groups
    for layer, some in scores.items():
        check_finite(some, f"expert {{}} of layer {layer}")
    if groups > 1 and (uneven or any(count % groups for count in remove)):
        raise ArgumentError(
            f"remove={','.join(map(str, remove))}{', uneven=true' if uneven else ''}: the router of this model "
            f"compares {groups} groups of experts, so give multiples of {groups}, and as many for each layer"
        )
    layers = [layer for layer in scores if layer in context.removable]
    if not layers:
        raise ArgumentError(
            f"early_barrier={context.barriers[0]}, latter_barrier={context.barriers[1]}: no layer with experts is left "
            f"between them; those with experts: {ranges(sorted(scores))}"
        )
    found: Removals = {}
    for count in remove:
        if uneven:
            experts = _lowest_of_all(context, {layer: scores[layer] for layer in layers}, count * len(layers))
        else:
            experts = {layer: _lowest_of_groups(scores[layer], size, count // groups) for layer in layers}
        found[count] = Removal(drop_experts=experts)
    return found


def _lowest_of_groups(scores: Sequence[float], size: int, count: int) -> tuple[int, ...]:
    """So many experts of each group of a size."""
    groups = (range(start, start + size) for start in range(0, len(scores), size))
    return tuple(sorted(one for group in groups for one in sorted(group, key=scores.__getitem__)[:count]))


def _lowest_of_all(context: PruningContext, scores: Scores, count: int) -> dict[int, tuple[int, ...]]:
    most = most_dropped(context.config)
    dropped: dict[int, list[int]] = {layer: [] for layer in scores}
    ordered = sorted((score, layer, expert) for layer, some in scores.items() for expert, score in enumerate(some))
    for _, layer, expert in ordered:
        if sum(map(len, dropped.values())) == count:
            break
        if len(dropped[layer]) < most:
            dropped[layer].append(expert)
    return {layer: tuple(sorted(experts)) for layer, experts in dropped.items() if experts}


@dataclass(frozen=True)
class Given:
    """What the experts of a layer are given: the tokens of a batch and the router's choice.

    Attributes:
        hidden: of shape (tokens, width).
        experts, gates: chosen for each token and their weights, of shape (tokens, k).
    """

    hidden: torch.Tensor
    experts: torch.Tensor
    gates: torch.Tensor


@contextmanager
def watched(context: PruningContext, seen: Seen) -> Iterator[None]:
    """Call a function with what the experts of each layer are given; it may return other gates for them.

    Raises:
        ArchitectureError: a layer has no module that takes hidden states, indices of experts and their weights.
    """

    def hook_of(layer: int) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]] | None]:
        def hook(
            module: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            given = [*positional, *named.values()]
            if len(given) < 3 or given[1].is_floating_point() or given[1].shape != given[2].shape:
                raise ArchitectureError(_UNKNOWN)
            hidden, experts, gates = given[:3]
            width = experts.shape[-1]
            flat = Given(hidden.flatten(0, -2), experts.reshape(-1, width), gates.reshape(-1, width))
            with in_memory(module):
                changed = seen(layer, module, flat)
            if changed is None:
                return None
            names = list(named)
            again = [hidden, experts, changed.reshape(gates.shape), *given[3:]]
            return tuple(again[: len(positional)]), dict(zip(names, again[len(positional) :], strict=True))

        return hook

    with ExitStack() as hooks:
        for layer in find_experts(context.config, trust_remote_code=context.trust_remote_code).layers:
            named = context.layers[layer].named_modules()
            modules = [module for name, module in named if name.rpartition(".")[2] == "experts"]
            if len(modules) != 1:
                raise ArchitectureError(_UNKNOWN)
            hooks.callback(modules[0].register_forward_pre_hook(hook_of(layer), with_kwargs=True).remove)
        yield


_UNKNOWN = (
    "how the layers of this model give tokens to experts is not known, so they can't be scored one by one; use "
    "trace-experts, aimer or random-experts"
)


# By what they do for their tokens ----------------------------------------------------------------------------


@dataclass
class Routed:
    """What the experts of a layer did for all tokens, each of shape (experts,), float64.

    Attributes:
        tokens: number of tokens that an expert was chosen for.
        gates: sum of its weights for these.
        norms: sum of the lengths (L2) of its outputs.
        gated: sum of these lengths times the weights.
    """

    tokens: torch.Tensor
    gates: torch.Tensor
    norms: torch.Tensor
    gated: torch.Tensor


def routed(context: PruningContext) -> dict[int, Routed]:
    """What the experts of each layer do for the calibration texts, without padding; in one pass over these."""
    import torch

    found: dict[int, Routed] = {}
    counted = torch.zeros(0, dtype=torch.bool)

    def seen(layer: int, module: torch.nn.Module, given: Given) -> None:
        if layer not in found:
            found[layer] = Routed(*(torch.zeros(context.experts, dtype=torch.float64) for _ in range(4)))
        sums, here = found[layer], counted.to(given.experts.device)
        for expert in torch.unique(given.experts[here]).tolist():
            if expert >= context.experts:  # not a routed one, as those that pass their input on
                continue
            tokens, place = ((given.experts == expert) & here[:, None]).nonzero(as_tuple=True)
            only = torch.full_like(tokens, expert)[:, None]
            ones = torch.ones_like(only, dtype=given.gates.dtype)
            output = type(module).forward(module, given.hidden[tokens], only, ones)  # not accelerate's, which offloads
            norms, gates = output.float().norm(dim=-1).double(), given.gates[tokens, place].double()
            for total, values in zip(
                (sums.tokens, sums.gates, sums.norms, sums.gated),
                (torch.ones_like(gates), gates, norms, norms * gates),
                strict=True,
            ):
                total[expert] += values.sum().cpu()

    with watched(context, seen), torch.no_grad():
        for ids, mask in context.batches():
            counted = mask.flatten().bool()
            context.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    return found


def _by(score: Callable[[Routed], torch.Tensor]) -> Callable[..., Removals]:
    """The method that drops the experts with the lowest scores, each computed from what the experts did."""

    def method(context: PruningContext, remove: Sequence[int], *, uneven: bool = False) -> Removals:
        scores = {layer: score(sums).tolist() for layer, sums in sorted(routed(context).items())}
        return lowest_experts(context, remove, scores, uneven=uneven)

    return method


# The experts whose outputs, times their gates, are shortest in the mean over the tokens they are chosen for; an expert
# that is never chosen scores 0. The gates are the router's own, with its scaling. Source: arXiv 2510.13999 (REAP). The
# authors' code takes the softmax of the logits for every model, which is not the gate where the router has sigmoids,
# correction biases or groups.
reap = _by(lambda sums: sums.gated / sums.tokens.clamp(min=1))
# Those whose outputs are shortest in sum over the tokens they are chosen for. Source: arXiv 2510.13999.
ean = _by(lambda sums: sums.norms)
# In the mean over these; an expert that is never chosen scores 0. Source: arXiv 2606.15716.
man = _by(lambda sums: sums.norms / sums.tokens.clamp(min=1))
# Those that are chosen for the fewest tokens. Source: arXiv 2404.05089 (SEER-MoE), hard counts.
frequency = _by(lambda sums: sums.tokens)
# Those whose outputs, times their gates, are shortest in sum. Source: the code of arXiv 2510.13999.
weighted_ean = _by(lambda sums: sums.gated)
# Those with the smallest gates in the mean over all tokens. Source: the code of arXiv 2406.02500.
expert_drop = _by(lambda sums: sums.gates)


# By the loss on the model's own traces -----------------------------------------------------------------------


def trace_experts(context: PruningContext, remove: Sequence[int], *, uneven: bool = False) -> Removals:
    """The experts without which the model's own correct traces stay likeliest.

    The score of an expert is the mean loss per token, in nats, of the replies in the results of an earlier run of the
    base model (`calibration=run:FOLDER`) when the router never chooses it. It takes a pass for each expert. Source:
    this project.

    Raises:
        ArgumentError: the calibration texts are not replies.
    """
    context.replies()  # fails before the first of many passes
    tensors = find_experts(context.config, trust_remote_code=context.trust_remote_code)
    for layer in tensors.layers:
        check_in_memory(context.layers[layer])  # routers are recognised by their place in memory
    whole = dict.fromkeys(tensors.layers, tuple(range(tensors.count)))

    def loss_without(layer: int, expert: int) -> float:
        others = tuple(one for one in whole[layer] if one != expert)
        with never_chosen(context.model, KeptExperts(tensors, whole | {layer: others})):
            return mean_loss(context.model, context.replies())

    every = [(layer, expert) for layer in tensors.layers for expert in range(tensors.count)]
    scores: dict[int, list[float]] = {layer: [] for layer in tensors.layers}
    for layer, expert in tqdm(every, desc="Experts left out"):
        name = f"loss of replies without expert {layer}.{expert}"
        scores[layer].append(context.score_cache.value(name, partial(loss_without, layer, expert)))
    return lowest_experts(context, remove, scores, uneven=uneven)


def fisher_experts(context: PruningContext, remove: Sequence[int], *, uneven: bool = False) -> Removals:
    """The experts whose gates matter least to the loss on the model's own correct traces, in one backward pass.

    The score of an expert is the sum, over pieces of 8 tokens, of the squared derivative of the loss with respect to a
    factor on its gates within the piece: the diagonal of the empirical Fisher information. The texts are those of
    `trace-experts`. Source: this project.

    Raises:
        ArgumentError: the calibration texts are not replies.
    """
    import torch

    scores: dict[int, torch.Tensor] = {}
    factors: dict[int, torch.Tensor] = {}
    pieces = torch.zeros(0, dtype=torch.long)  # the piece of each token of a batch

    def seen(layer: int, module: torch.nn.Module, given: Given) -> torch.Tensor:
        count, device = int(pieces.max()) + 1, given.gates.device
        rows = max(context.experts, int(given.experts.max()) + 1)  # also of experts that pass their input on
        factors[layer] = torch.ones(count, rows, device=device, requires_grad=True)
        return given.gates * factors[layer][pieces.to(device)[:, None], given.experts].to(given.gates.dtype)

    with watched(context, seen):
        for ids, mask, counted in context.replies():
            length = ids.shape[1]
            each = -(-length // _PIECE)
            places = torch.arange(length) // _PIECE
            pieces = (torch.arange(ids.shape[0])[:, None] * each + places).flatten()
            loss, _ = loss_sum(context.model, ids, mask, counted)
            torch.autograd.backward(loss)
            for layer, factor in factors.items():
                assert factor.grad is not None
                squares = factor.grad[:, : context.experts].double().square().sum(0).cpu()
                scores[layer] = scores[layer] + squares if layer in scores else squares
    listed = {layer: some.tolist() for layer, some in sorted(scores.items())}
    return lowest_experts(context, remove, listed, uneven=uneven)


# Without texts -----------------------------------------------------------------------------------------------


def aimer(context: PruningContext, remove: Sequence[int], *, uneven: bool = False) -> Removals:
    """The experts whose weights are spread most evenly: those with the highest mean |w| over root mean square of w.

    The score is the negative of this ratio, over all weights of an expert, in float32. Source: the code of arXiv
    2603.18492.
    """
    import torch

    tensors = find_experts(context.config, trust_remote_code=context.trust_remote_code)
    scores: dict[int, list[float]] = {}
    for layer in tensors.layers:
        parts: list[list[torch.Tensor]] = [[] for _ in range(tensors.count)]
        with in_memory(context.layers[layer]):
            for name, weight in context.layers[layer].named_parameters():
                axis = tensors.axis_of(name)
                if axis is None or not (axis.blocks or weight.ndim > 2):
                    continue
                length = weight.shape[axis.dimension] // tensors.count
                for expert, some in enumerate(parts):
                    some.append(weight.narrow(axis.dimension, expert * length, length).float().flatten())
        if not all(parts):
            raise ArchitectureError("aimer: the weights of single experts are not known; use another method")
        whole = [torch.cat(some) for some in parts]
        scores[layer] = [-_evenness(one) for one in whole]
    return lowest_experts(context, remove, scores, uneven=uneven)


def _evenness(weights: torch.Tensor) -> float:
    """Mean |w| over root mean square of w, at most 1; also 1 if all are zero, which nobody misses."""
    size = float(weights.square().mean().sqrt())
    return float(weights.abs().mean()) / size if size else 1.0


def random_experts(context: PruningContext, remove: Sequence[int], *, seed: int = 0, uneven: bool = False) -> Removals:
    """Random experts, as a baseline; a smaller set is always part of a larger one."""
    generator = random.Random(seed)
    layers = find_experts(context.config, trust_remote_code=context.trust_remote_code).layers
    scores = {layer: [generator.random() for _ in range(context.experts)] for layer in layers}
    return lowest_experts(context, remove, scores, uneven=uneven)
