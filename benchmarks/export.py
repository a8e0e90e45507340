"""Peak memory of an export by shard size, not counting what is mapped from the base model's files.

    python -m benchmarks.export [CHECKPOINT] [--shards 0.06,0.2,2]

Each export runs in a separate process; Linux only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.smollm2 import SMOLLM2


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", nargs="?", default=str(SMOLLM2))
    arguments.add_argument("--shards", default="0.06,0.2,2", help="gigabytes")
    arguments.add_argument("--one", help="export once with shards of this many GB and print the peak")
    given = arguments.parse_args()
    if given.one:
        print(peak(given.checkpoint, float(given.one)))
        return
    for shard in given.shards.split(","):
        command = [sys.executable, "-m", "benchmarks.export", given.checkpoint, "--one", shard]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(f"shards of {shard:>5} GB: {float(done.stdout.split()[-1]):7.0f} MB")


def peak(checkpoint: str, gigabytes: float) -> float:
    """Peak anonymous memory while exporting, minus that before, in MB."""
    import torch  # noqa: F401  # imported first, so that its own memory isn't counted

    from lm_eval_ext.pruning.checkpoint import read_config
    from lm_eval_ext.pruning.export import export
    from lm_eval_ext.pruning.recipe import Recipe

    read_config(checkpoint, "main")
    recipe = Recipe(base=checkpoint, drop=(25, 26), method="selection", source="benchmark")
    before, highest, done = anonymous(), [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            highest.append(anonymous() - before)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        export(recipe, Path(folder) / "out", shard_bytes=int(gigabytes * 1e9))
    done.set()
    watcher.join()
    return max(highest)


def anonymous() -> float:
    status = Path("/proc/self/status").read_text("utf-8")
    match = re.search(r"RssAnon:\s+(\d+)", status)
    return int(match[1]) / 1e3 if match else 0.0


if __name__ == "__main__":
    main()
