"""The smallest model that still reasons: the search by hand, the proof by simulation, and the way of a user."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from lm_eval_ext.errors import ArchitectureError, ArgumentError, ManifestError
from lm_eval_ext.gating.gate_report import BenchmarkVerdict, Candidate, GateReport
from lm_eval_ext.harness.prompts import TaskQuestion, task_prompts, task_questions
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.recipe import load_recipe
from lm_eval_ext.shrinking.search import SearchPoint, beam_search, front
from lm_eval_ext.shrinking.shrink import SearchResult, ShrinkStudy
from lm_eval_ext.shrinking.shrink_file import What, load_shrink
from lm_eval_ext.shrinking.shrink_report import FrontModel
from lm_eval_ext.shrinking.states import State, next_states, part_costs, without
from lm_eval_ext.shrinking.unseen import SeenQuestion, refuse_seen
from lm_eval_ext.statistics.betting import KeptTest
from lm_eval_ext.sweep.locks import hold
from tests.checkpoints import LAYERS, write_checkpoint
from tests.commands import COMMAND, cli, run
from tests.shared import BASE_RUN, ROOT, case_table

KINDS: tuple[What, ...] = ("layers", "attention", "mlp")

# States -----------------------------------------------------------------------------------------------


def test_a_layer_without_both_blocks_is_dropped() -> None:
    assert State.of(attention=[1, 3], mlp=[3]) == State((3,), (1,), ())
    assert State.of(drop=[2], attention=[2, 1]) == State((2,), (1,), ())
    assert str(State.of([5, 2], [1], [0])) == "layers 2+5; attention 1; mlp 0" and str(State()) == "whole"


def test_every_step_takes_something_away_and_leaves_a_layer() -> None:
    assert set(next_states(State(), 2, KINDS)) == {
        State(drop=(0,)), State(drop=(1,)), State(attention=(0,)), State(attention=(1,)), State(mlp=(0,)),
        State(mlp=(1,)),
    }  # fmt: skip
    assert list(next_states(State(drop=(0,)), 2, KINDS)) == []
    assert State(drop=(1,)) in set(next_states(State(attention=(1,)), 3, ("attention", "mlp")))


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe", "gemma3_text"])
@pytest.mark.parametrize("state", [State((1, 4)), State((2,), (3,), (0, 5)), State((), (0, 1), ())], ids=str)
def test_a_state_computes_and_costs_what_its_model_does(kind: str, state: State, tmp_path: Path) -> None:
    folder = write_checkpoint(kind, tmp_path / kind)
    config = AutoConfig.from_pretrained(folder)
    whole = load_pruned(str(folder), config, range(LAYERS), dtype="auto").eval()
    kept = [layer for layer in range(LAYERS) if layer not in state.drop]
    model = load_pruned(str(folder), config, kept, blocks=state.blocks, dtype="auto").eval()
    ids = torch.arange(3, 35)[None]
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits
        before = whole(input_ids=ids, use_cache=False).logits
        with without(whole, state):
            torch.testing.assert_close(whole(input_ids=ids, use_cache=False).logits, expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(whole(input_ids=ids, use_cache=False).logits, before)
    parameters = sum(int((value != 0).sum()) for value in model.parameters())
    assert part_costs(whole, "parameters", 10).of(state) == parameters
    assert part_costs(whole, "bytes", 10).of(state) == sum(value.nbytes for value in model.parameters())
    assert part_costs(whole, "layers", 10).of(state) == len(kept)
    flops = part_costs(whole, "flops", 10)
    assert flops.of(state) < flops.of(State()) and flops.of(state) < part_costs(whole, "flops", 20).of(state) / 2


# Search -----------------------------------------------------------------------------------------------


def searched(harm: Mapping[int, float], beam: int) -> list[SearchPoint[frozenset[int]]]:
    """A search in which each thing that is taken away costs 1, and does harm by itself."""

    def steps(gone: frozenset[int]) -> list[frozenset[int]]:
        return [gone | {one} for one in harm if one not in gone]

    return beam_search(
        frozenset(), steps, lambda gone: 10 - len(gone), lambda gone: sum(harm[one] for one in gone), beam=beam, worst=3
    )


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=6, unique=True), st.integers(1, 3))
def test_what_does_harm_by_itself_is_found_in_order(harms: list[float], beam: int) -> None:
    found = searched(dict(enumerate(harms)), beam)
    best = {len(one.candidate): one for one in front(found, 100, 3)}
    for count, one in best.items():
        assert one.bits == pytest.approx(sum(sorted(harms)[:count]))
    assert len(found) == len({one.candidate for one in found}), "nothing is scored twice"


scores = st.lists(st.tuples(st.integers(1, 30), st.floats(0, 2)), min_size=1, max_size=30)


@given(scores, st.integers(1, 8))
def test_a_front_has_no_better_ones(pairs: list[tuple[int, float]], most: int) -> None:
    given_scores = [SearchPoint(number, cost, bits) for number, (cost, bits) in enumerate(pairs)]
    whole, found = front(given_scores, 100, 1.0), front(given_scores, most, 1.0)
    alive = [one for one in given_scores if one.bits < 1]
    for one in whole:
        assert not any(
            (a.cost <= one.cost and a.bits < one.bits) or (a.cost < one.cost and a.bits <= one.bits) for a in alive
        )
    assert len(found) == min(most, len(whole)) and set(found) <= set(whole)
    assert not whole or found[-1] == whole[-1], "the smallest one stays"
    assert [one.cost for one in found] == sorted((one.cost for one in found), reverse=True)


# The proof --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [0.05, 0.5])  # at one half, a proof that went on after a failure would show
def test_the_error_holds_for_the_whole_search(error: float, tmp_path: Path) -> None:
    """Two hundred searches in which each model of the front keeps exactly what is not enough: the border."""
    keep, chance, accuracy = 0.9, 0.1, 0.8
    border = chance + keep * (accuracy - chance)
    numbers, wrong = np.random.default_rng(5), 0

    def run(one: FrontModel) -> GateReport:
        test = KeptTest(keep=keep, chance=chance)
        for solved, drawn in numbers.random((200, 2)):
            base = float(solved < accuracy)
            test.update(base * float(drawn < border / accuracy), base)
            if max(test.e_kept, test.e_lost) >= 2 / error:
                break
        alone: Any = "kept" if test.e_kept >= 2 / error else "undecided"
        candidate = Candidate(one.name, alone, alone, test.e_kept)
        return GateReport("g", keep, error, "new questions", "bytes", (candidate,), 100.0, 400.0)

    study = ShrinkStudy(written(tmp_path))
    searched = SearchResult("", "", 100.0, tuple(fronts(8)), ((100.0, 0.0),), 50, 0.0)
    for _ in range(200):
        wrong += study.proven(searched, run).smallest is not None
    assert wrong <= 200 * error


def fronts(count: int) -> list[FrontModel]:
    return [FrontModel(str(number), f"layers {number}", 90.0 - number, 0.1) for number in range(count)]


@pytest.mark.parametrize(
    ("verdicts", "smallest", "code"),
    [
        (("kept", "kept", "lost", "kept"), 1, 0),
        (("kept", "kept", "kept", "kept"), 3, 0),
        (("undecided", "kept", "kept", "kept"), None, 1),
        (("lost", "kept", "kept", "kept"), None, 1),
        (("failed", "kept", "kept", "kept"), None, 2),
        (("kept", "undecided", "kept", "kept"), 0, 0),
        (("check", "kept", "kept", "kept"), None, 2),
        (("kept", "check", "kept", "kept"), 0, 0),
    ],
)
def test_the_first_that_isn_t_kept_ends_the_proof(
    verdicts: Sequence[Any], smallest: int | None, code: int, tmp_path: Path
) -> None:
    asked: list[str] = []

    def run(one: FrontModel) -> GateReport:
        asked.append(one.name)
        verdict = verdicts[int(one.name)]
        alone: Any = {"failed": "undecided", "check": "kept"}.get(verdict, verdict)
        candidate = Candidate(one.name, verdict, alone, 1.0, failure="no memory" if verdict == "failed" else "")
        return GateReport("g", 0.95, 0.05, "new questions", "bytes", (candidate,), 100.0, 400.0)

    study = ShrinkStudy(written(tmp_path))
    found = study.proven(SearchResult("", "", 100.0, tuple(fronts(4)), ((100.0, 0.0), (90.0, 0.1)), 50, 0.0), run)
    assert found.exit_code == code and found.smallest == (None if smallest is None else found.front[smallest])
    ended = next((place for place, verdict in enumerate(verdicts) if verdict != "kept"), len(verdicts) - 1)
    assert asked == [str(number) for number in range(ended + 1)]
    assert [one.verdict for one in found.front[ended + 1 :]] == [""] * (3 - ended)
    assert "with a probability of at most 5%" in str(found)
    if {"failed", "check"} & set(verdicts):
        assert ("smallest version so far" if code == 0 else "Nothing can be said of versions smaller") in str(found)


def test_proofs_on_the_same_questions_are_counted(tmp_path: Path) -> None:
    def run(one: FrontModel) -> GateReport:
        return GateReport("g", 0.95, 0.05, "new questions", "bytes", (Candidate(one.name, "lost", "lost", 0.0),), 9, 9)

    said = []
    short = {"chain_short_b128": "critical"}
    for count, fields in (
        (4, {}), (4, {}), (3, {}), (3, {"keep": 0.7}), (3, {"seed": 1}), (3, {"limit": 24}),
        (3, {"benchmarks": short | {"chain_b128": "critical"}}), (3, {"benchmarks": {"chain_b64": "critical"}}),
    ):  # fmt: skip
        study = ShrinkStudy(written(tmp_path, gate={"benchmarks": short, "keep": 0.6} | fields))
        searched = SearchResult("", "", 100.0, tuple(fronts(count)), ((100.0, 0.0),), 50, 0.0)
        study.count_proof(searched)
        said.append(study.proven(searched, run))
    assert [one.proofs for one in said] == [1, 1, 2, 3, 4, 5, 6, 1], "the same one goes on; other questions are new"
    assert "This is proof" not in str(said[1]) and "at most 5%" in str(said[1])
    assert "This is proof 3 on the same questions" in str(said[3]) and "at most 15%" in str(said[3])


@pytest.mark.parametrize(("kept", "code"), [(0, 2), (1, 0)])
def test_hours_that_end_within_a_gate_are_no_finding(kept: int, code: int, tmp_path: Path) -> None:
    def run(one: FrontModel) -> GateReport:
        is_kept = int(one.name) < kept
        rest = (1.0, 1.0, None, 0, 9, 0, None, None, None, ())
        critical = BenchmarkVerdict("t", "critical", "kept", "decided", *rest)
        other = BenchmarkVerdict("u", "supporting", "undecided", "decided" if is_kept else "budget", *rest)
        alone: Any = "kept" if is_kept else "undecided"
        candidate = Candidate(one.name, alone, alone, 1.0, (critical, other))
        return GateReport("g", 0.95, 0.05, "new questions", "bytes", (candidate,), 100.0, 400.0)

    study = ShrinkStudy(written(tmp_path))
    found = study.proven(SearchResult("", "", 100.0, tuple(fronts(4)), ((100.0, 0.0), (90.0, 0.1)), 50, 0.0), run)
    assert found.exit_code == code and found.ending == "budget"
    assert "until the budget was used up, so that smaller ones may be kept too" in str(found)
    assert ("The smallest version so far" if kept else "Nothing can be said") in str(found)


# The file ---------------------------------------------------------------------------------------------


def written(folder: Path, **fields: Any) -> Path:
    """A small search on the embedded model."""
    content = {
        "output": "out", "batch_size": 256, "base": "tiny-chain", "remove": {"attention": ["attention"]},
        "minimise": "parameters", "traces": {"run": str(BASE_RUN), "tasks": ["tts_chain_b128"], "count": 4},
        "gate": {"benchmarks": {"chain_short_b128": "critical"}, "keep": 0.6, "limit": 48},
        "search": {"beam": 1, "worst": 0.002, "front": 2}, **fields,
    }  # fmt: skip
    path = folder / "shrink.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}), "utf-8")
    return path


@pytest.mark.parametrize(("fields", "message"), case_table("wrong_manifests.yaml")["shrinks"])
def test_what_is_wrong_in_the_file_is_one_line(fields: Any, message: str, tmp_path: Path) -> None:
    fields = json.loads(json.dumps(fields).replace("BASE_RUN", str(BASE_RUN)))
    done = cli("shrink", written(tmp_path, **fields))
    assert done.exit_code == 2, done.output
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("lm-eval-tts: ") and message in said, said


def test_paths_are_those_of_the_folder_and_joint_chooses_both(tmp_path: Path) -> None:
    launch = {"slurm": {"template": "job.sh"}}
    file = load_shrink(written(tmp_path, launch=launch, remove={"attention": [], "mlp": ["joint"]}))
    assert file.launch.slurm.template == str(tmp_path / "job.sh") and file.remove.methods("mlp") == ("joint",)


@pytest.mark.parametrize(
    ("template", "refused"),
    [("[INST] {} [/INST]", True), ("USER: {} ASSISTANT:", True), ("Do the sum. {}", True), ("{}0", False)],
)
def test_a_question_of_the_gate_is_known_by_its_text(template: str, refused: bool, tmp_path: Path) -> None:
    """In traces of another tool, which say neither the row nor a task that is known here."""
    study = ShrinkStudy(written(tmp_path))
    first = task_prompts("tts_chain_short_b128", 1)[0].rstrip()
    questions = [SeenQuestion(template.format(first), "theirs", 0)]
    said = "traces: 1 of 1 are questions of the gate's tts_chain_short_b128"
    with pytest.raises(ManifestError, match=said) if refused else nullcontext():
        study._refuse_seen(questions, "traces")


@pytest.mark.parametrize(
    ("taught", "refused"),
    [
        ("Problem:\n{}\nSolution:", True), ("{} Let's think.", True), ("{}, and then?", True),
        ("Here is nothing that the benchmark asks.", False),
    ],
)  # fmt: skip
def test_a_question_in_words_is_known_without_its_template(taught: str, refused: bool, tmp_path: Path) -> None:
    """In texts for training: those of a file, which lies beside the YAML."""
    question = task_questions("tts_code_mini", 1)[0]
    (text,) = question.texts
    assert text != question.prompt and text in question.prompt
    (tmp_path / "taught.txt").write_text(taught.format(text))
    gate = {"benchmarks": {"tts_code_mini": "critical"}, "keep": 0.6}
    recover = {"data": "taught.txt", "steps": 1}
    path = written(tmp_path, recover=recover, gate=gate, run_untrusted_code=True)
    done = cli("shrink", path, "--dry-run")
    said = "recover.data: 1 of 1 are questions of the gate's tts_code_mini"
    assert (said in done.stderr) == refused and done.exit_code == (2 if refused else 0), done.output


STEM, OPTIONS = "Which of the following statements is true?", ("Water is dry.", "Fire is hot.")


@pytest.mark.parametrize(
    ("prompt", "refused"),
    [
        (f"Q: {STEM}\n(1) Fire is hot.\n(2) Water is dry.", True), (f"Q: {STEM}\n(1) Ice is cold.\n(2) All.", False),
        ("A passage that many share. And a question.", False),
    ],
)  # fmt: skip
def test_what_questions_share_tells_none(prompt: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        TaskQuestion(f"{STEM}\nA. Water is dry.\nB. Fire is hot.\nAnswer:", "1", (STEM, *OPTIONS)),
        TaskQuestion("A passage that many share.\nOne?", "2", ("A passage that many share.",)),
        TaskQuestion("A passage that many share.\nTwo?", "3", ("A passage that many share.",)),
    ]
    read: list[str] = []

    def questions(task: str, count: int | None = None) -> list[TaskQuestion]:
        read.append(task)
        if task != "gate":
            raise ArgumentError(f"task:{task}: unknown")
        return asked

    monkeypatch.setattr("lm_eval_ext.shrinking.unseen.task_questions", questions)
    seen = [SeenQuestion(prompt, "theirs", number, "hash") for number in range(3)]
    with pytest.raises(ManifestError, match="3 of 3 are questions") if refused else nullcontext():
        refuse_seen(["gate"], [*seen], "x")
    assert read == ["theirs", "gate"], "what isn't known isn't looked for again"
    refuse_seen(["gate"], [SeenQuestion("nothing", "s1k-chat", 0)], "x")
    assert read[2:] == ["gate"], "nor where it can't be"


# As a user does it ------------------------------------------------------------------------------------


def test_from_a_file_to_a_recipe_and_again(tmp_path: Path) -> None:
    path, results = written(tmp_path), tmp_path / "results.json"
    planned = cli("shrink", path, "--dry-run")
    assert planned.exit_code == 0 and "attention step by step" in planned.output, planned.output
    early = cli("shrink", path, "--status")
    assert early.exit_code == 2 and "the search isn't finished" in early.output
    done = cli("shrink", path, "--json", results, "--html", tmp_path / "a.html")
    assert done.exit_code == 0, done.output
    content = json.loads(results.read_text())
    recipe = load_recipe(str(tmp_path / "out" / "smallest.yaml"))
    assert recipe.drop_attention and recipe.base == "tiny-chain" and recipe.method == "shrink"
    assert content["smallest"]["what"] in done.output and content["smallest"]["verdict"] == "kept"
    assert "without decoding" in done.output and "<svg" in (tmp_path / "a.html").read_text()
    texts = (tmp_path / "out" / "traces.jsonl").read_text().splitlines()
    assert len(texts) == 4, "methods are calibrated on the traces that were checked, and on nothing else"
    written(tmp_path, gate={"benchmarks": {"chain_short_b128": "critical"}, "keep": 0.999, "limit": 48})
    other = cli("shrink", path, "--status")
    assert other.exit_code == 2 and "99.9%" not in other.output.partition("scored")[0], "that was never tested"
    assert "smallest.yaml" not in other.output
    written(tmp_path)
    for again in (["--status"], []):
        same = cli("shrink", path, *again)
        assert same.exit_code == 0 and same.stdout == done.stdout, same.output
    assert "blocks that are left out keep their weights" in done.output and "This is proof" not in done.output
    refused = written(tmp_path, search={"beam": 1, "worst": 1e-9, "front": 2})
    none = cli("shrink", refused)
    assert none.exit_code == 1 and "Nothing smaller than tiny-chain" in none.output, none.output
    assert not (tmp_path / "out" / "smallest.yaml").exists(), "that of the earlier search says nothing of this one"
    written(tmp_path)
    shutil.rmtree(tmp_path / "out" / "recipes")  # a recipe that is gone is written again
    (tmp_path / "out" / "search.json").unlink()
    same = cli("shrink", path)
    assert same.stdout == done.stdout and load_recipe(str(tmp_path / "out" / "smallest.yaml")) == recipe


def test_what_can_t_be_loaded_isn_t_proposed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A model without any attention, of the twelve blocks that there are."""
    path = written(tmp_path, remove={"attention": []}, search={"beam": 1, "worst": 1e9, "front": 40})
    study = ShrinkStudy(path)
    recipes = [load_recipe(str(study.recipe_of(one))) for one in study.searched().front]
    assert recipes and max(len(one.drop_attention) for one in recipes) <= 11
    assert "can't be loaded, so it isn't proposed: drop_attention: drops all 12 attention blocks" in caplog.text


