"""`!function` names of task YAMLs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def named_function(name: str) -> Callable[..., Any]:
    """The function called `package.module.name`.

    Raises:
        ImportError: there is none.
    """
    module, _, function = name.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(import_module(module or name), function)
    except AttributeError as error:
        raise ImportError(f"{module} has no {function}") from error
    return found
