"""Tries the package in six environments: three versions of Python, with the lowest and the newest dependencies.

    python -m benchmarks.environments [--only 3.11-lowest]

In each: tasks are listed, a run, a grade with a percentage, and a page (`tests/smoke.py`), from the wheel, from an
editable install, beside `lm-eval[math]` (which brings another antlr), and on lm-eval as its main branch finds plugins
(`tests/lm_eval_states.py`). `uv` installs them, from one cache. A Python that isn't here, on the PATH or among pyenv's,
is a row that says so. The builds of torch are those of PyPI, several GB each; a folder is deleted once its row is
there. Exits with 1 if anything failed, or no Python is here.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from shutil import rmtree

from uv import find_uv_bin

ROOT = Path(__file__).parent.parent
OUT = ROOT / "out" / "environments"
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
STATES = ("4013", "4014", "4015")
CHECKS = ("wheel", "editable", "lm-eval[math]")
VERSIONS = ("lm-eval", "transformers", "torch", "numpy", "antlr4-python3-runtime")
_VERSION = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
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


class Environment:
    """A virtual environment; each check installs something in place, and raises CalledProcessError if it fails.

    Args:
        name: such as `3.11-lowest`.
        wheel: the package.
    """

    def __init__(self, name: str, wheel: Path) -> None:
        version, _, resolution = name.partition("-")
        self.folder, self.wheel, self.resolution = OUT / name, wheel, RESOLUTIONS[resolution]
        self.python = self.folder / "bin" / "python"
        rmtree(self.folder, ignore_errors=True)
        uv("venv", "--quiet", "--no-python-downloads", "--python", version, self.folder)

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """What is tried, in order, by column."""
        found = dict(zip(CHECKS, (self.check_wheel, self.check_editable, self.check_math), strict=True))
        return found | {state: partial(self.check_state, state) for state in STATES}

    def check_wheel(self) -> None:
        """Dependencies by themselves: those of a wheel are not direct, so that `lowest-direct` leaves them."""
        bounds = ("--resolution", self.resolution, "--requirements", ROOT / "pyproject.toml")
        self._install(*bounds, "--extra", "leaderboard")
        self._install(f"{self.wheel}[leaderboard]")
        self._smoke()

    def check_editable(self) -> None:
        """The checkout in place of the wheel."""
        self._install("--no-deps", "--editable", ROOT)
        self._smoke()

    def check_math(self) -> None:
        """Beside lm-eval's own tasks of mathematics, which want antlr 4.11."""
        self._install("--reinstall-package", "lm-eval-tts", self.wheel, "lm-eval[math]")
        self._smoke()

    def check_state(self, state: str) -> None:
        """On a copy of lm-eval, which finds everything by itself; before 4015 all but the tasks."""
        folder = self.folder / state
        said(self.python, "-c", _STATE, ROOT / "tests", state, folder)
        self._smoke("--no-autoload", *([] if state == STATES[-1] else ["--include-tasks"]), PYTHONPATH=str(folder))

    def versions(self) -> Mapping[str, str]:
        """What is installed."""
        return dict(zip(VERSIONS, said(self.python, "-c", _VERSION, *VERSIONS).split(), strict=True))

    def _install(self, *what: str | Path) -> None:
        uv("pip", "install", "--quiet", "--python", self.python, *what)

    def _smoke(self, *options: str, **env: str) -> None:
        said(self.python, ROOT / "tests" / "smoke.py", *options, OMP_NUM_THREADS="1", **env)


def tried(name: str, wheel: Path) -> Mapping[str, str]:
    """The row of an environment, by column."""
    started = time.monotonic()
    if outcome(partial(uv, "python", "find", "--no-python-downloads", name.partition("-")[0])) != "ok":
        return {VERSIONS[0]: "not here"}
    environment = Environment(name, wheel)
    row: dict[str, str] = {}
    for column, check in environment.checks().items():
        row[column] = outcome(check)
        if column == "wheel" and row[column] == "ok":
            row |= environment.versions()
    rmtree(environment.folder)
    return {**row, "seconds": f"{time.monotonic() - started:.0f}"}


def outcome(check: Callable[[], object]) -> str:
    """`ok`, or why not."""
    try:
        check()
    except subprocess.CalledProcessError as error:
        return " ".join(str(error.stderr).split())[-300:]
    return "ok"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(environments()), help="one environment")
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    uv("build", "--quiet", "--wheel", "--out-dir", OUT / "dist", ROOT)
    wheel = max((OUT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    columns = (*VERSIONS, *CHECKS, *STATES, "seconds")
    print(f"| environment | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}", flush=True)
    rows = []
    for name in [given.only] if given.only else environments():
        row = tried(name, wheel)
        rows.append([row.get(check, "not here") for check in (*CHECKS, *STATES)])
        print(f"| {name} | {' | '.join(row.get(column, '') for column in columns)} |", flush=True)
    here = [row for row in rows if set(row) != {"not here"}]
    sys.exit(not here or any(set(row) != {"ok"} for row in here))


if __name__ == "__main__":
    main()
