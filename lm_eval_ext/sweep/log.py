"""What the log of a run says: how far it is, and why it failed."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import NamedTuple

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
