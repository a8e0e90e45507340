"""What the models, datasets and files are that a study names: commits on the Hub, and hashes of what is here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.files import write_json
from lm_eval_ext.paths import located
from lm_eval_ext.runs.untrusted import mapping
from lm_eval_ext.sweep.locks import locked

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


Kind = Literal["model", "dataset"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFUSED = (401, 403, 404)  # not there, or not for this user: an answer, which asking again doesn't change


class Commits:
    """The commits of a study, in `commits.json`; null for what the Hub doesn't show, or was unknown without a network.

    Args:
        folder: of the study.
        keep: whether to write what was found, so that it stays the same.
    """

    def __init__(self, folder: Path, keep: bool) -> None:
        self.path, self.keep = folder / "commits.json", keep
        self._known = self._read()

    def of(self, kind: Kind, name: str, revision: str | None) -> str | None:
        """The commit of a revision; None if it isn't known.

        Raises:
            ManifestError: the Hub cannot be reached, and what is found is kept.
        """
        revision = revision or "main"
        if _COMMIT.fullmatch(revision):
            return revision
        key = f"{kind} {name}@{revision}"
        if key not in self._known:
            self._known[key] = _cached(kind, name, revision) or self._asked(kind, name, revision)
            self._write()
        return self._known[key]

    def _asked(self, kind: Kind, name: str, revision: str) -> str | None:
        from huggingface_hub import HfApi, constants

        if constants.HF_HUB_OFFLINE:
            return None
        try:
            return HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=20).sha
        except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath, which changes
            refused = getattr(getattr(error, "response", None), "status_code", None) in _REFUSED
            if refused or not self.keep:
                return None
            reason = " ".join(str(error).split())[:200]
            raise ManifestError(
                f"{name}: the Hub cannot be reached to look up which commit its {revision} is ({reason}); "
                "try again, or set HF_HUB_OFFLINE=1 to use what is on this machine"
            ) from error

    def _read(self) -> dict[str, str | None]:
        try:
            found: dict[str, str | None] = json.loads(self.path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except ValueError as error:
            raise ManifestError(
                f"{self.path}: cannot be read as JSON ({error}); delete it to look the commits up"
            ) from error
        if not isinstance(found, dict):
            raise ManifestError(f"{self.path}: is no mapping; delete it to look the commits up")
        return found

    def _write(self) -> None:
        """Add what was found to what others may have written, which stays as it is."""
        if not self.keep:
            return
        with locked(self.path.with_suffix(".lock")):
            self._known |= self._read()
            write_json(self.path, dict(sorted(self._known.items())))


def _cached(kind: Kind, name: str, revision: str) -> str | None:
    from huggingface_hub import constants

    path = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "refs" / revision
    return path.read_text("utf-8").strip() if path.is_file() else None
