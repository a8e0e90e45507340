"""What others published of smaller models beside their bases: `leaderboard/published/`, one file a source.

Scores are as printed, in percent. A file is read whole or not at all: a benchmark that the table of benchmarks lacks, a
smaller model's score without the base's, or a score without where it stands in the source is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from lm_eval_ext.declared import Declared, read_yaml
from lm_eval_ext.errors import ResultsError, meant
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.redaction import line
from lm_eval_ext.runs.catalogue import Kind

FOLDER = LEADERBOARD / "published"
BENCHMARKS = "benchmarks.yaml"  # in the folder; every other YAML is a source
What = Literal["layers", "experts", "width", "weights", "quantized", "other"]
Read = Literal["text", "figure", "second-hand"]
_MOST = 10_000_000  # questions, or samples of one
_PRINTED = r"^\d+(\.\d+)?( ± \d+(\.\d+)?)?$"


def _one_line(given: object) -> object:
    if isinstance(given, str) and (not given.strip() or not given.isprintable()):
        raise ValueError("expected text on one line, that is not empty")
    return given


Text = Annotated[str, BeforeValidator(_one_line), Field(min_length=1)]


class Printed(NamedTuple):
    """A score as it is printed, in percent, with the standard deviation that is printed beside it."""

    value: float
    sd: float | None = None

    def __str__(self) -> str:
        return f"{self.value:g}" if self.sd is None else f"{self.value:g} ± {self.sd:g}"


def _printed(given: object) -> Printed:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError("expected a score in percent, such as 23.3 or 23.3 ± 2.2")
    value, _, sd = str(given).partition(" ± ")
    try:
        found = Printed(float(value), float(sd) if sd else None)
    except ValueError:
        raise ValueError("expected a score in percent, such as 23.3 or 23.3 ± 2.2") from None
    if not (0 <= found.value <= 100 and 0 <= (found.sd or 0) <= 100):
        raise ValueError("expected a score from 0 to 100")
    return found


Score = Annotated[
    Printed,
    BeforeValidator(_printed),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": 100}, {"type": "string", "pattern": _PRINTED}]}
    ),
]
Scores = Annotated[dict[str, Score], Field(min_length=1, description="by benchmark, in percent, as printed")]


class KnownBenchmark(Declared):
    """A benchmark as papers name it."""

    kind: Annotated[Kind, Field(description="knowledge, shallow (short reasoning), long, or other")]
    questions: Annotated[int | None, Field(gt=0, le=_MOST, description="how many; left out where that varies")] = None
    chance: Annotated[float, Field(ge=0, lt=1, description="score of guessing")] = 0.0
    task: Annotated[Text | None, Field(description="our task for it")] = None


class Protocol(Declared):
    """How something was measured, as far as the source says."""

    metric: Text | None = None
    samples: Annotated[int | None, Field(gt=0, le=_MOST, description="answers to a question")] = None
    temperature: Annotated[float | None, Field(ge=0)] = None
    thinking_budget: Annotated[int | None, Field(gt=0, description="most tokens that are generated")] = None
    engine: Text | None = None
    questions: Annotated[int | None, Field(gt=0, le=_MOST, description="how many, where the source says so")] = None


class BaseScores(Declared):
    """The base of a table, and its scores there."""

    name: Annotated[Text, Field(description="on the Hub")]
    scores: Scores


class SmallerModel(Declared):
    """A smaller model, and its scores."""

    name: Text
    kind: Annotated[What, Field(description="what was made smaller")]
    method: Text
    amount: Annotated[Text, Field(description="how much, in the source's words")]
    bits: Annotated[float | None, Field(gt=0, le=16, description="of a weight, for quantized models")] = None
    removed: Annotated[float | None, Field(gt=0, lt=1, description="share of layers, experts or parameters")] = None
    recovered: Annotated[bool, Field(description="whether it was trained afterwards, or while quantized")] = False
    recovery: Annotated[
        Text | None, Field(description="name of that training, for models that are lengths of the same one")
    ] = None
    recovery_tokens: Annotated[int | None, Field(gt=0, le=10**15, description="tokens of that training")] = None
    scores: Scores

    @model_validator(mode="after")
    def _of_its_kind(self) -> SmallerModel:
        if (self.bits is None) == (self.kind == "quantized"):
            raise ValueError(f"kind={self.kind}: bits belong to quantized models, and to each of them")
        if (self.recovery_tokens or self.recovery) and not self.recovered:
            raise ValueError("recovery and recovery_tokens belong to a model with `recovered: true`")
        if self.recovery and not self.recovery_tokens:
            raise ValueError(f"recovery={self.recovery}: needs recovery_tokens, by which its lengths are told apart")
        return self

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells it from the other models of its source."""
        return self.name, self.kind, self.method, self.amount, self.recovered, self.recovery, self.recovery_tokens


