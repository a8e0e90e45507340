"""Functions that a task YAML may name by `!function` and that are run when it is checked: a closed list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])
_USABLE: dict[str, Callable[..., object]] = {}


def usable_from_yaml(function: _Function) -> _Function:
    """Declare a function usable; it must be harmless whatever a YAML gives it."""
    _USABLE[f"{function.__module__}.{function.__qualname__}"] = function
    return function


def usable_functions() -> dict[str, Callable[..., object]]:
    """Those of the modules that are imported, by name."""
    return dict(_USABLE)
