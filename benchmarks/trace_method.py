"""Whether layers are chosen better by the loss on the base's own traces: what tiny-chain keeps of its long chains.

    python -m benchmarks.trace_method [--results FOLDER] [--write]

`trace` and other methods choose one and two layers; what is left is evaluated on `tts_chain_b128`, 200 questions that
no method has seen, three samples each. The traces are the base's correct replies to 200 other chains. Runs `lm_eval`; a
results folder that is there already is read instead. `--write` saves the table to `docs/reference/trace.md`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lm_eval_ext as tts

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "trace.md"
TASK = """include: {root}/tasks/chain/_chain
task: other_chains
custom_dataset: !function lm_eval_ext.testbed.problems.chains_dataset
dataset_kwargs: {{problem_seed: 7}}
repeats: 1
generation_kwargs: {{thinking_token_budget: 128, max_gen_toks: 512, answer_token_budget: 16, until: []}}
metadata: {{version: 2.0, chance: 0.1}}
"""
SEEDS = range(5)  # of the random choices
INTRODUCTION = """# Layers chosen by reasoning traces

What tiny-chain keeps of its accuracy above guessing on `tts_chain_b128` (200 questions, three samples each, paired by
question, 95% intervals), when a method has dropped one or two of its twelve layers. `trace` scores layers by the loss
on the base's own correct replies to 200 other chains, `trace, iterative` scores anew after the first. `perplexity` and
`shortgpt` are shown with the same traces, and with 16 prompts of `tts_chain_short` as elsewhere. `random` is the mean
over five seeds, and its interval is the range. Written by `python -m benchmarks.trace_method --write`.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "trace")
    parser.add_argument("--write", action="store_true", help="save the table")
    given = parser.parse_args()
    text = INTRODUCTION + "\n".join(rows(given.results)) + "\n"
    print(text)
    if given.write:
        PAGE.write_text(text, encoding="utf-8")


def methods(traces: Path) -> Mapping[str, str]:
    """`model_args` by method, with `{n}` for the number of layers."""
    run, short = f"calibration=run:{traces},calibration_samples=200", "calibration=task:tts_chain_short"
    return {
        "`trace`": f"prune=trace:{{n}},{run}",
        "`trace`, iterative": f"prune=trace:{{n}}:iterative=True,{run}",
        "`perplexity`, traces": f"prune=perplexity:{{n}},{run}",
        "`perplexity`, prompts": f"prune=perplexity:{{n}},{short}",
        "`shortgpt`, traces": f"prune=shortgpt:{{n}},{run}",
        "`shortgpt`, prompts": f"prune=shortgpt:{{n}},{short}",
    }


def rows(results: Path) -> Iterator[str]:
    base = evaluated(results / "base", "tts_chain_b128", "")
    traces = evaluated(results / "traces", "other_chains", "", own_task(results))
    yield "| method | layers | dropped | accuracy, % | kept, % |"
    yield "|---|--:|---|--:|--:|"
    for count in (1, 2):
        for name, arguments in methods(traces).items():
            folder = results / f"{name.strip('`').replace('`', '').replace(', ', '-')}-{count}"
            evaluated(folder, "tts_chain_b128", arguments.format(n=count))
            found = kept(base, folder)
            shown = f"{found['kept']:.0f} ({found['kept_low']:.0f} to {found['kept_high']:.0f})"
            yield f"| {name} | {count} | {dropped(folder)} | {found['accuracy']:.0f} | {shown} |"
        yield random_row(results, base, count)


def random_row(results: Path, base: Path, count: int) -> str:
    folders = [
        evaluated(results / f"random-{seed}-{count}", "tts_chain_b128", f"prune=random:{count}:seed={seed}")
        for seed in SEEDS
    ]
    found = [kept(base, folder) for folder in folders]
    shares, scores = [one["kept"] for one in found], [one["accuracy"] for one in found]
    mean = sum(shares) / len(shares)
    score = sum(scores) / len(scores)
    return f"| `random` | {count} | five choices | {score:.0f} | {mean:.0f} ({min(shares):.0f} to {max(shares):.0f}) |"


def kept(base: Path, candidate: Path) -> dict[str, float]:
    """Accuracy, and share kept with its interval, in percent."""
    (row,) = tts.compare(base, candidate).to_frame().to_dict("records")
    found: dict[Any, Any] = {
        "accuracy": row["candidate"],
        **{name: row[name] for name in ("kept", "kept_low", "kept_high")},
    }
    return {str(name): 100 * float(value) for name, value in found.items()}


def dropped(folder: Path) -> str:
    (run,) = tts.read_runs(folder)
    return ", ".join(map(str, run.dropped))


def own_task(results: Path) -> Path:
    folder = results / "tasks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "other_chains.yaml").write_text(TASK.format(root=ROOT), encoding="utf-8")
    return folder


def evaluated(folder: Path, task: str, arguments: str, include: Path | None = None) -> Path:
    """Evaluate a model, unless its results are there."""
    if not list(folder.rglob("results_*.json")):
        options = ["--output_path", str(folder), "--log_samples", "--batch_size", "256"]
        options += ["--include_path", str(include)] if include else []
        command = [
            "lm_eval",
            "--model",
            "pruned-hf",
            "--tasks",
            task,
            *options,
            "--model_args",
            arguments or "dtype=auto",
        ]
        done = subprocess.run([sys.executable, "-m", *command], check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return folder


if __name__ == "__main__":
    main()
