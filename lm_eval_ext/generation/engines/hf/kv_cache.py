"""A key-value cache whose rows come and go: one slot a row, all rows aligned at their last token.

    slot 0   . . . p p p t t t t
    slot 1   . p p p p p p t t t     `.` unused, `p` prompt, `t` decoded
             |<-start      end->|

Aligned on the right, every row's next token has the same column, so one write serves all, and distances within
a row, which sliding windows count, are right. A row that ends frees its slot for the next without moving any
other; columns that no row uses any more are skipped by moving `start`.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicLayer

Rows = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of one row by layer, [1, heads, tokens, width]

_ROOM = 256  # columns added when the buffer is full


class _SlotLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped for us
    """One layer's buffer, [slots, heads, columns, width]; `update` writes in place and returns views."""

    def __init__(self, owner: Slots) -> None:
        super().__init__()
        self.is_initialized: bool = False
        self.owner = weakref.proxy(owner)  # no cycle: buffers are to go with their owner, not at the next collection

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens of the active rows after the last column."""
        rows, _heads, new, _width = key_states.shape
        if not self.is_initialized:
            self.keys, self.values = (self.owner.buffer(states) for states in (key_states, value_states))
            self.is_initialized = True
        start, end = self.owner.start, self.owner.end
        self.keys[:rows, :, end : end + new] = key_states
        self.values[:rows, :, end : end + new] = value_states
        return self.keys[:rows, :, start : end + new], self.values[:rows, :, start : end + new]

    def get_seq_length(self, *_: object, **__: object) -> int:
        """Columns in use."""
        return int(self.owner.end - self.owner.start)

    def get_mask_sizes(self, query_length: int | torch.Tensor, *_: object, **__: object) -> tuple[int, int]:
        """Key columns that a mask covers, and the first one's number."""
        new = query_length if isinstance(query_length, int) else query_length.shape[0]
        return self.owner.end - self.owner.start + new, 0


class Slots:
    """The cache of a batch.

    Args:
        slots: number of rows.
        layers: number of layers that the model's config names.
        used: those that cache something; all by default.

    Attributes:
        start, end: columns in use.
        cache: what the model is given.
    """

    def __init__(self, slots: int, layers: int, used: Sequence[int] | None = None) -> None:
        self.slots = slots
        self.start = self.end = self.columns = 0
        every = [_SlotLayer(self) for _ in range(layers)]
        self.layers = every if used is None else [every[layer] for layer in used]
        self.cache = Cache(layers=every)

    def buffer(self, states: torch.Tensor) -> torch.Tensor:
        """An empty buffer for states like these, [rows, heads, tokens, width]."""
        return states.new_zeros(self.slots, states.shape[1], self.columns, states.shape[3])

    def reserve(self, left: int, right: int) -> None:
        """Make room for `left` columns up to `end` and for `right` columns after it."""
        if self.end >= left and self.end + right <= self.columns:
            return
        used = self.end - self.start
        end = max(left, used)
        columns = max(self.columns, end + right + _ROOM)
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys = self._moved(layer.keys, end, columns)
                layer.values = self._moved(layer.values, end, columns)
        self.start, self.end, self.columns = end - used, end, columns

    def _moved(self, old: torch.Tensor, end: int, columns: int) -> torch.Tensor:
        new = old.new_zeros(*old.shape[:2], columns, old.shape[3])
        new[:, :, end - (self.end - self.start) : end] = old[:, :, self.start : self.end]
        return new

    def put(self, slot: int, rows: Rows) -> None:
        """Place one row's states so that they end at `end`; makes the room."""
        tokens = rows[0][0].shape[2]
        self.reserve(tokens, 1)
        self.start = min(self.start, self.end - tokens)
        for layer, (keys, values) in zip(self.layers, rows, strict=True):
            if not layer.is_initialized:
                layer.keys, layer.values = self.buffer(keys), self.buffer(values)
                layer.is_initialized = True
            layer.keys[slot : slot + 1, :, self.end - tokens : self.end] = keys
            layer.values[slot : slot + 1, :, self.end - tokens : self.end] = values

    def states(self, slot: int, tokens: int) -> Rows:
        """The last `tokens` columns of a row, without a copy."""
        row, columns = slice(slot, slot + 1), slice(self.end - tokens, self.end)
        return [(layer.keys[row, :, columns], layer.values[row, :, columns]) for layer in self.layers]

    def take(self, slot: int, tokens: int) -> Rows:
        """A copy of the last `tokens` columns of a row."""
        return [(keys.clone(), values.clone()) for keys, values in self.states(slot, tokens)]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a row into another slot."""
        first = self.end - tokens
        for layer in self.layers:
            layer.keys[target, :, first : self.end] = layer.keys[source, :, first : self.end]
            layer.values[target, :, first : self.end] = layer.values[source, :, first : self.end]

    def fit(self, lengths: Sequence[int]) -> None:
        """Skip the columns that the longest row does not use; start anew where there is no row."""
        if lengths:
            self.start = self.end - max(lengths)
        else:
            self.start = self.end = 0


def prefix(rows: Rows, tokens: int) -> Rows:
    """The first `tokens` tokens of a row's states, without a copy."""
    return [(keys[:, :, :tokens], values[:, :, :tokens]) for keys, values in rows]


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of tokens with which both begin."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))
