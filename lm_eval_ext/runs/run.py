"""A published run, stored in a `run.json`: one model, dense or pruned, on some tasks. Its JSON Schema is published.

Its content may come from anyone, so sizes are bounded, numbers finite, file names plain, and texts free of control
characters.
"""

from __future__ import annotations

import ast
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, JsonValue, field_validator, model_validator

from lm_eval_ext.declared import Declared
from lm_eval_ext.generation.request import canonical
from lm_eval_ext.grading.kinds import KINDS
from lm_eval_ext.grading.rules import Rules
from lm_eval_ext.harness.arguments import parse_model_args
from lm_eval_ext.harness.effects import effect
from lm_eval_ext.redaction import line
from lm_eval_ext.statistics.intervals import Interval, interval_from_stderr, mean_interval
from lm_eval_ext.wording import number_listed

if TYPE_CHECKING:
    import pandas


SCHEMA_VERSION: Literal[1] = 1
_SHOWN = 8  # tasks in one line about a run
_LONGEST = 10_000  # characters of the options of a comparison, or of the generation arguments
_ONE_LINE = r"^[^\x00-\x1f\x7f\u2028\u2029\ufffe\uffff]*$"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_ONE_LINE)]
Line = Annotated[str, Field(max_length=500, pattern=_ONE_LINE)]
Arguments = dict[Name, JsonValue]
_SLUG = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,119}$"
Slug = Annotated[str, Field(pattern=_SLUG)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{0,64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Layer = Annotated[int, Field(ge=0, lt=10_000)]
Tier = Literal["reported", "verified", "reproduced"]
TIERS: tuple[Tier, ...] = get_args(Tier)

# Generation arguments that are a control: is a loss only repetition, does waiting help?
_CONTROLLING = {"repetition_penalty", "wait_count", "wait_text"}
_PAIR = re.compile(r"(\w+)=([^,]*)")  # in generation arguments of runs before they had fields for it
_SAID = re.compile(r"(\w+)=(.*?)(?=, \w+=|$)")  # likewise, in what they said was changed

_VARIANT = re.compile(r"^(?P<benchmark>tts_.+?)_(?:b(?P<budget>\d{1,9})|(?P<votes>maj\d+))$")


class Score(Declared):
    """A metric's mean over questions, and its standard error."""

    value: Number
    stderr: Annotated[float | None, Field(ge=0, le=1e15, allow_inf_nan=False)] = None


class TaskResult(Declared):
    """Result of a run on one task.

    Attributes:
        benchmark: the task without its variant, such as `tts_aime24` for `tts_aime24_b512`.
        budget: thinking tokens that were asked for, also if `--gen_kwargs` asked for others than the task's name says;
            None if unlimited.
        votes: whether it is a variant in which several samples vote.
        filter: the lm-eval filter that extracted the answers.
        metrics: by name; `score` names the one used as the task's accuracy.
        questions, of: number evaluated, and in the whole benchmark; if fewer, the run is partial and not ranked.
        repeats: samples per question.
        shots: worked examples in the prompt.
        chat_template: whether lm-eval was told to apply one; our thinking tasks always do.
        gated: whether its questions must not be shown.
        grader_version: of our grader; None for other tasks, and for results from before versions were recorded.
        generation_kwargs: what lm-eval passed to the model: the task's own generation arguments, changed by
            `--gen_kwargs`, under our names.
        question_set: hash of the questions and their order. Scores of two runs can be paired if it is the same.
        scores: accuracy by question, in that order; empty if no samples were saved.
        chance: accuracy of guessing; None if it is not known.
        parts: by column of the dataset, the value of each question, in the order of `scores`.
        kind: kind of its answers, one of `grading.kinds.KINDS`; empty for mathematics, and in older runs.
        grading: the options by which they were compared.
        sandbox: how programs were confined, and which Python ran them; empty for other answers.
        unknown: settings that the log of another tool doesn't record.
    """

    benchmark: Slug
    budget: Annotated[int | None, Field(gt=0, lt=1 << 53)] = None
    votes: bool = False
    filter: Annotated[str, Field(max_length=100, pattern=_ONE_LINE)] = "none"
    score: Name
    metrics: dict[Name, Score]
    questions: Annotated[int, Field(gt=0)]
    of: Annotated[int, Field(gt=0)]
    repeats: Annotated[int, Field(gt=0)] = 1
    shots: Annotated[int, Field(ge=0)] = 0
    chat_template: bool = False
    gated: bool = False
    dataset: Line = ""
    version: Annotated[str, Field(max_length=50, pattern=_ONE_LINE)] = ""
    task_hash: Hash = ""
    generation_kwargs: dict[Name, JsonValue] = Field(default_factory=dict)
    grader_version: Annotated[int | None, Field(ge=1, lt=10_000)] = None
    question_set: Hash = ""
    scores: Annotated[tuple[Share, ...], Field(repr=False)] = ()
    chance: Share | None = None
    parts: dict[Name, tuple[Line, ...]] = Field(default_factory=dict, repr=False)
    kind: Annotated[str, Field(pattern="^[a-z]{0,20}$")] = ""
    grading: dict[Name, JsonValue] = Field(default_factory=dict)
    sandbox: Line = ""
    unknown: tuple[Name, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, fields: object) -> object:
        """Read generation arguments from the text in which runs had them before; the budget is the one in there."""
        if not isinstance(fields, Mapping) or "sampling" not in fields:
            return fields
        arguments = {name: _literal(value) for name, value in _PAIR.findall(str(fields["sampling"]))}
        current = {name: value for name, value in fields.items() if name != "sampling"}
        return {**current, "budget": asked_budget(arguments, current.get("budget")), "generation_kwargs": arguments}

    @model_validator(mode="after")
    def _fits(self) -> TaskResult:
        if self.kind and self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r}; expected one of: {', '.join(KINDS)}")
        for name in ("grading", "generation_kwargs"):
            if len(json.dumps(getattr(self, name))) > _LONGEST:
                raise ValueError(f"{name}: is longer than {_LONGEST} characters")
        if (asked := asked_budget(self.generation_kwargs, self.budget)) != self.budget:
            raise ValueError(f"budget={self.budget}; expected the one in generation_kwargs, {asked}")
        _ = self.rules  # an unknown option is an error
        if self.score not in self.metrics:
            raise ValueError(f"score={self.score!r}; expected one of the metrics: {', '.join(self.metrics)}")
        if not 0 <= self.accuracy.value <= 1:
            raise ValueError(f"metrics.{self.score}={self.accuracy.value}; expected an accuracy from 0 to 1")
        if self.scores and len(self.scores) != self.questions:
            raise ValueError(f"{len(self.scores)} scores for {self.questions} questions")
        if column := next((name for name, values in self.parts.items() if len(values) != len(self.scores)), None):
            raise ValueError(f"parts.{column}: {len(self.parts[column])} values for {len(self.scores)} scores")
        return self

    @property
    def answers_as(self) -> str:
        """Kind of the answers; older runs of multiple choice don't say it, but have no reasons of grades."""
        return self.kind or ("math" if "graded" in self.metrics else "choice")

    @property
    def rules(self) -> Rules:
        """The rules by which answers were compared."""
        return KINDS[self.answers_as].of(dict(self.grading))

    @property
    def asked(self) -> str:
        """The generation arguments as text."""
        return ", ".join(f"{name}={value}" for name, value in sorted(self.generation_kwargs.items()))

    @property
    def partial(self) -> bool:
        """Whether questions were left out."""
        return self.questions < self.of

    @property
    def accuracy(self) -> Score:
        """The task's accuracy."""
        return self.metrics[self.score]

    @property
    def graded_by(self) -> int | None:
        """Version of our grader, 1 if none was recorded; None for tasks that are not ours."""
        ours = self.score == "acc" and {"acc", "answered"} <= self.metrics.keys()
        return (self.grader_version or 1) if ours else None

    @property
    def guessing(self) -> float | None:
        """Accuracy of guessing: as recorded, and 0 for a free-form answer; None if it is not known."""
        if self.chance is not None:
            return self.chance
        free = "graded" in self.metrics and self.kind != "choice"
        return 0.0 if free or self.score == "exact_match" else None

    def value(self, metric: str) -> float | None:
        """A metric's value; None if the run doesn't have it."""
        return self.metrics[metric].value if metric in self.metrics else None


_RANGES = r"^\d{1,5}(-\d{1,5})?(\+\d{1,5}(-\d{1,5})?)*$"  # such as 0-2+7


class Pruning(Declared):
    """What was done to the base: which layers were dropped, merged or mapped, and how its weights were quantized."""

    method: Name
    source: Line = ""
    depth: Annotated[int, Field(gt=0, lt=10_000)]
    dropped: Annotated[tuple[Layer, ...], Field(description="dropped layers of the base, ascending")] = ()
    dropped_attention: Annotated[tuple[Layer, ...], Field(description="layers whose attention is left out")] = ()
    dropped_mlp: Annotated[tuple[Layer, ...], Field(description="layers whose feed-forward network is left out")] = ()
    dropped_experts: Annotated[
        dict[Annotated[str, Field(pattern=r"^\d{1,4}$")], Annotated[str, Field(pattern=_RANGES)]],
        Field(description="layer: its dropped experts, such as `0-2+7`"),
    ] = Field(default_factory=dict)
    experts: Annotated[int, Field(ge=0, description="experts of the base, over all layers; 0 if none are dropped")] = 0
    merged: Annotated[dict[Name, tuple[Layer, ...]], Field(description="layer: the layers merged into it")] = Field(
        default_factory=dict
    )
    linear_map: Annotated[
        str, Field(pattern=r"^(\d+:[0-9a-f]{64})?$", description="layer before the map: SHA-256 of its matrix")
    ] = ""
    sparsity: Annotated[
        str,
        Field(
            pattern=r"^((\d+(\.\d+)?%|\d+of\d+):[0-9a-f]{64})?$",
            description="how many weights are zero, such as `20%` or `2of4`: SHA-256 of what says which",
        ),
    ] = ""
    zero_weights: Annotated[int, Field(ge=0, description="number of weights that are zero")] = 0
    layer_scores: tuple[Number | None, ...] = ()
    parameters_before: Annotated[int, Field(ge=0)] = 0
    parameters_after: Annotated[int, Field(ge=0)] = 0
    recipe_hash: Hash = ""
    recovered: Annotated[Line, Field(description="how the model was trained further")] = ""
    checkpoint: Annotated[Line, Field(description="Hub name of what was loaded, if it was made from the base")] = ""
    relation: Annotated[Line, Field(description="how the checkpoint was made: quantized, pruned, distilled, ...")] = ""
    quantization: Annotated[Line, Field(description="method by which the weights are quantized")] = ""
    bits: Annotated[float | None, Field(gt=0, le=64, description="bits of a weight, in the mean")] = None
    weight_bytes: Annotated[int | None, Field(gt=0, description="bytes of all weights, as they are stored")] = None

    @property
    def left_out(self) -> tuple[object, ...]:
        """All that was dropped or set to zero: what tells models with the same base apart."""
        experts = tuple(sorted(self.dropped_experts.items()))
        return self.dropped, self.dropped_attention, self.dropped_mlp, experts, self.sparsity

    @property
    def zeros(self) -> str:
        """How many weights are zero: `20%`, `2of4`, or nothing."""
        return self.sparsity.partition(":")[0]

    @property
    def gone(self) -> float | None:
        """The share of the base's parameters that are dropped, or zero; None if it isn't known.

        Of zeros in dropped layers nothing is known, so it isn't where both were done.
        """
        before, dropped = self.parameters_before, self.parameters_before - self.parameters_after
        if not before or (dropped and self.zeros) or not (0 <= dropped < before):
            return None
        return (dropped + self.zero_weights) / before

    @property
    def counts(self) -> dict[str, int]:
        """How much was dropped, where anything was: `{"layers": 2, "attention": 4, "mlp": 1, "experts": 12}`."""
        kinds = {"layers": self.dropped, "attention": self.dropped_attention, "mlp": self.dropped_mlp}
        found = {kind: len(layers) for kind, layers in kinds.items() if layers}
        experts = sum(map(number_listed, self.dropped_experts.values()))
        return found | ({"experts": experts} if experts else {})

    @field_validator("dropped")
    @classmethod
    def _ascending(cls, dropped: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(dropped))

    @model_validator(mode="after")
    def _of_the_base(self) -> Pruning:
        if any(layer >= self.depth for layer in self.dropped) or len(set(self.dropped)) != len(self.dropped):
            raise ValueError(f"dropped={list(self.dropped)}; expected distinct layers from 0 to {self.depth - 1}")
        return self


class Run(Declared):
    """One evaluation, as published."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: Slug
    tier: Tier = "reported"
    date: Annotated[
        str, Field(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?$", description="UTC; empty if it isn't known")
    ]
    base: Annotated[Name, Field(description="Hub name of the base model")]
    revision: Annotated[str, Field(max_length=100, pattern=_ONE_LINE)] = ""
    changed: Annotated[
        Arguments, Field(description="other changes to the model, such as load_in_4bit or the checkpoint's name")
    ] = Field(default_factory=dict)
    controls: Annotated[
        Arguments, Field(description="model arguments that change how the model is run, such as thinking")
    ] = Field(default_factory=dict)
    system_instruction: Line = ""
    gen_kwargs: Annotated[
        dict[Name, JsonValue],
        Field(description="lm-eval's `--gen_kwargs`, which change what every task asks for"),
    ] = Field(default_factory=dict)
    fingerprint: Hash = ""
    engine: Annotated[str, Field(max_length=100, pattern=_ONE_LINE, description="lm-eval's --model")]
    tool: Annotated[Line, Field(description="what evaluated and scored it, if it isn't lm-eval")] = ""
    dtype: Annotated[str, Field(max_length=50, pattern=_ONE_LINE)] = ""
    pruning: Pruning | None = None
    tasks: Annotated[dict[Slug, TaskResult], Field(min_length=1)]
    generation: dict[Name, Number] = Field(default_factory=dict)
    seconds: Annotated[float | None, Field(ge=0, le=1e12, allow_inf_nan=False)] = None
    seeds: dict[Name, int | None] = Field(default_factory=dict)
    software: dict[Name, Line] = Field(default_factory=dict)
    settings: Annotated[
        dict[Name, Line], Field(description="what affects the samples: thinking format, chat template, protocol")
    ] = Field(default_factory=dict)
    costs: Annotated[
        dict[Name, Number], Field(description="what a token costs: active parameters, layers, heads, bytes")
    ] = Field(default_factory=dict)
    model_args: Annotated[Arguments, Field(description="lm-eval's `--model_args`, as far as they may be published")] = (
        Field(default_factory=dict)
    )
    command: Annotated[str, Field(max_length=4000, pattern=_ONE_LINE, description="to be shown")] = ""
    samples: Annotated[
        dict[Slug, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]],
        Field(description="SHA-256 of samples/TASK.jsonl.gz"),
    ] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, fields: object) -> object:
        """Read what runs had as text before: changes, controls and generation arguments, and what the command says."""
        if not isinstance(fields, Mapping) or ("model_args" in fields and "variation" not in fields):
            return fields
        current = {name: value for name, value in fields.items() if name != "variation"}
        try:
            words = shlex.split(str(fields.get("command") or ""), comments=True)
        except ValueError:  # it was cut, or is no command
            words = []
        given = words[words.index("--model_args") + 1] if "--model_args" in words[:-1] else ""
        text, _, instruction = str(fields.get("variation") or "").partition("system_instruction: ")
        text, _, generation = text.partition("gen_kwargs: ")
        if generation:
            pairs = _PAIR.findall(generation.removesuffix(", "))
            current["gen_kwargs"] = canonical({name: _literal(value) for name, value in pairs})
        said = dict(_SAID.findall(text.removesuffix(", ")))
        return {
            "changed": {name: value for name, value in said.items() if effect(name) != "control"},
            "controls": {name: value for name, value in said.items() if effect(name) == "control"},
            "system_instruction": instruction,
            "model_args": parse_model_args(given),
            **current,
        }

    @model_validator(mode="after")
    def _names_fit(self) -> Run:
        for name in ("changed", "controls", "gen_kwargs", "model_args"):
            if len(json.dumps(getattr(self, name))) > _LONGEST:
                raise ValueError(f"{name}: is longer than {_LONGEST} characters")
        if unknown := set(self.samples) - set(self.tasks):
            raise ValueError(f"samples of {min(unknown)!r}, which is not a task of the run")
        for name, task in self.tasks.items():
            benchmark, budget, votes = variant_of(name)
            named = benchmark, asked_budget(task.generation_kwargs, budget), votes
            if (task.benchmark, task.budget, task.votes) != named:
                raise ValueError(f"tasks.{name}: benchmark, budget, votes; expected those in its name, {named}")
        return self

    def to_frame(self) -> pandas.DataFrame:
        """One row per task: the accuracy with its 95% interval, and every metric."""
        return frame([self])

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        shown = [f"{name} {task.accuracy.value:.3f}" for name, task in list(self.tasks.items())[:_SHOWN]]
        more = [f"and {len(self.tasks) - _SHOWN} more"] if len(self.tasks) > _SHOWN else []
        return f"<Run {self.id}: {self.base} {self.label}; {', '.join([*shown, *more])}>"

    @property
    def thinking_format(self) -> str:
        """The name of its thinking format; empty if it was not recorded."""
        return self.settings.get("thinking_format", "")

    @property
    def dropped(self) -> tuple[int, ...]:
        """The dropped layers."""
        return self.pruning.dropped if self.pruning else ()

    @property
    def dense(self) -> bool:
        """Whether it is the unmodified base model, run without controls; sampling and limits may be any."""
        return self.whole and not self.control

    @property
    def pruned(self) -> bool:
        """Whether layers, blocks or experts are dropped, or weights are zero."""
        return bool(self.pruning and (self.pruning.counts or self.pruning.zeros))

    @property
    def control(self) -> str:
        """How it was run otherwise than usual, such as `thinking=off`; empty if as usual."""
        instruction = f"system_instruction: {self.system_instruction}" if self.system_instruction else ""
        return _listed(told(self.controls), instruction, self._named(_CONTROLLING))

    @property
    def asked(self) -> str:
        """Sampling parameters and limits that `--gen_kwargs` changed; a result's name has its thinking budget."""
        return self._named(self.gen_kwargs.keys() - _CONTROLLING - {"thinking_token_budget"})

    def _named(self, names: Set[str]) -> str:
        return ", ".join(f"{name}={self.gen_kwargs[name]}" for name in sorted(names & self.gen_kwargs.keys()))

    @property
    def whole(self) -> bool:
        """Whether it is the base model itself, however it was run."""
        return not (self.pruned or self.changed or (self.pruning and self.pruning.recovered))

    @property
    def varied(self) -> str:
        """What else was changed: in the model, in how it was run, and in what was asked of it."""
        return _listed(told(self.changed), self.control, self.asked)

    @property
    def base_revision(self) -> str:
        """Revision of the base model; `main` if none was given."""
        return self.revision or "main"

    @property
    def label(self) -> str:
        """Label that distinguishes it from other models of the same base."""
        whole = (self.pruning and self.pruning.relation) or "dense"
        taken = dropped_parts(self.pruning) if self.pruning else []
        pruning = f"{self.pruning.method} {', '.join(taken)}" if self.pruning and taken else whole
        recovered = "recovered" if self.pruning and self.pruning.recovered else ""
        return _listed(pruning, recovered, self.varied)

    def asked_name(self, task: str) -> str:
        """Name of the variant that was asked for: another one, if `--gen_kwargs` changed a task's thinking budget.

        >>> scored = {"score": "acc", "metrics": {"acc": Score(value=1)}, "questions": 1, "of": 1}
        >>> kwargs = {"thinking_token_budget": 128}
        >>> task = TaskResult(benchmark="tts_x", budget=128, generation_kwargs=kwargs, **scored)
        >>> Run(id="r", date="2026-01-01T00:00:00Z", base="b", engine="hf", tasks={"tts_x_b32": task},
        ...     gen_kwargs=kwargs).asked_name("tts_x_b32")
        'tts_x_b128'
        """
        result = self.tasks[task]
        if "thinking_token_budget" not in self.gen_kwargs:
            return task
        variant = task if result.votes else result.benchmark
        return variant if result.budget is None else f"{variant}_b{result.budget}"

    @property
    def partial(self) -> bool:
        """Whether any task was evaluated on only part of its questions."""
        return any(task.partial for task in self.tasks.values())


def told(arguments: Mapping[str, object]) -> str:
    """Arguments on one line, as they are shown.

    >>> told({"load_in_4bit": True, "peft": "adapter"})
    'load_in_4bit=true, peft=adapter'
    """
    return line(", ".join(f"{name}={told_value(value)}" for name, value in arguments.items()))


def told_value(value: object) -> str:
    """The value of an argument, as on a command line."""
    return line(value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str))


