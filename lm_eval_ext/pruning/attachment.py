"""A recipe's arrays, such as a linear map or the norms of inputs, in a file of their own beside the recipe."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field

from lm_eval_ext.declared import Declared
from lm_eval_ext.errors import RecipeError
from lm_eval_ext.paths import cache_folder


class Attachment(Declared):
    """A field of a recipe whose arrays are in a file.

    Attributes:
        FIELD: its name in the recipe.
        SUFFIX: of the file.
    """

    FIELD: ClassVar[str]
    SUFFIX: ClassVar[str]

    file: Annotated[str, Field(min_length=1, description="the file, by its name beside the recipe")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file")]

    def checked(self) -> Path:
        """The file, if it is the recipe's.

        Raises:
            RecipeError: the file is missing, or is another one.
        """
        try:
            stat = Path(self.file).stat()
            found = _sha256(self.file, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise RecipeError(
                f"{self.FIELD}: {self.file} cannot be read ({error.strerror}); the recipe needs it beside its own file"
            ) from error
        if found != self.sha256:
            raise RecipeError(
                f"{self.FIELD}: {self.file} is not the recipe's: its SHA-256 is {found}, expected {self.sha256}"
            )
        return Path(self.file)

    def beside(self, recipe: Path) -> Self:
        """The same, where the file is given by its name alone and lies beside a recipe."""
        return self.model_copy(update={"file": str(recipe.parent.resolve() / self.file)})

    def copied_beside(self, recipe: Path) -> Self:
        """Put the file beside a recipe, and name it after the recipe; it takes no space twice if links are possible.

        Raises:
            RecipeError: the file is missing, or is another one.
        """
        target = recipe.with_suffix(self.SUFFIX)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        source = self.checked()
        try:
            part.unlink(missing_ok=True)
            try:
                os.link(source, part)
            except OSError:  # on another file system, or one without links
                shutil.copyfile(source, part)
            part.replace(target)  # atomic, in case several processes write it
        finally:
            part.unlink(missing_ok=True)
        return self.model_copy(update={"file": target.name})


@lru_cache(maxsize=64)
def _sha256(file: str, size: int, changed: int) -> str:
    """SHA-256 of a file; computed once for a size and time of its last change."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def written(write: Callable[[Path], object], suffix: str, folder: Path | None = None) -> tuple[str, str]:
    """Write a file under a name that says its content, by default to the cache; returns its path and SHA-256.

    Args:
        write: writes it to the path that it is called with.
        suffix: of its name.
        folder: where it is kept.

    Raises:
        RecipeError: it can't be written.
    """
    wanted = folder or cache_folder() / "attachments"
    try:
        return _written(write, suffix, wanted)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):  # as in a container without a home
            return _written(write, suffix, Path(tempfile.mkdtemp(prefix="lm-eval-tts-")))
        raise RecipeError(
            f"{wanted}: a file of the recipe cannot be kept there ({error}); free space, or set XDG_CACHE_HOME"
        ) from error


def _written(write: Callable[[Path], object], suffix: str, folder: Path) -> tuple[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as unfinished:
        part = Path(unfinished) / f"part{suffix}"
        write(part)
        with part.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        path = folder / f"{sha256[:16]}{suffix}"
        part.replace(path)
    return str(path), sha256
