"""`lm-eval-tts compare` on results folders: rows, verdicts and exit codes, refusals, pooled seeds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lm_eval_ext as tts
from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.errors import ResultsError
from tests.commands import cli
from tests.shared import ROOT

TASK = "tts_aime24_b1024"


def compare(*words: object, code: int) -> str:
    done = cli("compare", *words)
    assert done.exit_code == code, done.output
    return done.output


def model(folder: Path, accuracy: float, dropped: tuple[int, ...] = (), questions: int = 90, **more: Any) -> Path:
    tasks = {
        name: scores(accuracy * share, questions, 8, 1 + len(dropped))
        for name, share in {"tts_aime24_b256": 0.6, TASK: 0.9, "tts_aime24": 1.0}.items()
    }
    write_output(folder, tasks, dropped=dropped, **more)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("base"), 0.9)


def test_the_verdict_is_the_exit_code(base: Path, tmp_path: Path) -> None:
    same, worse = model(tmp_path / "same", 0.9, (3,)), model(tmp_path / "worse", 0.3, (3, 4))
    assert "verdict: kept" in compare(base, same, "--keep", 0.8, code=0)
    found = compare(base, worse, "--keep", 0.9, code=1)
    assert "verdict: lost" in found and "less than 90.0%" in found
    assert "verdict: undecided" in compare(base, same, "--keep", 0.99, code=3)
    assert "verdict" not in compare(base, worse, code=0)
    command = [str(Path(sys.executable).with_name("lm-eval-tts")), "compare", str(base), str(worse), "--keep", "0.9"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_only_the_unlimited_task_decides_unless_all_budgets_do(base: Path, tmp_path: Path) -> None:
    worse = tmp_path / "worse"
    tasks = {
        "tts_aime24_b256": scores(0.1, 90, 8, 2),
        TASK: scores(0.81, 90, 8, 2),
        "tts_aime24": scores(0.9, 90, 8, 2),
    }
    write_output(worse, tasks, dropped=(5,))
    found = compare(base, worse, "--keep", 0.8, code=0)
    assert "tts_aime24: kept down to 1,024 tokens" in found
    assert "tts_aime24_b256: lost" in compare(base, worse, "--keep", 0.8, "--all-budgets", code=1)


def test_without_a_benchmark_of_the_base_there_is_no_verdict(base: Path, tmp_path: Path) -> None:
    more = {name: scores(0.9, 90, 8, 1) for name in ("tts_aime24", "tts_aime25")}
    write_output(tmp_path / "base", more)
    refused = compare(tmp_path / "base", base, "--keep", 0.5, code=2)
    assert "has no results of tts_aime25, which the base has, so there is no verdict" in refused
    assert "verdict: kept" in compare(tmp_path / "base", base, "--keep", 0.5, "--on", "tts_aime24", code=0)
    assert "tts_aime24" in compare(tmp_path / "base", base, code=0)


def test_what_is_no_verdict_exits_with_2(base: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "results_2026-11-01T00-00-00.000000.json").write_text("{", encoding="utf-8")
    for words in (
        (base, tmp_path / "missing"),
        (base, broken),
        (base,),
        (),
        (base, base, "--keep", 2),
        (base, "--oops"),
    ):
        assert len(compare(*words, code=2).strip().splitlines()) <= 8
    assert "does not exist" in compare(base, tmp_path / "missing", code=2)


def test_a_folder_with_several_models_is_refused(base: Path, tmp_path: Path) -> None:
    model(tmp_path / "a", 0.5, (1,))
    model(tmp_path / "b", 0.5, (1, 2))
    found = compare(base, tmp_path, code=2)
    assert "holds 2 models" in found and "shortgpt -1" in found and "shortgpt -2" in found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"questions": 60}, "because of questions"),
        ({"grader": None}, "grader version"),
        ({"config": {"settings": {"protocol": "paper"}}}, "protocol: default and paper"),
        ({"config": {"settings": {"answer_token_budget": "64"}}}, "answer budget: 1024 and 64"),
        ({"config": {"settings": {"token_exact": "False"}}}, "token-exactness: True and False"),
    ],
    ids=["questions", "grader", "protocol", "answer budget", "token-exact"],
)
def test_results_that_cannot_be_compared_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    settings = {"protocol": "default", "answer_token_budget": "1024", "token_exact": "True"}
    model(tmp_path / "base", 0.9, config={"settings": settings})
    model(tmp_path / "other", 0.8, (3,), **change)
    assert said in compare(tmp_path / "base", tmp_path / "other", code=2)


def test_sampling_must_be_equal_unless_it_is_allowed(base: Path, tmp_path: Path) -> None:
    path = write_output(tmp_path, {TASK: scores(0.8, 90, 8)}, dropped=(3,))
    content = json.loads(path.read_text())
    content["configs"][TASK]["generation_kwargs"]["temperature"] = 0.6
    path.write_text(json.dumps(content))
    assert "sampling: temperature=1.0 and temperature=0.6" in compare(base, tmp_path, code=2)
    compare(base, tmp_path, "--allow", "sampling", code=0)
    allowed = "shots, grader, thinking budget, tokens in all, sampling, further generation arguments"
    assert f"allow=smapling; expected: {allowed}" in compare(base, tmp_path, "--allow", "smapling", code=2)


def test_other_templates_are_told_and_refused_on_request(tmp_path: Path) -> None:
    for name, template, dropped in (("base", "aa", ()), ("other", "bb", (3,))):
        model(tmp_path / name, 0.9, dropped, config={"settings": {"chat_template": template}})
    assert "chat template: aa and bb" in compare(tmp_path / "base", tmp_path / "other", code=0)
    assert "got different prompts" in compare(tmp_path / "base", tmp_path / "other", "--same-prompts", code=2)


def test_seeds_are_pooled_and_repetitions_count_once(base: Path, tmp_path: Path) -> None:
    for name, seed, luck in (("one", 0, 1), ("again", 0, 1), ("other", 7, 2)):
        write_output(tmp_path / name, {TASK: scores(0.6, 90, 8, luck)}, dropped=(3,), config={"torch_seed": seed})
    rows = tts.compare(base, tmp_path, on=["tts_aime24"]).rows
    assert [row.samples for row in rows] == [(8, 16)]
    alone = [sum(sum(some) / 8 for some in scores(0.6, 90, 8, luck)) / 90 for luck in (1, 2)]
    assert rows[0].candidate.estimate == pytest.approx(sum(alone) / 2)


def test_seeds_of_the_model_argument_are_pooled_and_greedy_repetitions_are_one(base: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        settings = {"settings": {"seed": str(seed)}}
        write_output(tmp_path / "two" / str(seed), {TASK: scores(0.6, 90, 8, seed)}, dropped=(3,), config=settings)
    assert tts.compare(base, tmp_path / "two").rows[0].samples == (8, 16)
    for name, dropped in (("greedy", ()), ("other", (3,))):
        path = write_output(tmp_path / name, {TASK: [[True] * 4, [False] * 4] * 20}, dropped=dropped)
        content = json.loads(path.read_text())
        content["configs"][TASK]["generation_kwargs"] = {"do_sample": False, "temperature": 1.0}
        path.write_text(json.dumps(content))
    assert tts.compare(tmp_path / "greedy", tmp_path / "other").rows[0].samples == (1, 1)


def test_a_row_whose_score_of_guessing_is_unknown_decides_nothing(tmp_path: Path) -> None:
    for name, dropped in (("base", ()), ("other", (3,))):
        path = write_output(tmp_path / name, {"stock_choice": scores(0.9, 300, 4)}, dropped=dropped)
        content = json.loads(path.read_text())
        del content["results"]["stock_choice"]["graded,answer"]
        path.write_text(json.dumps(content))
    found = compare(tmp_path / "base", tmp_path / "other", "--keep", 0.5, code=3)
    assert "not measurable, because the score of guessing is not known" in found and "left out" in found


def test_the_score_of_guessing_is_taken_off(tmp_path: Path) -> None:
    for name, accuracy, dropped in (("base", 0.8, ()), ("other", 0.52, (3,)), ("guesser", 0.25, (3, 4))):
        path = write_output(tmp_path / name, {"tts_gpqa_diamond": scores(accuracy, 198, 4)}, dropped=dropped)
        content = json.loads(path.read_text())
        content["configs"]["tts_gpqa_diamond"]["metadata"]["chance"] = 0.25
        path.write_text(json.dumps(content))
    (row,) = tts.compare(tmp_path / "base", tmp_path / "other").rows
    above = (row.candidate.estimate - 0.25) / (row.base.estimate - 0.25)
    assert row.kept is not None and row.kept.estimate == pytest.approx(above)
    found = compare(tmp_path / "guesser", tmp_path / "other", "--keep", 0.9, code=3)
    assert "not measurable, because the base is not above guessing" in found and "left out" in found


def test_gains_from_thinking_and_from_votes(base: Path, tmp_path: Path) -> None:
    tasks = {"tts_aime24_b256": scores(0.3, 90, 8, 3), "tts_aime24": scores(0.3, 90, 8, 3)}
    write_output(tmp_path, tasks, dropped=(3,))
    (gain,) = tts.compare(base, tmp_path).gains
    assert (gain.benchmark, gain.what) == ("tts_aime24", "256 tokens to no limit")
    assert gain.base.low > 0 and gain.candidate.estimate == 0 and gain.difference.high < 0
    assert gain.difference.estimate == pytest.approx(gain.candidate.estimate - gain.base.estimate)


def test_what_an_answer_costs(tmp_path: Path) -> None:
    sizes = {"active_parameters": 1e9, "attention_heads": 4, "head_size": 64, "kv_heads": 2, "kv_element_bytes": 2}
    for name, dropped, layers in (("base", (), 12), ("other", (3,), 11)):
        costs = sizes | {"layers": layers}
        path = write_output(tmp_path / name, {TASK: scores(0.8, 30, 2)}, dropped=dropped, config={"costs": costs})
        content = json.loads(path.read_text())
        content["results"][TASK]["answer_tokens,answer"] = 88.0
        path.write_text(json.dumps(content))
    comparison = tts.compare(tmp_path / "base", tmp_path / "other")
    base, other = comparison.costs[TASK]
    assert base.tokens == other.tokens == 12 + 88
    assert base.flops == 2 * 1e9 * 100 + 12 * 4 * 4 * 64 * sum(range(1, 101))
    assert base.cache_bytes == 12 * 2 * 2 * 64 * 2 * 100
    assert other.flops is not None and other.flops < base.flops
    assert "200G, 200G" in str(comparison) and comparison.to_frame()["base_tokens"].tolist() == [100]


def test_json_html_frame_and_file(base: Path, tmp_path: Path) -> None:
    other = model(tmp_path / "other", 0.5, (3,))
    (tmp_path / "compare.yaml").write_text(f"base: {base}\ncandidate: other\nkeep: 0.9\n", encoding="utf-8")
    compare("--config", tmp_path / "compare.yaml", "--json", tmp_path / "c.json", "--html", tmp_path / "c.html", code=1)
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["verdict"] == "lost" and found["rows"][0]["base"].keys() == {"estimate", "low", "high"}
    assert "Verdict: <strong>lost</strong>" in (tmp_path / "c.html").read_text()
    for written, code in (("on: [tts_aime24]\nsame_prompts: on", 1), ("on: [tts_math500]", 2)):  # YAML 1.1's truth
        content = f"base: {base}\ncandidate: other\nkeep: 0.9\n{written}\n"
        (tmp_path / "compare.yaml").write_text(content, encoding="utf-8")
        compare("--config", tmp_path / "compare.yaml", code=code)
    comparison = tts.compare(base, other)
    assert "<table" in comparison._repr_html_() and len(comparison.to_frame()) == 3
    (tmp_path / "whole.yaml").write_text(
        f"base: {base}\ncandidate: other\non: tts_aime24\nkeep: 0.9\njson: own.json\nhtml: own.html\n", encoding="utf-8"
    )
    compare("--config", tmp_path / "whole.yaml", code=1)
    assert {row["benchmark"] for row in json.loads((tmp_path / "own.json").read_text())["rows"]} == {"tts_aime24"}
    assert "lost" in (tmp_path / "own.html").read_text()
    assert "lost" in compare("--config", tmp_path / "whole.yaml", "--keep", 0.95, "--html", tmp_path / "x.html", code=1)
    assert (tmp_path / "x.html").is_file()
    (tmp_path / "plan.yaml").write_text(f"base: {base}\nkeep: 0.9\nplan: true\n", encoding="utf-8")
    assert "to show that 90.0% of its accuracy is kept" in compare("--config", tmp_path / "plan.yaml", code=0)
    (tmp_path / "typo.yaml").write_text(f"base: {base}\ncandidate: other\nkeeps: 0.9\n", encoding="utf-8")
    assert "typo.yaml: keeps: unknown field; did you mean keep?" in compare("--config", tmp_path / "typo.yaml", code=2)
    (tmp_path / "number.yaml").write_text(f"base: {base}\ncandidate: 5\n", encoding="utf-8")
    assert "number.yaml: candidate=5: expected a path" in compare("--config", tmp_path / "number.yaml", code=2)


def test_several_candidates_stand_side_by_side(base: Path, tmp_path: Path) -> None:
    folders = [model(tmp_path / str(layer), 0.7 + 0.1 * layer, (layer,)) for layer in range(2)]
    found = compare(base, *folders, "--keep", 0.9, "--html", tmp_path / "page.html", code=1)
    assert (tmp_path / "page.html").read_text("utf-8").count("<html") == 1
    assert found.count("candidate:") == 2 and "2 candidates, share of the base's accuracy" in found


def test_a_plan_says_what_thirty_questions_cannot_show(tmp_path: Path) -> None:
    write_output(tmp_path / "30", {"tts_aime24": scores(0.7, 30, 8)})
    found = compare(tmp_path / "30", "--plan", "--keep", 0.95, code=0)
    power = float(found.partition("with a probability of ")[2].partition("%")[0])
    assert power < 15, "thirty questions can't show .95"


def test_results_without_samples_say_what_is_missing(base: Path, tmp_path: Path) -> None:
    write_output(tmp_path, {TASK: scores(0.8, 90, 8)}, dropped=(3,), samples=False)
    assert "have no samples" in compare(base, tmp_path, "--keep", "0.9", code=2)
    with pytest.raises(ResultsError, match="--log_samples"):
        tts.compare(base, tmp_path, keep=0.9)
    assert " unpaired " in compare(base, tmp_path, code=0)


def test_the_how_to_shows_what_the_command_prints() -> None:
    """Every line of its output blocks, on the published runs of the embedded model."""
    runs = ROOT / "leaderboard" / "results" / "tiny-chain"
    base, candidate = (runs / f"tiny-chain-{name}" for name in ("dense-fc97c339", "shortgpt-1-889a765b"))
    printed = "\n".join(
        compare(base, candidate, "--keep", 0.9, "--on", on, code=code)
        for on, code in (("tts_chain", 1), ("tts_chain_short", 0))
    )
    page = (ROOT / "docs" / "howto" / "compare.md").read_text("utf-8")
    page = re.sub(r"^```\w+\n.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    shown = [line for block in blocks for line in block.splitlines() if line]
    assert len(shown) > 30 and [line for line in shown if line not in printed.splitlines()] == []
