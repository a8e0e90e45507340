"""Resolves `!function` names of task YAMLs without importing untrusted modules."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import lm_eval_ext.choices
import lm_eval_ext.rows
import lm_eval_ext.testbed.countdown
import lm_eval_ext.testbed.depth
import lm_eval_ext.testbed.problems  # noqa: F401  # imported because they declare functions
from lm_eval_ext.yaml_functions import usable_functions


def named_function(name: str, *, trust: bool = False) -> Callable[..., Any]:
    """The function called `package.module.name`.

    Args:
        name: as written in the YAML.
        trust: import any module it names.

    Raises:
        ImportError: it does not exist, or YAMLs may not use it; the message lists the allowed ones.
    """
    usable = usable_functions()
    if name in usable:
        return usable[name]
    if not trust:
        raise ImportError(f"{name} is not run by a check; allowed: {', '.join(sorted(usable))}, or any with --trust")
    module, _, function = name.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(import_module(module or name), function)
    except (AttributeError, ValueError, ImportError) as error:
        raise ImportError(f"{name} cannot be imported; expected !function package.module.name") from error
    return found
