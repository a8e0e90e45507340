"""A gate on the disk: its models, what they answered so far, and what each has to be asked next."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from lm_eval_ext.analysis.as_published import base_rows
from lm_eval_ext.authoring.task_fields import PublishedScore
from lm_eval_ext.errors import ManifestError, ResultsError
from lm_eval_ext.gating.answers import (
    Answers,
    of_blocks,
    of_results,
    order_of,
    read_block,
    refuse_greedy,
    refuse_unlike,
    renumbered,
)
from lm_eval_ext.gating.gate_file import BASE, GatedBenchmark, GateFile, load_gate
from lm_eval_ext.gating.standing import NextBlock, Policy, RowData, Standing, base_target, block_end, standing
from lm_eval_ext.paths import digest, json_object, read_json_object, write_json
from lm_eval_ext.redaction import mapping, number, whole
from lm_eval_ext.runs.literature import read_literature
from lm_eval_ext.runs.submission import STOPPED_EARLY
from lm_eval_ext.statistics.betting import reaches
from lm_eval_ext.sweep.manifest import Manifest
from lm_eval_ext.sweep.plan import Item, PlannedRun
from lm_eval_ext.sweep.sources import Found, Study

logger = logging.getLogger("lm_eval.tts")
_STATE = "gate.json"  # visits of the base, and when the command ends
_BLOCKS = "blocks"
_SERVED = "served.json"  # in a model's folder: which model its server had


Value = TypeVar("Value")


class GateStudy(Study):
    """A gate and its folder: a study whose runs are evaluated in blocks, each run a model on all benchmarks.

    Args:
        path: of the `gate.yaml`.
        keep: whether commits that are looked up are kept; false for commands that only show something.

    Raises:
        ManifestError: the file is invalid, or names a task that can't be gated.
    """

    runner = "lm_eval_ext.gating.worker"
    tasks_field = "benchmarks"
    gate: GateFile

    def __init__(self, path: Path, keep: bool = True) -> None:
        super().__init__(path, keep)
        self._unreadable: set[Path] = set()
        self._blocks: dict[Path, dict[str, Path]] = {}
        self._read_blocks: dict[Path, Answers] = {}
        # By model, with a stamp of the files from which it was made, so that it is made again only when they change.
        self._answers: dict[str, tuple[object, Mapping[str, Answers]]] = {}
        self._data: dict[str, tuple[object, Mapping[str, RowData]]] = {}
        self._standings: dict[str, tuple[object, Standing]] = {}

    def _read(self) -> Manifest:
        self.gate = load_gate(self.path)
        try:
            return self.gate.manifest()
        except ValidationError as error:
            said = str(error.errors()[0]["msg"]).removeprefix("Value error, ").removeprefix("models.")
            name = said.partition(".")[0].partition(":")[0]
            place = "" if name == BASE or name not in self.gate.candidates else "candidates."
            raise ManifestError(f"{self.path}: {place}{said}") from error
        except ValueError as error:
            raise ManifestError(f"{self.path}: {error}") from error

    def place_of(self, model: str) -> str:
        """Where the file says what a model is, for messages."""
        return BASE if model == BASE else f"candidates.{model}"

    @cached_property
    def benchmarks(self) -> dict[str, GatedBenchmark]:
        """The benchmarks under the names of their tasks."""
        found = {}
        for given, benchmark in self.gate.benchmarks.items():
            name = self.tasks.named(given)
            members = self.tasks.members(name)
            if members and members != [name]:
                raise ManifestError(
                    f"{self.path}: benchmarks.{given}: is a group; name its tasks, each with its tier: "
                    f"{', '.join(members)}"
                )
            if name in found:
                raise ManifestError(f"{self.path}: benchmarks.{given}: is given twice, as {name}")
            found[name] = benchmark
        return found

    @cached_property
    def policy(self) -> Policy:
        """What is asked of every candidate."""
        gate = self.gate
        return Policy(
            gate.keep, gate.error, gate.population, {task: one.tier for task, one in self.benchmarks.items()},
            len(gate.candidates), gate.supporting_may_lose, gate.block,
        )  # fmt: skip

    @cached_property
    def runs(self) -> list[PlannedRun]:
        """The models that are evaluated."""
        manifest = self.manifest
        return [
            PlannedRun(name, name, "", self.gate.seed, tuple(self.benchmarks), {**manifest.model_args, **arguments})
            for name, arguments in manifest.models.items()
        ]

    @property
    def base_run(self) -> PlannedRun | None:
        """The base, if it is evaluated."""
        return next((run for run in self.runs if run.name == BASE), None)

    @property
    def candidate_runs(self) -> list[PlannedRun]:
        """The candidates that are evaluated."""
        return [run for run in self.runs if run.name != BASE]

    def published(self, task: str) -> PublishedScore | None:
        """The published score of the base on a benchmark: the gate's own, the literature's, or the task YAML's."""
        own = self.benchmarks[task].published
        if isinstance(own, PublishedScore):
            return own
        loaded = str(self.loaded_by(self.base_run)[0] if self.base_run else self.answers(BASE)[task].run.base)
        if own == "literature":
            return _as_published(loaded, task)
        fields = self.tasks.fields(task) or {}
        said = mapping(mapping(mapping(fields.get("metadata")).get("published")).get(loaded))
        return PublishedScore.model_validate(said) if said else None

    # Answers ----------------------------------------------------------------------------------------------

    def content_of(self, run: PlannedRun) -> dict[str, object]:
        """What makes a model what it is; benchmarks are told apart in its folder, so that one more changes nothing."""
        return super().content_of(replace(run, tasks=()))

    def folder_of(self, item: Item) -> Path:
        """Where a model's log, blocks and results are."""
        folder = super().folder_of(item)
        assert folder is not None  # nothing is chosen in a stage here
        return folder

    def check_served(self, run: PlannedRun, fingerprint: str) -> None:
        """Refuse another model at the address of one that has answered already; only the server says which it is.

        Args:
            run: the model.
            fingerprint: of what the server has now.

        Raises:
            ResultsError: it is another one.
        """
        if not run.arguments.get("base_url"):
            return
        path = self.folder_of(run) / _SERVED
        known = read_json_object(path).get("fingerprint")
        if known is None:
            write_json(path, {"fingerprint": fingerprint})
        elif known != fingerprint:
            raise ResultsError(
                f"{run.name}: the server has another model than the one that has answered the questions in "
                f"{path.parent} ({fingerprint[:16]}, not {str(known)[:16]}); serve that one, remove the folder to "
                "start again, or give weights=NAME if its greedy texts are not the same every time"
            )

    def blocks_folder(self, name: str, task: str) -> Path:
        """Where the blocks of a model on a benchmark are."""
        run = next(run for run in self.runs if run.name == name)
        return self.folder_of(run) / _BLOCKS / self._task_folders[task]

    @cached_property
    def _task_folders(self) -> dict[str, str]:
        """A name for each benchmark that ends in a digest of what is asked."""
        found = {}
        for task in self.benchmarks:
            fields = self.tasks.fields(task)
            asked: list[object] = [fields, self.sources.dataset(fields)] if fields else [version("lm_eval")]
            if self.gate.population == "these questions":
                asked += [self.gate.population, self.gate.limit]
            found[task] = f"{task}-{digest(asked)[:8]}"
        return found

    def _files(self, name: str) -> dict[str, tuple[Path, ...]]:
        """The files of a model's finished blocks, by benchmark and in their order."""
        return {task: self._finished(self.blocks_folder(name, task)) for task in self.benchmarks}

    def _finished(self, folder: Path) -> tuple[Path, ...]:
        """The blocks in a folder; those that were there before stay, so that looking again costs little."""
        known = self._blocks.setdefault(folder, {})
        try:
            starts = [entry.name for entry in os.scandir(folder) if entry.name.isdecimal()]
        except FileNotFoundError:
            return ()
        for start in starts:
            if start not in known and (found := self._newest(folder / start)):
                known[start] = found
        return tuple(known[start] for start in sorted(known, key=int))

    def _newest(self, folder: Path) -> Path | None:
        """The newest block in a folder that has its samples and can be read."""
        found = sorted(folder.glob("*/block_*.json"), reverse=True)
        return next((path for path in found if _samples(path).is_file() and path not in self._unreadable), None)

    def answers(self, name: str) -> Mapping[str, Answers]:
        """What a model answered so far, by benchmark; those without an answer are left out.

        Raises:
            ResultsError: results cannot be read, or are of something else than was asked.
        """
        folder = self.gate.results_of(name)
        files = None if folder else self._files(name)

        def read() -> Mapping[str, Answers]:
            found = of_results(folder, list(self.benchmarks)) if folder else self._of_blocks(files or {})
            base = self.answers(BASE) if name != BASE else {}
            return {task: renumbered(base[task], one, name) if task in base else one for task, one in found.items()}

        return _current(self._answers, name, files, read)

    def _of_blocks(self, files: Mapping[str, Sequence[Path]]) -> dict[str, Answers]:
        found = {task: [block for file in some if (block := self._block(file, task))] for task, some in files.items()}
        return {task: of_blocks(blocks) for task, blocks in found.items() if blocks}

    def _block(self, file: Path, task: str) -> Answers | None:
        """A block, read once; None if it was cut short, as by a full disk: then it is evaluated again."""
        if file not in self._read_blocks:
            try:
                self._read_blocks[file] = read_block(file, task)
            except ResultsError as error:
                logger.warning("%s; it is evaluated again", error)
                self._unreadable.add(file)
                self._blocks[file.parents[2]].pop(file.parents[1].name, None)
                return None
        return self._read_blocks[file]

    def order(self, task: str, questions: int | None = None) -> list[int]:
        """The questions of a benchmark in the order in which they are asked; empty if their number isn't known yet.

        Args:
            task: the benchmark.
            questions: their number, where no model has answered any.
        """
        base = self.answers(BASE).get(task)
        if self.gate.results_of(BASE):
            assert base is not None
            known: Sequence[int] = list(base.by_id)
        else:
            known = range(questions if base is None and questions is not None else base.of if base else 0)
        return order_of(task, known, self.gate.seed)[: self.gate.limit]

    def total(self, task: str, base: Answers) -> int:
        """Units that there can be of a benchmark that the base has answered in part."""
        if self.gate.population == "new questions":
            return len(self.order(task))
        if self.gate.results_of(BASE):
            return min(base.samples, self.gate.rounds or base.samples)
        return self.gate.rounds or whole((self.tasks.fields(task) or {}).get("repeats")) or 1

    def _row(self, task: str, base: Answers, candidate: Answers | None, *, finished: bool) -> RowData:
        order, policy, total = self.order(task), self.policy, self.total(task, base)
        if finished and candidate is not None:  # it may have been run on fewer questions
            order = [question for question in order if question in candidate.by_id]
            total = len(order) if policy.population == "new questions" else total
        theirs = base.units(order, policy.population)
        ours = candidate.units(order, policy.population) if candidate else []
        total = min(total, len(ours)) if finished else total
        first = block_end(0, total, policy)
        costs = _costs(base, order, policy, first)
        return RowData(
            theirs, ours, total, base.chance, sum(costs) / len(costs) if any(costs) else 1.0,
            _costs(candidate, order, policy, len(ours)),
        )  # fmt: skip

    def data(self, name: str) -> Mapping[str, RowData]:
        """The units of a candidate and its base, by benchmark, of those that the base has answered.

        Raises:
            ResultsError: they can't be compared.
        """
        return _current(self._data, name, self._stamp(name), lambda: self._fresh_data(name))

    def _stamp(self, name: str) -> object:
        """What changes when the base or a candidate has answered more."""
        return [None if self.gate.results_of(one) else self._files(one) for one in (BASE, name)]

    def _fresh_data(self, name: str) -> dict[str, RowData]:
        finished = self.gate.results_of(name) is not None
        theirs, ours = self.answers(BASE), self.answers(name)
        for task, answers in ours.items():
            if task in theirs:
                refuse_unlike(theirs[task], answers, name, self.gate.allow)
        return {task: self._row(task, base, ours.get(task), finished=finished) for task, base in theirs.items()}

    def standing(self, name: str) -> Standing:
        """Where a candidate stands.

        Raises:
            ResultsError: it can't be compared with the base.
        """
        return _current(
            self._standings, name, self._stamp(name), lambda: standing(self.policy, self.data(name), self._allowance)
        )

    @cached_property
    def _allowance(self) -> float:
        """Tokens that each model may use: an even share, so that it doesn't depend on who is evaluated first."""
        tokens = self.gate.budget.tokens
        return math.inf if tokens is None else tokens / max(1, len(self.runs))

    @property
    def base_is_spent(self) -> bool:
        """Whether the base has used up its share of the tokens."""
        return sum(one.tokens for one in self.answers(BASE).values()) >= self._allowance

    # What is next -----------------------------------------------------------------------------------------

    def next_block(self, run: PlannedRun) -> NextBlock | None:
        """What a model has to be asked now; None if it has nothing to do, or has to wait for the base."""
        if self.is_late:
            return None
        return self._next_of_base() if run.name == BASE else self.standing(run.name).next

    def _next_of_base(self) -> NextBlock | None:
        answers = self.answers(BASE)
        if self.base_is_spent:
            return None
        for task in self.benchmarks:
            if task not in answers:
                return NextBlock(task, 0, self.policy.first_block)
            if self.policy.population == "these questions":
                refuse_greedy(answers[task])
            row = self._row(task, answers[task], None, finished=False)
            done = len(row.base)
            if done < base_target(self.policy, row, self.policy.tiers[task], self._visits.get(task, 1)):
                end = 0
                while end <= done:
                    end = block_end(end, row.total, self.policy)
                return NextBlock(task, done, end)
        return None

    @property
    def _visits(self) -> dict[str, int]:
        said = mapping(read_json_object(self.folder / _STATE).get("visits"))
        return {task: whole(count) or 1 for task, count in said.items()}

    def extend_base(self, tasks: Sequence[str]) -> bool:
        """Let the base answer more of some benchmarks the next time; false if it can't.

        Raises:
            ResultsError: it can't be compared.
        """
        if self.base_run is None or self.is_late or self.base_is_spent:
            return False
        visits = self._visits
        self._keep({"visits": visits | {task: visits.get(task, 1) + 1 for task in tasks}})
        return self._next_of_base() is not None

    def begin(self) -> None:
        """Set the time at which the command has to end."""
        hours = self.gate.budget.hours
        self._keep({"ends": None if hours is None else time.time() + 3600 * hours})

    def _keep(self, said: Mapping[str, object]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / _STATE, {**read_json_object(self.folder / _STATE), **said})

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        ends = number(read_json_object(self.folder / _STATE).get("ends"))
        return self.gate.budget.hours is not None and ends is not None and time.time() > ends

    def found(self, item: Item) -> Found:
        """Where a model stands: it is done if it has nothing to do now, and its results are written."""
        assert isinstance(item, PlannedRun)  # nothing is chosen in a stage here
        waiting = self._unfinished(self.folder_of(item))
        if waiting.state == "running":
            return waiting
        try:
            return Found("done", {}) if self.is_done(item) else waiting
        except ResultsError as error:  # it can't be compared with the base
            return Found("failed", {"why": str(error)})

    # The base ---------------------------------------------------------------------------------------------

    def check_results(self) -> None:
        """Read the results that are there already, before anything is run.

        Raises:
            ResultsError: there are none, they lack a benchmark, or can't be asked again in rounds; or there is no
                published score of a benchmark for which it is asked.
        """
        for task, benchmark in self.benchmarks.items():
            if benchmark.published == "literature":
                self.published(task)
        for name in (BASE, *self.gate.candidates):
            if self.gate.results_of(name):
                for answers in self.answers(name).values():
                    if self.gate.population == "these questions":
                        refuse_greedy(answers)

    def check_published(self) -> None:
        """Refuse a base that is far from its published score, because then the measurement is broken.

        Raises:
            ResultsError: it is, beyond chance; the message says by how much, and why that happens.
        """
        for task, answers in self.answers(BASE).items():
            said = self.published(task)
            if said is None:
                continue
            scores = [one.score for one in answers.by_id.values()]
            low, high = said.score - said.tolerance, said.score + said.tolerance
            below = reaches([low - score for score in scores], max(1 - low, 1e-6), self.policy.threshold)
            above = reaches([score - high for score in scores], max(high, 1e-6), self.policy.threshold)
            if below or above:
                raise ResultsError(
                    f"{task}: the base has {100 * sum(scores) / len(scores):.1f}% of {len(scores)} questions right, "
                    f"which is {'below' if below else 'above'} its published {100 * said.score:.1f}% "
                    f"({said.source}) by more than the tolerance of {100 * said.tolerance:.1f} points and chance; "
                    "the measurement is broken (another chat template, answer budget or sampling?), so there is no "
                    "verdict"
                )

    # Results ----------------------------------------------------------------------------------------------

    def is_done(self, run: PlannedRun) -> bool:
        """Whether a model has nothing to do now, and its results are written, if it has answered anything."""
        if self.next_block(run) is not None:
            return False
        return any(self._results(run).glob("results_*.json")) or not any(self._files(run.name).values())

    def _results(self, run: PlannedRun) -> Path:
        return self.folder_of(run) / "results"

    def forget_results(self, run: PlannedRun) -> None:
        """Delete a model's results before it answers more; its samples go when they are written again."""
        for old in self._results(run).glob("results_*.json"):
            old.unlink()

    def write_results(self, run: PlannedRun) -> Path | None:
        """Put all blocks of a model together in one results file, marked and without accuracies, with its samples."""
        files = {task: some for task, some in self._files(run.name).items() if some}
        if not files:
            return None
        newest = {task: some[-1] for task, some in files.items()}
        last = newest[list(newest)[-1]]
        content: dict[str, object] = json_object(last, ResultsError)
        parts = {task: json_object(path, ResultsError) for task, path in newest.items()}
        for field in ("configs", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes"):
            content[field] = {task: mapping(one.get(field)).get(task) for task, one in parts.items()}
        content["results"] = {task: {"alias": task} for task in parts}
        answers = self.answers(run.name)
        content[STOPPED_EARLY] = {
            task: {"of": answers[task].of, "samples": answers[task].samples, "questions": sorted(answers[task].by_id)}
            for task in parts
        }
        folder = self._results(run)
        folder.mkdir(parents=True, exist_ok=True)
        date = last.stem.removeprefix("block_")
        for task, some in files.items():
            # Of rounds, the newest block has the samples of the earlier ones.
            used = some[-1:] if self.gate.population == "these questions" else some
            with (folder / f"samples_{task}_{date}.jsonl").open("wb") as written:
                written.writelines(_samples(file).read_bytes() for file in used)
        path = folder / f"results_{date}.json"
        write_json(path, content)
        for old in set(folder.glob("*.json*")) - {path, *folder.glob(f"samples_*_{date}.jsonl")}:
            old.unlink()
        return path


def _current(kept: dict[str, tuple[object, Value]], name: str, stamp: object, make: Callable[[], Value]) -> Value:
    """A model's value, made again if its stamp has changed."""
    if name not in kept or kept[name][0] != stamp:
        kept[name] = stamp, make()
    return kept[name][1]


def _as_published(base: str, task: str) -> PublishedScore:
    """What the literature says of a base: the middle of its scores, which may be as far apart as they are."""
    rows = base_rows(read_literature(), base, task)
    if not rows:
        raise ManifestError(
            f"{task}: published: literature: no source has a score of {base} there (see lm-eval-tts published); give "
            "score and source, or leave it out"
        )
    scores = sorted({row.base_score.value / 100 for row in rows})
    least, most = scores[0], scores[-1]
    return PublishedScore(
        score=(least + most) / 2, source=", ".join(dict.fromkeys(row.source.source for row in rows)),
        tolerance=PublishedScore.model_fields["tolerance"].default + (most - least) / 2,
    )  # fmt: skip


def _costs(answers: Answers | None, order: Sequence[int], policy: Policy, units: int) -> list[float]:
    """Tokens of each of the first units."""
    if answers is None or not units:
        return []
    if policy.population == "these questions":
        each = sum(answers.by_id[one].tokens for one in order if one in answers.by_id) / max(1, answers.samples)
        return [each] * units
    return [answers.by_id[one].tokens for one in order[:units] if one in answers.by_id]


def _samples(block: Path) -> Path:
    """The samples of a block."""
    task, date = block.parents[2].name.rpartition("-")[0], block.stem.removeprefix("block_")
    return block.with_name(f"samples_{task}_{date}.jsonl")
