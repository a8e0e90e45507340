"""Attention or MLP blocks that are left out of their layers, so that they add nothing to the residual stream.

Source: "What Matters in Transformers? Not All Attention is Needed", arXiv 2406.15786.

A config says so in the field `left_out`, so that whatever makes a model from the config leaves them out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.architecture import Block, block_of_tensor, is_block_output, returns_scores, text_config
from lm_eval_ext.pruning.layers import decoder_layers, hidden_states, hooked, visit_layers, with_states
from lm_eval_ext.pruning.quantization import quantization_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from lm_eval_ext.pruning.layers import Output

_FIELD = "left_out"  # of a config
ATTENTION, MLP = KINDS = ("attention", "mlp")


class Blocks(NamedTuple):
    """Blocks, by the indices of their layers.

    Attributes:
        attention: layers whose attention is left out.
        mlp: layers whose feed-forward network is left out.
    """

    attention: tuple[int, ...] = ()
    mlp: tuple[int, ...] = ()

    def within(self, kept: Sequence[int]) -> Blocks:
        """The same blocks, by the indices of their layers in the model with only the layers `kept`.

        Raises:
            ArgumentError: a layer does not exist, or is dropped as a whole.
        """
        outside = next((layer for layer in (*self.attention, *self.mlp) if layer not in kept), None)
        if outside is not None:
            raise ArgumentError(f"a block of layer {outside} is to be dropped, but the model has no such layer then")
        return Blocks(*(tuple(kept.index(layer) for layer in layers) for layers in self))

    def hold(self, name: str) -> bool:
        """Whether a tensor of a checkpoint belongs to one of the blocks."""
        return block_of_tensor(name) in self.each()

    def each(self) -> list[Block]:
        """All of them, those of attention first."""
        return [Block(kind, layer) for kind, layers in zip(KINDS, self, strict=True) for layer in layers]

    def end_with(self, name: str) -> bool:
        """Whether a tensor is the last projection of one of the blocks."""
        return self.hold(name) and is_block_output(name)


NO_BLOCKS = Blocks()


def leave_out(config: PreTrainedConfig, blocks: Blocks) -> None:
    """Let a config say which blocks are left out."""
    if any(blocks):
        setattr(text_config(config), _FIELD, {ATTENTION: list(blocks.attention), MLP: list(blocks.mlp)})


def check_zeros(config: PreTrainedConfig, blocks: Blocks, tensors: Iterable[str]) -> None:
    """Check that blocks can be made to add zeros by zeros in their last projections.

    Args:
        config: of the base model.
        blocks: by the indices of the layers in `tensors`.
        tensors: names of all tensors of the pruned model.

    Raises:
        ArchitectureError: the checkpoint is packed, or the last projection of a block is not known.
    """
    if any(blocks) and quantization_of(config) is not None:
        raise ArchitectureError("the weights are packed, so no zeros can be written; only pruned-hf leaves blocks out")
    found = {block_of_tensor(name) for name in tensors if blocks.end_with(name)}
    for block in blocks.each():
        if block not in found:
            raise ArchitectureError(
                f"the last projection of the {block.kind} block in layer {block.layer} is not known, so no zeros can "
                "be written; declare its name in lm_eval_ext/pruning/architectures.yaml under block_outputs"
            )


def forget_left_out(config: PreTrainedConfig) -> None:
    """Let a config say nothing of blocks that are left out, because they are there and add zeros."""
    vars(text_config(config)).pop(_FIELD, None)


def left_out(config: PreTrainedConfig) -> Blocks:
    """The blocks that a config leaves out."""
    found: Mapping[str, Sequence[int]] = getattr(text_config(config), _FIELD, None) or {}
    return Blocks(tuple(found.get(ATTENTION, ())), tuple(found.get(MLP, ())))


def remove(model: PreTrainedModel, blocks: Blocks) -> tuple[int, ...]:
    """Remove blocks from a model; returns the slots of the cache that are used."""
    layers = decoder_layers(model)
    for block in blocks.each():
        layer, name = layers[block.layer], _name_of_block(layers[block.layer], block)
        scores = returns_scores(type(getattr(layer, name)).__name__)
        setattr(layer, name, _nothing(two=block.kind == ATTENTION or scores))
    return _renumber_attention(model, layers, blocks)


def blocks_of(model: PreTrainedModel, kinds: Sequence[str] = KINDS) -> dict[Block, torch.nn.Module]:
    """All blocks of some kinds whose names are known."""
    layers = decoder_layers(model)
    every = (Block(kind, number) for kind in kinds for number in range(len(layers)))
    return {
        block: getattr(layers[block.layer], name)
        for block in every
        if (name := _block_name(layers[block.layer], block)) is not None
    }


def _block_name(layer: torch.nn.Module, block: Block) -> str | None:
    names = (name for name, _ in layer.named_children())
    return next((name for name in names if block_of_tensor(f"model.layers.{block.layer}.{name}.weight") == block), None)


def _name_of_block(layer: torch.nn.Module, block: Block) -> str:
    name = _block_name(layer, block)
    if name is not None:
        return name
    raise ArchitectureError(
        f"{type(layer).__name__} has no block that is known as {block.kind}; declare its name in "
        "lm_eval_ext/pruning/architectures.yaml under blocks"
    )


def _nothing(*, two: bool) -> torch.nn.Module:
    import torch

    class Nothing(torch.nn.Module):
        """Adds zeros to the residual stream."""

        def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> object:
            zeros = torch.zeros_like(args[0] if args else kwargs["hidden_states"])
            return (zeros, None) if two else zeros

    return Nothing()


def _renumber_attention(model: PreTrainedModel, layers: Sequence[torch.nn.Module], blocks: Blocks) -> tuple[int, ...]:
    """Let the attention blocks that are left share the first slots of the cache that have their type.

    transformers reads the number of tokens so far from the first slot of each type, so these must be in use.
    """
    types = getattr(text_config(model.config), "layer_types", None) or [""] * len(layers)
    free: dict[str, Iterator[int]] = defaultdict(lambda: iter(()))
    for kind in set(types):
        free[kind] = iter([slot for slot, one in enumerate(types) if one == kind])
    used = []
    for number, layer in enumerate(layers):
        if number not in blocks.attention:
            used.append(next(free[types[number]]))
            for module in layer.modules():
                if hasattr(module, "layer_idx"):
                    setattr(module, "layer_idx", used[-1])  # noqa: B010  # of transformers, unknown to torch
    return tuple(sorted(used))


def silenced(model: PreTrainedModel, blocks: Blocks) -> AbstractContextManager[None]:
    """Let the blocks of a whole model add zeros within the context; they are still computed."""
    layers = decoder_layers(model)
    return silent(getattr(layers[block.layer], _name_of_block(layers[block.layer], block)) for block in blocks.each())


def silent(modules: Iterable[torch.nn.Module]) -> AbstractContextManager[None]:
    """Let modules return zeros within the context; they are still computed."""

    def zeros(_: object, __: object, output: Output) -> Output:
        return with_states(output, hidden_states(output) * 0)

    return hooked((module, zeros) for module in modules)


def parts(layer: torch.nn.Module) -> list[torch.nn.Module]:
    """The parts of a layer that compute what it adds, known as blocks or not: all but norms, which have no matrix."""
    return [part for part in layer.children() if any(weight.ndim > 1 for weight in part.parameters())]


def check_residual(model: PreTrainedModel, blocks: Blocks, ids: torch.Tensor) -> None:
    """Check that the layers of the blocks pass their input on if all their parts return zeros.

    A norm with a bias behind a block would add its bias even to zeros.

    Raises:
        ArchitectureError: a layer does not.
    """
    layers = decoder_layers(model)
    for number in sorted({block.layer for block in blocks.each()}):
        with silent(parts(layers[number])):
            if not _passes_on(model, number, ids):
                raise ArchitectureError(f"layer {number} does not pass its input on if its blocks add zeros")


def _passes_on(model: PreTrainedModel, number: int, ids: torch.Tensor) -> bool:
    """Whether a layer's output is its input."""
    import torch

    changed = False

    def seen(layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
        nonlocal changed
        changed |= layer == number and not torch.equal(before, after)

    visit_layers(model, iter([(ids, torch.ones_like(ids))]), lambda mask: seen)
    return not changed
