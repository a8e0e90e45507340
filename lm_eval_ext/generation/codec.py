"""Interface to the tokenizer for generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Codec:
    """Converts text to ids and back: encoding adds no special tokens, decoding leaves them out.

    Attributes:
        encode: text to ids.
        decode: ids to text.
        eos: ids that end a text.
        markers: added tokens, which are encoded as themselves whatever text surrounds them.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    eos: frozenset[int]
    markers: frozenset[int]


def codec_of(tokenizer: PreTrainedTokenizerBase, eos: Iterable[int]) -> Codec:
    """The codec of a transformers tokenizer; `eos` are all ids that end a text."""
    return Codec(
        encode=lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        decode=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
        eos=frozenset(eos),
        markers=frozenset(tokenizer.get_added_vocab().values()),
    )
