"""The tokenizer of tiny-chain: bytes, chat markers, and the steps and values of its chains.

A step (`+5`) and a value (`=2`) are one token each, so thinking through a chain of n steps takes 2n + 1 tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

INSTRUCTION = "Compute from left to right, modulo 10, and put the result in \\boxed{}: "
_SPECIAL = ("<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")
_TEXT = (
    "<think>", "</think>", "\\boxed{", INSTRUCTION,
    *(f"{operator}{digit}" for operator in "+-*=" for digit in "0123456789"),
)  # fmt: skip
# The template's comment identifies the format in `thinking_formats.yaml`.
_CHAT_TEMPLATE = (
    "{# thinking_format: bare #}"
    "{% for message in messages %}"
    "{{ '<|user|>' if message.role == 'user' else '<|assistant|>' }}{{ message.content }}"
    "{{ '<|end|>' if message.role == 'assistant' else '' }}"
    "{% endfor %}"
    "{{ '<|assistant|>' if add_generation_prompt else '' }}"
)


def chain_tokenizer() -> PreTrainedTokenizerFast:
    """Create the tokenizer; it can encode any text, and encodes the model's training data in few tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in _TEXT])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    fast.chat_template = _CHAT_TEMPLATE
    return fast
