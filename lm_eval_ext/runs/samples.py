"""A run's samples, question by question: rows of `samples/TASK.jsonl.gz`."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError, field_validator

from lm_eval_ext.declared import Declared
from lm_eval_ext.errors import ResultsError, first_fault
from lm_eval_ext.paths import json_object, write_whole
from lm_eval_ext.runs.run import SCHEMA_VERSION, Hash, Line, Name, Number, Run, Share

LARGEST = 2 << 30  # bytes of a task's samples, unpacked
Grade = Literal["correct", "wrong", "no answer", "unparsable", "timeout", "memory", "error", "output", "not told"]
GRADES: tuple[Grade, ...] = get_args(Grade)


class Output(Declared):
    """One sample of a question: the model's text, the answer found in it, and the reason for its grade.

    Text and answer are None if the benchmark is gated. Of a program, `failed` is the first test that it fails, and why.
    """

    grade: Grade
    answer: str | None = None
    text: str | None = None
    failed: str | None = None


class Sample(Declared):
    """A question with all its samples; prompt and gold are None if the benchmark is gated."""

    id: Annotated[int, Field(ge=0, lt=1 << 53)]
    hash: Hash = ""
    score: Share
    prompt: str | None = None
    gold: str | None = None
    metrics: dict[Name, Number] = Field(default_factory=dict)
    parts: dict[Name, Line] = Field(default_factory=dict)  # values of the columns that divide the benchmark
    outputs: tuple[Output, ...] = ()

    @field_validator("metrics")
    @classmethod
    def _votes_are_shares(cls, metrics: dict[str, float]) -> dict[str, float]:
        for name, value in metrics.items():
            if name.startswith(("maj@", "pass@")) and not 0 <= value <= 1:
                raise ValueError(f"{name}={value}; expected 0 to 1")
        return metrics


def without_texts(sample: Sample) -> Sample:
    """A sample of a gated benchmark: hashes, scores and grades only."""
    outputs = tuple(Output(grade=output.grade) for output in sample.outputs)
    return sample.model_copy(update={"prompt": None, "gold": None, "outputs": outputs})


def pack(samples: Iterable[Sample]) -> bytes:
    """The samples as gzipped JSON lines; the same samples always give the same bytes."""
    lines = "".join(f"{sample.model_dump_json(exclude_none=True)}\n" for sample in samples)
    return gzip.compress(lines.encode("utf-8"), compresslevel=6, mtime=0)


def read_samples(path: Path, sha256: str | None = None) -> list[Sample]:
    """Read the samples in a file.

    Args:
        path: `TASK.jsonl.gz`.
        sha256: the expected hash of the file.

    Raises:
        ResultsError: the file is invalid; names the file, the line and the field.
    """
    try:
        packed = path.read_bytes()
        if sha256 is not None and hashlib.sha256(packed).hexdigest() != sha256:
            raise ResultsError(f"{path}: does not match run.json (SHA-256 differs)")
        rows: list[Sample] = []
        size = 0
        with gzip.open(path) as file:  # line by line: a line that is no sample ends it, however many there are
            while line := file.readline(LARGEST + 1 - size):
                size += len(line)
                if size > LARGEST:
                    raise ResultsError(f"{path}: unpacks to more than {LARGEST >> 30} GiB")
                rows.append(_parsed(line, f"{path}: line {len(rows) + 1}"))
    except (OSError, EOFError, zlib.error) as error:
        raise ResultsError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    return rows


def _parsed(line: bytes, place: str) -> Sample:
    try:
        return Sample.model_validate_json(line)
    except ValidationError as error:
        raise ResultsError(f"{place}: {first_fault(error)}") from error


def question_set(samples: Sequence[Sample]) -> str:
    """Hash of the questions and their order; empty if a question has no hash."""
    hashes = [sample.hash for sample in samples]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16] if hashes and all(hashes) else ""


RUN_FILE = "run.json"


def read_run(path: Path) -> Run:
    """Read a `run.json`.

    Raises:
        ResultsError: it is invalid; names the file, the field, its value and what is allowed.
    """
    content = json_object(path, ResultsError)
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


def write_run(run: Run, folder: Path) -> Path:
    """Write `run.json` into a folder, as a whole."""
    path = folder / RUN_FILE
    write_whole(path, run_json(run))
    return path


def run_json(run: Run) -> str:
    """The content of a `run.json`."""
    return run.model_dump_json(indent=1) + "\n"
