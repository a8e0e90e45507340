"""Runs one stage or run of a sweep, and says when it is done: `python -m lm_eval_ext.sweep.one MANIFEST NAME`.

It is a process of its own, which goes on if the sweep that started it is killed. What it starts inherits its locks, so
that nothing runs twice at the same time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from lm_eval_ext.errors import ManifestError, TTSError
from lm_eval_ext.sweep.locks import hold
from lm_eval_ext.sweep.plan import PlannedRun, Stage
from lm_eval_ext.sweep.study import DONE, FAILED, LOCK, LOG, Study, named, write_whole

BUSY, STOPPED = 75, 130  # exit codes: another process runs it; it was asked to stop
_CLI = "from lm_eval_ext.cli import app; app()"
_TAIL = 20_000  # bytes of a log in which the reason of a failure is looked for
_LONGEST = 500


@dataclass(frozen=True)
class Work:
    """What a process does for a sweep.

    Attributes:
        folder: for its lock, log and state.
        command: what is started.
        is_done: whether it needs not be started.
        finish: called with the time of the start when the command has ended well.
    """

    folder: Path
    command: Sequence[str]
    is_done: Callable[[], bool]
    finish: Callable[[float], None]


def work_of(study: Study, name: str, extra: Mapping[str, object] | None = None) -> Work:
    """The stage or run of a name.

    Args:
        study: the study.
        name: of the stage or run.
        extra: further model arguments of a run, of which its results don't depend.

    Raises:
        ManifestError: there is none, or its layers are not chosen yet.
    """
    stage = next((one for one in study.stages if one.name == name), None)
    return _of_stage(study, stage) if stage is not None else _of_run(study, named(study.runs, name), extra or {})


def _of_stage(study: Study, stage: Stage) -> Work:
    command = [sys.executable, "-c", _CLI, *study.stage_command(stage)]
    return Work(study.folder_of_stage(stage), command, lambda: study.stage_found(stage).state == "done", lambda _: None)


def _of_run(study: Study, run: PlannedRun, extra: Mapping[str, object]) -> Work:
    folder = study.folder_of(run)
    if folder is None:
        raise ManifestError(f"{run.name}: its layers are not chosen yet")
    command = [sys.executable, "-m", "lm_eval", *study.command_of(run, folder, extra)]
    content = study.content_of(run)

    def finish(started: float) -> None:
        written = sorted((folder / "results").rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
        if not written:
            return  # `do` says that it isn't done
        write_whole(folder / DONE, {
            "run": run.name, "content": content, "command": ["lm_eval", *command[3:]],
            "results": str(written[-1].relative_to(folder)), "seconds": round(time.time() - started),
            "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "versions": {one: version(one) for one in ("lm-eval-tts", "lm_eval", "torch", "transformers")},
        })  # fmt: skip

    return Work(folder, command, (folder / DONE).is_file, finish)


def do(work: Work) -> int:
    """Do it alone, unless it is done; returns an exit code."""
    lock = hold(work.folder / LOCK)
    if lock is None:
        return BUSY
    os.set_inheritable(lock, True)
    if work.is_done():
        return 0
    (work.folder / FAILED).unlink(missing_ok=True)
    started = time.time()
    code = _started(work)
    if code == 0:
        work.finish(started)
        if work.is_done():
            return 0
    if code != STOPPED:
        why = last_line(work.folder / LOG) if code else "it ended well, but has written nothing"
        write_whole(work.folder / FAILED, {"code": code, "why": why})
    return code or 1


def _started(work: Work) -> int:
    """Start the command with its output in the log, and wait; a request to stop is passed on."""
    stopped = False
    with (work.folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            list(work.command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, close_fds=False
        )

        def stop(*_: object) -> None:
            nonlocal stopped
            stopped = True
            process.terminate()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        code = process.wait()
    return STOPPED if stopped else code


def last_line(log: Path) -> str:
    """The last line that says something."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:_LONGEST] if lines else "it said nothing"


def main(manifest: Path, name: str, *extra: str) -> int:
    """Do the stage or run of a name, with further model arguments (`ray_address=auto`); returns an exit code."""
    try:
        return do(work_of(Study(manifest), name, dict(one.split("=", 1) for one in extra)))
    except TTSError as error:
        print(f"lm-eval-tts: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
