"""Replicas on real Ray: the same samples as one process, whatever dies. Needs `pip install ray`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

import lm_eval_ext as tts
from lm_eval_ext.errors import ArgumentError, EngineError
from lm_eval_ext.generation.request import Completion, Job
from lm_eval_ext.harness.session import GeneratedSamples
from tests.shared import ROOT
from tests.test_sweep_runs import outcomes, run_to_its_end, written

if TYPE_CHECKING:
    from lm_eval_ext.generation.engines.ray import RayFleet
    from lm_eval_ext.harness.models.pruned import PrunedLM

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'lm-eval-tts[ray]')")

PROMPTS = [
    f"Compute from left to right, modulo 10, and put the result in \\boxed{{}}: {a}+{b}+{c}+{a}+{c}+{b}"
    for a in range(5)
    for b in range(4)
    for c in range(4)
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for this process, as replicas have; more only slow down so small a model."""
    torch.set_num_threads(1)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)


@pytest.fixture
def local() -> Iterator[None]:
    yield
    ray.shutdown()


def load(**arguments: Any) -> PrunedLM:
    return cast("PrunedLM", tts.load(**arguments))


def generated(model: PrunedLM) -> list[tuple[object, ...]]:
    """480 results: 80 prompts, 3 samples, and 2 budgets that share a trace; hot, so that samples differ."""
    found = tts.generate(model, PROMPTS, budgets=[8, None], samples=3, max_gen_toks=96, temperature=2.5)
    return compared(found)


def compared(samples: GeneratedSamples) -> list[tuple[object, ...]]:
    return [
        (str(one.text), one.text.answer, one.text.thinking_tokens, one.text.answer_tokens, one.text.seed)
        for one in samples
    ]


@pytest.fixture(scope="module")
def expected() -> list[tuple[object, ...]]:
    """The results of one process."""
    found = generated(load(journal="off", seed=3, batch_size=16))
    assert len(found) >= 300 and len(set(found)) > 150
    return found


def fleet_of(model: PrunedLM) -> RayFleet:
    assert model.replicas is not None
    return model.replicas.fleet


