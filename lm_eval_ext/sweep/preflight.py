"""Before a study is run: whether what it names is there, and what it costs at most in tokens and hours on a GPU."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.authoring.trial import costs_of_tasks
from lm_eval_ext.errors import ManifestError, ResultsError, TaskError, TTSError, did_you_mean
from lm_eval_ext.generation.request import canonical, parse_options
from lm_eval_ext.harness.arguments import NAMES, Arguments
from lm_eval_ext.harness.effects import NEAR
from lm_eval_ext.harness.registry import ENGINES, engine_of
from lm_eval_ext.harness.server_arguments import ServerArguments
from lm_eval_ext.paths import json_object, located
from lm_eval_ext.redaction import mapping, whole
from lm_eval_ext.sweep.manifest import BY_HAND, TRACES, Manifest, PlannedPruning
from lm_eval_ext.sweep.plan import PlannedRun, Stage
from lm_eval_ext.sweep.sources import Study

if TYPE_CHECKING:
    from rich.table import Table


_PER_PARAMETER = 2  # operations of a parameter for a token: a product and a sum


class RunCost(NamedTuple):
    """What a run costs at most; None where it is unknown.

    Attributes:
        run: its name.
        tokens: to generate, with budgets that share their traces.
        apart: the same, if each budget were a run of its own.
        parameters: of the model.
        unknown: tasks that are not counted: lm-eval's own, and those without a number of questions.
    """

    run: str
    tokens: int
    apart: int
    parameters: int | None
    unknown: tuple[str, ...]

    @property
    def operations(self) -> float | None:
        """Floating-point operations, of the whole model; None if its size is unknown."""
        return None if self.parameters is None else float(_PER_PARAMETER * self.parameters * self.tokens)


@dataclass(frozen=True)
class Estimate:
    """What all runs cost at most.

    Attributes:
        runs: each of them.
        seconds: of those that are done, by name.
        generated: tokens that those have generated, by name.
    """

    runs: Sequence[RunCost]
    seconds: Mapping[str, float]
    generated: Mapping[str, int]


def estimated(study: Study, runs: Sequence[PlannedRun]) -> Estimate:
    """The costs of runs of a study.

    Raises:
        ManifestError: `gen_kwargs` are not valid.
    """
    _check_generation(study)
    sizes = {model: _parameters(study, run) for model, run in {run.model: run for run in runs}.items()}
    found = [_of_run(study, run, sizes[run.model]) for run in runs]
    done = {run.name: study.found(run).said for run in runs if study.found(run).state == "done"}
    seconds = {name: float(str(said.get("seconds") or 0)) for name, said in done.items()}
    generated = {run.name: _generated(study, run) for run in runs if run.name in done and run.seed is not None}
    return Estimate(found, seconds, generated)


def _generated(study: Study, run: PlannedRun) -> int:
    """Tokens that a finished run has generated, before and after it was interrupted."""
    content = json_object(study.results_of(run), ResultsError)
    counted = mapping(mapping(content.get("config")).get("generation"))
    return sum(whole(counted.get(name)) or 0 for name in ("thinking_tokens", "answer_tokens", "resumed_tokens"))


def _of_run(study: Study, run: PlannedRun, parameters: int | None) -> RunCost:
    names = [name for task in run.tasks for name in study.tasks.members(task)]
    given = canonical(study.manifest.gen_kwargs)
    asked = [
        {**fields, "generation_kwargs": canonical(mapping(fields.get("generation_kwargs"))) | given}
        for name in names
        if (fields := study.tasks.fields(name))
    ]
    counted = costs_of_tasks(asked, study.manifest.limit)
    named = {one.benchmark for one in counted}
    unknown = [one.benchmark for one in counted if one.tokens is None]
    unknown += [] if named else list(run.tasks)
    tokens, apart = (sum(getattr(one, name) or 0 for one in counted) for name in ("tokens", "apart"))
    return RunCost(run.name, tokens, apart, parameters, tuple(unknown))


def _parameters(study: Study, run: PlannedRun) -> int | None:
    """Parameters of the whole model, if its config is within reach."""
    from lm_eval_ext.pruning.checkpoint import read_config
    from lm_eval_ext.pruning.sliced_model import parameter_count

    name, revision = study.loaded_by(run)
    if name is None or not (Path(located(name)).is_dir() or study.sources.commit(name, revision)):
        return None
    try:
        return parameter_count(read_config(located(name), revision or "main"))
    except (TTSError, OSError, ValueError):  # out of reach, or a config that names no causal language model
        return None


def as_table(estimate: Estimate, speed: Speed | None) -> Table:
    """One line for each run."""
    from rich.table import Table

    table = Table("run")
    for name in ("tokens at most", "each budget apart", "parameters", "FLOPs", *(["GPU hours"] if speed else [])):
        table.add_column(name, justify="right")
    table.add_column("not counted")
    for one in estimate.runs:
        table.add_row(one.run, *_figures(one, speed), ", ".join(one.unknown))
    return table


def _figures(one: RunCost, speed: Speed | None) -> list[str]:
    """The numbers of a run; question marks if nothing of it is counted."""
    hours = [_or_unknown(speed.hours(one.tokens, one.operations), ",.2f")] if speed else []
    costs = [f"{one.tokens:,}", f"{one.apart:,}", _or_unknown(one.operations, ".1e"), *hours]
    if one.unknown and not one.tokens:
        costs = ["?"] * len(costs)
    return [*costs[:2], _or_unknown(one.parameters, ","), *costs[2:]]


def as_sentences(estimate: Estimate, speed: Speed | None) -> str:
    """The whole in words."""
    tokens, apart = (sum(getattr(one, name) for one in estimate.runs) for name in ("tokens", "apart"))
    saved = 1 - tokens / apart if apart else 0.0
    said = [f"{_count(len(estimate.runs))}: at most {tokens:,} tokens; shared traces save {saved:.0%}."]
    each = [one.operations for one in estimate.runs if one.tokens]
    operations = None if None in each else sum(one for one in each if one is not None)
    if operations is not None:
        said.append(f"{operations:.1e} floating-point operations at most.")
    if speed is not None:
        hours = speed.hours(tokens, operations)
        unknown = "GPU hours are unknown, because a model's size is out of reach; give --speed."
        said.append(unknown if hours is None else f"At most {_hours(hours)} GPU hours {speed.said}.")
    if uncounted := sum(bool(one.unknown) for one in estimate.runs):
        said.append(f"Tasks that aren't counted are in {_count(uncounted)}.")
    return " ".join([*said, *_of_finished(estimate, tokens)])


def _of_finished(estimate: Estimate, tokens: int) -> list[str]:
    """What finished runs say of the others; `tokens` are those of all at most."""
    if not estimate.seconds:
        return []
    done = len(estimate.seconds)
    mean = sum(estimate.seconds.values()) / done
    left = (len(estimate.runs) - done) * mean / 3600
    said = [f"{done} {'is' if done == 1 else 'are'} done, in {mean:,.0f} s each: {_hours(left)} hours are left."]
    if most := sum(one.tokens for one in estimate.runs if one.run in estimate.generated):
        used = sum(estimate.generated.values()) / most
        expected = round(used * tokens)
        said.append(f"They took {used:.0%} of their most tokens, which makes {expected:,} for all runs.")
    return said


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _or_unknown(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


def _count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


# Dense bfloat16 arithmetic of a GPU, in operations per second, by its maker's data sheet.
GPUS = {"a100": 312e12, "h100": 989e12, "h200": 989e12, "l40s": 362e12, "rtx4090": 165e12}
_USED = 0.2  # share of it that decoding in large batches is taken to reach: a rule of thumb, so measure if it matters


@dataclass(frozen=True)
class Speed:
    """A speed in tokens per second, or in operations per second.

    Attributes:
        tokens: tokens per second; None if it follows from the operations.
        operations: operations per second.
        said: the speed in words.
    """

    tokens: float | None
    operations: float
    said: str

    def hours(self, tokens: int, operations: float | None) -> float | None:
        """Hours for so many tokens or operations; None if the operations are needed and unknown."""
        if self.tokens is not None:
            return tokens / self.tokens / 3600
        return None if operations is None else operations / self.operations / 3600


def speed_of(tokens: float | None, gpu: str | None) -> Speed | None:
    """The speed that is given; None if none is.

    Raises:
        ManifestError: the GPU is unknown, or both are given.

    >>> speed_of(1000, None).hours(3_600_000, None)
    1.0
    """
    if tokens is not None and gpu is not None:
        raise ManifestError("--speed and --gpu: give one of them")
    if tokens is not None:
        return Speed(tokens, 0.0, f"at {tokens:,.0f} tokens/s")
    if gpu is None:
        return None
    if gpu.lower() not in GPUS:
        raise ManifestError(f"--gpu {gpu}: expected one of: {', '.join(GPUS)}; or give --speed in tokens/s")
    return Speed(None, GPUS[gpu.lower()] * _USED, f"on {gpu.lower()}, if {_USED:.0%} of its arithmetic is used")


_CONFIGS = ("config.json", "params.json", "adapter_config.json")  # of a model: also Mistral's form, and an adapter
# lm-eval's model classes that ours build on.
_THEIRS = {"pruned-hf": "lm_eval.models.huggingface:HFLM", "pruned-vllm": "lm_eval.models.vllm_causallms:VLLM"}


def check(study: Study) -> None:
    """Check what a study names.

    Raises:
        ManifestError: the first thing that is wrong; the message names the file and the field.
    """
    manifest = study.manifest
    with _of_field(study, "output"):
        if study.folder.exists() and not study.folder.is_dir():
            raise ManifestError(f"{study.folder} is a file; give a folder")
    with _of_field(study, "include_path"):
        if manifest.include_path is not None and not Path(manifest.include_path).is_dir():
            raise ManifestError(f"{manifest.include_path} is no folder")
    _check_generation(study)
    for number, pruning in enumerate(manifest.pruning):
        with _of_field(study, f"pruning.{number}"):
            _check_pruning(pruning)
    for name, given in manifest.models.items():
        with _of_field(study, study.place_of(name)):
            _check_model(manifest, manifest.model_args | given)
    for stage in study.stages:
        with _of_field(study, "pruning"):
            _check_depth(stage)
    with _of_field(study, study.tasks_field):
        _check_tasks(study)


def _check_generation(study: Study) -> None:
    with _of_field(study, "gen_kwargs"):
        parse_options(study.manifest.gen_kwargs, answer_budget=None, max_tokens=1)


@contextmanager
def _of_field(study: Study, field: str) -> Iterator[None]:
    """Say of an error within the context in which field it is."""
    try:
        yield
    except TTSError as error:
        raise ManifestError(f"{study.path}: {field}: {error}") from error


def _check_pruning(pruning: PlannedPruning) -> None:
    from lm_eval_ext.pruning.calibration import check_source
    from lm_eval_ext.pruning.recipe import load_recipe
    from lm_eval_ext.pruning.selection import complete_parameters

    if pruning.recipe is not None:
        load_recipe(pruning.recipe)
    if pruning.calibration not in (None, TRACES):
        check_source(pruning.calibration)
    if pruning.method is not None:
        complete_parameters(pruning.method, pruning.parameters)


def _check_model(manifest: Manifest, arguments: Mapping[str, object]) -> None:
    """Check the values of our own arguments, and whether another one is one of them, misspelt."""
    for name in ("pretrained", "tokenizer", "peft"):
        path = arguments.get(name)
        if isinstance(path, str) and path.startswith((".", "/", "~")) and not Path(located(path)).exists():
            raise ManifestError(f"{name}={path}: is not there")
    loaded = arguments.get("pretrained")
    folder = Path(located(loaded)) if isinstance(loaded, str) and loaded else None
    configured = folder and ("gguf_file" in arguments or any((folder / name).is_file() for name in _CONFIGS))
    if folder and folder.is_dir() and not configured:
        raise ManifestError(f"pretrained={loaded}: has no {_CONFIGS[0]}, so it is no model")
    if not ENGINES[engine_of(manifest.engine)].drops_layers:
        ServerArguments.taken(arguments)
        return
    from lm_eval_ext.harness.prune_on_load import check_choice
    from lm_eval_ext.pruning.recipe import parse_experts, parse_layers

    for name in BY_HAND:
        if arguments.get(name) is not None:
            (parse_experts if name == "drop_experts" else parse_layers)(arguments[name], name)
    check_choice(Arguments.of({name: value for name, value in arguments.items() if name in NAMES}))
    if others := [name for name in arguments if name not in (*NAMES, "pretrained", "revision", "dtype")]:
        _check_names(others, manifest.engine)


def _check_names(names: Sequence[str], engine: str) -> None:
    """Refuse what is almost the name of an argument; a loader may know any other."""
    if engine not in _THEIRS:
        return
    try:
        theirs = inspect.signature(pkgutil.resolve_name(_THEIRS[engine])).parameters
    except ImportError:  # it is evaluated on another machine, whose packages aren't here
        return
    for name in names:
        if name not in theirs and (hint := did_you_mean(name, [*NAMES, *theirs], NEAR)):
            raise ManifestError(f"unknown model argument {name!r}{hint}")


def _check_depth(stage: Stage) -> None:
    """Check the numbers of layers, if the model is on this machine."""
    from lm_eval_ext.pruning.architecture import depth
    from lm_eval_ext.pruning.checkpoint import read_config
    from lm_eval_ext.pruning.selection import method_named

    place = located(stage.base)
    method = method_named(str(stage.pruning.method))
    if method.blocks or method.experts or method.weights or not Path(place).is_dir():
        return  # it counts something else, or the model isn't here
    layers = depth(read_config(place, "main"))
    most = max(int(count) for count in stage.counts)
    if most >= layers:
        raise ManifestError(f"remove={most}: {stage.base} has {layers} layers; at most {layers - 1} can go")


def _check_tasks(study: Study) -> None:
    """Check the tasks that aren't of this registry, which takes longer."""
    named = (*study.manifest.tasks, *study.manifest.other_tasks)
    others = [task for task in map(study.tasks.named, named) if not study.tasks.is_ours(task)]
    if not others:
        return
    from lm_eval_ext.harness.session import task_manager

    try:
        task_manager(others, study.manifest.include_path)
    except TaskError as error:
        raise ManifestError(str(error)) from error
