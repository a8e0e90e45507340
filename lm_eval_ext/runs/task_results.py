"""The tasks of an lm-eval results file, ours or a stock one: their accuracy, and on how many questions."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from lm_eval_ext.choices import LETTERS, lettered_lists
from lm_eval_ext.errors import ResultsError, first_fault
from lm_eval_ext.generation.request import canonical
from lm_eval_ext.grading.kinds import MATCHING, kind_of_metric
from lm_eval_ext.redaction import line, mapping, number, sequence, text, whole, without_tokens
from lm_eval_ext.runs.catalogue import Catalogue
from lm_eval_ext.runs.run import asked_budget, is_slug, variant_of
from lm_eval_ext.runs.samples import GRADES, Grade, Output, Sample, question_set

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
    said = sequence(row.get("failed"))
    failures = [text(str(one)) or None for one in said] if len(said) == len(responses) else [None] * len(responses)
    grades: list[Grade] = [next((grade for grade in GRADES if grade == reason), "not told") for reason in reasons]
    return tuple(
        Output(grade=grade)
        if gated
        else Output(grade=grade, answer=answer and _text(answer), text=_text(response), failed=failure)
        for response, answer, grade, failure in zip(responses, answers, grades, failures, strict=True)
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


logger = logging.getLogger("lm_eval.tts")

_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT[\d.-]+)\.json$")
# In order of preference, if the catalogue does not name one.
_SCORES = ("acc", "exact_match", "acc_norm", "pass@1")
_FIRST = {"function": "take_first"}  # lm-eval's filter for tasks that declare none


class AccuracyKey(NamedTuple):
    """A task and the metric and filter of its accuracy."""

    task: str
    filter: str
    metric: str


def scored_tasks(content: Mapping[str, object], catalogue: Catalogue, path: Path) -> Iterator[AccuracyKey]:
    """Every task with an accuracy. A group with one replaces its members.

    Raises:
        ResultsError: the accuracy of one of our tasks is no share.
    """
    results, groups = mapping(content.get("results")), mapping(content.get("group_subtasks"))
    found = {task: score for task, metrics in results.items() if (score := _score(task, mapping(metrics), catalogue))}
    for task, metrics in results.items():
        broken = next((f"{key}={value}" for key, value in mapping(metrics).items() if _is_broken(key, value)), "")
        if broken and task not in found and task.startswith("tts_"):
            raise ResultsError(f"{path}: results.{task}: {broken}: expected a share from 0 to 1")
    covered = {leaf for group in groups if group in found for leaf in _below(group, groups)}
    for task, (filter_name, metric) in found.items():
        if task in covered:
            continue
        if is_slug(task):
            yield AccuracyKey(task, filter_name, metric)
        else:
            logger.warning("%s: results.%s: skipped, its name is not a valid file name", path, line(task, 80))


def _below(group: str, groups: Mapping[str, object]) -> set[str]:
    """All members of a group, including those of nested groups."""
    found: set[str] = set()
    ahead = [group]
    while ahead:
        new = {member for member in sequence(groups.get(ahead.pop())) if isinstance(member, str)} - found
        found |= new
        ahead += new
    return found - {group}


def _score(task: str, metrics: Mapping[str, object], catalogue: Catalogue) -> tuple[str, str] | None:
    """Filter and name of the metric that is the accuracy; metrics whose value is not one are skipped."""
    declared = catalogue.benchmark(variant_of(task)[0])
    shares = [key.split(",", 1) for key in metrics if "," in key and _is_share(metrics[key])]
    for wanted in dict.fromkeys((declared.metric, *_SCORES)):
        filters = [filter_name for metric, filter_name in shares if metric == wanted]
        if filters:
            return declared.filter if declared.filter in filters else filters[0], wanted
    return None


def _is_broken(key: str, value: object) -> bool:
    """Whether a metric that is an accuracy has a value that is none."""
    return "," in key and key.partition(",")[0] in _SCORES and not _is_share(value)


def _is_share(value: object) -> bool:
    found = number(value)
    return found is not None and -ROUNDING <= found <= 1 + ROUNDING


def task_result(
    content: Mapping[str, object], scored: AccuracyKey, rows: list[Sample], path: Path, *, gated: bool
) -> dict[str, object]:
    """The fields of a `TaskResult`.

    Raises:
        ResultsError: the samples of one of our tasks do not match its accuracy.
    """
    task, config = scored.task, mapping(mapping(content.get("configs")).get(scored.task))
    metrics = _metrics(mapping(mapping(content["results"])[task]), scored)
    benchmark, budget, votes = variant_of(task)
    generation = {line(name, 200): value for name, value in canonical(mapping(config.get("generation_kwargs"))).items()}
    questions, of = _counts(content, task, len(rows))
    scores = [row.score for row in rows]
    if rows and not _explained(metrics[scored.metric]["value"] or 0.0, questions, scores, scored, path):
        scores = []
    return {
        "benchmark": benchmark, "budget": asked_budget(generation, budget), "votes": votes, "filter": scored.filter,
        "score": scored.metric, "metrics": metrics, "questions": questions, "of": of,
        "repeats": _scored_samples(config, scored),
        "shots": _shots(content, task), "chat_template": bool(content.get("chat_template")), "gated": gated,
        "dataset": line(config.get("dataset_path")),
        "version": line(mapping(content.get("versions")).get(task), 50),
        "grader_version": whole(mapping(config.get("metadata")).get("grader_version")),
        "sandbox": line(mapping(config.get("metadata")).get("sandbox"), 200),
        "task_hash": _hash(mapping(content.get("task_hashes")).get(task)),
        "generation_kwargs": generation, "question_set": question_set(rows) if scores else "", "scores": scores,
        "chance": _chance(config, metrics, rows), "parts": _parts_of(rows) if scores else {}, **compared_as(config),
    }  # fmt: skip


def _scored_samples(config: Mapping[str, object], scored: AccuracyKey) -> int:
    """How many samples of a question were scored one by one; the mean of their scores is the accuracy.

    Ours are all scored. Where a filter leaves one answer of a question, the first or that of a vote, it is one.
    """
    samples = max(1, whole(config.get("repeats")) or 1)
    if scored.task.startswith("tts_"):
        return samples
    filters = [mapping(one) for one in sequence(config.get("filter_list"))]
    steps = next((sequence(one.get("filter")) for one in filters if one.get("name") == scored.filter), [_FIRST])
    for step in map(mapping, steps):
        if step.get("function") in ("majority_vote", "take_first"):
            return 1
        if step.get("function") == "take_first_k":
            samples = min(samples, max(1, whole(step.get("k")) or 1))
    return samples


def compared_as(config: Mapping[str, object]) -> dict[str, object]:
    """Kind of the answers and options of their comparison, if they are not mathematics."""
    entries = [mapping(one) for one in sequence(config.get("metric_list"))]
    entry = next((one for one in entries if one.get("metric") in MATCHING), {})
    kind = kind_of_metric(str(entry.get("metric")))
    if kind is None or kind.KIND == "math":
        return {}
    filters = [
        mapping(step)
        for chain in sequence(config.get("filter_list"))
        for step in sequence(mapping(chain).get("filter"))
    ]
    running = next((mapping(one.get("grading")) for one in filters if one.get("function") == kind.filter_name()), {})
    options = {**running, **entry}  # a program is run, and so compared, where it is extracted
    return {"kind": kind.KIND, "grading": {name: options[name] for name in kind.model_fields if name in options}}


def _parts_of(rows: Sequence[Sample]) -> dict[str, list[str]]:
    """By column, the value of each question; columns that a question lacks are left out."""
    return {
        column: [row.parts[column] for row in rows]
        for column in rows[0].parts
        if all(column in row.parts for row in rows)
    }


def _chance(
    config: Mapping[str, object], metrics: Mapping[str, Mapping[str, float | None]], rows: list[Sample]
) -> float | None:
    """The score of guessing: declared by the task, or from the options of its questions; None if it is unknown."""
    declared = number(mapping(config.get("metadata")).get("chance"))
    if declared is not None:
        return declared if 0 <= declared < 1 else None
    if "chance" in metrics:
        return metrics["chance"]["value"]
    of_rows = [row.metrics["chance"] for row in rows if "chance" in row.metrics]
    return sum(of_rows) / len(of_rows) if of_rows and len(of_rows) == len(rows) else None


def _metrics(given: Mapping[str, object], scored: AccuracyKey) -> dict[str, dict[str, float | None]]:
    """Numeric metrics of the accuracy's filter."""
    found: dict[str, dict[str, float | None]] = {}
    for key, value in given.items():
        name, _, filter_name = key.partition(",")
        mean = number(value)
        if filter_name == scored.filter and not name.endswith("_stderr") and mean is not None:
            stderr = number(given.get(f"{name}_stderr,{filter_name}"))
            if name == scored.metric:
                mean = min(1.0, max(0.0, mean))
            found[line(name, 200)] = {"value": mean, "stderr": None if stderr is None or stderr < 0 else stderr}
    return found


