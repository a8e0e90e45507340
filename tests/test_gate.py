"""`lm-eval-tts gate` from the command line: on results that are there, and on models that it evaluates in blocks."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from typer.testing import Result

import lm_eval_ext as tts
from lm_eval_ext.gating.answers import Answers, Asked
from lm_eval_ext.gating.gate_report import GateReport
from lm_eval_ext.gating.gate_study import GateStudy
from lm_eval_ext.gating.standing import Policy, RowData, RowStanding
from lm_eval_ext.gating.verdicts import _better_evidence, _fixed, report
from lm_eval_ext.generation.request import Completion, Job, Stop
from lm_eval_ext.runs.literature import read_literature
from lm_eval_ext.statistics.betting import KeptTest
from tests.commands import COMMAND, LM_EVAL, Started, cli, run, started
from tests.fake_server import FakeServer, scripted
from tests.foreign_logs import write_inspect
from tests.shared import BASE_RUN, ROOT, case_table, results_in, samples_in
from tests.test_sweep_runs import family
from tests.test_sweep_slurm import slurm  # noqa: F401  # a fixture

PUBLISHED = BASE_RUN.parent
DENSE = {"results": str(BASE_RUN)}
CANDIDATES = {
    "again": "dense-f8024e2a", "int4": "quanto-8afbd44f", "attention": "attention-2-b8b8712d",
    "random": "random-1-c300a2c1", "last": "reverse-1-1179d63c", "shortgpt": "shortgpt-1-603da503",
}  # fmt: skip


def written(folder: Path, **fields: Any) -> Path:
    """A gate on published results, or on what is given."""
    results = {name: {"results": str(PUBLISHED / f"tiny-chain-{run}")} for name, run in CANDIDATES.items()}
    content = {"output": "out", "base": DENSE, "candidates": results, "benchmarks": {"chain_b128": "critical"}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gate.yaml"
    path.write_text(yaml.safe_dump({**content, **fields}, sort_keys=False))
    return path


def gate(path: Path, *options: str) -> Result:
    return cli("gate", path, *options)


# On results that are there ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_results(tmp_path_factory: pytest.TempPathFactory) -> GateReport:
    return tts.gate(written(tmp_path_factory.mktemp("gate")))


def test_verdicts_are_those_of_compare_where_both_decide(of_results: GateReport) -> None:
    assert of_results.verdicts == {
        "again": "kept", "int4": "kept", "attention": "kept", "random": "kept", "last": "lost", "shortgpt": "lost",
    }  # fmt: skip
    for name in ("again", "last"):
        whole = tts.compare(DENSE["results"], PUBLISHED / f"tiny-chain-{CANDIDATES[name]}", keep=0.9, on=["tts_chain"])
        assert whole.verdict == of_results.verdicts[name]
    assert of_results.exit_code == 1
    assert sum(row.units for one in of_results.candidates for row in one.rows) < 0.5 * 6 * 200


def test_lost_ones_are_lost_early_and_everything_is_said(of_results: GateReport) -> None:
    said = str(of_results)
    for one in of_results.candidates:
        (row,) = one.rows
        assert row.kept is not None and row.reason == "decided"
        if one.verdict == "lost":
            assert row.units < 40 and row.kept.high < 0.9 and one.rank is None
        else:
            assert row.kept.low >= 0.9 - 1e-3 and one.rank is not None and row.e_kept >= 120
        assert f"{one.name}, tts_chain_b128, on new questions: keeps" in said
    assert "corrected for 6 candidates" in said and "a test of a fixed size" in said
    assert "accuracy of" not in said, "an accuracy that was stopped early is biased"


def test_a_fixed_number_of_rounds_is_what_a_test_of_the_same_questions_takes() -> None:
    """Of questions that are all right or all wrong, one more round says nothing new."""
    units = 60
    draw = np.random.default_rng(0)
    skill = np.r_[np.full(20, 0.9), np.zeros(10)]  # whole questions are lost
    ours, theirs = (tuple(map(tuple, (draw.random((units, 30)) < p).astype(float))) for p in (skill, np.full(30, 0.9)))
    policy = Policy(0.72, 0.05, "these questions", {"task": "critical"}, 1)
    test = KeptTest(0.72)
    for number in range(units):
        test.update(ours[number], theirs[number])
    assert test.verdict == "lost"
    found = _fixed(policy, RowStanding("task", "critical", test, units), RowData(theirs, ours, units))
    assert found is not None

    def power(rounds: int) -> float:
        drawn, base = (draw.binomial(rounds, p, (20_000, 30)) / rounds for p in (skill, np.full(30, 0.9)))
        noise = (skill * (1 - skill) + 0.72**2 * 0.9 * 0.1).mean() / rounds / 30
        return float(((drawn - 0.72 * base).mean(1) + 1.96 * noise**0.5 < 0).mean())

    assert power(found - 4) < 0.8 < power(found + 4)


def test_ranks_are_by_cost_and_equals_are_ties(of_results: GateReport) -> None:
    ranks = {one.name: one.rank for one in of_results.candidates if one.rank}
    assert ranks == {"int4": 1, "random": 2, "again": 3, "attention": 3}
    table = of_results.to_frame()
    assert len(table) == 6 and set(table.verdict) == {"kept", "lost"}


@pytest.mark.parametrize("population", ["new questions", "these questions"])
def test_candidates_are_compared_on_the_questions_that_both_answered(population: Any) -> None:
    """Also if the one has fewer: the second answers all of its questions wrong, and the first lacks some of those."""

    unused: Any = None

    def answers(right: bool, questions: Iterable[int]) -> Answers:
        return Answers("t", {at: Asked("", right, (right,) * 12, 0, {}) for at in questions}, 20, unused, unused)

    found = {"first": {"t": answers(True, range(0, 20, 2))}, "second": {"t": answers(False, range(20))}}
    policy = Policy(0.9, 0.05, population, {"t": "critical"}, 2)
    study: Any = SimpleNamespace(answers=found.__getitem__, order=lambda task: [*range(19, -1, -1)], policy=policy)
    better, worse = _better_evidence(study, [("first", "second"), ("second", "first")])
    assert better > 40 and worse < 1


def test_files_for_ci(tmp_path: Path) -> None:
    names = {name: tmp_path / f"report.{name}" for name in ("json", "html", "junit", "markdown")}
    done = gate(written(tmp_path), *(word for name, path in names.items() for word in (f"--{name}", str(path))))
    assert done.exit_code == 1, done.output
    content = json.loads(names["json"].read_text())
    assert content["verdicts"]["last"] == "lost" and content["exit_code"] == 1
    page = names["html"].read_text()
    assert page.count("<svg") == 6 and "a verdict stands at 40" in page and "<script" not in page
    suite = ElementTree.fromstring(names["junit"].read_text().partition("?>")[2])
    assert suite.get("tests") == "6" and suite.get("failures") == "2" and len(suite.findall("testcase/failure")) == 2
    assert names["markdown"].read_text().startswith("### Gate gate: 4 kept, 2 lost\n")


def test_only_these_questions_are_asked_in_rounds(tmp_path: Path) -> None:
    some = {name: {"results": str(PUBLISHED / f"tiny-chain-{CANDIDATES[name]}")} for name in ("again", "last")}
    found = tts.gate(written(tmp_path, candidates=some, **{"for": "these questions"}))
    assert found.verdicts == {"again": "kept", "last": "lost"} and found.unit == "rounds"
    (row,) = found.candidates[1].rows
    assert row.total == 3 and "last, tts_chain_b128, on these questions" in str(found)


def test_one_candidate_needs_less_evidence_than_many(tmp_path: Path, of_results: GateReport) -> None:
    alone = tts.gate(written(tmp_path, candidates={"again": {"results": str(PUBLISHED / "tiny-chain-dense-f8024e2a")}}))
    (one,), among = alone.candidates, of_results.candidates[0]
    assert 40 <= one.e_kept < 120 <= among.e_kept and one.rows[0].units < among.rows[0].units


def test_a_gain_that_is_too_good_is_no_plain_kept(tmp_path: Path) -> None:
    worse, better = (PUBLISHED / f"tiny-chain-{name}" for name in ("reverse-1-1179d63c", "dense-fc97c339"))
    models = {"base": {"results": str(worse)}, "candidates": {"better": {"results": str(better)}}}
    done = gate(written(tmp_path, **models))
    assert done.exit_code == 3 and "kept (check the setup)" in done.output, done.output
    assert "is better than its base by more than chance; check the setup" in done.output
    assert gate(written(tmp_path, **models, accept_gains=True)).exit_code == 0


def test_supporting_benchmarks_may_be_lost_in_a_stated_number(tmp_path: Path) -> None:
    candidate = {"shortgpt": {"results": str(PUBLISHED / "tiny-chain-shortgpt-1-603da503")}}
    tiers = {"chain_short_b128": "critical", "chain_b128": "supporting"}
    strict = tts.gate(written(tmp_path, candidates=candidate, benchmarks=tiers))
    assert strict.verdicts == {"shortgpt": "lost"}
    lenient = tts.gate(written(tmp_path, candidates=candidate, benchmarks=tiers, supporting_may_lose=1))
    assert lenient.verdicts == {"shortgpt": "kept"}
    assert [row.verdict for row in lenient.candidates[0].rows] == ["kept", "lost"]
    shown = tts.gate(written(tmp_path, candidates=candidate, benchmarks={**tiers, "chain_b128": "advisory"}))
    assert shown.verdicts == {"shortgpt": "kept"}


def test_a_supporting_benchmark_that_is_not_over_leaves_it_undecided(tmp_path: Path, evaluated: Path) -> None:
    """Else a verdict would turn as the gate goes on."""
    content = yaml.safe_load(evaluated.read_text())
    content |= {"output": str(evaluated.parent / "out"), "budget": {"tokens": 6000}}
    content["benchmarks"]["chain_b128"] = "supporting"
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    found = report(GateStudy(tmp_path / "gate.yaml", keep=False))
    (middle,) = (one for one in found.candidates if one.name == "middle")
    assert middle.verdict == "undecided" and "middle, tts_chain_b128: nothing was asked yet" in str(found)


@pytest.mark.long
def test_results_of_fewer_questions_are_compared_on_those(tmp_path: Path) -> None:
    done = run(
        LM_EVAL, "--model", "pruned-hf", "--model_args", "pretrained=tiny-chain,drop_layers=[9,10,11],journal=off",
        "--tasks", "tts_chain_b128", "--limit", "40", "--batch_size", "64", "--seed", "0", "--log_samples",
        "--output_path", tmp_path / "some", OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = tts.gate(written(tmp_path, candidates={"some": {"results": str(tmp_path / "some")}}))
    (row,) = found.candidates[0].rows
    assert row.total == 40 and found.verdicts == {"some": "lost"}


def test_what_hardly_can_be_decided_stops(tmp_path: Path) -> None:
    candidate = {"again": {"results": str(PUBLISHED / "tiny-chain-dense-f8024e2a")}}
    found = tts.gate(written(tmp_path, candidates=candidate, keep=0.99))
    (row,) = found.candidates[0].rows
    assert found.exit_code == 3 and row.reason == "out of reach" and row.units < 200
    assert "it would hardly be decided within the rest" in str(found)


def test_a_base_far_from_its_published_score_is_no_measurement(tmp_path: Path) -> None:
    tier = {"tier": "critical", "published": {"score": 0.5, "source": "a table"}}
    done = gate(written(tmp_path, benchmarks={"chain_b128": tier}))
    assert done.exit_code == 2 and "is above its published 50.0% (a table) by more than" in done.output, done.output
    tier = {"tier": "critical", "published": {"score": 0.95, "source": "a table"}}
    assert gate(written(tmp_path, benchmarks={"chain_b128": tier})).exit_code == 1


def logged(folder: Path, right: Sequence[bool], **more: Any) -> dict[str, str]:
    """A log of inspect_ai, as a model of a gate; questions are in another order for each folder's name."""
    questions = list(range(len(right)))
    random.Random(folder.name).shuffle(questions)

    def change(content: dict[str, Any]) -> None:
        said = {"choices": [{"message": {"content": "Hm."}, "stop_reason": "stop"}]}
        content["samples"] = [
            {"id": f"{folder.name}{at}", "epoch": 1, "input": f"What is {at} plus {at * at}?", "output": said,
             "target": str(at + at * at), "choices": None,
             "scores": {"match": {"value": "C" if right[at] else "I", "answer": "1"}}}
            for at in questions
        ]  # fmt: skip
        content["results"]["scores"][1]["metrics"] = {"accuracy": {"value": sum(right) / len(right)}}
        content["eval"].update(dataset={"name": "sums", "samples": len(right)}, config={"epochs": 1}, **more)

    return {"results": str(write_inspect(folder, change))}


