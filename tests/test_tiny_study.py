"""The study that ships: killed and started again, it is the committed leaderboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_ext.runs.samples import read_run
from lm_eval_ext.runs.study_file import read_study
from lm_eval_ext.sweep.sources import Study
from tests.shared import ROOT
from tests.test_sweep_runs import killed, outcomes, run_to_its_end

RESULTS = ROOT / "leaderboard" / "results"


@pytest.mark.long
def test_the_tiny_study_killed_ten_times_is_the_published_one(tmp_path: Path) -> None:
    path, other = (tiny_study(tmp_path / name) for name in ("killed", "undisturbed"))
    killed(path, 10, 2, "--jobs", "2", longest=80.0)
    assert run_to_its_end(other, "--jobs", "2")[0] == 0
    found = outcomes(path)
    assert len(found) == 26 and found == outcomes(other)
    published = read_study(RESULTS / "studies" / "tiny-study.json")
    for planned, run in zip(published.runs, Study(path, keep=False).runs, strict=True):
        tasks = read_run(RESULTS / "tiny-chain" / str(planned.run) / "run.json").tasks
        for task, scores in found[run.name][0].items():
            assert tasks[task].accuracy.value == pytest.approx(scores["acc,answer"], abs=0.02), (run.name, task)


@pytest.mark.long
def test_the_study_of_experts_and_weights_is_the_published_one(tmp_path: Path) -> None:
    path = tiny_study(tmp_path / "moe", "tiny-moe-study")
    assert run_to_its_end(path, "--jobs", "2")[0] == 0
    found = outcomes(path)
    published = read_study(RESULTS / "studies" / "tiny-moe-study.json")
    assert len(found) == len(published.runs) == 38
    for planned, run in zip(published.runs, Study(path, keep=False).runs, strict=True):
        tasks = read_run(RESULTS / "tiny-moe-chain" / str(planned.run) / "run.json").tasks
        for task, scores in found[run.name][0].items():
            assert tasks[task].accuracy.value == pytest.approx(scores["acc,answer"], abs=0.02), (run.name, task)


def tiny_study(folder: Path, name: str = "tiny-study") -> Path:
    folder.mkdir()
    path = folder / f"{name}.yaml"
    path.write_text((ROOT / "examples" / path.name).read_text("utf-8").replace(f"../out/{name}", "out"), "utf-8")
    return path
