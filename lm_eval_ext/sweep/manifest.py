"""The manifest of a sweep: one YAML file that says which models, prunings, tasks and seeds make a study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.config import JsonDict

from lm_eval_ext.declared import read_yaml, schema_of
from lm_eval_ext.errors import ManifestError, meant
from lm_eval_ext.harness.effects import marked
from lm_eval_ext.harness.registry import models as engine_models
from lm_eval_ext.paths import EMBEDDED, expanded
from lm_eval_ext.pruning.recipe import recipe_names
from lm_eval_ext.pruning.selection import METHODS, check_amount, texts_for
from lm_eval_ext.pruning.sparsity import Amount
from lm_eval_ext.runs.study_file import NAME

Value = str | int | float | bool | list[str | int | float] | dict[str | int, object] | None
Whole = Annotated[int, Field(strict=True)]  # not true, and not 1.0
Layers = str | Whole | list[Whole] | None
Count = Annotated[Whole, Field(ge=0)]
Positive = Annotated[Whole, Field(gt=0)]
NAME_OF_A_MODEL = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
BY_HAND = ("drop_layers", "drop_attention", "drop_mlp", "drop_experts")
_ONE_OF = ("method", *BY_HAND, "recipe")


def _untitled(schema: JsonDict) -> None:
    """Leave out the titles that pydantic makes of field names, which say nothing more."""
    schema.pop("title", None)
    properties = schema.get("properties")
    for field in properties.values() if isinstance(properties, dict) else ():
        if isinstance(field, dict):
            field.pop("title", None)


class ManifestPart(BaseModel):
    """What files of studies consist of."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_untitled)