def test_that_nothing_can_be_loaded_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ArchitectureError("its twin is another")

    monkeypatch.setattr("lm_eval_ext.shrinking.proposals.pruned_config", refuse)
    done = cli("shrink", written(tmp_path))
    assert done.exit_code == 2 and "no smaller version can be loaded: its twin is another" in done.stderr, done.output


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    lock = hold(tmp_path / "out" / "shrink.lock")
    assert lock is not None
    done = cli("shrink", written(tmp_path))
    os.close(lock)
    assert done.exit_code == 2 and "another process works on" in done.stderr.strip().splitlines()[-1], done.output


@pytest.mark.long
def test_what_a_budget_leaves_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, budget={"tokens": 1}, base={"pretrained": "tiny-chain", "dtype": "float32"})
    done = cli("shrink", path)
    assert done.exit_code == 0, done.output
    assert "The smallest version so far of tiny-chain" in done.output
    assert "until the budget was used up, so that smaller ones may be kept too" in done.output
    assert f"--model_args dtype=float32,recipe={tmp_path}/out/smallest.yaml --tasks tts_chain_short_b128" in done.output
    again = cli("shrink", path)
    assert again.stdout == done.stdout, "what was begun goes on, and nothing else"


def test_a_base_that_changes_in_place_is_read_and_trained_again(tmp_path: Path) -> None:
    model = Path(shutil.copytree(TINY_CHAIN, tmp_path / "model"))
    (tmp_path / "texts.txt").write_text("1 + 1\n\n2 + 2", "utf-8")
    recover = {"data": "texts.txt", "steps": 1, "learning_rate": 1e-9, "samples": 2, "batch_size": 2}
    path = written(tmp_path, base="model", traces={"tasks": ["tts_chain_b8"], "count": 4}, recover=recover)
    (one,) = fronts(1)

    def found() -> tuple[Path, Path]:
        study = ShrinkStudy(path)
        return study.traces_folder, study._trained_folder(one)

    before = found()
    assert before == found()
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"] *= 2
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    after = found()
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}", "utf-8")
    assert len({*before, *after, *found()}) == 6


