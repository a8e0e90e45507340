"""Prompts of a task, for use as calibration texts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from lm_eval_ext.errors import ArgumentError

_included: list[Path] = []


def include(folders: Sequence[Path]) -> None:
    """Look for tasks in these folders too: those of `--include_path`, which no model class is told."""
    _included[:] = folders


def task_prompts(name: str, count: int) -> list[str]:
    """The first prompts of a task, without few-shot examples.

    Raises:
        ArgumentError: no task has that name, or it is a group.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[*_included])
    if name not in manager.all_subtasks:
        near = ", ".join(difflib.get_close_matches(name, manager.all_subtasks, 3))
        hint = f"; did you mean {near}?" if near else "; `lm_eval ls tasks` lists all tasks"
        raise ArgumentError(f"calibration=task:{name}: unknown task{hint}")
    (task,) = manager.load([name])["tasks"].values()
    documents = list(task.eval_docs)[:count]
    return [str(task.doc_to_text(document)) for document in documents]
