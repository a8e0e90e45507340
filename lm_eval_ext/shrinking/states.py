"""A smaller version of a base: which layers and blocks it lacks, and what a forward pass and its weights cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.analysis.answer_costs import flops
from lm_eval_ext.harness.model_costs import costs_of
from lm_eval_ext.pruning.architecture import block_of_tensor, layer_of_tensor
from lm_eval_ext.pruning.blocks import ATTENTION, MLP, Blocks, silenced
from lm_eval_ext.pruning.experts import experts_per_token, number_of_experts, uneven
from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.pruning.quantization import bytes_by_parameter
from lm_eval_ext.shrinking.shrink_file import Minimised, What

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, order=True)
class State:
    """What is removed from a variant of the base: whole layers, and blocks of others; each ascending."""

    drop: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()
    mlp: tuple[int, ...] = ()

    @classmethod
    def of(cls, drop: Iterable[int] = (), attention: Iterable[int] = (), mlp: Iterable[int] = ()) -> State:
        """The same model in one form: a layer without both blocks is dropped, as it passes on its input.

        >>> State.of(attention=[3, 5], mlp=[3])
        State(drop=(3,), attention=(5,), mlp=())
        """
        gone = {*drop, *(set(attention) & set(mlp))}
        return cls(tuple(sorted(gone)), *(tuple(sorted(set(kind) - gone)) for kind in (attention, mlp)))

    @property
    def blocks(self) -> Blocks:
        """The blocks that are left out of layers that are kept."""
        return Blocks(self.attention, self.mlp)

    def __str__(self) -> str:
        named = (("layers", self.drop), ("attention", self.attention), ("mlp", self.mlp))
        return "; ".join(f"{name} {'+'.join(map(str, numbers))}" for name, numbers in named if numbers) or "whole"


def next_states(state: State, layers: int, kinds: Sequence[What]) -> Iterator[State]:
    """The states with one layer or block less; at least one layer is left.

    Args:
        state: where to go on from.
        layers: of the base.
        kinds: what may be removed.
    """
    left = [layer for layer in range(layers) if layer not in state.drop]
    if len(left) < 2:
        return
    whole = [layer for layer in left if layer not in state.attention and layer not in state.mlp]
    if "layers" in kinds:
        for layer in left:
            yield State.of((*state.drop, layer), state.attention, state.mlp)
    for kind in ("attention", "mlp"):
        if kind in kinds:  # the second block of a layer is the layer, which is a step of its own
            for layer in whole if "layers" in kinds else left:
                if layer not in getattr(state, kind):
                    gone = {"attention": state.attention, "mlp": state.mlp}
                    yield State.of(state.drop, **gone | {kind: (*gone[kind], layer)})


@contextmanager
def without(model: PreTrainedModel, state: State) -> Iterator[None]:
    """Let a whole model compute what it computes without some layers and blocks, within the context."""
    with ExitStack() as stack:
        stack.enter_context(bypassed(decoder_layers(model), state.drop))
        stack.enter_context(silenced(model, state.blocks))
        yield


class PartCosts(NamedTuple):
    """What the parts of a model cost, in one unit.

    Attributes:
        fixed: embeddings, head, and what else is no layer's.
        attention, mlp, others: by layer.
    """

    fixed: float
    attention: tuple[float, ...]
    mlp: tuple[float, ...]
    others: tuple[float, ...]

    def of(self, state: State) -> float:
        """The cost of what a state leaves."""
        kept = [layer for layer in range(len(self.others)) if layer not in state.drop]
        parts = (
            self.others[layer] + self.attention[layer] * (layer not in state.attention)
            + self.mlp[layer] * (layer not in state.mlp)
            for layer in kept
        )  # fmt: skip
        return self.fixed + sum(parts)


def part_costs(model: PreTrainedModel, minimised: Minimised, tokens: float) -> PartCosts:
    """What the parts of a loaded model cost.

    Args:
        model: with packed weights or without.
        minimised: in which unit; `flops` are those of a text of some tokens.
        tokens: their number.
    """
    layers = len(decoder_layers(model))
    if minimised == "layers":
        return PartCosts(0.0, (0.0,) * layers, (0.0,) * layers, (1.0,) * layers)
    fixed, found = 0.0, {kind: [0.0] * layers for kind in (ATTENTION, MLP, "")}
    for name, cost in _parameters(model, minimised, tokens):
        layer, block = layer_of_tensor(name), block_of_tensor(name)
        if layer is None:
            fixed += cost
        else:
            found[block.kind if block else ""][layer] += cost
    if minimised == "flops":
        each = _attention_flops(model, tokens) / layers
        found[ATTENTION] = [cost + each for cost in found[ATTENTION]]
    return PartCosts(fixed, tuple(found[ATTENTION]), tuple(found[MLP]), tuple(found[""]))


def _parameters(model: PreTrainedModel, minimised: Minimised, tokens: float) -> Iterator[tuple[str, float]]:
    """Names of parameters, and what each costs."""
    if minimised == "bytes":
        yield from bytes_by_parameter(model).items()
        return
    experts, chosen, counts = number_of_experts(model.config), experts_per_token(model.config), uneven(model.config)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    looked_up = embeddings.weight if head is None or head.weight is not embeddings.weight else None
    for name, value in model.named_parameters():
        packed = hasattr(value, "__tensor_flatten__")  # whose zeros can't be told
        left = float(value.numel() if packed or minimised == "flops" else (value != 0).sum())
        if minimised == "parameters":
            yield name, left
            continue
        count = counts.get(layer_of_tensor(name) or 0, experts)
        share = 0.0 if value is looked_up else chosen / count if ".experts." in name and count and chosen else 1.0
        yield name, share * left * (2 * tokens if minimised == "flops" else 1)


def _attention_flops(model: PreTrainedModel, tokens: float) -> float:
    """Operations of a text's tokens on those before them, in all layers."""
    sizes = costs_of(model.config, 2)
    whole = flops(tokens, sizes)
    return 0.0 if whole is None else whole - 2 * sizes["active_parameters"] * tokens
