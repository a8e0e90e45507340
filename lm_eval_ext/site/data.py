"""The site's data files: all numbers as CSV, JSON and Parquet, with the schema of their columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lm_eval_ext.analysis.answer_costs import cost_of
from lm_eval_ext.analysis.board import Board, Entry, KeptByKind, Scored
from lm_eval_ext.analysis.matching import Property, properties, required
from lm_eval_ext.runs.run import Run, TaskResult, accuracy_interval
from lm_eval_ext.site.rendering import Names, bits_of, measure
from lm_eval_ext.site.traces import FoundByBudget
from lm_eval_ext.statistics.intervals import mean_interval, student_quantile

VERSION = 1  # of the columns of runs.json and runs.parquet


class RunRow(BaseModel):
    """A run on one task, as a row of `runs.json` and `runs.parquet`. What is not known or not measured is null."""

    model_config = ConfigDict(frozen=True)

    run: str
    base: str
    model: str = Field(description="what was done to the base, and how; `base` for the base itself")
    method: str
    layers_off: int
    dropped_layers: str = Field(description="their numbers, counted from 0, separated by spaces")
    dropped_attention: str = Field(description="layers whose attention is left out, in the same form")
    dropped_mlp: str = Field(description="layers whose feed-forward network is left out, in the same form")
    dropped_experts: str = Field(description="dropped experts by layer, such as `0:3+7-9 1:2`")
    zeros: str = Field(description="how many weights are zero, such as `20%` or `2of4`; empty if none were set to zero")
    quantization: str = Field(description="method by which the weights are quantized; empty if they are not")
    bits: float | None = Field(description="of a weight, in the mean; null if they are not quantized")
    weight_bytes: int | None = Field(description="bytes of quantized weights, as they are stored")
    parameters: int | None
    active_parameters: int | None = Field(description="parameters that a token is multiplied with; fewer in a mixture")
    engine: str
    tier: str
    date: str
    task: str
    benchmark: str
    kind: str = Field(description="knowledge, shallow (short reasoning), long, or other")
    budget: int | None = Field(description="thinking tokens; null if unlimited")
    votes: bool
    questions: int
    questions_of_benchmark: int
    samples: int = Field(description="per question")
    accuracy: float
    accuracy_low: float = Field(description="lower end of the 95% interval for new questions like these")
    accuracy_high: float
    chance: float | None = Field(description="accuracy of guessing")
    tokens: float | None = Field(description="thinking and answer tokens of a sample, on average")
    forced: float | None = Field(description="share of samples whose thinking was cut at the budget")
    repeating: float | None = Field(description="share of samples that end in a loop")
    answered: float | None
    kept_knowledge: float | None = Field(description="of the base's, above chance; the same in all rows of a model")
    kept_short: float | None
    kept_long: float | None
    kept_long_low: float | None
    kept_long_high: float | None


def write_data(board: Board, names: Names, kept: Mapping[str, KeptByKind], folder: Path) -> None:
    """Write all data files into a folder."""
    folder.mkdir(exist_ok=True)
    rows = [row for run in board.runs for row in _rows(board, run, names, kept)]
    content = {"version": VERSION, "runs": [row.model_dump() for row in rows]}
    (folder / "runs.json").write_text(json.dumps(content, indent=0, allow_nan=False) + "\n", encoding="utf-8")
    _write_parquet(rows, folder / "runs.parquet")
    _write_csv(_flat(board, names), folder / "leaderboard.csv")
    for name, model in (("runs", RunRow), ("run", Run)):
        schema = json.dumps(model.model_json_schema(), indent=1) + "\n"
        (folder / f"{name}.schema.json").write_text(schema, encoding="utf-8")


def _rows(board: Board, run: Run, names: Names, kept: Mapping[str, KeptByKind]) -> Iterator[RunRow]:
    entry = board.entry_of[run.id]
    share = kept[entry.key]
    knowledge, short, long = (one and one.interval for one in (share.knowledge, share.short, share.long))
    pruning = run.pruning
    for name, task in sorted(run.tasks.items()):
        interval, cost = accuracy_interval(task), cost_of(task.value, run.costs)
        yield RunRow(
            run=run.id, base=run.base, model=str(names[entry.key]), method=names[entry.key].method,
            layers_off=len(run.dropped), **_smaller_by(run),
            parameters=(pruning.parameters_after or None) if pruning else None, engine=run.engine, tier=run.tier,
            active_parameters=int(active) if (active := run.costs.get("active_parameters")) else None,
            date=run.date, task=name, benchmark=task.benchmark, kind=board.catalogue.benchmark(task.benchmark).kind,
            budget=task.budget, votes=task.votes, questions=task.questions, questions_of_benchmark=task.of,
            samples=task.repeats, accuracy=interval.estimate, accuracy_low=interval.low, accuracy_high=interval.high,
            chance=task.guessing, tokens=cost.tokens, forced=cost.forced, repeating=cost.looped,
            answered=task.value("answered"), kept_knowledge=knowledge and knowledge.estimate,
            kept_short=short and short.estimate, kept_long=long and long.estimate, kept_long_low=long and long.low,
            kept_long_high=long and long.high,
        )  # fmt: skip


def _smaller_by(run: Run) -> dict[str, Any]:
    """What makes a model smaller, in the fields of a row."""
    pruning = run.pruning
    return {
        "dropped_layers": " ".join(map(str, run.dropped)),
        "dropped_attention": " ".join(map(str, pruning.dropped_attention)) if pruning else "",
        "dropped_mlp": " ".join(map(str, pruning.dropped_mlp)) if pruning else "",
        "dropped_experts": " ".join(f"{at}:{some}" for at, some in pruning.dropped_experts.items()) if pruning else "",
        "zeros": pruning.zeros if pruning else "",
        "quantization": pruning.quantization if pruning else "",
        "bits": bits_of(run),
        "weight_bytes": pruning.weight_bytes if pruning else None,
    }


def _write_parquet(rows: Sequence[RunRow], path: Path) -> None:
    import pandas

    frame = pandas.DataFrame([row.model_dump() for row in rows], columns=list(RunRow.model_fields))
    whole = dict.fromkeys(("parameters", "active_parameters", "budget", "weight_bytes"), "Int64")
    shares = dict.fromkeys((name for name in RunRow.model_fields if name.startswith("kept")), "Float64")
    others = dict.fromkeys(("chance", "tokens", "forced", "repeating", "answered"), "Float64")
    frame.astype(whole | shares | others).to_parquet(path, index=False)


def _flat(board: Board, names: Names) -> Iterator[dict[str, object]]:
    """One record per run, task and measure."""
    for run in board.runs:
        for name, task in sorted(run.tasks.items()):
            for metric, score in sorted(task.metrics.items()):
                yield {
                    "base": run.base, "model": str(names[board.entry_of[run.id].key]), "run": run.id, "tier": run.tier,
                    "date": run.date, "method": run.pruning.method if run.pruning else "",
                    **{name.replace("_", " "): value for name, value in _smaller_by(run).items()},
                    "benchmark": task.benchmark, "task": name,
                    "budget": task.budget, "samples": task.repeats, "questions": task.questions, "of": task.of,
                    "measure": _measure(task, metric), "value": score.value, "stderr": score.stderr,
                }  # fmt: skip


def _measure(task: TaskResult, metric: str) -> str:
    """The name of a metric; only the one that counts is the accuracy."""
    return "accuracy" if metric == task.score else metric if metric == "acc" else measure(metric)


def _write_csv(records: Iterator[dict[str, object]], path: Path) -> None:
    found = list(records)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _no_formula(value) for name, value in record.items()} for record in found)


def _no_formula(value: object) -> object:
    """Escape text that a spreadsheet would interpret as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def write_models(board: Board, names: Names, path: Path) -> None:
    """Write the list of all models, and Student's quantiles at 95% by number of questions."""
    sizes = {len(task.scores) for run in board.runs for task in run.tasks.values() if task.scores}
    listed = [
        {
            "key": entry.key,
            "name": names.full(entry),
            "base": entry.base,
            "whole": entry.whole,
            "control": entry.latest.control,
            "asked": entry.latest.asked,
        }
        for entry in board.entries
    ]
    content = {"models": listed, "student": {size: round(student_quantile(0.95, size), 12) for size in sorted(sizes)}}
    path.write_text(f"lmtts.models({json.dumps(content)});\n", encoding="utf-8")


