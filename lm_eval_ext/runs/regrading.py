"""Regrades results with the current grader, from the saved texts and without a model.

Nothing is decoded again, and token counts are taken as recorded. Tasks that cannot be regraded keep their scores and
grader version: gated tasks of published runs, which contain no texts, and tasks whose samples were not saved. Of
lm_eval's output, the results file and the samples files beside it are replaced in place; the originals are kept beside
them as `NAME.grader-1`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.generation.request import Generation
from lm_eval_ext.grading import COMPARED, GRADER_VERSION
from lm_eval_ext.grading.code import CodeRules
from lm_eval_ext.grading.kinds import FILTERS, GRADED, MATCHING, extractor
from lm_eval_ext.metrics import AGGREGATIONS, FUNCTIONS
from lm_eval_ext.paths import finish_replacing, json_object, replace_together
from lm_eval_ext.redaction import mapping, number, sequence, whole
from lm_eval_ext.runs.load import Source, refuse_interrupted, samples_path
from lm_eval_ext.runs.publish import is_gated
from lm_eval_ext.runs.run import Run, Score, TaskResult
from lm_eval_ext.runs.samples import Sample, pack, run_json
from lm_eval_ext.runs.submission import refuse_stopped_early
from lm_eval_ext.runs.task_results import ROUNDING, flat, raw_rows, samples_file
from lm_eval_ext.statistics.intervals import standard_error
from lm_eval_ext.thinking_formats import answer_after_thinking, text_marks

_OPTIONS = ("metric", "aggregation", "higher_is_better")  # in metric_list; other keys are a metric's own


class SavedQuestion(NamedTuple):
    """The saved data of a question.

    Attributes:
        gold: its gold answer, as the task passed it to the metric.
        texts: the text of every sample, thinking included.
        answers: the answers extracted from them.
        thinking_tokens: mean over samples; None if the model did not record it.
        doc: the dataset's row, if it was saved.
    """

    gold: object
    texts: Sequence[str]
    answers: Sequence[str]
    thinking_tokens: float | None
    doc: Mapping[str, object] = {}


class Graded(NamedTuple):
    """A question as graded by the current grader: the answer of every sample, and the scores by name."""

    answers: list[str]
    scores: dict[str, object]


@dataclass(frozen=True)
class TaskRules:
    """How a task extracts and grades answers.

    Attributes:
        filter: one of ours, such as `math_answer`, or None for any other filter, whose answers are kept.
        filter_options: its options.
        metrics: our grading metrics, with their options.
        aggregations: aggregation by metric.
    """

    filter: str | None
    filter_options: Mapping[str, object]
    metrics: Mapping[str, Mapping[str, object]]
    aggregations: Mapping[str, str]

    def aggregation(self, score: str) -> str:
        """Name of the aggregation of a score over questions."""
        giving = GRADED if score == "graded" else MATCHING
        return self.aggregations[next(name for name in giving if name in self.metrics)]


def graded_by(config: Mapping[str, object]) -> int | None:
    """Version of our grader, from a task's configuration in results; None if it was not graded by ours."""
    if not set(MATCHING) & {mapping(one).get("metric") for one in sequence(config.get("metric_list"))}:
        return None
    return whole(mapping(config.get("metadata")).get("grader_version")) or 1


def rules_of(config: Mapping[str, object], filter_name: str, place: str) -> TaskRules:
    """The rules that a task's configuration declares.

    Args:
        config: the task's configuration, with at least one of our metrics.
        filter_name: a filter of the task.
        place: location for error messages.

    Raises:
        ResultsError: an aggregation is not one of ours.
    """
    steps = [
        mapping(step)
        for one in map(mapping, sequence(config.get("filter_list")))
        for step in sequence(one.get("filter"))
        if one.get("name") == filter_name
    ]
    finder = steps[0] if len(steps) == 1 and steps[0].get("function") in FILTERS else {}
    declared = {one.get("metric"): one for one in map(mapping, sequence(config.get("metric_list")))}
    ours = {str(name): one for name, one in declared.items() if name in (*MATCHING, *GRADED)}
    aggregations = {name: str(one.get("aggregation", "mean")) for name, one in ours.items()}
    if unknown := next((one for one in aggregations.values() if one not in AGGREGATIONS), None):
        raise ResultsError(f"{place}: unknown aggregation {unknown!r}; expected one of: {', '.join(AGGREGATIONS)}")
    return TaskRules(
        str(finder["function"]) if finder else None,
        {name: value for name, value in finder.items() if name != "function"},
        {name: {key: value for key, value in one.items() if key not in _OPTIONS} for name, one in ours.items()},
        aggregations,
    )


