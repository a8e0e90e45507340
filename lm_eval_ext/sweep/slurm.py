"""Runs a study on Slurm: an array of jobs for the choices of layers, and one for the runs, which waits for them.

Each job runs `lm_eval_ext.sweep.one`, as on one machine. A job that was preempted is queued again by Slurm, and goes on
from its run's journal.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.paths import json_object, write_json
from lm_eval_ext.sweep.locks import locked
from lm_eval_ext.sweep.plan import Item, PlannedRun, stages
from lm_eval_ext.sweep.sources import Study

TEMPLATE = Path(__file__).parent / "slurm.sh"
# Slurm's states of a job: it runs, it will run. All others but COMPLETED say why it hasn't ended well.
RUNS = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"})
WAITS = frozenset({"PENDING", "REQUEUED", "CONFIGURING", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESIZING"})
_JOBS = "jobs.json"
_ACCOUNTED = 60  # seconds after which accounting knows a job that was submitted


def submit(study: Study, runs: Sequence[PlannedRun], tell: Callable[[str], None]) -> bool:
    """Submit all of some runs that is neither done nor queued already; returns true.

    Args:
        study: the study.
        runs: of the study.
        tell: called with a line about each array that was submitted.

    Raises:
        ManifestError: `sbatch` isn't there, or refuses; its words are in the message.
    """
    with locked(study.folder / "slurm" / "lock"):  # so that two submit nothing twice
        queued = {told for told, state in states(study).items() if state in RUNS | WAITS}
        missing = [one for one in stages(runs) if study.found(one).state != "done"]
        wanted = [one for one in runs if study.found(one).state != "done" and study.ticket(one) not in queued]
        if not wanted:
            tell("nothing to submit: every run is done or queued")
            return True
        needed = [one for one in missing if study.ticket(one) not in queued]
        traced = {one.traces for one in missing if not study.is_ready(one)}
        first = [one for one in wanted if one.name in traced]
        if first:  # the choices read what these reply
            tell(_submitted(study, "run", "first runs", first, []))
        if needed:
            before = [one for one in runs if one.name in traced]
            tell(_submitted(study, "choice of layers", "choices of layers", needed, _jobs_of(study, before)))
        if others := [one for one in wanted if one not in first]:
            tell(_submitted(study, "run", "runs", others, _jobs_of(study, missing)))
    return True


def _submitted(study: Study, one: str, several: str, items: Sequence[Item], after: Sequence[str]) -> str:
    """Submit an array that starts after some jobs; returns a line about it."""
    folder = study.folder / "slurm"
    script = folder / f"{several.replace(' ', '-')}.sh"
    script.write_text(_script(study, items), "utf-8")
    command = ["sbatch", "--parsable", *_options(study, len(items), folder)]
    command += [f"--dependency=afterany:{':'.join(after)}"] if after else []
    number = _said([*command, str(script)]).strip().split(";")[0]
    write_json(folder / _JOBS, {**_jobs(study), number: [study.ticket(item) for item in items]})
    return f"submitted {len(items)} {one if len(items) == 1 else several} as job {number}"


def _options(study: Study, count: int, folder: Path) -> list[str]:
    given = study.manifest.launch.slurm
    limit = f"%{given.parallel}" if given.parallel else ""
    named = {
        "job-name": study.path.stem, "partition": given.partition, "account": given.account,
        "gpus": given.gpus, "cpus-per-task": given.cpus, "mem": given.memory, "time": given.time,
        "array": f"0-{count - 1}{limit}", "output": str(folder / "%A_%a.out"), **given.options,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in named.items() if value is not None]
    return [*words, "--requeue", "--open-mode=append"]


def _script(study: Study, items: Sequence[Item]) -> str:
    given = study.manifest.launch.slurm
    path = TEMPLATE if given.template is None else Path(given.template)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ManifestError(f"launch.slurm.template: {path} cannot be read ({error.strerror})") from error
    parts = {
        "{names}": " ".join(shlex.quote(study.ticket(item)) for item in items),
        "{setup}": "\n".join(given.setup),
        "{command}": shlex.join([sys.executable, "-m", study.runner, str(study.path.resolve())]),
    }
    missing = next((part for part in ("{names}", "{command}") if part not in text), None)
    if missing is not None:
        raise ManifestError(f"launch.slurm.template: {path} has no {missing}; see {TEMPLATE}")
    for part, value in parts.items():
        text = text.replace(part, value)
    return text


def states(study: Study) -> dict[str, str]:
    """Slurm's last word on each ticket that was submitted, such as `RUNNING` or `TIMEOUT`."""
    jobs = _jobs(study)
    if not jobs:
        return {}
    asked = ["sacct", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={','.join(jobs)}"]
    try:
        lines = _said(asked).splitlines()
    except ManifestError:  # no accounting on this cluster, so only what is queued or runs is known
        return dict(_of_lines(_said(["squeue", "--me", "--noheader", "--format=%i|%T"]).splitlines(), jobs))
    said = dict(_of_lines(lines, jobs))
    if time.time() - (study.folder / "slurm" / _JOBS).stat().st_mtime < _ACCOUNTED:
        newest = max(map(_number, lines), default=0)
        said |= {told: "PENDING" for job, some in jobs.items() if _number(job) > newest for told in some}
    return said


def _jobs_of(study: Study, choices: Sequence[Item]) -> list[str]:
    """The newest job of each choice of layers or run, once."""
    newest = {told: number for number, some in _jobs(study).items() for told in some}
    wanted = [study.ticket(one) for one in choices]
    return list(dict.fromkeys(newest[told] for told in wanted if told in newest))


def _of_lines(lines: Iterable[str], jobs: Mapping[str, Sequence[str]]) -> Iterable[tuple[str, str]]:
    found = [line.partition("|")[::2] for line in lines]
    for number, state in sorted(found, key=lambda one: _number(one[0])):  # the newest job last
        job, _, place = number.partition("_")
        for one in _indices(place):
            if job in jobs and one < len(jobs[job]):
                yield jobs[job][one], state.split()[0] if state.split() else ""


def _number(job: str) -> int:
    """The number at the beginning of a job's id, such as 12 of `12_[3-4]`."""
    found = re.match(r"\d+", job)
    return int(found[0]) if found else 0


def _indices(place: str) -> list[int]:
    """The indices of an array's line: `3`, or `[0-2,5%4]` for those that wait; none for a job's steps (`3.batch`)."""
    if place.isdecimal():
        return [int(place)]
    if not (place.startswith("[") and place.endswith("]")):
        return []
    found: list[int] = []
    for part in place[1:-1].partition("%")[0].split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1) if ends else []
    return found


def _jobs(study: Study) -> dict[str, list[str]]:
    path = study.folder / "slurm" / _JOBS
    return json_object(path, ManifestError, "delete it if nothing is queued") if path.is_file() else {}


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ManifestError(f"--launch slurm: {command[0]} is not there; run this where Slurm is installed") from error
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())
        raise ManifestError(f"{command[0]} failed with exit code {done.returncode}: {reason}")
    return done.stdout
