"""Bundles of NeMo Evaluator: `eval-*.json` with `results.jsonl` beside it; and `results.yml` of older versions.

Source: nemo-evaluator 0.3.0 (`nel eval run`) and 0.2.8 (`api_dataclasses.EvaluationResult`). A bundle does not record
temperature or limits, and `results.yml` has means only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.redaction import line, mapping, number, whole
from lm_eval_ext.runs.logs.log import Evaluation, Log, LoggedAnswer, Question, named, rows, share, utc

KEYS = ("benchmark", "sdk_version", "config_hash")
KEYS_OF_LEGACY = ("results", "target", "config")
_BARE = ("question", "problem", "input", "query")  # columns of a row that are the question alone


def read(path: Path, content: Mapping[str, object]) -> Log:
    """The log of a bundle.

    Raises:
        ResultsError: names the file and the field.
    """
    config, benchmark = mapping(content.get("config")), mapping(content["benchmark"])
    scores = {name: mapping(one) for name, one in mapping(benchmark.get("scores")).items()}
    if "pass@1" not in scores:
        raise ResultsError(f"{path}: benchmark.scores: has no pass@1")
    questions = list(_questions(path.with_name("results.jsonl")))
    count = len(questions) or whole(benchmark.get("samples"))
    repeats = max((len(one.answers) for one in questions), default=max(1, whole(benchmark.get("repeats")) or 1))
    return Log(
        "nemo-evaluator", line(content["sdk_version"]), named(config.get("model"), f"{path}: config.model"),
        utc(content.get("timestamp")),
        [
            Evaluation(
                named(benchmark.get("name"), f"{path}: benchmark.name"), "pass@1",
                share(scores["pass@1"].get("value"), f"{path}: benchmark.scores.pass@1.value"), None, count,
                repeats, whole(mapping(config.get("shuffle")).get("ds_full_size")),
                questions=questions, about=str(config),
            )
        ],
    )  # fmt: skip


def _questions(path: Path) -> Iterator[Question]:
    if not path.is_file():
        return
    by_row: dict[int, dict[int, tuple[LoggedAnswer, float, Mapping[str, object]]]] = {}
    for place, row in rows(path):
        at, repeat = whole(row.get("problem_idx")), whole(row.get("repeat"))
        if at is None or repeat is None:
            raise ResultsError(f"{place}: problem_idx or repeat is missing")
        own = by_row.setdefault(at, {})
        if repeat in own:
            raise ResultsError(f"{place}: problem_idx {at} appears twice in repeat {repeat}")
        score = share(row.get("reward"), f"{place}: reward")
        text, extracted = row.get("model_response"), row.get("extracted_answer")
        answer = LoggedAnswer(
            score, text if isinstance(text, str) else None, extracted if isinstance(extracted, str) else None
        )
        own[repeat] = answer, score, row
    for at, own in sorted(by_row.items()):
        first = next(iter(own.values()))[2]
        columns = mapping(first.get("metadata"))
        bare = next((str(columns[name]) for name in _BARE if isinstance(columns.get(name), str)), "")
        gold = first.get("expected_answer")
        yield Question(
            str(at), sum(score for _, score, _ in own.values()) / len(own), [own[repeat][0] for repeat in sorted(own)],
            bare=bare, prompt=str(first.get("prompt") or ""), gold=[] if gold is None else [str(gold)],
        )  # fmt: skip


def read_legacy(path: Path, content: Mapping[str, object]) -> Log:
    """The log in a `results.yml`.

    Raises:
        ResultsError: names the file and the field.
    """
    endpoint = mapping(mapping(content["target"]).get("api_endpoint"))
    config = mapping(content["config"])
    asked = {name: value for name, value in mapping(config.get("params")).items() if value is not None}
    tasks = mapping(mapping(content["results"]).get("tasks"))
    found = [_mean(path, name, mapping(task), asked) for name, task in tasks.items()]
    if not found:
        raise ResultsError(f"{path}: results.tasks: has no task")
    model = named(endpoint.get("model_id"), f"{path}: target.api_endpoint.model_id")
    return Log("nemo-evaluator", "", model, "", found)


def _mean(path: Path, name: str, task: Mapping[str, object], asked: Mapping[str, object]) -> Evaluation:
    """The first score of the first metric, which is the accuracy, or it is refused: others may be anything."""
    metrics = [mapping(metric) for metric in mapping(task.get("metrics")).values()]
    scores = mapping(metrics[0].get("scores")) if metrics else {}
    label = next(iter(scores), "")
    score = mapping(scores.get(label))
    count = whole(mapping(score.get("stats")).get("count"))
    return Evaluation(
        name, line(label, 200) or "score",
        share(score.get("value"), f"{path}: results.tasks.{line(name, 80)}: {line(label, 80)}"),
        number(mapping(score.get("stats")).get("stderr")), count if count and count > 0 else None, asked=asked,
        scorer=line(label, 100),
    )  # fmt: skip
