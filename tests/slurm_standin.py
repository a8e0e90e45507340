#!/usr/bin/env python3
"""Stand-in for `sbatch`, `sacct` and `squeue`: runs array jobs on this machine, one after another.

It keeps its queue in the folder `SLURM_STANDIN`. `--dependency` is followed; a file `refuse` there makes sbatch fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("SLURM_STANDIN", ""))


def sbatch(arguments: list[str]) -> None:
    if (FOLDER / "refuse").exists():
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    options = dict(one[2:].partition("=")[::2] for one in arguments if one.startswith("--"))
    number = 100 + len(list(FOLDER.glob("job-*.json")))
    first, last = map(int, options["array"].partition("%")[0].split("-"))
    after = options.get("dependency", "").split(":")[1:]
    script = FOLDER / f"job-{number}.sh"
    script.write_text(Path(arguments[-1]).read_text())  # as Slurm does, so that a later change of it changes nothing
    job = {"script": str(script), "options": options, "states": ["PENDING"] * (last - first + 1), "after": after}
    (FOLDER / f"job-{number}.json").write_text(json.dumps(job))
    subprocess.Popen(
        [sys.executable, __file__, "work", str(number)], start_new_session=True, stdin=-3, stdout=-3, stderr=-3
    )
    print(number)


def work(number: str) -> None:
    """Run the array, as a cluster's daemons would."""
    path = FOLDER / f"job-{number}.json"
    after = json.loads(path.read_text())["after"]
    while any(
        {"PENDING", "RUNNING"} & set(json.loads((FOLDER / f"job-{one}.json").read_text())["states"]) for one in after
    ):
        time.sleep(0.1)
    job = json.loads(path.read_text())
    for index in range(len(job["states"])):
        for state in ("RUNNING", None):
            if state is None:
                output = Path(job["options"]["output"].replace("%A", number).replace("%a", str(index)))
                with output.open("ab") as file:
                    code = subprocess.call(
                        ["bash", job["script"]], stdout=file, stderr=file, stdin=-3,
                        env={**os.environ, "SLURM_ARRAY_TASK_ID": str(index)},
                    )  # fmt: skip
            job["states"][index] = state or ("COMPLETED" if code == 0 else "FAILED")
            part = path.with_suffix(".part")
            part.write_text(json.dumps(job))
            part.replace(path)


def sacct(arguments: list[str]) -> None:
    if (FOLDER / "without-accounting").exists():
        sys.exit("Slurm accounting storage is disabled")
    numbers = next(one for one in arguments if one.startswith("--jobs=")).removeprefix("--jobs=").split(",")
    for number in numbers:
        states = json.loads((FOLDER / f"job-{number}.json").read_text())["states"]
        waiting = [index for index, state in enumerate(states) if state == "PENDING"]
        if waiting:
            print(f"{number}_[{waiting[0]}-{waiting[-1]}]|PENDING")
        for index, state in enumerate(states):
            if state != "PENDING":
                print(f"{number}_{index}|{state}")
                print(f"{number}_{index}.batch|{state}")


def squeue(arguments: list[str]) -> None:
    for path in sorted(FOLDER.glob("job-*.json")):
        for index, state in enumerate(json.loads(path.read_text())["states"]):
            if state in ("PENDING", "RUNNING"):
                print(f"{path.stem.removeprefix('job-')}_{index}|{state}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(sys.argv[2])
    else:
        {"sbatch": sbatch, "sacct": sacct, "squeue": squeue}[Path(sys.argv[0]).name](sys.argv[1:])
