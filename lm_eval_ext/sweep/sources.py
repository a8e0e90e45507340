"""What the models, datasets and files are that a study names: commits on the Hub, and hashes of what is here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from lm_eval_ext.paths import located
from lm_eval_ext.runs.untrusted import mapping
from lm_eval_ext.sweep.commits import Commits

_CHANGES_NOTHING = {".md", ".png", ".svg", ".lock"}
_LARGE = 32 << 20  # bytes from which only a part of a file is read
_PIECES, _PIECE = 64, 64 << 10  # that many pieces of so many bytes, from the beginning to the end


class Sources:
    """Looks up what is named, each thing once.

    Args:
        folder: of the study, where commits are kept.
        keep: whether commits that are looked up are kept.
    """

    def __init__(self, folder: Path, keep: bool) -> None:
        self._commits = Commits(folder, keep)
        self.weights = cache(self._weights)

    def commit(self, model: str | None, revision: str | None) -> str | None:
        """The commit of a model on the Hub; None for a folder, and if it isn't known."""
        if model is None or Path(located(model)).is_dir():
            return None
        return self._commits.of("model", model, revision)

    def _weights(self, model: str | None, revision: str | None) -> str | None:
        """Commit of a model on the Hub, or a hash of what is in its folder; None if unknown."""
        if model is not None and Path(place := located(model)).is_dir():
            return hash_of(place)
        return self.commit(model, revision)

    def named(self, value: object) -> object:
        """What an argument stands for that names a folder, or a repository on the Hub: an adapter, a tokenizer."""
        name = str(value)
        if Path(located(name)).exists():
            return hash_of(located(name))
        return self._commits.of("model", name, None) if name.count("/") == 1 else value

    def dataset(self, task: Mapping[str, object]) -> str | None:
        """The commit of a task's dataset; None if it isn't on the Hub, or unknown."""
        name = task.get("dataset_path")
        if not isinstance(name, str) or name.count("/") != 1 or Path(name).exists():
            return None
        revision = mapping(task.get("dataset_kwargs")).get("revision")
        return self._commits.of("dataset", name, None if revision is None else str(revision))


def texts_of(calibration: str | None) -> str | None:
    """A hash of the files of calibration texts; None for texts that aren't in files of this machine."""
    place = Path((calibration or "").removeprefix("run:"))
    return hash_of(place) if calibration and place.exists() else None


def hash_of(place: str | Path) -> str:
    """A hash of a file, or of all files in a folder with their names; of large files it covers the size and pieces."""
    root = Path(place)
    found = hashlib.sha256()
    for path in _files(root):
        size = path.stat().st_size
        found.update(f"{path.relative_to(root)}\0{size}\0".encode())
        for piece in _pieces(path, size):
            found.update(piece)
    return found.hexdigest()[:16]


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    if size < _LARGE:
        yield path.read_bytes()
        return
    with path.open("rb") as file:
        for number in range(_PIECES):
            file.seek((size - _PIECE) * number // (_PIECES - 1))
            yield file.read(_PIECE)


def _files(root: Path) -> Sequence[Path]:
    if root.is_file():
        return [root]
    seen = (path for path in root.rglob("*") if not any(part.startswith(".") for part in path.relative_to(root).parts))
    return sorted(path for path in seen if path.is_file() and path.suffix not in _CHANGES_NOTHING)
