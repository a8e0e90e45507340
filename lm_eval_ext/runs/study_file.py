"""Studies beside published runs: which runs a sweep has planned, and which of them are there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from lm_eval_ext.declared import Declared
from lm_eval_ext.errors import ResultsError, first_fault
from lm_eval_ext.paths import write_whole

FOLDER = "studies"  # below a folder of published runs
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a study
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class StudyRun(Declared):
    """A planned run.

    Attributes:
        model: its name in the manifest.
        pruning: what is done to it.
        seed: None for tasks of lm-eval itself.
        tasks: names of its tasks.
        state: `done`, `failed`, `running` or `waiting`, when the study was collected.
        run: id of the published run; None if it isn't there.
        identity: hash of what the run depends on; empty in files from before it was kept.
    """

    model: Text
    pruning: Text
    seed: int | None = None
    tasks: tuple[Text, ...] = ()
    state: Literal["done", "failed", "running", "waiting"] = "waiting"
    run: Text | None = None
    identity: Annotated[str, Field(pattern="^[0-9a-f]{0,64}$")] = ""


class StudyFile(Declared):
    """A study as it was collected last.

    Attributes:
        version: of this format.
        name: of the study.
        runs: all that are planned.
    """

    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    runs: Annotated[tuple[StudyRun, ...], Field(min_length=1)]


def write_study(study: StudyFile, results: Path) -> Path:
    """Write a study beside the published runs in a folder; returns the path."""
    path = path_of_study(study.name, results)
    write_whole(path, study.model_dump_json(indent=1) + "\n")
    return path


def path_of_study(name: str, results: Path) -> Path:
    """Where a study is beside published runs."""
    return results / FOLDER / f"{name}.json"


def read_studies(folders: Iterable[Path]) -> list[StudyFile]:
    """The studies beside published runs, by name.

    Raises:
        ResultsError: a file is invalid; names the file and the field.
    """
    paths = sorted({path for folder in folders for path in (folder / FOLDER).glob("*.json")})
    return sorted(map(read_study, paths), key=lambda study: study.name)


def read_study(path: Path) -> StudyFile:
    """A study in a file; raises as `read_studies` does."""
    try:
        return StudyFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ResultsError(f"{path}: {first_fault(error)}") from error
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror})") from error
