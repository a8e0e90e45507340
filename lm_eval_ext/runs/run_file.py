"""Reading and writing a `run.json`, and any other JSON that may come from anyone."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from lm_eval_ext.errors import ResultsError, first_fault
from lm_eval_ext.runs.run import SCHEMA_VERSION, Run

RUN_FILE = "run.json"


def read_run(path: Path) -> Run:
    """Read a `run.json`.

    Raises:
        ResultsError: it is invalid; names the file, the field, its value and what is allowed.
    """
    content = read_json(path)
    found = content.get("schema_version")
    if found != SCHEMA_VERSION:
        raise ResultsError(
            f"{path}: schema_version={found!r}; expected {SCHEMA_VERSION} (a newer file needs a newer lm-eval-tts)"
        )
    return validated(content, path)


def validated(content: dict[str, object], path: Path) -> Run:
    """The run in a dictionary that was read from `path`.

    Raises:
        ResultsError: as `read_run`.
    """
    try:
        return Run.model_validate(content)
    except ValidationError as error:
        raise ResultsError(f"{path}: {first_fault(error)}") from error


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object from a file.

    Raises:
        ResultsError: the file does not hold one.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path}: contains a {type(content).__name__}; expected a JSON object")
    return content


def write_run(run: Run, folder: Path) -> Path:
    """Write `run.json` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN_FILE
    path.write_text(run.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path
