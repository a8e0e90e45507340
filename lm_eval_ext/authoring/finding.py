"""What a check has found: one line each, for people and for machines."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class TaskFinding(NamedTuple):
    """A fault of a file, or a warning.

    Attributes:
        path: the file.
        line: in it, from 1; 0 where it is about the whole file.
        rule: one word, the same for findings of one kind.
        text: what was given and what is allowed.
        warning: whether it can be left as it is.
    """

    path: Path
    line: int
    rule: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else f"{self.path}"
        return f"{place}: {'warning: ' if self.warning else ''}{self.rule}: {self.text}"

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {**self._asdict(), "path": str(self.path)}
