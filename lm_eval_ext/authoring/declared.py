"""Our registry's tasks, by name."""

from __future__ import annotations

from collections.abc import Mapping

from lm_eval_ext.authoring.task_file import merged
from lm_eval_ext.paths import TASKS


def declared_task(name: str) -> Mapping[str, object] | None:
    """The configuration of a task; None if the registry has no task of that name."""
    path = next(TASKS.rglob(f"{name}.yaml"), None)
    return merged(path)[0].fields if path else None
