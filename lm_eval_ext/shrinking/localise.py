"""Where a divergence begins: the base with one layer of the candidate at a time, or without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.shrinking.forced import LocalModel
from lm_eval_ext.statistics.intervals import Interval

if TYPE_CHECKING:
    import torch

How = Literal["left out", "exchanged", "the same"]


class AtLayer(NamedTuple):
    """A layer of the base, and the divergence of the base with only this layer changed as in the candidate.

    Attributes:
        layer: its number in the base.
        how: it is left out, or the candidate's is in its place, or that is the same.
        kl: mean KL(base || base so changed), in bits a token.
    """

    layer: int
    how: How
    kl: Interval | None


def localised(
    base: LocalModel, candidate: LocalModel, kept: Sequence[int], measured: Callable[[LocalModel], Interval | None]
) -> list[AtLayer]:
    """What each layer's change explains alone.

    Args:
        base, candidate: both in memory; the candidate has those layers of the base that are kept.
        kept: their numbers in the base.
        measured: the mean divergence from the base of a model.

    Raises:
        ArgumentError: the candidate doesn't have as many layers as are kept.
    """
    layers, others = decoder_layers(base.model), decoder_layers(candidate.model)
    if len(others) != len(kept):
        raise ArgumentError(f"localise: the candidate has {len(others)} layers, and its recipe keeps {len(kept)}")
    of_candidate = dict(zip(kept, others, strict=True))
    found = []
    for number, layer in enumerate(layers):
        if number not in of_candidate:
            with bypassed(layers, [number]):
                found.append(AtLayer(number, "left out", measured(base)))
        elif _same(layer, of_candidate[number]):
            found.append(AtLayer(number, "the same", Interval(0.0, 0.0, 0.0)))
        else:
            with _exchanged(layer, of_candidate[number]):
                found.append(AtLayer(number, "exchanged", measured(base)))
    return found


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    import torch

    if type(one) is not type(other):
        return False
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        isinstance(value, torch.Tensor) and value.shape == second[name].shape and torch.equal(value, second[name])
        for name, value in first.items()
    )


@contextmanager
def _exchanged(layer: torch.nn.Module, other: torch.nn.Module) -> Iterator[None]:
    """Compute another layer in place of one, on whatever it is called with."""
    own = vars(layer).get("forward")  # as accelerate sets it
    layer.forward = other.__call__
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own