UNKNOWN = ["shots", "sampling", "thinking budget", "tokens in all"]


def test_logs_of_other_tools_decide_as_compare_does(tmp_path: Path) -> None:
    base = [at % 5 != 0 for at in range(400)]
    half = [one and at % 2 == 0 for at, one in enumerate(base)]
    whole = logged(tmp_path / "base", base)
    candidates = {
        "same": logged(tmp_path / "same", base, model="hf/acme/same"),
        "worse": logged(tmp_path / "worse", half, model="hf/acme/worse"),
    }
    models: dict[str, Any] = {"base": whole, "candidates": candidates, "benchmarks": {"sums": "critical"}}
    done = gate(written(tmp_path, **models))
    assert "sums: can't be compared with the base, because of shots: not recorded in either" in done.output, done.output
    found = tts.gate(written(tmp_path, **models, allow=UNKNOWN))
    assert found.verdicts == {"same": "kept", "worse": "lost"}, str(found)
    assert "allowed to differ: shots: not recorded in either" in str(found)
    rows = [row for one in json.loads(found.to_json())["candidates"] for row in one["rows"]]
    assert [row["tokens"] for row in rows] == [None, None]  # this log counts no tokens, which is not 0
    for name, verdict in found.verdicts.items():
        compared = tts.compare(whole["results"], candidates[name]["results"], keep=0.9, allow=UNKNOWN)
        assert compared.verdict == verdict
    other = logged(tmp_path / "other", base, model="hf/acme/other")
    path = Path(other["results"])
    path.write_text(path.read_text("utf-8").replace("plus", "minus"), "utf-8")
    done = gate(written(tmp_path, **{**models, "candidates": {"other": other}}, allow=UNKNOWN))
    assert "only 0 of 400 and 400 questions are the same" in done.output, done.output
    done = gate(written(tmp_path, **models, allow=["colour"]))
    assert done.exit_code == 2 and "allow.0: " in done.output and "\n" not in done.output.strip()


