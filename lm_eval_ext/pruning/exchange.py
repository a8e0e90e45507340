"""A prompt with a model's reply to it: reasoning traces as calibration texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.thinking_formats import assistant_ending, assistant_header, detect_format

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Exchange(NamedTuple):
    """A prompt, with or without the chat template, and what a model has replied.

    Attributes:
        prompt: the prompt.
        reply: the reply, with the model's own markers of thinking if it has any.
        thinking: a trace before the reply, to be put between the markers of whichever model reads it.
        seen: whether the prompt is as the model has seen it, so that no chat template is applied.
    """

    prompt: str
    reply: str
    thinking: str = ""
    seen: bool = False


class TokenRow(NamedTuple):
    """A text as token ids, and the place of the first token that a model would write: 1 or later."""

    ids: list[int]
    start: int


def encoded(text: str | Exchange, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> TokenRow:
    """Encode a text, or an exchange as the model sees and writes it, to the end of its turn; cut to `max_tokens`."""
    if isinstance(text, str):
        return TokenRow(tokenizer.encode(text)[:max_tokens], 1)
    text = _with_markers(text, tokenizer)
    prompt = _opened(text.prompt if text.seen else _templated(text.prompt, tokenizer), text.reply, tokenizer)
    begun = bool(tokenizer.bos_token) and prompt.startswith(str(tokenizer.bos_token))
    before = tokenizer.encode(prompt, add_special_tokens=not begun)
    reply = tokenizer.encode(text.reply, add_special_tokens=False)
    return TokenRow([*before, *reply, *_ending(tokenizer)][:max_tokens], max(1, len(before)))


def _with_markers(exchange: Exchange, tokenizer: PreTrainedTokenizerBase) -> Exchange:
    """The exchange with its trace in the reply."""
    if not exchange.thinking:
        return exchange
    marks = detect_format(tokenizer)
    ended = f"{exchange.thinking}{marks.end}" if marks.separates else f"{exchange.thinking}\n\n"
    return exchange._replace(reply=ended + exchange.reply, thinking="")


def _templated(prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt with the chat template, unless it has it already."""
    if not tokenizer.chat_template:
        return prompt

    def templated(text: str) -> str:
        turns = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    header = assistant_header(templated).strip()
    return prompt if header and header in prompt else templated(prompt)


def _ending(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What ends a reply: the token that the chat template puts after it, else the one that ends a text, if any."""
    ids: list[int] = tokenizer.encode(assistant_ending(tokenizer).strip(), add_special_tokens=False)
    ends = [token for token in ids if token in tokenizer.added_tokens_decoder]
    return (ends or [token for token in [tokenizer.eos_token_id] if token is not None])[:1]


def _opened(prompt: str, reply: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prompt with the start of thinking, if the reply ends a thinking that neither of them has started."""
    marks = detect_format(tokenizer)
    start = marks.start.strip()
    ended = any(end.strip() in reply for end in marks.ends)
    opened = not start or start in reply or prompt.rstrip().endswith(start)
    return prompt if opened or not ended else prompt + marks.start
