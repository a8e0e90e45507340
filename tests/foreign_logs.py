"""Writes logs as other tools write them, of the same answers to the same questions."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]  # it has no types
from pyarrow import parquet

from benchmarks.smollm2 import HUB
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import Source, read_source
from tests.commands import cli

QUESTIONS = (("q1", "What is 2+3?", "5"), ("q2", "What is 7*6?", "42"), ("q3", "What is 10-4?", "6"))
RIGHT = ((1, 0), (0, 0), (1, 1))  # by question and sample
Content = dict[str, Any]
INTEROP = HUB.parent / "interop"


def answer(question: int, sample: int) -> str:
    return f"The answer is {QUESTIONS[question][2] if RIGHT[question][sample] else 'unknown'}"


def inspect_log() -> Content:
    samples = [
        {
            "id": name, "epoch": epoch + 1, "input": text, "target": gold, "choices": None,
            "output": {"choices": [{"message": {"content": [
                {"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": answer(at, epoch)},
            ]}, "stop_reason": "stop"}]},
            "scores": {"match": {"value": "C" if RIGHT[at][epoch] else "I", "answer": answer(at, epoch)[14:]}},
        }
        for epoch in (1, 0) for at, (name, text, gold) in enumerate(QUESTIONS)
    ]  # fmt: skip
    return {
        "version": 2, "status": "success",
        "eval": {
            "created": "2026-11-27T15:24:13+01:00", "task": "sums", "model": "hf/acme/tiny", "config": {"epochs": 2},
            "dataset": {"name": "sums", "samples": 3}, "model_generate_config": {"temperature": 1.0, "top_p": 0.9},
            "packages": {"inspect_ai": "0.3.285"},
        },
        "plan": {"config": {"temperature": 0.6, "max_tokens": 64, "reasoning_tokens": 512}},
        "results": {
            "headline": {"scorer": "match"},
            "scores": [
                {"name": "other", "metrics": {"accuracy": {"value": 1.0}}},
                {"name": "match", "metrics": {"accuracy": {"value": 0.5}, "stderr": {"value": 0.2}}},
            ],
        },
        "samples": samples,
    }  # fmt: skip


def write_inspect(folder: Path, change: Callable[[Content], object] = lambda content: None) -> Path:
    content = inspect_log()
    change(content)
    return written(folder / "log.json", content)


def write_archive(folder: Path, change: Callable[[Content], object] = lambda content: None) -> Path:
    content = inspect_log()
    change(content)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in content.pop("samples", []):
            archive.writestr(f"samples/{sample.get('id')}_epoch_{sample.get('epoch')}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps(content))
    return folder / "log.eval"


def write_nemo(
    folder: Path, change: Callable[[Content], object] = lambda content: None,
    change_rows: Callable[[list[Content]], object] = lambda rows: None,
) -> Path:  # fmt: skip
    rows = [
        {
            "problem_idx": at, "repeat": repeat, "reward": float(RIGHT[at][repeat]), "prompt": f"Q: {text}",
            "model_response": answer(at, repeat), "extracted_answer": answer(at, repeat)[14:], "expected_answer": gold,
            "metadata": {"question": text, "answer": gold},
        }
        for at, (_, text, gold) in reversed(list(enumerate(QUESTIONS))) for repeat in (0, 1)
    ]  # fmt: skip
    change_rows(rows)
    content: Content = {
        "config_hash": "sha256:0", "sdk_version": "0.3.0", "timestamp": "2026-11-27T14:24:13+00:00",
        "config": {"model": "acme/tiny", "repeats": 2, "shuffle": {"ds_full_size": 6}},
        "benchmark": {"name": "sums", "samples": 3, "repeats": 2, "scores": {"pass@1": {"value": 0.5}}},
    }  # fmt: skip
    change(content)
    path = written(folder / "eval-1.json", content)
    (folder / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def write_lighteval(
    folder: Path, change: Callable[[Content], object] = lambda content: None,
    change_rows: Callable[[list[Content]], object] = lambda rows: None,
) -> Path:  # fmt: skip
    rows = [
        {
            "doc": {"query": f"Solve: {text}", "choices": [gold], "gold_index": 0, "id": str(at)},
            "metric": {"avg@n:n=2": sum(RIGHT[at]) / 2},
            "model_response": {"text": [answer(at, sample) for sample in (0, 1)], "output_tokens": [[1], [2]]},
        }
        for at, (_, text, gold) in enumerate(QUESTIONS)
    ]  # fmt: skip
    change_rows(rows)
    content: Content = {
        "config_general": {
            "lighteval_sha": "?", "model_name": "acme/tiny",
            "model_config": {"generation_parameters": {"temperature": 0.6, "top_p": None, "max_new_tokens": None}},
        },
        "config_tasks": {"sums|0": {"num_fewshots": 0, "generation_size": 64, "hf_repo": "acme/sums"}},
        "results": {
            "all": {"avg@n:n=2": 0.5},
            "sums|0": {"pass@k:k=2&n=2": 0.7, "avg@n:n=2": 0.5, "avg@n:n=2_stderr": 0.2},
        },
    }  # fmt: skip
    change(content)
    date = "2026-11-27T14-24-13.000001"
    details = folder / "details" / "acme" / "tiny" / date
    details.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), details / f"details_sums|0_{date}.parquet")
    return written(folder / "results" / "acme" / "tiny" / f"results_{date}.json", content)


def write_record(
    folder: Path, change: Callable[[Content], object] = lambda content: None,
    change_rows: Callable[[list[Content]], object] = lambda rows: None,
) -> Path:  # fmt: skip
    rows = [
        {
            "evaluation_name": "sums", "evaluation_result_id": "acc", "sample_id": name, "input": {
                "raw": text, "reference": [gold],
            }, "output": {"raw": [answer(at, 0)]}, "answer_attribution": [{"extracted_value": answer(at, 0)[14:]}],
            "evaluation": {"score": float(RIGHT[at][0]), "is_correct": bool(RIGHT[at][0])},
        }
        for at, (name, text, gold) in enumerate(QUESTIONS)
    ]  # fmt: skip
    change_rows(rows)
    content: Content = {
        "schema_version": "0.3.0", "evaluation_timestamp": "1795789453.0", "eval_library": {"name": "helm"},
        "model_info": {"id": "acme/tiny"},
        "evaluation_results": [
            {
                "evaluation_name": "sums", "evaluation_result_id": "acc", "source_data": {"samples_number": 3},
                "metric_config": {"metric_name": "acc", "max_score": 100},
                "score_details": {"score": 200 / 3, "uncertainty": {"standard_error": {"value": 20}}},
                "generation_config": {"generation_args": {"temperature": 0.6, "max_tokens": 64}},
            }
        ],
    }  # fmt: skip
    change(content)
    path = written(folder / "abc.json", content)
    (folder / "abc_samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def write_summary(folder: Path, change: Callable[[Content], object] = lambda content: None) -> Path:
    content: Content = {"score": 0.5, "metrics": {"score:std": 0.5}, "htmls": [""] * 8}
    content["convos"] = [[{"role": "user", "content": f"Question {number % 4}"}] for number in range(8)]
    change(content)
    return written(folder / "math_acme-tiny_20261127_142413_allresults.json", content)


def write_legacy(folder: Path, text: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.yml"
    path.write_text(text or LEGACY, "utf-8")
    return path


LEGACY = """config: {type: sums, params: {temperature: 0.6, max_new_tokens: 64, limit_samples: null}}
target: {api_endpoint: {model_id: acme/tiny}}
results: {tasks: {sums: {metrics: {acc: {scores: {acc: {value: 0.5, stats: {count: 3, stderr: 0.2}}}}}}}}
"""
WRITERS: dict[str, Callable[[Path], Path]] = {
    "inspect": write_inspect, "archive": write_archive, "nemo": write_nemo, "lighteval": write_lighteval,
    "record": write_record, "summary": write_summary, "legacy": write_legacy,
}  # fmt: skip


def written(path: Path, content: Content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def read(path: Path) -> Source:
    return read_source(path, read_catalogue(), logs=True)


def put(value: object, *path: str | int) -> Callable[[Any], object]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def lm_eval_tts(*words: str | Path) -> tuple[int, str]:
    done = cli(*words)
    return done.exit_code, done.output + (str(done.exception) if done.exception else "")
