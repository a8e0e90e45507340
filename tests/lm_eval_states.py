"""Copies of the installed lm-eval that find plugins by entry points, as its main branch does after 0.4.13.

Each state is a folder for PYTHONPATH. Written after pull requests 4013 (models), 4014 (filters, metrics, aggregations)
and 4015 (tasks) of EleutherAI/lm-evaluation-harness: the same names and behaviour, in words of our own.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

STATES = ("0.4.13", "4013", "4014", "4015")  # each has what those before it have

_LOAD_PLUGINS = '''

_loaded_plugin_groups = set()


def load_plugins(group, registry):
    """Register the entry points of a group, each as a placeholder, once; names that are taken stay as they are."""
    if group in _loaded_plugin_groups:
        return []
    _loaded_plugin_groups.add(group)
    new = [entry for entry in md.entry_points(group=group) if entry.name not in registry]
    for entry in new:
        registry.register(entry.name, target=entry)
    return [entry.name for entry in new]


def _same(one, other):
    try:
        return bool(one == other)
    except AttributeError:
        return one is other


def _is_upgrade(current, target):
    value = current if isinstance(current, str) else getattr(current, "value", None)
    return value == f"{getattr(target, '__module__', '')}:{getattr(target, '__name__', '')}"
'''
_UPGRADE = (
    """                if (
                    isinstance(current, str)
                    and isinstance(target, type)
                    and current == f"{target.__module__}:{target.__name__}"
                ):
""",
    """                if _is_upgrade(current, target):
""",
)
_MODELS = ("        import lm_eval.models  # noqa: F401\n", '    load_plugins("lm_eval.models", model_registry)\n')
_FILTERS = ("        return filter_name\n", '    load_plugins("lm_eval.filters", filter_registry)\n')
_TASKS = """
import importlib.metadata
import importlib.util


def _plugin_folders():
    \"\"\"The folders of the packages that entry points name, without importing them.\"\"\"
    found = []
    for entry in importlib.metadata.entry_points(group="lm_eval.tasks"):
        spec = importlib.util.find_spec(entry.value.partition(":")[0])
        if spec is not None and spec.submodule_search_locations:
            found.append(Path(list(spec.submodule_search_locations)[0]).resolve())
    return list(dict.fromkeys(found))

"""


def lm_eval_at(state: str, folder: Path) -> dict[str, str]:
    """Write a copy of lm-eval in a state; returns the environment in which it is the one that is imported."""
    if state == STATES[0]:
        return {}
    spec = find_spec("lm_eval")
    assert spec is not None and spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, folder / "lm_eval", ignore=shutil.ignore_patterns("__pycache__"))
    level = STATES.index(state)
    _find_models(folder)
    if level >= STATES.index("4014"):
        _find_metrics(folder)
    if level >= STATES.index("4015"):
        _find_tasks(folder)
    return {"PYTHONPATH": str(folder)}


def _find_models(folder: Path) -> None:
    registry = folder / "lm_eval" / "api" / "registry.py"
    _change(registry, "\nclass Registry(", f"{_LOAD_PLUGINS}\n\nclass Registry(")
    _change(registry, "current is not None and current != target", "current is not None and not _same(current, target)")
    _change(registry, *_UPGRADE)
    _change(registry, _MODELS[0], _MODELS[0] + _MODELS[1])


def _find_metrics(folder: Path) -> None:
    registry = folder / "lm_eval" / "api" / "registry.py"
    _change(registry, _FILTERS[0], _FILTERS[0] + _FILTERS[1])
    loading = '    load_plugins("lm_eval.metrics", metric_registry)\n'
    _change(registry, "    if not hf_evaluate_metric:\n", f"{loading}    if not hf_evaluate_metric:\n")
    aggregations = '    load_plugins("lm_eval.aggregations", aggregation_registry)\n'
    looked_up = "    try:\n        return aggregation_registry.get(name)\n"
    _change(registry, looked_up, aggregations + looked_up)
    for kind, name in (("metric_agg", "name"), ("higher_is_better", "metric_name")):
        looked_up = f"    try:\n        return {kind}_registry.get({name})\n"
        imported = f"    if {name} in metric_registry:\n        metric_registry.get({name})\n"
        _change(registry, looked_up, loading + imported + looked_up)


def _find_tasks(folder: Path) -> None:
    manager = folder / "lm_eval" / "tasks" / "manager.py"
    _change(manager, "\nclass TaskManager", f"{_TASKS}\nclass TaskManager")
    defaults = "            all_paths.append(Path(__file__).parent)\n"
    _change(manager, defaults, f"{defaults}        all_paths += _plugin_folders()\n")


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text, f"{path}: no longer has {old!r}"
    path.write_text(text.replace(old, new, 1), "utf-8")
