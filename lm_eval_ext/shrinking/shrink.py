"""Finds the smallest version of a model that still reasons, and proves it: traces, search, front, proof.

**Proof.** The front is tested from its largest model to its smallest, each by a gate at the whole error, and the first
that isn't kept ends it (a fixed sequence of tests: Maurer, Hothorn and Lehmacher 1995; Westfall and Krishen 2001). A
wrong claim needs the first model that isn't really kept to be called kept, so the error holds for the whole search,
however many models are in the front. The order is fixed before anything is decoded, on traces of other questions.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from lm_eval_ext.errors import ManifestError, RecipeError, TTSError
from lm_eval_ext.gating.drive import run_gate
from lm_eval_ext.gating.gate_report import Candidate, GateReport, sentences
from lm_eval_ext.gating.gate_study import GateStudy
from lm_eval_ext.gating.verdicts import report
from lm_eval_ext.harness.prompts import include, task_questions
from lm_eval_ext.harness.registry import engine_of
from lm_eval_ext.harness.session import evaluated, load_model
from lm_eval_ext.paths import digest, located, read_json_object, write_json, write_whole
from lm_eval_ext.pruning.adapters import MARK
from lm_eval_ext.pruning.architecture import depth
from lm_eval_ext.pruning.calibration import Calibration, calibration, write_exchanges
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.pruning.context import ScoreCache
from lm_eval_ext.pruning.loading import checkpoint_fingerprint
from lm_eval_ext.pruning.quantization import quantization_of
from lm_eval_ext.pruning.recipe import Recipe, Shape, load_recipe, write_recipe
from lm_eval_ext.pruning.recovery import check_installed, recover
from lm_eval_ext.redaction import mapping, sequence
from lm_eval_ext.runs.correct_traces import CorrectTrace, drawn_traces, written_tokens
from lm_eval_ext.shrinking.distributions import TOP, BaseDistributions
from lm_eval_ext.shrinking.diverge import read_base
from lm_eval_ext.shrinking.forced import OpenModel, with_model
from lm_eval_ext.shrinking.proposals import Proposals, propose, recipe_of, variants
from lm_eval_ext.shrinking.shrink_file import ShrinkFile, load_shrink
from lm_eval_ext.shrinking.shrink_report import Ending, FrontModel, ShrinkReport, Winner
from lm_eval_ext.shrinking.unseen import SeenQuestion, of_texts, of_traces, refuse_seen
from lm_eval_ext.sweep.launchers import LaunchKind, Tell
from lm_eval_ext.sweep.locks import hold
from lm_eval_ext.sweep.plan import PlannedRun
from lm_eval_ext.sweep.preflight import check
from lm_eval_ext.sweep.sources import command, hash_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from lm_eval_ext.pruning.finetuning import Training

SMALLEST = "smallest.yaml"  # the recipe that is found
_SEARCH = "search.json"
_VERSION = 2  # of what a search keeps
_PROOFS = "proofs.json"
_NO_OTHER_PROOF = ("output", "candidates", "batch_size", "launch", "budget")  # what of a gate no verdict depends on
# Model arguments that mean the same in transformers and vLLM, and those that spread a model over processes.
_IN_EVERY_ENGINE = ("pretrained", "revision", "dtype", "tokenizer", "trust_remote_code", "trust_layer_fields",
                    "chat_template", "thinking_format")  # fmt: skip
_REPLICAS = ("data_parallel_size", "ray_address")


class SearchResult(NamedTuple):
    """What a search found, as it is kept.

    Attributes:
        identity: of everything that it depends on.
        settings: of what the file says of the search.
        whole: cost of the base.
        front: from the largest to the smallest.
        scored: cost and divergence of everything that was scored.
        trace_tokens: of the traces.
        decoded: tokens that the base wrote for the traces; none if it had written them before.
    """

    identity: str
    settings: str
    whole: float
    front: tuple[FrontModel, ...]
    scored: tuple[tuple[float, float], ...]
    trace_tokens: int
    decoded: float


_SEARCHED = TypeAdapter(SearchResult, config=ConfigDict(ser_json_inf_nan="constants"))  # scores may be infinite


class ShrinkStudy:
    """A `shrink.yaml` and its folder.

    Args:
        path: of the file.

    Raises:
        ManifestError: the file is invalid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: ShrinkFile = load_shrink(path)
        self.folder = Path(os.path.normpath(self.file.output))
        include([Path(self.file.include_path)] if self.file.include_path else [])

    def check(self) -> None:
        """Check what the file names, before anything is computed.

        Raises:
            ManifestError: the first thing that is wrong.
        """
        check(self.any_gate)
        blocks = {"attention", "mlp"} & set(self.file.remove.kinds)
        if self.file.engine == "pruned-vllm" and blocks and quantization_of(self._config) is not None:
            raise ManifestError(f"{self.path}: remove: only pruned-hf leaves blocks of packed weights out")
        for task in self.trace_tasks if self.file.traces.run is None else ():
            task_questions(task, 1)
            if task in self.any_gate.benchmarks:
                raise ManifestError(f"{self.path}: traces.tasks: all are questions of the gate's {task}; give others")
        if self.file.traces.run is not None and not Path(self.file.traces.run).exists():
            raise ManifestError(f"{self.path}: traces.run: {self.file.traces.run}: does not exist")
        if self.trained is not None:  # what is wrong with it is said here, and not after the search
            check_installed()
            self._refuse_seen(of_texts(self.trained.data, self._taught), "recover.data")

    @cached_property
    def any_gate(self) -> GateStudy:
        """The gate with some candidate; nothing of it is kept."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gate.yaml"
            path.write_text(yaml.safe_dump(self._gate_content("any", {"drop_layers": [0]}, None)), "utf-8")
            try:
                study = GateStudy(path)
            except ManifestError as error:
                raise ManifestError(str(error).replace(str(path), f"{self.path}: gate")) from error
            study.path = self.path  # for messages
            return study

    @cached_property
    def trace_tasks(self) -> tuple[str, ...]:
        """The tasks of the traces, by their whole names."""
        return tuple(map(self.any_gate.tasks.named, self.file.traces.tasks))

    @cached_property
    def trained(self) -> Training | None:
        """Settings by which candidates are trained; None if they aren't.

        Raises:
            ManifestError: one is unknown, or not allowed.
        """
        if self.file.recover is None:
            return None
        from lm_eval_ext.pruning.finetuning import training

        settings: Any = self.file.recover
        try:
            return training(**settings)
        except (TTSError, TypeError) as error:
            said = str(error).removeprefix("training() got an ")
            raise ManifestError(f"{self.path}: recover: {said}; see lm-eval-tts recover --help") from error

    # Traces -----------------------------------------------------------------------------------------------

    @cached_property
    def _loading(self) -> dict[str, Any]:
        """How the base is loaded for the search, which needs it in this process, in transformers."""
        arguments = self._whole_arguments
        if self.file.engine != "pruned-hf":
            arguments = {name: value for name, value in arguments.items() if name in _IN_EVERY_ENGINE}
        return {name: value for name, value in arguments.items() if name not in _REPLICAS}

    @property
    def _whole_arguments(self) -> dict[str, Any]:
        """How the base is loaded where it is evaluated."""
        arguments = {**self.file.model_args, **self.file.base}
        return {**arguments, "pretrained": located(str(arguments["pretrained"]))}

    @cached_property
    def traces_folder(self) -> Path:
        """Results of the base with its traces."""
        file, traces = self.file, self.file.traces
        if traces.run is not None:
            return Path(traces.run)
        asked = [task_questions(task, traces.limit) for task in self.trace_tasks]
        settings = [file.engine, file.model_args, file.base, self.trace_tasks, file.gen_kwargs, *self._base_content]
        return self.folder / f"traces-{digest([settings, asked])[:8]}"

    @cached_property
    def _config(self) -> PreTrainedConfig:
        pretrained, trusted = str(self._loading["pretrained"]), bool(self._loading.get("trust_remote_code"))
        return read_config(pretrained, self._revision, trusted)

    @cached_property
    def _base_content(self) -> list[str]:
        """A fingerprint of the base's checkpoint, and hashes of its folder and its tokenizer's if they are here."""
        pretrained, layers = str(self._loading["pretrained"]), range(depth(self._config))
        weights = checkpoint_fingerprint(pretrained, self._config, layers, self._revision)
        places = [pretrained, located(str(self._loading.get("tokenizer") or ""))]
        return [weights, *(hash_of(place) for place in places if place and Path(place).is_dir())]

    def traces(self) -> list[CorrectTrace]:
        """The traces by which steps are scored; the base is evaluated if they aren't there yet.

        Raises:
            ManifestError: a question of the gate is among theirs.
        """
        traces, folder = self.file.traces, self.traces_folder
        if traces.run is None and not folder.is_dir():
            self._evaluate_base(folder)
        tasks, base = self.trace_tasks if traces.run else (), str(self.file.base["pretrained"])
        found = drawn_traces(str(folder), traces.count, self.file.gate.seed, tasks, base)
        self._refuse_seen(of_traces(found), "traces")
        return found

    def _evaluate_base(self, folder: Path) -> None:
        """Evaluate the base on the tasks of the traces; the folder appears once it is whole."""
        file, part = self.file, folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        model = load_model(self._whole_arguments, engine_of(file.engine), file.batch_size or "auto")
        options = {
            "limit": file.traces.limit, "gen_kwargs": dict(file.gen_kwargs) or None,
            "confirm_run_unsafe_code": file.run_untrusted_code,
        }  # fmt: skip
        evaluated(model, self.trace_tasks, part, file.include_path, options)
        part.rename(folder)

    @cached_property
    def _taught(self) -> Calibration:
        """The texts that candidates are trained on."""
        assert self.trained is not None
        return calibration(self.trained.data, self.trained.samples)

    def _refuse_seen(self, questions: Sequence[SeenQuestion], what: str) -> None:
        refuse_seen(self.any_gate.benchmarks, questions, f"{self.path}: {what}")

    # Search -----------------------------------------------------------------------------------------------

    def searched(self) -> SearchResult:
        """The front; searched for if it isn't there yet."""
        file, traces = self.file, self.traces()

        def read(model: OpenModel) -> BaseDistributions:
            return read_base(model, traces, file.traces.max_tokens, self.folder / "base", TOP, file.gate.seed)

        base = with_model(self._loading, read)
        identity, kept = digest([base.identity, self._settings]), self.kept()
        if kept is None or kept.identity != identity:
            texts = self.folder / "traces.jsonl"  # so that methods read what was checked, and nothing else
            write_exchanges(texts, [trace.exchange for trace in traces])
            cache = ScoreCache(self.folder / "scores.jsonl")
            proposals = propose(file, self._loading, base, str(texts), cache)
            kept = self._kept(identity, proposals, base.tokens)
            write_whole(self.folder / _SEARCH, _SEARCHED.dump_json(kept, indent=1))
        return kept

    @property
    def _settings(self) -> str:
        """What the file says of the search."""
        names = ("base", "model_args", "remove", "minimise", "traces", "search")
        return digest([_VERSION, self.file.gate.seed, *(getattr(self.file, name) for name in names)])

    def kept(self) -> SearchResult | None:
        """What an earlier search by this file found; None if none is finished, or a recipe of its front is gone."""
        try:
            found = _SEARCHED.validate_json((self.folder / _SEARCH).read_bytes())
        except (OSError, ValidationError):
            return None
        whole = all(_is_recipe(self.recipe_of(one), one.digest) for one in found.front)
        return found if whole and found.settings == self._settings else None

    def recipe_of(self, one: FrontModel) -> Path:
        """Where the recipe of a candidate is."""
        return self.folder / "recipes" / f"{one.name}.yaml"

    def _kept(self, identity: str, proposals: Proposals, tokens: int) -> SearchResult:
        """Write the recipes of the front."""
        search = self.file.search
        found, config = [], self._config
        for number, (one, passed) in enumerate(proposals.front(search.front, search.worst), 1):
            of_variant = proposals.variants[one.candidate.variant].recipe
            shape = Shape.of(config, experts=bool(of_variant and of_variant.drop_experts))
            recipe = recipe_of(one.candidate, of_variant, str(self.file.base["pretrained"]), self._revision, shape)
            found.append(FrontModel(
                f"front-{number}", str(one.candidate), one.cost, one.bits, recipe.digest,
                _exports(recipe, config), proposals.with_blocks(one.candidate), passed,
            ))  # fmt: skip
            about = f"{one.candidate}; {one.bits:.3g} bits a token from its base"
            write_recipe(recipe, self.recipe_of(found[-1]), about)
        scored = tuple((one.cost, one.bits) for one in proposals.scored)
        decoded = 0.0 if self.file.traces.run else written_tokens(str(self.traces_folder))
        return SearchResult(identity, self._settings, proposals.scored[0].cost, tuple(found), scored, tokens, decoded)

    @property
    def _revision(self) -> str:
        return str(self._loading.get("revision") or "main")

    # Proof ------------------------------------------------------------------------------------------------

    def proven(
        self, searched: SearchResult, run: Callable[[FrontModel], GateReport | None], stopped: Ending = "unfinished"
    ) -> ShrinkReport:
        """The front, from its largest model to the first that isn't kept.

        Args:
            searched: the front.
            run: the report of a candidate's gate; None if the proof ends before it.
            stopped: why it would.
        """
        tested: list[FrontModel] = []
        reports: list[GateReport] = []
        ending: Ending = "all kept"
        for one in searched.front:
            found = run(one)
            if found is None:
                ending = stopped
                break
            reports.append(found)
            tested.append(one.tested(found.candidates[0], tuple(sentences(found))))
            if not tested[-1].is_kept:
                ending = _ending(found.candidates[0])
                break
        file, whole = self.file, max((found.base_whole for found in reports), default=0.0)
        report = ShrinkReport(
            self.path.stem, str(file.base["pretrained"]), file.minimise, searched.whole, file.gate.keep,
            file.gate.error, file.gate.population, (*tested, *searched.front[len(tested) :]), searched.scored,
            searched.trace_tokens, searched.decoded, _spent(reports), whole * (1 + len(searched.front)), ending,
            max(1, self.proofs()),
        )  # fmt: skip
        return report if report.smallest is None else replace(report, winner=self.winner(report.smallest))

    def winner(self, one: FrontModel) -> Winner:
        """How the smallest model is loaded: by `smallest.yaml` once the proof has ended, or as it was trained."""
        smallest = self.folder / SMALLEST
        recipe = smallest if _is_recipe(smallest, one.digest) else self.recipe_of(one)
        exports = one.exports and self.trained is None
        arguments = self._arguments_of(one, recipe)
        manifest, tasks = self.any_gate.manifest, tuple(self.any_gate.benchmarks)
        run = PlannedRun(one.name, one.name, "", self.file.gate.seed, tasks, {**manifest.model_args, **arguments})
        words = shlex.join(["lm_eval", *command(run, manifest, "out", {})])
        return Winner(arguments, str(recipe) if exports else "", words)

    def proofs(self) -> int:
        """How many proofs were begun in this folder on questions of this gate; verdicts of one may lead to the next."""
        asked = [set(sequence(mapping(one).get("benchmarks"))) for one in self._begun_proofs()]
        return sum(not one.isdisjoint(self.any_gate.benchmarks) for one in asked)

    def _begun_proofs(self) -> Sequence[object]:
        return sequence(read_json_object(self.folder / _PROOFS).get("proofs"))

    def count_proof(self, searched: SearchResult) -> None:
        """Count the proof of a front by the file's gate, if it isn't yet."""
        gate = {name: value for name, value in self._gate_content("", {}, None).items() if name not in _NO_OTHER_PROOF}
        tested = digest([[one.digest for one in searched.front], gate, self.file.recover])[:16]
        proofs = self._begun_proofs()
        if tested not in [mapping(one).get("tested") for one in proofs]:
            new = {"tested": tested, "benchmarks": sorted(self.any_gate.benchmarks)}
            write_json(self.folder / _PROOFS, {"proofs": [*proofs, new]})

    def _arguments_of(self, one: FrontModel, recipe: Path) -> dict[str, object]:
        """Model arguments of a candidate."""
        pruned: dict[str, object] = {**self.file.loading, "recipe": str(recipe)}
        if self.trained is None:
            return pruned
        folder = str(self._trained_folder(one))
        return {**pruned, "peft": folder} if self.trained.lora else {**self.file.loading, "pretrained": folder}

    def _trained_folder(self, one: FrontModel) -> Path:
        assert self.trained is not None
        settings = self.trained.model_dump(mode="json")
        return self.folder / "recovered" / digest([one.digest, settings, self._base_content])[:16]

    def train(self, one: FrontModel) -> None:
        """Train a candidate, if the file says so and it isn't done.

        Raises:
            ManifestError: it was trained on other texts.
        """
        if self.trained is None:
            return
        mark = self._trained_folder(one) / MARK
        if mark.is_file():
            if read_json_object(mark).get("sha256") != self._taught.sha256:
                raise ManifestError(
                    f"{self.path}: recover.data: {mark.parent} was trained on other texts of this name; remove it"
                )
            return
        recipe = load_recipe(str(self.recipe_of(one)))
        recover(recipe, self._trained_folder(one), self.trained, pretrained=self._loading["pretrained"])

    def gate(self, one: FrontModel, hours: float | None) -> GateStudy:
        """A gate of its own for each candidate; all share a folder, and so the base's answers."""
        path = self._gate_path(one)
        content = self._gate_content(one.name, self._arguments_of(one, self.recipe_of(one)), hours)
        write_whole(path, yaml.safe_dump(content, sort_keys=False))
        return GateStudy(path)

    def begun(self, one: FrontModel) -> GateStudy | None:
        """The gate of a candidate that was asked something already, by the same rules; None if it wasn't."""
        path = self._gate_path(one)
        try:
            there = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else None
        except yaml.YAMLError:
            return None
        asked = self._gate_content(one.name, self._arguments_of(one, self.recipe_of(one)), None)
        if not isinstance(there, dict) or {**there, "budget": {}} != asked:
            return None
        study = GateStudy(path, keep=False)
        return study if any(row.asked for row in report(study).candidates[0].rows) else None

    def _gate_path(self, one: FrontModel) -> Path:
        return self.folder / "proof" / f"{one.name}.yaml"

    def _gate_content(self, name: str, arguments: Mapping[str, object], hours: float | None) -> dict[str, Any]:
        """What its `gate.yaml` says."""
        file = self.file
        fields = {"engine", "model_args", "batch_size", "gen_kwargs", "include_path", "run_untrusted_code", "launch"}
        content: dict[str, Any] = {
            **file.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=fields),
            **file.gate.model_dump(mode="json", by_alias=True), "output": str(self.folder / "proof"),
            "base": file.base, "candidates": {name: arguments}, "budget": {} if hours is None else {"hours": hours},
        }  # fmt: skip
        plain: dict[str, Any] = json.loads(json.dumps(content))
        return plain


