"""A tokenizer of bytes with thinking markers and a chat template, small enough to make on the spot."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_tokenizer(
    template: str | None = TEMPLATE, markers: tuple[str, ...] = ("<think>", "</think>")
) -> PreTrainedTokenizerFast:
    """Byte-level, 256 bytes and the special tokens; `markers` are tokens that stay visible in decoded text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: index for index, symbol in enumerate(SPECIAL + alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken(marker, special=False, normalized=False) for marker in markers])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    return fast


def add_tokenizer(folder: Path, template: str | None = TEMPLATE) -> Path:
    """Put the tokenizer beside a checkpoint."""
    byte_tokenizer(template).save_pretrained(folder)
    return folder
