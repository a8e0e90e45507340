"""What models answered so far: the score of each question, read from blocks of a gate and from whole runs."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lm_eval_ext.analysis.answer_costs import flops
from lm_eval_ext.analysis.evaluated import TaskScores, is_greedy, read_model, refusals
from lm_eval_ext.analysis.matching import Mismatch
from lm_eval_ext.analysis.pairing import pairs_of, same_benchmark
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.gating.gate_file import Population
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import Source, read_source
from lm_eval_ext.runs.run import Run, TaskResult
from lm_eval_ext.runs.samples import Sample

SIGNS = {"looped": "repeat themselves", "forced": "are cut at the budget", "unanswered": "have nothing to grade"}
_UNGRADED = ("no answer", "unparsable", "timeout", "memory")


class Asked(NamedTuple):
    """A question and what became of its samples.

    Attributes:
        hash: of the question.
        score: share of right samples, or the score of its vote.
        right: of each sample, whether it is right.
        tokens: of all samples together; 0 where nothing is generated.
        signs: by name in `SIGNS`, the share of samples.
    """

    hash: str
    score: float
    right: tuple[bool, ...]
    tokens: float
    signs: Mapping[str, float]


@dataclass(frozen=True)
class Answers:
    """What a model answered on a benchmark.

    Attributes:
        task: the benchmark.
        by_id: its questions, by their index in the dataset.
        of: number of questions in the whole benchmark.
        result, run: of the newest block, or of the whole run.
        scores: of the whole run; None of blocks.
    """

    task: str
    by_id: Mapping[int, Asked]
    of: int
    result: TaskResult
    run: Run
    scores: TaskScores | None = None

    @property
    def chance(self) -> float:
        """Accuracy of guessing; 0 where it is not known."""
        return self.result.guessing or 0.0

    @cached_property
    def samples(self) -> int:
        """Samples that every question has."""
        return min((len(one.right) for one in self.by_id.values()), default=0)

    @property
    def tokens(self) -> float:
        """Of all samples."""
        return sum(one.tokens for one in self.by_id.values())

    def only(self, questions: Collection[int]) -> Answers:
        """Those of some questions."""
        return replace(self, by_id={number: one for number, one in self.by_id.items() if number in questions})

    @property
    def tokens_of_an_answer(self) -> float | None:
        """Mean over samples; None where nothing is generated."""
        count = sum(len(one.right) for one in self.by_id.values())
        return self.tokens / count if count and self.tokens else None

    @property
    def flops_of_an_answer(self) -> float | None:
        """Floating-point operations of an answer of mean length; None if a size is not known."""
        return None if (tokens := self.tokens_of_an_answer) is None else flops(tokens, self.run.costs)

    def units(self, order: Sequence[int], population: Population) -> list[tuple[float, ...]]:
        """The scores of each unit: of each question in an order, until one is missing; or of each round of all."""
        if population == "these questions":
            if any(question not in self.by_id for question in order):
                return []
            return [tuple(float(self.by_id[one].right[number]) for one in order) for number in range(self.samples)]
        found: list[tuple[float, ...]] = []
        for question in order:
            if question not in self.by_id:
                break
            found.append((self.by_id[question].score,))
        return found


def order_of(task: str, questions: Iterable[int], seed: int) -> list[int]:
    """The order in which questions are asked, fixed by the seed and the same for all models."""
    generator = np.random.default_rng([seed, zlib.crc32(task.encode())])
    return [int(one) for one in generator.permutation(sorted(questions))]


def read_block(file: Path, task: str) -> Answers:
    """Read a finished block of a benchmark.

    Raises:
        ResultsError: it can't be read.
    """
    source = read_source(file, read_catalogue(), in_part=True)
    result = source.run.tasks[task]
    return Answers(task, {sample.id: _asked(sample) for sample in source.samples(task)}, result.of, result, source.run)


def of_blocks(blocks: Sequence[Answers]) -> Answers:
    """What the blocks of a benchmark hold together, in their order: later rounds contain the earlier ones."""
    return replace(blocks[-1], by_id={number: asked for block in blocks for number, asked in block.by_id.items()})


def of_results(folder: Path, tasks: Sequence[str]) -> dict[str, Answers]:
    """What whole runs of a model hold, by benchmark.

    Raises:
        ResultsError: they hold several models, or lack a benchmark or its samples.
    """
    model = read_model(folder, read_catalogue())
    found = {}
    for task in tasks:
        alike = [one for name, one in model.tasks.items() if model.run.tool and same_benchmark(name, task)]
        scores = model.tasks.get(task) or next(iter(alike), None)
        if scores is None:
            raise ResultsError(f"{folder}: has no results of {task}; there are those of {', '.join(model.tasks)}")
        by_id = _pooled(scores)
        if not by_id:
            raise ResultsError(f"{folder}: {task}: has no samples of its questions; run it with --log_samples")
        found[task] = Answers(task, by_id, scores.result.of, scores.result, scores.run, scores)
    return found


def _pooled(scores: TaskScores) -> dict[int, Asked]:
    """The questions of runs with several seeds, each with all of its samples."""
    merged: dict[int, Asked] = {}
    for rows in scores.rows():
        for sample in rows:
            new, old = _asked(sample), merged.get(sample.id)
            merged[sample.id] = new if old is None else _joined(old, new)
    return merged


def _joined(one: Asked, other: Asked) -> Asked:
    first, second = max(1, len(one.right)), max(1, len(other.right))

    def mean(a: float, b: float) -> float:
        return (a * first + b * second) / (first + second)

    signs = {name: mean(one.signs[name], other.signs[name]) for name in one.signs if name in other.signs}
    right = one.right + other.right
    return Asked(one.hash, mean(one.score, other.score), right, one.tokens + other.tokens, signs)


def _asked(sample: Sample) -> Asked:
    grades = [output.grade for output in sample.outputs]
    right = tuple(grade == "correct" for grade in grades) or (sample.score >= 0.5,)
    right = () if "not told" in grades else right  # as where one score is of all samples together
    tokens = sum(sample.metrics.get(name, 0.0) for name in ("thinking_tokens", "answer_tokens"))
    signs: dict[str, float] = {name: sample.metrics[name] for name in SIGNS if name in sample.metrics}
    if grades:
        signs["unanswered"] = sum(grade in _UNGRADED for grade in grades) / len(grades)
    return Asked(sample.hash, sample.score, right, tokens * len(right), signs)


def renumbered(base: Answers, candidate: Answers, name: str) -> Answers:
    """A candidate's answers under the base's numbers of the questions, where another tool asked one of them.

    Raises:
        ResultsError: the questions can't be paired by their texts, or one of the two is evaluated by the gate.
    """
    if not (base.run.tool or candidate.run.tool):
        return candidate
    if base.scores is None or candidate.scores is None:
        raise ResultsError(
            f"{name}: {base.task}: a log of {base.run.tool or candidate.run.tool} numbers its questions in its own "
            "way; give results of both, the base and the candidates"
        )
    try:
        pairs = pairs_of(base.scores, candidate.scores)
    except ResultsError as error:
        raise ResultsError(f"{name}: {base.task}: {error}") from error
    numbers, others = list(base.by_id), list(candidate.by_id)
    by_id = {
        numbers[ours]: candidate.by_id[others[theirs]]._replace(hash=base.by_id[numbers[ours]].hash)
        for ours, theirs in zip(pairs.base, pairs.candidate, strict=True)
    }
    return replace(candidate, by_id=by_id)


def refuse_unlike(base: Answers, candidate: Answers, name: str, allowed: Sequence[str] = ()) -> None:
    """Refuse to compare what was asked differently.

    Args:
        base, candidate: the answers.
        name: of the candidate.
        allowed: what may differ, or not be recorded.

    Raises:
        ResultsError: other questions, budgets, sampling or grader; the message says which.
    """
    for question, asked in candidate.by_id.items():
        other = base.by_id.get(question)
        if other is not None and other.hash != asked.hash:
            raise ResultsError(f"{name}: {base.task}: question {question} is another one than the base's")
    differences = [str(one) for one in differences_of(base, candidate, allowed)]
    if differences:
        raise ResultsError(f"{name}: {base.task}: can't be compared with the base, because of {'; '.join(differences)}")


def differences_of(base: Answers, candidate: Answers, allowed: Sequence[str] = ()) -> list[Mismatch]:
    """What was asked differently of two models, but for the questions, without what is allowed."""
    return [one for one in refusals(_as_scores(base), _as_scores(candidate), allowed) if one.what != "questions"]


def _as_scores(answers: Answers) -> TaskScores:
    source = Source(answers.run, Path(answers.run.id), read_catalogue())
    scores = {"acc": answers.result.scores}
    return TaskScores(answers.task, answers.task, answers.result, answers.run, (), 1, scores, (source,))


def refuse_greedy(answers: Answers) -> None:
    """Refuse rounds of a benchmark whose samples are all the same, or vote.

    Raises:
        ResultsError: it is greedy, or its samples vote.
    """
    if answers.result.votes:
        raise ResultsError(
            f"{answers.task}: its samples vote, so one more is no new round; use the benchmark itself, or `for: new "
            "questions`"
        )
    if answers.by_id and not answers.samples:
        raise ResultsError(
            f"{answers.task}: its samples were not graded one by one, so they make no rounds; use `for: new questions`"
        )
    if is_greedy(answers.result):
        raise ResultsError(
            f"{answers.task}: is decoded greedily, so every round is the same; use `for: new questions`, or a "
            "temperature in gen_kwargs"
        )