def _exports(recipe: Recipe, config: PreTrainedConfig) -> bool:
    """Whether `export` can write it: no weights that are quantized on load, no zeros among packed ones, and no layers
    with unequal numbers of experts."""
    packed = quantization_of(config) is not None and any(recipe.blocks)
    return recipe.quantization is None and not packed and not (recipe.drop_experts and recipe.drop_mlp)


def _ending(one: Candidate) -> Ending:
    """Why a proof ends with a model that isn't kept."""
    if one.verdict in ("failed", "check"):
        return one.verdict
    late = any(row.tier != "advisory" and row.reason == "budget" for row in one.rows)
    return "budget" if late and one.alone == "undecided" else "not kept"


def _is_recipe(path: Path, expected: str) -> bool:
    """Whether a file is the recipe with a digest."""
    try:
        return load_recipe(str(path)).digest == expected
    except RecipeError:
        return False


def _spent(reports: Sequence[GateReport]) -> float:
    """Tokens of all candidates, and those of the base, which they share."""
    own = sum(found.tokens - found.base_tokens for found in reports)
    return own + max((found.base_tokens for found in reports), default=0.0)


def shrink(study: ShrinkStudy, kind: LaunchKind, jobs: int | None, tell: Tell) -> ShrinkReport:
    """Search and prove; started again, it goes on where it was.

    Args:
        study: what is to be made smaller.
        kind: where candidates are evaluated.
        jobs: most models at once, on this machine.
        tell: called with each line about what starts and ends.

    Raises:
        ManifestError: another process works on the same study.
        TTSError: something can't be computed; the message says what.
    """
    lock = hold(study.folder / "shrink.lock")
    if lock is None:
        raise ManifestError(f"{study.path}: another process works on {study.folder}; wait for it, or stop it")
    try:
        return _shrunk(study, kind, jobs, tell)
    finally:
        os.close(lock)


