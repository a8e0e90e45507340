"""What a manifest amounts to: stages that choose layers, and runs, each one `lm_eval` command. Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lm_eval_ext.authoring.task_registry import Tasks
from lm_eval_ext.errors import ManifestError
from lm_eval_ext.harness.effects import marked
from lm_eval_ext.paths import digest
from lm_eval_ext.pruning.recipe import chosen_name, format_layers, in_names, parse_experts, parse_layers
from lm_eval_ext.sweep.manifest import BY_HAND, TRACES, Exclude, Manifest, PlannedPruning

_WHOLE = "dense"  # what a whole model's run is called


@dataclass(frozen=True)
class Stage:
    """Choosing layers of a model by a method, once for all numbers of layers.

    Attributes:
        name: unique within a manifest.
        loading: the model's name or folder, and how it is loaded: `pretrained`, `revision`, `dtype`,
            `trust_remote_code`; what isn't given is left out.
        pruning: the method and its calibration.
        counts: how much to remove: numbers, or shares of experts or weights.
        traces: the run whose correct replies are the calibration texts; empty if they are others.
    """

    name: str
    loading: Mapping[str, str]
    pruning: PlannedPruning
    counts: tuple[int | str, ...]
    traces: str = ""

    @property
    def base(self) -> str:
        """Name or folder of the model."""
        return self.loading["pretrained"]

    @property
    def depends_on(self) -> dict[str, object]:
        """What the choice depends on, but for what is in the files that this names."""
        return {**self.loading, **self.pruning.model_dump(mode="json", exclude={"remove"})}

    def recipe(self, count: int | str) -> str:
        """File name of a recipe, as `lm-eval-tts prune` gives it."""
        return chosen_name(self.base, str(self.pruning.method), self.pruning.parameters.values(), count)

    def command(self, folder: str) -> list[str]:
        """The arguments of `lm-eval-tts` that write all recipes into a folder."""
        how = self.pruning
        options = {
            "--base": self.base, "--revision": self.loading.get("revision"), "--dtype": self.loading.get("dtype"),
            "--method": how.method, "--remove": ",".join(map(str, self.counts)), "--calibration": how.calibration,
            "--samples": how.samples, "--max-tokens": how.max_tokens, "--out": folder,
        }  # fmt: skip
        words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        trusted = ["--trust-remote-code"] if self.loading.get("trust_remote_code") == "True" else []
        parameters = [word for pair in how.parameters.items() for word in ("--set", "=".join(map(str, pair)))]
        return ["prune", *words, *trusted, *parameters]


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
        count: how much the stage's method removes.
        selectors: what `exclude` goes by.
    """

    name: str
    model: str
    pruning: str
    seed: int | None
    tasks: tuple[str, ...]
    arguments: Mapping[str, object]
    stage: Stage | None = None
    count: int | str = 0
    selectors: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Variant:
    """One way to make a model smaller."""

    label: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    pruning: PlannedPruning | None = None
    count: int | str = 0


def planned(manifest: Manifest, registry: Tasks) -> list[PlannedRun]:
    """All runs of a manifest, in its order.

    Args:
        manifest: the manifest.
        registry: the tasks of this registry.

    Raises:
        ManifestError: a variant is not in the registry, a rule excludes nothing, or nothing is left to run.
    """
    ours, others = _tasks_of(manifest, registry)
    variants = list(_variants(manifest))
    runs = []
    for name, variant in itertools.product(manifest.models, variants):
        seeds: list[tuple[int | None, tuple[str, ...]]] = [(seed, ours) for seed in manifest.seeds if ours]
        seeds += [(None, others)] if others else []
        runs += [_run(manifest, name, variant, seed, tasks) for seed, tasks in seeds]
    kept = _with_common_stages(_kept(runs, manifest.exclude))
    missing = {run.stage.traces for run in kept if run.stage} - {"", *(run.name for run in kept)}
    if missing:
        raise ManifestError(
            f"calibration: traces needs {min(missing)}, the whole model on `tasks` with the first seed; give 0 in "
            "`remove`, and don't exclude it"
        )
    return kept


def stages(runs: Sequence[PlannedRun]) -> list[Stage]:
    """The stages that runs need, each once."""
    return list({run.stage.name: run.stage for run in runs if run.stage is not None}.values())


Item = Stage | PlannedRun


def _kept(runs: Sequence[PlannedRun], rules: Sequence[Exclude]) -> list[PlannedRun]:
    for number, rule in enumerate(rules):
        if not any(_matches(run, rule) for run in runs):
            raise ManifestError(f"exclude.{number}: no run has {rule}; there are {_selectable(runs)}")
    kept = [run for run in runs if not any(_matches(run, rule) for rule in rules)]
    if not kept:
        raise ManifestError("exclude: nothing is left to run")
    return kept


def _matches(run: PlannedRun, rule: Exclude) -> bool:
    return all(run.selectors[name] == value for name, value in rule.given.items())


def _selectable(runs: Sequence[PlannedRun]) -> str:
    """All values that a rule can name."""
    names = {name: list(dict.fromkeys(str(run.selectors[name]) for run in runs)) for name in Exclude.model_fields}
    return "; ".join(f"{name}: {', '.join(values)}" for name, values in names.items())


