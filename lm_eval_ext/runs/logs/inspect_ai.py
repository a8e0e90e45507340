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

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.redaction import line, mapping, number, sequence, whole
from lm_eval_ext.runs.logs.log import LARGEST, Answer, Evaluation, Log, Question, content_of, json_of, named, utc

KEYS = ("version", "eval", "plan")
_VERSIONS = (1, 2)
_VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ZSTD, _HEADER = 93, 30  # a zip file's number of a method; bytes of the fixed part of a member's header
_ASKED = {"reasoning_tokens": "thinking_token_budget", "stop_seqs": "until"}


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
    except (zipfile.BadZipFile, struct.error, pyarrow.ArrowException, OSError, ValueError, EOFError) as error:
        raise ResultsError(f"{path}: cannot be read as a log of inspect_ai ({line(error, 200)})") from error
    return found


def _log(path: Path, content: Mapping[str, object], samples: list[dict[str, object]]) -> Log:
    version = content.get("version")
    if version not in _VERSIONS:
        raise ResultsError(f"{path}: version={line(repr(version), 80)}; expected one of: 1, 2")
    of, status = mapping(content["eval"]), content.get("status")
    if status != "success":
        raise ResultsError(f"{path}: status={line(repr(status), 80)}; expected 'success': the evaluation did not end")
    asked = _asked(mapping(of.get("model_generate_config"))) | _asked(mapping(mapping(content["plan"]).get("config")))
    dataset, config = mapping(of.get("dataset")), mapping(of.get("config"))
    scorer, metric, value, stderr = _accuracy(path, mapping(content.get("results")))
    questions = list(_questions(path, samples, scorer))
    model = named(of.get("model"), f"{path}: eval.model")
    return Log(
        "inspect_ai", line(mapping(of.get("packages")).get("inspect_ai")), _without_provider(model),
        utc(of.get("created")),
        [
            Evaluation(
                named(of.get("task"), f"{path}: eval.task").rpartition("/")[2], metric, value, stderr,
                len(questions) or max(1, whole(config.get("limit")) or whole(dataset.get("samples")) or 1),
                max(1, whole(config.get("epochs")) or 1), whole(dataset.get("samples")), asked,
                dataset=line(dataset.get("name")), questions=questions,
            )
        ],
    )  # fmt: skip


def _without_provider(model: str) -> str:
    """The model's name: inspect puts the provider before it, as in `hf/Qwen/Qwen3-8B`."""
    return model.partition("/")[2] if model.count("/") > 1 else model


def _asked(config: Mapping[str, object]) -> dict[str, object]:
    return {_ASKED.get(name, name): value for name, value in config.items() if value is not None}


def _accuracy(path: Path, results: Mapping[str, object]) -> tuple[str, str, float, float | None]:
    """The scorer, and its metric from 0 to 1; the one of the headline if there are several."""
    wanted = mapping(results.get("headline")).get("scorer")
    scores = [mapping(one) for one in sequence(results.get("scores"))]
    headline = [one for one in scores if one.get("name") == wanted]
    for one in headline or scores:
        metrics = {name: number(mapping(value).get("value")) for name, value in mapping(one.get("metrics")).items()}
        for name in ("accuracy", "mean"):
            value = metrics.get(name)
            if value is not None and 0 <= value <= 1:
                return line(one.get("name")), name, value, metrics.get("stderr")
    raise ResultsError(f"{path}: results.scores: has no accuracy or mean from 0 to 1")


def _questions(path: Path, samples: list[dict[str, object]], scorer: str) -> Iterator[Question]:
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
        asked = own[0].get("input")
        yield Question(
            name, sum(scores) / len(scores),
            [
                Answer(score, _written(sample), _found(sample, scorer))
                for score, sample in zip(scores, own, strict=True)
            ],
            bare=asked if isinstance(asked, str) else "", prompt="" if isinstance(asked, str) else _chat(asked),
            gold=golds[0], chance=1 / len(choices) if (choices := sequence(own[0].get("choices"))) else 0.0,
        )  # fmt: skip


def _gold(sample: Mapping[str, object]) -> list[str]:
    target, choices = sample.get("target"), sequence(sample.get("choices"))
    return [_option(str(one), choices) for one in sequence(target) or [target] if one is not None]


def _option(target: str, choices: list[object]) -> str:
    """The text of an option: its letter differs between logs, because options are shuffled."""
    at = ord(target) - ord("A") if len(target) == 1 else -1
    return str(choices[at]) if 0 <= at < len(choices) else target


def _score(path: Path, sample: Mapping[str, object], scorer: str) -> float:
    place = f"{path}: sample {line(sample.get('id'), 80)}, epoch {line(sample.get('epoch'), 20)}"
    if sample.get("error"):
        raise ResultsError(f"{place}: failed with an error, so its score is not known; run it again")
    value = mapping(mapping(sample.get("scores")).get(scorer)).get("value")
    if isinstance(value, bool):
        return float(value)
    found = _VALUES[value] if isinstance(value, str) and value in _VALUES else number(value)
    if found is None or not 0 <= found <= 1:
        raise ResultsError(f"{place}: scores.{scorer}.value={line(repr(value), 80)}; expected C, P, I, N, or 0 to 1")
    return found


def _found(sample: Mapping[str, object], scorer: str) -> str | None:
    answer = mapping(mapping(sample.get("scores")).get(scorer)).get("answer")
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
