"""What the models, datasets and files are that a study names: commits on the Hub, and hashes of what is here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from glob import glob
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from lm_eval_ext.authoring.task_registry import Tasks
from lm_eval_ext.errors import ArgumentError, ManifestError
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.harness.effects import effect
from lm_eval_ext.paths import cache_folder, digest, expanded, json_object, located, read_json_object, write_json
from lm_eval_ext.pruning.recipe import Recipe, load_recipe
from lm_eval_ext.redaction import mapping
from lm_eval_ext.sweep.locks import is_held, locked
from lm_eval_ext.sweep.manifest import Manifest, load_manifest, study_name
from lm_eval_ext.sweep.plan import Item, PlannedRun, Stage, planned, stages

_CHANGES_NOTHING = {".md", ".png", ".svg", ".lock"}
_LARGE = 32 << 20  # bytes of a file from which its hash is kept


Kind = Literal["model", "dataset"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFUSED = (401, 403, 404)  # not there, or not for this user: an answer, which asking again doesn't change


class Sources:
    """Looks up what is named, each thing once.

    Commits are in `commits.json`; null for what the Hub doesn't show, or was unknown without a network.

    Args:
        folder: of the study.
        keep: whether to write the commits that were found, so that they stay the same.
    """

    def __init__(self, folder: Path, keep: bool) -> None:
        self.path, self.keep = folder / "commits.json", keep
        self._known = self._read()
        self.weights = cache(self._weights)

    def commit(self, model: str | None, revision: str | None) -> str | None:
        """The commit of a model on the Hub; None for a folder, and if it isn't known."""
        if model is None or Path(located(model)).is_dir():
            return None
        return self.commit_of("model", model, revision)

    def _weights(self, model: str | None, revision: str | None) -> str | None:
        """Commit of a model on the Hub, or a hash of what is in its folder; None if unknown."""
        if model is not None and Path(place := located(model)).is_dir():
            return hash_of(place)
        return self.commit(model, revision)

    def named(self, value: object) -> object:
        """What an argument stands for that names a folder, or a repository on the Hub: an adapter, a tokenizer."""
        name = str(value)
        if Path(located(name)).exists():
            return hash_of(located(name))
        return self.commit_of("model", name, None) if name.count("/") == 1 else value

    def dataset(self, task: Mapping[str, object]) -> str | None:
        """The commit of a task's dataset, or a hash of its files on this machine; None if unknown."""
        name = task.get("dataset_path")
        if files := _local_data(task):
            return digest([hash_of(file) for file in files])[:16]
        if not isinstance(name, str) or name.count("/") != 1:
            return None
        revision = mapping(task.get("dataset_kwargs")).get("revision")
        return self.commit_of("dataset", name, None if revision is None else str(revision))

    def commit_of(self, kind: Kind, name: str, revision: str | None) -> str | None:
        """The commit of a revision; None if it isn't known.

        Raises:
            ManifestError: the Hub cannot be reached, and what is found is kept.
        """
        revision = revision or "main"
        if _COMMIT.fullmatch(revision):
            return revision
        key = f"{kind} {name}@{revision}"
        if key not in self._known:
            self._known[key] = _cached(kind, name, revision) or self._asked(kind, name, revision)
            self._write()
        return self._known[key]

    def _asked(self, kind: Kind, name: str, revision: str) -> str | None:
        from huggingface_hub import HfApi, constants

        if constants.HF_HUB_OFFLINE:
            return None
        try:
            return HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=20).sha
        except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath, which changes
            refused = getattr(getattr(error, "response", None), "status_code", None) in _REFUSED
            if refused or not self.keep:
                return None
            reason = " ".join(str(error).split())[:200]
            raise ManifestError(
                f"{name}: the Hub cannot be reached to look up which commit its {revision} is ({reason}); "
                "try again, or set HF_HUB_OFFLINE=1 to use what is on this machine"
            ) from error

    def _read(self) -> dict[str, str | None]:
        return json_object(self.path, ManifestError, "delete it to look the commits up") if self.path.is_file() else {}

    def _write(self) -> None:
        """Add what was found to what others may have written, which stays as it is."""
        if not self.keep:
            return
        with locked(self.path.with_suffix(".lock")):
            self._known |= self._read()
            write_json(self.path, dict(sorted(self._known.items())))


def _cached(kind: Kind, name: str, revision: str) -> str | None:
    from huggingface_hub import constants

    path = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "refs" / revision
    return path.read_text("utf-8").strip() if path.is_file() else None


