"""From an output folder of lm-eval, ours or a stock one, to a run that can be published.

Paths and secrets are taken out, and everything of gated questions but their hashes and grades.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.site.catalogue import Catalogue
from lm_eval_ext.site.command import command_of, public_name
from lm_eval_ext.site.run import Run, read_json, validated
from lm_eval_ext.site.samples import Sample, pack, question_set
from lm_eval_ext.site.task_rows import read_rows

_VARIANT = re.compile(r"^(?P<benchmark>.+?)_(?:b(?P<budget>\d+)|maj\d+)$")
_RESULTS = re.compile(r"^results_(?P<date>.+)\.json$")
# In the order of preference, where the catalogue does not name one.
_SCORES = ("acc", "exact_match", "acc_norm", "pass@1")


class Submission(NamedTuple):
    """A run and the samples that it comes from."""

    run: Run
    samples: dict[str, list[Sample]]


def submissions(folder: Path, catalogue: Catalogue, base: str | None = None) -> list[Submission]:
    """All runs in the results files at or below a folder (or of one file), oldest first.

    Args:
        folder: what `--output_path` of lm-eval named.
        catalogue: which metric counts, and which benchmarks are gated.
        base: name of the base model, where it was loaded from a folder whose name says little.

    Raises:
        ResultsError: names the file and the field; or there are no results.
    """
    paths = [folder] if folder.is_file() else sorted(folder.rglob("results_*.json"), key=lambda path: path.name)
    if not paths:
        raise ResultsError(f"{folder}: holds no results of lm-eval (results_*.json)")
    return [submission(path, catalogue, base) for path in paths]


def submission(path: Path, catalogue: Catalogue, base: str | None = None) -> Submission:
    """The run of one results file.

    Raises:
        ResultsError: names the file and the field.
    """
    content = read_json(path)
    config = _mapping(content, "config", path)
    pruning = config.get("pruning") if isinstance(config.get("pruning"), dict) else None
    tasks, samples = {}, {}
    for task, filter_name, score in _scored_tasks(content, catalogue, path):
        rows = _rows(path, task, filter_name, score, catalogue)
        tasks[task] = _task(content, task, filter_name, score, rows, path)
        if rows:
            samples[task] = rows
    if not tasks:
        raise ResultsError(f"{path}: results: no task with an accuracy ({', '.join(_SCORES)})")
    named = base or public_name((pruning or {}).get("base") or _argument(config, "pretrained") or _model(content))
    fields = {
        "date": time.strftime("%Y-%m-%d", time.gmtime(_number(content.get("date"), 0.0))),
        "base": named,
        "revision": str(config.get("model_revision") or ""),
        "fingerprint": str((pruning or {}).get("model_fingerprint") or ""),
        "engine": str(config.get("model") or ""),
        "dtype": str(config.get("model_dtype") or "").removeprefix("torch."),
        "pruning": _pruning(pruning) if pruning else None,
        "tasks": tasks,
        "generation": _numbers(config.get("generation")),
        "seconds": _number(content.get("total_evaluation_time_seconds"), None),
        "seeds": {name: config[name] for name in config if name.endswith("_seed") and _is_whole(config[name])},
        "software": _software(content),
        "command": command_of(config, list(tasks), named),
        "samples": {task: hashlib.sha256(pack(rows)).hexdigest() for task, rows in samples.items()},
    }
    return Submission(validated(fields | {"id": _run_id(fields)}, path), samples)


def _scored_tasks(content: Mapping[str, Any], catalogue: Catalogue, path: Path) -> Iterator[tuple[str, str, str]]:
    """Task, filter and metric of every accuracy there is; of a group with its own, not also its members'."""
    results = _mapping(content, "results", path)
    inside = {member for group, members in (content.get("group_subtasks") or {}).items() for member in members}
    grouped = {group for group in content.get("group_subtasks") or {} if _score(group, results.get(group), catalogue)}
    covered = {member for group in grouped for member in content["group_subtasks"][group]} & inside
    for task, metrics in results.items():
        if task not in covered and (found := _score(task, metrics, catalogue)):
            yield task, *found


def _score(task: str, metrics: Any, catalogue: Catalogue) -> tuple[str, str] | None:
    declared = catalogue.benchmark(_variant(task)[0])
    names = [key for key in metrics if "," in key and "_stderr," not in key] if isinstance(metrics, dict) else []
    for metric in dict.fromkeys((declared.metric, *_SCORES)):
        filters = [key.partition(",")[2] for key in names if key.partition(",")[0] == metric]
        if filters:
            chosen = declared.filter if declared.filter in filters else filters[0]
            return str(chosen), metric
    return None


def _variant(task: str) -> tuple[str, int | None]:
    match = _VARIANT.match(task) if task.startswith("tts_") else None
    return (match["benchmark"], int(match["budget"]) if match["budget"] else None) if match else (task, None)