def _listed(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def dropped_parts(pruning: Pruning) -> list[str]:
    """How much was dropped: `-2` for layers, `-4 attention` for blocks, `-12 experts`; of weights, `zeros 20%`."""
    parts = [f"-{count}{'' if kind == 'layers' else f' {kind}'}" for kind, count in pruning.counts.items()]
    return parts + ([f"zeros {pruning.zeros}"] if pruning.zeros else [])


def variant_of(task: str) -> tuple[str, int | None, bool]:
    """Benchmark, thinking budget and whether samples vote, from a task's name."""
    match = _VARIANT.match(task)
    if match is None:
        return task, None, False
    return match["benchmark"], int(match["budget"]) if match["budget"] else None, bool(match["votes"])


def asked_budget(generation_kwargs: Mapping[str, object], otherwise: object) -> object:
    """The thinking budget in generation arguments, None for no limit; `otherwise` if they don't name one."""
    budget = canonical(generation_kwargs).get("thinking_token_budget")
    if not isinstance(budget, (int, float)) or isinstance(budget, bool):
        return otherwise
    return None if budget < 0 or not math.isfinite(budget) else int(budget)


def _literal(written: str) -> object:
    """A value that was written by `str`."""
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written


def is_slug(name: str) -> bool:
    """Whether a task or run may have this name, which is also used for files and folders."""
    return re.fullmatch(_SLUG, name) is not None


def frame(runs: Iterable[Run]) -> pandas.DataFrame:
    """One row per task of each run: the model, the accuracy with its 95% interval, and every metric."""
    import pandas

    found = pandas.DataFrame([_row(run, name) for run in runs for name in run.tasks])
    return found.astype({"budget": "Int64"}) if "budget" in found else found  # integers, or missing


def _row(run: Run, name: str) -> dict[str, object]:
    task = run.tasks[name]
    interval = accuracy_interval(task)
    return {
        "run": run.id, "base": run.base, "model": run.label, "tool": run.tool or "lm-eval",
        "dropped": len(run.dropped), "task": name, "benchmark": task.benchmark, "budget": task.budget,
        "accuracy": task.accuracy.value, "low": interval.low, "high": interval.high, "questions": task.questions,
        "samples": task.repeats,
        **{metric: score.value for metric, score in task.metrics.items() if metric != task.score},
    }  # fmt: skip


def accuracy_interval(task: TaskResult) -> Interval:
    """A task's accuracy, with the interval expected for new questions of the same kind."""
    accuracy = task.accuracy
    if not task.scores:
        return interval_from_stderr(accuracy.value, accuracy.stderr, task.questions)
    return Interval(accuracy.value, *_ends(task.scores))


@lru_cache(maxsize=1 << 16)
def _ends(scores: tuple[float, ...]) -> tuple[float, float]:
    """Both ends of the interval; a site asks for those of one result on many pages."""
    interval = mean_interval(scores)
    return interval.low, interval.high
