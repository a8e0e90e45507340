"""Where things are: the registry, beside the package or in its wheel, and the cache; whole files, and digests."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lm_eval_ext.errors import ResultsError, TTSError

_STREAMS = 2  # up to here are the numbers of input, output and errors
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


def expanded(path: str | Path) -> Path:
    """A path with the user's folder in place of `~`; that of a user who isn't there stays as it is.

    >>> expanded("~nobody-of-this-name/x")
    PosixPath('~nobody-of-this-name/x')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_there(path: Path, folder: bool = False) -> bool:
    """Whether there is such a file, or folder; also of a name that is too long to be one of a file.

    >>> is_there(Path("é" * 200))
    False
    """
    try:
        return path.is_dir() if folder else path.is_file()
    except OSError:
        return False


def cache_folder() -> Path:
    """Folder where expensive results are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "lm-eval-tts"


def _home() -> Path:
    """The user's folder; one for temporary files where there is none, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())


def above_streams(descriptor: int) -> int:
    """The same open file under another number if its own is that of input, output or errors.

    Where those are closed, as of some daemons, the next file that is opened takes their number; a process that is
    started has something else there, and so would not inherit the file.
    """
    if descriptor > _STREAMS:
        return descriptor
    import fcntl  # not on Windows, where nothing is inherited so

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _STREAMS + 1)
    os.close(descriptor)
    return moved


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that nobody ever reads a part of it, also if several processes write it.

    Raises:
        OSError: it cannot be written; also of a full disk, the error has its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # as on a file system that can only be read
            part.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def replace_together(files: Mapping[Path, str | bytes], main: Path) -> None:
    """Replace files that belong together, so that a kill in between loses nothing: `finish_replacing` goes on.

    Args:
        files: the new contents by file, all in the folder of `main` or below it.
        main: the file by which they are found again.
    """
    for path, content in files.items():
        write_whole(path.with_name(f"{path.name}.new"), content)
    write_json(_replacing(main), {"files": [str(path.relative_to(main.parent)) for path in files]})
    finish_replacing(main)


def is_being_replaced(main: Path) -> bool:
    """Whether replacing a file, and what belongs to it, was begun and not finished."""
    return _replacing(main).exists()


def finish_replacing(main: Path) -> None:
    """Finish what `replace_together` has begun; nothing if it has finished.

    Raises:
        ResultsError: its record cannot be read.
    """
    if not is_being_replaced(main):
        return
    record = _replacing(main)
    names = json_object(record, ResultsError).get("files")
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_below(name) for name in names):
        raise ResultsError(f"{record}: files: expected a list of files in its folder or below")
    for name in names:
        new = main.parent / f"{name}.new"
        if new.exists():  # else it was replaced before
            new.replace(main.parent / name)
    record.unlink()


def _is_below(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _replacing(main: Path) -> Path:
    return main.with_name(f"{main.name}.replacing")


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
        text = path.read_text("utf-8")
        content = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(content, ensure_ascii=False).encode()  # half of a character, which no file can hold
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
