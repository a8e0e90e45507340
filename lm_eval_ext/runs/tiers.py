"""Recomputes the scores of a published run from its samples, with the metrics that lm-eval calls.

Our tasks are regraded from the extracted answers, each of which must occur in its text. For gated tasks, whose texts
are not published, and for tasks that are not ours, the published grades and scores are averaged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from lm_eval_ext.choices import LETTERS
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.generation.request import Generation
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.grading.rules import TRACE
from lm_eval_ext.redaction import mapping, number
from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.logs.log import ROUNDED
from lm_eval_ext.runs.publish import Golds, RunFinding, is_gated, publish, shown_though_gated
from lm_eval_ext.runs.run import TIERS, Run, Score, TaskResult
from lm_eval_ext.runs.samples import Output, Sample, question_set, write_run
from lm_eval_ext.runs.task_results import compared_as
from lm_eval_ext.statistics.intervals import standard_error

CLOSE = 1e-6  # for means of means
_UNTOLD = ("unparsable", "timeout", "memory")  # grades that may differ between machines
_FIND = ("boxed", "declared", "concluded", "last_expression")
_MOST_MARKS = 20  # end markers considered per text


def recomputed(source: Source, golds: Golds | None = None, *, regrade: bool = True) -> Iterator[RunFinding]:
    """Claims of a run that its samples do not support; empty if every number follows from them.

    Args:
        source: the run.
        golds: gold answers of the runs before it; its own are added.
        regrade: regrade every answer; else scores are only averaged.
    """
    known = golds or Golds()
    for name, task in source.run.tasks.items():
        if name not in source.run.samples:
            continue
        try:
            rows = source.samples(name)
        except ResultsError as error:
            yield RunFinding(source.path, str(error))
            continue
        yield from shown_though_gated(source, name, rows)
        yield from known.contradicted(source, name, rows)
        faults = [*_added_up(task, rows, source.run.tool), *_beyond_its_budget(task, source.run)]
        if regrade and not faults and is_ours(name, task) and _today(source, name):
            faults = [*_complete(task, rows, is_gated(source, name))]
            faults = faults or [*_graded_again(task, rows, is_gated(source, name))]
        yield from (RunFinding(source.path, f"tasks.{name}: {fault}") for fault in faults[:1])


def _today(source: Source, name: str) -> bool:
    """Whether regrading must reproduce the published grades; for gated tasks, grades of any version are averaged."""
    return source.run.tasks[name].graded_by == GRADER_VERSION or is_gated(source, name)


def by_other_rules(source: Source, declared: Callable[[str], Mapping[str, object] | None]) -> Iterator[RunFinding]:
    """Tasks of the registry whose answers were compared in another way than the registry says.

    Args:
        source: a run.
        declared: the configuration of a task by name; None if the registry doesn't have it.
    """
    for name, task in source.run.tasks.items():
        config = declared(name)
        if config is None or not task.kind:
            continue
        wanted = compared_as(config)
        if (task.kind, dict(task.grading)) != (wanted.get("kind", "math"), wanted.get("grading", {})):
            text = f"kind={task.kind}, grading={task.grading}; expected {wanted or 'mathematics'}, as its task declares"
            yield RunFinding(source.path, f"tasks.{name}: {text}")


def by_another_chance(source: Source, declared: Callable[[str], Mapping[str, object] | None]) -> Iterator[RunFinding]:
    """Tasks of the registry with another score of guessing than the registry says; arguments as `by_other_rules`."""
    for name, task in source.run.tasks.items():
        wanted = number(mapping((declared(name) or {}).get("metadata")).get("chance"))
        if wanted is not None and (task.chance is None or abs(task.chance - wanted) > CLOSE):
            text = f"chance={task.chance}; expected {wanted}, as its task declares"
            yield RunFinding(source.path, f"tasks.{name}: {text}")


def highest_tier(source: Source, faults: Sequence[RunFinding]) -> Literal["reported", "verified"]:
    """`verified` if every score of ours follows from samples; scores of other tasks cannot be regraded.

    The same holds for a task that only the run itself declares gated, as anyone can claim that.
    """
    run = source.run
    ours = all(
        is_ours(name, task)
        and name in run.samples
        and _today(source, name)
        and is_gated(source, name) == source.catalogue.is_gated(name)
        for name, task in run.tasks.items()
    )
    return "verified" if ours and not faults else "reported"


def is_ours(name: str, task: TaskResult) -> bool:
    """Whether a task's scores come from our metrics."""
    return name.startswith("tts_") and task.graded_by is not None


