"""Regrades lm_eval's output: a results file and the samples files beside it.

Both are replaced in place; the originals are kept beside them as `NAME.grader-1`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.runs.regrading.outcome import TaskRegrading, why_kept
from lm_eval_ext.runs.regrading.texts import Kept, Rules, graded_again, graded_by, rules_of
from lm_eval_ext.runs.run_file import read_json
from lm_eval_ext.runs.task_results import samples_file
from lm_eval_ext.runs.task_rows import ROUNDING, flat, raw_rows
from lm_eval_ext.runs.untrusted import mapping, number
from lm_eval_ext.statistics.intervals import standard_error

_ACCURACY = "acc"

Json = dict[str, Any]  # content of lm-eval's files, modified in place


def regrade_output(path: Path, *, write: bool) -> list[TaskRegrading]:
    """Regrade the tasks of a results file.

    Args:
        path: `results_*.json`.
        write: replace the results and samples files if a task was regraded.

    Raises:
        ResultsError: a task cannot be regraded; names the file, the task and the reason.
    """
    content = read_json(path)
    _check_groups(content, path)
    outcomes, written = [], {}
    for task, version in _our_tasks(content).items():
        outcome, rows = _regraded(content, task, version, path)
        outcomes.append(outcome)
        if rows and (file := samples_file(path, task)):
            written[file] = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    if write and written:
        _replace(written | {path: json.dumps(content, indent=2, ensure_ascii=False)})
    return outcomes


def _check_groups(content: Mapping[str, object], path: Path) -> None:
    for group, scores in mapping(content.get("groups")).items():
        if any(name.startswith(f"{_ACCURACY},") for name in mapping(scores)):
            raise ResultsError(f"{path}: groups.{group}: cannot regrade a group that averages its tasks")


def _our_tasks(content: Mapping[str, object]) -> dict[str, int]:
    """The tasks that our grader graded, and its version."""
    configs = mapping(content.get("configs"))
    versions = {task: graded_by(mapping(configs.get(task))) for task in mapping(content.get("results"))}
    return {task: version for task, version in versions.items() if version is not None}


def _regraded(content: Json, task: str, version: int, path: Path) -> tuple[TaskRegrading, list[Json]]:
    """The outcome for a task, and its rows; replaces its scores in `content`."""
    config, results = content["configs"][task], content["results"][task]
    key = next((name for name in results if name.startswith(f"{_ACCURACY},")), "")
    before, file = number(results.get(key)), samples_file(path, task)
    if before is None:
        raise ResultsError(f"{path}: results.{task}: has no {_ACCURACY}, the metric of our grader")
    reason = why_kept(version) or ("" if file else "its samples were not saved (--log_samples)")
    if file is None or reason:
        return TaskRegrading(task, _ACCURACY, before, kept_because=reason), []
    rows = sorted(raw_rows(file), key=lambda row: str(row.get("filter")))
    changed, place = 0, f"{path}: {task}"
    _check_complete(content, task, rows, place)
    for name, some in groupby(rows, key=lambda row: str(row.get("filter"))):
        changed = max(changed, _regrade_rows(list(some), rules_of(config, name, place), results, place))
    config["metadata"] = {**mapping(config.get("metadata")), "grader_version": GRADER_VERSION}
    return TaskRegrading(task, _ACCURACY, before, float(results[key]), changed, len(rows)), rows


def _regrade_rows(rows: Sequence[Json], rules: Rules, results: Json, place: str) -> int:
    """Put the new scores into rows and results; returns the number of questions whose accuracy changed."""
    _check_sum(rows, rules, results, place)
    graded = graded_again([_kept(row, place) for row in rows], rules, place)
    changed = [float(row[_ACCURACY]) != new.scores[_ACCURACY] for row, new in zip(rows, graded, strict=True)].count(
        True
    )
    for row, new in zip(rows, graded, strict=True):
        row |= {name: value for name, value in new.scores.items() if name in row}
        nested = isinstance(row["filtered_resps"][0], list)
        row["filtered_resps"] = [new.answers] if nested else new.answers
    for name in graded[0].scores:
        _sum_up(results, name, str(rows[0].get("filter")), [one.scores[name] for one in graded], rules)
    return changed


def _check_complete(content: Json, task: str, rows: Sequence[Json], place: str) -> None:
    """Check that every question of every filter is there, so that a part cannot pass for the whole."""
    filters = [key.partition(",")[2] for key in content["results"][task] if key.startswith(f"{_ACCURACY},")]
    asked = number(mapping(mapping(content.get("n-samples")).get(task)).get("effective"))
    for name in filters:
        found = sum(str(row.get("filter")) == name for row in rows)
        if not found or (asked is not None and found != asked):
            raise ResultsError(f"{place}: filter {name}: its samples file has {found} questions, the results {asked}")


def _check_sum(rows: Sequence[Json], rules: Rules, results: Json, place: str) -> None:
    """Check that the samples belong to the results."""
    told = number(results.get(f"{_ACCURACY},{rows[0].get('filter')}"))
    scores = [found for row in rows if (found := number(row.get(_ACCURACY))) is not None]
    mean = sum(scores) / len(scores) if scores else None
    averaged = rules.aggregation(_ACCURACY) == "mean"
    if len(scores) < len(rows) or told is None or mean is None or (averaged and abs(mean - told) > ROUNDING):
        raise ResultsError(f"{place}: {_ACCURACY}={told}, but its samples file gives {mean}; is it from the same run?")


def _kept(row: Json, place: str) -> Kept:
    told = flat(row.get("resps")), flat(row.get("filtered_resps"))
    texts, answers = ([one for one in some if isinstance(one, str)] for some in told)
    if not isinstance(row.get("target"), str):
        raise ResultsError(f"{place}: question {row.get('doc_id')}: has no gold answer")
    if not answers or (texts, answers) != told:
        raise ResultsError(f"{place}: question {row.get('doc_id')}: has no answers as texts")
    return Kept(row.get("target"), texts, answers, number(row.get("thinking_tokens")), mapping(row.get("doc")))


def _sum_up(results: Json, name: str, filter_name: str, values: Sequence[Any], rules: Rules) -> None:
    from lm_eval_ext.metrics import AGGREGATIONS

    key, error = f"{name},{filter_name}", f"{name}_stderr,{filter_name}"
    if key in results:
        results[key] = AGGREGATIONS[rules.aggregation(name)](values)
    if number(results.get(error)) is not None and len(values) > 1:
        results[error] = standard_error(values)


def _replace(files: Mapping[Path, str]) -> None:
    """Replace all of the files or none, keeping copies of the originals."""
    for path, text in files.items():
        path.with_name(f"{path.name}.new").write_text(text, encoding="utf-8")
    for path in files:
        backup = _free(path)
        shutil.copy2(path, backup)
    for path in files:
        path.with_name(f"{path.name}.new").replace(path)


def _free(path: Path) -> Path:
    """An unused name beside a file, for its copy."""
    number = 1
    while (found := path.with_name(f"{path.name}.grader-{number}")).exists():
        number += 1
    return found
