"""One model as it was evaluated: its runs, with samples of the same task from several sampling seeds put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lm_eval_ext.analysis.matching import OF_GRADER, Mismatch, differing, required
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.catalogue import Catalogue
from lm_eval_ext.runs.load import Source, load
from lm_eval_ext.runs.run import Run, Score, TaskResult
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.statistics.estimators import pass_at_k
from lm_eval_ext.wording import ranges

_POOLED = ("maj@", "g-pass@")  # means over runs: each is an unbiased estimate by itself


@dataclass(frozen=True)
class TaskScores:
    """Scores of one model on one task, by question.

    Attributes:
        name: of the variant that was asked for.
        task: what its runs call it: another name, if `--gen_kwargs` changed the thinking budget.
        result: the task's result in the first run that has it.
        run: that run.
        ids: of the questions, in order; empty if no samples were saved.
        samples: number of samples of each question.
        metrics: scores by metric, one per question each; `acc` is the task's accuracy.
        sources: the runs whose samples were put together.
    """

    name: str
    task: str
    result: TaskResult
    run: Run
    ids: tuple[int, ...]
    samples: int
    metrics: Mapping[str, tuple[float, ...]]
    sources: tuple[Source, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        """Accuracy by question."""
        return self.metrics["acc"]

    def mean(self, metric: str) -> float | None:
        """Mean of a metric over the runs; None if a run lacks it."""
        found = [one.run.tasks[self.task].value(metric) for one in self.sources]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known and len(known) == len(found) else None

    def rows(self) -> list[list[Sample]]:
        """The samples of each run by question, read from its file."""
        return [source.samples(self.task) for source in self.sources]


@dataclass(frozen=True)
class EvaluatedModel:
    """A model and its scores by task, under the name of the variant that was asked for."""

    label: str
    run: Run
    tasks: Mapping[str, TaskScores]


def read_model(given: Path | Run, catalogue: Catalogue) -> EvaluatedModel:
    """Read one model from a folder of results, a results file, or a published run; or take a run in memory.

    Runs that differ only in the sampling seed are put together; runs with the same seeds have the same samples and
    count once.

    Raises:
        ResultsError: the path holds no results, or those of several models; the message names them.
    """
    if isinstance(given, Run):
        sources = [Source(given.model_copy(update={"samples": {}}), Path(given.id), catalogue)]
    else:
        sources = load([given], catalogue, logs=True)
    by_model: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:
        by_model.setdefault(_model(source.run), []).append(source)
    if len(by_model) > 1:
        labels = "; ".join(f"{some[0].run.base}, {some[0].run.label} ({some[0].path})" for some in by_model.values())
        raise ResultsError(f"{given}: holds {len(by_model)} models: {labels}; name the folder or results file of one")
    run = sources[0].run
    return EvaluatedModel(_label(run), run, dict(_tasks(sources)))


def _label(run: Run) -> str:
    """Name of a model, with the numbers of the layers that it lacks."""
    if not run.dropped:
        return f"{run.base} {run.label}"
    return f"{run.base} {run.label} (layer{'s' if len(run.dropped) > 1 else ''} {ranges(run.dropped)})"


def _tasks(sources: Sequence[Source]) -> Iterator[tuple[str, TaskScores]]:
    """Scores by the name of the variant that was asked for; where several tasks were asked the same, those of one."""
    by_name: dict[str, dict[str, list[Source]]] = {}
    for source in sources:
        for task in source.run.tasks:
            by_name.setdefault(source.run.asked_name(task), {}).setdefault(task, []).append(source)
    for name, by_task in by_name.items():
        task = name if name in by_task else next(iter(by_task))
        yield name, _pooled(name, task, by_task[task])


def _model(run: Run) -> tuple[str, ...]:
    """What makes it another model; without a fingerprint, as in runs of stock model classes, its description."""
    if run.fingerprint:
        return (run.fingerprint, run.varied, *(run.settings.get(name, "") for name in ("protocol", "thinking")))
    left_out = run.pruning.left_out if run.pruning else ()
    return (run.base, run.base_revision, run.varied, str(left_out), run.dtype)


def _pooled(name: str, task: str, sources: Sequence[Source]) -> TaskScores:
    own = _distinct(task, [one for one in sources if task in one.run.samples] or sources[:1])
    first = own[0]
    result = first.run.tasks[task]
    rows = [source.samples(task) for source in own]
    if not all(rows):
        samples = 1 if is_greedy(result) else result.repeats
        return TaskScores(name, task, result, first.run, (), samples, {"acc": result.scores}, (first,))
    for source, some in zip(own, rows, strict=True):
        _refuse_unlike(task, first, source)
        if [row.hash for row in some] != [row.hash for row in rows[0]]:
            raise ResultsError(f"{source.path}: {name}: other questions than in {first.path}; they are no repetitions")
    counts = [source.run.tasks[task].repeats for source in own]
    ids = tuple(row.id for row in rows[0])
    samples = 1 if is_greedy(result) else sum(counts)  # greedy repetitions are all the same
    return TaskScores(name, task, result, first.run, ids, samples, _metrics(rows, counts), tuple(own))


def _refuse_unlike(task: str, first: Source, other: Source) -> None:
    differences = list(differing(*(required(source.run.tasks[task], source.run) for source in (first, other))))
    if differences:
        raise ResultsError(
            f"{other.path}: {task}: is no repetition of {first.path}, because of {'; '.join(map(str, differences))}; "
            "name the results file of one"
        )


def _distinct(name: str, sources: Sequence[Source]) -> list[Source]:
    """The runs with samples of their own."""
    kept = {id(run) for _, run in distinct((one.run.tasks[name], one.run) for one in sources)}
    return [one for one in sources if id(one.run) in kept]


def _metrics(rows: Sequence[Sequence[Sample]], counts: Sequence[int]) -> dict[str, tuple[float, ...]]:
    total = sum(counts)
    scores = [
        sum(row.score * count for row, count in zip(some, counts, strict=True)) / total
        for some in zip(*rows, strict=True)
    ]
    found = {"acc": tuple(scores)}
    names = set.intersection(*({*row.metrics} for some in rows for row in some))
    for name in sorted(names):
        if name.startswith(_POOLED) or len(rows) == 1:
            found[name] = _mean([[row.metrics[name] for row in some] for some in rows])
        elif name.startswith("pass@"):
            found[name] = tuple(pass_at_k(total, round(score * total), int(name[5:])) for score in scores)
    return found


def _mean(columns: Iterable[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sum(values) / len(values) for values in zip(*columns, strict=True))


Result = tuple[TaskResult, Run]


def distinct(results: Iterable[Result]) -> list[Result]:
    """The results with samples of their own: the first of each seed, and only one if the model was greedy."""
    found: dict[str, Result] = {}
    for task, run in results:
        found.setdefault("" if is_greedy(task) else _seed(run), (task, run))
    return list(found.values())


def is_greedy(task: TaskResult) -> bool:
    """Whether samples of a question are all the same; not where it isn't known."""
    asked = task.generation_kwargs
    if "temperature" in task.unknown:
        return False
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
    scores = tuple(_weighted_mean(some, weights) for some in zip(*(task.scores for task in tasks), strict=True))
    named = [name for name in tasks[0].metrics if all(name in task.metrics for task in tasks)]
    metrics = {name: _pooled_score([task.metrics[name] for task in tasks], weights) for name in named}
    repeats = tasks[0].repeats if tasks[0].votes else sum(weights)
    return tasks[0].model_copy(update={"scores": scores, "metrics": metrics, "repeats": repeats})


def _only_another_seed(first: Result, other: Result) -> bool:
    same = first[0].task_hash == other[0].task_hash and first[0].version == other[0].version
    return same and not any(differing(required(*first), required(*other)))


def _pooled_score(scores: Sequence[Score], weights: Sequence[int]) -> Score:
    errors = [score.stderr for score in scores if score.stderr is not None]
    return Score(
        value=_weighted_mean([score.value for score in scores], weights),
        stderr=_weighted_mean(errors, weights) if len(errors) == len(scores) else None,
    )


def _weighted_mean(values: Sequence[float], weights: Sequence[int]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def refusals(base: TaskScores, candidate: TaskScores, allowed: Sequence[str] = ()) -> Iterator[Mismatch]:
    """Differences because of which the scores of a task cannot be compared.

    Args:
        base, candidate: scores of the two models.
        allowed: names of requirements that may differ, or not be recorded.
    """
    found = differing(required(base.result, base.run), required(candidate.result, candidate.run))
    means = () if base.scores and candidate.scores else ("questions",)
    passed = {*allowed, *means, *(OF_GRADER if "grader" in allowed and (base.run.tool or candidate.run.tool) else ())}
    return (difference for difference in found if difference.what not in passed)
