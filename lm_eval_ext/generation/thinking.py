"""Thinking formats: how a model marks where its thinking starts and ends. Declared in `thinking_formats.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lm_eval_ext.errors import ArgumentError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ThinkingFormat:
    """Markers of one format, as text; `thinking_formats.yaml` says what each is."""

    name: str
    start: str
    end: str
    early_stop: str
    close: str

    @property
    def separates(self) -> bool:
        """Whether thinking and answer are told apart."""
        return bool(self.end)


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    table: Mapping[str, Mapping[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("thinking_formats.yaml").read_text("utf-8")
    )
    return table


def format_names() -> list[str]:
    """Names that `thinking_format=` takes."""
    return list(_table())


def thinking_format(name: str) -> ThinkingFormat:
    """The format called `name`.

    Raises:
        ArgumentError: there is none; lists those there are.
    """
    if name not in _table():
        raise ArgumentError(f"thinking_format={name}: not known; known: {', '.join(format_names())}")
    entry = _table()[name]
    return ThinkingFormat(
        name, entry["start"], entry["end"], entry["early_stop"], entry.get("close", "\n" + entry["end"])
    )


def detect_format(tokenizer: PreTrainedTokenizerBase, model_name: str = "") -> ThinkingFormat:
    """The first declared format that the tokenizer's template and vocabulary, or the model's name, show."""
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    vocabulary = tokenizer.get_vocab()
    for name, entry in _table().items():
        detect = entry.get("detect") or {}
        if (
            (detect.get("template") and all(text in template for text in detect["template"]))
            or (detect.get("tokens") and all(token in vocabulary for token in detect["tokens"]))
            or (detect.get("names") and re.search(detect["names"], model_name))
        ):
            return thinking_format(name)
    return thinking_format("plain")


def with_markers(chosen: ThinkingFormat, start: str | None, end: str | None) -> ThinkingFormat:
    """The format with a task's own markers in place of its own."""
    if end is not None and end != chosen.end:
        ending = chosen.early_stop.replace(chosen.end, end) if chosen.end else f"\n{end}\n"
        chosen = replace(chosen, end=end, early_stop=ending, close=f"\n{end}\n")
    return chosen if start is None else replace(chosen, start=start)
