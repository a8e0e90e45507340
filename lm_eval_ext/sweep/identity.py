"""What a run is: everything that its results depend on, and nothing of where or how fast it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.sweep.manifest import Manifest
from lm_eval_ext.sweep.plan import PlannedRun, is_local

Config = Mapping[str, object]

# Model arguments that say where and how fast a model runs.
_WHERE = {
    "device", "parallelize", "device_map", "max_memory_per_gpu", "max_cpu_memory", "offload_folder", "batch_size",
    "max_batch_size", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "replica_gpus",
    "ray_address", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "enforce_eager",
    "num_concurrent", "max_retries", "timeout", "journal", "journal_alone",
}  # fmt: skip


def content(
    run: PlannedRun,
    manifest: Manifest,
    *,
    model: str | None,
    recipe: str | None,
    config: Callable[[str], Config | None],
    dataset: Callable[[Config], str | None],
) -> dict[str, object]:
    """All that makes a run what it is, as JSON.

    Args:
        run: the run.
        manifest: that it is from.
        model: commit of what is loaded, or a hash of its weights; None if unknown.
        recipe: digest of the recipe; None for the whole model.
        config: the configuration of a task of this registry.
        dataset: the commit of a task's dataset; None if unknown.
    """
    ours = run.seed is not None
    configs = {task: config(task) for task in run.tasks}
    return {
        "engine": manifest.engine,
        "arguments": {name: value for name, value in sorted(run.arguments.items()) if not _is_told(name, value)},
        "model": model,
        "recipe": recipe,
        "tasks": {task: _hash(one) if one else None for task, one in configs.items()},
        "datasets": {task: dataset(one) for task, one in configs.items() if one},
        "grader": GRADER_VERSION,
        "gen_kwargs": manifest.gen_kwargs if ours else {},
        "seed": run.seed,
        "limit": manifest.limit,
    }


def _is_told(name: str, value: object) -> bool:
    """Whether an argument says where something is or runs, and not what it is."""
    return name in _WHERE or name == "recipe" or (name == "pretrained" and is_local(str(value)))


def identity(of: Mapping[str, object]) -> str:
    """64 hex digits of a run's content."""
    return _hash(of)


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