def _shrunk(study: ShrinkStudy, kind: LaunchKind, jobs: int | None, tell: Tell) -> ShrinkReport:
    searched, budget, started = study.searched(), study.file.budget, time.monotonic()
    there, smallest = standing(study), study.folder / SMALLEST
    if there is None or there.smallest is None or not _is_recipe(smallest, there.smallest.digest):
        smallest.unlink(missing_ok=True)  # of an earlier search, which asked for something else
    reports: list[GateReport] = []

    def run(one: FrontModel) -> GateReport | None:
        hours = None if budget.hours is None else budget.hours - (time.monotonic() - started) / 3600
        is_late = hours is not None and hours <= 0
        is_spent = budget.tokens is not None and _spent(reports) >= budget.tokens
        if is_late or (is_spent and study.begun(one) is None):  # what was begun before a restart goes on
            tell(f"{one.name}: is not tested, because the budget is used up")
            return None
        if study.begun(one) is not None:
            study.count_proof(searched)
        study.train(one)
        gate = study.gate(one, hours)
        check(gate)
        reports.append(run_gate(gate, kind, jobs, tell))
        study.count_proof(searched)
        return reports[-1]

    found = study.proven(searched, run, "budget")
    smallest.unlink(missing_ok=True)
    if found.smallest is None:
        return found
    said = f"{found.smallest.what}: keeps at least {100 * found.keep:g}% of the accuracy of {found.base}"
    write_recipe(load_recipe(str(study.recipe_of(found.smallest))), smallest, said)
    return replace(found, winner=study.winner(found.smallest))