def _removed(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and ("%" in value or "of" in value):
        return str(Amount.parse(value))
    raise ValueError("give whole numbers from 0, or of experts and weights shares such as 25%")


Removed = Annotated[int | str, BeforeValidator(_removed)]


_AUTO = r"^auto(:\d+(\.\d+)?)?$"


def _batch_size(value: object) -> object:
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if whole or value is None or (isinstance(value, str) and re.match(_AUTO, value)):
        return value
    raise ValueError("expected a whole number above 0, auto, or auto:N")


BatchSize = Annotated[Positive | Annotated[str, Field(pattern=_AUTO)] | None, BeforeValidator(_batch_size)]
TRACES = "traces"  # calibration on what the whole model of the study replies


class PlannedPruning(ManifestPart):
    """How models are made smaller: layers chosen by a method, given by hand, or by a recipe."""

    method: str | None = Field(
        default=None,
        description="method that chooses layers, as in `lm-eval-tts prune`",
        json_schema_extra={"examples": [*sorted(METHODS)]},
    )
    remove: tuple[Removed, ...] = Field(
        default=(),
        description="numbers of layers or experts that the method removes, shares of experts (`25%`), or how many "
        "weights become zero (`20%`, `2of4`); 0 is the whole model, which is run once for each seed, also if "
        "several entries name it",
    )
    calibration: str | None = Field(
        default=None,
        description="calibration texts of the method: `embedded` (the default), a corpus such as `pg19`, a text "
        "file, `ORG/NAME:SPLIT:FIELD`, `task:NAME` or `run:FOLDER`; `traces` for the correct replies of the whole "
        "model in this study, which is then run first",
    )
    samples: Positive | None = Field(default=None, description="number of calibration texts; 16 by default")
    max_tokens: Whole | None = Field(
        default=None, ge=2, description="most tokens of each calibration text; 512 by default"
    )
    parameters: dict[str, Value] = Field(
        default_factory=dict, description="parameters of the method, such as `threshold` of `laco`"
    )
    drop_layers: Layers = Field(default=None, description="layers to drop, by hand: `[25, 26]` or `25-26`")
    drop_attention: Layers = Field(default=None, description="layers without attention, by hand")
    drop_mlp: Layers = Field(default=None, description="layers without their feed-forward network, by hand")
    drop_experts: dict[str | int, Layers] | str | None = Field(
        default=None, description="experts of a mixture to drop, by layer: `{0: 3+7-9, 1: [2, 5]}`"
    )
    recipe: str | None = Field(default=None, description="name or path of a recipe")

    @model_validator(mode="after")
    def _one_way(self) -> PlannedPruning:
        given = [name for name in _ONE_OF if getattr(self, name) is not None]
        if not given and self.remove != (0,):
            raise ValueError(f"says nothing; give one of: {', '.join(_ONE_OF)}")
        if len(given) > 1 and not set(given) <= set(BY_HAND):
            raise ValueError(f"{' and '.join(given)} contradict each other; give one of them")
        if self.method is not None:
            self._check_method(self.method)
        elif any([self.calibration, self.samples, self.max_tokens, self.parameters, self.remove not in ((), (0,))]):
            raise ValueError("remove, calibration, samples, max_tokens and parameters belong to a method")
        return self

    def _check_method(self, method: str) -> None:
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; {meant(method, METHODS)}")
        if not self.remove:
            raise ValueError("remove is missing; give numbers of layers, such as [0, 1, 2]")
        if len(set(self.remove)) < len(self.remove):
            raise ValueError(f"remove={list(self.remove)}: a number is given twice")
        for amount in self.remove:
            check_amount(method, amount)
        texts_for(method, self.parameters, self.calibration)


class Local(ManifestPart):
    """This machine: a slot for each GPU, or `jobs` slots."""

    gpus: tuple[Count, ...] = Field(
        default=(), description="numbers of the GPUs to use; by default, all that there are"
    )
    gpus_per_run: Positive = Field(default=1, description="GPUs of a run")
    jobs: Positive | None = Field(
        default=None, description="most runs at once; by default one for each slot, or one without GPUs"
    )

    @model_validator(mode="after")
    def _fits(self) -> Local:
        if len(set(self.gpus)) < len(self.gpus):
            raise ValueError(f"gpus={list(self.gpus)}: a GPU is given twice")
        if self.gpus and self.gpus_per_run > len(self.gpus):
            raise ValueError(f"gpus_per_run={self.gpus_per_run}: more than the {len(self.gpus)} GPUs given")
        return self


class Slurm(ManifestPart):
    """A Slurm cluster: a job for each run."""

    partition: str | None = Field(default=None, description="sbatch's `--partition`")
    account: str | None = Field(default=None, description="sbatch's `--account`")
    gpus: int | str | None = Field(default=None, description="GPUs of a run, sbatch's `--gpus`")
    cpus: Positive | None = Field(default=None, description="sbatch's `--cpus-per-task`")
    memory: str | None = Field(default=None, description="sbatch's `--mem`, such as 64G")
    time: str | None = Field(default=None, description="sbatch's `--time`, such as 12:00:00")
    parallel: Positive | None = Field(default=None, description="most jobs at once")
    setup: tuple[str, ...] = Field(default=(), description="shell lines before each run, such as `module load cuda`")
    options: dict[str, str | int] = Field(default_factory=dict, description="further options of sbatch, without dashes")
    template: str | None = Field(default=None, description="a job script of your own, relative to the manifest")


class Ray(ManifestPart):
    """A Ray cluster: one run after another, on all its GPUs."""

    address: str = Field(default="auto", description="address of the cluster, such as `auto` or `ray://head:10001`")


class Launch(ManifestPart):
    """Where runs are started; no part of what a run is."""

    local: Local = Field(default=Local(), description="`--launch local`: this machine")
    slurm: Slurm = Field(default=Slurm(), description="`--launch slurm`: jobs of a Slurm cluster")
    ray: Ray = Field(default=Ray(), description="`--launch ray`: a Ray cluster")


class Exclude(ManifestPart):
    """Leaves out all runs that have everything that is given."""

    model: str | None = Field(default=None, description="its name in `models`")
    method: str | None = Field(
        default=None,
        description="a method; `dense` for the whole model; for layers by hand and recipes, as in the run's name",
    )
    remove: Removed | None = Field(
        default=None, description="how much a method removes, as in its `remove`; 0 for the whole model"
    )
    seed: Count | None = Field(default=None, description="a seed")

    @property
    def given(self) -> dict[str, object]:
        """The fields that a run must have."""
        return self.model_dump(exclude_unset=True)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.given.items()) or "no field, so it says nothing"


def _model_arguments(value: object) -> object:
    return {"pretrained": value} if isinstance(value, str) else value


