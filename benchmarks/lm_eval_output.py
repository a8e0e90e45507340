"""Creates output folders with made-up results, in the format that lm-eval writes."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.statistics.estimators import maj_at_k, pass_at_k

DEPTH = 12


def scores(mean: float, questions: int, repeats: int = 1, seed: int = 0) -> list[list[bool]]:
    """Verdicts by question and sample, about `mean` of them correct; the same questions are hard in every run."""
    easy, luck = random.Random(11), random.Random(seed)
    return [
        [0.7 * hardness + 0.3 * luck.random() < mean for _ in range(repeats)]
        for hardness in (easy.random() for _ in range(questions))
    ]


def write_output(
    folder: Path,
    tasks: Mapping[str, Sequence[Sequence[bool]]],
    *,
    base: str = "Org/Model-8B",
    dropped: Sequence[int] = (),
    method: str = "shortgpt",
    date: str = "2026-11-01T00-00-00.000000",
    of: int | None = None,
    samples: bool = True,
    text: str = "thought</think>\\boxed{%s}",
    config: Mapping[str, Any] | None = None,
    gen_kwargs: Mapping[str, Any] | None = None,
    grader: int | None = GRADER_VERSION,
    depth: int = DEPTH,
    texts: Mapping[str, Sequence[Sequence[str]]] | None = None,
    measures: Mapping[str, Mapping[str, float]] | None = None,
) -> Path:
    """Write the output of a `pruned-hf` run; returns its results file.

    `gen_kwargs` are those of the command line. `texts`, by task, question and sample, are used instead of `text`;
    `measures`, by task, are those of every question.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"results_{date}.json"
    texts, measures = texts or {}, measures or {}
    rows = {
        name: [
            _row(number, right, texts[name][number] if name in texts else [text] * len(right), measures.get(name))
            for number, right in enumerate(given)
        ]
        for name, given in tasks.items()
    }
    content = {
        "results": {name: _metrics(some) for name, some in rows.items()},
        "group_subtasks": {},
        "configs": {
            name: {
                "output_type": "generate_until",
                "dataset_path": "org/set",
                "repeats": len(given[0]),
                "generation_kwargs": {"temperature": 1.0, "until": [], **(gen_kwargs or {})},
                "metadata": {"config_source": "/home/someone/secret/task.yaml"}
                | ({"grader_version": grader} if grader else {}),
            }
            for name, given in tasks.items()
        },
        "versions": dict.fromkeys(tasks, 1.0),
        "n-shot": dict.fromkeys(tasks, 0),
        "n-samples": {name: {"original": of or len(given), "effective": len(given)} for name, given in tasks.items()},
        "config": {
            "model": "pruned-hf",
            "model_args": {"pretrained": base, "drop_layers": list(dropped), "token": "hf_abcdefghijklmnopqrstuvwxyz"},
            "model_dtype": "torch.bfloat16",
            "model_revision": "main",
            "batch_size": "32",
            "limit": None,
            "gen_kwargs": dict(gen_kwargs or {}),
            "random_seed": 0,
            "numpy_seed": 1234,
            "torch_seed": 1234,
            "fewshot_seed": 1234,
            "pruning": _pruning(base, dropped, method, depth),
            "generation": {"thinking_tokens": 1000, "answer_tokens": 100, "seconds": 2.5},
            **(config or {}),
        },
        "date": 1793491200.0,
        "lm_eval_version": "0.4.13",
        "transformers_version": "5.24.0",
        "pretty_env_info": "PyTorch version: 2.13.0\nHOSTNAME: secret-machine",
        "total_evaluation_time_seconds": "12.5",
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    for name, some in rows.items() if samples else ():
        lines = "".join(f"{json.dumps(row)}\n" for row in some)
        (folder / f"samples_{name}_{date}.jsonl").write_text(lines, encoding="utf-8")
    return path


def _pruning(base: str, dropped: Sequence[int], method: str, depth: int) -> dict[str, Any]:
    return {
        "base": base,
        "method": method if dropped else "none",
        "source": "arXiv 2403.03853" if dropped else "",
        "dropped_layers": list(dropped),
        "merged_layers": [],
        "kept_layers": [layer for layer in range(depth) if layer not in dropped],
        "layer_scores": [0.1 * (layer % 5) for layer in range(depth)] if dropped else [],
        "parameters_before": 8_000_000_000,
        "parameters_after": 8_000_000_000 * (depth - len(dropped)) // depth,
        "recipe_hash": hashlib.sha256(f"{method}{dropped}".encode()).hexdigest()[:16] if dropped else "",
        "model_fingerprint": hashlib.sha256(f"{base}{dropped}".encode()).hexdigest()[:16],
    }


def _row(
    number: int, right: Sequence[bool], texts: Sequence[str], measures: Mapping[str, float] | None
) -> dict[str, Any]:
    answers = ["4" if one else "5" for one in right]
    return {
        "doc_id": number,
        "doc": {"question": f"{number}?", "answer": "4"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": f"What is it, number {number}?", "arg_1": {}}},
        "resps": [[text.replace("%s", answer) for text, answer in zip(texts, answers, strict=True)]],
        "filtered_resps": [answers],
        "filter": "answer",
        "metrics": ["acc", "answered", "graded", *_measures(measures)],
        "doc_hash": hashlib.sha256(f"{number}".encode()).hexdigest(),
        "acc": sum(right) / len(right),
        "answered": 1.0,
        "graded": ["correct" if one else "wrong" for one in right],
        **_measures(measures),
    }


def _measures(given: Mapping[str, float] | None) -> dict[str, float]:
    return dict(given or {"thinking_tokens": 12.0})


def _metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [row["acc"] for row in rows]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    repeats = len(rows[0]["resps"][0])
    right = [row["graded"].count("correct") for row in rows]
    votes = {
        f"{name}@{k},answer": sum(_vote(name, repeats, one, k) for one in right) / len(right)
        for name in ("pass", "maj") for k in (2, 4, 8) if repeats > 3 and k <= repeats
    }  # fmt: skip
    return {
        "alias": "x",
        "sample_len": len(rows),
        "acc,answer": mean,
        "acc_stderr,answer": (variance / len(values)) ** 0.5,
        "answered,answer": 1.0,
        "answered_stderr,answer": "N/A",
        "graded,answer": 1.0,
        "graded_stderr,answer": "N/A",
        **{
            f"{name}{kind},answer": rows[0][name] if not kind else 0.0
            for name in ("thinking_tokens", "answer_tokens", "forced", "looped")
            for kind in ("", "_stderr")
            if name in rows[0]
        },
        **votes,
    }


def _vote(name: str, samples: int, right: int, k: int) -> float:
    if name == "pass":
        return pass_at_k(samples, right, k)
    both = [(right, True), (samples - right, False)]
    return maj_at_k([votes for votes, _ in both if votes], [good for votes, good in both if votes], k, 0)


BUDGETS = (512, 1024, 2048, 4096, 8192)


def write_board(folder: Path) -> Path:
    """Write runs of a dense model and of pruned ones that keep short and lose long reasoning; returns the folder."""
    keeps = {(): 1.0, (7,): 0.75, (6, 7): 0.35, (11,): 0.8, (10, 11): 0.4}
    for number, (dropped, kept) in enumerate(keeps.items()):
        method = "reverse" if 11 in dropped else "shortgpt"
        tasks = {
            f"tts_aime24_b{budget}": scores(kept * (0.2 + 0.1 * at), 30, 3, number) for at, budget in enumerate(BUDGETS)
        }
        tasks["tts_aime24_maj8"] = scores(kept * 0.6, 30, 8, number)
        tasks["tts_math500_b8192"] = scores(0.5 + 0.4 * kept, 120, 3, number)
        tasks["tts_gpqa_diamond_b8192"] = scores(0.25 + 0.3 * kept, 60, 3, number)
        tasks["tts_sums"] = scores(0.9 + 0.05 * kept, 50, 1, number)
        write_output(folder / f"run{number}", tasks, dropped=dropped, method=method)
    return folder
