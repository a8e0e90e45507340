"""Table of the decoding engines and their capabilities; model registration and results use it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple


class EngineEntry(NamedTuple):
    """One engine.

    Attributes:
        model: its name in `lm_eval --model`.
        target: the model class, imported on first use.
        reproducible: whether a seed gives the same sample on any batch and machine, if the logits are equal.
        token_exact: whether budgets cut a trace at its own tokens, without decoding it to text and encoding it again.
        drops_layers: whether it can load a model without some of its layers.
    """

    model: str
    target: str
    reproducible: bool
    token_exact: bool
    drops_layers: bool


ENGINES = {
    "hf": EngineEntry("pruned-hf", "lm_eval_ext.harness.models.pruned_hf:PrunedHFLM", True, True, True),
    "vllm": EngineEntry("pruned-vllm", "lm_eval_ext.harness.models.pruned_vllm:PrunedVLLM", False, True, True),
    # What a server can do is found out by trying it.
    "server": EngineEntry("tts-server", "lm_eval_ext.harness.models.tts_server:TTSServer", False, True, False),
}


def models() -> dict[str, str]:
    """Model classes by their names in lm-eval."""
    return {entry.model: entry.target for entry in ENGINES.values()}


def engine_of(model: str) -> str:
    """Name of a model class's engine."""
    return next(name for name, entry in ENGINES.items() if entry.model == model)


def capabilities(model: str) -> dict[str, bool]:
    """Capabilities of a model class's engine, for the results file."""
    entry = ENGINES[engine_of(model)]
    return {"reproducible": entry.reproducible, "token_exact": entry.token_exact, "drops_layers": entry.drops_layers}


def known(kind: Literal["filter", "metric"]) -> Collection[str]:
    """Filters that `filter_list` may name, or metrics that `metric_list` may name, including ours."""
    from lm_eval.api import registry

    import lm_eval_ext.harness.registration  # noqa: F401  # its decorators register ours

    names: Collection[str] = getattr(registry, f"{kind}_registry")
    return names


def tasks_of_others(files: Collection[Path]) -> frozenset[str]:
    """Names of the tasks that lm-eval finds in files other than `files` (resolved paths)."""
    return frozenset(name for name, path in _index().items() if path not in files)


@cache
def _index() -> Mapping[str, Path | None]:
    """Files of all installed tasks by name, read once a process."""
    from lm_eval.tasks import TaskManager

    found = {name: entry.yaml_path for name, entry in TaskManager().task_index.items()}
    return {name: Path(path).resolve() if path else None for name, path in found.items()}


def imported_function(name: str, folder: Path) -> Callable[..., Any]:
    """The function that `!function name` in a YAML of a folder means to lm-eval; runs the file or module."""
    from lm_eval.tasks._yaml_loader import _import_func_in_yml

    function: Callable[..., Any] = _import_func_in_yml(name, folder)
    return function
