"""What a run is: everything that its results depend on, and nothing of where or how fast it runs."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.sweep.manifest import Manifest
from lm_eval_ext.sweep.plan import PlannedRun
from lm_eval_ext.sweep.sources import Sources, hash_of
from lm_eval_ext.sweep.tasks import Tasks

# Model arguments that say where and how fast a model runs, or are in the content under another name.
_LEFT_OUT = {
    "device", "parallelize", "device_map", "max_memory_per_gpu", "max_cpu_memory", "offload_folder", "batch_size",
    "max_batch_size", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "replica_gpus",
    "ray_address", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "enforce_eager",
    "num_concurrent", "max_retries", "timeout", "journal", "journal_alone", "recipe", "pretrained", "revision",
}  # fmt: skip
_NAMED = ("peft", "tokenizer")  # model arguments that name files or a repository
_IN_FILES = ("chat_template", "thinking_format")  # and those that may name a file


def content(
    run: PlannedRun, manifest: Manifest, model: tuple[str | None, str | None], recipe: str | None, of: Sources,
    registry: Tasks,
) -> dict[str, object]:  # fmt: skip
    """All that makes a run what it is, as JSON.

    Args:
        run: the run.
        manifest: that it is from.
        model: name or folder of what is loaded, and its revision.
        recipe: digest of the recipe; None for the whole model.
        of: says what models, datasets and files are.
        registry: the tasks of this registry.
    """
    ours = {name: fields for task in run.tasks for name in registry.members(task) if (fields := registry.fields(name))}
    others = [task for task in run.tasks if not registry.is_ours(task)]
    return {
        "engine": manifest.engine,
        "arguments": {
            name: of.named(value) if name in _NAMED or (name in _IN_FILES and Path(str(value)).is_file()) else value
            for name, value in sorted(run.arguments.items())
            if name not in _LEFT_OUT
        },
        "model": of.weights(*model) or model,
        "recipe": recipe,
        "tasks": {name: _hash(fields) for name, fields in ours.items()},
        "datasets": {name: of.dataset(fields) for name, fields in ours.items()},
        "others": {"tasks": others, "lm_eval": version("lm_eval")} if others else {},
        "include_path": hash_of(manifest.include_path) if manifest.include_path else "",
        "grader": GRADER_VERSION,
        "gen_kwargs": manifest.gen_kwargs if run.seed is not None else {},
        "seed": run.seed,
        "limit": manifest.limit,
    }


def identity(of: object) -> str:
    """64 hex digits of a content."""
    return _hash(of)


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
