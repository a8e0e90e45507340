"""Correct traces of the base as token ids, and what each token is: thinking or answer, and where thinking turns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lm_eval_ext.analysis.diagnosis import reflection_places
from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.calibration import encoded
from lm_eval_ext.runs.correct_traces import CorrectTrace
from lm_eval_ext.thinking_formats import thinking_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Flags = NDArray[np.bool_]


class TokenTrace(NamedTuple):
    """A trace as the model reads and writes it. Its places are those of the tokens that the model writes.

    Attributes:
        question: the prompt, which traces of one question share.
        ids: of prompt and reply, to the end of the turn.
        start: the first place.
        thinking: of shape (places,): before the mark that ends the thinking; everywhere if there is none.
        turns: of shape (places,): in the thinking, the first token of a mark of reflection, such as "wait".
    """

    question: str
    ids: tuple[int, ...]
    start: int
    thinking: Flags
    turns: Flags

    @property
    def places(self) -> int:
        """Number of tokens that the model writes."""
        return len(self.ids) - self.start


def token_traces(
    traces: Sequence[CorrectTrace], tokenizer: PreTrainedTokenizerBase, max_tokens: int, thinking_format: str = ""
) -> list[TokenTrace]:
    """Encode traces, cut to `max_tokens` tokens with their prompts; those whose prompts are longer are left out.

    Args:
        traces: correct traces of one model.
        tokenizer: the model's; one that says where in a text each token is.
        max_tokens: of prompt and reply.
        thinking_format: the run's, if it isn't known by its marks.

    Raises:
        ArgumentError: no trace is left, or the tokenizer doesn't say where its tokens are.
    """
    if not tokenizer.is_fast:
        raise ArgumentError(f"{type(tokenizer).__name__} doesn't say where in a text its tokens are; use a fast one")
    found = [_encoded(trace, tokenizer, max_tokens, thinking_format) for trace in traces]
    kept = [trace for trace in found if trace.places > 0]
    if not kept:
        raise ArgumentError(f"max_tokens={max_tokens}: no reply begins before; give more than its prompt has")
    return kept


def _encoded(
    trace: CorrectTrace, tokenizer: PreTrainedTokenizerBase, max_tokens: int, thinking_format: str
) -> TokenTrace:
    reply = trace.exchange.reply
    row = encoded(trace.exchange, tokenizer, max_tokens)
    spans = tokenizer(reply, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    begins = [first for first, _ in spans]
    places = max(0, len(row.ids) - row.start)
    ended = len(thinking_of(reply, thinking_format))
    thinking = np.array([first < ended for first in begins] + [ended == len(reply)] * places, dtype=np.bool_)[:places]
    turns = np.zeros(places, dtype=np.bool_)
    for at in reflection_places(reply[:ended]):
        token = bisect_right(begins, at) - 1
        if 0 <= token < places:
            turns[token] = True
    return TokenTrace(trace.exchange.prompt, tuple(row.ids), row.start, thinking, turns)
