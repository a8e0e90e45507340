"""Folders of task YAMLs and recipes that other installed packages ship.

A package names them as entry points, each with a package whose folder holds the YAML files:

    [project.entry-points."lm_eval_tts.tasks"]
    physics = "physics_evals.tasks"

    [project.entry-points."lm_eval_tts.recipes"]
    physics = "physics_evals.recipes"
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path

TASKS_GROUP = "lm_eval_tts.tasks"
RECIPES_GROUP = "lm_eval_tts.recipes"

logger = logging.getLogger("lm_eval.tts")


def task_folders() -> Sequence[Path]:
    """Folders with task YAMLs, by name of the entry point; what cannot be found is logged and left out."""
    return _folders(TASKS_GROUP)


def recipe_folders() -> Sequence[Path]:
    """Folders with recipes; otherwise as `task_folders`."""
    return _folders(RECIPES_GROUP)


def lm_eval_task_folders() -> Sequence[Path]:
    """Folders that packages name for lm-eval itself, which later versions read; names without a folder are left out."""
    found = []
    for point in entry_points(group="lm_eval.tasks"):
        try:
            spec = find_spec(point.module)
        except Exception:  # it imports the parent package, which may fail in any way
            continue
        found += [Path(place).resolve() for place in (spec and spec.submodule_search_locations) or ()]
    return tuple(dict.fromkeys(found))


@cache
def _folders(group: str) -> Sequence[Path]:
    points = sorted(entry_points(group=group), key=lambda point: (point.name, point.value))
    found = [_folder(point) for point in points]
    return tuple(dict.fromkeys(folder for folder in found if folder))  # an editable install may be listed twice


def _folder(point: EntryPoint) -> Path | None:
    reason = "it has no folder"
    try:
        spec = find_spec(point.value)
        folders = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    except Exception as error:  # it imports the parent package, which may fail in any way
        folders, reason = [], f"{type(error).__name__}: {' '.join(str(error).split())}"
    if folder := next(filter(Path.is_dir, folders), None):
        return folder.resolve()
    package = f"package {point.dist.name}: " if point.dist else ""
    logger.warning(
        "%sentry point %s %s=%r was ignored (%s); expected a package whose folder holds YAML files",
        package, point.group, point.name, point.value, reason,
    )  # fmt: skip
    return None


UNKNOWN = "unknown (not installed)"


def own_version() -> str:
    """This package's version; `UNKNOWN` if it is imported from a folder that is not installed."""
    try:
        return version("lm-eval-tts")
    except PackageNotFoundError:
        return UNKNOWN


def software(*others: str) -> dict[str, str]:
    """The versions of this package and of others, by name."""
    return {"lm-eval-tts": own_version(), **{name: version(name) for name in others}}
