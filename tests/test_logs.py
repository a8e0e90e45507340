"""Logs of other tools: what is read of them, and what is unknown."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.api import build_site, compare, read_runs
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from tests.foreign_logs import (
    INTEROP,
    LEGACY,
    QUESTIONS,
    RIGHT,
    WRITERS,
    Content,
    answer,
    lm_eval_tts,
    put,
    read,
    write_inspect,
    write_legacy,
    write_lighteval,
    write_nemo,
    write_record,
)

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
