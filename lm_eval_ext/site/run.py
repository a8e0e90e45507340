"""A published run: one model, whole or pruned, on some tasks. `run.json` holds one; its JSON Schema is published.

What is in it may come from anyone: sizes are bounded, numbers are finite, names of files are plain.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lm_eval_ext.errors import ResultsError

SCHEMA_VERSION: Literal[1] = 1
RUN_FILE = "run.json"

Name = Annotated[str, Field(min_length=1, max_length=200)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,119}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Layer = Annotated[int, Field(ge=0, lt=10_000)]
Tier = Literal["reported", "verified", "reproduced"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(_Part):
    """A metric's mean over questions, and its standard error."""

    value: Number
    stderr: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None


class TaskResult(_Part):
    """What a run scored on one task.

    Attributes:
        benchmark: the task without its variant, as `tts_aime24` of `tts_aime24_b512`.
        budget: thinking tokens; None where there was no limit.
        filter: lm-eval's, by which answers were found.
        metrics: by name; `score` names the one that is the task's accuracy.
        questions, of: evaluated, and in the whole benchmark; fewer are a partial run, which is not ranked.
        repeats: samples a question.
        question_set: hash of the questions and their order. Scores of two runs pair if they have the same.
        scores: accuracy by question, in that order; empty where no samples were kept.
    """

    benchmark: Slug
    budget: Annotated[int | None, Field(gt=0)] = None
    filter: Annotated[str, Field(max_length=100)] = "none"
    score: Name
    metrics: dict[Name, Score]
    questions: Annotated[int, Field(gt=0)]
    of: Annotated[int, Field(gt=0)]
    repeats: Annotated[int, Field(gt=0)] = 1
    dataset: Annotated[str, Field(max_length=300)] = ""
    version: Annotated[str, Field(max_length=50)] = ""
    task_hash: Annotated[str, Field(pattern="^[0-9a-f]{0,64}$")] = ""
    sampling: Annotated[str, Field(max_length=300)] = ""
    question_set: Annotated[str, Field(pattern="^[0-9a-f]{0,64}$")] = ""
    scores: tuple[Share, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> TaskResult:
        if self.score not in self.metrics:
            raise ValueError(f"score={self.score!r}; allowed: one of the metrics, {', '.join(self.metrics)}")
        if self.scores and len(self.scores) != self.questions:
            raise ValueError(f"{len(self.scores)} scores of {self.questions} questions")
        return self

    @property
    def partial(self) -> bool:
        """Whether questions were left out."""
        return self.questions < self.of

    @property
    def accuracy(self) -> Score:
        """The task's accuracy."""
        return self.metrics[self.score]

    def value(self, metric: str) -> float | None:
        """A metric's value, or None if the run has none of that name."""
        return self.metrics[metric].value if metric in self.metrics else None


class Pruning(_Part):
    """Which layers of the base went, and who chose them."""

    method: Name
    source: Annotated[str, Field(max_length=500)] = ""
    depth: Annotated[int, Field(gt=0, lt=10_000)]
    dropped: Annotated[tuple[Layer, ...], Field(description="layers of the base that are gone, ascending")] = ()
    merged: Annotated[dict[str, tuple[Layer, ...]], Field(description="layer: what was merged into it")] = Field(
        default_factory=dict
    )
    layer_scores: tuple[Number | None, ...] = ()
    parameters_before: Annotated[int, Field(ge=0)] = 0
    parameters_after: Annotated[int, Field(ge=0)] = 0
    recipe_hash: Annotated[str, Field(pattern="^[0-9a-f]{0,64}$")] = ""
    recovered: Annotated[str, Field(max_length=500, description="how the model was trained further")] = ""

    @model_validator(mode="after")
    def _of_the_base(self) -> Pruning:
        if any(layer >= self.depth for layer in self.dropped) or len(set(self.dropped)) != len(self.dropped):
            raise ValueError(f"dropped={list(self.dropped)}; allowed: different layers of 0 to {self.depth - 1}")
        return self


class Run(_Part):
    """One evaluation, as published."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: Slug
    tier: Tier = "reported"
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    base: Annotated[str, Field(min_length=1, max_length=200, description="Hub name of the whole model")]
    revision: Annotated[str, Field(max_length=100)] = ""
    fingerprint: Annotated[str, Field(max_length=64)] = ""
    engine: Annotated[str, Field(max_length=100, description="lm-eval's --model")]
    dtype: Annotated[str, Field(max_length=50)] = ""
    pruning: Pruning | None = None
    tasks: Annotated[dict[Slug, TaskResult], Field(min_length=1)]
    generation: dict[Name, Number] = Field(default_factory=dict)
    seconds: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    seeds: dict[Name, int | None] = Field(default_factory=dict)
    software: dict[Name, Annotated[str, Field(max_length=200)]] = Field(default_factory=dict)
    command: Annotated[str, Field(max_length=4000)] = ""
    samples: Annotated[
        dict[Slug, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]],
        Field(description="SHA-256 of samples/TASK.jsonl.gz"),
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _samples_of_tasks(self) -> Run:
        if unknown := set(self.samples) - set(self.tasks):
            raise ValueError(f"samples of {min(unknown)!r}, which is no task of the run")
        return self

    @property
    def dropped(self) -> tuple[int, ...]:
        """Layers that are gone."""
        return self.pruning.dropped if self.pruning else ()

    @property
    def dense(self) -> bool:
        """Whether it is the whole base model, not trained further."""
        return not self.dropped and not (self.pruning and self.pruning.recovered)

    @property
    def label(self) -> str:
        """What tells it from other runs of its base."""
        if self.dense:
            return "dense"
        assert self.pruning is not None
        label = f"{self.pruning.method} -{len(self.dropped)}"
        return f"{label}, recovered" if self.pruning.recovered else label

    @property
    def partial(self) -> bool:
        """Whether any task was evaluated on fewer questions than it has."""
        return any(task.partial for task in self.tasks.values())


def read_run(path: Path) -> Run:
    """A `run.json`.

    Raises:
        ResultsError: names the file, the field, its value and what is allowed.
    """
    content = read_json(path)
    found = content.get("schema_version")
    if found != SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: schema_version={found!r}; allowed: {SCHEMA_VERSION} (a newer file needs a newer lm-eval-tts)"
        )
    return validated(content, path)


def validated(content: dict[str, Any], path: Path) -> Run:
    """The run that a dictionary holds; `path` is where it comes from.

    Raises:
        ResultsError: as `read_run`.
    """
    try:
        return Run.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise ResultsError(f"{path}: {field}={_brief(fault['input'])}: {fault['msg']}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ResultsError: the file is none.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path}: holds a {type(content).__name__}; allowed: a JSON object")
    return content


def write_run(run: Run, folder: Path) -> Path:
    """Write `run.json` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN_FILE
    path.write_text(run.model_dump_json(indent=1, exclude_defaults=False) + "\n", encoding="utf-8")
    return path


def _brief(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
