"""Puts the results of one model with several sampling seeds together: each seed is a set of samples of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lm_eval_ext.analysis.matching import differing, required
from lm_eval_ext.runs.run import Run, Score, TaskResult

Result = tuple[TaskResult, Run]


def distinct(results: Iterable[Result]) -> list[Result]:
    """The results with samples of their own: the first of each seed, and only one if the model was greedy."""
    found: dict[str, Result] = {}
    for task, run in results:
        found.setdefault("" if is_greedy(task) else _seed(run), (task, run))
    return list(found.values())


def is_greedy(task: TaskResult) -> bool:
    """Whether samples of a question are all the same."""
    asked = task.generation_kwargs
    if "do_sample" in asked:
        return not asked["do_sample"]
    temperature = asked.get("temperature")
    return not (isinstance(temperature, (int, float)) and temperature > 0)


def _seed(run: Run) -> str:
    """The seed of the samples; in runs from before it was recorded, and of stock model classes, all seeds."""
    return run.settings.get("seed") or str(sorted(run.seeds.items(), key=str))


def pooled(results: Sequence[Result]) -> TaskResult:
    """One result with the samples of all seeds: scores by question and metrics are means, weighted by samples.

    The standard error of a metric is the mean of the single ones, which is an upper bound. What votes keeps its number
    of samples, because that is how many vote.

    Args:
        results: of one model on one task, the one to go by first; those that differ from it in more than the seed, or
            have no scores by question, are left out.

    >>> from lm_eval_ext.runs.run import Score
    >>> def result(*scores): return TaskResult(
    ...     benchmark="t", score="acc", metrics={"acc": Score(value=sum(scores) / len(scores))}, questions=len(scores),
    ...     of=len(scores), repeats=1, generation_kwargs={"do_sample": True}, scores=scores)
    >>> def run(seed): return Run(
    ...     id="r", date="2026-01-01T00:00:00Z", base="b", engine="hf", tasks={"t": result(0.0)}, seeds={"seed": seed})
    >>> found = pooled([(result(1.0, 0.0), run(0)), (result(1.0, 1.0), run(1)), (result(0.0, 0.0), run(1))])
    >>> found.scores, found.metrics["acc"].value, found.repeats
    ((1.0, 0.5), 0.75, 2)
    """
    first = results[0]
    usable = [one for one in results if one[0].scores and _only_another_seed(first, one)]
    tasks = [task for task, _ in distinct(usable)]
    if len(tasks) < 2:
        return first[0]
    weights = [task.repeats for task in tasks]
    scores = tuple(_mean(some, weights) for some in zip(*(task.scores for task in tasks), strict=True))
    named = [name for name in tasks[0].metrics if all(name in task.metrics for task in tasks)]
    metrics = {name: _pooled_score([task.metrics[name] for task in tasks], weights) for name in named}
    repeats = tasks[0].repeats if tasks[0].votes else sum(weights)
    return tasks[0].model_copy(update={"scores": scores, "metrics": metrics, "repeats": repeats})


def _only_another_seed(first: Result, other: Result) -> bool:
    pairs = zip(required(*first), required(*other), strict=True)
    same = first[0].task_hash == other[0].task_hash and first[0].version == other[0].version
    return same and not any(found for pair in pairs for found in differing(*pair))


def _pooled_score(scores: Sequence[Score], weights: Sequence[int]) -> Score:
    errors = [score.stderr for score in scores if score.stderr is not None]
    return Score(
        value=_mean([score.value for score in scores], weights),
        stderr=_mean(errors, weights) if len(errors) == len(scores) else None,
    )


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
