"""The tokenizer as generation sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Codec:
    """Text to ids and back: no special tokens are added, and none are shown.

    Attributes:
        encode: text to ids.
        decode: ids to text.
        eos: ids that end a text.
        markers: tokens that stand for themselves whatever text surrounds them.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    eos: frozenset[int]
    markers: frozenset[int]


def codec_of(tokenizer: PreTrainedTokenizerBase, eos: Iterable[int]) -> Codec:
    """A codec over a transformers tokenizer; `eos` are all ids that end a text."""
    return Codec(
        encode=lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        decode=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
        eos=frozenset(eos),
        markers=frozenset(tokenizer.get_added_vocab().values()),
    )
