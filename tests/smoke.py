"""Tries an installed lm-eval-tts: tasks, a run, a grade, a page; exits with 1 on a failure.

It imports nothing of the checkout. Run it with the interpreter to try, from anywhere:

    python tests/smoke.py [--no-autoload] [--include-tasks]

`--no-autoload` leaves it to lm-eval to find the package, by its entry points; `--include-tasks` names their folder,
for an lm-eval that finds everything but these.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CLI = "from lm_eval_ext.cli import app; app()"
TASK = "tts_chain_short_b8"


def said(*command: str, cwd: str) -> str:
    """What a command of this interpreter prints; raises RuntimeError with its last words if it fails."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, encoding="utf-8", cwd=cwd, env=env, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout


def tried(folder: str, *, include_tasks: bool = False) -> dict[str, str]:
    """What was found, by what was tried."""
    where = "import lm_eval, lm_eval_ext.paths; print(lm_eval.__file__); print(lm_eval_ext.paths.TASKS)"
    lm_eval, tasks = said("-c", where, cwd=folder).splitlines()
    assert lm_eval.startswith(os.environ.get("PYTHONPATH", "")), f"another lm-eval is imported: {lm_eval}"
    included = ["--include_path", tasks] if include_tasks else []
    listed = said("-m", "lm_eval", "ls", "tasks", *included, cwd=folder).count("|tts_")
    run = ["-m", "lm_eval", "run", "--model", "pruned-hf", "--tasks", TASK, "--limit", "20", "--batch_size", "16"]
    run += included
    said(*run, "--output_path", "out", "--log_samples", cwd=folder)
    (results,) = Path(folder, "out").rglob("results_*.json")
    score = json.loads(results.read_text("utf-8"))["results"][TASK]["acc,answer"]
    code = r"import lm_eval_ext as tts; print([g.correct for g in tts.grade([r'\sqrt{25\%}', r'50\%', '5'], '0.5')])"
    verdicts = said("-c", code, cwd=folder).strip()
    said("-c", CLI, "leaderboard", "build", "out", "-o", "site", cwd=folder)
    page = Path(folder, "site", "index.html").read_text("utf-8")
    assert listed > 300, f"{listed} tasks are listed"
    assert 0.8 <= score <= 1, f"the embedded model has {score} on short chains"
    assert verdicts == "[True, True, False]", f"grades are {verdicts}"
    assert "tiny-chain" in page, "the page has no model"
    return {"tasks": str(listed), "run": f"{score:.2f}", "grade": "right", "page": f"{len(page):,} bytes"}


if __name__ == "__main__":
    if "--no-autoload" in sys.argv:
        os.environ["LM_EVAL_TTS_AUTOLOAD"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        try:
            print(json.dumps(tried(folder, include_tasks="--include-tasks" in sys.argv)))
        except (AssertionError, RuntimeError) as error:
            sys.exit(f"failed: {error}")
