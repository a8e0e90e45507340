"""Finds and loads the runs a site is built from: published runs and lm-eval's own output."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ResultsError, StoppedEarlyError
from lm_eval_ext.paths import is_being_replaced, json_object
from lm_eval_ext.runs.catalogue import Catalogue
from lm_eval_ext.runs.logs.log import ROUNDED, Log
from lm_eval_ext.runs.logs.recognised import TOOLS, is_log, read_log
from lm_eval_ext.runs.run import Run, frame
from lm_eval_ext.runs.samples import RUN_FILE, Sample, question_set, read_run, read_samples, without_texts
from lm_eval_ext.runs.submission import is_results, submission
from lm_eval_ext.runs.task_results import AccuracyKey, AskedQuestion, task_questions, task_rows

if TYPE_CHECKING:
    import pandas


logger = logging.getLogger("lm_eval.tts")

SITE_MARK = ".lm-eval-tts-site"  # marks a folder as a site, which may be overwritten and is not searched for runs


@dataclass(frozen=True)
class Source:
    """A run and the file it was read from, a `run.json` or results of lm-eval or another tool, with its samples."""

    run: Run
    path: Path
    catalogue: Catalogue
    log: Log | None = None  # of another tool

    @property
    def published(self) -> bool:
        """Whether it was read from a `run.json`."""
        return self.path.name == RUN_FILE

    def samples(self, task: str) -> list[Sample]:
        """The samples of a task; empty if the run has none.

        Raises:
            ResultsError: a samples file is invalid; names the file, the line and the field.
        """
        if task not in self.run.samples:
            return []
        if self.log:
            rows = self.log.samples(task)
            return [without_texts(row) for row in rows] if self.run.tasks[task].gated else rows
        if self.published:
            return self._published_samples(task)
        return task_rows(self.path, json_object(self.path, ResultsError), self._scored(task), self.catalogue)

    def _published_samples(self, task: str) -> list[Sample]:
        path = samples_path(self.path.parent, task)
        rows, result = read_samples(path, self.run.samples[task]), self.run.tasks[task]
        if tuple(row.score for row in rows) != result.scores or question_set(rows) != result.question_set:
            raise ResultsError(f"{path}: scores do not match its samples: other scores or questions than in {RUN_FILE}")
        return rows

    def asked(self, task: str) -> list[AskedQuestion]:
        """What was asked, in the order of the samples; empty if there are none.

        Raises:
            ResultsError: a samples file is invalid; names the file, the line and the field.
        """
        if task not in self.run.samples:
            return []
        if self.log:
            return [
                AskedQuestion(one.bare, one.prompt or one.bare, tuple(one.gold), tuple(one.options))
                for one in self.log.questions(task)
            ]
        if self.published:
            return [AskedQuestion("", row.prompt or "", (row.gold,) if row.gold else ()) for row in self.samples(task)]
        return task_questions(self.path, json_object(self.path, ResultsError), self._scored(task), self.catalogue)

    def _scored(self, task: str) -> AccuracyKey:
        result = self.run.tasks[task]
        return AccuracyKey(task, result.filter, result.score)


def samples_path(folder: Path, task: str) -> Path:
    """Path of a published run's samples of a task."""
    return folder / "samples" / f"{task}.jsonl.gz"


def refuse_interrupted(path: Path) -> None:
    """Refuse results whose regrading was interrupted, because the file and its samples may not fit together.

    Raises:
        ResultsError: it was; says how to go on.
    """
    if is_being_replaced(path):
        again = f"lm-eval-tts leaderboard regrade {path.parent} --write"
        raise ResultsError(f"{path}: its regrading was interrupted; finish it with: {again}")


def read_source(
    path: Path, catalogue: Catalogue, base: str | None = None, *, in_part: bool = False, logs: bool = False
) -> Source:
    """Read the run in a `run.json`, in results of lm-eval, or in the log of another tool.

    Args:
        path: the file.
        catalogue: which metric is the accuracy, and which benchmarks are gated.
        base: overrides the base model's name in a results file.
        in_part: read what was stopped early, too, for those who know what its mean is worth.
        logs: read logs of other tools, too, for those who show what these don't record.

    Raises:
        StoppedEarlyError: it was stopped early.
        ResultsError: names the file and the field.
    """
    refuse_interrupted(path)
    if path.name != RUN_FILE and (log := read_log(path)):
        if not logs:
            raise ResultsError(
                f"{path}: is a log of {log.tool}, which can't be used here; `results show` says what it holds"
            )
        return Source(_with_chance(_gated(log.run(path), log, catalogue), catalogue), path, catalogue, log)
    run = read_run(path) if path.name == RUN_FILE else submission(path, catalogue, base, in_part=in_part)
    return Source(_with_chance(run, catalogue), path, catalogue)


