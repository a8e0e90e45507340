"""Results of lighteval, with details of each question in Parquet files beside them.

Source: lighteval 0.13.0 (`logging/evaluation_tracker.py`). It scores all samples of a question together, and the
question is only in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.redaction import line, mapping, number, sequence, whole
from lm_eval_ext.runs.logs.log import Evaluation, Log, LoggedAnswer, Question, check_size, share, utc

KEYS = ("config_general", "config_tasks", "results")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)[.\d-]*")
# In order of preference; those that end in a mark go on with parameters.
_SCORES = ("avg@", "pass@k:k=1&", "pass@1:", "extractive_match", "acc", "em", "maj@", "acc_norm")


def read(path: Path, content: Mapping[str, object]) -> Log:
    """The log in a `results_DATE.json`.

    Raises:
        ResultsError: names the file and the field.
    """
    general = mapping(content["config_general"])
    model = mapping(general.get("model_config"))
    tasks = {
        name: mapping(one)
        for name, one in mapping(content["results"]).items()
        if name != "all" and ":_average" not in name
    }
    if not tasks:
        raise ResultsError(f"{path}: results: has no task")
    date = _DATE.search(path.name)
    return Log(
        "lighteval", "" if general.get("lighteval_sha") == "?" else line(general.get("lighteval_sha")),
        line(general.get("model_name") or model.get("model_name")) or "unknown",
        utc(f"{date[1]}T{date[2]}:{date[3]}:{date[4]}") if date else "",
        [_evaluation(path, content, name, scores) for name, scores in tasks.items()],
    )  # fmt: skip


def _evaluation(path: Path, content: Mapping[str, object], name: str, scores: Mapping[str, object]) -> Evaluation:
    general = mapping(content["config_general"])
    config = mapping(mapping(content["config_tasks"]).get(name))
    parameters = mapping(mapping(general.get("model_config")).get("generation_parameters"))
    asked = {setting: value for setting, value in parameters.items() if value is not None}
    if config.get("generation_size") is not None and "max_new_tokens" not in asked:
        asked["max_new_tokens"] = config["generation_size"]
    metric = _metric(scores)
    if metric is None:
        raise ResultsError(
            f"{path}: results.{line(name, 80)}: has no metric that is an accuracy: {line(', '.join(scores), 200)}"
        )
    questions = list(_questions(path, name, metric))
    repeats = max((len(one.answers) for one in questions), default=1)
    counted = whole(config.get("effective_num_docs"))
    return Evaluation(
        _benchmark(name), metric,
        share(scores[metric], f"{path}: results.{line(name, 80)}.{metric}"), number(scores.get(f"{metric}_stderr")),
        len(questions) or (counted if counted and counted > 0 else None), max(1, repeats), None, asked,
        whole(config.get("num_fewshots")), line(config.get("hf_repo")), questions, metric,
        about=f"{name} {config.get('hf_subset')}",
    )  # fmt: skip


def _benchmark(name: str) -> str:
    """Without the number of shots, and in older versions the suite: `task|0`, `suite|task|0|0`."""
    parts = name.split("|")
    return parts[0] if len(parts) < 3 else parts[1]


def _metric(scores: Mapping[str, object]) -> str | None:
    """The metric that is the accuracy: by its name, exactly or up to its parameters."""
    names = [name for name in scores if not name.endswith("_stderr")]
    for wanted in _SCORES:
        for name in names:
            if name == wanted or (wanted[-1] in "@&:" and name.startswith(wanted)):
                return name
    return None


def _questions(path: Path, name: str, metric: str) -> Iterator[Question]:
    """The questions in the details of a task, which are in another folder, under the same date."""
    date = _DATE.search(path.name)
    wanted = f"details_{name}_{date[0].removesuffix('.json').rstrip('.')}.parquet" if date else ""
    folders = [parent / "details" for parent in path.parents[:5] if (parent / "details").is_dir()]
    file = next((one for folder in folders for one in folder.rglob("*.parquet") if one.name == wanted), None)
    if file is None:
        return
    for at, row in enumerate(_parquet(file)):
        place = f"{file}: row {at}"
        document = mapping(row.get("doc"))
        score = share(mapping(row.get("metric")).get(metric), f"{place}: metric.{metric}")
        texts = [one for one in sequence(row.get("text")) if isinstance(one, str)]
        each = len(texts) == 1 or (metric.startswith("avg@") and score in (0, 1))  # else only together
        choices = [line(one, 10_000) for one in sequence(document.get("choices"))]
        right = [whole(one) for one in _listed(document.get("gold_index"))]
        yield Question(
            line(document.get("id")) or str(at), score,
            [LoggedAnswer(score if each else None, one) for one in texts],
            prompt=str(document.get("query") or ""),
            options=choices if len(choices) > 1 else (),
            gold=[choices[option] for option in right if option is not None and 0 <= option < len(choices)],
        )  # fmt: skip


def _listed(value: object) -> list[object]:
    return sequence(value) if isinstance(value, (list, tuple)) else [value]


def _parquet(path: Path) -> list[dict[str, object]]:
    import pyarrow  # type: ignore[import-untyped]  # it has no types
    from pyarrow import parquet

    check_size(path)
    try:  # without lists of token ids, which may be huge
        table = parquet.read_table(path, columns=["doc", "metric", "model_response.text"])
        return [mapping(row) for row in table.to_pylist()]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read as Parquet ({line(error, 200)})") from error
