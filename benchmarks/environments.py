"""Tries the package in six environments: three versions of Python, with the lowest and the newest dependencies.

    python -m benchmarks.environments [--only 3.11-lowest]

In each: tasks are listed, a run, a grade with a percentage, and a page (`tests/smoke.py`), from the wheel, from an
editable install, and on lm-eval as its main branch finds plugins (`tests/lm_eval_states.py`). `uv` installs them, from
one cache. A Python that isn't here, on the PATH or among pyenv's, is a row that says so. The builds of torch are those
of PyPI, several GB each; a folder is deleted once its row is there. Exits with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import rmtree

from uv import find_uv_bin

ROOT = Path(__file__).parent.parent
OUT = ROOT / "out" / "environments"
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
STATES = ("4013", "4014", "4015")
COLUMNS = ("lm-eval", "transformers", "torch", "wheel", "editable", *STATES, "seconds")
_VERSIONS = (
    "import json; from importlib.metadata import version; "
    "print(json.dumps({name: version(name.replace('-', '_')) for name in ('lm-eval', 'transformers', 'torch')}))"
)
_STATE = (
    "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import lm_eval_states; "
    "lm_eval_states.lm_eval_at(sys.argv[2], Path(sys.argv[3]))"
)


def said(*command: str | Path, **env: str) -> str:
    """What a command prints; raises CalledProcessError."""
    words = list(map(str, command))
    return subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, **env}, cwd=OUT).stdout


def uv(*arguments: str | Path) -> str:
    """What `uv` prints; it sees pyenv's Pythons before pyenv's own commands, which fail for all but the chosen one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    return said(find_uv_bin(), *arguments, PATH=os.pathsep.join([*map(str, pyenv), os.environ["PATH"]]))


def environments() -> Iterator[str]:
    """Their names, such as `3.11-lowest`."""
    return (f"{python}-{resolution}" for python, resolution in itertools.product(PYTHONS, RESOLUTIONS))


def tried(name: str, wheel: Path) -> Mapping[str, str]:
    """The row of an environment, by column."""
    started = time.monotonic()
    version, _, resolution = name.partition("-")
    try:
        uv("python", "find", "--no-python-downloads", version)
    except subprocess.CalledProcessError:
        return {"lm-eval": "not here"}
    python = OUT / name / "bin" / "python"
    rmtree(OUT / name, ignore_errors=True)
    uv("venv", "--quiet", "--no-python-downloads", "--python", version, OUT / name)
    install = ("pip", "install", "--quiet", "--python", python)
    # Dependencies of the project's file, because the dependencies of a wheel are not direct, so that `lowest-direct` leaves them.
    bounds = ("--resolution", RESOLUTIONS[resolution], "--requirements", ROOT / "pyproject.toml")
    uv(*install, *bounds, "--extra", "leaderboard")
    uv(*install, "--no-deps", wheel)
    row = dict(json.loads(said(python, "-c", _VERSIONS))) | {"wheel": smoked(python)}
    uv(*install, "--no-deps", "--editable", ROOT)
    row["editable"] = smoked(python)
    uv(*install, "--no-deps", "--reinstall-package", "lm-eval-tts", wheel)
    for state in STATES:
        folder = OUT / f"{name}-{state}"
        rmtree(folder, ignore_errors=True)
        said(python, "-c", _STATE, ROOT / "tests", state, folder)
        row[state] = smoked(python, PYTHONPATH=str(folder))
        rmtree(folder)
    rmtree(OUT / name)
    return {**row, "seconds": f"{time.monotonic() - started:.0f}"}


def smoked(python: Path, **env: str) -> str:
    """`ok`, or why not."""
    try:
        said(python, ROOT / "tests" / "smoke.py", OMP_NUM_THREADS="1", **env)
    except subprocess.CalledProcessError as error:
        return " ".join(str(error.stderr).split())[-300:]
    return "ok"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(environments()), help="one environment")
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    uv("build", "--quiet", "--wheel", "--out-dir", OUT / "dist", ROOT)
    (wheel,) = (OUT / "dist").glob("*.whl")
    print(f"| environment | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}", flush=True)
    well = True
    for name in [given.only] if given.only else environments():
        row = tried(name, wheel)
        well &= all(row.get(column, "ok") == "ok" for column in ("wheel", "editable", *STATES))
        print(f"| {name} | {' | '.join(row.get(column, '') for column in COLUMNS)} |", flush=True)
    sys.exit(not well)


if __name__ == "__main__":
    main()
