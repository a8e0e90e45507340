"""Keys of inference servers that were given as model arguments, which lm-eval would log, and save with the results."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from itertools import count

_SECRET = ("auth_token", "header")  # model arguments of `tts-server`
_HIDDEN = "***"
_given: dict[str, object] = {}  # by what replaces them


def hide(arguments: MutableMapping[str, object]) -> None:
    """Replace the secrets in model arguments; `shown` finds them again in this process."""
    for name in _SECRET:
        value = arguments.get(name)
        if value and str(value) not in _given:
            arguments[name] = _placeholder(value)


def _placeholder(value: object) -> str:
    """`***`, or `*** 2` and so on for other secrets of the same process."""
    for number in count(1):
        name = _HIDDEN if number == 1 else f"{_HIDDEN} {number}"
        if _given.setdefault(name, value) == value:
            return name
    raise AssertionError("there are more numbers than secrets")


def shown(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments with the secrets that `hide` has replaced."""
    return {name: _given.get(str(value), value) if name in _SECRET else value for name, value in arguments.items()}
