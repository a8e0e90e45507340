"""`gate.yaml`: a base, its candidates, the benchmarks that decide, and what has to be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from lm_eval_ext.analysis.matching import ALLOWED
from lm_eval_ext.authoring.task_fields import PublishedScore
from lm_eval_ext.declared import read_yaml, schema_of
from lm_eval_ext.errors import ManifestError
from lm_eval_ext.paths import expanded
from lm_eval_ext.sweep.manifest import (
    NAME_OF_A_MODEL,
    NAMES,
    Arguments,
    Count,
    Manifest,
    ManifestPart,
    Positive,
    Setup,
    placed_arguments,
)

Tier = Literal["critical", "supporting", "advisory"]
Population = Literal["new questions", "these questions"]
RankedBy = Literal["bytes", "flops", "tokens", "speed"]

BASE = "base"  # the base's name among the models
RESULTS = "results"  # a model of which there are results already


class GatedBenchmark(ManifestPart):
    """A benchmark of a gate."""

    tier: Tier = Field(
        default="critical",
        description="`critical`: must be kept; `supporting`: may be lost in as many as `supporting_may_lose` says; "
        "`advisory`: only shown",
    )
    published: PublishedScore | Literal["literature"] | None = Field(
        default=None,
        description="a published score of the base, or `literature` for what `lm-eval-tts published` has; by "
        "default the one in the task's YAML",
    )


class GateBudget(ManifestPart):
    """What the gate may use; with what is left undecided, it stops."""

    tokens: float | None = Field(default=None, gt=0, description="tokens of all models together, such as 5e6")
    hours: float | None = Field(default=None, gt=0, description="hours from its start")


def _tier(value: object) -> object:
    if not isinstance(value, (str, dict, GatedBenchmark)):
        raise ValueError(f"expected a tier ({', '.join(get_args(Tier))}) or a mapping")
    return {"tier": value} if isinstance(value, str) else value


class GateRules(ManifestPart):
    """What has to be kept, and what decides it."""

    benchmarks: dict[str, Annotated[GatedBenchmark, BeforeValidator(_tier)]] = Field(
        min_length=1, description="tasks, with or without `tts_`, each with its tier"
    )
    keep: float = Field(
        default=0.9, gt=0, lt=1, description="share of the base's accuracy above chance that must be kept"
    )
    error: float = Field(default=0.05, ge=1e-6, lt=1, description="probability of a wrong verdict")
    population: Population = Field(
        default="new questions",
        alias="for",
        description="`new questions`: the verdict is on all questions like these, and a unit is a question; `these "
        "questions`: on exactly these, and a unit is a new sample of each",
    )
    supporting_may_lose: Count = Field(default=0, description="number of supporting benchmarks that may be lost")
    seed: Count = Field(default=0, lt=2**32, description="of the samples, and of the order of the questions")
    limit: Positive | None = Field(default=None, description="questions of each benchmark, to try things out")
    rounds: Positive | None = Field(
        default=None, description="most samples of each question, for `these questions`; by default those of the task"
    )
    block: Positive = Field(default=16, description="questions in the first block; later ones grow")
    accept_gains: bool = Field(
        default=False,
        description="whether a candidate that is better than its base passes without a check of the setup",
    )

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if self.rounds is not None and self.population == "new questions":
            raise ValueError("rounds: belongs to `for: these questions`; how many samples a question has is the task's")
        if not any(one.tier == "critical" for one in self.benchmarks.values()):
            raise ValueError("benchmarks: none is critical, so nothing could be kept; make at least one critical")
        return self


class GateFile(GateRules, Setup):
    """A gate: which candidates keep enough of their base's accuracy."""

    base: Annotated[
        Arguments, Field(min_length=1, description="model arguments, what is loaded, or `{results: FOLDER}`")
    ]
    candidates: dict[Annotated[str, Field(pattern=NAME_OF_A_MODEL)], Arguments] = Field(
        min_length=1,
        description="by a name of your choice: model arguments, what is loaded, or `{results: FOLDER}`. What "
        "names no `pretrained`, `recipe` or `base_url` is the base with these arguments",
    )
    budget: GateBudget = Field(default=GateBudget(), description="what may be used")
    allow: Annotated[
        tuple[Literal[ALLOWED], ...],  # type: ignore[valid-type]  # the table's names
        Field(description="what may differ between base and candidates, or not be recorded, as of other tools' logs"),
    ] = ()
    rank_by: RankedBy = Field(default="bytes", description="the cost by which those that are kept are ranked")

    @model_validator(mode="after")
    def _sound(self) -> GateFile:
        if BASE in self.candidates:
            raise ValueError(f"candidates.{BASE}: is the name of the base; choose another")
        for name, arguments in (("base", self.base), *((f"candidates.{a}", b) for a, b in self.candidates.items())):
            folder = arguments.get(RESULTS, "-")
            if RESULTS in arguments and (len(arguments) > 1 or not isinstance(folder, str) or not folder):
                raise ValueError(f"{name}: expected a folder as {RESULTS}, and no model arguments beside it")
        return self

    def results_of(self, name: str) -> Path | None:
        """The folder of results of the base or a candidate; None if it is evaluated."""
        arguments = self.base if name == BASE else self.candidates[name]
        return Path(str(arguments[RESULTS])) if RESULTS in arguments else None

    def manifest(self) -> Manifest:
        """The models that are evaluated, as a study of which each run is one model on all benchmarks."""
        loads = ("pretrained", "recipe", "base_url")
        given = {BASE: self.base, **self.candidates}
        complete = {
            name: arguments if any(arguments.get(key) for key in loads) else {**self.base, **arguments}
            for name, arguments in given.items()
            if RESULTS not in arguments
        }
        nothing = next((name for name, arguments in complete.items() if RESULTS in arguments), None)
        if nothing is not None:
            raise ValueError(
                f"candidates.{nothing}: says nothing that is loaded, and there are only results of the base; give "
                f"{', '.join(loads[:2])} or {loads[2]}"
            )
        fields = {name: getattr(self, name) for name in Setup.model_fields}
        if not complete:  # there are results of all models
            return Manifest.model_construct(models={}, tasks=(), **fields)
        return Manifest(models=complete, tasks=tuple(self.benchmarks), seeds=(self.seed,), **fields)


def load_gate(path: Path) -> GateFile:
    """Read a `gate.yaml`; relative paths in it are those of its folder.

    Raises:
        ManifestError: it cannot be read, or a field is missing, unknown or invalid; one line.
    """
    gate, folder = read_yaml(path, GateFile, ManifestError, NAMES), path.parent.resolve()

    def placed(arguments: Arguments) -> Arguments:
        if RESULTS in arguments:
            return {RESULTS: str(folder / expanded(str(arguments[RESULTS])))}
        return placed_arguments(arguments, folder)

    candidates = {name: placed(arguments) for name, arguments in gate.candidates.items()}
    return gate.model_copy(update={**gate.placed(folder), "base": placed(gate.base), "candidates": candidates})


def gate_schema() -> dict[str, object]:
    """The JSON Schema of `gate.yaml`, which editors read for completion."""
    schema = schema_of(GateFile)
    or_a_tier(schema["properties"]["benchmarks"])
    return schema


def or_a_tier(benchmarks: dict[str, Any]) -> None:
    """Let the schema of benchmarks by name allow a tier in place of each one's fields."""
    tiers = {"enum": list(get_args(Tier))}
    benchmarks["additionalProperties"] = {"anyOf": [tiers, benchmarks["additionalProperties"]]}