@pytest.mark.long
def test_with_training_the_trained_model_is_proven_and_given(tmp_path: Path) -> None:
    recover = {"data": f"run:{BASE_RUN}", "steps": 1, "learning_rate": 1e-9, "samples": 4, "batch_size": 4}
    gate = {"benchmarks": {"chains_to_prove": "critical"}, "keep": 0.6, "limit": 48}
    chains = {"include_path": str(ROOT / "examples" / "chains"), "gate": gate}
    for lora in (False, True):
        (tmp_path / str(lora)).mkdir()
        path = written(tmp_path / str(lora), recover={**recover, "lora": lora}, **chains)
        done = cli("shrink", path, "--json", tmp_path / "found.json")
        assert done.exit_code == 0, done.output
        winner = json.loads((tmp_path / "found.json").read_text())["winner"]
        assert set(winner["arguments"]) == ({"recipe", "peft"} if lora else {"pretrained"}) and winner["recipe"] == ""
        folder = Path(winner["arguments"]["peft" if lora else "pretrained"])
        assert (folder / "adapter_config.json" if lora else folder / "config.json").is_file()
        assert "lm-eval-tts export" not in done.output and str(folder) in done.output


@pytest.mark.long
def test_killed_ten_times_it_finds_the_same_recipe(tmp_path: Path) -> None:
    recipes, generator = {}, random.Random(3)
    for name, kills in (("whole", 0), ("killed", 10)):
        (tmp_path / name).mkdir()
        path = written(
            tmp_path / name, remove={"attention": ["attention"], "mlp": []}, search={"worst": 0.01},
            include_path=str(ROOT / "examples" / "chains"), traces={"tasks": ["chains_to_trace"], "count": 8},
            gate={"benchmarks": {"chains_to_prove": "critical"}, "keep": 0.6, "limit": 96},
        )  # fmt: skip
        for _ in range(kills):
            started = subprocess.Popen([COMMAND, "shrink", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with suppress(subprocess.TimeoutExpired):
                started.wait(generator.uniform(4, 30))
            if started.poll() is None:
                below = psutil.Process(started.pid).children(recursive=True)
                started.kill()
                for one in below:
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
                started.wait()
        done = run(COMMAND, "shrink", path)
        assert done.returncode == 0, done.stderr
        recipes[name] = (tmp_path / name / "out" / "smallest.yaml").read_text("utf-8")
    assert recipes["killed"] == recipes["whole"]
