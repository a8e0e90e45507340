"""Logs of inspect_ai, as `.json` or `.eval`: a benchmark and a model each.

Source: inspect_ai 0.3.285 (`log/_log.py`, log version 2). A `.eval` is a zip file whose members are compressed with
zstd, which Python reads from version 3.14 on; pyarrow does it here.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.errors import ResultsError, StoppedEarlyError
from lm_eval_ext.redaction import line, mapping, number, sequence, whole
from lm_eval_ext.runs.logs.log import LARGEST, Evaluation, Log, LoggedAnswer, Question, content_of, json_of, named, utc

KEYS = ("version", "eval", "plan")
_VERSIONS = (1, 2)
_VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ZSTD, _HEADER = 93, 30  # a zip file's number of a method; bytes of the fixed part of a member's header
_ASKED = {"reasoning_tokens": "thinking_token_budget", "stop_seqs": "until"}


class Scorer(NamedTuple):
    """What graded the answers, and which of its values is meant, if it gives several."""

    name: str
    value: str = ""

    def of(self, sample: Mapping[str, object]) -> object:
        """Its value for a sample."""
        found = mapping(mapping(sample.get("scores")).get(self.name)).get("value")
        return mapping(found).get(self.value) if self.value and isinstance(found, dict) else found


def read(path: Path, content: Mapping[str, object]) -> Log:
    """The log in a `.json`.

    Raises:
        ResultsError: names the file and the field.
    """
    return _log(path, content, [mapping(one) for one in sequence(content.get("samples"))])


def read_archive(path: Path) -> Log:
    """The log in a `.eval`.

    Raises:
        ResultsError: names the file and the field.
    """
    members = _members(path)
    if "header.json" not in members:
        raise ResultsError(f"{path}: header.json is missing, as where the evaluation didn't end")
    header = mapping(json_of(members["header.json"], f"{path}: header.json"))
    names = sorted(name for name in members if name.startswith("samples/"))
    return _log(path, header, [mapping(json_of(members[name], f"{path}: {name}")) for name in names])


def _members(path: Path) -> dict[str, bytes]:
    import pyarrow  # type: ignore[import-untyped]  # it has no types

    raw, found, size = content_of(path), dict[str, bytes](), 0
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for one in archive.infolist():
                if not (one.filename == "header.json" or one.filename.startswith("samples/")):
                    continue
                if one.filename in found:
                    raise ResultsError(f"{path}: {line(one.filename, 80)}: is in it twice")
                size += one.file_size
                if size > LARGEST:
                    raise ResultsError(f"{path}: unpacks to more than {LARGEST:,} bytes")
                if one.compress_type != _ZSTD:
                    found[one.filename] = archive.read(one)
                    continue
                begin = one.header_offset
                lengths = struct.unpack("<HH", raw[begin + _HEADER - 4 : begin + _HEADER])
                begin += _HEADER + sum(lengths)
                packed = raw[begin : begin + one.compress_size]
                found[one.filename] = pyarrow.decompress(packed, one.file_size, codec="zstd", asbytes=True)
    except ResultsError:
        raise
    except Exception as error:  # of zipfile, zlib, lzma, struct or pyarrow, whatever the archive is like
        raise ResultsError(f"{path}: cannot be read as a log of inspect_ai ({line(error, 200)})") from error
    return found


def _log(path: Path, content: Mapping[str, object], samples: list[dict[str, object]]) -> Log:
    version = content.get("version")
    if version not in _VERSIONS:
        raise ResultsError(f"{path}: version={line(repr(version), 80)}; expected one of: 1, 2")
    of, status = mapping(content["eval"]), content.get("status")
    if status != "success":
        raise StoppedEarlyError(
            f"{path}: status={line(repr(status), 80)}; expected 'success': the evaluation did not end"
        )
    asked = _asked(mapping(of.get("model_generate_config"))) | _asked(mapping(mapping(content["plan"]).get("config")))
    dataset, config = mapping(of.get("dataset")), mapping(of.get("config"))
    results = mapping(content.get("results"))
    scorer, metric, value, stderr = _accuracy(path, results)
    questions = list(_questions(path, samples, scorer))
    epochs = max((len(one.answers) for one in questions), default=max(1, whole(config.get("epochs")) or 1))
    completed = whole(results.get("completed_samples"))
    model = named(of.get("model"), f"{path}: eval.model")
    return Log(
        "inspect_ai", line(mapping(of.get("packages")).get("inspect_ai")), _without_provider(model),
        utc(of.get("created")),
        [
            Evaluation(
                named(of.get("task"), f"{path}: eval.task").rpartition("/")[2], metric, value, stderr,
                len(questions) or (completed // epochs if completed else None), epochs, whole(dataset.get("samples")),
                asked | _solved(of, content), dataset=line(dataset.get("name")), questions=questions,
                scorer=".".join(part for part in scorer if part),
                about=" ".join(map(str, (
                    of.get("task"), of.get("task_registry_name"), dataset.get("location"), of.get("task_args"),
                ))),
            )
        ],
    )  # fmt: skip


def _without_provider(model: str) -> str:
    """The model's name: inspect puts the provider before it, as in `hf/Qwen/Qwen3-8B`."""
    return model.partition("/")[2] if model.count("/") > 1 else model


def _asked(config: Mapping[str, object]) -> dict[str, object]:
    return {_ASKED.get(name, name): value for name, value in config.items() if value is not None}


