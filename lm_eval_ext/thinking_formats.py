"""Thinking formats: how models mark the start and end of their thinking. Declared in `thinking_formats.yaml`.

The same table is used by generation (which forces the end of thinking), grading (which finds the answer in the output
of stock models) and the leaderboard's pages (which collapse the thinking).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.paths import expanded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "PROBE-7f3a"  # placeholder for the user's text, to find out what a chat template adds
# Qwen3's text for an exhausted thinking budget.
_EARLY_STOP = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now.\n"
)


@dataclass(frozen=True)
class ThinkingFormat:
    """The markers of one format, as text; the fields are explained in `thinking_formats.yaml`."""

    name: str
    start: str
    end: str
    early_stop: str
    close: str
    other_ends: tuple[str, ...] = ()

    @property
    def separates(self) -> bool:
        """Whether the format separates thinking from the answer."""
        return bool(self.end)

    @property
    def ends(self) -> tuple[str, ...]:
        """All markers that the model may write to end its thinking."""
        return (self.end, *self.other_ends) if self.end else ()


class TextMarks(NamedTuple):
    """Markers of thinking in the text of a stock model.

    Attributes:
        start: opens the thinking; missing from the text if the prompt ended with it.
        ends: markers that end the thinking.
        anchored: whether the markers are ordinary words, so that the ends only count if the text begins with `start`.
    """

    start: str
    ends: tuple[str, ...]
    anchored: bool = False


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    table: Mapping[str, Mapping[str, Any]] = yaml.safe_load(
        Path(__file__).with_name("thinking_formats.yaml").read_text("utf-8")
    )
    return table


def format_names() -> list[str]:
    """Names that `thinking_format=` accepts."""
    return list(_table())


def format_named(name: str) -> ThinkingFormat:
    """The format called `name`.

    Raises:
        ArgumentError: no format has that name; the message lists all names.
    """
    if name not in _table():
        raise ArgumentError(
            f"unknown thinking_format {name!r}; expected one of: {', '.join(format_names())}; or a YAML file with "
            "start and end"
        )
    return _format(name, _table()[name])


def _format(name: str, entry: Mapping[str, Any]) -> ThinkingFormat:
    end = entry["end"]
    return ThinkingFormat(
        name,
        entry["start"],
        end,
        entry.get("early_stop", f"{_EARLY_STOP}{end}\n\n"),
        entry.get("close", f"\n{end}"),
        tuple(entry.get("other_ends", ())),
    )


def format_of(given: str | Mapping[str, object]) -> ThinkingFormat:
    """A format by its name, or by its marks: a mapping, the same as JSON, or a YAML file with it.

    The name of one's own format is its JSON, so that whatever records the name records the marks.

    Raises:
        ArgumentError: there is no such name or file, or the marks are not texts.

    >>> format_of({"start": "<r>", "end": "</r>"}).name
    '{"end": "</r>", "start": "<r>"}'
    """
    if isinstance(given, str) and not given.startswith("{"):
        if not given.endswith((".yaml", ".yml")):
            return format_named(given)
        given = _in_file(Path(given))
    try:
        marks = yaml.safe_load(given) if isinstance(given, str) else given
    except yaml.YAMLError:
        marks = None
    if isinstance(marks, Mapping) and _OWN_REQUIRED <= marks.keys() <= _OWN and all(map(_is_mark, marks.items())):
        name = json.dumps(dict(marks), sort_keys=True)
        if len(name) <= _LONGEST_NAME:
            return _format(name, marks)
    raise ArgumentError(
        f"thinking_format={str(given)[:200]!r}: give start and end, and if need be early_stop, close and other_ends (a "
        f"list), each a text that is not empty, of {_LONGEST_NAME} characters together"
    )


_OWN_REQUIRED = {"start", "end"}
_OWN = {*_OWN_REQUIRED, "early_stop", "close", "other_ends"}
_LONGEST_NAME = 500  # characters, as results record them


def _is_mark(field: tuple[str, object]) -> bool:
    name, value = field
    texts = value if isinstance(value, list) and name == "other_ends" else [value]
    return all(isinstance(text, str) and text for text in texts) and (name != "other_ends" or isinstance(value, list))


def _in_file(path: Path) -> str:
    try:
        return expanded(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"thinking_format={path}: cannot be read ({getattr(error, 'strerror', '') or error})"
        ) from error


def detect_format(tokenizer: PreTrainedTokenizerBase, model_name: str = "") -> ThinkingFormat:
    """The first declared format that matches the tokenizer's template or vocabulary, or the model's name."""
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    vocabulary = tokenizer.get_vocab()
    for name, entry in _table().items():
        detect = entry.get("detect") or {}
        if (
            (detect.get("template") and all(text in template for text in detect["template"]))
            or (detect.get("tokens") and all(token in vocabulary for token in detect["tokens"]))
            or (detect.get("names") and re.search(detect["names"], model_name))
        ):
            return format_named(name)
    return format_named("plain")


def with_markers(chosen: ThinkingFormat, start: str | None, end: str | None) -> ThinkingFormat:
    """The format with its markers replaced by those of a task."""
    if end is not None and end != chosen.end:
        ending = chosen.early_stop.replace(chosen.end, end) if chosen.end else f"\n{end}\n"
        chosen = replace(chosen, end=end, early_stop=ending, close=f"\n{end}\n", other_ends=())
    return chosen if start is None else replace(chosen, start=start)


# Thinking in texts ----------------------------------------------------------------------------------------------


@cache
def text_marks() -> tuple[TextMarks, ...]:
    """The markers of all formats as they appear in texts, without duplicates."""
    found: dict[TextMarks, None] = {}
    for name, entry in _table().items():
        thinking_format = format_named(name)
        anchored = bool(entry.get("anchored"))
        if thinking_format.separates:
            starts = entry.get("text_starts") or [thinking_format.start.strip()]
            ends = (*(end.strip() for end in thinking_format.ends), *entry.get("text_ends", ()))
            found |= {TextMarks(start, ends, anchored): None for start in starts}
        for start, end in (entry.get("skipped") or {}).items():
            found[TextMarks(start, (end,), anchored=True)] = None
    return tuple(found)


def assistant_header(templated: Callable[[str], str]) -> str:
    """A chat template's text between the user's text and the assistant's, up to the first thinking marker.

    Args:
        templated: applies the template to a user's text.

    >>> assistant_header(lambda text: f"<user>{text}<assistant><think>")
    '<assistant>'
    """
    after = templated(_PROBE).rpartition(_PROBE)[2]
    marks = [mark for marks in text_marks() if not marks.anchored for mark in (marks.start, *marks.ends)]
    return after[: min((after.index(mark) for mark in marks if mark in after), default=len(after))]


def assistant_ending(tokenizer: PreTrainedTokenizerBase) -> str:
    """A chat template's text after an assistant's turn; empty if there is no template, or it takes no such turn."""
    from jinja2 import TemplateError

    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False)) if tokenizer.chat_template else ""
    except TemplateError:
        return ""
    return text.partition(_PROBE)[2]


def answer_after_thinking(text: str, other_ends: Sequence[str] = (), *, needs_end: bool = False) -> str | None:
    """The part of a stock model's text that follows its thinking.

    Args:
        text: with or without special tokens.
        other_ends: further markers that end the thinking.
        needs_end: treat a text without any marker as cut while thinking, e.g. because the prompt opens the thinking.

    Returns:
        The text after the last end marker; all of it if it has no markers; None if it was cut while thinking.

    >>> answer_after_thinking("<think>6 times 7</think>It is 42.")
    'It is 42.'
    """
    at = max((text.rfind(end) + len(end) for end in (*_ends_in(text), *other_ends) if end in text), default=None)
    if at is None:
        return None if needs_end or opens_thinking(text) else text
    return None if opens_thinking(text[at:], anywhere=True) else text[at:]


def _ends_in(text: str) -> list[str]:
    return [end for marks in text_marks() if not marks.anchored or _begins(text, marks.start) for end in marks.ends]


def opens_thinking(text: str, *, anywhere: bool = True) -> bool:
    """Whether the text contains a marker that opens thinking; ordinary words only count at the beginning."""
    return any(
        _begins(text, marks.start) if marks.anchored else anywhere and marks.start in text for marks in text_marks()
    )


def ends_thinking(text: str, other_ends: Sequence[str] = ()) -> bool:
    """Whether the text contains a marker that ends thinking."""
    return any(end in text for end in (*_ends_in(text), *other_ends))


def _begins(text: str, start: str) -> bool:
    """Whether a text begins with a marker of ordinary words; a marker that is one word has to run into the next word.

    For example, `analysisWe` is what remains of a marker whose special tokens are not shown.
    """
    text = text.lstrip()
    if not text.startswith(start):
        return False
    following = text[len(start) : len(start) + 1]
    return not start.isalpha() or following.isalnum()


def thinking_of(text: str, format_name: str = "") -> str:
    """The thinking in a text of ours: what comes before the words that cut it short, or before the mark of its end.

    The first such mark counts, because thinking ends there, while an answer may hold further ones.

    Args:
        text: what a model wrote, with what was appended where it was cut.
        format_name: the run's thinking format, if it was recorded. Where it doesn't separate thinking from the answer,
            only a cut has a mark: its words are ordinary ones that the thinking of other formats may hold.

    >>> thinking_of("1+2=3</think>The result is 3.")
    '1+2=3'
    >>> thinking_of("1+2=3\\n\\nFinal Answer: 3", "plain")
    '1+2=3'
    """
    recorded = _recorded(format_name)
    if recorded is not None and (format_name not in _table() or not recorded.separates):
        at = [place for mark in (recorded.early_stop, *recorded.ends) if (place := text.find(mark)) >= 0]
        return text[: min(at)].rstrip("\n" * recorded.separates) if at else text
    thought, stop, _ = text.partition(_EARLY_STOP)
    if stop:
        return thought
    found = _any_end().search(text)
    return text[: found.start()].rstrip("\n") if found else text


@cache
def _recorded(format_name: str) -> ThinkingFormat | None:
    """The format that results name, which may come from anyone; None if it says nothing."""
    try:
        return format_of(format_name) if format_name in _table() or format_name.startswith("{") else None
    except ArgumentError:
        return None


@cache
def _any_end() -> re.Pattern[str]:
    ends = {end for name in format_names() for end in format_named(name).ends}
    return re.compile("|".join(map(re.escape, sorted(ends, key=len, reverse=True))))