def test_a_log_and_models_that_the_gate_evaluates_have_other_numbers(tmp_path: Path) -> None:
    base = logged(tmp_path / "base", [True] * 10, task="tts_chain_b128")
    done = gate(written(tmp_path, base=base, candidates={"x": {"drop_layers": [3], "pretrained": "tiny-chain"}}))
    assert done.exit_code == 2 and "give results of both" in done.output, done.output


def test_the_literature_may_say_the_published_score(tmp_path: Path) -> None:
    tier = {"math500": {"tier": "critical", "published": "literature"}}
    models = {"base": "Qwen/Qwen3-8B", "candidates": {"smaller": "Qwen/Qwen3-4B"}}
    path = written(tmp_path, **{**MODELS, **models, "benchmarks": tier})
    said = GateStudy(path, keep=False).published("tts_math500")
    rows = [row for row in read_literature().rows if row.base == "Qwen/Qwen3-8B" and row.benchmark == "MATH500"]
    scores = [row.base_score.value / 100 for row in rows]
    assert said is not None and said.score - said.tolerance == pytest.approx(min(scores) - 0.05)
    assert said.score + said.tolerance == pytest.approx(max(scores) + 0.05) and rows[0].source.source in said.source
    done = gate(written(tmp_path, benchmarks={"chain_b128": tier["math500"]}))
    assert done.exit_code == 2 and "no source has a score of" in done.output and "\n" not in done.output.strip()


