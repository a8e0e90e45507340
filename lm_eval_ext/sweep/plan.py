"""What a manifest amounts to: stages that choose layers, and runs, each one `lm_eval` command. Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.paths import located
from lm_eval_ext.pruning.recipe import format_layers, parse_layers
from lm_eval_ext.sweep.manifest import Manifest, Pruning

IsOurs = Callable[[str], bool]  # whether the registry has a task of a name
BY_HAND = ("drop_layers", "drop_attention", "drop_mlp")


@dataclass(frozen=True)
class Stage:
    """Choosing layers of a model by a method, once for all numbers of layers.

    Attributes:
        name: unique within a manifest.
        base: name or folder of the model.
        revision: branch, tag or commit of it; None for the default.
        pruning: the method and its calibration.
        counts: the numbers of layers to remove.
    """

    name: str
    base: str
    revision: str | None
    pruning: Pruning
    counts: tuple[int, ...]

    def recipe(self, count: int) -> str:
        """File name of a recipe, as `lm-eval-tts prune` gives it."""
        words = [self.pruning.method or "", *(str(value) for value in self.pruning.parameters.values())]
        return f"{self.base.rstrip('/').split('/')[-1].lower()}-{'-'.join(words)}-{count}.yaml"

    def command(self, folder: str) -> list[str]:
        """The arguments of `lm-eval-tts` that write all recipes into a folder."""
        how = self.pruning
        options = {
            "--base": self.base, "--revision": self.revision, "--method": how.method,
            "--remove": ",".join(map(str, self.counts)), "--calibration": how.calibration, "--samples": how.samples,
            "--max-tokens": how.max_tokens, "--out": folder,
        }  # fmt: skip
        words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        return [
            "prune",
            *words,
            *(word for pair in how.parameters.items() for word in ("--set", "=".join(map(str, pair)))),
        ]


@dataclass(frozen=True)
class PlannedRun:
    """One `lm_eval` command: a model, a pruning and a seed on all tasks, so that budgets share their traces.

    Attributes:
        name: unique within a manifest.
        model: its name in the manifest.
        pruning: what is done to it: `dense`, `shortgpt-2`, ...
        seed: None for tasks of lm-eval's own, which are run once, without the manifest's generation arguments.
        tasks: names of tasks.
        arguments: model arguments, but for the recipe of a stage.
        stage: chooses the layers; None if nothing has to be chosen.
        count: number of layers that the stage's method removes.
        selectors: what `exclude` and `--only` go by.
    """

    name: str
    model: str
    pruning: str
    seed: int | None
    tasks: tuple[str, ...]
    arguments: Mapping[str, object]
    stage: Stage | None = None
    count: int = 0
    selectors: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Variant:
    """One way to make a model smaller."""

    label: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    pruning: Pruning | None = None
    count: int = 0


def planned(manifest: Manifest, is_ours: IsOurs) -> list[PlannedRun]:
    """All runs of a manifest, in its order.

    Args:
        manifest: the manifest.
        is_ours: whether this registry has a task of a name.

    Raises:
        ManifestError: a task or variant is not in the registry, or nothing is left to run.
    """
    ours, others = _tasks(manifest, is_ours)
    variants = list(_variants(manifest))
    runs = []
    for name, variant in itertools.product(manifest.models, variants):
        seeds: list[tuple[int | None, tuple[str, ...]]] = [(seed, ours) for seed in manifest.seeds if ours]
        seeds += [(None, others)] if others else []
        runs += [_run(manifest, name, variant, seed, tasks) for seed, tasks in seeds]
    kept = [run for run in runs if not any(_matches(run, rule) for rule in manifest.exclude)]
    if not kept:
        raise ManifestError("exclude: nothing is left to run")
    return kept


def stages(runs: Sequence[PlannedRun]) -> list[Stage]:
    """The stages that runs need, each once."""
    return list({run.stage.name: run.stage for run in runs if run.stage is not None}.values())


def _matches(run: PlannedRun, rule: Mapping[Any, object]) -> bool:
    return all(str(run.selectors.get(name)) == str(value) for name, value in rule.items())


def _run(manifest: Manifest, model: str, variant: _Variant, seed: int | None, tasks: tuple[str, ...]) -> PlannedRun:
    given = {**manifest.model_args, **manifest.models[model]}
    how = variant.pruning
    stage = _stage(model, given, how, manifest) if how is not None and variant.count else None
    parts = [model, variant.label, "other" if seed is None else f"s{seed}"]
    selectors = {"model": model, "method": how.method if how else variant.label, "remove": variant.count, "seed": seed}
    arguments = {**given, **variant.arguments}
    return PlannedRun(
        "-".join(parts), model, variant.label, seed, tasks, arguments, stage, variant.count, selectors
    )  # fmt: skip


def _stage(model: str, given: Mapping[str, object], how: Pruning, manifest: Manifest) -> Stage:
    counts = tuple(sorted({count for count in how.remove if count}))
    revision = given.get("revision")
    name = "-".join([model, _label(how, manifest)])
    return Stage(name, str(given["pretrained"]), None if revision is None else str(revision), how, counts)


def _variants(manifest: Manifest) -> Iterator[_Variant]:
    """The whole model first, if it is asked for, then every way to make it smaller."""
    if not manifest.pruning or any(0 in one.remove for one in manifest.pruning):
        yield _Variant("dense")
    for one in manifest.pruning:
        if one.method is not None:
            for count in one.remove:
                if count:
                    yield _Variant(f"{_label(one, manifest)}-{count}", pruning=one, count=count)
        elif one.recipe is not None:
            yield _Variant(one.recipe.split("/")[-1].removesuffix(".yaml"), {"recipe": one.recipe})
        elif one.remove != (0,):
            by_hand = {name: getattr(one, name) for name in BY_HAND if getattr(one, name) is not None}
            said = (
                f"{name.removesuffix('_layers')}{format_layers(parse_layers(some, name))}"
                for name, some in by_hand.items()
            )
            yield _Variant("-".join(said), by_hand)


def _label(how: Pruning, manifest: Manifest) -> str:
    """A method, with its parameters and its calibration where that tells it from another one."""
    if sum(one.method == how.method for one in manifest.pruning) == 1:
        return str(how.method)
    given = (*how.parameters.values(), how.calibration, how.samples, how.max_tokens)
    return "-".join([str(how.method), *(_word(one) for one in given if one is not None)])


def _word(value: object) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in str(value)).strip("-")


# Tasks ----------------------------------------------------------------------------------------------------


def _tasks(manifest: Manifest, is_ours: IsOurs) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """This registry's tasks, in all budgets and votes, and those of lm-eval itself."""
    named = {task: task if is_ours(task) else f"tts_{task}" for task in manifest.tasks}
    ours = [name for task, name in named.items() if is_ours(name)]
    others = [*(task for task, name in named.items() if not is_ours(name)), *manifest.other_tasks]
    varied = [one for task in ours for one in _varied(task, manifest, is_ours)]
    return tuple(dict.fromkeys(varied)), tuple(others)