def _task(
    content: Mapping[str, Any], task: str, filter_name: str, score: str, rows: list[Sample], path: Path
) -> dict[str, Any]:
    metrics = content["results"][task]
    config = (content.get("configs") or {}).get(task) or {}
    benchmark, budget = _variant(task)
    counts = (content.get("n-samples") or {}).get(task) or {}
    questions = counts.get("effective") or metrics.get("sample_len") or len(rows)
    found = {
        "benchmark": benchmark, "budget": budget, "filter": filter_name, "score": score,
        "metrics": {
            name.partition(",")[0]: {"value": value, "stderr": _number(metrics.get(_stderr_key(name)), None)}
            for name, value in metrics.items()
            if name.partition(",")[2] == filter_name and "_stderr," not in name and isinstance(value, (int, float))
        },
        "questions": questions, "of": max(counts.get("original") or 0, questions or 0),
        "repeats": config.get("repeats") or 1, "dataset": str(config.get("dataset_path") or ""),
        "version": str((content.get("versions") or {}).get(task) or ""),
        "task_hash": str((content.get("task_hashes") or {}).get(task) or ""),
        "sampling": _sampling(config), "question_set": question_set(rows) if rows else "",
        "scores": [sample.score for sample in rows],
    }  # fmt: skip
    _check_mean(found, path, task)
    return found


def _stderr_key(name: str) -> str:
    metric, _, filter_name = name.partition(",")
    return f"{metric}_stderr,{filter_name}"


def _check_mean(task: dict[str, Any], path: Path, name: str) -> None:
    """The samples must be those that the results were computed from."""
    if not task["scores"]:
        return
    mean, reported = sum(task["scores"]) / len(task["scores"]), task["metrics"][task["score"]]["value"]
    if not abs(mean - reported) < 1e-6 or len(task["scores"]) != task["questions"]:
        raise ResultsError(
            f"{path}: {name}: {task['score']}={reported} of {task['questions']} questions, but its samples file gives "
            f"{mean:.6f} of {len(task['scores'])}; are they of one run?"
        )


def _rows(path: Path, task: str, filter_name: str, score: str, catalogue: Catalogue) -> list[Sample]:
    match = _RESULTS.match(path.name)
    file = path.with_name(f"samples_{task}_{match['date']}.jsonl") if match else path
    if file == path or not file.is_file():
        return []
    return read_rows(file, filter_name, score, gated=catalogue.is_gated(task))


def _sampling(config: Mapping[str, Any]) -> str:
    arguments = config.get("generation_kwargs")
    shown = {name: value for name, value in arguments.items() if name != "until"} if isinstance(arguments, dict) else {}
    return ", ".join(f"{name}={value}" for name, value in sorted(shown.items()))[:300]


def _pruning(info: Mapping[str, Any]) -> dict[str, Any]:
    kept, dropped = info.get("kept_layers") or [], info.get("dropped_layers") or []
    merged: dict[str, list[int]] = {}
    for step in info.get("merged_layers") or []:
        merged.setdefault(str(step["into"]), []).extend(step["layers"])
    return {
        "method": info.get("method") or "none",
        "source": str(info.get("source") or "")[:500],
        "depth": len(kept) + len(dropped),
        "dropped": dropped,
        "merged": merged,
        "layer_scores": info.get("layer_scores") or [],
        "parameters_before": info.get("parameters_before") or 0,
        "parameters_after": info.get("parameters_after") or 0,
        "recipe_hash": info.get("recipe_hash") or "",
        "recovered": json.dumps(info["recovered"], sort_keys=True)[:500] if info.get("recovered") else "",
    }


def _software(content: Mapping[str, Any]) -> dict[str, str]:
    environment = str(content.get("pretty_env_info") or "")
    torch = re.search(r"PyTorch version: (\S+)", environment)
    named = {
        "lm-eval-tts": (content.get("config") or {}).get("lm_eval_tts_version"),
        "lm-eval": content.get("lm_eval_version"),
        "transformers": content.get("transformers_version"),
        "torch": torch[1] if torch else None,
    }
    return {name: str(version)[:200] for name, version in named.items() if version}


def _run_id(fields: Mapping[str, Any]) -> str:
    """Readable, and different for different content."""
    content = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:8]
    pruning = fields["pruning"]
    label = f"{pruning['method']}-{len(pruning['dropped'])}" if pruning and pruning["dropped"] else "dense"
    words = f"{fields['base'].split('/')[-1]}-{label}-{content}".lower()
    return re.sub(r"[^a-z0-9._-]+", "-", words).strip("-._")[-100:].lstrip("-._")


def _mapping(content: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = content.get(name)
    if not isinstance(value, dict):
        raise ResultsError(f"{path}: {name}: is {type(value).__name__}; allowed: what lm-eval writes there, an object")
    return value


def _argument(config: Mapping[str, Any], name: str) -> str | None:
    arguments = config.get("model_args")
    if isinstance(arguments, dict):
        return str(arguments[name]) if name in arguments else None
    match = re.search(rf"(?:^|,){name}=([^,]+)", str(arguments or ""))
    return match[1] if match else None


def _model(content: Mapping[str, Any]) -> str:
    return str(content.get("model_name") or "unknown")


def _numbers(values: Any) -> dict[str, float]:
    pairs = values.items() if isinstance(values, dict) else ()
    return {str(name): number for name, value in pairs if (number := _number(value, None)) is not None}


def _number(value: Any, otherwise: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return otherwise
    return number if math.isfinite(number) else otherwise


def _is_whole(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))
