"""Published runs on disk: writing one, and what a pull request with some is checked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.site.load import Source, samples_path
from lm_eval_ext.site.run import RUN_FILE, Run, read_run, write_run
from lm_eval_ext.site.samples import pack, question_set
from lm_eval_ext.site.submission import Submission


class Finding(NamedTuple):
    """Something about a submitted run; a warning does not keep it from being merged."""

    path: Path
    text: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {'warning: ' if self.warning else ''}{self.text}"


def publish(submitted: Submission, results: Path) -> Path:
    """Write a run and its samples below `results`; returns its folder.

    Raises:
        ResultsError: another run is there already.
    """
    run, samples = submitted
    folder = results / _folder_name(run.base) / run.id
    if (folder / RUN_FILE).is_file() and _without_tier(read_run(folder / RUN_FILE)) != _without_tier(run):
        raise ResultsError(f"{folder}: holds another run of the same id")
    for task, rows in samples.items():
        path = samples_path(folder, task)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(rows))
    write_run(run, folder)
    return folder


def _folder_name(base: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in base).strip(".-") or "model"


def _without_tier(run: Run) -> Run:
    return run.model_copy(update={"tier": "reported"})


def findings(sources: Sequence[Source], before: Sequence[Source] = ()) -> Iterator[Finding]:
    """What is wrong with published runs, beyond what reading them refuses.

    Args:
        sources: all published runs.
        before: those that were published before; their scores must not change.
    """
    old = {source.run.id: source.run for source in before}
    by_content: dict[object, Source] = {}
    dense = {(source.run.base, task) for source in sources if source.run.dense for task in source.run.tasks}
    for source in sources:
        run, path = source.run, source.path
        yield from _sample_findings(source)
        if path.name == RUN_FILE and path.parent.name != run.id:
            yield Finding(path, f"id={run.id!r}; allowed: the name of its folder, {path.parent.name!r}")
        if (first := by_content.setdefault(_content(run), source)) is not source:
            yield Finding(path, f"has the same model and scores as {first.path}")
        if run.id in old and _without_tier(old[run.id]) != _without_tier(run):
            yield Finding(path, "was published before with other content; publish a new run instead")
        alone = [task for task in run.tasks if not run.dense and (run.base, task) not in dense]
        if alone:
            yield Finding(
                path, f"no run of the whole {run.base} on {', '.join(alone[:3])} to compare with", warning=True
            )
        if run.partial:
            yield Finding(path, "partial: not all questions were evaluated; it will not be ranked", warning=True)


def _content(run: Run) -> object:
    scores = {name: (task.question_set, task.accuracy.value, task.scores) for name, task in run.tasks.items()}
    return (run.base, run.fingerprint, run.dropped, str(sorted(scores.items())))


def _sample_findings(source: Source) -> Iterator[Finding]:
    """Samples must be those of the scores, and show nothing of gated questions."""
    for name in source.run.samples:
        task = source.run.tasks[name]
        rows = source.samples(name)
        if tuple(row.score for row in rows) != task.scores or question_set(rows) != task.question_set:
            yield Finding(source.path, f"tasks.{name}.scores: are not those of its samples")
        elif abs(sum(task.scores) / len(task.scores) - task.accuracy.value) > 1e-6:
            yield Finding(
                source.path, f"tasks.{name}: {task.score}={task.accuracy.value} is not the mean of its scores"
            )
        if source.catalogue.is_gated(name) and any(
            row.prompt is not None or row.gold is not None or any(one.text or one.answer for one in row.outputs)
            for row in rows
        ):
            yield Finding(source.path, f"samples.{name}: shows questions or answers of a gated benchmark")