def _local_data(task: Mapping[str, object]) -> list[Path]:
    """The files and folders on this machine that a task's dataset is read from; patterns name several."""
    name, options = str(task.get("dataset_path") or ""), mapping(task.get("dataset_kwargs"))
    if name and Path(name).exists():
        return [Path(name)]
    if "/" in name:  # on the Hub, where its files are too
        return []
    folder = str(options.get("data_dir") or "")
    patterns: list[str] = [] if options.get("data_files") or not folder else [folder]
    given: list[object] = [options.get("data_files")]
    while given:
        one = given.pop()
        given += one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ()
        patterns += [str(Path(folder, one))] if isinstance(one, str) else []
    return sorted({Path(found) for one in patterns for found in glob(one, recursive=True)})  # noqa: PTH207  # absolute


def hash_of(place: str | Path) -> str:
    """A hash of a file, or of all files in a folder with their names."""
    root = Path(place)
    found = hashlib.sha256()
    for path in _files(root):
        size = path.stat().st_size
        found.update(f"{path.relative_to(root)}\0{size}\0".encode())
        found.update(path.read_bytes() if size < _LARGE else _digest(path).encode())
    return found.hexdigest()[:16]


def _digest(path: Path) -> str:
    """The hash of a large file, which is kept until the file changes: reading one takes a second per gigabyte."""
    stat = path.stat()
    state = [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    kept = cache_folder() / "hashes" / f"{digest(str(path.resolve()))}.json"
    known = read_json_object(kept)
    if known.get("state") == state:
        return str(known["sha256"])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError):  # the folder cannot be written, so it is read again
        write_json(kept, {"state": state, "sha256": found})
    return found