def graded_by_another_version(source: Source, *, published_before: bool) -> Iterator[RunFinding]:
    """Tasks graded by another version: a warning, or an error if the version is unknown or a new run could be regraded.

    Args:
        source: a run.
        published_before: whether it was already published, when its version may have been the newest.
    """
    for name, task in source.run.tasks.items():
        version = task.graded_by or GRADER_VERSION
        if version > GRADER_VERSION:
            text = f"graded by version {version}; this lm-eval-tts supports versions up to {GRADER_VERSION}"
            yield RunFinding(source.path, f"tasks.{name}: {text}")
        elif version < GRADER_VERSION:
            can = name in source.run.samples and not is_gated(source, name)
            text = f"graded by version {version}, not comparable with the current version {GRADER_VERSION}"
            advice = f": lm-eval-tts leaderboard regrade {source.path.parent} --write" if can else ""
            yield RunFinding(source.path, f"tasks.{name}: {text}{advice}", warning=published_before or not can)


# Sums -------------------------------------------------------------------------------------------------------


def _added_up(task: TaskResult, rows: Sequence[Sample], tool: str) -> Iterator[str]:
    scores = [row.score for row in rows]
    if not rows or tuple(scores) != task.scores or question_set(rows) != task.question_set:
        yield "scores do not match its samples"
    elif len({row.id for row in rows}) < len(rows) or _repeated([row.hash for row in rows]):
        yield "a question appears twice in its samples"
    elif tool:  # which may round, and has a standard error of its own
        if abs(fmean(scores) - task.accuracy.value) > ROUNDED:
            yield f"{task.score}={task.accuracy.value} is {fmean(scores):.6f} when recomputed"
    else:
        yield from _mean(task.score, task.accuracy, scores)
        for name in (name for name in rows[0].metrics if name.startswith(("maj@", "pass@")) and name in task.metrics):
            yield from _mean(name, task.metrics[name], [row.metrics.get(name, 0.0) for row in rows])


def _beyond_its_budget(task: TaskResult, run: Run) -> Iterator[str]:
    """A run whose samples thought for longer, on average, than the budget that it claims."""
    thought = task.value("thinking_tokens")
    exact = run.settings.get("token_exact", "True") == "True"
    if exact and task.budget is not None and thought is not None and thought > task.budget + CLOSE:
        yield f"thinking_tokens={thought:g}, more than its budget of {task.budget}"


def _repeated(hashes: Sequence[str]) -> bool:
    return all(hashes) and len(set(hashes)) < len(hashes)


def _mean(name: str, told: Score, scores: Sequence[float]) -> Iterator[str]:
    """Check a reported mean and its standard error against scores."""
    if abs(fmean(scores) - told.value) > CLOSE * max(1.0, abs(told.value)):
        yield f"{name}={told.value} is {fmean(scores):.6f} when recomputed"
    elif told.stderr is not None and len(scores) > 1:
        stderr = standard_error(scores)
        if abs(stderr - told.stderr) > 1e-4 * max(1.0, stderr):
            yield f"{name}: standard error {told.stderr} is {stderr:.6f} when recomputed"


# Grades -----------------------------------------------------------------------------------------------------


def _complete(task: TaskResult, rows: Sequence[Sample], gated: bool) -> Iterator[str]:
    if any(len(row.outputs) != task.repeats for row in rows):
        yield f"repeats={task.repeats}, but not every question has that many samples"
    elif not gated:
        short = [row for row in rows if row.gold is None or any(_is_short(one) for one in row.outputs)]
        if short:
            yield f"question {short[0].id} has no gold answer, or a sample without text or answer"


def _is_short(output: Output) -> bool:
    return output.text is None or output.answer is None


def _graded_again(task: TaskResult, rows: Sequence[Sample], gated: bool) -> Iterator[str]:
    if not gated:
        yield from _not_in_their_texts(task, rows)
        yield from _graded_otherwise(task, rows)
    again = [_by_metric(task, row, gated) for row in rows]
    for name, told in task.metrics.items():
        scores = [one[name] for one in again if name in one]
        if len(scores) == len(rows):
            yield from _mean(name, told, scores)
        else:
            yield f"{name}={told.value}: cannot be computed from its samples"


def _not_in_their_texts(task: TaskResult, rows: Sequence[Sample]) -> Iterator[str]:
    usual = _answers([[one.text or "" for one in row.outputs] for row in rows], task, _FIND[:2])
    for row, answers in zip(rows, usual, strict=True):
        for output, answer in zip(row.outputs, answers, strict=True):
            others = _readings(output.text or "", task)
            if output.answer != answer and not any(output.answer == other for other in others):
                yield f"question {row.id}: the answer {str(output.answer)[:40]!r} is not found in its text"
                return


