"""A sweep on a real Slurm of one machine (make test-slurm): submitted, queued again in the middle, and done."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import pytest

from lm_eval_ext.sweep.slurm import states
from lm_eval_ext.sweep.sources import Study
from tests.commands import cli
from tests.test_sweep_runs import outcomes, run_to_its_end, until, written

if which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
    pytest.skip("no Slurm answers here (make test-slurm)", allow_module_level=True)

LAUNCH = {"slurm": {"cpus": 1, "time": "0:20:00", "setup": ["export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1"]}}


def test_a_job_that_is_queued_again_goes_on(tmp_path: Path) -> None:
    changes = {"limit": 100, "launch": LAUNCH}
    path, other = written(tmp_path / "slurm", **changes), written(tmp_path / "here", **changes)
    done = cli("sweep", "run", path, "--launch", "slurm")
    assert done.exit_code == 0 and "submitted 2 runs as job " in done.output, done.output
    job = done.output.rpartition("job ")[2].strip()
    study = Study(path, keep=False)
    folder = study.folder_of(study.runs[0])
    assert folder is not None
    until((folder / "journal.sqlite-wal").exists, 120)
    subprocess.run(["scontrol", "requeue", f"{job}_0"], check=True)
    again = cli("sweep", "run", path, "--launch", "slurm")
    assert "nothing to submit" in again.output, "it is queued"
    subprocess.run(["scontrol", "update", f"JobId={job}_0", "StartTime=now"], check=False)
    until(lambda: not states(study), 300)
    shown = cli("sweep", "status", path)
    assert "2 done" in shown.output, shown.output
    assert run_to_its_end(other)[0] == 0 and outcomes(path) == outcomes(other), "as on this machine alone"
