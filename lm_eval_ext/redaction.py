"""Removes local paths and anything that looks like a secret from texts to publish."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|nvapi-[\w-]{16,}|gsk_\w{20,}|xai-\w{20,}|r8_\w{20,}|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}|(?i:bearer)\s+(?=\S*\d)[\w.~+/-]{20,}=*)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)
# `HF_TOKEN=...`, `"password": "..."`; numbers and markers such as `think_end_token=</think>` are not secrets.
_ASSIGNED = re.compile(
    r"(?i)\b([\w-]*(?:token|secret|password|passwd|api_?key|access_?key|credentials?)[\"']?\s*[=:]\s*[\"']?)"
    r"(?![<\[{]|(?:\d+|true|false|none|null)\b)[^\s,;&'\"]{4,}"
)
_ADDRESS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/@'\"]*@)?(?P<rest>[^\s'\"]*)", re.I)
_STEP = r"[^\s/\\,;:'\"\])}]+"
# At least two parts below a root, a home, a drive or the working directory: `/think` and `\boxed` are not paths.
_PATH = re.compile(
    rf"(?<![\w/.~<\\-])(?:(?:~[\w-]*|\.{{1,2}}|[A-Za-z]:)[/\\]+{_STEP}|[/\\]{{1,2}}{_STEP}[/\\]+{_STEP})(?:[/\\]+{_STEP})*[/\\]?"
)
_LOCAL = re.compile(r"^(?:[/\\~.]|[A-Za-z]:[\\/]|file:)", re.I)
REDACTED = "[redacted]"


def public_name(name: object) -> str:
    """A Hub name unchanged; for a path, its last part."""
    text = str(name).strip().rstrip("/\\") or "unknown"
    if _LOCAL.match(text) or text.count("/") > 1 or "\\" in text:
        text = re.split(r"[/\\]", text)[-1].strip(".~") or "unknown"
    return text[:200]


def without_tokens(text: str) -> str:
    """A text, such as a model's output, without anything in the form of an access token."""
    return _TOKEN.sub(REDACTED, text)


def scrubbed(value: object) -> object:
    """A value whose strings have tokens, assigned secrets, passwords in URLs and local folders removed."""
    if isinstance(value, str):
        return _scrubbed(value)
    if isinstance(value, Mapping):
        return {_scrubbed(str(key)): scrubbed(one) for key, one in value.items()}
    return [scrubbed(one) for one in value] if isinstance(value, (list, tuple)) else value


def _scrubbed(text: str) -> str:
    text = without_tokens(text)
    if text.isalnum():
        return text
    if _PATH.match(text) and _LOCAL.match(text) and not re.search(r"[,;:=]", text[2:]):
        return public_name(text)  # the whole text is a path, even with spaces in it
    text = _ASSIGNED.sub(rf"\1{REDACTED}", text)
    kept: list[str] = []

    def put_aside(found: re.Match[str]) -> str:
        local = found["scheme"].lower() == "file://"
        kept.append(public_name(found["rest"]) if local else found["scheme"] + found["rest"])
        return f"\x00{len(kept) - 1}\x00"

    text = _PATH.sub(lambda found: public_name(found[0]), _ADDRESS.sub(put_aside, text))
    return re.sub("\x00(\\d+)\x00", lambda found: kept[int(found[1])], text)


_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")
_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
GREATEST = 1e15  # largest number allowed in a run


def mapping(value: object) -> dict[str, object]:
    """`value` as a mapping; empty if it isn't one."""
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}


def sequence(value: object) -> list[object]:
    """`value` as a list; empty if it isn't one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def number(value: object) -> float | None:
    """`value` as a finite number; lm-eval writes some as strings. None if it isn't a number; booleans are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= GREATEST else None


def whole(value: object) -> int | None:
    """`value` as an integer; None if it isn't one."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def line(value: object, longest: int = 500) -> str:
    """`value` as text on one line, cut if too long; empty for None."""
    return _CONTROL.sub(" ", "" if value is None else str(value)).strip()[:longest]


def visible(value: str) -> str:
    """A text for a terminal, on which a model's control characters would act.

    >>> visible("a\\x1b[2J\\n")
    'a\\\\x1b[2J\\n'
    """
    return _ACTING.sub(lambda found: repr(found[0])[1:-1], value)


def text(value: str) -> str:
    """The text made encodable as UTF-8."""
    return value.encode("utf-8", "replace").decode("utf-8")
