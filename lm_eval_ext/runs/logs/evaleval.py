"""Records of Every Eval Ever, with instance files beside them.

Source: https://evalevalai.com, schema 0.3.0. Its converters lose samples: those of inspect_ai give every epoch the mean
of all, and those of lm-eval keep only the extracted answer of the first. Where a record was converted from several
samples of a question, only its means are read; the original log says more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.redaction import line, mapping, number, sequence, whole
from lm_eval_ext.runs.logs.log import Evaluation, Log, LoggedAnswer, Question, named, rows, share, utc

KEYS = ("schema_version", "evaluation_results", "model_info")
_VERSIONS = ("0.2", "0.3", "1.0")
_OURS = "lm-eval-tts"
_ROUNDED = 1e-4


class _Scale(NamedTuple):
    """From which score to which a metric goes."""

    least: float
    most: float

    def share(self, score: object) -> float | None:
        """A score as a share of the scale; None if it is no number."""
        found = float(score) if isinstance(score, bool) else number(score)
        return None if found is None else (found - self.least) / (self.most - self.least)


_SHARES = _Scale(0.0, 1.0)


def read(path: Path, content: Mapping[str, object]) -> Log:
    """The log of a record.

    Raises:
        ResultsError: names the file and the field.
    """
    version = str(content["schema_version"])
    if not version.startswith(_VERSIONS):
        raise ResultsError(f"{path}: schema_version={line(version, 80)}; expected one of: {', '.join(_VERSIONS)}")
    results = list(_first_of_each(map(mapping, sequence(content["evaluation_results"]))))
    if not results:
        raise ResultsError(f"{path}: evaluation_results: is empty")
    library, model = mapping(content.get("eval_library")), mapping(content["model_info"])
    instances = _instances(path)
    grader = f"{line(library.get('name'), 50)} {line(library.get('version'), 30)}".strip()
    return Log(
        "every-eval-ever", f"{version} from {grader}",
        named(model.get("id") or model.get("name"), f"{path}: model_info.id"), utc(content.get("evaluation_timestamp")),
        [_evaluation(path, one, instances, grader) for one in results],
    )  # fmt: skip


def _first_of_each(results: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
    """The first result of each benchmark; others are other metrics of the same answers."""
    seen: set[str] = set()
    for one in results:
        if (name := line(one.get("evaluation_name"))) not in seen:
            seen.add(name)
            yield one


def _instances(path: Path) -> dict[tuple[str, str], list[tuple[str, dict[str, object]]]]:
    """Rows of the instance file, by the name of the benchmark and of the result."""
    file = path.with_name(f"{path.stem}_samples.jsonl")
    found: dict[tuple[str, str], list[tuple[str, dict[str, object]]]] = {}
    for place, row in rows(file) if file.is_file() else ():
        key = line(row.get("evaluation_name")), line(row.get("evaluation_result_id"))
        found.setdefault(key, []).append((place, row))
    return found


def _evaluation(
    path: Path,
    result: Mapping[str, object],
    instances: Mapping[tuple[str, str], list[tuple[str, dict[str, object]]]],
    library: str,
) -> Evaluation:
    name = named(result.get("evaluation_name"), f"{path}: evaluation_name")
    details, metric = mapping(result.get("score_details")), mapping(result.get("metric_config"))
    scale = _Scale(number(metric.get("min_score")) or 0.0, number(metric.get("max_score")) or 1.0)
    if metric.get("lower_is_better") is True or scale.least >= scale.most:
        raise ResultsError(f"{path}: {name}: lower_is_better, min_score, max_score: it is no accuracy")
    score = share(scale.share(details.get("score")), f"{path}: {name}: score_details.score as a share")
    uncertainty = mapping(details.get("uncertainty"))
    stderr = number(mapping(uncertainty.get("standard_error")).get("value"))
    own = instances.get((name, line(result.get("evaluation_result_id"))), [])
    questions = _questions(own, scale)
    if scale != _SHARES and not _mean_is(score, questions) and _mean_is(score, again := _questions(own, _SHARES)):
        questions = again  # single scores are shares, whatever scale the mean has
    asked = mapping(result.get("generation_config"))
    generation, told = mapping(asked.get("generation_args")), mapping(asked.get("additional_details"))
    if (budget := whole(told.get("thinking_budget"))) or told.get("thinking_budget") == "unlimited":  # as we write it
        generation = {"thinking_token_budget": budget or -1, **generation}
    texts = mapping(mapping(generation.get("eval_plan")).get("config"))  # numbers as text
    planned = {key: number(text) if whole(text) is None else whole(text) for key, text in texts.items()}
    source = mapping(result.get("source_data"))
    counted = whole(source.get("samples_number")) or whole(uncertainty.get("num_samples"))
    return Evaluation(
        name, line(metric.get("metric_name") or metric.get("metric_id"), 200) or "score", score,
        None if stderr is None else stderr / (scale.most - scale.least), len(questions) or counted or None,
        max((len(one.answers) for one in questions), default=1), None, {**planned, **generation},
        shots=whole(told.get("shots")), dataset=line(source.get("hf_repo")), questions=questions, scorer=library,
        about=str(source),
    )  # fmt: skip


def _mean_is(score: float, questions: list[Question]) -> bool:
    return bool(questions) and abs(sum(one.score for one in questions) / len(questions) - score) < _ROUNDED


def _questions(found: list[tuple[str, dict[str, object]]], scale: _Scale) -> list[Question]:
    """One for each question; none where a converter gave several samples the same score, or lost all but one."""
    by_name: dict[str, list[tuple[str, dict[str, object]]]] = {}
    for place, row in found:
        whole_name = named(row.get("sample_id"), f"{place}: sample_id")
        ours = str(row.get("evaluation_id", "")).startswith(_OURS)
        by_name.setdefault(whole_name.rpartition("/")[0] or whole_name if ours else whole_name, []).append((place, row))
    of_epochs = any("epoch" in mapping(row.get("metadata")) for _, row in found)
    if of_epochs and len(by_name) < len(found):
        return []
    return [_question(name, own, scale) for name, own in by_name.items()]


def _question(name: str, own: list[tuple[str, dict[str, object]]], scale: _Scale) -> Question:
    scores = [
        share(scale.share(mapping(row.get("evaluation")).get("score")), f"{place}: evaluation.score as a share")
        for place, row in own
    ]
    place, first = own[0]
    asked = mapping(first.get("input"))
    answers = []
    for score, (_, row) in zip(scores, own, strict=True):
        texts = [one for one in sequence(mapping(row.get("output")).get("raw")) if isinstance(one, str)]
        told = mapping(next(iter(sequence(row.get("answer_attribution"))), None)).get("extracted_value")
        extracted = str(told) if told else None
        if len(texts) < 2:
            answers.append(LoggedAnswer(score, texts[0] if texts else None, extracted))
        else:
            answers += [LoggedAnswer(None, text) for text in texts]
    raw, gold = asked.get("raw"), sequence(asked.get("reference"))
    if raw is not None and not isinstance(raw, str):
        raise ResultsError(f"{place}: input.raw is a {type(raw).__name__}; expected text")
    options = [str(one) for one in sequence(asked.get("choices"))]
    golds = [str(one) for one in gold]
    return Question(name, sum(scores) / len(scores), answers, prompt=raw or "", gold=golds, options=options)
