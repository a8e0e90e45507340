"""Broken logs of other tools: each is one line."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.runs.logs.log import normalised
from tests.foreign_logs import (
    LEGACY,
    Content,
    put,
    read,
    write_archive,
    write_inspect,
    write_legacy,
    write_lighteval,
    write_nemo,
    write_record,
    write_summary,
    written,
)


def first(content: Content) -> Content:
    return content["samples"][0]  # type: ignore[no-any-return]


def drop(*path: str) -> Callable[[Content], object]:
    def change(content: Content) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


BROKEN_INSPECT: list[tuple[Callable[[Content], object], str]] = [
    (put(3, "version"), "version=3; expected one of: 1, 2"),
    (put("x" * 500, "version"), "version='xxx"),
    (put("9", "samples", 0, "target"), "id q1 has other texts or targets in another epoch"),
    (put("error", "status"), "status='error'; expected 'success'"),
    (drop("status"), "status=None; expected 'success'"),
    (put(None, "eval", "model"), "eval.model=None; expected a name"),
    (put([], "eval", "task"), r"eval.task=\[\]; expected a name"),
    (put({}, "results"), "results.scores: has no accuracy or mean from 0 to 1"),
    (
        put(float("nan"), "results", "scores", 1, "metrics", "accuracy", "value"),
        "results.scores: has no accuracy or mean from 0 to 1",
    ),
    (
        put(1.5, "results", "scores", 1, "metrics", "accuracy", "value"),
        "results.scores: has no accuracy or mean from 0 to 1",
    ),
    (put(None, "samples", 0, "id"), "samples.id=None; expected a name"),
    (put(1, "samples", 0, "epoch"), "appears twice in an epoch|is in it twice"),
    (put("great", "samples", 0, "scores", "match", "value"), "value='great'; expected C, P, I, N, or 0 to 1"),
    (put(1e300, "samples", 0, "scores", "match", "value"), "expected C, P, I, N, or 0 to 1"),
    (put(float("nan"), "samples", 0, "scores", "match", "value"), "value=nan; expected C"),
    (put([1], "samples", 0, "scores", "match", "value"), r"value=\[1\]; expected C"),
    (put({}, "samples", 0, "scores"), "value=None; expected C"),
    (put({"message": "out of memory"}, "samples", 0, "error"), "failed with an error, so its score is not known"),
]


def cut_rows(path: Path, line: bytes) -> Path:
    with path.with_name("results.jsonl").open("ab") as file:
        file.write(line)
    return path


def broken_details(path: Path, content: bytes) -> Path:
    for file in path.parents[3].rglob("*.parquet"):
        file.write_bytes(content)
    return path


def cut(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


def spoilt(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[40:80] = bytes(40)  # within the first member
    path.write_bytes(content)
    return path


def without_header(path: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != "header.json"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_member(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, content)
    return path


def reward_lost(rows: list[Content]) -> None:
    del rows[3]["reward"]


def no_metric(rows: list[Content]) -> None:
    for row in rows:
        del row["metric"]


SCORE = ("evaluation_results", 0, "score_details", "score")
OF_CONTENT: list[tuple[Callable[..., Path], Callable[[Content], object], str]] = [
    (write_nemo, put({}, "benchmark", "scores"), "has no pass@1"),
    (write_nemo, put(50, "benchmark", "scores", "pass@1", "value"), "value=50; expected a number"),
    (write_nemo, put("", "config", "model"), "config.model=''; expected a name"),
    (write_nemo, put({}, "benchmark", "name"), r"benchmark.name=\{\}; expected a name"),
    (write_lighteval, put({"all": {}}, "results"), "results: has no task"),
    (write_lighteval, put({"em": "high"}, "results", "sums|0"), "metric.em=None; expected a number"),
    (write_lighteval, put({"ece": 0.05, "f1": 80}, "results", "sums|0"), "has no metric that is an accuracy: ece, f1"),
    (write_lighteval, put({"acc_norm": 0.2, "acc": 70}, "results", "sums|0"), "metric.acc=None; expected a number"),
    (write_record, put("7.0", "schema_version"), "schema_version=7.0; expected one of: 0.2, 0.3, 1.0"),
    (write_record, put([], "evaluation_results"), "evaluation_results: is empty"),
    (write_record, put([1], "evaluation_results"), "evaluation_name=None; expected a name"),
    (write_record, put({}, "model_info"), "model_info.id=None; expected a name"),
    (write_record, put(140, *SCORE), "score as a share=1.4; expected a number from 0 to 1"),
    (write_record, put("good", *SCORE), "score as a share=None; expected a number from 0 to 1"),
    (write_summary, put("good", "score"), "score='good'; expected a number"),
]
OF_ROWS: list[tuple[Callable[..., Path], Callable[[list[Content]], object], str]] = [
    (write_nemo, put(2, 0, "reward"), "line 1: reward=2; expected a number from 0 to 1"),
    (write_nemo, reward_lost, "line 4: reward=None; expected a number"),
    (write_nemo, put("x", 0, "problem_idx"), "line 1: problem_idx or repeat is missing"),
    (write_nemo, lambda rows: rows.append(rows[0]), "line 7: problem_idx 2 appears twice in repeat 0"),
    (write_lighteval, put(7.0, 0, "metric", "avg@n:n=2"), "metric.avg@n:n=2=7.0; expected a number"),
    (write_lighteval, no_metric, "metric"),
    (write_record, put(None, 1, "sample_id"), "line 2: sample_id=None; expected a name"),
    (write_record, put("1e999", 1, "evaluation", "score"), "evaluation.score as a share=None; expected"),
    (write_record, put({"a": 1}, 0, "input", "raw"), "input.raw is a dict; expected text"),
]
NO_TASK = LEGACY.splitlines()[0] + "\ntarget: {api_endpoint: {model_id: a}}\nresults: {tasks: {}}"
NESTED = b"[" * 100_000
OF_FILES: list[tuple[Callable[[Path], Path], str]] = [
    (lambda at: cut_rows(write_nemo(at), b"[1, 2]\n"), "contains a list; expected an object"),
    (lambda at: cut_rows(write_nemo(at), b'{"problem_idx": 0, "rep'), "cannot be read as JSON"),
    (lambda at: broken_details(write_lighteval(at), b"PAR1 not"), "cannot be read as Parquet"),
    (lambda at: write_summary(at).rename(at / "x.json"), "expected a name such as gpqa_MODEL_20261127_143000.json"),
    (lambda at: write_legacy(at, LEGACY + "  - ]"), "cannot be read as YAML"),
    (lambda at: write_legacy(at, NO_TASK), "results.tasks: has no task"),
    (
        lambda at: write_legacy(at, LEGACY.replace("value: 0.5", "value: .nan")),
        "sums: acc=nan; expected a number from 0 to 1",
    ),
    (lambda at: write_legacy(at, LEGACY.replace("acme/tiny", "''")), "model_id=''; expected a name"),
    (lambda at: write_legacy(at, "- config:\n- target:\n- results:\n- api_endpoint: 1"), "is missing"),
    (lambda at: without_header(write_archive(at)), "header.json is missing"),
    (lambda at: cut(write_archive(at)), "cannot be read as a log of inspect_ai"),
    (lambda at: with_member(write_archive(at), "samples/x.json", b"{"), "samples/x.json: cannot be read"),
    (lambda at: with_member(write_archive(at), "samples/x.json", NESTED), "samples/x.json: cannot be read"),
    (lambda at: cut(write_inspect(at)), "cannot be read as JSON"),
    (lambda at: spoilt(write_archive(at)), "cannot be read as a log of inspect_ai"),
    (
        lambda at: write_legacy(at, LEGACY.replace("temperature: 0.6", "temperature: &a [*a]")),
        "temperature=.*expected a",
    ),
    (
        lambda at: write_legacy(at, LEGACY.replace("temperature: 0.6", f"temperature: {'[' * 200}{']' * 200}")),
        "expected a",
    ),
    (lambda at: write_inspect(at, put("hot", "plan", "config", "temperature")), "temperature='hot'; expected a number"),
    (lambda at: write_inspect(at, put([[1]], "plan", "config", "stop_seqs")), r"until=\[\[1\]\]; expected"),
    (
        lambda at: write_record(at, put(True, "evaluation_results", 0, "metric_config", "lower_is_better")),
        "is no accuracy",
    ),
    (lambda at: write_summary(at).rename(at / "math_a_20261127_142413_DEBUG.json"), "a run for debugging is no result"),
]


@pytest.mark.parametrize("write", [write_inspect, write_archive], ids=["json", "eval"])
@pytest.mark.parametrize(("change", "said"), BROKEN_INSPECT)
def test_a_broken_log_of_inspect_is_one_line(
    write: Callable[..., Path], change: Callable[[Content], object], said: str, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    try:
        read(write(tmp_path, change))
    except ResultsError as error:
        message = str(error)
        assert str(tmp_path) in message and "\n" not in message and len(message) < 600
        assert re.search(said, message), message
    else:
        assert re.search(said, caplog.text)


@pytest.mark.parametrize(("write", "change", "said"), OF_CONTENT)
def test_a_broken_log_is_one_line(
    write: Callable[..., Path], change: Callable[[Content], object], said: str, tmp_path: Path
) -> None:
    refused(write(tmp_path, change), said, tmp_path)


@pytest.mark.parametrize(("write", "change", "said"), OF_ROWS)
def test_broken_rows_are_one_line(
    write: Callable[..., Path], change: Callable[[list[Content]], object], said: str, tmp_path: Path
) -> None:
    refused(write(tmp_path, change_rows=change), said, tmp_path)


@pytest.mark.parametrize(("write", "said"), OF_FILES)
def test_a_broken_file_is_one_line(write: Callable[[Path], Path], said: str, tmp_path: Path) -> None:
    refused(write(tmp_path), said, tmp_path)


def refused(path: Path, said: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=said) as raised:
        read(path)
    message = str(raised.value)
    assert str(tmp_path) in message and "\n" not in message and len(message) < 600


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval_ext.runs.logs.log.LARGEST", 1000)
    with pytest.raises(ResultsError, match=r"has [\d,]+ bytes; at most 1,000 are read"):
        read(write_inspect(tmp_path))


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_member(write_archive(tmp_path), "samples/bomb.json", b" " * 3_000_000)
    monkeypatch.setattr("lm_eval_ext.runs.logs.inspect_ai.LARGEST", 1_000_000)
    with pytest.raises(ResultsError, match="unpacks to more than 1,000,000 bytes"):
        read(path)


def test_other_files_in_a_folder_are_not_taken_for_logs(tmp_path: Path) -> None:
    written(tmp_path / "notes.json", {"eval": 1, "results": {}})
    written(tmp_path / "list.json", {"all": [{"version": 1, "eval": 2, "plan": 3}]})
    (tmp_path / "config.yml").write_text("results: here\n")
    (tmp_path / "x.eval").write_text("no archive")
    write_nemo(tmp_path / "nemo")
    assert len(load([tmp_path], read_catalogue(), logs=True)) == 1


def test_texts_are_compared_without_case_spaces_and_forms() -> None:
    assert normalised("  What is\n2\uff0b3? ") == "what is 2+3?"
