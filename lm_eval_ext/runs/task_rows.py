"""Rows of lm-eval's `samples_TASK_*.jsonl`, one per question and filter, as samples to publish."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from lm_eval_ext.errors import ResultsError, first_fault
from lm_eval_ext.redaction import without_tokens
from lm_eval_ext.runs.samples import GRADES, Grade, Output, Sample
from lm_eval_ext.runs.untrusted import line, mapping, number, sequence, text

_MISSING = object()
ROUNDING = 1e-6  # tolerance by which a mean of shares may fall outside 0 to 1


def read_rows(
    path: Path, filter_name: str, score: str, *, gated: bool, texts: bool, parts: Sequence[str] = ()
) -> list[Sample]:
    """Read the samples of one filter, in the order of the questions.

    Args:
        path: the samples file.
        filter_name: the filter of the accuracy; the file repeats each question for every filter.
        score: the metric used as the accuracy.
        gated: leave out question, gold answer and texts.
        texts: whether the model generated text; else its responses are log-likelihoods.
        parts: columns of the dataset whose values are kept.

    Raises:
        ResultsError: the file is invalid; names the file, the line and the field.
    """
    samples = [
        _sample(row, score, gated, texts, f"{path}: line {at}").model_copy(update={"parts": _parts(row, parts)})
        for at, row in enumerate(raw_rows(path), 1)
        if row.get("filter", filter_name) == filter_name
    ]
    samples.sort(key=lambda sample: sample.id)
    if len({sample.id for sample in samples}) < len(samples):
        raise ResultsError(f"{path}: doc_id: a question appears twice for filter {filter_name}")
    return samples


def raw_rows(path: Path) -> Iterator[dict[str, object]]:
    """Every row of a samples file, unchanged.

    Raises:
        ResultsError: the file is invalid; names the file and the line.
    """
    try:
        with path.open("rb") as file:
            for at, given in enumerate(file, 1):
                yield _row(given, f"{path}: line {at}")
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror})") from error


def _row(given: bytes, place: str) -> dict[str, object]:
    try:
        row = json.loads(given.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{place}: cannot be read as JSON ({line(error, 200)})") from error
    if not isinstance(row, dict):
        raise ResultsError(f"{place}: contains a {type(row).__name__}; expected an object")
    return row


def _sample(row: Mapping[str, object], score: str, gated: bool, texts: bool, place: str) -> Sample:
    value = number(row.get(score))
    if value is None or not -ROUNDING <= value <= 1 + ROUNDING:
        raise ResultsError(f"{place}: {score}={line(repr(row.get(score)), 80)}; expected a number from 0 to 1")
    names = [name for name in sequence(row.get("metrics")) if isinstance(name, str)]
    metrics = {name: found for name in names if (found := number(row.get(name))) is not None}
    options = mapping(row.get("arguments"))
    if not texts and len(options) > 1:  # one log-likelihood for each option
        metrics["chance"] = 1 / len(options)
    if "doc_id" not in row:
        raise ResultsError(f"{place}: doc_id is missing")
    try:
        return Sample.model_validate({
            "id": row["doc_id"], "hash": line(row.get("doc_hash"), 64), "score": min(1.0, max(0.0, value)),
            "metrics": metrics, "prompt": None if gated else _prompt(row),
            "gold": None if gated else _text(row.get("target")), "outputs": _outputs(row, gated) if texts else (),
        })  # fmt: skip
    except ValidationError as error:
        raise ResultsError(f"{place}: {first_fault(error)}") from error


def _parts(row: Mapping[str, object], columns: Sequence[str]) -> dict[str, str]:
    """Values of some columns, as one line of text each; `none` where a question has no value.

    A column may be `meta.topic`, the field `topic` within `meta`.
    """
    document = mapping(row.get("doc"))
    values = {name: _nested(document, name) for name in columns}
    known = {name: value for name, value in values.items() if value is not _MISSING}
    return {line(name, 200): "none" if value is None else line(value, 100) for name, value in known.items()}


def _nested(document: Mapping[str, object], name: str) -> object:
    found: object = document
    for part in [name] if name in document else name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _MISSING
        found = found[part]
    return found


def _prompt(row: Mapping[str, object]) -> str:
    arguments = row.get("arguments")
    first: object = next(iter(arguments.values()), "") if isinstance(arguments, dict) else arguments
    while isinstance(first, (list, tuple, dict)) and first:
        first = first.get("arg_0", "") if isinstance(first, dict) else first[0]
    return _text(first)


def _outputs(row: Mapping[str, object], gated: bool) -> tuple[Output, ...]:
    """Every response with its answer; without answers if the filter did not return exactly one for each."""
    responses, found = flat(row.get("resps")), flat(row.get("filtered_resps"))
    known = len(found) == len(responses)
    answers = [one if isinstance(one, str) else None for one in found] if known else [None] * len(responses)
    reasons = sequence(row.get("graded"))
    if len(reasons) != len(responses):
        reasons = [_grade(answer, row) if known else "not told" for answer in answers]
    grades: list[Grade] = [next((grade for grade in GRADES if grade == reason), "not told") for reason in reasons]
    return tuple(
        Output(grade=grade) if gated else Output(grade=grade, answer=answer and _text(answer), text=_text(response))
        for response, answer, grade in zip(responses, answers, grades, strict=True)
    )


def _grade(answer: str | None, row: Mapping[str, object]) -> str:
    """Grade for a metric that gives no reasons: a letter by the gold one, anything else by the row's scores."""
    if not answer:
        return "no answer"
    if len(answer) == 1 and "answered" in row:
        return "correct" if answer == str(row.get("target")) else "wrong"
    right = [found for name in ("acc", "exact_match") if (found := number(row.get(name))) in (0, 1)]
    return ("correct" if right[0] else "wrong") if right else "not told"


def flat(responses: object) -> list[object]:
    """Flatten `[["a", "b"]]` or `["a"]` to one list."""
    return [one for given in sequence(responses) for one in (given if isinstance(given, list) else [given])]


def _text(value: object) -> str:
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return without_tokens(text(written))


def writes_text(config: object) -> bool:
    """Whether a task generates text, according to its configuration in a results file."""
    return mapping(config).get("output_type") == "generate_until"
