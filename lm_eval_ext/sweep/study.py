"""A study on disk: where its recipes and runs are, and what is done, running, waiting and failed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from lm_eval_ext.authoring.declared import declared_task
from lm_eval_ext.errors import ArgumentError, ManifestError
from lm_eval_ext.paths import located
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.pruning.recipe_file import load_recipe
from lm_eval_ext.runs.untrusted import mapping, sequence
from lm_eval_ext.sweep import identity
from lm_eval_ext.sweep.commits import Commits
from lm_eval_ext.sweep.locks import is_held
from lm_eval_ext.sweep.manifest import Manifest, load_manifest
from lm_eval_ext.sweep.plan import PlannedRun, Stage, chosen_on_load, command, planned, stages

State = Literal["done", "running", "failed", "waiting"]
DONE, FAILED, LOCK, LOG = "done.json", "failed.json", "lock", "log.txt"


@dataclass(frozen=True)
class Found:
    """What is known of a run or stage.

    Attributes:
        state: where it stands.
        said: the content of `done.json` or `failed.json`; empty otherwise.
    """

    state: State
    said: Mapping[str, object]


class Study:
    """A manifest and its folder.

    Args:
        path: of the manifest.
        keep: whether commits that are looked up are kept; false for commands that only show something.

    Raises:
        ManifestError: the manifest is invalid.
    """

    def __init__(self, path: Path, keep: bool = True) -> None:
        self.path = path
        self.manifest: Manifest = load_manifest(path)
        self.folder = (path.parent / self.manifest.output).resolve()
        self.commits = Commits(self.folder, keep)
        self._identities: dict[str, str] = {}  # by name; of stages, and of runs whose layers are chosen

    @cached_property
    def runs(self) -> list[PlannedRun]:
        """All runs, in the order of the manifest."""
        try:
            runs = planned(self.manifest, _is_ours)
        except (ManifestError, ArgumentError) as error:
            raise ManifestError(f"{self.path}: {error}") from error
        names = [run.name for run in runs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ManifestError(f"{self.path}: two runs are {twice}; give each pruning once")
        return runs

    @cached_property
    def stages(self) -> list[Stage]:
        """The choices of layers that runs need."""
        return stages(self.runs)

    # Stages -----------------------------------------------------------------------------------------------

    def folder_of_stage(self, stage: Stage) -> Path:
        """Where a stage's recipes are: elsewhere if the model or the calibration is another one."""
        if stage.name not in self._identities:
            how = stage.pruning.model_dump(mode="json", exclude={"remove"})
            weights = self._weights(stage.base, stage.revision)
            self._identities[stage.name] = identity.identity({"model": weights, **how, "texts": _sizes(how)})
        return self.folder / "recipes" / f"{stage.name}-{self._identities[stage.name][:8]}"

    def stage_found(self, stage: Stage) -> Found:
        """Where a stage stands: it is done when all its recipes are there."""
        folder = self.folder_of_stage(stage)
        if all((folder / stage.recipe(count)).is_file() for count in stage.counts):
            return Found("done", {})
        return self._unfinished(folder)

    def stage_command(self, stage: Stage) -> list[str]:
        """The arguments of `lm-eval-tts` that choose layers, of the commit that is evaluated."""
        commit = self._commit(stage.base, stage.revision)
        pinned = stage if commit is None else replace(stage, revision=commit)
        return pinned.command(str(self.folder_of_stage(stage)))

    # Runs -------------------------------------------------------------------------------------------------

    def recipe_of(self, run: PlannedRun) -> Path | None:
        """The recipe that a stage has chosen for a run; None if none is needed, or it isn't chosen yet."""
        path = self.folder_of_stage(run.stage) / run.stage.recipe(run.count) if run.stage else None
        return path if path is not None and path.is_file() else None

    def _loaded_recipe(self, run: PlannedRun) -> Recipe | None:
        """The recipe that a run loads, whether it is chosen by a stage or named in the manifest."""
        named = self.recipe_of(run) or run.arguments.get("recipe")
        return None if named is None else load_recipe(str(named))

    def loaded_by(self, run: PlannedRun) -> tuple[str | None, str | None]:
        """Name or folder of the model that a run loads, and its revision; None where the manifest says nothing."""
        recipe = self._loaded_recipe(run)
        model = run.arguments.get("pretrained") or (recipe.named if recipe else None)
        revision = run.arguments.get("revision") or (recipe.revision if recipe else None)
        return None if model is None else str(model), None if revision is None else str(revision)

    def is_within_reach(self, model: str, revision: str | None) -> bool:
        """Whether a model is in a folder, in the cache, or on a Hub that answers."""
        return Path(located(model)).is_dir() or self.commits.of("model", model, revision) is not None

    def content_of(self, run: PlannedRun) -> dict[str, object]:
        """All that makes a run what it is; only for runs whose layers are chosen."""
        recipe = self._loaded_recipe(run)
        return identity.content(
            run,
            self.manifest,
            model=self._weights(*self.loaded_by(run)),
            recipe=recipe.digest if recipe else None,
            config=declared_task,
            dataset=self._dataset,
        )

    def folder_of(self, run: PlannedRun) -> Path | None:
        """Where a run's log, journal and results are; None if its layers are not chosen yet."""
        if run.stage is not None and self.recipe_of(run) is None:
            return None
        if run.name not in self._identities:
            self._identities[run.name] = identity.identity(self.content_of(run))
        return self.folder / "runs" / f"{run.name}-{self._identities[run.name][:8]}"

    def found(self, run: PlannedRun) -> Found:
        """Where a run stands."""
        folder = self.folder_of(run)
        if folder is None:
            assert run.stage is not None
            chosen = self.stage_found(run.stage)
            return Found("failed", chosen.said) if chosen.state == "failed" else Found("waiting", {})
        if (folder / DONE).is_file():
            return Found("done", _read(folder / DONE))
        return self._unfinished(folder)

    def _unfinished(self, folder: Path) -> Found:
        if is_held(folder / LOCK):
            return Found("running", {})
        if (folder / FAILED).is_file():
            return Found("failed", _read(folder / FAILED))
        return Found("waiting", {})

    def command_of(self, run: PlannedRun, folder: Path, extra: Mapping[str, object]) -> list[str]:
        """The arguments of `lm_eval` that the sweep runs, with the run's own journal and commit."""
        own: dict[str, object] = {"journal": folder / "journal.sqlite", "journal_alone": True, **extra}
        arguments = self._pinned(run) | own | _recipe(self.recipe_of(run))
        return command(run, self.manifest, str(folder / "results"), arguments)

    def plain_command(self, run: PlannedRun) -> list[str]:
        """The arguments of `lm_eval` for a run by itself, without this study's folders but for the results."""
        recipe = self.recipe_of(run)
        chosen = _recipe(recipe) if recipe else chosen_on_load(run)
        output = os.path.relpath(self.folder / "plain" / run.name)
        return command(run, self.manifest, output, self._pinned(run) | chosen)

    def _pinned(self, run: PlannedRun) -> dict[str, object]:
        """The commit of the model, so that what is run is what the run's identity says."""
        commit = self._commit(*self.loaded_by(run))
        return {} if commit is None else {"revision": commit}

    def _commit(self, model: str | None, revision: str | None) -> str | None:
        if model is None or Path(located(model)).is_dir():
            return None
        return self.commits.of("model", model, revision)

    def _weights(self, model: str | None, revision: str | None) -> str | None:
        """Commit of a model on the Hub, or a hash of the weights in a folder."""
        from lm_eval_ext.pruning.architecture import depth
        from lm_eval_ext.pruning.checkpoint import read_config
        from lm_eval_ext.pruning.loading import checkpoint_fingerprint

        if model is None:
            return None
        place = located(model)
        if not Path(place).is_dir():
            return self.commits.of("model", model, revision)
        config = read_config(place, "main")
        return checkpoint_fingerprint(place, config, range(depth(config)), "main")

    def _dataset(self, config: Mapping[str, object]) -> str | None:
        name = config.get("dataset_path")
        if not isinstance(name, str) or name.count("/") != 1 or Path(name).exists():
            return None
        revision = mapping(config.get("dataset_kwargs")).get("revision")
        return self.commits.of("dataset", name, None if revision is None else str(revision))


def _is_ours(task: str) -> bool:
    """Whether a task, or any in a group, is of this registry."""
    fields = declared_task(task)
    if fields is None:
        return False
    return "group" not in fields or any(_is_ours(str(member)) for member in sequence(fields.get("task")))


def _sizes(how: Mapping[str, object]) -> list[tuple[str, int]]:
    """The files of calibration texts on this machine, with their sizes; empty for others."""
    place = Path(str(how.get("calibration") or "").removeprefix("run:") or "/dev/null")
    files = [place] if place.is_file() else sorted(place.rglob("*")) if place.is_dir() else []
    return [(str(path.relative_to(place)), path.stat().st_size) for path in files if path.is_file()]


def _recipe(path: Path | None) -> dict[str, object]:
    return {} if path is None else {"recipe": path}


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_whole(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON so that a file is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1, default=str) + "\n", "utf-8")
    part.replace(path)


def named(runs: Sequence[PlannedRun], name: str) -> PlannedRun:
    """The run of a name; raises ManifestError if there is none."""
    found = next((run for run in runs if run.name == name), None)
    if found is None:
        raise ManifestError(f"no run is named {name!r}; `lm-eval-tts sweep status` lists them")
    return found
