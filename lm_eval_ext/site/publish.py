"""Published runs on disk: writing one, and what a pull request with some is checked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.site.load import Source, samples_path
from lm_eval_ext.site.run import RUN_FILE, TIERS, Run, read_run, write_run
from lm_eval_ext.site.samples import Sample, pack


class Finding(NamedTuple):
    """Something about a submitted run; a warning does not keep it from being merged."""

    path: Path
    text: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {'warning: ' if self.warning else ''}{self.text}"


def publish(source: Source, results: Path) -> Source:
    """Write a run and its samples below `results`; returns it as published. One that is there keeps a higher tier.

    Raises:
        ResultsError: another run is there already.
    """
    run, folder = source.run, results / _folder_name(source.run.base) / source.run.id
    if (folder / RUN_FILE).is_file():
        there = read_run(folder / RUN_FILE)
        if without_tier(there) != without_tier(run):
            raise ResultsError(f"{folder}: holds another run of the same id")
        run = max(there, run, key=lambda one: TIERS.index(one.tier))
    for task in run.samples:
        path = samples_path(folder, task)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(source.samples(task)))
    return Source(run, write_run(run, folder), source.catalogue)


def _folder_name(base: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in base).strip(".-") or "model"


def without_tier(run: Run) -> Run:
    """The run as it was sent in."""
    return run.model_copy(update={"tier": "reported"})


def findings(sources: Sequence[Source], before: Sequence[Source] = ()) -> Iterator[Finding]:
    """What is wrong with published runs beside each other.

    Args:
        sources: all published runs.
        before: those that were published before; their scores must not change.
    """
    old = {source.run.id: source.run for source in before}
    seen: dict[object, Source] = {}
    dense = {(source.run.base, task) for source in sources if source.run.dense for task in source.run.tasks}
    for source in sources:
        run, path = source.run, source.path
        if path.parent.name != run.id:
            yield Finding(path, f"id={run.id!r}; allowed: the name of its folder, {path.parent.name!r}")
        if (first := seen.setdefault(_content(run), source)) is not source:
            same = bool(run.samples) and run.samples == first.run.samples
            yield Finding(path, f"has the same model and scores as {first.path}", warning=not same)
        if run.id in old and without_tier(old[run.id]) != without_tier(run):
            yield Finding(path, "was published before with other content; publish a new run instead")
        alone = [task for task in run.tasks if not run.dense and (run.base, task) not in dense]
        if alone:
            text = f"no run of the whole {run.base} on {', '.join(alone[:3])} to compare with"
            yield Finding(path, text, warning=True)
        if run.partial:
            yield Finding(path, "partial: not all questions were evaluated; it will not be ranked", warning=True)


def _content(run: Run) -> object:
    scores = {name: (task.question_set, task.accuracy.value, task.scores) for name, task in run.tasks.items()}
    return (run.base, run.fingerprint, run.variation, run.dropped, str(sorted(scores.items())))


def stray_files(source: Source) -> Iterator[Finding]:
    """Files beside a `run.json` that it says nothing of: nobody has looked at what they hold."""
    folder = source.path.parent
    listed = {source.path, *(samples_path(folder, task) for task in source.run.samples)}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or (path.is_file() and path not in listed):
            yield Finding(path, f"is no file that {RUN_FILE} lists; allowed: {RUN_FILE} and samples/TASK.jsonl.gz")


def shown_though_gated(source: Source, task: str, rows: Sequence[Sample]) -> Iterator[Finding]:
    """Samples must show nothing of gated questions."""
    result = source.run.tasks[task]
    if source.catalogue.is_gated(task, result.dataset) and any(
        row.prompt is not None or row.gold is not None or any(one.text or one.answer for one in row.outputs)
        for row in rows
    ):
        yield Finding(source.path, f"samples.{task}: shows questions or answers of a gated benchmark")
