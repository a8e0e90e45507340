"""Allowlist of the functions that a task YAML may name with `!function` and that are run when the YAML is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from datasets import Dataset

_Function = TypeVar("_Function", bound=Callable[..., object])
_USABLE: dict[str, Callable[..., object]] = {}


def usable_from_yaml(function: _Function) -> _Function:
    """Add a function to the allowlist; it must be harmless whatever arguments a YAML passes to it."""
    _USABLE[f"{function.__module__}.{function.__qualname__}"] = function
    return function


def usable_functions() -> dict[str, Callable[..., object]]:
    """The allowed functions of all modules imported so far, by name."""
    return dict(_USABLE)


_NONE = ("", "none", "n/a")


@usable_from_yaml
def answered(dataset: Dataset) -> Dataset:
    """The rows whose `answer` says something: GSM-Plus has unsolvable questions, Omni-MATH a few without an answer."""
    return dataset.filter(lambda row: row["answer"] is not None and str(row["answer"]).strip().lower() not in _NONE)
