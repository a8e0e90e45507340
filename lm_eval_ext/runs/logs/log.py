"""What the log of another tool says: a model, benchmarks, their questions and answers, and how these were scored.

Scores are the tool's own. What a log does not record is unknown, and neither a default nor equal to anything. Logs may
come from anyone: files are read up to a size, and every value is checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.generation.request import KNOWN, canonical
from lm_eval_ext.paths import digest
from lm_eval_ext.redaction import line, mapping, number, public_name, scrubbed, text, whole, without_tokens
from lm_eval_ext.runs.run import Run, asked_budget, variant_of
from lm_eval_ext.runs.samples import Grade, Output, Sample, question_set, validated
from lm_eval_ext.runs.task_results import raw_rows

logger = logging.getLogger("lm_eval.tts")

LARGEST = 1 << 28  # bytes of a file; as JSON it takes many times as much in memory
# What is unknown where a log lacks it.
SETTINGS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_gen_toks", "thinking_token_budget")
_KEPT = (*KNOWN, "reasoning_effort", "reasoning_tokens", "solvers", "task_args")
_LONGEST = 500  # characters of a setting
ROUNDED = 0.0006
_NAME = re.compile(r"[^A-Za-z0-9._@+-]+")


@dataclass(frozen=True)
class LoggedAnswer:
    """A sample of a question.

    Attributes:
        score: the tool's, from 0 to 1; None if it scored only several samples together.
        text: what the model wrote; None if it wasn't saved.
        extracted: the answer that the tool found in it; None if it doesn't say.
    """

    score: float | None = None
    text: str | None = None
    extracted: str | None = None


@dataclass(frozen=True)
class Question:
    """A question and its answers.

    Attributes:
        name: its id in the log.
        score: from 0 to 1, the mean over its samples.
        bare: the question alone; empty if the log has only the prompt.
        prompt: what the model was given; empty if it wasn't saved.
        options: texts of the options of multiple choice, if the log has them.
        gold: accepted answers, of multiple choice the text of the right option; empty if they weren't saved.
    """

    name: str
    score: float
    answers: Sequence[LoggedAnswer] = ()
    bare: str = ""
    prompt: str = ""
    gold: Sequence[str] = ()
    options: Sequence[str] = ()

    @property
    def key(self) -> str:
        """What the same question has in another log of the tool; empty if there is no text."""
        asked = normalised(self.bare or self.prompt)
        what = ["bare" if self.bare else "prompt", asked, *map(normalised, self.gold)]
        return digest([what, sorted(map(normalised, self.options))]) if asked else ""


@dataclass(frozen=True)
class Evaluation:
    """A benchmark in a log.

    Attributes:
        benchmark: its name in the tool.
        metric: the tool's name of what is the accuracy.
        scorer: what graded the answers, and which tool it was, if the log says so.
        accuracy: its value.
        stderr: its standard error.
        count: number of questions; None if it isn't recorded.
        repeats: samples of each question.
        of: number of questions in the whole benchmark, if the log says it.
        asked: generation arguments, under the names that the tool has for them.
        shots: worked examples in the prompt, if the log says it.
        dataset: on the Hub.
        questions: none if the log has only the mean.
        about: further names of the benchmark and its dataset, by which it may be a gated one.
    """

    benchmark: str
    metric: str
    accuracy: float
    stderr: float | None = None
    count: int | None = None
    repeats: int = 1
    of: int | None = None
    asked: Mapping[str, object] = field(default_factory=dict)
    shots: int | None = None
    dataset: str = ""
    questions: Sequence[Question] = ()
    scorer: str = ""
    about: str = ""


@dataclass(frozen=True)
class Log:
    """A log.

    Attributes:
        tool: its name.
        version: of the tool; empty if it isn't recorded.
        model: as the tool names it.
        date: when it began, in UTC, as `2026-11-27T14:24:13Z`; empty if it isn't recorded.
        evaluations: at least one.
    """

    tool: str
    version: str
    model: str
    date: str
    evaluations: Sequence[Evaluation]

    @property
    def names(self) -> list[str]:
        """The evaluations' names in a run, with the number of shots where one benchmark has several."""
        plain = [task_name(one.benchmark) for one in self.evaluations]
        return [
            f"{name}-{one.shots}shots" if plain.count(name) > 1 and one.shots is not None else name
            for name, one in zip(plain, self.evaluations, strict=True)
        ]

    def run(self, path: Path) -> Run:
        """The run that it is of.

        Raises:
            ResultsError: a value is not allowed; names the file and the field.
        """
        names = self.names
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ResultsError(f"{path}: {twice}: is evaluated twice")
        tasks = {name: _task(one, str(path), name) for name, one in zip(names, self.evaluations, strict=True)}
        fields = {
            "date": self.date, "base": public_name(self.model), "engine": line(self.tool, 100), "tool": line(self.tool),
            "software": {self.tool: line(self.version, 200)} if self.version else {}, "tasks": tasks,
            "seeds": {name: whole(one.asked.get("seed")) for name, one in zip(names, self.evaluations, strict=True)},
            "samples": {name: "0" * 64 for name, task in tasks.items() if task["scores"]},
        }  # fmt: skip
        public = mapping(scrubbed(fields))
        words = f"{str(fields['base']).split('/')[-1]}-{self.tool}-{digest(public)[:8]}".lower()
        return validated(public | {"id": re.sub(r"[^a-z0-9._-]+", "-", words)[-100:].strip("-._")}, path)

    def about(self, task: str) -> str:
        """All names of a task's benchmark and its dataset."""
        found = next(one for one, name in zip(self.evaluations, self.names, strict=True) if name == task)
        return f"{found.benchmark} {found.dataset} {found.about}"

    def samples(self, task: str) -> list[Sample]:
        """The samples of a task, in the order of its scores."""
        return next((rows_of(one) for one, name in zip(self.evaluations, self.names, strict=True) if name == task), [])

    def questions(self, task: str) -> list[Question]:
        """The questions of a task, in the same order."""
        return next((ordered(one) for one, name in zip(self.evaluations, self.names, strict=True) if name == task), [])


