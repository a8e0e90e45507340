"""The manifest of a sweep: one YAML file that says which models, prunings, tasks and seeds make a study."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.harness.engines import models as engine_models
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.recipe_file import recipe_names
from lm_eval_ext.pruning.selection import METHODS

Value = str | int | float | bool | list[str | int | float] | dict[str, object] | None
Count = Annotated[int, Field(ge=0)]
_PATHS = ("pretrained", "recipe", "peft", "tokenizer")  # model arguments that may be paths
_ONE_OF = ("method", "drop_layers", "drop_attention", "drop_mlp", "recipe")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pruning(_Part):
    """How models are made smaller: layers chosen by a method, given by hand, or by a recipe."""

    method: Annotated[str | None, Field(description="method that chooses layers, as in `lm-eval-tts prune`")] = None
    remove: Annotated[tuple[Count, ...], Field(description="numbers of layers; 0 is the whole model, run once")] = ()
    calibration: Annotated[str | None, Field(description="calibration texts of the method")] = None
    samples: Annotated[int | None, Field(gt=0, description="number of calibration texts")] = None
    max_tokens: Annotated[int | None, Field(ge=2, description="most tokens of each calibration text")] = None
    parameters: Annotated[dict[str, Value], Field(description="parameters of the method")] = Field(default_factory=dict)
    drop_layers: Annotated[Value, Field(description="layers to drop, by hand")] = None
    drop_attention: Annotated[Value, Field(description="layers without attention, by hand")] = None
    drop_mlp: Annotated[Value, Field(description="layers without their feed-forward network, by hand")] = None
    recipe: Annotated[str | None, Field(description="name or path of a recipe")] = None

    @model_validator(mode="after")
    def _one_way(self) -> Pruning:
        given = [name for name in _ONE_OF if getattr(self, name) is not None]
        if not given and self.remove != (0,):
            raise ValueError(f"says nothing; give one of: {', '.join(_ONE_OF)}")
        if len(given) > 1 and not set(given) <= {"drop_layers", "drop_attention", "drop_mlp"}:
            raise ValueError(f"{' and '.join(given)} contradict each other; give one of them")
        if self.method is not None:
            self._check_method(self.method)
        elif any([self.calibration, self.samples, self.max_tokens, self.parameters, self.remove not in ((), (0,))]):
            raise ValueError("remove, calibration, samples, max_tokens and parameters belong to a method")
        return self

    def _check_method(self, method: str) -> None:
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; {_meant(method, METHODS)}")
        if not self.remove:
            raise ValueError("remove is missing; give numbers of layers, such as [0, 1, 2]")
        if len(set(self.remove)) < len(self.remove):
            raise ValueError(f"remove={list(self.remove)}: a number is given twice")


class Local(_Part):
    """This machine: a slot for each GPU, or `jobs` slots."""

    gpus: Annotated[
        tuple[int, ...], Field(description="numbers of the GPUs to use; all that there are by default")
    ] = ()
    gpus_per_run: Annotated[int, Field(gt=0, description="GPUs of a run")] = 1
    jobs: Annotated[int | None, Field(gt=0, description="runs at once, on a machine without GPUs")] = None

    @model_validator(mode="after")
    def _fits(self) -> Local:
        if len(set(self.gpus)) < len(self.gpus):
            raise ValueError(f"gpus={list(self.gpus)}: a GPU is given twice")
        if self.gpus and self.gpus_per_run > len(self.gpus):
            raise ValueError(f"gpus_per_run={self.gpus_per_run}: more than the {len(self.gpus)} GPUs given")
        return self


class Slurm(_Part):
    """A Slurm cluster: a job for each run."""

    partition: Annotated[str | None, Field(description="sbatch's `--partition`")] = None
    account: Annotated[str | None, Field(description="sbatch's `--account`")] = None
    gpus: Annotated[int | str | None, Field(description="GPUs of a run, sbatch's `--gpus`")] = None
    cpus: Annotated[int | None, Field(gt=0, description="sbatch's `--cpus-per-task`")] = None
    memory: Annotated[str | None, Field(description="sbatch's `--mem`, such as 64G")] = None
    time: Annotated[str | None, Field(description="sbatch's `--time`, such as 12:00:00")] = None
    parallel: Annotated[int | None, Field(gt=0, description="most jobs at once")] = None
    setup: Annotated[tuple[str, ...], Field(description="shell lines before each run, such as `module load cuda`")] = ()
    options: Annotated[dict[str, str | int], Field(description="further options of sbatch, without dashes")] = Field(
        default_factory=dict
    )
    template: Annotated[str | None, Field(description="a job script of your own, relative to the manifest")] = None


class Ray(_Part):
    """A Ray cluster: one run after another, on all its GPUs."""

    address: Annotated[str, Field(description="of the cluster")] = "auto"


class Launch(_Part):
    """Where runs are started; no part of what a run is."""

    local: Local = Local()
    slurm: Slurm = Slurm()
    ray: Ray = Ray()


def _model_arguments(value: object) -> object:
    return {"pretrained": value} if isinstance(value, str) else value


Arguments = Annotated[dict[str, Value], BeforeValidator(_model_arguments)]


class Manifest(_Part):
    """A study: models x prunings x tasks x seeds."""

    output: Annotated[str, Field(min_length=1, description="folder for everything, relative to the manifest")]
    engine: Annotated[str, Field(description="lm-eval's `--model`")] = "pruned-hf"
    model_args: Annotated[dict[str, Value], Field(description="model arguments of all models")] = Field(
        default_factory=dict
    )
    batch_size: Annotated[int | str | None, Field(description="lm-eval's `--batch_size`")] = None
    models: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], Arguments],
        Field(min_length=1, description="model arguments by a name of your choice, or what is loaded"),
    ]
    pruning: Annotated[tuple[Pruning, ...], Field(description="the whole model alone by default")] = ()
    tasks: Annotated[
        tuple[str, ...], Field(min_length=1, description="tasks; those of this registry also without `tts_`")
    ]
    other_tasks: Annotated[
        tuple[str, ...], Field(description="tasks of lm-eval itself; run once for each model, as they are")
    ] = ()
    budgets: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(description="thinking budgets of the tasks")] = ()
    votes: Annotated[tuple[Annotated[int, Field(gt=1)], ...], Field(description="numbers of voting samples")] = ()
    seeds: Annotated[tuple[Count, ...], Field(min_length=1, description="one run each")] = (0,)
    gen_kwargs: Annotated[dict[str, Value], Field(description="lm-eval's `--gen_kwargs`, of this registry's tasks")] = (
        Field(default_factory=dict)
    )
    limit: Annotated[int | None, Field(gt=0, description="questions of each task, to try things out")] = None
    include_path: Annotated[str | None, Field(description="folder of further task files, relative to the manifest")] = (
        None
    )
    exclude: Annotated[
        tuple[Mapping[Literal["model", "method", "remove", "seed"], str | int], ...],
        Field(description="what isn't run"),
    ] = ()
    launch: Launch = Launch()

    @model_validator(mode="after")
    def _sound(self) -> Manifest:
        if self.engine not in engine_models():
            raise ValueError(f"engine={self.engine!r}: expected one of: {', '.join(engine_models())}")
        for name in ("tasks", "other_tasks", "budgets", "votes", "seeds"):
            given = getattr(self, name)
            twice = next((one for one in given if given.count(one) > 1), None)
            if twice is not None:
                raise ValueError(f"{name}: {twice} is given twice")
        for name, arguments in self.models.items():
            if not any(arguments.get(key) for key in ("pretrained", "recipe", "base_url")):
                raise ValueError(f"models.{name}: says nothing that is loaded; give pretrained, recipe or base_url")
            if self.pruning and arguments.get("recipe") and any(one.method for one in self.pruning):
                raise ValueError(f"models.{name}: has a recipe, so it cannot be pruned by a method as well")
        return self


def manifest_schema() -> dict[str, object]:
    """The JSON Schema of manifests, which editors read for completion."""
    schema = Manifest.model_json_schema()
    models = schema["properties"]["models"]["patternProperties"]
    for pattern, arguments in models.items():  # or what is loaded
        models[pattern] = {"anyOf": [{"type": "string"}, arguments]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def load_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: it cannot be read, or a field is missing, unknown or invalid; one line.
    """
    try:
        text = path.read_text("utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ManifestError(f"{path}: contains {type(content).__name__}, not a mapping; fields: {_fields(Manifest)}")
    if twice := _twice(node):
        raise ManifestError(f"{path}: {twice} is given twice")
    try:
        return _placed(Manifest.model_validate(content), path.parent.resolve())
    except ValidationError as error:
        raise ManifestError(f"{path}: {_explained(error.errors()[0])}") from error


def _placed(manifest: Manifest, folder: Path) -> Manifest:
    """A manifest whose relative paths are those of its folder, wherever it is used."""

    def place(value: Any) -> Any:
        begin, text = ("run:", value[4:]) if str(value).startswith("run:") else ("", value)
        local = isinstance(text, str) and text not in _installed() and not Path(text).is_absolute()
        return f"{begin}{folder / text}" if local and text and (folder / text).exists() else value

    models = {
        name: {key: place(value) if key in _PATHS else value for key, value in arguments.items()}
        for name, arguments in manifest.models.items()
    }
    pruning = tuple(
        one.model_copy(update={"recipe": place(one.recipe), "calibration": place(one.calibration)})
        for one in manifest.pruning
    )
    return manifest.model_copy(
        update={"models": models, "pruning": pruning, "include_path": place(manifest.include_path)}
    )


def _installed() -> list[str]:
    """Names that are no paths, even if there is a file of the name."""
    return [TINY_CHAIN.name, *recipe_names()]


def _twice(node: yaml.Node | None) -> str:
    """A key that is given twice, of which YAML silently takes the last; empty if there is none."""
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        found = next((key for key in keys if keys.count(key) > 1), "")
        return found or next(filter(None, (_twice(value) for _, value in node.value)), "")
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_twice, node.value)), "")
    return ""


_PARTS: Mapping[str, type[BaseModel]] = {
    "pruning": Pruning, "local": Local, "slurm": Slurm, "ray": Ray, "launch": Launch,
}  # fmt: skip


def _explained(fault: ErrorDetails) -> str:
    place = [str(part) for part in fault["loc"]]
    where = f"{'.'.join(place)}: " if place else ""
    if fault["type"] == "extra_forbidden":
        parent = next((_PARTS[part] for part in reversed(place[:-1]) if part in _PARTS), Manifest)
        return f"{where}unknown field; {_meant(place[-1], parent.model_fields)}"
    said = str(fault["msg"]).removeprefix("Value error, ")
    given = f" (given {str(fault['input'])[:80]!r})" if fault["type"] not in ("missing", "value_error") else ""
    return f"{where}{said}{given}"


def _meant(given: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, known := list(known), 1)
    return f"did you mean {near[0]}?" if near else f"expected one of: {', '.join(known)}"


def _fields(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)