class Watch:
    """Calls a function in this process when some completions have arrived."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, act: Callable[[], None]) -> None:
        from lm_eval_ext.generation.budget_forcing import BudgetForcing

        self.seen = 0
        then = BudgetForcing._then

        def counted(forcing: BudgetForcing, job: Job, completion: Completion) -> Iterable[Job]:
            self.seen += 1
            if self.seen == after:
                act()
            return then(forcing, job, completion)

        monkeypatch.setattr(BudgetForcing, "_then", counted)


@pytest.mark.usefixtures("local")
def test_two_replicas_give_the_samples_of_one_process_and_survive_a_kill(
    expected: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(journal="off", seed=3, batch_size=16, data_parallel_size=2)
    assert generated(model) == expected
    info = model.get_model_info()
    assert {name: info["replicas"][name] for name in ("replicas", "replicas_up", "nodes", "restarts")} == {
        "replicas": 2, "replicas_up": 2, "nodes": 1, "restarts": 0,
    }  # fmt: skip
    assert info["pruning"]["parameters_after"] == info["model_num_parameters"] == 220192
    pids = [place.pid for place in fleet_of(model).places.values()]
    Watch(monkeypatch, 40, lambda: os.kill(pids[0], signal.SIGKILL))
    assert generated(model) == expected
    assert fleet_of(model).restarts == 1
    likelihoods(model)


def likelihoods(model: Any) -> None:
    """Requests that are no thinking requests run on the replicas too."""
    from lm_eval.api.instance import Instance

    alone: Any = load(journal="off", batch_size=4)
    requests = [
        Instance("loglikelihood", {}, (prompt, answer), number, metadata=("t", number, 1))
        for number, prompt in enumerate(PROMPTS[:20])
        for answer in (" 1", " 2")
    ]
    found, expected = (some.loglikelihood(requests, disable_tqdm=True) for some in (model, alone))
    for one, other in zip(found, expected, strict=True):
        assert one == (pytest.approx(other[0], abs=1e-4), other[1])


@pytest.mark.usefixtures("local")
def test_a_replica_keeps_what_was_dropped() -> None:
    options: dict[str, Any] = {"journal": "off", "seed": 3, "batch_size": 16, "prune": "shortgpt:1"}
    alone = load(**options)
    model = load(**options, data_parallel_size=1, ray_address="local")
    assert (model.recipe, model.fingerprint, model.versions) == (alone.recipe, alone.fingerprint, alone.versions)
    one, other = (tts.generate(some, PROMPTS[:10], budgets=[16]) for some in (alone, model))
    assert compared(one) == compared(other)
    before = alone.get_model_info()["pruning"]
    assert model.get_model_info()["pruning"] == before


@pytest.mark.usefixtures("local")
def test_an_error_of_the_model_ends_the_run_with_its_message() -> None:
    model = load(journal="off", data_parallel_size=1, ray_address="local", attn_implementation="no such attention")
    with pytest.raises(
        EngineError, match=r"replica 0 on \w+: pretrained=.* cannot be loaded \(ValueError: .*no such attention"
    ):
        tts.generate(model, PROMPTS[:1])


@pytest.mark.usefixtures("local")
def test_arguments_that_do_not_fit_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="data_parallel_size=3: 3 replicas with 2 GPUs each don't fit this machine"):
        load(data_parallel_size=3, replica_gpus=2)
    ray.shutdown()
    with pytest.raises(ArgumentError, match=r"ray_address=127\.0\.0\.1:1: Ray cannot be reached"):
        load(ray_address="127.0.0.1:1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match="start a single process, not one per GPU"):
        load(data_parallel_size=2)


def test_a_node_that_joins_takes_work_and_one_that_dies_loses_none(
    expected: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        model = load(journal="off", seed=3, batch_size=8, data_parallel_size=2, ray_address=cluster.address)
        nodes: list[Any] = []
        Watch(monkeypatch, 10, lambda: nodes.append(cluster.add_node(num_cpus=1)))
        fleet, runs = fleet_of(model), 0
        while fleet.info()["replicas_up"] != 2:  # the second replica may be too late for a short run
            assert generated(model) == expected
            runs += 1
            assert runs < 100
        assert model.get_model_info()["replicas"]["nodes"] == 2
        Watch(monkeypatch, 30, lambda: cluster.remove_node(nodes[0], allow_graceful=False))
        assert generated(model) == expected
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_sweep_on_a_cluster_is_as_on_this_machine(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        address = cluster.address
        launch = {"ray": {"address": address}}
        path, other = (written(tmp_path / name, budgets=[8], launch=launch) for name in ("ray", "here"))
        code, said = run_to_its_end(path, "--launch", "ray")
        assert code == 0 and "2 of 2 runs are done" in said, said
    finally:
        cluster.shutdown()
    assert run_to_its_end(other)[0] == 0
    found = outcomes(path)
    assert len(found) == 2 and found == outcomes(other)
    done = next((tmp_path / "ray" / "out" / "runs").glob("*/done.json"))
    assert f"ray_address={address}" in " ".join(json.loads(done.read_text())["command"])
    code, said = run_to_its_end(path, "--launch", "ray", "--jobs", "2")
    assert code == 1 and "with --launch ray, runs follow one another" in said


COMMAND = [
    sys.executable, "-m", "lm_eval", "--model", "pruned-hf", "--tasks", "tts_chain_maj8", "--limit", "40",
    "--batch_size", "8",
]  # fmt: skip


def results(folder: Path) -> tuple[Any, list[Any]]:
    file = next(folder.rglob("results_*.json"))
    samples = next(folder.rglob("samples_*.jsonl"))
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(file.read_text()), [(row["doc_id"], row["resps"]) for row in rows]


def test_a_driver_that_was_killed_continues(tmp_path: Path) -> None:
    def command(name: str, *arguments: str) -> list[str]:
        given = ",".join([f"journal={tmp_path / name}.sqlite", "seed=5", *arguments])
        return [*COMMAND, "--model_args", given, "--output_path", str(tmp_path / name), "--log_samples"]

    subprocess.run(command("alone"), cwd=ROOT, check=True, capture_output=True)
    _, one = results(tmp_path / "alone")
    assert sum(len(responses[0]) for _, responses in one) >= 300

    replicated = command("replicas", "data_parallel_size=2")
    killed = subprocess.Popen(
        replicated, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    journal = tmp_path / "replicas.sqlite"
    until(lambda: kept(journal) >= 50 or killed.poll() is not None)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert 50 <= kept(journal) < 320, "it was killed in the middle"
    until(lambda: not ray_processes(killed.pid))

    again = subprocess.run(replicated, cwd=ROOT, check=True, capture_output=True, text=True)
    found, other = results(tmp_path / "replicas")
    assert other == one
    assert "resumed" in again.stderr + again.stdout
    assert found["config"]["replicas"]["replicas"] == 2


def kept(journal: Path) -> int:
    import sqlite3

    if not journal.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM completions").fetchone()[0])
    except sqlite3.Error:
        return 0


def ray_processes(session: int) -> list[int]:
    """Ray's processes that a killed driver has left behind."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            continue
    return found


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)