def _varied(task: str, manifest: Manifest, is_ours: IsOurs) -> list[str]:
    wanted = [f"{task}_b{budget}" for budget in manifest.budgets] + [f"{task}_maj{votes}" for votes in manifest.votes]
    missing = next((name for name in wanted if not is_ours(name)), None)
    if missing is not None:
        raise ManifestError(
            f"tasks: {task} has no variant {missing.removeprefix(task)[1:]}; add it to `variants` in the task's YAML "
            "and run `lm-eval-tts tasks sync`, or name variants and groups themselves and leave out budgets and votes"
        )
    return wanted or [task]


# Commands -------------------------------------------------------------------------------------------------


def command(run: PlannedRun, manifest: Manifest, output: str, extra: Mapping[str, object]) -> list[str]:
    """The arguments of `lm_eval` for a run.

    Args:
        run: the run.
        manifest: that it is from.
        output: folder for its results.
        extra: further model arguments: the recipe that was chosen, the journal, the seed.
    """
    ours = run.seed is not None
    options = {
        "--model": manifest.engine, "--model_args": model_args({**run.arguments, **extra}),
        "--tasks": ",".join(run.tasks), "--seed": run.seed, "--batch_size": manifest.batch_size,
        "--limit": manifest.limit,
        "--gen_kwargs": json.dumps(manifest.gen_kwargs) if ours and manifest.gen_kwargs else None,
        "--include_path": manifest.include_path, "--output_path": output,
    }  # fmt: skip
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return [*words, "--log_samples"]


def model_args(arguments: Mapping[str, object]) -> str:
    """Model arguments as lm-eval takes them: `name=value` pairs, or JSON if a value is a mapping."""
    given = {name: value for name, value in arguments.items() if value is not None}
    if any(isinstance(value, dict) for value in given.values()):
        return json.dumps(given, default=str)
    return ",".join(f"{name}={_value(value)}" for name, value in given.items())


def _value(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)


def chosen_on_load(run: PlannedRun) -> dict[str, object]:
    """Model arguments that choose a run's layers while the model is loaded, for a command that stands alone."""
    if run.stage is None:
        return {}
    how = run.stage.pruning
    words = [str(how.method), str(run.count), *(f"{name}={value}" for name, value in how.parameters.items())]
    numbers = {"calibration_samples": how.samples, "calibration_tokens": how.max_tokens}
    given = {"prune": ":".join(words), "calibration": how.calibration, **numbers}
    return {name: value for name, value in given.items() if value is not None}


def is_local(model: str) -> bool:
    """Whether a model is the embedded one, or in a folder."""
    return located(model) != model or model.startswith((".", "/", "~"))
