"""Keys of inference servers that were given as model arguments, which lm-eval would log, and save with the results."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

_SECRET = ("auth_token", "header")  # model arguments of `tts-server`
_HIDDEN = "***"
_given: dict[str, object] = {}


def hide(arguments: MutableMapping[str, object]) -> None:
    """Replace the secrets in model arguments; `shown` finds them again in this process."""
    for name in _SECRET:
        if arguments.get(name) and arguments[name] != _HIDDEN:
            _given[name] = arguments[name]
            arguments[name] = _HIDDEN


def shown(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments with the secrets that `hide` has replaced."""
    return {name: _given.get(name, value) if value == _HIDDEN else value for name, value in arguments.items()}
