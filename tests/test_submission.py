"""What is read from an output folder of lm-eval, and what is left out of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lm_eval_output import write_output
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.paths import json_object
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import read_source
from lm_eval_ext.runs.submission import submission
from lm_eval_ext.runs.task_results import AccuracyKey, task_rows
from tests.shared import case_table, one_line

CATALOGUE = read_catalogue()
TASK = "tts_aime24_b512"
Change = Callable[[dict[str, Any]], Any]


def changed(path: Path, change: Change) -> Path:
    """The results file, edited."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    return path


def changed_rows(path: Path, change: Change) -> Path:
    """The results file, the rows of its samples edited."""
    for file in path.parent.glob("samples_*"):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        for row in rows:
            change(row)
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def test_samples_of_another_run_are_refused(tmp_path: Path) -> None:
    path = write_output(tmp_path, {TASK: [[True], [False]]})
    changed(path, lambda content: content["results"][TASK].update({"acc,answer": 1.0}))
    with pytest.raises(ResultsError, match=r"acc=1.0 over 2 questions, but its samples file gives 0.5"):
        submission(path, CATALOGUE)


def test_others_scores_need_be_no_means(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_output(tmp_path, {"arc_easy": [[True], [False]]})
    changed(path, lambda content: content["results"]["arc_easy"].update({"acc,answer": 0.8}))
    with caplog.at_level(logging.WARNING, "lm_eval.tts"):
        run = submission(path, CATALOGUE)
    assert run.tasks["arc_easy"].accuracy.value == 0.8 and not run.samples
    assert "published without samples" in caplog.text


def test_one_row_of_each_question_counts_however_many_filters_there_are(tmp_path: Path) -> None:
    """As lm-eval writes GSM8K: a row for each filter."""
    path = write_output(tmp_path, {"gsm8k": [[True], [False]]}, config={"pruning": None, "model": "hf"})
    scores = {
        "exact_match,strict-match": 0.0, "exact_match_stderr,strict-match": 0.0,
        "exact_match,flexible-extract": 0.5, "exact_match_stderr,flexible-extract": 0.5,
    }  # fmt: skip
    changed(path, lambda content: content["results"].update({"gsm8k": scores}))
    samples = next(tmp_path.glob("samples_*"))
    rows = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    both: list[dict[str, Any]] = []
    for row in rows:
        both.append({**row, "filter": "strict-match", "exact_match": 0.0, "metrics": ["exact_match"]})
        both.append({**row, "filter": "flexible-extract", "exact_match": row["acc"], "metrics": ["exact_match"]})
    samples.write_text("".join(f"{json.dumps(row)}\n" for row in both), "utf-8")
    source = read_source(path, CATALOGUE)
    task = source.run.tasks["gsm8k"]
    assert task.filter == "flexible-extract" and task.scores == (1.0, 0.0)
    assert len(source.samples("gsm8k")) == 2 and source.run.pruning is None and source.run.dense


FIRST, VOTE, REGEX = {"function": "take_first"}, {"function": "majority_vote"}, {"function": "regex"}


@pytest.mark.parametrize(
    ("task", "filters", "samples"),
    [
        ("gsm8k", None, 1),
        ("gsm8k", [REGEX, FIRST], 1),
        ("gsm8k", [REGEX, VOTE, FIRST], 1),
        ("gsm8k", [{"function": "take_first_k", "k": 4}, REGEX, VOTE, FIRST], 1),
        ("gsm8k", [{"function": "take_first_k", "k": 4}, REGEX], 4),
        ("humaneval", [{"function": "custom"}], 8),
        (TASK, [{"function": "text_answer"}], 8),
    ],
)
def test_only_samples_that_were_scored_count(
    task: str, filters: list[dict[str, Any]] | None, samples: int, tmp_path: Path
) -> None:
    """Whatever a task has the model write: most tasks of others score the first text of each question."""
    path = write_output(tmp_path, {task: [[True], [False]]})
    declared = {} if filters is None else {"filter_list": [{"name": "answer", "filter": filters}]}
    changed(path, lambda content: content["configs"][task].update(repeats=8, **declared))
    assert submission(path, CATALOGUE).tasks[task].repeats == samples


def test_a_group_with_an_accuracy_stands_for_its_members(tmp_path: Path) -> None:
    path = write_output(tmp_path, {"mmlu_a": [[True]] * 3, "mmlu_b": [[False]] * 2}, samples=False, of=5)
    mmlu = {"acc,none": 0.5, "acc_stderr,none": 0.01, "sample_len": 2}
    changed(path, lambda content: content["results"].update(mmlu=mmlu))
    changed(path, lambda content: content.update(group_subtasks={"mmlu": ["mmlu_x"], "mmlu_x": ["mmlu_a", "mmlu_b"]}))
    (found,) = submission(path, CATALOGUE).tasks.items()
    assert found[0] == "mmlu" and (found[1].questions, found[1].of) == (5, 10) and found[1].partial


def test_a_group_that_goes_in_circles_ends(tmp_path: Path) -> None:
    path = write_output(tmp_path, {"a": [[True]]}, samples=False)
    changed(path, lambda content: content.update(group_subtasks={"g": ["h", "a"], "h": ["g"]}))
    assert set(submission(path, CATALOGUE).tasks) == {"a"}


@pytest.mark.parametrize(("config", "label"), case_table("wrong_runs.yaml")["varied"])
def test_a_model_that_is_varied_is_another_one(config: dict[str, Any], label: str, tmp_path: Path) -> None:
    path = write_output(tmp_path, {TASK: [[True]]}, config={"pruning": None, **config})
    run = submission(path, CATALOGUE)
    assert run.label == label and run.dense == (label == "dense")


def test_dates_come_from_the_run_or_the_name_of_its_file(tmp_path: Path) -> None:
    path = write_output(tmp_path, {TASK: [[True]]}, samples=False)
    assert submission(path, CATALOGUE).date == "2026-11-01T00:00:00Z"
    odd: list[Any] = [None, "yesterday", 1e300, [], {}]
    for date in odd:
        changed(path, partial(dict.update, date=date))
        assert submission(path, CATALOGUE).date == "2026-11-01T00:00:00Z"
    with pytest.raises(ResultsError, match=r"date=\{\}; expected seconds since 1970"):
        submission(path.rename(tmp_path / "results_x.json"), CATALOGUE)


def test_log_likelihoods_are_no_texts(tmp_path: Path) -> None:
    path = write_output(tmp_path, {"arc_easy": [[True]]})
    changed(path, lambda content: content["configs"]["arc_easy"].update(output_type="multiple_choice"))
    (row,) = read_source(path, CATALOGUE).samples("arc_easy")
    assert row.outputs == () and row.score == 1.0


def test_answers_of_another_number_than_the_samples_tell_nothing(tmp_path: Path) -> None:
    """As lm-eval's `take_first` leaves it: one answer of three samples."""
    path = write_output(tmp_path, {"gsm8k": [[True, True, False]]})
    changed_rows(path, lambda row: row.update(filtered_resps=["4"], graded=None, acc=2 / 3))
    (row,) = read_source(path, CATALOGUE).samples("gsm8k")
    assert [(one.grade, one.answer) for one in row.outputs] == [("not told", None)] * 3


def test_questions_without_hashes_are_not_taken_for_the_same(tmp_path: Path) -> None:
    path = changed_rows(write_output(tmp_path, {TASK: [[True], [False]]}), lambda row: row.pop("doc_hash"))
    assert submission(path, CATALOGUE).tasks[TASK].question_set == ""


def test_an_adapter_of_recovery_is_named_once(tmp_path: Path) -> None:
    path = write_output(tmp_path, {TASK: [[True]]}, dropped=[3])
    changed(path, lambda content: content["config"]["model_args"].update(peft="/home/someone/adapter"))
    assert submission(path, CATALOGUE).changed == {"peft": "adapter"}
    changed(path, lambda content: content["config"]["pruning"].update(recovered={"kind": "lora", "steps": 3}))
    run = submission(path, CATALOGUE)
    assert run.changed == {} and run.pruning is not None and run.pruning.recovered == '{"kind": "lora", "steps": 3}'


def test_samples_of_another_filter_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = changed_rows(write_output(tmp_path, {TASK: [[True]]}), lambda row: row.update(filter="other"))
    with caplog.at_level(logging.WARNING, "lm_eval.tts"):
        assert submission(path, CATALOGUE).samples == {}
    assert "contains no samples of filter answer" in caplog.text


@pytest.mark.parametrize(
    ("fields", "grades"),
    [
        ({"filtered_resps": [["B", "A", ""]], "target": "B"}, ["correct", "wrong", "no answer"]),
        ({"filtered_resps": [["42", "41", ""]], "acc": 1.0}, ["correct", "correct", "no answer"]),
        ({"filtered_resps": ["42", "41", "40"], "acc": 0.0}, ["wrong"] * 3),
        ({"filtered_resps": ["42", "41", "40"], "acc": 1 / 3}, ["not told"] * 3),
    ],
)
def test_grades_without_reasons_come_from_letters_or_scores(
    fields: dict[str, Any], grades: list[str], tmp_path: Path
) -> None:
    path = write_output(tmp_path, {"gsm8k": [[True, True, False]]})
    changed_rows(path, lambda row: row.update({**fields, "graded": None}))
    (row,) = task_rows(path, json_object(path, ResultsError), AccuracyKey("gsm8k", "answer", "acc"), CATALOGUE)
    assert [one.grade for one in row.outputs] == grades


BROKEN: list[Change] = [
    lambda content: content.update(results=[]),
    lambda content: content.update(results={TASK: None}),
    lambda content: content.update(results={TASK: {"acc,answer": True}}),
    lambda content: content.update(results={TASK: {"acc,answer": 17.0}}),
    lambda content: content.update(results={"../../x": content["results"][TASK]}),
    lambda content: content.update(config=None),
    lambda content: content["config"]["pruning"].update(kept_layers=10**400),
    lambda content: content["config"]["pruning"].update(dropped_layers=["x"]),
    lambda content: content["config"]["pruning"].update(dropped_layers=[7, 7]),
    lambda content: content["config"]["pruning"].update(merged_layers=[{"into": None, "layers": ["x"]}]),
    lambda content: content["config"]["pruning"].update(model_fingerprint="no hash"),
]
ODD: list[Change] = [
    lambda content: content.update({"n-samples": {TASK: [1]}, "n-shot": "x", "versions": [], "configs": None}),
    lambda content: content.update(group_subtasks=[1], task_hashes={TASK: "<b>"}, total_evaluation_time_seconds="x"),
    lambda content: content["results"][TASK].update({"other,answer": float("nan"), "more,answer": float("inf")}),
    lambda content: content["results"][TASK].update({"acc_stderr,answer": "N/A", "acc,answer": 1.0 + 1e-9}),
    lambda content: content["config"].update(generation={"a": None, "b": 10**400, "c": "x"}, model_args=7),
    lambda content: content["config"].update(random_seed=True, numpy_seed="x", model_dtype=None, gen_kwargs=[1]),
    lambda content: content["config"]["pruning"].update(layer_scores=[None, "x", 10**400], merged_layers="x"),
    lambda content: content["config"]["pruning"].update(parameters_after="many", method=None, source={"a": 1}),
    lambda content: content["config"].update(pruning=[], model=None, model_revision="x\ny\u2028z" * 99),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_what_no_run_gives_is_refused_in_a_line(number: int, tmp_path: Path) -> None:
    path = changed(write_output(tmp_path, {TASK: [[True]]}, dropped=[3], samples=False), BROKEN[number])
    with pytest.raises(ResultsError) as caught:
        submission(path, CATALOGUE)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("number", range(len(ODD)))
def test_what_is_odd_beside_the_scores_is_left_out(number: int, tmp_path: Path) -> None:
    path = changed(write_output(tmp_path, {TASK: [[True]]}, dropped=[3], samples=False), ODD[number])
    assert submission(path, CATALOGUE).tasks[TASK].accuracy.value == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(acc=True), "acc=True"),
        (lambda row: row.update(acc=None), "acc=None"),
        (lambda row: row.update(acc=1.5), "acc=1.5"),
        (lambda row: row.pop("doc_id"), "doc_id is missing"),
        (lambda row: row.update(doc_id=-1), "id=-1"),
        (lambda row: row.update(doc_id=[0] * 999), "id="),
        (lambda row: row.update(doc_id=0), "a question appears twice"),
    ],
)
def test_rows_that_no_run_gives_are_refused_in_a_line(change: Change, message: str, tmp_path: Path) -> None:
    path = changed_rows(write_output(tmp_path, {TASK: [[True], [True]]}), change)
    with one_line(ResultsError, message, "samples_tts"):
        submission(path, CATALOGUE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1]", "contains a list; expected an object"),
    ],
)
def test_lines_that_are_no_rows_are_refused_in_a_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = write_output(tmp_path, {TASK: [[True]]})
    next(tmp_path.glob("samples_*")).write_bytes(content)
    with one_line(ResultsError, match=f"jsonl: line 1: {message}"):
        submission(path, CATALOGUE)


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(resps=None, filtered_resps=7, graded="x"),
        lambda row: row.update(filtered_resps=[["\ud800"]], resps=[["\ud800\x00"]]),
        lambda row: row.update(arguments=[], target={"a": 1}, metrics=[1, None, "acc", "no such"]),
        lambda row: row.update(graded=["<b>"], doc_hash=None),
    ],
)
def test_rows_that_are_odd_beside_their_score_are_read(change: Change, tmp_path: Path) -> None:
    source = read_source(changed_rows(write_output(tmp_path, {TASK: [[True]]}), change), CATALOGUE)
    assert [row.score for row in source.samples(TASK)] == [1.0]
