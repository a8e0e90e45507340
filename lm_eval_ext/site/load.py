"""Everything that a site is built from: published runs and lm-eval's own output, found below the folders given."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.site.catalogue import Catalogue
from lm_eval_ext.site.run import RUN_FILE, Run, read_run
from lm_eval_ext.site.samples import Sample, read_samples
from lm_eval_ext.site.submission import submission

logger = logging.getLogger("lm_eval.tts")


@dataclass(frozen=True)
class Source:
    """A run and where its samples are: beside its `run.json`, or in the lm-eval results file that it was read from."""

    run: Run
    path: Path
    catalogue: Catalogue

    def samples(self, task: str) -> list[Sample]:
        """The samples of a task; none where the run has none."""
        if task not in self.run.samples:
            return []
        if self.path.name == RUN_FILE:
            return read_samples(samples_path(self.path.parent, task), self.run.samples[task])
        return submission(self.path, self.catalogue).samples.get(task, [])


def samples_path(folder: Path, task: str) -> Path:
    """Where a published run's samples of a task are."""
    return folder / "samples" / f"{task}.jsonl.gz"


def load(paths: Sequence[Path], catalogue: Catalogue) -> list[Source]:
    """All runs at or below the given paths, by id.

    A folder with a `run.json` is a published run; any `results_*.json` elsewhere is lm-eval's. The same run found twice
    counts once.

    Raises:
        ResultsError: names the file and the field; a path holds nothing; two runs share an id.
    """
    found: dict[str, Source] = {}
    for path in paths:
        sources = list(_found(path, catalogue))
        if not sources:
            raise ResultsError(f"{path}: holds neither {RUN_FILE} nor results of lm-eval (results_*.json)")
        for source in sources:
            other = found.setdefault(source.run.id, source)
            if other.run != source.run:
                raise ResultsError(f"{source.path}: id={source.run.id!r}: {other.path} has the same and is another run")
    return [found[name] for name in sorted(found)]


def _found(path: Path, catalogue: Catalogue) -> Iterator[Source]:
    if not path.exists():
        raise ResultsError(f"{path}: does not exist; allowed: folders with results")
    for file in [path] if path.is_file() else sorted(_files(path)):
        if file.name == RUN_FILE:
            yield Source(read_run(file), file, catalogue)
        else:
            yield Source(submission(file, catalogue).run, file, catalogue)


def _files(folder: Path) -> Iterable[Path]:
    return (file for file in folder.rglob("*.json") if file.name == RUN_FILE or file.match("results_*.json"))
