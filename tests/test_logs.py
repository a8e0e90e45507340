"""Logs of other tools: what is read of them, what is unknown, and that broken ones are one line."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]  # it has no types
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from benchmarks.lm_eval_output import scores, write_output
from benchmarks.smollm2 import HUB
from lm_eval_ext.api import build_site, compare, read_runs
from lm_eval_ext.cli import app
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import Source, load, read_source
from lm_eval_ext.runs.logs.log import normalised

QUESTIONS = (("q1", "What is 2+3?", "5"), ("q2", "What is 7*6?", "42"), ("q3", "What is 10-4?", "6"))
RIGHT = ((1, 0), (0, 0), (1, 1))  # by question and sample
Content = dict[str, Any]
INTEROP = HUB.parent / "interop"


def answer(question: int, sample: int) -> str:
    return f"The answer is {QUESTIONS[question][2] if RIGHT[question][sample] else 'unknown'}"


def inspect_log() -> Content:
    samples = [
        {
            "id": name, "epoch": epoch + 1, "input": text, "target": gold, "choices": None,
            "output": {"choices": [{"message": {"content": [
                {"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": answer(at, epoch)},
            ]}, "stop_reason": "stop"}]},
            "scores": {"match": {"value": "C" if RIGHT[at][epoch] else "I", "answer": answer(at, epoch)[14:]}},
        }
        for epoch in (1, 0) for at, (name, text, gold) in enumerate(QUESTIONS)
    ]  # fmt: skip
    return {
        "version": 2, "status": "success",
        "eval": {
            "created": "2026-11-27T15:24:13+01:00", "task": "sums", "model": "hf/acme/tiny", "config": {"epochs": 2},
            "dataset": {"name": "sums", "samples": 3}, "model_generate_config": {"temperature": 1.0, "top_p": 0.9},
            "packages": {"inspect_ai": "0.3.285"},
        },
        "plan": {"config": {"temperature": 0.6, "max_tokens": 64, "reasoning_tokens": 512}},
        "results": {
            "headline": {"scorer": "match"},
            "scores": [
                {"name": "other", "metrics": {"accuracy": {"value": 1.0}}},
                {"name": "match", "metrics": {"accuracy": {"value": 0.5}, "stderr": {"value": 0.2}}},
            ],
        },
        "samples": samples,
    }  # fmt: skip


def write_inspect(folder: Path, change: Callable[[Content], object] = lambda content: None) -> Path:
    content = inspect_log()
    change(content)
    return written(folder / "log.json", content)


def write_archive(folder: Path, change: Callable[[Content], object] = lambda content: None) -> Path:
    content = inspect_log()
    change(content)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in content.pop("samples", []):
            archive.writestr(f"samples/{sample.get('id')}_epoch_{sample.get('epoch')}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps(content))
    return folder / "log.eval"


def write_nemo(
    folder: Path, change: Callable[[Content], object] = lambda content: None,
    change_rows: Callable[[list[Content]], object] = lambda rows: None,
) -> Path:  # fmt: skip
    rows = [
        {
            "problem_idx": at, "repeat": repeat, "reward": float(RIGHT[at][repeat]), "prompt": f"Q: {text}",
            "model_response": answer(at, repeat), "extracted_answer": answer(at, repeat)[14:], "expected_answer": gold,
            "metadata": {"question": text, "answer": gold},
        }
        for at, (_, text, gold) in reversed(list(enumerate(QUESTIONS))) for repeat in (0, 1)
    ]  # fmt: skip
    change_rows(rows)
    content: Content = {
        "config_hash": "sha256:0", "sdk_version": "0.3.0", "timestamp": "2026-11-27T14:24:13+00:00",
        "config": {"model": "acme/tiny", "repeats": 2, "shuffle": {"ds_full_size": 6}},
        "benchmark": {"name": "sums", "samples": 3, "repeats": 2, "scores": {"pass@1": {"value": 0.5}}},
    }  # fmt: skip
    change(content)
    path = written(folder / "eval-1.json", content)
    (folder / "results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def write_lighteval(
    folder: Path, change: Callable[[Content], object] = lambda content: None,
    change_rows: Callable[[list[Content]], object] = lambda rows: None,
) -> Path:  # fmt: skip
    rows = [
        {
            "doc": {"query": f"Solve: {text}", "choices": [gold], "gold_index": 0, "id": str(at)},
            "metric": {"avg@n:n=2": sum(RIGHT[at]) / 2},
            "model_response": {"text": [answer(at, sample) for sample in (0, 1)], "output_tokens": [[1], [2]]},
        }
        for at, (_, text, gold) in enumerate(QUESTIONS)
    ]  # fmt: skip
    change_rows(rows)
    content: Content = {
        "config_general": {
            "lighteval_sha": "?", "model_name": "acme/tiny",
            "model_config": {"generation_parameters": {"temperature": 0.6, "top_p": None, "max_new_tokens": None}},
        },
        "config_tasks": {"sums|0": {"num_fewshots": 0, "generation_size": 64, "hf_repo": "acme/sums"}},
        "results": {
            "all": {"avg@n:n=2": 0.5},
            "sums|0": {"pass@k:k=2&n=2": 0.7, "avg@n:n=2": 0.5, "avg@n:n=2_stderr": 0.2},
        },
    }  # fmt: skip
    change(content)
    date = "2026-11-27T14-24-13.000001"
    details = folder / "details" / "acme" / "tiny" / date
    details.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), details / f"details_sums|0_{date}.parquet")
    return written(folder / "results" / "acme" / "tiny" / f"results_{date}.json", content)


def write_record(
    folder: Path, change: Callable[[Content], object] = lambda content: None,
    change_rows: Callable[[list[Content]], object] = lambda rows: None,
) -> Path:  # fmt: skip
    rows = [
        {
            "evaluation_name": "sums", "evaluation_result_id": "acc", "sample_id": name, "input": {
                "raw": text, "reference": [gold],
            }, "output": {"raw": [answer(at, 0)]}, "answer_attribution": [{"extracted_value": answer(at, 0)[14:]}],
            "evaluation": {"score": float(RIGHT[at][0]), "is_correct": bool(RIGHT[at][0])},
        }
        for at, (name, text, gold) in enumerate(QUESTIONS)
    ]  # fmt: skip
    change_rows(rows)
    content: Content = {
        "schema_version": "0.3.0", "evaluation_timestamp": "1795789453.0", "eval_library": {"name": "helm"},
        "model_info": {"id": "acme/tiny"},
        "evaluation_results": [
            {
                "evaluation_name": "sums", "evaluation_result_id": "acc", "source_data": {"samples_number": 3},
                "metric_config": {"metric_name": "acc", "max_score": 100},
                "score_details": {"score": 200 / 3, "uncertainty": {"standard_error": {"value": 20}}},
                "generation_config": {"generation_args": {"temperature": 0.6, "max_tokens": 64}},
            }
        ],
    }  # fmt: skip
    change(content)
    path = written(folder / "abc.json", content)
    (folder / "abc_samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def write_summary(folder: Path, change: Callable[[Content], object] = lambda content: None) -> Path:
    content: Content = {"score": 0.5, "metrics": {"score:std": 0.5}, "htmls": [""] * 8}
    content["convos"] = [[{"role": "user", "content": f"Question {number % 4}"}] for number in range(8)]
    change(content)
    return written(folder / "math_acme-tiny_20261127_142413_allresults.json", content)


def write_legacy(folder: Path, text: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.yml"
    path.write_text(text or LEGACY, "utf-8")
    return path


LEGACY = """config: {type: sums, params: {temperature: 0.6, max_new_tokens: 64, limit_samples: null}}
target: {api_endpoint: {model_id: acme/tiny}}
results: {tasks: {sums: {metrics: {acc: {scores: {acc: {value: 0.5, stats: {count: 3, stderr: 0.2}}}}}}}}
"""
WRITERS: dict[str, Callable[[Path], Path]] = {
    "inspect": write_inspect, "archive": write_archive, "nemo": write_nemo, "lighteval": write_lighteval,
    "record": write_record, "summary": write_summary, "legacy": write_legacy,
}  # fmt: skip


def written(path: Path, content: Content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def read(path: Path) -> Source:
    return read_source(path, read_catalogue(), logs=True)


# What is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "tool", "metric", "accuracy", "questions", "of", "repeats", "asked", "unknown"),
    [
        ("inspect", "inspect_ai", "accuracy", 0.5, 3, 3, 2,
         {"temperature": 0.6, "top_p": 0.9, "max_gen_toks": 64, "thinking_token_budget": 512}, {"shots"}),
        ("archive", "inspect_ai", "accuracy", 0.5, 3, 3, 2,
         {"temperature": 0.6, "top_p": 0.9, "max_gen_toks": 64, "thinking_token_budget": 512}, {"shots"}),
        ("nemo", "nemo-evaluator", "pass@1", 0.5, 3, 6, 2, {},
         {"temperature", "top_p", "max_gen_toks", "thinking_token_budget", "shots"}),
        ("lighteval", "lighteval", "avg@n:n=2", 0.5, 3, 3, 2, {"temperature": 0.6, "max_gen_toks": 64},
         {"top_p", "thinking_token_budget"}),
        ("record", "every-eval-ever", "acc", 2 / 3, 3, 3, 1, {"temperature": 0.6, "max_gen_toks": 64},
         {"top_p", "thinking_token_budget", "shots"}),
        ("summary", "simple-evals", "score", 0.5, 4, 4, 2, {},
         {"temperature", "top_p", "max_gen_toks", "thinking_token_budget", "shots"}),
        ("legacy", "nemo-evaluator", "acc", 0.5, 3, 3, 1, {"temperature": 0.6, "max_gen_toks": 64},
         {"top_p", "thinking_token_budget", "shots"}),
    ],
)  # fmt: skip
def test_a_log_is_read(
    kind: str, tool: str, metric: str, accuracy: float, questions: int, of: int, repeats: int, asked: Content,
    unknown: set[str], tmp_path: Path,
) -> None:  # fmt: skip
    source = read(WRITERS[kind](tmp_path))
    (task,) = source.run.tasks.values()
    assert (source.run.tool, source.run.base) == (tool, "acme-tiny" if kind == "summary" else "acme/tiny")
    assert source.run.date == ("" if kind == "legacy" else "2026-11-27T14:24:13Z")
    assert task.benchmark == ("math" if kind == "summary" else "sums")
    assert task.score == metric and task.accuracy.value == pytest.approx(accuracy)
    assert (task.questions, task.of, task.repeats) == (questions, of, repeats)
    assert task.generation_kwargs == asked
    assert set(task.unknown) == unknown | {"top_k", "min_p", "repetition_penalty"}


@pytest.mark.parametrize("kind", ["inspect", "archive", "nemo", "lighteval", "record"])
def test_every_answer_is_read_with_its_question(kind: str, tmp_path: Path) -> None:
    source = read(WRITERS[kind](tmp_path))
    rows = source.samples("sums")
    assert [row.score for row in rows] == list(source.run.tasks["sums"].scores)
    bare = {one.gold[0]: one.bare for one in source.asked("sums")}
    assert bare == {gold: text if kind in ("inspect", "archive", "nemo") else "" for _, text, gold in QUESTIONS}
    by_gold = {row.gold: row for row in rows}
    for at, (_, text, gold) in enumerate(QUESTIONS):
        row = by_gold[gold]
        assert text in (row.prompt or "")
        assert row.score == (RIGHT[at][0] if kind == "record" else sum(RIGHT[at]) / 2)
        samples = 1 if kind == "record" else 2
        assert [(output.text or "").removeprefix("<think>Hm.</think>") for output in row.outputs] == [
            answer(at, sample) for sample in range(samples)
        ]
        grades = ["correct" if RIGHT[at][sample] else "wrong" for sample in range(samples)]
        if kind == "lighteval" and sum(RIGHT[at]) == 1:
            grades = ["not told"] * 2  # it scores both together
        assert [output.grade for output in row.outputs] == grades


def test_options_are_known_by_their_text_because_tools_shuffle_them(tmp_path: Path) -> None:
    def two_orders(content: Content) -> None:
        for sample in content["samples"]:
            sample.update(target="B", choices=["no", str(sample["id"])])

    rows = read(write_inspect(tmp_path, two_orders)).samples("sums")
    assert {row.gold for row in rows} == {"q1", "q2", "q3"}


def test_two_logs_of_one_tool_pair_their_questions_in_any_order(tmp_path: Path) -> None:
    first = read(write_inspect(tmp_path / "a"))
    other = read(write_inspect(tmp_path / "b", lambda content: content["samples"].reverse()))
    assert first.run.tasks["sums"].question_set == other.run.tasks["sums"].question_set != ""
    assert first.run.tasks["sums"].scores == other.run.tasks["sums"].scores

    def another_gold(content: Content) -> None:
        for sample in content["samples"]:
            sample["target"] = "7" if sample["id"] == "q1" else sample["target"]

    third = read(write_inspect(tmp_path / "c", another_gold))
    assert third.run.tasks["sums"].question_set != first.run.tasks["sums"].question_set, "another gold answer"


def test_questions_that_cannot_be_told_apart_are_not_paired(tmp_path: Path) -> None:
    def alike(content: Content) -> None:
        for sample in content["samples"]:
            sample.update(input="Hm?", target="1")

    source = read(write_inspect(tmp_path, alike))
    assert source.run.tasks["sums"].question_set == ""


def test_epochs_that_a_converter_averaged_are_no_samples(tmp_path: Path) -> None:
    def averaged(rows: list[Content]) -> None:
        rows += [dict(row) for row in rows]
        for number, row in enumerate(rows):
            row["metadata"] = {"epoch": str(number // 3 + 1)}

    source = read(write_record(tmp_path, change_rows=averaged))
    assert source.run.tasks["sums"].scores == () and source.samples("sums") == []


def test_questions_that_do_not_yield_the_accuracy_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = read(write_nemo(tmp_path, change_rows=lambda rows: rows[0].update(reward=1.0 - rows[0]["reward"])))
    assert source.run.tasks["sums"].scores == ()
    assert "pass@1=0.5, but its 3 questions give" in caplog.text


# What is done with it -----------------------------------------------------------------------------------------


def lm_eval_tts(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output + (str(done.exception) if done.exception else "")


def test_show_says_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    for kind, write in WRITERS.items():
        write(tmp_path / kind)
    code, said = lm_eval_tts("results", "show", tmp_path)
    assert code == 0 and said.count("\n  sums: ") == 5 and said.count("\n  math: ") == 1
    assert "  inspect_ai 0.3.285, 2026-11-27: acme/tiny\n  sums: accuracy 50.0%" in said
    assert "3 of 6 questions x 2 samples" in said
    assert said.count("missing: scores of questions (a paired comparison, a verdict, diagnose)") == 2
    assert (
        "not recorded: top_p, top_k, min_p, repetition_penalty, thinking_token_budget (compare asks for --allow)"
        in said
    )


def test_what_is_not_recorded_is_equal_to_nothing(tmp_path: Path) -> None:
    base = write_nemo(tmp_path / "a")
    smaller = write_nemo(tmp_path / "b", lambda content: content["config"].update(model="acme/small"))
    code, said = lm_eval_tts("compare", base, smaller, "--keep", "0.9")
    assert code == 2
    for what in ("shots", "thinking budget", "sampling", "tokens in all"):
        assert f"{what}: not recorded in either" in said
    allowed = "shots,thinking budget,sampling,tokens in all"
    code, said = lm_eval_tts("compare", base, smaller, "--keep", "0.9", "--allow", allowed)
    assert code == 3 and "sums, budget not recorded: keeps 100.0%" in said and "kept down to" not in said


def test_another_grader_is_refused(tmp_path: Path) -> None:
    inspect, nemo = write_inspect(tmp_path / "a"), write_nemo(tmp_path / "b")
    code, said = lm_eval_tts("compare", inspect, nemo)
    assert code == 2 and "grader: inspect_ai and nemo-evaluator" in said


def test_what_would_say_of_it_what_it_does_not_refuses_it(tmp_path: Path) -> None:
    path = write_inspect(tmp_path)
    code, said = lm_eval_tts("results", "export", path, "--to", "csv", "--out", tmp_path / "out")
    assert code == 1 and "is a log of inspect_ai, which can't be used here; `results show` says" in said
    assert lm_eval_tts("leaderboard", "add", path, "--to", tmp_path / "published")[0] == 0
    for to in ("csv", "hub", "every-eval-ever"):
        code, said = lm_eval_tts("results", "export", tmp_path / "published", "--to", to, "--out", tmp_path / "out")
        assert code == 1 and f"is of inspect_ai; {to} would say of it what it does not record" in said


def test_the_leaderboard_shows_it_with_the_tools_name(tmp_path: Path) -> None:
    path = write_inspect(tmp_path / "log")
    code, said = lm_eval_tts("leaderboard", "add", path, "--to", tmp_path / "published")
    assert code == 0 and said.strip().endswith(": reported"), said
    (run,) = read_runs(tmp_path / "published")
    assert (run.tool, run.tier, run.tasks["sums"].accuracy.value) == ("inspect_ai", "reported", 0.5)
    assert "shots" in run.tasks["sums"].unknown
    code, said = lm_eval_tts("leaderboard", "check", tmp_path / "published", "--regrade")
    assert code == 0 and "1 runs; errors: 0" in said
    (again,) = read_runs(path)
    assert again.tasks == run.tasks, "a log and what is published of it are the same"
    ours = write_output(tmp_path / "ours", {"tts_math500": scores(0.5, 30, 3)}, base="hf/acme/tiny").parent
    site = build_site([tmp_path / "published", ours], tmp_path / "site").parent
    page = (site / "runs" / run.id / "index.html").read_text("utf-8")
    assert "Evaluated and scored by inspect_ai" in page and "<td>?</td>" in page and "<dt>Not recorded</dt>" in page
    start = (site / "index.html").read_text("utf-8")
    assert "by inspect_ai" in start and start.count('class="base"') == 2, "it is no run of ours"
    assert compare(path, tmp_path / "published").rows[0].base.estimate == 0.5


def named_gpqa(where: str) -> Callable[[Content], object]:
    """A change of a log of inspect, after which only one of its fields says that it is GPQA."""

    def change(content: Content) -> None:
        of = content["eval"]
        if where == "location":
            of["dataset"] |= {"name": "diamond", "location": "Idavidrein/gpqa"}
        else:
            of |= {where: {"subset": "gpqa_diamond"} if where == "task_args" else "gpqa/diamond"}

    return change


@pytest.mark.parametrize("where", ["task", "task_registry_name", "location", "task_args"])
def test_questions_of_a_gated_benchmark_are_not_published(where: str, tmp_path: Path) -> None:
    path = write_inspect(tmp_path / "log", named_gpqa(where))
    code, said = lm_eval_tts("leaderboard", "add", path, "--to", tmp_path / "published")
    assert code == 0, said
    (samples,) = (tmp_path / "published").rglob("*.jsonl.gz")
    text = gzip.decompress(samples.read_bytes()).decode()
    assert "What is" not in text and "answer" not in text and len(text.splitlines()) == 3
    site = build_site([path], tmp_path / "site").parent
    assert not any("What is 2+3" in one.read_text("utf-8", "ignore") for one in site.rglob("*") if one.is_file())


def test_a_gated_dataset_of_a_record_is_known_by_its_name(tmp_path: Path) -> None:
    path = write_record(tmp_path, lambda content: content["evaluation_results"][0].update(
        source_data={"dataset_name": "GPQA", "source_type": "other"}))  # fmt: skip
    (run,) = read_runs(path)
    assert all(task.gated for task in run.tasks.values())


def test_another_scorer_or_version_of_a_tool_is_another_grader(tmp_path: Path) -> None:
    def by_model(content: Content) -> None:
        for one in (*content["results"]["scores"], content["results"]["headline"]):
            for key in ("name", "scorer"):
                one[key] = "judge" if one.get(key) == "match" else one.get(key)
        for sample in content["samples"]:
            sample["scores"] = {"judge": sample["scores"]["match"]}

    base = write_inspect(tmp_path / "a")
    newer = write_inspect(tmp_path / "b", put("0.4.0", "eval", "packages", "inspect_ai"))
    allowed = "shots,sampling"
    for other, said in ((write_inspect(tmp_path / "c", by_model), "filter: match and judge"),
                        (newer, "grader version: 0.3.285 and 0.4.0")):  # fmt: skip
        code, found = lm_eval_tts("compare", base, other, "--allow", allowed)
        assert code == 2 and said in found, found
        code, found = lm_eval_tts("compare", base, other, "--allow", f"{allowed},grader")
        assert code == 0 and f"  {said}" in found, found


def test_solvers_and_arguments_of_a_task_are_what_was_asked(tmp_path: Path) -> None:
    def otherwise(content: Content) -> None:
        content["eval"]["task_args"] = {"fewshot": 8}
        content["plan"]["steps"] = [{"solver": "chain_of_thought"}, {"solver": "generate"}]

    found = read(write_inspect(tmp_path, otherwise)).run.tasks["sums"].generation_kwargs
    assert (found["solvers"], found["task_args"]) == (["chain_of_thought"], ["fewshot=8"])


def test_the_score_of_guessing_is_known_of_options_and_of_numbers_only(tmp_path: Path) -> None:
    def options(content: Content) -> None:
        for sample in content["samples"]:
            sample.update(choices=["a", "b", "c", "d"], target="A")

    def yes_or_no(content: Content) -> None:
        for sample in content["samples"]:
            sample["target"] = "Yes"

    for number, (change, chance) in enumerate(((options, 0.25), (yes_or_no, None), (lambda content: None, 0.0))):
        assert read(write_inspect(tmp_path / str(number), change)).run.tasks["sums"].chance == chance


def test_a_scorer_with_several_values_and_reducers(tmp_path: Path) -> None:
    def several(content: Content) -> None:
        content["results"] = {
            "headline": {"scorer": "check"},
            "scores": [
                {"name": "loose", "scorer": "check", "reducer": "max", "metrics": {"mean": {"value": 0.9}}},
                {"name": "strict", "scorer": "check", "reducer": "mean", "metrics": {"mean": {"value": 0.5}}},
            ],
        }
        for sample in content["samples"]:
            right = sample["scores"]["match"]["value"] == "C"
            sample["scores"] = {"check": {"value": {"loose": True, "strict": right}}}

    task = read(write_inspect(tmp_path, several)).run.tasks["sums"]
    assert (task.accuracy.value, task.score, task.filter, len(task.scores)) == (0.5, "mean", "check.strict", 3)


def test_thinking_that_is_off_is_no_budget(tmp_path: Path) -> None:
    task = read(write_inspect(tmp_path, put(0, "plan", "config", "reasoning_tokens"))).run.tasks["sums"]
    assert task.generation_kwargs["reasoning_tokens"] == 0 and "thinking_token_budget" in task.unknown


def test_a_number_of_questions_that_is_not_recorded(tmp_path: Path) -> None:
    def without_samples(content: Content) -> None:
        del content["samples"]
        content["eval"]["config"]["limit"] = 1000
        content["results"]["completed_samples"] = 6

    assert read(write_inspect(tmp_path / "a", without_samples)).run.tasks["sums"].questions == 3
    path = write_legacy(tmp_path / "b", LEGACY.replace("count: 3, stderr: 0.2", "stderr: 0.05"))
    task = read(path).run.tasks["sums"]
    assert (task.questions, "questions" in task.unknown) == (100, True), ".5 * .5 / .05^2"
    assert "an unknown number of questions x 1 sample" in lm_eval_tts("results", "show", path)[1]


def test_lightevals_averages_are_no_benchmarks_and_shots_are_part_of_a_name(tmp_path: Path) -> None:
    def more(content: Content) -> None:
        content["results"] |= {"sums:_average|0": {"em": 0.4}, "sums|5": {"em": 0.5}}
        content["config_tasks"]["sums|5"] = {"num_fewshots": 5}

    assert list(read(write_lighteval(tmp_path, more)).run.tasks) == ["sums-0shots", "sums-5shots"]


def test_what_did_not_end_is_left_out_beside_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_inspect(tmp_path / "good")
    write_inspect(tmp_path / "cut", put("cancelled", "status"))
    assert len(load([tmp_path], read_catalogue(), logs=True)) == 1 and "status='cancelled'" in caplog.text


# Broken ones --------------------------------------------------------------------------------------------------


def first(content: Content) -> Content:
    return content["samples"][0]  # type: ignore[no-any-return]


def drop(*path: str) -> Callable[[Content], object]:
    def change(content: Content) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def put(value: object, *path: str | int) -> Callable[[Any], object]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

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


# Real ones ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not INTEROP.is_dir(), reason=f"no logs of other tools at {INTEROP}")
def test_real_logs_of_every_tool_are_read() -> None:
    """Of the same three questions; lighteval's, inspect's and NeMo's answers differ."""
    found: dict[str, list[tuple[float, int, int]]] = {}
    for source in load([INTEROP], read_catalogue(), logs=True):
        for task in source.run.tasks.values():
            entry = round(task.accuracy.value, 3), task.questions, task.repeats
            found.setdefault(source.run.tool or "lm-eval", []).append(entry)
            own = sum(task.scores) / len(task.scores) if task.scores else task.accuracy.value
            assert own == pytest.approx(task.accuracy.value, abs=1e-3)
    assert {tool: sorted(entries) for tool, entries in found.items()} == {
        "every-eval-ever": [(0.0, 2, 1)] * 2 + [(0.333, 3, 1)] * 3 + [(0.333, 3, 2), (0.5, 2, 1)],
        "inspect_ai": [(0.333, 3, 2), (0.333, 3, 2), (0.5, 2, 2), (0.5, 2, 2)],
        "lighteval": [(0.5, 3, 2)], "lm-eval": [(0.0, 2, 1), (0.0, 2, 1), (0.333, 3, 1), (0.667, 3, 1)],
        "nemo-evaluator": [(0.333, 3, 1), (0.5, 3, 2)], "simple-evals": [(0.5, 3, 2)],
    }  # fmt: skip