def standing(study: ShrinkStudy) -> ShrinkReport | None:
    """What is there so far, without computing anything; None while the search goes on."""
    kept = study.kept()

    def there(one: FrontModel) -> GateReport | None:
        begun = study.begun(one)
        found = report(begun) if begun else None
        return found if found and _has_ended(found) else None

    return study.proven(kept, there) if kept else None


def _has_ended(found: GateReport) -> bool:
    (one,) = found.candidates
    deciding = [row for row in one.rows if row.tier != "advisory"]
    return one.verdict == "failed" or one.alone != "undecided" or all(row.reason for row in deciding)


def plan(study: ShrinkStudy) -> str:
    """What would be done."""
    file, remove = study.file, study.file.remove
    traces = file.traces.run or f"it is evaluated on {', '.join(study.trace_tasks)}"
    tried = [str(variant) or "the base's own weights" for variant in variants(remove)]
    methods = [name for kind in remove.kinds for name in remove.methods(kind)]
    lines = [
        f"traces: {file.traces.count} correct ones of {file.base['pretrained']}: {traces}",
        f"search: {', '.join(remove.kinds) or 'nothing'} step by step, from each of: {'; '.join(tried)}",
        f"beside it, what methods choose: {', '.join(methods) or 'none'}",
        f"front: at most {file.search.front} models, by {file.minimise} and divergence below {file.search.worst:g} "
        "bits a token",
        f"proof: {', '.join(study.any_gate.benchmarks)}; at least {100 * file.gate.keep:g}% must be kept, with an "
        f"error of {100 * file.gate.error:g}% for the whole search",
    ]  # fmt: skip
    return "\n".join(lines)