def graded_again(questions: Sequence[SavedQuestion], rules: TaskRules, place: str) -> list[Graded]:
    """Grade every question with the current grader.

    Args:
        questions: the questions of one task and filter.
        rules: how the task extracts and grades answers.
        place: location for error messages.

    Raises:
        ResultsError: a question has more texts than answers or fewer, so some samples were not saved.
    """
    found = _answers(questions, rules, place) if rules.filter else [list(one.answers) for one in questions]
    return [
        Graded(
            [str(answer) for answer in answers],
            _merged(FUNCTIONS[metric]([one.gold], [answers], **chosen) for metric, chosen in rules.metrics.items()),
        )
        for one, answers in zip(questions, found, strict=True)
    ]


def _answers(questions: Sequence[SavedQuestion], rules: TaskRules, place: str) -> list[list[str]]:
    short = next((number for number, one in enumerate(questions, 1) if len(one.texts) != len(one.answers)), None)
    if short is not None:
        raise ResultsError(f"{place}: question {short}: does not have one answer for each text")
    extractor(str(rules.filter), rules.filter_options)  # refused now, if it has options that it doesn't know
    outputs = [list(_outputs(one, partial(_found_in, one, rules))) for one in questions]
    return _find(outputs, [one.doc for one in questions], rules)


def _find(outputs: Sequence[Sequence[str]], docs: Sequence[object], rules: TaskRules) -> list[list[str]]:
    return [list(answers) for answers in extractor(str(rules.filter), rules.filter_options).answers(outputs, docs)]


def _found_in(question: SavedQuestion, rules: TaskRules, part: str) -> str:
    """The answer that stands in a text that is all answer."""
    ((answer,),) = _find([[Generation(part)]], [question.doc], rules)
    return str(answer)


def _merged(scores: Iterator[Mapping[str, object]]) -> dict[str, object]:
    return {name: value for some in scores for name, value in some.items()}


def _outputs(question: SavedQuestion, found_in: Callable[[str], str]) -> Iterator[str]:
    """The texts as the filter saw them: unchanged from a stock model, with their answer parts from ours."""
    for text, answer in zip(question.texts, question.answers, strict=True):
        if question.thinking_tokens is None:
            yield text
        else:
            yield Generation(text, answer=_answer_part(text, answer, found_in, thought=question.thinking_tokens > 0))


def _answer_part(text: str, answer: str, found_in: Callable[[str], str], *, thought: bool) -> str:
    """The part after the thinking; with several end markers, the part in which the answer is found now too.

    A text without an end marker is all answer if an answer was found in it; else it was cut while thinking.
    """
    if not thought:
        return text
    ends = {end for marks in text_marks() for end in marks.ends if end in text}
    if not ends:
        return text if answer else ""
    usual = answer_after_thinking(text) or ""
    starts = sorted(at + len(end) for end in ends for at in _places(text, end))
    parts = [part for part in (usual, *(text[start:] for start in starts)) if answer in part]
    same = (part for part in parts if len(parts) == 1 or found_in(part) == answer)
    return next(same, parts[0] if parts else usual)


