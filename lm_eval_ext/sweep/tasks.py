"""The tasks that a study names: which are of this registry, and what they consist of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lm_eval_ext.authoring.declared import registered_files
from lm_eval_ext.authoring.task_file import merged
from lm_eval_ext.errors import ManifestError
from lm_eval_ext.generation.options import with_budget
from lm_eval_ext.runs.run import variant_of
from lm_eval_ext.runs.untrusted import mapping, sequence
from lm_eval_ext.sweep.manifest import Manifest


class Tasks:
    """The tasks of this registry, its plugins, and a folder of the user's, where their names begin with `tts_`.

    Args:
        folder: the user's; None if there is none.
    """

    def __init__(self, folder: str | None = None) -> None:
        more = sorted(Path(folder).rglob("tts_*.yaml")) if folder else []
        self._files = {path.stem: path for path in [*more, *reversed(registered_files())]}
        self.fields = cache(self._fields)

    def _fields(self, name: str) -> Mapping[str, object] | None:
        """The configuration of a task or group; None if there is none of that name."""
        if path := self._files.get(name):
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

    def members(self, name: str) -> list[str]:
        """The task of this registry, or those in a group and the groups in it."""
        fields = self.fields(name)
        if fields is None:
            return []
        if "group" not in fields:
            return [name]
        return [task for member in sequence(fields.get("task")) for task in self.members(str(member))]

    def of(self, manifest: Manifest) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A manifest's tasks of this registry, in all budgets and votes; and those of lm-eval itself.

        Raises:
            ManifestError: a task has no such variant.
        """
        named = {task: task if self.is_ours(task) else f"tts_{task}" for task in manifest.tasks}
        ours = [name for name in named.values() if self.is_ours(name)]
        others = [*(task for task, name in named.items() if not self.is_ours(name)), *manifest.other_tasks]
        varied = [one for task in ours for one in self._varied(task, manifest)]
        return tuple(dict.fromkeys(varied)), tuple(others)

    def _varied(self, task: str, manifest: Manifest) -> list[str]:
        budgets, votes = manifest.budgets, manifest.votes
        wanted = [f"{task}_b{budget}" for budget in budgets] + [f"{task}_maj{count}" for count in votes]
        missing = next((name for name in wanted if not self.is_ours(name)), None)
        if missing is not None:
            raise ManifestError(
                f"tasks: {task} has no variant {missing.removeprefix(task)[1:]}; add it to `variants` in the task's "
                "YAML and run `lm-eval-tts tasks sync`, or name variants and groups themselves and leave out budgets "
                "and votes"
            )
        return wanted or [task]
