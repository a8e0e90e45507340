"""Which tool wrote a file, by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.redaction import line, mapping
from lm_eval_ext.runs.logs import evaleval, inspect_ai, lighteval, nemo_evaluator, simple_evals
from lm_eval_ext.runs.logs.log import Log, content_of, json_of

_ZIP = b"PK\x03\x04"


class Format(NamedTuple):
    """A kind of log.

    Attributes:
        tool: its name.
        keys: of the object in its file, by which it is recognised.
        read: reads it.
    """

    tool: str
    keys: tuple[str, ...]
    read: Callable[[Path, Mapping[str, object]], Log]


FORMATS = (
    Format("lighteval", lighteval.KEYS, lighteval.read),
    Format("inspect_ai", inspect_ai.KEYS, inspect_ai.read),
    Format("NeMo Evaluator", nemo_evaluator.KEYS, nemo_evaluator.read),
    Format("Every Eval Ever", evaleval.KEYS, evaleval.read),
    Format("simple-evals", ("score", "htmls", "convos"), simple_evals.read),
    Format("simple-evals", ("score", "score:std"), simple_evals.read),
)
TOOLS = ", ".join(dict.fromkeys(one.tool for one in FORMATS))


def is_log(path: Path) -> bool:
    """Whether a file looks like the log of another tool; of two that say the same, only the one that says more."""
    if path.with_name(f"{path.stem}_allresults.json").is_file():  # of simple-evals
        return False
    try:
        return path.suffix in (".json", ".yml", ".eval") and _of(path, content_of(path))
    except ResultsError:
        return path.suffix == ".eval"  # a broken one is told


def _looks_like(path: Path, content: bytes) -> bool:
    if path.suffix == ".eval":
        return content.startswith(_ZIP)
    if path.suffix == ".yml":
        return all(f"{key}:".encode() in content for key in (*nemo_evaluator.KEYS_OF_LEGACY, "api_endpoint"))
    return any(all(f'"{key}"'.encode() in content for key in one.keys) for one in FORMATS)


def _of(path: Path, content: bytes) -> bool:
    """Whether a file is a log, also by where its fields stand."""
    if path.suffix != ".json" or not _looks_like(path, content):
        return _looks_like(path, content)
    try:
        found = mapping(json_of(content, str(path)))
    except ResultsError:
        return True  # a cut one is told
    return any(all(key in found for key in one.keys) for one in FORMATS)


def read_log(path: Path) -> Log | None:
    """The log in a file; None if it is of no tool that is known here.

    Raises:
        ResultsError: it is of a known tool, and can't be read; names the file and the field.
    """
    content = content_of(path)
    if content.startswith(_ZIP):
        return inspect_ai.read_archive(path)
    if not _looks_like(path, content):
        return None
    if path.suffix == ".yml":
        return nemo_evaluator.read_legacy(path, _yaml(path, content))
    found = mapping(json_of(content, str(path)))
    known = next((one for one in FORMATS if all(key in found for key in one.keys)), None)
    return known.read(path, found) if known else None


def _yaml(path: Path, content: bytes) -> dict[str, object]:
    try:
        found = mapping(yaml.safe_load(content))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: cannot be read as YAML ({line(error, 200)})") from error
    if missing := set(nemo_evaluator.KEYS_OF_LEGACY) - found.keys():
        raise ResultsError(f"{path}: {min(missing)} is missing")
    return found