def test_a_task_file_may_say_the_published_score(tmp_path: Path) -> None:
    source = (ROOT / "tasks" / "chain" / "tts_chain.yaml").read_text()
    text = source.replace("include: _chain", f"include: {ROOT / 'tasks' / 'chain' / '_chain'}")
    text = text.replace("task: tts_chain", "task: tts_mine").replace(
        "metadata:", "metadata:\n  published: {tiny-chain: {score: 0.9, source: a table}}"
    )
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tts_mine.yaml").write_text(text)
    path = written(tmp_path, **{**MODELS, "benchmarks": {"mine": "critical"}, "include_path": "tasks"})
    said = GateStudy(path, keep=False).published("tts_mine")
    assert said is not None and (said.score, said.source, said.tolerance) == (0.9, "a table", 0.05)
    own = {"mine": {"tier": "critical", "published": {"score": 0.8, "source": "another"}}}
    path = written(tmp_path, **{**MODELS, "benchmarks": own, "include_path": "tasks"})
    said = GateStudy(path, keep=False).published("tts_mine")
    assert said is not None and said.score == 0.8


def test_other_questions_or_another_sampling_are_not_compared(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    for path in (PUBLISHED / "tiny-chain-dense-f8024e2a").rglob("*"):
        if path.is_file():
            (folder / path.relative_to(PUBLISHED)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(PUBLISHED)).write_bytes(path.read_bytes())
    changed = next(folder.rglob("run.json"))
    content = json.loads(changed.read_text())
    content["tasks"]["tts_chain_b128"]["generation_kwargs"]["temperature"] = 0.3
    changed.write_text(json.dumps(content))
    done = gate(written(tmp_path, candidates={"other": {"results": str(folder)}}))
    assert done.exit_code == 2 and "could not be evaluated" in done.output and "temperature=0.3" in done.output


@pytest.mark.parametrize(("fields", "said"), case_table("wrong_manifests.yaml")["gates"])
def test_a_wrong_file_is_one_line(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    done = gate(written(tmp_path, **fields))
    assert done.exit_code == 2 and said in done.output, done.output
    assert len(done.output.strip().splitlines()) == 1, done.output


def test_the_schema_knows_what_gates_say() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((ROOT / "lm_eval_ext" / "gating" / "schema.json").read_text())
    good = yaml.safe_load((ROOT / "examples" / "gate-tiny.yaml").read_text())
    jsonschema.validate(good, schema)
    for broken in ({"ouput": "x"}, {"keep": 2}, {"benchmarks": {"a": "vital"}}, {"base": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **broken}, schema)


def test_a_file_that_is_not_there_or_no_mapping_is_one_line(tmp_path: Path) -> None:
    done = gate(tmp_path / "gate.yaml")
    assert done.exit_code == 2 and "cannot be read" in done.output
    (tmp_path / "gate.yaml").write_text("- a\n")
    assert "contains list, not a mapping; fields: output" in gate(tmp_path / "gate.yaml").output


# On models that it evaluates ----------------------------------------------------------------------------------

MODELS: dict[str, Any] = {
    "base": "tiny-chain", "batch_size": 64, "block": 32, "benchmarks": {"chain_short_b128": "critical"},
    "candidates": {"middle": {"drop_layers": [6]}, "last-3": {"drop_layers": [9, 10, 11]}},
}  # fmt: skip


def process(path: Path, *options: str) -> Started:
    return started(COMMAND, "gate", path, *options)


def to_its_end(path: Path, *options: str) -> tuple[int, str, str]:
    done = process(path, *options)
    said, told = done.communicate()
    return done.wait(), said, told


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gate that has run to its end."""
    path = written(tmp_path_factory.mktemp("evaluated"), **MODELS)
    code, said, told = to_its_end(path, "--jobs", "2")
    assert code == 1, said + told
    return path


def verdicts(path: Path) -> dict[str, Any]:
    """What a gate has found, with the tokens that each verdict took."""
    found = report(GateStudy(path, keep=False))
    return {"tokens": found.tokens} | {
        one.name: (one.verdict, [(row.verdict, row.units, row.tokens, row.e_kept, row.e_lost) for row in one.rows])
        for one in found.candidates
    }


def test_models_are_evaluated_until_their_verdicts_stand(evaluated: Path) -> None:
    found = report(GateStudy(evaluated, keep=False))
    assert found.verdicts == {"middle": "kept", "last-3": "lost"}
    assert 0 < found.tokens < 0.6 * found.whole
    shown = gate(evaluated, "--status")
    assert shown.exit_code == 1 and shown.output.startswith("candidate")


def test_when_the_time_is_over_nothing_is_started(tmp_path: Path) -> None:
    code, said, told = to_its_end(written(tmp_path, **MODELS, budget={"hours": 1e-9}))
    assert code == 3 and "started" not in told, said + told
    assert said.count("nothing was asked yet, because the budget is used up") == 2, said


def test_what_is_done_is_not_done_again(evaluated: Path) -> None:
    code, said, told = to_its_end(evaluated)
    assert code == 1 and "started" not in told, told
    assert said == gate(evaluated, "--status").output


def test_another_benchmark_or_candidate_leaves_what_is_there(evaluated: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(evaluated.read_text())
    content["output"] = str(evaluated.parent / "out")
    content["benchmarks"]["chain_b128"] = "advisory"
    content["candidates"]["another"] = {"drop_layers": [5]}
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    before, after = verdicts(evaluated), verdicts(tmp_path / "gate.yaml")
    units = {name: [one[name][1][0][1] for one in (before, after)] for name in ("middle", "last-3")}
    assert all(first and first <= second for first, second in units.values()), "with one more, kept takes more evidence"


@pytest.mark.long
def test_a_block_that_was_cut_short_is_evaluated_again(evaluated: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", evaluated.parent, tmp_path / "gate"], check=True)
    path = tmp_path / "gate" / "gate.yaml"
    blocks = sorted((folder_of(GateStudy(path, keep=False), "middle") / "blocks").rglob("block_*.json"))
    blocks[0].write_text(blocks[0].read_text()[:1000])
    next(blocks[1].parent.glob("samples_*")).unlink()
    code, said, told = to_its_end(path)
    assert code == 1 and "middle: started" in told, said + told
    assert verdicts(path) == verdicts(evaluated)


def test_it_says_what_it_would_run(tmp_path: Path) -> None:
    done = gate(written(tmp_path, **MODELS), "--dry-run")
    assert done.exit_code == 0 and not (tmp_path / "out").exists()
    assert "middle: pruned-hf pretrained=tiny-chain,drop_layers=[6]" in done.output


def test_a_sample_is_that_of_a_whole_run_and_the_verdict_too(evaluated: Path, tmp_path: Path) -> None:
    folders = {}
    for name, arguments in (("base", ""), ("middle", ",drop_layers=[6]")):
        folders[name] = tmp_path / name
        done = run(
            LM_EVAL, "--model", "pruned-hf", "--model_args", f"pretrained=tiny-chain,journal=off{arguments}",
            "--tasks", "tts_chain_short_b128", "--seed", "0", "--batch_size", "256", "--output_path", folders[name],
            "--log_samples", OMP_NUM_THREADS="1",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    study = GateStudy(evaluated, keep=False)
    assert tts.compare(folders["base"], folders["middle"], keep=0.9).verdict == report(study).verdicts["middle"]
    for name, folder in folders.items():
        rows = {row["doc_id"]: row["resps"] for row in samples_in(folder)}
        (results,) = (folder_of(study, name) / "results").glob("results_*.json")
        asked = {row["doc_id"]: row["resps"] for row in samples_in(results.parent)}
        assert asked and asked == {number: rows[number] for number in asked}


def folder_of(study: GateStudy, name: str) -> Path:
    folder = study.folder_of(next(run for run in study.runs if run.name == name))
    assert folder is not None
    return folder


def test_what_was_stopped_early_is_never_taken_for_a_result(evaluated: Path, tmp_path: Path) -> None:
    study = GateStudy(evaluated, keep=False)
    folder = folder_of(study, "middle")
    content = results_in(folder)
    assert content["results"] == {"tts_chain_short_b128": {"alias": "tts_chain_short_b128"}}
    assert content["stopped_early"]["tts_chain_short_b128"]["of"] == 200
    commands: Iterable[list[str | Path]] = (
        ["compare", folder, folder], ["leaderboard", "build", folder, "-o", tmp_path / "site"],
        ["leaderboard", "add", folder, "--to", tmp_path / "published"], ["diagnose", folder],
        ["results", "export", folder, "--to", "csv", "--out", tmp_path / "csv"],
        ["compare", *[next(folder.rglob("block_*.json"))] * 2], ["leaderboard", "regrade", folder],
    )  # fmt: skip
    for command in commands:
        done = cli(*command)
        assert done.exit_code != 0 and "was stopped early by `lm-eval-tts gate`" in done.output, (command, done.output)
    both = tts.read_runs(BASE_RUN, folder)
    assert [run.id for run in both] == ["tiny-chain-dense-fc97c339"]


def test_a_token_budget_is_kept(tmp_path: Path, evaluated: Path) -> None:
    copied = evaluated.parent.parent / "budget"
    subprocess.run(["cp", "-r", evaluated.parent, copied], check=True)
    path = copied / "gate.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "budget": {"tokens": 1500}}))
    found = report(GateStudy(path, keep=False))
    assert found.verdicts == {"middle": "undecided", "last-3": "lost"}
    (row,) = next(one for one in found.candidates if one.name == "middle").rows
    assert row.reason == "budget" and "because the budget is used up" in str(found)


@pytest.mark.long
def test_a_candidate_that_cannot_be_loaded_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    candidates = {"missing": {"pretrained": "nobody/nothing"}, "last-3": {"drop_layers": [9, 10, 11]}}
    code, said, told = to_its_end(written(tmp_path, **{**MODELS, "candidates": candidates}), "--jobs", "2")
    assert code == 1 and "missing: could not be evaluated: " in said, said + told
    assert "last-3, tts_chain_short_b128, on new questions" in said


@pytest.mark.long
def test_interrupted_it_keeps_everything_and_goes_on(tmp_path: Path, evaluated: Path) -> None:
    path = written(tmp_path, **MODELS)
    running = process(path)
    while "middle: started" not in running.written()[1]:
        assert running.poll() is None
        time.sleep(0.05)
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate()
    assert running.returncode == 130 and "everything is kept, so run it again to go on" in told
    assert to_its_end(path)[0] == 1
    assert verdicts(path) == verdicts(evaluated)


@pytest.mark.long
def test_results_that_a_kill_left_unwritten_are_written_the_next_time(tmp_path: Path, evaluated: Path) -> None:
    """Nothing is evaluated for them: the blocks are there."""
    path = tmp_path / "gate.yaml"
    shutil.copytree(evaluated.parent, tmp_path, dirs_exist_ok=True)
    study = GateStudy(path, keep=False)
    written = {run.name: next(study.folder_of(run).glob("results/results_*.json")) for run in study.runs}
    before = {name: file.read_text() for name, file in written.items()}
    written["middle"].unlink()
    samples = next(written["middle"].parent.glob("samples_*.jsonl"))
    whole = samples.read_text()
    samples.write_text("")
    assert {run.name: study.found(run).state for run in study.runs}["middle"] == "waiting"
    code, _, told = to_its_end(path)
    assert code == 1 and "middle: done" in told and "last-3: started" not in told, told
    assert {name: file.read_text() for name, file in written.items()} == before and samples.read_text() == whole


@pytest.mark.long
@pytest.mark.parametrize("changed", [{"batch_size": 3}, {"batch_size": "auto"}])
def test_the_batch_size_changes_no_verdict(tmp_path: Path, evaluated: Path, changed: dict[str, Any]) -> None:
    path = written(tmp_path, **{**MODELS, **changed})
    assert to_its_end(path)[0] == 1
    assert verdicts(path) == verdicts(evaluated)


@pytest.mark.long
def test_rounds_of_the_same_questions(tmp_path: Path) -> None:
    fields = {**MODELS, "for": "these questions", "limit": 24, "rounds": 16, "gen_kwargs": {"temperature": 1.0}}
    path = written(tmp_path, **fields)
    assert to_its_end(path, "--jobs", "2")[0] == 1
    found = report(GateStudy(path, keep=False))
    assert found.verdicts == {"last-3": "lost", "middle": "kept"}
    assert [one.rows[0].total for one in found.candidates] == [16, 16] and found.candidates[1].rows[0].units <= 3


@pytest.fixture(scope="module")
def tiny_gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gate of the examples, which has run to its end undisturbed."""
    path = written(tmp_path_factory.mktemp("tiny"), **tiny())
    assert to_its_end(path)[0] == 1
    return path


def tiny() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "gate-tiny.yaml").read_text())
    return content | {"output": "out"}