def _check_means(run: Run, path: Path) -> None:
    """Refuse a published accuracy that isn't the mean of the questions' scores."""
    for name, task in run.tasks.items():
        if task.scores and abs((mean := fmean(task.scores)) - task.accuracy.value) > ROUNDED:
            raise ResultsError(
                f"{path}: tasks.{name}: {task.score}={task.accuracy.value} is {mean:.6f} when recomputed from scores"
            )


def _gated(run: Run, log: Log, catalogue: Catalogue) -> Run:
    """The run of another tool, which does not know which benchmarks must not be shown."""
    tasks = {
        name: task.model_copy(update={"gated": catalogue.is_gated(name, log.about(name))})
        for name, task in run.tasks.items()
    }
    return run.model_copy(update={"tasks": tasks})


def _with_chance(run: Run, catalogue: Catalogue) -> Run:
    """The run with the declared accuracies of guessing, where it has none itself."""
    declared = {
        name: task.model_copy(update={"chance": chance})
        for name, task in run.tasks.items()
        if task.chance is None and (chance := catalogue.benchmark(task.benchmark).chance) is not None
    }
    return run.model_copy(update={"tasks": {**run.tasks, **declared}}) if declared else run


def load(paths: Sequence[Path], catalogue: Catalogue, *, logs: bool = False) -> list[Source]:
    """All runs at or below the given paths, with those in logs of other tools if asked, sorted by id.

    A run found twice is returned once, as it was published if it was.

    What was stopped early, in a folder with other runs, is left out with a warning.

    Raises:
        StoppedEarlyError: nothing else is there.
        ResultsError: a file is invalid, a path holds no results, or two different runs share an id.
    """
    found: dict[str, Source] = {}
    early: list[StoppedEarlyError] = []
    for path in paths:
        for file in files(path, logs=logs):
            try:
                source = read_source(file, catalogue, logs=logs)
                if source.published:
                    _check_means(source.run, file)
            except StoppedEarlyError as error:
                early.append(error)
                continue
            other = found.setdefault(source.run.id, source)
            if not _is_same(other, source):
                raise ResultsError(f"{source.path}: id={source.run.id!r}: also the id of {other.path}, another run")
            if source.published and not other.published:  # it has the tier
                found[source.run.id] = source
    if early and not found:
        raise early[0]
    for one in early:
        logger.warning("%s; left out", one)
    return [found[name] for name in sorted(found)]


def _is_same(one: Source, other: Source) -> bool:
    """Whether two sources hold the same run, perhaps one as lm-eval wrote it and one as it was published."""
    if one.run == other.run:
        return True
    both = [source.run.model_copy(update={"tier": "reported", "samples": {}}) for source in (one, other)]
    return one.published != other.published and both[0] == both[1]


def files(path: Path, *, logs: bool = False) -> list[Path]:
    """Published runs and results of lm-eval (`results_*.json`) at or below a path, and logs of other tools if asked.

    Built sites are left out.

    Raises:
        ResultsError: the path does not exist, or holds no results.
    """
    if not path.exists():
        raise ResultsError(f"{path}: does not exist; expected a folder with results, or a results file")
    found = [path] if path.is_file() else sorted(_below(path, logs))
    if not found:
        more = f", nor a log of any of: {TOOLS}" if logs else ""
        raise ResultsError(f"{path}: contains neither {RUN_FILE} nor lm-eval results (results_*.json){more}")
    return found


def _below(folder: Path, logs: bool) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        if SITE_MARK in names:
            folders.clear()
            continue
        for path in (Path(parent, name) for name in names):
            if path.name == RUN_FILE or (is_results(path) and (logs or not is_log(path))) or (logs and is_log(path)):
                yield path


_SHOWN = 20  # runs that are listed


class Runs(tuple[Run, ...]):
    """Runs, in order."""

    _sources: Sequence[Source]

    def __new__(cls, runs: Iterable[Run], sources: Sequence[Source] = ()) -> Runs:  # noqa: D102
        self = super().__new__(cls, runs)
        self._sources = sources
        return self

    def to_frame(self, *, samples: bool = False) -> pandas.DataFrame:
        """One row per task: the model, the accuracy with its 95% interval, and every metric.

        Args:
            samples: instead, one row per sample of a question, with its text, answer and grade; only for runs that were
                read with their samples.
        """
        import pandas

        return pandas.DataFrame(list(self._sample_rows())) if samples else frame(self)

    def _sample_rows(self) -> Iterator[dict[str, object]]:
        for source in self._sources:
            for task in source.run.samples:
                for question in source.samples(task):
                    for number, output in enumerate(question.outputs):
                        yield {
                            "run": source.run.id, "model": source.run.label, "task": task, "question": question.id,
                            "sample": number, "grade": output.grade, "answer": output.answer, "gold": question.gold,
                            "text": output.text,
                        }  # fmt: skip

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))

    def __repr__(self) -> str:
        shown = "".join(f"\n  {run.id}: {run.base} {run.label}, {len(run.tasks)} tasks" for run in self[:_SHOWN])
        more = f"\n  and {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        return f"<{len(self)} runs:{shown}{more}>"