def task_name(benchmark: str) -> str:
    """The name of a benchmark as it may stand in a run.

    >>> task_name("lighteval|math 500|0")
    'lighteval-math-500-0'
    """
    return _NAME.sub("-", benchmark).strip("-._@+")[:120] or "unnamed"


def _explained(one: Evaluation, place: str) -> bool:
    """Whether the questions yield the accuracy, which some tools round to three digits."""
    mean = sum(question.score for question in one.questions) / max(1, len(one.questions))
    if one.questions and abs(mean - one.accuracy) > ROUNDED:
        logger.warning(
            "%s: %s: %s=%s, but its %s questions give %.6f; read without them", place, one.benchmark, one.metric,
            one.accuracy, len(one.questions), mean,
        )  # fmt: skip
        return False
    return bool(one.questions)


def _task(one: Evaluation, place: str, name: str) -> dict[str, object]:
    asked, (benchmark, budget, votes) = _asked(one, place), variant_of(name)  # one of ours in another tool's format
    rows = rows_of(one) if _explained(one, place) else []
    unknown = [name for name in SETTINGS if name not in asked] + (["shots"] if one.shots is None else [])
    if one.count is None:
        unknown.append("questions")
    count = one.count or _count_from_stderr(one)
    return {
        "benchmark": benchmark, "budget": asked_budget(asked, budget), "votes": votes, "score": one.metric,
        "filter": line(one.scorer, 100) or "none",
        "metrics": {one.metric: {"value": one.accuracy, "stderr": one.stderr}}, "questions": count,
        "of": max(count, one.of or 0), "repeats": one.repeats, "shots": one.shots or 0, "dataset": line(one.dataset),
        "generation_kwargs": asked, "question_set": question_set(rows), "scores": [row.score for row in rows],
        "chance": _chance(one), "unknown": unknown,
    }  # fmt: skip


def _asked(one: Evaluation, place: str) -> dict[str, object]:
    """Generation arguments under our names; only plain values, which can be compared and shown."""
    asked = {name: value for name, value in canonical(one.asked).items() if name in _KEPT and value is not None}
    if asked.get("thinking_token_budget") == 0:  # no thinking, which is no budget
        asked["reasoning_tokens"] = asked.pop("thinking_token_budget")
    numbers = {*KNOWN} - {"do_sample", "until", "wait_text", "thinking_start", "thinking_end"}
    for name, value in asked.items():
        texts = value if isinstance(value, list) else [value]
        plain = all(isinstance(text, (str, int, float, bool)) and len(str(text)) <= _LONGEST for text in texts)
        if not plain or len(texts) > 100 or (name in numbers and number(value) is None):
            raise ResultsError(f"{place}: {one.benchmark}: {name}={line(repr(value), 80)}; expected a number or a text")
    return asked


