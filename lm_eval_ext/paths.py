"""Where things are: the registry, beside the package or in its wheel, and the cache; whole files, and digests."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval_ext.errors import ResultsError, TTSError

PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    packaged = PACKAGE / name
    return packaged.resolve() if packaged.is_dir() else PACKAGE.parent / name


TASKS = _folder("tasks")
PRUNED_MODELS = _folder("pruned_models")
LEADERBOARD = _folder("leaderboard")
TINY_CHAIN = PRUNED_MODELS / "tiny-chain"  # the default model
TINY_MOE_CHAIN = PRUNED_MODELS / "tiny-moe-chain"  # the same task, by a mixture of experts
EMBEDDED = (TINY_CHAIN, TINY_MOE_CHAIN)


def located(model: str) -> str:
    """The folder of an embedded model if it is named; else the name or folder as it was given.

    >>> located("Qwen/Qwen3-8B")
    'Qwen/Qwen3-8B'
    """
    return next((str(folder) for folder in EMBEDDED if model == folder.name), model)


def named(model: str) -> str:
    """The name of an embedded model if it is given by its folder; else the name or folder as it was given."""
    return next((folder.name for folder in EMBEDDED if model == str(folder)), model)


def cache_folder() -> Path:
    """Folder where expensive results are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "lm-eval-tts"


def _home() -> Path:
    """The user's folder; one for temporary files where there is none, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that nobody ever reads a part of it, also if several processes write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object, as a whole."""
    write_whole(path, json.dumps(content, indent=1, default=str) + "\n")


def read_json_object(path: Path) -> dict[str, object]:
    """Read a JSON object; empty if it isn't there, or is none."""
    try:
        return json_object(path, ResultsError)
    except ResultsError:
        return {}


def json_object(path: Path, error: type[TTSError], advice: str = "") -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: of the file.
        error: what is raised.
        advice: what to do about it.

    Raises:
        TTSError: the file can't be read, or holds something else.
    """
    advice = f"; {advice}" if advice else ""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as reason:
        said = " ".join(str(reason).split())[:200]
        raise error(f"{path}: cannot be read as JSON ({said}){advice}") from reason
    if not isinstance(content, dict):
        raise error(f"{path}: contains a {type(content).__name__}; expected a JSON object{advice}")
    return content


def digest(content: object) -> str:
    """SHA-256 of a value's JSON, whatever the order of its keys; 64 hex digits.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