_WRITTEN = str | dict[str, Value]  # model arguments, or what is loaded
Arguments = Annotated[dict[str, Value], BeforeValidator(_model_arguments, json_schema_input_type=_WRITTEN)]


class Setup(ManifestPart):
    """What every run of a file has in common: where results go, the engine, and where runs are started."""

    output: str = Field(min_length=1, description="folder for everything, relative to this file")
    engine: str = Field(
        default="pruned-hf", description="lm-eval's `--model`", json_schema_extra={"enum": list(engine_models())}
    )
    model_args: dict[str, Value] = Field(default_factory=dict, description="model arguments of all models")
    batch_size: BatchSize = Field(default=None, description="lm-eval's `--batch_size`")
    gen_kwargs: dict[str, Value] = Field(
        default_factory=dict, description="lm-eval's `--gen_kwargs`, of this registry's tasks"
    )
    include_path: str | None = Field(default=None, description="folder of further task files, relative to this file")
    run_untrusted_code: bool = Field(
        default=False,
        description="whether programs that models write may run, in a sandbox, as code benchmarks need it",
    )
    launch: Launch = Field(default=Launch(), description="where runs are started; no part of what a run is")

    @field_validator("engine")
    @classmethod
    def _known(cls, engine: str) -> str:
        if engine not in engine_models():
            raise ValueError(f"engine={engine!r}: expected one of: {', '.join(engine_models())}")
        return engine

    def placed(self, folder: Path) -> dict[str, object]:
        """The fields that name files, with relative paths as those of a folder: an update for `model_copy`."""
        slurm = self.launch.slurm
        template = None if slurm.template is None else str(folder / expanded(slurm.template))
        placed = self.launch.model_copy(update={"slurm": slurm.model_copy(update={"template": template})})
        return {
            "output": str(folder / expanded(self.output)),
            "include_path": placed_path(self.include_path, folder) if self.include_path else None,
            "model_args": placed_arguments(self.model_args, folder), "launch": placed,
        }  # fmt: skip


class Manifest(Setup):
    """A study: models x prunings x tasks x seeds."""

    models: dict[Annotated[str, Field(pattern=NAME_OF_A_MODEL)], Arguments] = Field(
        min_length=1, description="model arguments by a name of your choice, or what is loaded"
    )
    pruning: tuple[PlannedPruning, ...] = Field(
        default=(),
        description="how each model is made smaller; without it, the whole models are run, and with it only if a "
        "`remove` has a 0",
    )
    tasks: tuple[str, ...] = Field(
        min_length=1,
        description="tasks of this registry, with or without `tts_`, and those in `include_path` whose names begin "
        "with it; budgets, votes and seeds are for these. Any other task is run as in `other_tasks`",
    )
    other_tasks: tuple[str, ...] = Field(
        default=(), description="tasks of lm-eval itself; run once for each model, as they are"
    )
    budgets: tuple[Positive, ...] = Field(
        default=(), description="thinking budgets, in tokens; each task needs a variant of each"
    )
    votes: tuple[Annotated[Whole, Field(gt=1)], ...] = Field(
        default=(), description="numbers of samples that vote, without a budget; each task needs a variant of each"
    )
    seeds: tuple[Annotated[Count, Field(lt=2**32)], ...] = Field(
        default=(0,), min_length=1, description="seeds of the samples; a run for each, of every model"
    )
    limit: Positive | None = Field(default=None, description="questions of each task, to try things out")
    exclude: tuple[Exclude, ...] = Field(default=(), description="runs to leave out; a rule for each kind of them")

    @model_validator(mode="after")
    def _sound(self) -> Manifest:
        for name in ("tasks", "other_tasks", "budgets", "votes", "seeds"):
            given = getattr(self, name)
            twice = next((one for one in given if given.count(one) > 1), None)
            if twice is not None:
                raise ValueError(f"{name}: {twice} is given twice")
        for name, arguments in self.models.items():
            self._check_model(name, self.model_args | arguments)
        return self

    def _check_model(self, name: str, arguments: dict[str, Value]) -> None:
        if "seed" in arguments:
            raise ValueError(f"models.{name}.seed: each run gets one of the study's seeds; give them as seeds: [0, 1]")
        loads = [key for key in ("pretrained", "recipe", "base_url") if arguments.get(key)]
        if not loads:
            raise ValueError(f"models.{name}: says nothing that is loaded; give pretrained, recipe or base_url")
        wrong = next((key for key in loads if not isinstance(arguments[key], str)), None)
        if wrong is not None:
            raise ValueError(f"models.{name}.{wrong}: expected text (given {arguments[wrong]!r})")
        chosen = any(one.method and set(one.remove) != {0} for one in self.pruning)
        if chosen and "recipe" in loads:
            raise ValueError(f"models.{name}: has a recipe, so it cannot be pruned by a method as well")
        if chosen and "pretrained" not in loads:
            raise ValueError(f"models.{name}: a server's model cannot be pruned by a method; serve the pruned one")


