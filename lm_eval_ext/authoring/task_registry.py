"""The tasks that there are, by name: ours, those of plugins, and those in a folder of the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from lm_eval_ext.authoring.task_file import merged
from lm_eval_ext.generation.request import with_budget
from lm_eval_ext.paths import TASKS
from lm_eval_ext.plugins import task_folders
from lm_eval_ext.redaction import mapping, sequence
from lm_eval_ext.runs.run import variant_of


def declared_task(name: str) -> Mapping[str, object] | None:
    """The configuration of a task; None if the registry has no task of that name."""
    path = next((path for path in registered_files() if path.stem == name), None)
    return merged(path)[0].fields if path else None


def registered_files() -> Sequence[Path]:
    """All task YAMLs, ours first."""
    return [path for folder in (TASKS, *task_folders()) for path in sorted(folder.rglob("*.yaml"))]


class Tasks:
    """The tasks of this registry, its plugins, and a folder of the user's, where their names begin with `tts_`.

    Args:
        folder: the user's; None if there is none.

    Attributes:
        files: by the names of tasks and groups.
    """

    def __init__(self, folder: str | None = None) -> None:
        more = sorted(Path(folder).rglob("tts_*.yaml")) if folder else []
        self.files = {path.stem: path for path in [*more, *reversed(registered_files())]}
        self.fields = cache(self._fields)

    def _fields(self, name: str) -> Mapping[str, object] | None:
        """The configuration of a task or group; None if there is none of that name."""
        if path := self.files.get(name):
            return merged(path)[0].fields
        base, _, budget = name.rpartition("_b")
        whole = self.fields(base) if re.fullmatch(r"[1-9]\d{0,8}", budget) else None
        if whole is None or "group" in whole or variant_of(base)[1] is not None:
            return None
        return {
            **whole,
            "task": name,
            "generation_kwargs": with_budget(mapping(whole["generation_kwargs"]), int(budget)),
        }

    def is_ours(self, name: str) -> bool:
        """Whether a task, or any in a group, is of this registry."""
        return bool(self.members(name))

    def named(self, given: str) -> str:
        """A task's whole name, where it is given without `tts_`."""
        return f"tts_{given}" if not self.is_ours(given) and self.is_ours(f"tts_{given}") else given

    def members(self, name: str) -> list[str]:
        """The task of this registry, or those in a group and the groups in it."""
        fields = self.fields(name)
        if fields is None:
            return []
        if "group" not in fields:
            return [name]
        return [task for member in sequence(fields.get("task")) for task in self.members(str(member))]