def _counts(content: Mapping[str, object], task: str, rows: int) -> tuple[int, int]:
    """Number of questions evaluated, and in the benchmark; for a group, summed over its members."""
    groups, counts = mapping(content.get("group_subtasks")), mapping(content.get("n-samples"))
    members = [name for name in _below(task, groups) if name in counts] or [task]
    asked, of = (
        sum(whole(mapping(counts.get(name)).get(kind)) or 0 for name in members) for kind in ("effective", "original")
    )
    asked = asked or whole(mapping(mapping(content["results"])[task]).get("sample_len")) or rows or 1
    return asked, max(asked, of)


def _shots(content: Mapping[str, object], task: str) -> int:
    """Worked examples in the prompt; for a group those of its members, as lm-eval doesn't always record its own."""
    told, configs = mapping(content.get("n-shot")), mapping(content.get("configs"))
    names = [task, *sorted(_below(task, mapping(content.get("group_subtasks"))))]
    counts = [whole(told.get(name, mapping(configs.get(name)).get("num_fewshot"))) for name in names]
    return max((count for count in counts if count is not None), default=0)


def _explained(mean: float, questions: int, scores: list[float], scored: AccuracyKey, path: Path) -> bool:
    """Whether the samples yield the reported accuracy. Metrics that are not ours need not be means."""
    own = sum(scores) / len(scores)
    if abs(own - mean) <= ROUNDING and len(scores) == questions:
        return True
    fault = (
        f"{path}: {scored.task}: {scored.metric}={mean} over {questions} questions, but its samples file gives "
        f"{own:.6f} over {len(scores)}; is it from the same run?"
    )
    if scored.task.startswith("tts_"):
        raise ResultsError(fault)
    logger.warning("%s; published without samples", fault)
    return False


