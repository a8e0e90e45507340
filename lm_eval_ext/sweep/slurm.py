"""Runs a study on Slurm: an array of jobs for the choices of layers, and one for the runs, which waits for them.

Each job runs `lm_eval_ext.sweep.one`, as on one machine. A job that was preempted is queued again by Slurm, and goes on
from its run's journal.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.sweep.manifest import Slurm
from lm_eval_ext.sweep.plan import PlannedRun, stages
from lm_eval_ext.sweep.study import Study, write_whole

TEMPLATE = Path(__file__).parent / "slurm.sh"
_ACTIVE = {"PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "CONFIGURING", "COMPLETING"}
_JOBS = "jobs.json"


@dataclass
class SlurmLauncher:
    """Submits what a study still needs.

    Args:
        study: the study.
        tell: called with a line about each array that was submitted.
    """

    study: Study
    tell: Callable[[str], None]

    @property
    def _settings(self) -> Slurm:
        return self.study.manifest.launch.slurm

    def run(self, runs: Sequence[PlannedRun]) -> bool:
        """Submit all that is neither done nor queued already; returns true.

        Raises:
            ManifestError: `sbatch` isn't there, or refuses; its words are in the message.
        """
        queued = {name for name, state in states(self.study).items() if state in _ACTIVE}
        needed = [one for one in stages(runs) if self.study.stage_found(one).state != "done" and one.name not in queued]
        wanted = [one for one in runs if self.study.found(one).state != "done" and one.name not in queued]
        if not wanted:
            self.tell("nothing to submit: every run is done or queued")
            return True
        first = self._submitted("choices of layers", [one.name for one in needed], None) if needed else None
        self._submitted("runs", [one.name for one in wanted], first)
        return True

    def _submitted(self, what: str, names: Sequence[str], after: str | None) -> str:
        """Submit an array; returns its id."""
        folder = self.study.folder / "slurm"
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / f"{what.replace(' ', '-')}.sh"
        script.write_text(self._script(names), "utf-8")
        command = ["sbatch", "--parsable", *self._options(len(names), folder)]
        command += [f"--dependency=afterany:{after}"] if after else []
        number = _said([*command, str(script)]).strip().split(";")[0]
        write_whole(folder / _JOBS, {**_jobs(self.study), number: list(names)})
        self.tell(f"submitted {len(names)} {what} as job {number}")
        return number

    def _options(self, count: int, folder: Path) -> list[str]:
        given = self._settings
        limit = f"%{given.parallel}" if given.parallel else ""
        named = {
            "job-name": self.study.path.stem, "partition": given.partition, "account": given.account,
            "gpus": given.gpus, "cpus-per-task": given.cpus, "mem": given.memory, "time": given.time,
            "array": f"0-{count - 1}{limit}", "output": str(folder / "%A_%a.out"), **given.options,
        }  # fmt: skip
        return [
            *(f"--{name}={value}" for name, value in named.items() if value is not None),
            "--requeue",
            "--open-mode=append",
        ]

    def _script(self, names: Sequence[str]) -> str:
        template = self._settings.template
        path = TEMPLATE if template is None else self.study.path.parent / template
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise ManifestError(f"launch.slurm.template: {path} cannot be read ({error.strerror})") from error
        command = shlex.join([sys.executable, "-m", "lm_eval_ext.sweep.one", str(self.study.path.resolve())])
        parts = {
            "{names}": " ".join(map(shlex.quote, names)),
            "{setup}": "\n".join(self._settings.setup),
            "{command}": command,
        }
        missing = next((part for part in ("{names}", "{command}") if part not in text), None)
        if missing is not None:
            raise ManifestError(f"launch.slurm.template: {path} has no {missing}; see {TEMPLATE}")
        for part, value in parts.items():
            text = text.replace(part, value)
        return text


def states(study: Study) -> dict[str, str]:
    """Slurm's last word on each stage and run that was submitted, such as `RUNNING` or `TIMEOUT`."""
    jobs = _jobs(study)
    if not jobs:
        return {}
    asked = ["sacct", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={','.join(jobs)}"]
    try:
        lines = _said(asked).splitlines()
    except ManifestError:  # no accounting on this cluster, so only what is queued or runs is known
        lines = _said(["squeue", "--me", "--noheader", "--format=%i|%T"]).splitlines()
    return dict(_of_lines(lines, jobs))


def _of_lines(lines: Iterable[str], jobs: Mapping[str, Sequence[str]]) -> Iterable[tuple[str, str]]:
    for line in lines:
        number, _, state = line.partition("|")
        job, _, place = number.partition("_")
        for one in _indices(place):
            if job in jobs and one < len(jobs[job]):
                yield jobs[job][one], state.split()[0] if state.split() else ""


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
    try:
        found: dict[str, list[str]] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ManifestError(f"{path}: cannot be read as JSON ({error}); delete it if nothing is queued") from error
    return found


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ManifestError(f"--launch slurm: {command[0]} is not there; run this where Slurm is installed") from error
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())
        raise ManifestError(f"{command[0]} failed with exit code {done.returncode}: {reason}")
    return done.stdout
