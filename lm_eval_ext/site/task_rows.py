"""Rows of lm-eval's `samples_TASK_*.jsonl`, one per question and filter, as samples to publish."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.site.samples import Output, Sample


def read_rows(path: Path, filter_name: str, score: str, *, gated: bool) -> list[Sample]:
    """Samples of one filter, in the order of the questions.

    Args:
        path: the samples file.
        filter_name: the filter that counts; the file repeats each question for every filter.
        score: the metric that is the accuracy.
        gated: leave out question, gold answer and texts.

    Raises:
        ResultsError: names file, line and field.
    """
    samples = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            row = _row(line, path, number)
            if row.get("filter", filter_name) == filter_name:
                samples.append(_sample(row, score, gated, path, number))
    samples.sort(key=lambda sample: sample.id)
    if len({sample.id for sample in samples}) < len(samples):
        raise ResultsError(f"{path}: doc_id: a question comes twice for filter {filter_name}")
    return samples


def _row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: line {number}: cannot be read as JSON ({error})") from error
    if not isinstance(row, dict):
        raise ResultsError(f"{path}: line {number}: holds a {type(row).__name__}; allowed: an object")
    return row


def _sample(row: Mapping[str, Any], score: str, gated: bool, path: Path, number: int) -> Sample:
    if not isinstance(row.get(score), (int, float)):
        raise ResultsError(f"{path}: line {number}: {score}={row.get(score)!r:.80}; allowed: a number from 0 to 1")
    names = row.get("metrics")
    metrics = {name: row[name] for name in names if isinstance(row.get(name), (int, float))} if names else {}
    try:
        return Sample(
            id=row["doc_id"], hash=str(row.get("doc_hash") or ""), score=float(row[score]), metrics=metrics,
            prompt=None if gated else _prompt(row), gold=None if gated else _text(row.get("target")),
            outputs=_outputs(row, gated),
        )  # fmt: skip
    except KeyError as error:
        raise ResultsError(f"{path}: line {number}: {error.args[0]} is missing") from error
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise ResultsError(f"{path}: line {number}: {field}={fault['input']!r:.80}: {fault['msg']}") from error


def _prompt(row: Mapping[str, Any]) -> str:
    arguments = row.get("arguments")
    first: Any = next(iter(arguments.values()), "") if isinstance(arguments, dict) else arguments
    while isinstance(first, (list, tuple, dict)) and first:
        first = first.get("arg_0", "") if isinstance(first, dict) else first[0]
    return _text(first)


def _outputs(row: Mapping[str, Any], gated: bool) -> tuple[Output, ...]:
    """Nothing for multiple choice by log-likelihood, whose responses are no texts."""
    texts, answers = _flat(row.get("resps")), _flat(row.get("filtered_resps"))
    if not texts or not all(isinstance(text, str) for text in texts):
        return ()
    found = [answers[at] if at < len(answers) and isinstance(answers[at], str) else None for at in range(len(texts))]
    grades = row.get("graded")
    if not isinstance(grades, list) or len(grades) != len(texts):
        grades = [_grade(answer, row) for answer in found]
    return tuple(
        Output(grade=str(grade)) if gated else Output(grade=str(grade), answer=answer, text=_text(text))
        for text, answer, grade in zip(texts, found, grades, strict=True)
    )


def _grade(answer: str | None, row: Mapping[str, Any]) -> str:
    """Of a metric that gives no reasons: a letter is right if it is the gold one; else the row's scores tell."""
    if not answer:
        return "no answer"
    if len(answer) == 1 and "answered" in row:
        return "correct" if answer == str(row.get("target")) else "wrong"
    right = [row.get(name) for name in ("acc", "exact_match") if row.get(name) in (0, 1)]
    return ("correct" if right[0] else "wrong") if right else "not told"


def _flat(responses: Any) -> list[Any]:
    """`[["a", "b"]]` and `["a"]` as one list."""
    flat: list[Any] = []
    for one in responses if isinstance(responses, list) else []:
        flat += one if isinstance(one, list) else [one]
    return flat


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates
