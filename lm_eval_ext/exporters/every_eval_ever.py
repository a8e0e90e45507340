"""Every Eval Ever (https://evalevalai.com, schema 0.3.0): one JSON file a run, and its samples as JSON lines.

A pruned model gets an id of its own below its base's organisation, since it is not its base.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lm_eval_ext.generation.request import asks_for_thinking
from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.run import Run, TaskResult, accuracy_interval

_SCHEMA = "0.3.0"


def write_every_eval_ever(sources: Sequence[Source], out: Path) -> list[Path]:
    """Write `data/lm-eval-tts/ORGANISATION/MODEL/UUID.json` and the samples beside it."""
    written = []
    for source in sources:
        run = source.run
        # A UUID of version 4 is asked for; this one is always the same for a run, so that exporting again adds nothing.
        name = str(uuid.UUID(bytes=hashlib.sha256(run.id.encode()).digest()[:16], version=4))
        folder = out / "data" / "lm-eval-tts" / model_id(run)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) for row in samples(source)]
        record = evaluation(run)
        if lines:
            path = folder / f"{name}_samples.jsonl"
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            record["detailed_evaluation_results"] = {
                "format": "jsonl", "file_path": str(path.relative_to(out)), "hash_algorithm": "sha256",
                "checksum": hashlib.sha256(path.read_bytes()).hexdigest(), "total_rows": len(lines),
            }  # fmt: skip
            written.append(path)
        written.append(folder / f"{name}.json")
        written[-1].write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return written


def model_id(run: Run) -> str:
    """`organisation/name`, with what was changed in the name."""
    organisation, _, name = run.base.rpartition("/")
    label = "" if run.dense else "-" + re.sub(r"[^A-Za-z0-9.]+", "-", run.label).strip("-")
    return f"{organisation or 'unknown'}/{name}{label}"


def evaluation(run: Run) -> dict[str, object]:
    """The record of a run."""
    began = datetime.strptime(run.date or "1970-01-01T00:00:00Z", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return {
        "schema_version": _SCHEMA,
        "evaluation_id": f"lm-eval-tts/{model_id(run)}/{int(began.timestamp())}",
        "evaluation_timestamp": run.date,
        "retrieved_timestamp": str(int(began.timestamp())),
        "source_metadata": {
            "source_name": "lm-eval-tts", "source_type": "evaluation_run", "source_organization_name": "unknown",
            "evaluator_relationship": "third_party", "additional_details": {"tier": run.tier, "run": run.id},
        },
        "eval_library": {
            "name": "lm_eval", "version": run.software.get("lm-eval", "unknown"),
            "additional_details": {name: value for name, value in run.software.items() if name != "lm-eval"},
        },
        "model_info": _model(run),
        "evaluation_results": [_result(run, name, task) for name, task in run.tasks.items()],
    }  # fmt: skip


def _model(run: Run) -> dict[str, object]:
    details = {
        "deployment_type": "self_deployed", "model_availability": "open_weights", "base_model": run.base,
        "base_revision": run.base_revision, "variation": run.label, "dropped_layers": " ".join(map(str, run.dropped)),
        "method": run.pruning.method if run.pruning else "none", "dtype": run.dtype, "fingerprint": run.fingerprint,
    }  # fmt: skip
    return {
        "name": f"{run.base} {run.label}",
        "id": model_id(run),
        "inference_engine": {"name": run.engine, "version": run.software.get("transformers", "unknown")},
        "additional_details": {name: value for name, value in details.items() if value},
    }


def _result(run: Run, name: str, task: TaskResult) -> dict[str, object]:
    interval = accuracy_interval(task)
    uncertainty: dict[str, object] = {
        "confidence_interval": {
            "lower": interval.low, "upper": interval.high, "confidence_level": 0.95,
            "method": "Wilson with an effective number of questions",
        },
        "num_samples": task.questions * task.repeats,
    }  # fmt: skip
    if task.accuracy.stderr is not None:
        uncertainty["standard_error"] = {"value": task.accuracy.stderr, "method": "analytic"}
    details = {
        metric: str(score.value) for metric, score in task.metrics.items() if metric != task.score
    }  # of the same samples
    return {
        "evaluation_result_id": f"{run.id}/{name}/{task.score}",
        "evaluation_name": name,
        "source_data": _dataset(task),
        "metric_config": {
            "metric_id": "accuracy", "metric_name": task.score, "metric_kind": "accuracy", "metric_unit": "proportion",
            "lower_is_better": False, "score_type": "continuous", "min_score": 0, "max_score": 1,
        },
        "score_details": {"score": task.accuracy.value, "details": details, "uncertainty": uncertainty},
        "generation_config": {"generation_args": _generation(run, task), "additional_details": _told(run, task)},
    }  # fmt: skip


def _dataset(task: TaskResult) -> dict[str, object]:
    if "/" in task.dataset:
        return {
            "dataset_name": task.benchmark, "source_type": "hf_dataset", "hf_repo": task.dataset,
            "samples_number": task.questions,
        }  # fmt: skip
    return {"dataset_name": task.benchmark, "source_type": "other"}


def _generation(run: Run, task: TaskResult) -> dict[str, object]:
    given = task.generation_kwargs
    thinks = run.settings.get("thinking", "on") == "on" and asks_for_thinking(given)
    found: dict[str, object] = {"reasoning": thinks}
    for name in ("temperature", "top_p", "top_k"):
        if isinstance(given.get(name), (int, float)):
            found[name] = given[name]
    if isinstance(given.get("max_gen_toks"), int):
        found["max_tokens"] = given["max_gen_toks"]
    if run.command:
        found["execution_command"] = run.command
    return found


def _told(run: Run, task: TaskResult) -> dict[str, str]:
    budget = "unlimited" if task.budget is None else str(task.budget)
    told = {"thinking_budget": budget, "samples_per_question": str(task.repeats), "shots": str(task.shots)}
    return told | {"sampling": task.asked, **run.settings, **{name: str(seed) for name, seed in run.seeds.items()}}


def samples(source: Source) -> Iterator[dict[str, object]]:
    """A row for each sample with a text, or for each question where its samples were not graded one by one.

    Gated benchmarks have none.
    """
    run = source.run
    record = evaluation(run)
    for name in run.samples:
        task = run.tasks[name]
        for question in source.samples(name):
            texts = [output.text for output in question.outputs if output.text is not None]
            if question.prompt is None or not texts:
                continue
            row = {
                "schema_version": _SCHEMA, "evaluation_id": record["evaluation_id"], "model_id": model_id(run),
                "evaluation_name": name, "evaluation_result_id": f"{run.id}/{name}/{task.score}",
                "sample_hash": question.hash or None, "interaction_type": "single_turn",
                "input": {"raw": question.prompt, "reference": [question.gold or ""]},
            }  # fmt: skip
            if any(output.grade == "not told" for output in question.outputs):  # as where one of several is scored
                scored = {"score": question.score, "is_correct": question.score == 1}
                yield row | {
                    "sample_id": str(question.id), "output": {"raw": texts}, "answer_attribution": [],
                    "evaluation": scored,
                }  # fmt: skip
                continue
            for number, output in enumerate(question.outputs):
                right = output.grade == "correct"
                yield row | {
                    "sample_id": f"{question.id}/{number}", "output": {"raw": [output.text]},
                    "answer_attribution": [
                        {
                            "turn_idx": 0, "source": "output.raw", "extracted_value": output.answer or "",
                            "extraction_method": task.filter, "is_terminal": True,
                        }
                    ],
                    "evaluation": {"score": float(right), "is_correct": right},
                }  # fmt: skip