def _with_common_stages(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs with one stage for all that depend on the same choice, also under several names."""
    alike: dict[str, list[Stage]] = {}
    for run in runs:
        if run.stage is not None:
            same = json.dumps([run.stage.depends_on, run.stage.traces], default=str)
            alike.setdefault(same, []).append(run.stage)
    common = {
        id(one): replace(some[0], counts=_sorted({count for other in some for count in other.counts}))
        for some in alike.values()
        for one in some
    }
    return [run if run.stage is None else replace(run, stage=common[id(run.stage)]) for run in runs]


def _sorted(counts: Iterable[int | str]) -> tuple[int | str, ...]:
    return tuple(sorted(counts, key=lambda count: (isinstance(count, str), count)))


def _run(manifest: Manifest, model: str, variant: _Variant, seed: int | None, tasks: tuple[str, ...]) -> PlannedRun:
    given = {**manifest.model_args, **manifest.models[model]}
    how = variant.pruning
    stage = _stage(model, given, how, variant.count, manifest) if how is not None and variant.count else None
    parts = [model, variant.label, "other" if seed is None else f"s{seed}"]
    remove = variant.count if how or not variant.arguments else None  # layers by hand are no number of a method's
    selectors = {"model": model, "method": how.method if how else variant.label, "remove": remove, "seed": seed}
    arguments = {**given, **variant.arguments}
    return PlannedRun(
        "-".join(parts), model, variant.label, seed, tasks, arguments, stage, variant.count, selectors
    )  # fmt: skip


def _stage(model: str, given: Mapping[str, object], how: PlannedPruning, count: int | str, manifest: Manifest) -> Stage:
    loading = {name: str(given[name]) for name in marked("loads") if given.get(name) is not None}
    traces = f"{model}-{_WHOLE}-s{manifest.seeds[0]}" if how.calibration == TRACES else ""
    return Stage(f"{model}-{_label(how, manifest)}", loading, how, (count,), traces)


def _variants(manifest: Manifest) -> Iterator[_Variant]:
    """The whole model first, if it is asked for, then every way to make it smaller."""
    if not manifest.pruning or any(0 in one.remove for one in manifest.pruning):
        yield _Variant(_WHOLE)
    for one in manifest.pruning:
        if one.method is not None:
            for count in one.remove:
                if count:
                    yield _Variant(f"{_label(one, manifest)}-{in_names(count)}", pruning=one, count=count)
        elif one.recipe is not None:
            yield _Variant(_recipe_label(one.recipe, manifest), {"recipe": one.recipe})
        elif one.remove != (0,):
            by_hand = {name: getattr(one, name) for name in BY_HAND if getattr(one, name) is not None}
            yield _Variant("-".join(_dropped_label(name, some) for name, some in by_hand.items()), by_hand)


def _dropped_label(name: str, dropped: object) -> str:
    """What is dropped by hand; of experts, their number and a digest."""
    if name == "drop_experts":
        experts = parse_experts(dropped)
        return f"experts{sum(map(len, experts.values()))}-{digest(experts)[:6]}"
    return f"{name.removesuffix('_layers')}{format_layers(parse_layers(dropped, name))}"


def _recipe_label(recipe: str, manifest: Manifest) -> str:
    """A recipe's name, with its folder's where several have it."""
    path = Path(recipe)
    alike = {one.recipe for one in manifest.pruning if one.recipe and Path(one.recipe).stem == path.stem}
    return _word(path.stem if len(alike) == 1 else f"{path.parent.name}-{path.stem}")


def _label(how: PlannedPruning, manifest: Manifest) -> str:
    """A method, with its parameters and its calibration where that tells it from another one."""
    if sum(one.method == how.method for one in manifest.pruning) == 1:
        return str(how.method)
    given = (how.calibration, how.samples, how.max_tokens)
    parameters = (f"{name}{value}" for name, value in how.parameters.items())
    return "-".join([str(how.method), *map(_word, parameters), *(_word(one) for one in given if one is not None)])


def _word(value: object) -> str:
    """A value as a part of a file name; of a path, the last part."""
    text = str(value).rstrip("/").split("/")[-1][-60:]
    return "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in text).strip("-")


def _tasks_of(manifest: Manifest, registry: Tasks) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A manifest's tasks of this registry, in all budgets and votes; and those of lm-eval itself."""
    named = [registry.named(task) for task in manifest.tasks]
    ours = [name for name in named if registry.is_ours(name)]
    others = [*(name for name in named if not registry.is_ours(name)), *manifest.other_tasks]
    varied = [one for task in ours for one in _varied(task, manifest, registry)]
    return tuple(dict.fromkeys(varied)), tuple(others)


def _varied(task: str, manifest: Manifest, registry: Tasks) -> list[str]:
    wanted = [f"{task}_b{budget}" for budget in manifest.budgets] + [f"{task}_maj{count}" for count in manifest.votes]
    missing = next((name for name in wanted if not registry.is_ours(name)), None)
    if missing is not None:
        raise ManifestError(
            f"tasks: {task} has no variant {missing.removeprefix(task)[1:]}; add it to `variants` in the task's "
            "YAML and run `lm-eval-tts tasks sync`, or name variants and groups themselves and leave out budgets "
            "and votes"
        )
    return wanted or [task]