def _solved(of: Mapping[str, object], content: Mapping[str, object]) -> dict[str, object]:
    """What was done besides generating, and the arguments of the task."""
    steps = [line(mapping(step).get("solver"), 50) for step in sequence(mapping(content["plan"]).get("steps"))]
    arguments = [f"{name}={line(value, 50)}" for name, value in sorted(mapping(of.get("task_args")).items())]
    solvers = [step for step in steps if step and step != "generate"]
    found: dict[str, object] = {"solvers": solvers, "task_args": arguments}
    return {name: value for name, value in found.items() if value}


def _accuracy(path: Path, results: Mapping[str, object]) -> tuple[Scorer, str, float, float | None]:
    """The scorer, and its metric from 0 to 1; the one of the headline if there are several, of means if it can be."""
    wanted = mapping(results.get("headline")).get("scorer")
    scores = [mapping(one) for one in sequence(results.get("scores"))]
    headline = [one for one in scores if wanted in (one.get("scorer"), one.get("name"))] or scores
    means = [one for one in headline if one.get("reducer") in (None, "mean")]
    one = next(iter(means or headline), {})
    metrics = {name: number(mapping(value).get("value")) for name, value in mapping(one.get("metrics")).items()}
    name = next((name for name in ("accuracy", "mean") if metrics.get(name) is not None), "")
    value, scorer = metrics.get(name), line(one.get("scorer")) or line(one.get("name"))
    if value is not None and 0 <= value <= 1:
        field = line(one.get("name")) if one.get("name") != scorer else ""
        label = name if means else f"{name} ({line(one.get('reducer'), 50)})"
        return Scorer(scorer, field), label, value, metrics.get("stderr")
    raise ResultsError(f"{path}: results.scores: has no accuracy or mean from 0 to 1")


def _questions(path: Path, samples: list[dict[str, object]], scorer: Scorer) -> Iterator[Question]:
    """Questions, each with the samples of all epochs, in the order of these."""
    by_name: dict[str, list[dict[str, object]]] = {}
    for sample in samples:
        by_name.setdefault(named(sample.get("id"), f"{path}: samples.id"), []).append(sample)
    for name, own in by_name.items():
        own.sort(key=lambda sample: whole(sample.get("epoch")) or 0)
        epochs = [whole(sample.get("epoch")) for sample in own]
        if len(set(epochs)) < len(epochs):
            raise ResultsError(f"{path}: samples: id {name} appears twice in an epoch")
        scores = [_score(path, sample, scorer) for sample in own]
        golds = [_gold(sample) for sample in own]
        if any(
            (sample.get("input"), gold) != (own[0].get("input"), golds[0])
            for sample, gold in zip(own, golds, strict=True)
        ):
            raise ResultsError(f"{path}: samples: id {name} has other texts or targets in another epoch")
        asked, sent = own[0].get("input"), {_sent(sample) for sample in own}
        yield Question(
            name, sum(scores) / len(scores),
            [
                LoggedAnswer(score, _written(sample), _found(sample, scorer))
                for score, sample in zip(scores, own, strict=True)
            ],
            bare=asked if isinstance(asked, str) else "",
            prompt=(sent.pop() if len(sent) == 1 else "") if isinstance(asked, str) else _chat(asked),
            gold=golds[0], options=[str(one) for one in sequence(own[0].get("choices"))],
        )  # fmt: skip


def _sent(sample: Mapping[str, object]) -> str:
    """The message that the model was sent, with the solver's template around the question; empty if it wasn't saved."""
    for message in map(mapping, sequence(sample.get("messages"))):
        if message.get("role") == "user":
            content = message.get("content")
            found = mapping(sample.get("attachments")).get(str(content).removeprefix("attachment://"), content)
            return found if isinstance(found, str) and not found.startswith("attachment://") else ""
    return ""


def _gold(sample: Mapping[str, object]) -> list[str]:
    target, choices = sample.get("target"), sequence(sample.get("choices"))
    return [_option(str(one), choices) for one in sequence(target) or [target] if one is not None]


def _option(target: str, choices: list[object]) -> str:
    """The text of an option: its letter differs between logs, because options are shuffled."""
    at = ord(target) - ord("A") if len(target) == 1 else -1
    return str(choices[at]) if 0 <= at < len(choices) else target


def _score(path: Path, sample: Mapping[str, object], scorer: Scorer) -> float:
    place = f"{path}: sample {line(sample.get('id'), 80)}, epoch {line(sample.get('epoch'), 20)}"
    if sample.get("error"):
        raise ResultsError(f"{place}: failed with an error, so its score is not known; run it again")
    value = scorer.of(sample)
    if isinstance(value, bool):
        return float(value)
    found = _VALUES[value] if isinstance(value, str) and value in _VALUES else number(value)
    if found is None or not 0 <= found <= 1:
        raise ResultsError(
            f"{place}: scores.{scorer.name}.value={line(repr(value), 80)}; expected C, P, I, N, or 0 to 1"
        )
    return found


def _found(sample: Mapping[str, object], scorer: Scorer) -> str | None:
    answer = mapping(mapping(sample.get("scores")).get(scorer.name)).get("answer")
    return answer if isinstance(answer, str) else None


def _written(sample: Mapping[str, object]) -> str | None:
    """What the model wrote: its reasoning, if that is a part of its own, and its answer."""
    choice = mapping(next(iter(sequence(mapping(sample.get("output")).get("choices"))), None))
    content = mapping(choice.get("message")).get("content")
    if isinstance(content, str):
        return content
    parts = [mapping(part) for part in sequence(content)]
    thought = "".join(f"<think>{part['reasoning']}</think>" for part in parts if part.get("reasoning"))
    return thought + "".join(str(part.get("text") or "") for part in parts) or None


def _chat(messages: object) -> str:
    return "\n".join(str(mapping(one).get("content") or "") for one in sequence(messages))
