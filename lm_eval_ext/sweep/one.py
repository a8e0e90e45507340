"""Runs one stage or run of a sweep, and says when it is done: `python -m lm_eval_ext.sweep.one MANIFEST NAME@DIGEST`.

The digest is of what the manifest said when this was started or submitted; if it says something else by now, nothing is
run. It is a process of its own, which goes on if the sweep that started it is killed. What it starts inherits its
locks, so that nothing runs twice at the same time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from lm_eval_ext.errors import ManifestError, TTSError
from lm_eval_ext.paths import write_json
from lm_eval_ext.plugins import software
from lm_eval_ext.sweep.locks import hold
from lm_eval_ext.sweep.plan import Item, Stage
from lm_eval_ext.sweep.sources import DONE, FAILED, LOCK, LOG, Study

BUSY, CHANGED, STOPPED = 75, 76, 130  # exit codes: another process runs it; the manifest has changed; asked to stop
_CLI = "from lm_eval_ext.cli import app; app()"
_PATIENCE = 2.0  # seconds in which others may look at a lock
AnyStudy = TypeVar("AnyStudy", bound=Study)


@dataclass(frozen=True)
class Work:
    """What a process does for a sweep.

    Attributes:
        folder: for its lock, log and state.
        command: what is started.
        is_done: whether it is done.
        finish: called with the time of the start when the command has ended well.
    """

    folder: Path
    command: Sequence[str]
    is_done: Callable[[], bool]
    finish: Callable[[float], None] = lambda started: None


def work_of(study: Study, item: Item, extra: Sequence[str]) -> Work:
    """What a stage or run takes.

    Args:
        study: the study.
        item: the stage or run.
        extra: further model arguments of a run (`ray_address=auto`), on which its results don't depend.

    Raises:
        ManifestError: its layers are not chosen yet, or can't be.
    """
    folder = study.folder_of(item)
    if folder is None:
        raise ManifestError(f"{item.name}: its layers are not chosen yet")

    def is_done() -> bool:
        return study.found(item).state == "done"

    if isinstance(item, Stage):
        if not study.is_ready(item):
            raise ManifestError(f"{item.name}: {item.traces}, whose replies are its calibration texts, is not done yet")
        return Work(folder, [sys.executable, "-c", _CLI, *study.stage_command(item)], is_done)
    words = study.command_of(item, folder, dict(one.split("=", 1) for one in extra))
    content = study.content_of(item)

    def finish(started: float) -> None:
        written = sorted((folder / "results").rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
        if not written:
            return  # `do` says that it isn't done
        write_json(folder / DONE, {
            "run": item.name, "content": content, "command": ["lm_eval", *words],
            "results": str(written[-1].relative_to(folder)), "seconds": round(time.time() - started),
            "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "versions": software("lm_eval", "torch", "transformers"),
        })  # fmt: skip

    return Work(folder, [sys.executable, "-m", "lm_eval", *words], is_done, finish)


def do(work: Work) -> int:
    """Do it alone, unless it is done; returns an exit code."""
    lock = hold(work.folder / LOCK, _PATIENCE)
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
        said = why(work.folder / LOG, code) if code else "it ended well, but has written nothing"
        write_json(work.folder / FAILED, {"code": code, "why": said})
    return code or 1


def _started(work: Work) -> int:
    """Start the command with its output in the log, and wait; a request to stop is passed on."""
    stopped, process = False, None

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        if process is not None:
            process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with (work.folder / LOG).open("ab") as log:
        log.write(f"\n{ATTEMPT}{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode())
        log.flush()
        process = subprocess.Popen(
            list(work.command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, close_fds=False
        )
        if stopped:  # before there was a process to stop
            process.terminate()
        code = process.wait()
    return STOPPED if stopped else code


def main(
    kind: type[AnyStudy], act: Callable[[AnyStudy, Item, Sequence[str]], int], path: str, told: str, *extra: str
) -> int:
    """Do something with the stage or run of a ticket; returns an exit code.

    Args:
        kind: of the study.
        act: does it, with further model arguments; returns an exit code.
        path, told, extra: the study's file, the ticket, and those arguments.
    """
    try:
        study = kind(Path(path))
        items: list[Item] = [*study.stages, *study.runs]
        item = next((one for one in items if study.ticket(one) == told), None)
        if item is None:
            print(f"lm-eval-tts: {path} has changed: it says something else of {told}", file=sys.stderr)
            return CHANGED
        return act(study, item, extra)
    except (TTSError, OSError) as error:
        print(f"lm-eval-tts: {error}", file=sys.stderr)
        return 1


ATTEMPT = "--- lm-eval-tts sweep: attempt of "  # begins a line in the log before each start
_TAIL = 50_000  # bytes at the end of a log that are looked at
_LONGEST = 500  # characters of a reason
_BAR = re.compile(  # of tqdm, with the name of what it counts, if it has one
    r"(?P<name>\w[^:%]*:)?\s*\d+%\|.*\| (?P<done>[\d.]+\S*)/(?P<total>[\d.]+\S*) "
    r"\[[^<\]]*<(?P<left>[^,\]]+)(?P<rates>[^\]]*)\]"
)
_REQUESTS = ("Thinking", "Running")  # beginnings of their names: ours, and lm-eval's
_SPEED = re.compile(r"([\d.]+) tokens/s")


class Progress(NamedTuple):
    """How far a run is on what it does now; each is empty if the log doesn't say it.

    Attributes:
        done: finished requests of all, such as `72/600`.
        speed: tokens per second.
        left: time that is left, as hours, minutes and seconds.
    """

    done: str = ""
    speed: str = ""
    left: str = ""


def progress(log: Path) -> Progress:
    """The last progress bar of requests in a log; others are of weights and prompts."""
    bars = [
        found for line in _lines(log) if (found := _BAR.search(line)) and (found["name"] or "").startswith(_REQUESTS)
    ]
    if not bars:
        return Progress()
    speed = _SPEED.search(bars[-1]["rates"])
    return Progress(f"{bars[-1]['done']}/{bars[-1]['total']}", speed[1] if speed else "", bars[-1]["left"].strip())


def why(log: Path, code: int) -> str:
    """Why the last attempt failed: the signal that ended it, or its last line, and where its log is."""
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"ended by {name}{memory} ({log})"
    said = [line for line in _lines(log) if not _BAR.search(line)]
    return f"{said[-1][:_LONGEST]} ({log})" if said else f"it said nothing ({log})"


def _lines(log: Path) -> list[str]:
    """The lines of the last attempt that say something."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    last = text.rpartition(ATTEMPT)
    lines = last[2].partition("\n")[2] if last[1] else text
    return [line.strip() for line in lines.replace("\r", "\n").splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main(Study, lambda *what: do(work_of(*what)), *sys.argv[1:]))
