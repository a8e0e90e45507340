"""Findings of checks: one line each, for people and for machines."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class TaskFinding(NamedTuple):
    """An error or warning about a file.

    Attributes:
        path: the file.
        line: line number, from 1; 0 if the finding is about the whole file.
        rule: one word that identifies the kind of finding.
        text: what was given and what is allowed.
        warning: whether it is a warning, which need not be fixed.
    """

    path: Path
    line: int
    rule: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else f"{self.path}"
        return f"{place}: {'warning: ' if self.warning else ''}{self.rule}: {self.text}"

    def as_annotation(self) -> str:
        """The finding as a workflow command of GitHub Actions, shown beside the line of a pull request.

        Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
        """
        place = f"file={_property(str(self.path))}" + (f",line={self.line}" if self.line else "")
        kind = "warning" if self.warning else "error"
        return f"::{kind} {place},title={_property(self.rule)}::{_data(self.text)}"

    def as_json(self) -> dict[str, object]:
        """The finding as printed by `--json`."""
        return {**self._asdict(), "path": str(self.path)}


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