def _hash(value: object) -> str:
    found = line(value, 64)
    return found if re.fullmatch("[0-9a-f]*", found) else ""


def is_gated(content: Mapping[str, object], task: str, catalogue: Catalogue) -> bool:
    """Whether a task is gated, by its name, its dataset's name, or its own metadata."""
    config = mapping(mapping(content.get("configs")).get(task))
    declared = mapping(config.get("metadata")).get("gated") is True
    return declared or catalogue.is_gated(task, line(config.get("dataset_path")))


def task_rows(path: Path, content: Mapping[str, object], scored: AccuracyKey, catalogue: Catalogue) -> list[Sample]:
    """A task's samples, from the file beside its results; empty if there is no such file."""
    file = samples_file(path, scored.task)
    if file is None:
        return []
    config = mapping(mapping(content.get("configs")).get(scored.task))
    gated = is_gated(content, scored.task, catalogue)
    rows = read_rows(
        file,
        scored.filter,
        scored.metric,
        gated=gated,
        texts=writes_text(config),
        parts=() if gated else _columns(config),
    )
    if not rows:
        logger.warning("%s: contains no samples of filter %s", file, scored.filter)
    return rows


class AskedQuestion(NamedTuple):
    """What was asked of a model.

    Attributes:
        bare: the question alone; empty where only the prompt is known.
        prompt: what the model was given.
        gold: accepted answers; empty where they aren't known.
        options: of multiple choice; empty where they aren't known.
    """

    bare: str
    prompt: str
    gold: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def task_questions(
    path: Path, content: Mapping[str, object], scored: AccuracyKey, catalogue: Catalogue
) -> list[AskedQuestion]:
    """What was asked in a task, in the order of `task_rows`.

    The question alone is the text of its row in the dataset that stands in the prompt and ends last, or of several the
    longest. Of multiple choice, a gold letter is the option that the prompt shows with it, since their order may differ
    elsewhere; a number of an option is left out.
    """
    file = samples_file(path, scored.task)
    if file is None or is_gated(content, scored.task, catalogue):
        return []
    written = writes_text(mapping(content.get("configs")).get(scored.task))
    found = sorted(
        (whole(row.get("doc_id")) or 0, _asked(row, written))
        for row in raw_rows(file)
        if row.get("filter", scored.filter) == scored.filter
    )
    return [asked for _, asked in found]


def _asked(row: Mapping[str, object], written: bool) -> AskedQuestion:
    prompt, target = _prompt(row), row.get("target")
    inside = [one for one in mapping(row.get("doc")).values() if isinstance(one, str) and one and one in prompt]
    asked = max(inside, key=lambda one: (prompt.rfind(one) + len(one), len(one)), default="")
    if not written or target is None:
        return AskedQuestion(asked, prompt)
    gold = _text(target)
    lists = lettered_lists(prompt) if gold in tuple(LETTERS) else []
    shown = lists[-1] if lists else {}
    return AskedQuestion(asked, prompt, (shown.get(gold, gold),), tuple(shown.values()))


def _columns(config: Mapping[str, object]) -> list[str]:
    """Columns that the task declares as dividing its benchmark."""
    declared = mapping(config.get("metadata")).get("parts")
    return [name for name in sequence([declared] if isinstance(declared, str) else declared) if isinstance(name, str)]


def samples_file(path: Path, task: str) -> Path | None:
    """The samples file of a task beside its results; None if there is none."""
    date = _DATE.search(path.name)
    file = path.with_name(f"samples_{task}_{date[1]}.jsonl") if date else None
    return file if file is not None and file.is_file() else None
