r"""Filters of the prompt templates that `tasks sync` writes, in lm-eval's Jinja environment and in our checks.

>>> boxed(as_gold(["New York", "NYC"])), as_gold('["a", "b"]')
('\\boxed{New York}', ' ["a", "b"]')
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from jinja2 import pass_context

from lm_eval_ext.choices import column as column_of
from lm_eval_ext.choices import letter_of, lettered, options, record_of

if TYPE_CHECKING:
    from jinja2.runtime import Context


@pass_context
def column(context: Context, name: str) -> object:
    """A field whose name is not a Jinja name, such as `Correct Answer`, or is inside another: `answer.value`."""
    return column_of(record_of(context), name)


def as_gold(value: object) -> str:
    """A gold answer as text, the items of a list on a line each; nothing for no answer.

    lm-eval evaluates what begins with `[` and ends with `]`, so a space is put before it.
    """
    items = value if isinstance(value, (list, tuple)) else [] if value is None else None
    text = str(value) if items is None else "\n".join(" ".join(str(one).split()) for one in items if one is not None)
    return f" {text}" if text.startswith("[") else text


def as_json(value: object) -> str:
    """A gold answer as JSON; a text is taken for JSON already."""
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f" {text}" if text.startswith("[") else text


TESTED = "tests "  # how the gold answer of a program begins: a hash of its tests


def tested_with(values: object) -> str:
    """What a program is tested with, as a gold answer: a hash, because tests are long, and not for the samples file."""
    text = json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
    return f"{TESTED}sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def boxed(gold: str) -> str:
    """A gold answer as a worked example gives it; of several accepted ones the first."""
    return rf"\boxed{{{gold.strip().partition(chr(10))[0]}}}"


def boxed_list(gold: str) -> str:
    """A gold answer with several items as a worked example gives it."""
    return rf"\boxed{{{', '.join(gold.strip().splitlines())}}}"


def fenced(gold: str) -> str:
    """A gold answer that is JSON as a worked example gives it."""
    return f"```json\n{gold.strip()}\n```"


def regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """A text with replacements, as by lm-eval's own filter of this name, which is kept where lm-eval has it."""
    return re.sub(pattern, repl, string, count=count)


TEMPLATE_FILTERS: dict[str, Callable[..., object]] = {
    one.__name__: one
    for one in (
        options, lettered, letter_of, column, as_gold, as_json, boxed, boxed_list, fenced, tested_with, regex_replace,
    )
}  # fmt: skip
