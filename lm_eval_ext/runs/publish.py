"""Published runs on disk: writing one, and the checks on a pull request that adds some."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.paths import write_whole
from lm_eval_ext.runs.load import Source, samples_path
from lm_eval_ext.runs.run import TIERS, Run
from lm_eval_ext.runs.samples import RUN_FILE, Sample, pack, read_run, run_json, validated, write_run
from lm_eval_ext.runs.study_file import FOLDER as STUDIES


class RunFinding(NamedTuple):
    """A finding about a submitted run; a warning does not block merging it."""

    path: Path
    text: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {'warning: ' if self.warning else ''}{self.text}"


class Golds:
    """Gold answers of all runs by question, to detect an answer that was changed in one of them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, Path]] = {}

    def contradicted(self, source: Source, task: str, rows: Sequence[Sample]) -> Iterator[RunFinding]:
        """Questions for which another run has a different gold answer."""
        benchmark = source.run.tasks[task].benchmark
        for row in rows:
            if row.hash and row.gold is not None:
                gold, path = self._known.setdefault((benchmark, row.hash), (row.gold, source.path))
                if gold != row.gold:
                    yield RunFinding(source.path, f"tasks.{task}: question {row.id}: gold answer differs from {path}")
                    return


def publish(source: Source, results: Path) -> Source:
    """Write a run and its samples below `results` and return the published run; an existing one keeps a higher tier.

    Raises:
        ResultsError: its folder already holds a different run.
    """
    packed = {task: pack(source.samples(task)) for task in source.run.samples}
    hashes = {task: hashlib.sha256(content).hexdigest() for task, content in packed.items()}
    # A log of another tool has no samples. What JSON cannot hold, such as NaN, is refused here, before others read it.
    run = validated(json.loads(run_json(source.run.model_copy(update={"samples": hashes}))), source.path)
    folder = results / _folder_name(run.base) / run.id
    if (folder / RUN_FILE).is_file():
        there = read_run(folder / RUN_FILE)
        if without_tier(there) != without_tier(run):
            raise ResultsError(f"{folder}: holds a different run with the same id")
        run = max(there, run, key=lambda one: TIERS.index(one.tier))
    for task, content in packed.items():
        write_whole(samples_path(folder, task), content)
    return Source(run, write_run(run, folder), source.catalogue)


def _folder_name(base: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in base).strip(".-") or "model"


def without_tier(run: Run) -> Run:
    """The run as submitted, with the lowest tier."""
    return run.model_copy(update={"tier": "reported"})


def _tells_apart(run: Run) -> bool:
    """Whether equal scores are a reason to wonder: those of a model that gets nothing right are always equal."""
    return any(not task.scores or len(set(task.scores)) > 1 for task in run.tasks.values())


def findings(
    sources: Sequence[Source], before: Sequence[Source] = (), regraded: Callable[[Source], Run] | None = None
) -> Iterator[RunFinding]:
    """Problems of published runs compared with each other.

    Args:
        sources: all published runs.
        before: the runs published before; none may be missing, and their scores must not change.
        regraded: returns a run regraded by the current grader, the only change allowed.
    """
    seen: dict[object, Source] = {}
    ids: dict[str, Source] = {}
    for source in sources:
        run, path = source.run, source.path
        if path.parent.name != run.id:
            yield RunFinding(path, f"id={run.id!r}; expected the name of its folder, {path.parent.name!r}")
        if (other := ids.setdefault(run.id, source)) is not source:
            yield RunFinding(path, f"id={run.id!r}: {other.path} has the same id")
        elif (first := seen.setdefault(_content(run), source)) is not source:
            same = bool(run.samples) and run.samples == first.run.samples
            if same or _tells_apart(run):
                yield RunFinding(path, f"has the same model and scores as {first.path}", warning=not same)
        if run.date > _tomorrow():
            yield RunFinding(path, f"date={run.date} is in the future")
        if run.partial:
            yield RunFinding(path, "partial: not all questions were evaluated; it will not be ranked", warning=True)
    yield from _changed(ids, before, regraded)
    yield from _alone(sources)
    yield from _fewer(sources)