def _places(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


class TaskRegrading(NamedTuple):
    """The outcome of regrading one task of one file.

    Attributes:
        task: its name.
        metric: the one used as its accuracy.
        before, after: its values; `after` is None if the task keeps its scores.
        changed: number of questions whose score changed.
        questions: number of all questions.
        kept_because: why it keeps its scores.
    """

    task: str
    metric: str
    before: float
    after: float | None = None
    changed: int = 0
    questions: int = 0
    kept_because: str = ""

    def __str__(self) -> str:
        if self.after is None:
            return f"{self.task}: {self.metric} {self.before:.4f} kept: {self.kept_because}"
        moved = f"{self.changed} of {self.questions} questions" if self.changed else "no question"
        return f"{self.task}: {self.metric} {self.before:.4f} -> {self.after:.4f}, {moved} changed"


def why_kept(version: int) -> str:
    """Why a task graded by this version is not regraded; empty if it should be."""
    if version == GRADER_VERSION:
        return f"already graded by version {version}"
    if version > GRADER_VERSION:
        return f"graded by version {version}, newer than version {GRADER_VERSION} of this lm-eval-tts"
    return ""


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
    if write:
        finish_replacing(path)
    refuse_interrupted(path)
    content = json_object(path, ResultsError)
    refuse_stopped_early(content, path)
    _check_groups(content, path)
    outcomes, written = [], {}
    for task, version in _our_tasks(content).items():
        outcome, rows = _regraded(content, task, version, path)
        outcomes.append(outcome)
        if rows and (file := samples_file(path, task)):
            written[file] = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    if write and written:
        files = {**written, path: json.dumps(content, indent=2, ensure_ascii=False)}
        for file in files:
            shutil.copy2(file, _free(file))
        replace_together(files, path)
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
    programs = any(mapping(one).get("metric") == CodeRules.match_name() for one in sequence(config.get("metric_list")))
    reason = reason or (_PROGRAMS if programs else "")
    if file is None or reason:
        return TaskRegrading(task, _ACCURACY, before, kept_because=reason), []
    rows = sorted(raw_rows(file), key=lambda row: str(row.get("filter")))
    changed, questions, place = 0, 0, f"{path}: {task}"
    _check_complete(content, task, rows, place)
    for name, some in groupby(rows, key=lambda row: str(row.get("filter"))):
        of_filter = list(some)
        questions = max(questions, len(of_filter))
        changed = max(changed, _regrade_rows(of_filter, rules_of(config, name, place), results, place))
    config["metadata"] = {**mapping(config.get("metadata")), "grader_version": GRADER_VERSION}
    return TaskRegrading(task, _ACCURACY, before, float(results[key]), changed, questions), rows


def _regrade_rows(rows: Sequence[Json], rules: TaskRules, results: Json, place: str) -> int:
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


def _check_sum(rows: Sequence[Json], rules: TaskRules, results: Json, place: str) -> None:
    """Check that the samples belong to the results."""
    told = number(results.get(f"{_ACCURACY},{rows[0].get('filter')}"))
    scores = [found for row in rows if (found := number(row.get(_ACCURACY))) is not None]
    mean = sum(scores) / len(scores) if scores else None
    averaged = rules.aggregation(_ACCURACY) == "mean"
    if len(scores) < len(rows) or told is None or mean is None or (averaged and abs(mean - told) > ROUNDING):
        raise ResultsError(f"{place}: {_ACCURACY}={told}, but its samples file gives {mean}; is it from the same run?")


def _kept(row: Json, place: str) -> SavedQuestion:
    told = flat(row.get("resps")), flat(row.get("filtered_resps"))
    texts, answers = ([one for one in some if isinstance(one, str)] for some in told)
    if not isinstance(row.get("target"), str):
        raise ResultsError(f"{place}: question {row.get('doc_id')}: has no gold answer")
    if not answers or (texts, answers) != told:
        raise ResultsError(f"{place}: question {row.get('doc_id')}: has no answers as texts")
    return SavedQuestion(row.get("target"), texts, answers, number(row.get("thinking_tokens")), mapping(row.get("doc")))


def _sum_up(results: Json, name: str, filter_name: str, values: Sequence[Any], rules: TaskRules) -> None:
    key, error = f"{name},{filter_name}", f"{name}_stderr,{filter_name}"
    if key in results:
        results[key] = AGGREGATIONS[rules.aggregation(name)](values)
    if number(results.get(error)) is not None and len(values) > 1:
        results[error] = standard_error(values)


def _free(path: Path) -> Path:
    """An unused name beside a file, for its copy."""
    number = 1
    while (found := path.with_name(f"{path.name}.grader-{number}")).exists():
        number += 1
    return found


Declared = Callable[[str], Mapping[str, object] | None]  # configuration of a task by name, if we have it


def regrade_run(source: Source, declared: Declared, *, write: bool) -> list[TaskRegrading]:
    """Regrade the tasks of a published run; with `write`, replaces it if a task was regraded.

    Raises:
        ResultsError: a task cannot be regraded; names the file and the task.
    """
    run, samples, outcomes = regraded(source, declared)
    if write and samples:
        folder = source.path.parent
        files: dict[Path, str | bytes] = {samples_path(folder, task): packed for task, packed in samples.items()}
        replace_together({**files, source.path: run_json(run)}, source.path)
    return outcomes


def regraded(source: Source, declared: Declared) -> tuple[Run, dict[str, bytes], list[TaskRegrading]]:
    """The run graded by the current grader, its new samples files by task, and the outcome for each of our tasks."""
    tasks, files, outcomes = dict(source.run.tasks), {}, []
    for name, task in source.run.tasks.items():
        if task.graded_by is None:
            continue
        config = declared(name)
        reason = why_kept(task.graded_by) or _why_not(source, name, config)
        if reason or config is None:
            outcomes.append(TaskRegrading(name, task.score, task.accuracy.value, kept_because=reason))
            continue
        before = source.samples(name)
        place = f"{source.path}: tasks.{name}"
        rows = _rows(before, rules_of(config, task.filter, place), place)
        tasks[name], files[name] = _summed_up(task, rows), pack(rows)
        changed = sum(old.score != new.score for old, new in zip(before, rows, strict=True))
        after = tasks[name].accuracy.value
        outcomes.append(TaskRegrading(name, task.score, task.accuracy.value, after, changed, len(rows)))
    hashes = {name: hashlib.sha256(packed).hexdigest() for name, packed in files.items()}
    run = source.run.model_copy(update={"tasks": tasks, "samples": {**source.run.samples, **hashes}})
    return run, files, outcomes


_PROGRAMS = "programs are run with their tests when they are evaluated"


def _why_not(source: Source, task: str, config: Mapping[str, object] | None) -> str:
    if is_gated(source, task):
        return f"gated, graded by version {source.run.tasks[task].graded_by}; its texts are not published"
    if task not in source.run.samples:
        return "its samples were not published"
    if source.run.tasks[task].kind == CodeRules.KIND:
        return _PROGRAMS
    return "" if config else "not a task of this registry; regrade its output folder and publish that"


def _rows(rows: Sequence[Sample], rules: TaskRules, place: str) -> list[Sample]:
    graded = graded_again([_kept_before(row, place) for row in rows], rules, place)
    return [_row(row, new) for row, new in zip(rows, graded, strict=True)]


def _kept_before(row: Sample, place: str) -> SavedQuestion:
    texts, answers = ([getattr(one, part) for one in row.outputs] for part in ("text", "answer"))
    if row.gold is None or not texts or None in texts or None in answers:
        raise ResultsError(f"{place}: question {row.id} has no gold answer, or a sample without text or answer")
    return SavedQuestion(row.gold, texts, answers, row.metrics.get("thinking_tokens"))


def _row(row: Sample, new: Graded) -> Sample:
    scores = {name: value for name, value in new.scores.items() if name in row.metrics}
    reasons = sequence(new.scores.get("graded")) or [_reason(answer, row.gold) for answer in new.answers]
    outputs = [
        one.model_copy(update={"answer": answer, "grade": reason})
        for one, answer, reason in zip(row.outputs, new.answers, reasons, strict=True)
    ]
    update = {"score": new.scores["acc"], "metrics": {**row.metrics, **scores}, "outputs": tuple(outputs)}
    return row.model_copy(update=update)


def _reason(letter: str, gold: str | None) -> str:
    return "correct" if letter == gold else "wrong" if letter else "no answer"


def _summed_up(task: TaskResult, rows: Sequence[Sample]) -> TaskResult:
    """The task with scores averaged from its samples."""
    metrics = {
        name: _mean(told, [row.metrics[name] for row in rows if name in row.metrics])
        for name, told in task.metrics.items()
    }
    if "graded" in metrics:
        compared = [fmean(one.grade in COMPARED for one in row.outputs) for row in rows]
        metrics["graded"] = _mean(task.metrics["graded"], compared)
    scores = tuple(row.score for row in rows)
    return task.model_copy(update={"metrics": metrics, "scores": scores, "grader_version": GRADER_VERSION})


def _mean(told: Score, values: Sequence[float]) -> Score:
    """The new mean; the old one if the samples lack the metric."""
    if not values:
        return told
    stderr = told.stderr if told.stderr is None or len(values) < 2 else standard_error(values)
    return Score(value=sum(values) / len(values), stderr=stderr)
