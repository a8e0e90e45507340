"""Sweeps on Slurm, by stand-ins for its commands that run the jobs here."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.paths import write_json
from lm_eval_ext.sweep.slurm import _indices, states, submit
from lm_eval_ext.sweep.sources import Study
from tests.commands import cli
from tests.test_sweep_runs import TRACED, outcomes, until, written

STANDIN = Path(__file__).with_name("slurm_standin.py")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-ins on the PATH; returns the folder of their queue."""
    programs, queue = tmp_path / "bin", tmp_path / "queue"
    for folder in (programs, queue):
        folder.mkdir()
    for name in ("sbatch", "sacct", "squeue"):
        (programs / name).write_text(STANDIN.read_text())
        (programs / name).chmod(0o755 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STANDIN", str(queue))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return queue


def test_a_study_on_slurm(slurm: Path, tmp_path: Path) -> None:
    wanted = {"partition": "gpu", "gpus": 1, "time": "1:00:00", "parallel": 2, "setup": ["export SET_UP=yes"]}
    path = written(tmp_path / "study", budgets=[8], launch={"slurm": wanted})
    done = cli("sweep", "run", path, "--launch", "slurm")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == ["submitted 1 choice of layers as job 100", "submitted 2 runs as job 101"]
    again = cli("sweep", "run", path, "--launch", "slurm")
    assert "nothing to submit: every run is done or queued" in again.output, "what is queued is not submitted again"
    more = written(tmp_path / "study", budgets=[8], launch={"slurm": wanted}, seeds=[0, 1])
    again = cli("sweep", "run", more, "--launch", "slurm")
    assert again.output.splitlines() == ["submitted 2 runs as job 102"], "what is new"
    assert json.loads((slurm / "job-102.json").read_text())["options"]["dependency"] == "afterany:100", "queued before"
    options = json.loads((slurm / "job-101.json").read_text())["options"]
    assert options["dependency"] == "afterany:100" and options["array"] == "0-1%2" and options["partition"] == "gpu"
    assert {"requeue", "time", "gpus"} <= set(options)
    assert "export SET_UP=yes" in (tmp_path / "study" / "out" / "slurm" / "runs.sh").read_text()
    study = Study(path, keep=False)
    until(lambda: set(states(study).values()) == {"COMPLETED"}, 300)
    shown = cli("sweep", "status", path)
    assert "4 done" in shown.output, shown.output
    assert len(outcomes(path)) == 4


@pytest.mark.long
def test_a_choice_by_traces_is_submitted_after_the_whole_model(slurm: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "study", budgets=[8, 128], pruning=TRACED)
    done = cli("sweep", "run", path, "--launch", "slurm")
    assert done.output.splitlines() == [
        "submitted 1 run as job 100", "submitted 1 choice of layers as job 101", "submitted 1 run as job 102",
    ]  # fmt: skip
    options = [json.loads((slurm / f"job-{job}.json").read_text())["options"].get("dependency") for job in (101, 102)]
    assert options == ["afterany:100", "afterany:101"]
    study = Study(path, keep=False)
    until(lambda: set(states(study).values()) == {"COMPLETED"}, 300)
    assert len(outcomes(path)) == 2


def test_what_slurm_has_stopped_is_shown_and_submitted_again(slurm: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "study", budgets=[8], pruning=[])
    folder = tmp_path / "study" / "out" / "slurm"
    folder.mkdir(parents=True)
    study = Study(path, keep=False)
    run = study.folder_of(study.runs[0])
    assert run is not None
    (folder / "jobs.json").write_text(json.dumps({"100": [study.ticket(study.runs[0])]}))
    write_json(run / "failed.json", {"why": "an older failure"})
    for state, shown in (("RUNNING", "1 running"), ("COMPLETING", "1 running"), ("PENDING", "1 waiting")):
        (slurm / "job-100.json").write_text(json.dumps({"states": [state]}))
        found = cli("sweep", "status", path).output
        assert shown in found and "older" not in found, "what is queued is newer than a failure"
    (run / "failed.json").unlink()
    (slurm / "job-100.json").write_text(json.dumps({"states": []}))
    assert set(states(study).values()) == {"PENDING"}, "accounting doesn't know a new job at once"
    os.utime(folder / "jobs.json", (0, 0))
    assert states(study) == {}
    (slurm / "job-100.json").write_text(json.dumps({"states": ["COMPLETED"]}))
    (slurm / "job-101.json").write_text(json.dumps({"states": []}))
    ticket = study.ticket(study.runs[0])
    (folder / "jobs.json").write_text(json.dumps({"100": [ticket], "101": [ticket]}))
    assert states(study) == {ticket: "PENDING"}, "what an earlier job says is older"
    (folder / "jobs.json").write_text(json.dumps({"100": [ticket]}))
    (slurm / "job-101.json").unlink()
    for state, shown in (("OUT_OF_MEMORY", "1 failed"), ("RUNNING", "1 running"), ("PENDING", "1 waiting")):
        (slurm / "job-100.json").write_text(json.dumps({"states": [state]}))
        found = cli("sweep", "status", path).output
        assert shown in found and (state != "OUT_OF_MEMORY" or "Slurm says OUT_OF_MEMORY" in found), found
    (slurm / "without-accounting").touch()
    for state, shown in (("RUNNING", "1 running"), ("PENDING", "1 waiting"), ("OUT_OF_MEMORY", "1 waiting")):
        (slurm / "job-100.json").write_text(json.dumps({"states": [state]}))
        assert shown in cli("sweep", "status", path).output, "where squeue alone knows"
    (slurm / "without-accounting").unlink()
    again = cli("sweep", "run", path, "--launch", "slurm")
    assert "submitted 1 run as job 101" in again.output
    other = written(tmp_path / "study", budgets=[8], pruning=[], limit=3)
    assert "1 waiting" in cli("sweep", "status", other).output, "that job is of another run"
    again = cli("sweep", "run", other, "--launch", "slurm")
    assert "submitted 1 run as job 102" in again.output


def test_slurms_own_words_are_in_the_message(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm / "refuse").touch()
    path = written(tmp_path / "study", pruning=[])
    done = cli("sweep", "run", path, "--launch", "slurm")
    assert done.exit_code == 1 and "sbatch failed with exit code 1: sbatch: error: invalid partition" in done.stderr
    done = cli("sweep", "run", path, "--launch", "slurm", "--jobs", "2")
    assert done.exit_code == 1 and "give launch.slurm.parallel in the manifest" in done.stderr
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("sweep", "run", path, "--launch", "slurm")
    assert (
        done.exit_code == 1 and "--launch slurm: sbatch is not there; run this where Slurm is installed" in done.stderr
    )


def test_a_template_of_ones_own(slurm: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "study", pruning=[], launch={"slurm": {"template": "job.sh"}})
    with pytest.raises(ManifestError, match=r"launch.slurm.template: .*job.sh cannot be read"):
        submit(Study(path), Study(path).runs, print)
    (tmp_path / "study" / "job.sh").write_text("#!/bin/bash\n{command}\n")
    with pytest.raises(ManifestError, match=r"job.sh has no \{names\}; see .*slurm.sh"):
        submit(Study(path), Study(path).runs, print)


def test_indices_of_array_jobs() -> None:
    assert _indices("3") == [3] and _indices("[0-2,5%4]") == [0, 1, 2, 5] and _indices("3.batch") == [] == _indices("")