class Table(Protocol):
    """A table of a source, or the part of one that has one base and one protocol."""

    where: Annotated[Text, Field(description="where in the source, such as `Table 3`")]
    note: Text | None = None
    doubt: Annotated[Text | None, Field(description="why its scores are shown and not counted")] = None
    benchmarks: Annotated[dict[str, Protocol], Field(default_factory=dict, description="what differs for a benchmark")]
    base: BaseScores
    models: Annotated[tuple[SmallerModel, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _beside_the_base(self) -> Table:
        seen: set[tuple[object, ...]] = set()
        for model in self.models:
            if lacking := model.scores.keys() - self.base.scores.keys():
                raise ValueError(f"{model.name}: has {min(lacking)}, which the base has not; give both or neither")
            if model.identity in seen:
                raise ValueError(f"{model.name}: is listed twice")
            seen.add(model.identity)
        if unknown := self.benchmarks.keys() - self.base.scores.keys():
            raise ValueError(f"benchmarks: {min(unknown)} has no score in this table")
        return self

    def protocol(self, benchmark: str) -> Protocol:
        """How a benchmark was measured."""
        own = self.benchmarks.get(benchmark)
        asked = own.model_dump(exclude_none=True) if own else {}
        return Protocol(**self.model_dump(include=set(Protocol.model_fields), exclude_none=True) | asked)


class SourceFile(Declared):
    """A paper, repository, model card or issue thread with scores of smaller models."""

    source: Annotated[Text, Field(description="its name, such as `arXiv 2504.04823`")]
    url: Annotated[str, Field(pattern=r"^https://[^\s<>\"]+$", description="where everybody can open it")]
    date: Annotated[str | None, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")] = None
    read: Annotated[Read, Field(description="from its text or tables, off a figure by eye, or as others quote it")]
    own_method: Annotated[bool, Field(description="whether it measures a method or checkpoint of its own")]
    reproduces: Annotated[
        Text | None, Field(description="file name, without `.yaml`, of the source that it repeats")
    ] = None
    tables: Annotated[tuple[Table, ...], Field(min_length=1)]


@dataclass(frozen=True)
class PublishedRow:
    """One score of a smaller model beside its base's, with all that is known of how it came about."""

    key: str
    source: SourceFile
    table: Table
    model: SmallerModel
    benchmark: str
    known: KnownBenchmark

    @property
    def base(self) -> str:
        """Name of the base."""
        return self.table.base.name

    @property
    def base_score(self) -> Printed:
        """Of the base, in percent."""
        return self.table.base.scores[self.benchmark]

    @property
    def score(self) -> Printed:
        """Of the smaller model, in percent."""
        return self.model.scores[self.benchmark]

    @property
    def protocol(self) -> Protocol:
        """How both were measured."""
        return self.table.protocol(self.benchmark)

    @property
    def questions(self) -> int | None:
        """Number of questions: as stated, else the benchmark's; None if neither is known."""
        return self.protocol.questions or self.known.questions


class Literature(NamedTuple):
    """All that is known.

    Attributes:
        sources: by file name, without `.yaml`.
        benchmarks: as the sources name them.
        rows: every score, in the order of the files.
    """

    sources: Mapping[str, SourceFile]
    benchmarks: Mapping[str, KnownBenchmark]
    rows: Sequence[PublishedRow]

    def row(self, key: str, table: Table, model: SmallerModel, benchmark: str) -> PublishedRow:
        """A score of a model in a table of a source."""
        return PublishedRow(key, self.sources[key], table, model, benchmark, self.benchmarks[benchmark])


class _Benchmarks(Declared):
    benchmarks: dict[str, KnownBenchmark]


def read_literature(folder: Path = FOLDER) -> Literature:
    """Read a folder of sources.

    Raises:
        ResultsError: a file is invalid; names the file, the field and what is allowed.

    >>> {row.base for row in read_literature().rows if row.benchmark == "AIME25" and row.model.kind == "width"}
    {'nvidia/NVIDIA-Nemotron-Nano-9B-v2'}
    """
    if not (folder / BENCHMARKS).is_file():
        raise ResultsError(f"{folder}: has no {BENCHMARKS}; expected a folder like leaderboard/published")
    benchmarks = read_yaml(folder / BENCHMARKS, _Benchmarks, ResultsError).benchmarks
    paths = {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.name != BENCHMARKS}
    sources = {key: read_yaml(path, SourceFile, ResultsError) for key, path in paths.items()}
    rows = [row for key, source in sources.items() for row in _rows(paths[key], source, benchmarks)]
    for key, source in sources.items():
        if source.reproduces and source.reproduces not in sources.keys() - {key}:
            raise ResultsError(f"{paths[key]}: reproduces: {meant(source.reproduces, sources)}")
    return Literature(sources, benchmarks, rows)


def _rows(path: Path, source: SourceFile, benchmarks: Mapping[str, KnownBenchmark]) -> Iterator[PublishedRow]:
    seen: set[tuple[object, ...]] = set()
    for table in source.tables:
        for model in table.models:
            for name in model.scores:
                if name not in benchmarks:
                    near = meant(line(name), benchmarks)
                    raise ResultsError(f"{path}: {table.where}: {line(name)} is not in {BENCHMARKS}, add it; {near}")
                one = table.base.name, *model.identity, name, table.where, table.protocol(name), table.base.scores[name]
                if one in seen:
                    raise ResultsError(f"{path}: {table.where}: {model.name} has two scores of {name}")
                seen.add(one)
                yield PublishedRow(path.stem, source, table, model, name, benchmarks[name])


def literature_schema() -> dict[str, object]:
    """The JSON Schema of a source, which editors read for completion (`leaderboard/published/schema.json`)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SourceFile.model_json_schema()}
