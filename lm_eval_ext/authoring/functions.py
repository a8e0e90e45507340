"""Resolves `!function` names of task YAMLs without importing untrusted modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval_ext.choices
import lm_eval_ext.rows
import lm_eval_ext.testbed.countdown
import lm_eval_ext.testbed.depth
import lm_eval_ext.testbed.problems  # noqa: F401  # imported because they declare functions
from lm_eval_ext.authoring.task_file import Merged
from lm_eval_ext.harness.registry import imported_function
from lm_eval_ext.yaml_functions import usable_functions


def function_of(task: Merged, field: str, *, trust: bool) -> Callable[..., Any]:
    """The function that a field of a task names; as `named_function`, from beside its file if that is trusted."""
    return named_function(str(task.fields[field]), task.sources[field].path.parent if trust else None)


def named_function(name: str, folder: Path | None = None) -> Callable[..., Any]:
    """The function called `package.module.name`.

    Args:
        name: as written in the YAML.
        folder: the YAML's, to import any file beside it or any module, as lm-eval does; None to import nothing.

    Raises:
        ImportError: it does not exist, or YAMLs may not use it; the message lists the allowed ones.
    """
    usable = usable_functions()
    if name in usable:
        return usable[name]
    if folder is None:
        raise ImportError(f"{name} is not run by a check; allowed: {', '.join(sorted(usable))}, or any with --trust")
    try:
        return imported_function(name, folder)
    except Exception as error:  # anything that a user's file raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        expected = "expected !function package.module.name, or FILE.NAME of a file beside the YAML"
        raise ImportError(f"{name} cannot be imported; {expected} ({reason})") from error
