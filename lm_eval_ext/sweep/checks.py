"""What is wrong with a manifest beyond its form: names and files that don't exist. Nothing is run before these pass."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lm_eval_ext.errors import ManifestError, TTSError
from lm_eval_ext.harness.arguments import NAMES, Arguments
from lm_eval_ext.harness.registry import ENGINES, engine_of
from lm_eval_ext.harness.server_arguments import ServerArguments
from lm_eval_ext.paths import located
from lm_eval_ext.sweep.manifest import Manifest, PlannedPruning, meant
from lm_eval_ext.sweep.plan import Stage
from lm_eval_ext.sweep.study import Study

# lm-eval's model classes that ours build on.
_THEIRS = {"pruned-hf": "lm_eval.models.huggingface:HFLM", "pruned-vllm": "lm_eval.models.vllm_causallms:VLLM"}
_NEAR = 0.85  # how alike a misspelt name must be to a known one, to be refused where any name could be meant


def check(study: Study) -> None:
    """Check what a study names.

    Raises:
        ManifestError: the first thing that is wrong; the message names the file and the field.
    """
    for place, checking in _checks(study):
        try:
            checking()
        except TTSError as error:
            raise ManifestError(f"{study.path}: {place}: {error}") from error


def _checks(study: Study) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each check, with the field that it is of."""
    manifest = study.manifest
    yield "output", lambda: _check_output(study.folder)
    if manifest.include_path is not None:
        yield "include_path", lambda: _check_folder(str(manifest.include_path))
    if manifest.gen_kwargs:
        yield "gen_kwargs", lambda: _check_generation(manifest.gen_kwargs)
    for number, pruning in enumerate(manifest.pruning):
        yield f"pruning.{number}", lambda pruning=pruning: _check_pruning(pruning)  # type: ignore[misc] # bound here
    for name, given in manifest.models.items():
        arguments = manifest.model_args | given
        yield f"models.{name}", lambda arguments=arguments: _check_model(manifest, arguments)  # type: ignore[misc] # bound here
    for stage in study.stages:
        yield "pruning", lambda stage=stage: _check_depth(stage)  # type: ignore[misc] # bound here
    yield "tasks", lambda: _check_tasks(study)


def _check_output(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ManifestError(f"{folder} is a file; give a folder")


def _check_folder(path: str) -> None:
    if not Path(path).is_dir():
        raise ManifestError(f"{path} is no folder")


def _check_generation(given: Mapping[str, object]) -> None:
    from lm_eval_ext.generation.options import parse_options

    parse_options(given, answer_budget=None, max_tokens=1)


def _check_pruning(pruning: PlannedPruning) -> None:
    from lm_eval_ext.pruning.calibration import check_source
    from lm_eval_ext.pruning.recipe import load_recipe
    from lm_eval_ext.pruning.selection import method_parameters

    if pruning.recipe is not None:
        load_recipe(pruning.recipe)
    if pruning.calibration is not None:
        check_source(pruning.calibration)
    known = method_parameters(pruning.method) if pruning.method else {}
    unknown = next((name for name in pruning.parameters if name not in known), None)
    if unknown is not None:
        raise ManifestError(f"{pruning.method} has no parameter {unknown!r}; {meant(unknown, known or ['none'])}")


def _check_model(manifest: Manifest, arguments: Mapping[str, object]) -> None:
    """Check the values of our own arguments, and whether another one is one of them, misspelt."""
    for name in ("pretrained", "tokenizer", "peft"):
        path = arguments.get(name)
        if isinstance(path, str) and path.startswith((".", "/", "~")) and not Path(located(path)).exists():
            raise ManifestError(f"{name}={path}: is not there")
    if not ENGINES[engine_of(manifest.engine)].drops_layers:
        ServerArguments.taken(arguments)
        return
    Arguments.of({name: value for name, value in arguments.items() if name in NAMES})
    if others := [name for name in arguments if name not in (*NAMES, "pretrained", "revision", "dtype")]:
        _check_names(others, manifest.engine)


def _check_names(names: Sequence[str], engine: str) -> None:
    """Refuse what is almost the name of an argument; a loader may know any other."""
    try:
        theirs = inspect.signature(pkgutil.resolve_name(_THEIRS[engine])).parameters
    except ImportError:  # it is evaluated on another machine, whose packages aren't here
        return
    for name in names:
        near = [] if name in theirs else difflib.get_close_matches(name, [*NAMES, *theirs], 1, _NEAR)
        if near:
            raise ManifestError(f"unknown model argument {name!r}; did you mean {near[0]}?")


def _check_depth(stage: Stage) -> None:
    """Check the numbers of layers, if the model is on this machine."""
    from lm_eval_ext.pruning.architecture import depth
    from lm_eval_ext.pruning.checkpoint import read_config
    from lm_eval_ext.pruning.selection import method_named

    place = located(stage.base)
    if method_named(str(stage.pruning.method)).blocks or not Path(place).is_dir():
        return  # it counts blocks, or the model isn't here
    layers = depth(read_config(place, "main"))
    if stage.counts[-1] >= layers:
        raise ManifestError(f"remove={stage.counts[-1]}: {stage.base} has {layers} layers; at most {layers - 1} can go")


def _check_tasks(study: Study) -> None:
    """Check the tasks that aren't of this registry, which takes longer."""
    named = (*study.manifest.tasks, *study.manifest.other_tasks)
    others = [task for task in named if not (study.tasks.is_ours(task) or study.tasks.is_ours(f"tts_{task}"))]
    if not others:
        return
    from lm_eval_ext.harness.session import unknown_task

    unknown = unknown_task(others, study.manifest.include_path)
    if unknown is not None:
        raise ManifestError(f"unknown task {unknown[0]!r}{unknown[1]}; `lm_eval ls tasks` lists all")
