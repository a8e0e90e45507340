"""What the installed package adds to each start of Python: a whole `python -c pass`, with the wheel and without it.

    python -m benchmarks.start

Two fresh environments differ only in the installed wheel. Exits with 1 if it loads a module that is not ours, or adds
more than a millisecond. Then `lm_eval ls tasks`, with and without the autoload.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

STARTS, LISTINGS = 200, 5
MOST = 0.001  # seconds that a start may take longer
OURS = {"lm_eval_ext", "lm_eval_ext._autoload"}
# Installed code is compiled once; with bytecode writing disabled, every start would compile it again.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
MODULES = "import sys; print(*sys.modules)"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        without, installed = environments(Path(folder))
        others = loaded(installed) - loaded(without) - OURS
        print(
            f"modules that the package loads at each start, besides its own two: {', '.join(sorted(others)) or 'none'}"
        )
        start = [str(installed), "-c", "pass"], [str(without), "-c", "pass"]
        added = compared("python -c pass", *start, STARTS)
    listing = [str(Path(sys.executable).with_name("lm_eval")), "ls", "tasks"]
    compared("lm_eval ls tasks", listing, ["env", "LM_EVAL_TTS_AUTOLOAD=0", *listing], LISTINGS)
    if others or added > MOST:
        sys.exit(f"a start may take {1000 * MOST:g} ms longer and load no other module")


def environments(folder: Path) -> tuple[Path, Path]:
    """Interpreters of two fresh environments, the second with the wheel of this checkout."""
    root = Path(__file__).parent.parent
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    interpreters = [folder / name / "bin" / "python" for name in ("without", "installed")]
    for python in interpreters:
        venv.create(python.parent.parent, symlinks=True)
    (wheel,) = folder.glob("*.whl")
    install = ["-m", "pip", "--python", str(interpreters[1]), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    return interpreters[0], interpreters[1]


def loaded(python: Path) -> set[str]:
    """Modules that a start loads."""
    done = subprocess.run([str(python), "-c", MODULES], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    return set(done.stdout.split())


def compared(what: str, command: Sequence[str], other: Sequence[str], runs: int) -> float:
    """Time both commands in turn; returns by how many seconds the median of the first is larger."""
    pairs = [(seconds(command), seconds(other)) for _ in range(runs)]
    with_it, without = (float(statistics.median(column)) for column in zip(*pairs, strict=True))
    print(
        f"{what}: {1000 * with_it:.1f} ms with the package, {1000 * without:.1f} ms without, "
        f"{1000 * (with_it - without):+.2f} ms (medians of {runs} pairs)"
    )
    return with_it - without


def seconds(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