def _answers(
    questions: Sequence[Sequence[str]], task: TaskResult, find: Sequence[str], **options: object
) -> Sequence[Sequence[str]]:
    from lm_eval_ext.grading.kinds import KINDS
    from lm_eval_ext.grading.rules import Extractor

    made = KINDS[task.answers_as].EXTRACTOR
    options |= {"find": find} if issubclass(made, Extractor) else {}
    return made(**options).answers(questions)  # type: ignore[arg-type]  # its own options


def _readings(text: str, task: TaskResult) -> Iterator[str]:
    """Other possible answers of a text: by any of our rules, after any marker that ends the thinking.

    A model may also write such markers in its answer, or be cut before it writes one and then has no answer.
    """
    from lm_eval_ext.grading.extraction import final_answer
    from lm_eval_ext.grading.letters import chosen_letter, several_letters

    starts = [0, *(found.end() for end in _ends() for found in re.finditer(re.escape(end), text))]
    if len(starts) == 1:
        yield ""
    for start in starts[:_MOST_MARKS]:
        part = Generation(text, answer=text[start:])
        for find in (_FIND[:2], _FIND[:3], _FIND):
            yield from _answers([[part]], task, find)[0]
            if task.answers_as == "choice":
                yield chosen_letter(final_answer(part, find), LETTERS)
                yield several_letters(final_answer(part, find), LETTERS)
                yield from _answers([[part]], task, find, letters=LETTERS)[0]
                yield from _answers([[part]], task, find, letters=LETTERS, several=True)[0]


@cache
def _ends() -> tuple[str, ...]:
    from lm_eval_ext.thinking_formats import text_marks

    return tuple(sorted({end for marks in text_marks() for end in marks.ends}))


def _graded_otherwise(task: TaskResult, rows: Sequence[Sample]) -> Iterator[str]:
    pairs = [(row.gold or "", one.answer or "") for row in rows for one in row.outputs]
    right = iter([grade.correct for grade in task.rules.grades(pairs)])
    wrong = [
        row for row in rows
        if [one.grade == "correct" for one in row.outputs]
        != [next(right) and one.grade not in _UNTOLD for one in row.outputs]
    ]  # fmt: skip
    if wrong:
        yield f"{len(wrong)} of {len(rows)} questions are graded differently now, the first is question {wrong[0].id}"


# Metrics ----------------------------------------------------------------------------------------------------


def _by_metric(task: TaskResult, row: Sample, gated: bool) -> Mapping[str, Any]:
    """All metrics of a question that can be computed from its samples."""
    known = {name: value for name, value in row.metrics.items() if name in (*TRACE, "chance")}
    grades = [one.grade for one in row.outputs]
    known["graded"] = fmean(grade not in (*_UNTOLD, "not told") for grade in grades)
    return {**known, **(_from_grades(task, row) if gated else _from_answers(task, row))}


def _from_answers(task: TaskResult, row: Sample) -> Mapping[str, object]:
    from lm_eval_ext.metrics import FUNCTIONS

    shares = [float(found[1]) for name in task.metrics if (found := re.fullmatch(r"g-pass@\d+_([\d.]+)", name))]
    votes = any(name.startswith(("pass@", "maj@")) for name in task.metrics)
    answers = [one.answer or "" for one in row.outputs]
    return FUNCTIONS[task.rules.match_name()]([row.gold], [answers], votes=votes, g_pass=shares, **task.grading)


def _from_grades(task: TaskResult, row: Sample) -> Mapping[str, float]:
    """Metrics of a gated task; vote results come from the samples file, as answers are not published."""
    from lm_eval_ext.statistics.estimators import pass_at_k

    grades = [one.grade for one in row.outputs]
    right, samples = grades.count("correct"), len(grades)
    ks = [int(name[5:]) for name in task.metrics if name.startswith("pass@") and name[5:].isdecimal()]
    told = {name: value for name, value in row.metrics.items() if name.startswith(("maj@", "g-pass@"))}
    return {
        **told, "acc": right / samples, "answered": fmean(grade != "no answer" for grade in grades),
        **{f"pass@{k}": pass_at_k(samples, right, k) for k in ks if k <= samples},
    }  # fmt: skip


def add(source: Source, to: Path, tell: Callable[[object], None]) -> Source:
    """Publish a run below a folder; returns the published one.

    Args:
        source: the run.
        to: folder of published runs.
        tell: called with each finding, and with the folder and the tier.

    Raises:
        ResultsError: its folder already holds a different run.
    """
    for finding in graded_by_another_version(source, published_before=True):
        tell(finding)
    published = publish(source, to)
    faults = list(recomputed(published))
    tier = max(highest_tier(published, faults), published.run.tier, key=TIERS.index)
    write_run(published.run.model_copy(update={"tier": tier}), published.path.parent)
    for finding in faults:
        tell(finding)
    tell(f"{published.path.parent}: {tier}")
    return published
