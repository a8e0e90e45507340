"""The registry's tasks, by name: ours, and those of other installed packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lm_eval_ext.authoring.task_file import merged
from lm_eval_ext.paths import TASKS
from lm_eval_ext.plugins import task_folders


def declared_task(name: str) -> Mapping[str, object] | None:
    """The configuration of a task; None if the registry has no task of that name."""
    path = next((path for path in registered_files() if path.stem == name), None)
    return merged(path)[0].fields if path else None


def registered_files() -> Sequence[Path]:
    """All task YAMLs, ours first."""
    return [path for folder in (TASKS, *task_folders()) for path in sorted(folder.rglob("*.yaml"))]