def kill(path: Path, times: int, seconds: tuple[float, float]) -> None:
    """Start a gate so many times, and kill the command, its workers, one of them or all, after a random time."""
    chance = random.Random(7)
    for number in range(times):
        started = process(path, "--jobs", "2")
        time.sleep(chance.uniform(*seconds))
        alive = family(started.pid)
        for pid in [alive[:1], alive[1:], alive, alive[-1:], alive[1:2]][number % 5]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        started.kill()
        started.communicate()


@pytest.mark.long
def test_the_tiny_gate_killed_ten_times(tmp_path: Path, tiny_gate: Path) -> None:
    path = written(tmp_path, **tiny())
    kill(path, 10, (4.0, 40.0))
    assert to_its_end(path, "--jobs", "2")[0] == 1
    assert verdicts(path) == verdicts(tiny_gate)


@pytest.mark.long
def test_the_tiny_gate_agrees_with_compare_for_a_third_of_the_tokens(tmp_path: Path, tiny_gate: Path) -> None:
    study = GateStudy(tiny_gate, keep=False)
    found = report(study)
    assert found.tokens <= found.whole / 3, (found.tokens, found.whole)
    whole: dict[str, Path] = {}
    for model in study.runs:
        whole[model.name] = tmp_path / "whole" / model.name
        arguments = json.dumps({**model.arguments, "journal": "off"})
        done = run(
            LM_EVAL, "--model", "pruned-hf", "--model_args", arguments, "--batch_size", "256",
            "--tasks", "tts_chain_b128,tts_chain_short_b128", "--seed", "0", "--log_samples",
            "--output_path", whole[model.name], OMP_NUM_THREADS="1",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    decided = 0
    for one in found.candidates:
        for row in one.rows:
            compared = tts.compare(whole["base"], whole[one.name], keep=0.9, on=[row.task.removesuffix("_b128")])
            if row.verdict != "undecided" and compared.verdict != "undecided":
                decided += 1
                assert row.verdict == compared.verdict, (one.name, row.task)
    assert decided >= 12


@pytest.mark.long
def test_the_tiny_gate_through_servers_killed_ten_times(tmp_path: Path, tiny_gate: Path) -> None:
    fields = tiny()
    arguments: dict[str, dict[str, Any]] = {"base": {}, **fields.pop("candidates")}
    with ExitStack() as up:
        models: dict[str, dict[str, Any]] = {}
        for name, recipe in arguments.items():
            server = FakeServer(script=Decoder(tts.load(**recipe, batch_size=256, journal="off")), max_length=512)
            server.name = name
            up.enter_context(server)
            models[name] = {"base_url": f"{server.url}/v1", "model": name, "tokenizer": "tiny-chain"}
        base = models.pop("base")
        path = written(tmp_path, **fields | {"engine": "tts-server", "base": base, "candidates": models})
        kill(path, 10, (10.0, 40.0))
        code, said, told = to_its_end(path, "--jobs", "2")
        assert code == 1, said + told
    assert verdicts(path) == verdicts(tiny_gate)


def test_another_model_at_the_same_address_does_not_go_on(tmp_path: Path) -> None:
    def tell(tokens: int) -> str:
        path = written(tmp_path, **fields, budget={"tokens": tokens})
        return " ".join(to_its_end(path, "--jobs", "1")[1:])

    with FakeServer(max_length=512) as base, FakeServer(max_length=512) as other:
        models = [{"base_url": f"{one.url}/v1", "model": "m", "tokenizer": "tiny-chain"} for one in (base, other)]
        fields = {**MODELS, "engine": "tts-server", "base": models[0], "candidates": {"c": models[1]}, "block": 16}
        assert "after 16 of 200 questions" in tell(6000)
        other.script = partial(scripted, words=20)
        said = tell(20_000)
        assert "c: the server has another model than the one that has answered" in said
        assert len(list(tmp_path.glob("out/runs/c-*/blocks/*/*"))) == 1, "of the first model"
        other.script = scripted
        assert "another model" not in tell(20_000)


class Decoder:
    """A real model as the script of a fake server: requests in flight are decoded as one batch."""

    def __init__(self, model: Any) -> None:
        self._engine = model.decoding_engine(512, model.tokenizer.decode, lambda count: None)
        self._arrived: SimpleQueue[Job] = SimpleQueue()
        threading.Thread(target=self._decode, daemon=True).start()

    async def __call__(self, job: Job) -> tuple[int, ...]:
        """The tokens up to a stop token, or one more than it may have; the server finds the other stops."""
        ids: Future[tuple[int, ...]] = Future()
        self._arrived.put(replace(job, stop=Stop(job.stop.tokens), max_tokens=job.max_tokens + 1, tag=ids))
        return await asyncio.wrap_future(ids)

    def _decode(self) -> None:
        while True:
            self._engine.run([self._arrived.get()], self._finish, self._poll)

    def _finish(self, job: Job, completion: Completion) -> list[Job]:
        if job.tag.set_running_or_notify_cancel():  # else the client is gone
            job.tag.set_result(completion.ids)
        return []

    def _poll(self) -> list[Job]:
        return [self._arrived.get() for _ in range(self._arrived.qsize())]


@pytest.mark.long
def test_on_slurm(slurm: Path, tmp_path: Path, evaluated: Path) -> None:  # noqa: F811  # the fixture
    path = written(tmp_path / "gate", **MODELS)
    code, said, told = to_its_end(path, "--launch", "slurm")
    assert code == 1 and "submitted 2 runs as job" in told, said + told
    assert verdicts(path) == verdicts(evaluated)