def _files(root: Path) -> Sequence[Path]:
    if root.is_file():
        return [root]
    seen = (path for path in root.rglob("*") if not any(part.startswith(".") for part in path.relative_to(root).parts))
    return sorted(path for path in seen if path.is_file() and path.suffix not in _CHANGES_NOTHING)


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

    runner = "lm_eval_ext.sweep.one"  # the module that does a run
    tasks_field = "tasks"  # where the file names tasks, for messages

    def __init__(self, path: Path, keep: bool = True) -> None:
        self.path = path
        self.manifest: Manifest = self._read()
        self.name = study_name(path)
        self.folder = Path(self.manifest.output)
        self.tasks = Tasks(self.manifest.include_path)
        self.sources = Sources(self.folder, keep)
        self._identities: dict[str, str] = {}  # by name; of stages, and of runs whose layers are chosen

    def _read(self) -> Manifest:
        return load_manifest(self.path)

    def place_of(self, model: str) -> str:
        """Where the file says what a model is, for messages."""
        return f"models.{model}"

    @cached_property
    def runs(self) -> list[PlannedRun]:
        """All runs, in the order of the manifest."""
        try:
            runs = planned(self.manifest, self.tasks)
        except (ManifestError, ArgumentError) as error:
            raise ManifestError(f"{self.path}: {error}") from error
        names = [run.name for run in runs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ManifestError(f"{self.path}: pruning: two entries come out as {twice}; give each once")
        return runs

    @cached_property
    def stages(self) -> list[Stage]:
        """The choices of layers that runs need."""
        return stages(self.runs)

    def ticket(self, item: Item) -> str:
        """What a process is told to do: a name, and a digest of what the file says of it now."""
        said: list[object]
        if isinstance(item, Stage):
            said = [item.depends_on, item.counts, item.traces]
        else:
            of, chosen = self.manifest, item.stage.depends_on if item.stage else None
            said = [item.tasks, item.seed, item.arguments, item.count, chosen]
            said += [of.engine, of.gen_kwargs, of.limit, of.include_path]
        return f"{item.name}@{digest(said)[:16]}"

    # Stages -----------------------------------------------------------------------------------------------

    def _folder_of_stage(self, stage: Stage) -> Path:
        """Where a stage's recipes are: elsewhere if the model or the calibration is another one."""
        if stage.name not in self._identities:
            weights = self.sources.weights(stage.base, stage.loading.get("revision"))
            texts = self.identity_of(self._run_of(stage)) if stage.traces else self._texts(stage.pruning.calibration)
            elsewhere = {"pretrained", "revision", *(["calibration"] if texts else [])}
            chosen = {name: value for name, value in stage.depends_on.items() if name not in elsewhere}
            self._identities[stage.name] = digest([weights or stage.loading, chosen, texts])
        return self.folder / "recipes" / f"{stage.name}-{self._identities[stage.name][:8]}"

    def _texts(self, calibration: object) -> str | None:
        """A hash of calibration texts in files, or of the task whose prompts they are; None for others."""
        kind, _, name = str(calibration or "").partition(":")
        place = expanded(name if kind == "run" else str(calibration or ""))
        if calibration and place.exists():
            return hash_of(place)
        if kind != "task":
            return None
        fields = self.tasks.fields(name)
        return digest([name, fields, self.sources.dataset(fields)] if fields else [name, version("lm_eval")])[:16]

    def _content_of_argument(self, name: str, value: object) -> object:
        """What makes a model argument what it is: of one that names files, what is in them."""
        if name == "calibration":
            return self._texts(value) or value
        is_file = name in _IN_FILES and expanded(str(value)).is_file()
        return self.sources.named(value) if name in _NAMED or is_file else value

    def stage_command(self, stage: Stage) -> list[str]:
        """The arguments of `lm-eval-tts` that choose layers, of the commit that is evaluated."""
        commit = self.sources.commit(stage.base, stage.loading.get("revision"))
        pinned = {} if commit is None else {"revision": commit}
        texts = stage.pruning.model_copy(update={"calibration": self.calibration_of(stage)})
        exact = replace(stage, loading={**stage.loading, **pinned}, pruning=texts)
        # The folder is the stage's own: what an attempt that was killed has left there is written again.
        return [*exact.command(str(self._folder_of_stage(stage))), "--force"]

    def is_ready(self, stage: Stage) -> bool:
        """Whether a stage's calibration texts are there: whether the run is done whose replies they are."""
        return not stage.traces or self.found(self._run_of(stage)).state == "done"

    def calibration_of(self, stage: Stage) -> str | None:
        """Where a stage's calibration texts are."""
        folder = self.folder_of(self._run_of(stage)) if stage.traces else None
        return stage.pruning.calibration if folder is None else f"run:{folder / 'results'}"

    def _run_of(self, stage: Stage) -> PlannedRun:
        return next(run for run in self.runs if run.name == stage.traces)

    # Runs -------------------------------------------------------------------------------------------------

    def recipe_of(self, run: PlannedRun) -> Path | None:
        """The recipe that a stage has chosen for a run; None if none is needed, or it isn't chosen yet."""
        path = self._folder_of_stage(run.stage) / run.stage.recipe(run.count) if run.stage else None
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

    def content_of(self, run: PlannedRun) -> dict[str, object]:
        """All that makes a run what it is, as JSON; only for runs whose layers are chosen."""
        recipe, manifest, of, registry = self._loaded_recipe(run), self.manifest, self.sources, self.tasks
        model = self.loaded_by(run)
        names = [name for task in run.tasks for name in registry.members(task)]
        ours = {name: fields for name in names if (fields := registry.fields(name))}
        others = [task for task in run.tasks if not registry.is_ours(task)]
        return {
            "engine": manifest.engine,
            "arguments": {
                name: self._content_of_argument(name, value)
                for name, value in sorted(run.arguments.items())
                if name not in _ELSEWHERE and effect(name) not in ("place", "private")
            },
            "model": of.weights(*model) or model,
            "recipe": recipe.digest if recipe else None,
            "tasks": {name: digest(fields) for name, fields in ours.items()},
            "datasets": {name: of.dataset(fields) for name, fields in ours.items()},
            "others": {"tasks": others, "lm_eval": version("lm_eval")} if others else {},
            "include_path": hash_of(manifest.include_path) if manifest.include_path else "",
            "grader": GRADER_VERSION,
            "gen_kwargs": manifest.gen_kwargs if run.seed is not None else {},
            "seed": run.seed,
            "limit": manifest.limit,
        }

    def folder_of(self, item: Item) -> Path | None:
        """Where a stage's recipes are, or a run's log, journal and results; None if its layers are not chosen yet."""
        if isinstance(item, Stage):
            return self._folder_of_stage(item)
        found = self.identity_of(item)
        return self.folder / "runs" / f"{item.name}-{found[:8]}" if found else None

    def results_of(self, run: PlannedRun) -> Path:
        """The results file of a run that is done."""
        folder = self.folder_of(run)
        assert folder is not None
        return folder / str(self.found(run).said["results"])

    def identity_of(self, run: PlannedRun) -> str:
        """64 hex digits of all that a run's results depend on; empty if its layers are not chosen yet."""
        if run.stage is not None and self.recipe_of(run) is None:
            return ""
        if run.name not in self._identities:
            self._identities[run.name] = digest(self.content_of(run))
        return self._identities[run.name]

    def found(self, item: Item) -> Found:
        """Where a stage or run stands; a stage is done when all its recipes are there."""
        folder = self.folder_of(item)
        if isinstance(item, Stage):
            assert folder is not None
            missing = any(not (folder / item.recipe(count)).is_file() for count in item.counts)
            return self._unfinished(folder) if missing else Found("done", {})
        if folder is None:
            assert item.stage is not None
            chosen = self.found(item.stage)
            return Found("failed", chosen.said) if chosen.state == "failed" else Found("waiting", {})
        done = read_json_object(folder / DONE)
        if done and (folder / str(done.get("results"))).is_file():
            return Found("done", done)
        return self._unfinished(folder)

    def _unfinished(self, folder: Path) -> Found:
        if is_held(folder / LOCK):
            return Found("running", {})
        if (folder / FAILED).is_file():
            return Found("failed", read_json_object(folder / FAILED))
        return Found("waiting", {})

    def command_of(self, run: PlannedRun, folder: Path, extra: Mapping[str, object]) -> list[str]:
        """The arguments of `lm_eval` that the sweep runs, with the run's own journal and commit."""
        return command(run, self.manifest, str(folder / "results"), {**self.loading_of(run), **extra})

    def loading_of(self, run: PlannedRun) -> dict[str, object]:
        """Model arguments of a run that aren't in the manifest: its own journal, its commit and the chosen layers."""
        folder = self.folder_of(run)
        assert folder is not None  # its layers are chosen
        own = {"journal": str(folder / "journal.sqlite"), "journal_alone": True}
        return self._pinned(run) | own | _recipe(self.recipe_of(run))

    def plain_command(self, run: PlannedRun) -> list[str]:
        """The arguments of `lm_eval` for a run by itself, without this study's folders but for the results."""
        recipe = self.recipe_of(run)
        texts = self.calibration_of(run.stage) if run.stage else None
        chosen = _recipe(recipe) if recipe else chosen_on_load(run, texts)
        output = self.folder / "plain" / run.name
        return command(run, self.manifest, str(output), self._pinned(run) | chosen)

    def _pinned(self, run: PlannedRun) -> dict[str, object]:
        """The commit of the model, so that what is run is what the run's identity says."""
        commit = self.sources.commit(*self.loaded_by(run))
        return {} if commit is None else {"revision": commit}


def _recipe(path: Path | None) -> dict[str, object]:
    return {} if path is None else {"recipe": path}


_PLAIN = re.compile(r"[\w./:+@~ -]+")
_NUMBER = re.compile(r"[+-]?[\d_]*\.?[\d_]*([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def command(run: PlannedRun, manifest: Manifest, output: str, extra: Mapping[str, object]) -> list[str]:
    """The arguments of `lm_eval` for a run.

    Args:
        run: the run.
        manifest: that it is from.
        output: folder for its results.
        extra: further model arguments: the recipe that was chosen, the journal, the commit.
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
    return [*words, *(["--confirm_run_unsafe_code"] if manifest.run_untrusted_code else []), "--log_samples"]


def model_args(arguments: Mapping[str, object]) -> str:
    """Model arguments as lm-eval takes them: `name=value` pairs, or JSON if a value would be read as another one.

    >>> model_args({"pretrained": "a", "drop_layers": [1, 2]}), model_args({"pretrained": "a,b"})
    ('pretrained=a,drop_layers=[1,2]', '{"pretrained": "a,b"}')
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if not all(map(_survives, given.values())):
        return json.dumps(given, default=str)
    return ",".join(f"{name}={_value(value)}" for name, value in given.items())


def _survives(value: object) -> bool:
    """Whether a value is read as what it is where it stands in `name=value,name=value`."""
    if isinstance(value, (list, tuple)):
        return all(isinstance(one, int) for one in value)
    text = str(value)
    if isinstance(value, (str, Path)):
        named = text.lower() in ("none", "true", "false", "null")
        return _PLAIN.fullmatch(text) is not None and _NUMBER.fullmatch(text) is None and not named
    return not isinstance(value, dict)


def _value(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)


def chosen_on_load(run: PlannedRun, calibration: str | None) -> dict[str, object]:
    """Model arguments that choose a run's layers while the model is loaded, for a command that stands alone."""
    if run.stage is None:
        return {}
    how = run.stage.pruning
    words = [str(how.method), str(run.count), *(f"{name}={value}" for name, value in how.parameters.items())]
    numbers = {"calibration_samples": how.samples, "calibration_tokens": how.max_tokens}
    given = {"prune": ":".join(words), "calibration": calibration, **numbers}
    return {name: value for name, value in given.items() if value is not None}


_ELSEWHERE = ("recipe", "pretrained", "revision")  # model arguments that are in the content under another name
# Model arguments that name files or a repository.
_NAMED = ("peft", "delta", "lora_local_path", "tokenizer", "tokenizer_path")
_IN_FILES = ("chat_template", "thinking_format")  # and those that may name a file