def _tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _changed(
    now: dict[str, Source], before: Sequence[Source], regraded: Callable[[Source], Run] | None
) -> Iterator[RunFinding]:
    for old in before:
        new = now.get(old.run.id)
        if new is None:
            yield RunFinding(old.path, "was published before and is missing now")
        elif without_tier(old.run) != without_tier(new.run) and not _is_regraded(old, new, regraded):
            yield RunFinding(new.path, "was published before with different content; publish a new run instead")


def _is_regraded(old: Source, new: Source, regraded: Callable[[Source], Run] | None) -> bool:
    versions = [{name: task.graded_by for name, task in one.run.tasks.items()} for one in (old, new)]
    if regraded is None or versions[0] == versions[1]:
        return False
    return without_tier(regraded(old)) == without_tier(new.run)


def _alone(sources: Sequence[Source]) -> Iterator[RunFinding]:
    """Runs of smaller models without one of their base model, run in the same way, to compare with."""
    whole = {(*_base(source.run), name) for source in sources if source.run.whole for name in _asked(source.run)}
    for source in sources:
        run = source.run
        alone = [name for name in _asked(run) if not run.whole and (*_base(run), name) not in whole]
        if alone:
            how = "".join(f" with {how}" for how in (run.control, run.asked) if how)
            text = f"no run of the base model {run.base}{how} on {', '.join(alone[:3])} to compare with"
            yield RunFinding(source.path, text, warning=True)


def _base(run: Run) -> tuple[str, str, str, str]:
    return run.base, run.base_revision, run.control, run.asked


def _asked(run: Run) -> list[str]:
    return [run.asked_name(task) for task in run.tasks]


def _fewer(sources: Sequence[Source]) -> Iterator[RunFinding]:
    """Runs that claim a benchmark has fewer questions than other runs say, and so pass off a part as the whole."""
    most: dict[tuple[str, str], int] = {}
    for task in (task for source in sources for task in source.run.tasks.values()):
        key = (task.benchmark, task.version)
        most[key] = max(most.get(key, 0), task.of)
    for source in sources:
        for name, task in source.run.tasks.items():
            if task.of < most[task.benchmark, task.version]:
                text = f"tasks.{name}: of={task.of}, but other runs have {most[task.benchmark, task.version]} questions"
                yield RunFinding(source.path, text)


def _content(run: Run) -> object:
    scores = {name: (task.question_set, task.accuracy.value, task.scores) for name, task in run.tasks.items()}
    return (run.base, run.fingerprint, run.varied, run.dropped, str(sorted(scores.items())))


def stray_files(results: Sequence[Path], sources: Sequence[Source]) -> Iterator[RunFinding]:
    """Files that no `run.json` lists, and so were not checked."""
    listed = {source.path.resolve() for source in sources}
    listed |= {samples_path(one.path.parent, task).resolve() for one in sources for task in one.run.samples}
    listed |= {path.resolve() for folder in results for path in (folder / STUDIES).glob("*.json")}
    for folder in results:
        for path in sorted(folder.rglob("*")):
            stray = path.is_symlink() or (path.is_file() and path.resolve() not in listed)
            if stray and path.name not in (RUN_FILE, ".gitkeep"):
                yield RunFinding(
                    path, f"is not listed in a {RUN_FILE}; only {RUN_FILE} and samples/TASK.jsonl.gz are allowed"
                )


def is_gated(source: Source, task: str) -> bool:
    """Whether a task is gated, so that its questions must not be shown."""
    result = source.run.tasks[task]
    return result.gated or source.catalogue.is_gated(task, result.dataset)


def shown_though_gated(source: Source, task: str, rows: Sequence[Sample]) -> Iterator[RunFinding]:
    """Samples that show questions or answers of a gated benchmark."""
    if is_gated(source, task) and any(
        row.prompt is not None or row.gold is not None or any(one.text or one.answer for one in row.outputs)
        for row in rows
    ):
        yield RunFinding(source.path, f"samples.{task}: shows questions or answers of a gated benchmark")
