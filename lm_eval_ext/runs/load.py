"""Everything that a site is built from: published runs and lm-eval's own output, found below the folders given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.catalogue import Catalogue
from lm_eval_ext.runs.run import RUN_FILE, Run, read_json, read_run
from lm_eval_ext.runs.samples import Sample, read_samples
from lm_eval_ext.runs.submission import is_results, submission
from lm_eval_ext.runs.task_results import AccuracyKey, task_rows

SITE_MARK = ".lm-eval-tts-site"  # a folder that holds it is a site, which may be written anew and is no source


@dataclass(frozen=True)
class Source:
    """A run and where its samples are: beside its `run.json`, or in the lm-eval results file that it was read from."""

    run: Run
    path: Path
    catalogue: Catalogue

    @property
    def published(self) -> bool:
        """Whether it was read from a `run.json`."""
        return self.path.name == RUN_FILE

    def samples(self, task: str) -> list[Sample]:
        """The samples of a task; none where the run has none.

        Raises:
            ResultsError: names the file, the line and the field.
        """
        if task not in self.run.samples:
            return []
        if self.published:
            return read_samples(samples_path(self.path.parent, task), self.run.samples[task])
        result = self.run.tasks[task]
        return task_rows(
            self.path, read_json(self.path), AccuracyKey(task, result.filter, result.score), self.catalogue
        )


def samples_path(folder: Path, task: str) -> Path:
    """Where a published run's samples of a task are."""
    return folder / "samples" / f"{task}.jsonl.gz"


def read_source(path: Path, catalogue: Catalogue, base: str | None = None) -> Source:
    """The run in a `run.json` or in a results file of lm-eval; `base` renames the latter's base model.

    Raises:
        ResultsError: names the file and the field.
    """
    run = read_run(path) if path.name == RUN_FILE else submission(path, catalogue, base)
    return Source(run, path, catalogue)


def load(paths: Sequence[Path], catalogue: Catalogue) -> list[Source]:
    """All runs at or below the given paths, by id. The same run found twice counts once.

    Raises:
        ResultsError: names the file and the field; a path holds nothing; two runs share an id.
    """
    found: dict[str, Source] = {}
    for path in paths:
        for file in files(path):
            source = read_source(file, catalogue)
            other = found.setdefault(source.run.id, source)
            if other.run != source.run:
                raise ResultsError(f"{source.path}: id={source.run.id!r}: {other.path} has the same and is another run")
    return [found[name] for name in sorted(found)]


def files(path: Path) -> list[Path]:
    """The published runs (`run.json`) and results of lm-eval (`results_*.json`) at or below a path; sites are left out.

    Raises:
        ResultsError: there is no such path, or nothing at it.
    """
    if not path.exists():
        raise ResultsError(f"{path}: does not exist; allowed: folders with results, or one results file")
    found = [path] if path.is_file() else sorted(_below(path))
    if not found:
        raise ResultsError(f"{path}: holds neither {RUN_FILE} nor results of lm-eval (results_*.json)")
    return found


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        if SITE_MARK in names:
            folders.clear()
            continue
        yield from (path for path in _paths(parent, names) if path.name == RUN_FILE or is_results(path))


def _paths(parent: str, names: Iterable[str]) -> Iterator[Path]:
    return (Path(parent, name) for name in names)
