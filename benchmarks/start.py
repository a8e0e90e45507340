"""Time that the autoload adds to an interpreter's start, by `-X importtime`, and to `lm_eval ls tasks`.

python -m benchmarks.start
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 30
# Installed code is compiled once; with bytecode writing disabled, every start would compile it again.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def main() -> None:
    import_microseconds()  # compiles
    added = statistics.median(import_microseconds() for _ in range(RUNS))
    print(f"interpreter start: {added:.0f} microseconds in our imports (median of {RUNS})")
    for name, command, runs in (
        ("python -c pass", [sys.executable, "-c", "pass"], RUNS),
        ("lm_eval ls tasks", [str(Path(sys.executable).with_name("lm_eval")), "ls", "tasks"], 5),
    ):
        pairs = [(seconds(command, "1"), seconds(command, "0")) for _ in range(runs)]
        on, off = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name}: {on:.3f} s with the autoload, {off:.3f} s without, ratio {ratio:.3f} (median of {runs} pairs)")


def import_microseconds() -> float:
    command = [sys.executable, "-X", "importtime", "-c", "pass"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    found = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+lm_eval_ext", done.stderr)
    return sum(map(int, found))


def seconds(command: list[str], autoload: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, env={**ENVIRONMENT, "LM_EVAL_TTS_AUTOLOAD": autoload})
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