def scores_script(
    board: Board, entry: Entry, found: Iterable[FoundByBudget], ids: Mapping[str, Mapping[str, Sequence[int]]]
) -> str:
    """All results of a model, as a script.

    Args:
        board: all models.
        entry: the model.
        found: what became of its right answers, by benchmark.
        ids: of the questions of each run and task, where they are not 0, 1, 2, ...
    """
    results = [one for name in board.benchmarks for _, one in sorted(entry.results.get(name, {}).items())]
    content = {
        "key": entry.key,
        "properties": _listed(properties(entry.latest)),
        "tasks": [_task(board, one, ids) for one in results],
        "found": [one.model_dump() for one in found],
    }
    return f"lmtts.scores({json.dumps(content, allow_nan=False)});\n"


def _task(board: Board, one: Scored, ids: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, object]:
    task, run = one.task, one.run
    cost, name = cost_of(task.value, run.costs), one.name
    levels = [1 - 0.05 / rows for rows in range(1, len(board.benchmarks) + 1) if task.scores]  # by Holm's correction
    return {
        "task": run.asked_name(name),
        "ids": list(ids.get(run.id, {}).get(name, ())),
        "title": board.title(task.benchmark),
        "benchmark": task.benchmark,
        "budget": task.budget,
        "votes": task.votes,
        "run": run.id,
        "required": _listed(required(task, run)),
        "chance": task.guessing,
        "samples": task.repeats,
        "scores": [round(score, 9) for score in task.scores],
        "bounds": [mean_interval(task.scores, confidence=level) for level in levels],
        "gated": task.gated or board.catalogue.is_gated(task.benchmark, task.dataset),
        "costs": {
            "tokens per answer": cost.tokens,
            "forced": cost.forced,
            "repeating": cost.looped,
            "without an answer": cost.unanswered,
            "FLOPs per answer": cost.flops,
            "KV cache bytes": cost.cache_bytes,
        },
    }


def _listed(some: Sequence[Property]) -> list[tuple[str, str, bool, str]]:
    return [(one.what, one.value, one.recorded, one.shown) for one in some]