NAMES = {"string_pattern_mismatch": "expected letters, digits, '.', '_' and '-', and a letter or digit first"}


def load_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: it cannot be read, or a field is missing, unknown or invalid; one line.
    """
    return _placed(read_yaml(path, Manifest, ManifestError, NAMES), path.parent.resolve())


def placed_arguments(arguments: Arguments, folder: Path) -> Arguments:
    """Model arguments with absolute paths, of those that are relative to a folder."""
    paths = marked("path")
    return {
        name: placed_path(value, folder) if name in paths and isinstance(value, str) else value
        for name, value in arguments.items()
    }


def _placed(manifest: Manifest, folder: Path) -> Manifest:
    """A manifest whose relative paths are those of its folder, wherever it is used."""

    def place(value: Any) -> Any:
        return placed_path(value, folder) if isinstance(value, str) and value != TRACES else value

    pruning = tuple(
        one.model_copy(update={"recipe": place(one.recipe), "calibration": place(one.calibration)})
        for one in manifest.pruning
    )
    models = {name: placed_arguments(arguments, folder) for name, arguments in manifest.models.items()}
    return manifest.model_copy(update={**manifest.placed(folder), "models": models, "pruning": pruning})


def placed_path(text: str, folder: Path) -> str:
    """A path of a manifest's folder as an absolute one; any other text as it is."""
    begin, path = ("run:", text[4:]) if text.startswith("run:") else ("", text)
    installed = [*(one.name for one in EMBEDDED), *recipe_names()]  # no paths, even if there is a file of the name
    if path in installed or not path:
        return text
    place = folder / expanded(path)
    return f"{begin}{place}" if place.exists() or path.startswith("~") else text


_FOLDER = Path(__file__).parent / "manifests"
START = "start"
SCHEMA = "sweep.schema.json"  # beside a manifest, for completion in editors


def papers() -> list[str]:
    """Names of the papers whose studies can be written."""
    return sorted(one.stem for one in _FOLDER.glob("*.yaml") if one.stem != START)


def write_manifest(path: Path, like: str | None = None) -> Path:
    """Write a manifest for a new study.

    Args:
        path: a new file, beside which the schema is written.
        like: name of a paper's study; by default a small one with the embedded model.

    Raises:
        ManifestError: the file exists, or there is no such study.
    """
    if like is not None and like not in papers():
        raise ManifestError(f"--like {like}: expected one of: {', '.join(papers())}")
    study_name(path)
    if not path.parent.is_dir():
        raise ManifestError(f"{path}: folder {path.parent} does not exist")
    if path.exists():
        raise ManifestError(f"{path}: exists already; choose another name")
    text = (_FOLDER / f"{like or START}.yaml").read_text("utf-8").replace("NAME", path.stem)
    path.write_text(f"# yaml-language-server: $schema={SCHEMA}\n{text}", "utf-8")
    path.with_name(SCHEMA).write_text(json.dumps(schema_of(Manifest), indent=1) + "\n", "utf-8")
    return path


def study_name(path: Path) -> str:
    """The name of a study, which is its file's.

    Raises:
        ManifestError: a page of the leaderboard cannot have it.
    """
    if re.fullmatch(NAME, path.stem) is None:
        raise ManifestError(
            f"{path}: a manifest's file name has letters, digits, '.', '_' and '-', because the study is named after it"
        )
    return path.stem