def _count_from_stderr(one: Evaluation) -> int:
    """The number of questions that a standard error stands for; 1, with an interval of nearly 0 to 1, without one."""
    variance = (one.stderr or 0.0) ** 2
    return max(1, round(one.accuracy * (1 - one.accuracy) / variance)) if variance else 1


def _chance(one: Evaluation) -> float | None:
    """The score of guessing: of options their share, of numbers 0; None if it isn't known, as of yes and no."""
    if one.questions and all(question.options for question in one.questions):
        return sum(1 / len(question.options) for question in one.questions) / len(one.questions)
    golds = [gold for question in one.questions for gold in question.gold[:1]]
    numbers = [gold for gold in golds if any(character.isdigit() for character in gold)]
    open_ended = len(numbers) == len(one.questions) and len({*numbers}) > len(numbers) / 4
    return 0.0 if golds and open_ended and not any(question.options for question in one.questions) else None


def ordered(one: Evaluation) -> list[Question]:
    """The questions of a benchmark in an order that does not depend on that of the log."""
    return sorted(one.questions, key=lambda question: (question.key, question.name))


def rows_of(one: Evaluation) -> list[Sample]:
    """The questions of a benchmark as samples."""
    questions = ordered(one)
    keys = [question.key for question in questions]
    known = all(keys) and len(set(keys)) == len(keys)  # two questions that can't be told apart can't be paired
    return [
        Sample(
            id=number, hash=hashlib.sha256(question.key.encode()).hexdigest() if known else "",
            score=min(1.0, max(0.0, question.score)),
            prompt=_text(question.prompt or question.bare) or None, gold=_text(" | ".join(question.gold)) or None,
            outputs=tuple(map(_output, question.answers)),
        )
        for number, question in enumerate(questions)
    ]  # fmt: skip


def _output(answer: LoggedAnswer) -> Output:
    grades: dict[float | None, Grade] = {1: "correct", 0: "wrong"}
    extracted = None if answer.extracted is None else _text(answer.extracted)
    return Output(grade=grades.get(answer.score, "not told"), answer=extracted, text=answer.text and _text(answer.text))


def _text(value: str) -> str:
    return without_tokens(text(value))


def normalised(asked: str) -> str:
    """A text without differences of case, spaces and Unicode forms."""
    return " ".join(unicodedata.normalize("NFKC", asked).casefold().split())


# Reading ------------------------------------------------------------------------------------------------------


def check_size(path: Path) -> None:
    """Refuse a file that is missing or too large.

    Raises:
        ResultsError: it is.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror})") from error
    if size > LARGEST:
        raise ResultsError(f"{path}: has {size:,} bytes; at most {LARGEST:,} are read")


def content_of(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ResultsError: it can't be read, or is too large.
    """
    check_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror})") from error


def json_of(content: bytes, place: str) -> object:
    """The value in JSON.

    Raises:
        ResultsError: it isn't JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{place}: cannot be read as JSON ({line(error, 200)})") from error


def rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Each object of a file of JSON lines, with its place.

    Raises:
        ResultsError: a line is something else, or the file is too large.
    """
    check_size(path)
    return ((f"{path}: line {at}", row) for at, row in enumerate(raw_rows(path), 1))


def share(value: object, place: str) -> float:
    """A score from 0 to 1.

    Raises:
        ResultsError: it is none.
    """
    found = float(value) if isinstance(value, bool) else number(value)
    if found is None or not 0 <= found <= 1:
        raise ResultsError(f"{place}={line(repr(value), 80)}; expected a number from 0 to 1")
    return found


def named(value: object, place: str) -> str:
    """A text that is not empty.

    Raises:
        ResultsError: it is none.
    """
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not line(value):
        raise ResultsError(f"{place}={line(repr(value), 80)}; expected a name")
    return line(value)


def utc(value: object) -> str:
    """A date in ISO form or in seconds since 1970, in UTC; empty if it is neither.

    >>> utc("2026-11-27T15:24:13+01:00")
    '2026-11-27T14:24:13Z'
    """
    try:
        seconds = number(value)
        moment = datetime.fromisoformat(str(value)) if seconds is None else datetime.fromtimestamp(seconds, UTC)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""
