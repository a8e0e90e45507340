"""Sweeps that run: real `lm_eval` commands, killed, started again, and started twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_eval_ext.pruning.recipe import load_recipe
from lm_eval_ext.runs.study_file import read_study
from lm_eval_ext.sweep.one import ATTEMPT, progress
from lm_eval_ext.sweep.sources import Study
from tests.commands import COMMAND, Started, cli, started

STUDY: dict[str, Any] = {
    "output": "out", "batch_size": 32, "models": {"tiny": "tiny-chain"}, "tasks": ["chain"], "budgets": [8, 128],
    "limit": 2, "pruning": [{"method": "reverse", "remove": [0, 1]}],
}  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return path


def swept(path: Path, *options: str) -> Started:
    return started(COMMAND, "sweep", "run", path, *options)


def run_to_its_end(path: Path, *options: str) -> tuple[int, str]:
    process = swept(path, *options)
    said = "".join(process.communicate())
    return process.wait(), said


def outcomes(path: Path) -> dict[str, Any]:
    """The scores and texts of every run, of which each has one."""
    study, found = Study(path, keep=False), {}
    folders = sorted((study.folder / "runs").iterdir())
    assert folders == sorted(folder for run in study.runs if (folder := study.folder_of(run)) is not None)
    for run in study.runs:
        folder = study.folder_of(run)
        assert folder is not None
        results = folder / json.loads((folder / "done.json").read_text())["results"]
        stamp = results.stem.removeprefix("results_")
        texts = [
            [json.loads(line)["resps"] for line in samples.read_text("utf-8").split("\n") if line]
            for samples in sorted(results.parent.glob(f"samples_*_{stamp}.jsonl"))
        ]
        assert len(texts) == len(run.tasks)
        found[run.name] = json.loads(results.read_text())["results"], texts
    return found


@pytest.mark.long
def test_what_is_done_is_not_done_again_and_what_is_new_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    code, said = run_to_its_end(path)
    assert code == 0 and "2 of 2 runs are done" in said, said
    before = outcomes(path)
    assert set(before) == {"tiny-dense-s0", "tiny-reverse-1-s0"}
    assert before["tiny-dense-s0"] != before["tiny-reverse-1-s0"]
    code, said = run_to_its_end(path)
    assert code == 0 and "started" not in said, said
    written(tmp_path, seeds=[0, 1])
    code, said = run_to_its_end(path, "--jobs", "2")
    assert code == 0 and sorted(line for line in said.splitlines() if "started" in line) == [
        "tiny-dense-s1: started", "tiny-reverse-1-s1: started",
    ], said  # fmt: skip
    assert {name: one for name, one in outcomes(path).items() if name in before} == before
    done = cli("sweep", "status", path)
    assert done.exit_code == 0 and "4 done" in done.output
    done = cli("sweep", "plan", path)
    share = re.search(r"4 are done, .* They took (\d+)% of their most tokens", done.output)
    assert share and 0 < int(share[1]) < 100, done.output
    monkeypatch.chdir(tmp_path)
    done = cli("sweep", "collect", path)
    assert done.exit_code == 0 and "4 of 4 runs are done and published" in done.output, done.output
    page = (tmp_path / "out" / "site" / "studies.html").read_text("utf-8")
    assert "All 4 runs of study are done." in page and page.count("<tr>") == 4, "two kinds of models, and two heads"
    both = (before["tiny-dense-s0"][0], outcomes(path)["tiny-dense-s1"][0])
    scores = [next(value for name, value in one["tts_chain_b128"].items() if name.startswith("acc,")) for one in both]
    assert f">{100 * sum(scores) / 2:.1f}</a>" in page
    folders = sorted((tmp_path / "out" / "runs").iterdir())
    assert not list(tmp_path.rglob("*-shm")) and all((folder / "journal.sqlite").is_file() for folder in folders)
    (results,) = folders[0].rglob("results_*.json")
    results.unlink()
    shown = cli("sweep", "status", path)
    assert "3 done, 1 waiting" in shown.output, "what has lost its results is not done"
    assert cli("leaderboard", "check", "leaderboard/results").exit_code == 0


@pytest.mark.long
def test_status_and_collect_in_the_middle_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, limit=200, batch_size=4, seeds=[0, 1], pruning=[], tasks=["chain", "mini"], budgets=[])
    study = Study(path, keep=False)
    process = swept(path)
    first, second = (folder for run in study.runs if (folder := study.folder_of(run)) is not None)
    until((second / "log.txt").exists, 300)
    until(lambda: progress(second / "log.txt").left.count(":") == 1, 300)
    shown = cli("sweep", "status", path).output
    assert "1 done, 1 running" in shown and re.search(r"s1 │ running │ +\d+/\d+ │ +\d+ │ +\d+:\d\d │", shown), shown
    done = cli("sweep", "collect", path)
    assert done.exit_code == 0 and "1 of 2 runs are done and published" in done.output
    page = (tmp_path / "out" / "site" / "studies.html").read_text("utf-8")
    assert "1 of the 2 runs of study is done." in page and "1 of 2 seeds" in page and "not in its results" not in page
    written(tmp_path, limit=3, seeds=[0, 1], pruning=[], budgets=[8])
    said = "".join(process.communicate())
    assert process.returncode == 0 and "tiny-dense-s1: done" in said, "it was started before the manifest changed"
    assert (first / "done.json").is_file() and (second / "done.json").is_file()


@pytest.mark.long
def test_a_manifest_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, seeds=[0, 1], pruning=[], budgets=[8])
    process = swept(path)
    study = Study(path, keep=False)
    first = study.folder_of(study.runs[0])
    assert first is not None
    until((first / "log.txt").exists)
    written(tmp_path, seeds=[0, 1], pruning=[], budgets=[8], limit=3)
    said = "".join(process.communicate())
    assert process.returncode == 1 and "tiny-dense-s1: not run, because" in said, said
    assert "or a file that it names has changed; start the sweep again" in said and "1 of 2 runs are done" in said
    written(tmp_path, seeds=[0, 1], pruning=[], budgets=[8])
    code, said = run_to_its_end(path)
    assert code == 0 and "tiny-dense-s0: started" not in said


@pytest.mark.long
def test_one_model_of_a_study_is_published_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, models={"a": "tiny-chain", "b": {"pretrained": "tiny-chain", "dtype": "float32"}},
                   pruning=[{"method": "reverse", "remove": [1]}, {"method": "reverse", "remove": [2]}], budgets=[8],
                   exclude=[{"model": "b", "remove": 1}, {"model": "a", "remove": 2}])  # fmt: skip
    code, said = run_to_its_end(path, "--jobs", "2")
    assert code == 0 and "2 of 2 runs are done" in said and said.count("reverse: started") == 2, said
    runs = Study(path, keep=False).runs
    for only in ([], ["--only", "a"]):
        assert cli("sweep", "collect", path, *only).exit_code == 0
        page = (tmp_path / "out" / "site" / "studies.html").read_text("utf-8")
        assert "All 2 runs of study are done." in page, "what was published before is still there"
    recorded = tmp_path / "leaderboard" / "results" / "studies" / "study.json"
    recorded.write_text(recorded.read_text().replace(f'"{Study(path, keep=False).identity_of(runs[1])}"', '"0"'))
    assert cli("sweep", "collect", path, "--only", "a").exit_code == 0
    assert [one.run is None for one in read_study(recorded).runs] == [False, True], "that was another run of this name"
    other = tmp_path / "other"
    written(other, budgets=[8], models={"c": "tiny-chain"}, pruning=[])
    assert run_to_its_end(other / "study.yaml")[0] == 0
    done = cli("sweep", "collect", other / "study.yaml")
    assert done.exit_code == 1 and "is of another study of this name; rename this manifest" in done.stderr


@pytest.mark.long
def test_a_failure_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = {"broken": {"pretrained": "tiny-chain", "dtype": "float3"}, "tiny": "tiny-chain"}
    path = written(tmp_path, models=models, pruning=[], budgets=[8])
    code, said = run_to_its_end(path)
    assert code == 1 and "1 of 2 runs are done" in said and "broken-dense-s0: failed: " in said and "float3" in said
    done = cli("sweep", "status", path)
    assert "1 done, 1 failed" in done.output and "float3" in done.output
    done = cli("sweep", "collect", path)
    assert done.exit_code == 0 and "1 of 2 runs are done and published" in done.output
    page = (tmp_path / "out" / "site" / "studies.html").read_text("utf-8")
    assert "1 of the 2 runs of study is done." in page and '<span class="s">failed</span>' in page
    assert "tiny-dense-s0: started" not in run_to_its_end(path)[1], "only what has failed is tried again"


@pytest.mark.long
def test_layers_that_cannot_be_chosen_fail_their_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pruning = [{"method": "shortgpt", "remove": [0, 1], "calibration": f"run:{tmp_path}/empty"}]
    path = written(tmp_path, budgets=[8], pruning=pruning)
    code, said = run_to_its_end(path)
    assert code == 1 and "tiny-shortgpt: failed: lm-eval-tts: " in said, said
    assert "tiny-shortgpt-1-s0: not run, because its layers could not be chosen" in said
    assert "tiny-dense-s0: done" in said


TRACED = [{"method": "trace", "remove": [0, 1], "calibration": "traces"}]


@pytest.mark.long
def test_a_choice_by_traces_waits_for_the_whole_model_of_the_study(tmp_path: Path) -> None:
    path = written(tmp_path, budgets=[8, 128], pruning=TRACED)
    code, said = run_to_its_end(path, "--jobs", "2")
    lines = [line for line in said.splitlines() if line.endswith(": done")]
    assert code == 0 and lines == ["tiny-dense-s0: done", "tiny-trace: done", "tiny-trace-1-s0: done"], said
    study = Study(path, keep=False)
    recipe = load_recipe(f"{study.folder_of(study.stages[0])}/{study.stages[0].recipe(1)}")
    assert recipe.calibration is not None and recipe.calibration.name == study.calibration_of(study.stages[0])
    assert recipe.calibration.name.startswith("run:") and "tiny-dense-s0" in recipe.calibration.name


@pytest.mark.long
def test_a_choice_by_traces_fails_with_the_whole_model(tmp_path: Path) -> None:
    models = {"bad": {"pretrained": "tiny-chain", "peft": str(tmp_path)}}
    code, said = run_to_its_end(written(tmp_path, budgets=[8], pruning=TRACED, models=models))
    assert code == 1 and "bad-trace: not chosen, because bad-dense-s0 has failed, whose replies it needs" in said
    assert "bad-trace-1-s0: not run, because its layers could not be chosen" in said


@pytest.mark.long
def test_two_sweeps_of_one_manifest_do_each_run_once(tmp_path: Path) -> None:
    path = written(tmp_path, budgets=[8])
    both = [swept(path), swept(path)]
    said = ["".join(process.communicate()) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(outcomes(path)) == 2
    logs = [(folder / "log.txt").read_text() for folder in (tmp_path / "out" / "runs").iterdir()]
    assert [log.count(ATTEMPT) for log in logs] == [1, 1], "each was run once"
    assert len(list(tmp_path.rglob("results_*.json"))) == 2


@pytest.mark.long
def test_an_interrupted_sweep_stops_what_it_runs_and_keeps_everything(tmp_path: Path) -> None:
    path = written(tmp_path, budgets=[8], pruning=[])
    process = swept(path)
    (study,) = Study(path, keep=False).runs
    folder = Study(path, keep=False).folder_of(study)
    assert folder is not None
    until((folder / "log.txt").exists)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate())
    assert process.returncode == 130 and "everything is kept, so run it again to go on" in said, said
    assert not (folder / "done.json").exists() and not (folder / "failed.json").exists()
    assert run_to_its_end(path)[0] == 0 and (folder / "done.json").exists()


def until(happened: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def family(pid: int) -> list[int]:
    """A process and all that it has started, which may be in other sessions."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def killed(path: Path, times: int, seed: int, *options: str, longest: float = 12.0) -> None:
    """Start a sweep and kill it at random moments, with or without what it has started; at last let it end."""
    chance = random.Random(seed)
    for number in range(times):
        process = swept(path, *options)
        time.sleep(chance.uniform(2.0, longest))
        alive = family(process.pid)
        chosen = [alive[:1], alive[1:], alive, alive[-1:], alive[1:2]][number % 5]
        for pid in chosen:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if process.pid in chosen:
            process.communicate()
        else:
            process.kill()
            process.communicate()
    code, said = run_to_its_end(path, *options)
    assert code == 0, said


def test_killed_in_every_way_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    path, other = (written(tmp_path / name, budgets=[8], pruning=[]) for name in ("killed", "undisturbed"))
    killed(path, 2, 5)
    assert run_to_its_end(other)[0] == 0
    assert outcomes(path) == outcomes(other)
