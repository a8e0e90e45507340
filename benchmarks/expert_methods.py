"""How experts are chosen best: what tiny-moe-chain keeps of short and of long chains without a quarter of its experts.

    python -m benchmarks.expert_methods [--results FOLDER] [--write]

Each method drops 2 of 8 experts from each of 6 layers, `trace-experts` and two others also 4; what is left is evaluated
on `tts_chain_short_b128` and `tts_chain_b128`, 200 questions each that no method has seen, three samples each. The
traces are the base's correct replies to 200 other chains. Runs `lm_eval`; a results folder that is there already is
read instead. `--write` saves the table to `docs/reference/expert-methods.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import lm_eval_ext as tts
from benchmarks.trace_method import evaluated, own_task
from lm_eval_ext.paths import TINY_MOE_CHAIN

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "expert-methods.md"
MODEL = f"pretrained={TINY_MOE_CHAIN.name}"
SHORT, LONG = "tts_chain_short_b128", "tts_chain_b128"
SEEDS = range(5)  # of the random choices
ON_TRACES = ("trace-experts", "fisher-experts", "ean", "frequency", "weighted-ean", "reap", "expert-drop", "man")
INTRODUCTION = """# Experts chosen by reasoning traces

What tiny-moe-chain keeps of its accuracy above guessing on `tts_chain_short_b128` (1 to 3 steps) and `tts_chain_b128`
(6 to 40 steps), 200 questions each, three samples each, paired by question, 95% intervals, when a method has dropped a
quarter or a half of the eight experts of each of its six layers. Methods see the base's own correct replies to 200
other chains, or where it says so 16 prompts of `tts_chain_short`. `random-experts` is the mean over five seeds, and its
interval is the range. This is one tiny model from one seed: it shows that the choice matters and that short chains hide
what is lost, not which method is best for a mixture of 128 experts. Written by
`python -m benchmarks.expert_methods --write`.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "expert-methods")
    parser.add_argument("--write", action="store_true", help="save the table")
    given = parser.parse_args()
    text = INTRODUCTION + "\n".join(rows(given.results)) + "\n"
    print(text)
    if given.write:
        PAGE.write_text(text, encoding="utf-8")


def rows(results: Path) -> Iterator[str]:
    base = evaluated(results / "base", f"{SHORT},{LONG}", MODEL)
    traces = evaluated(results / "traces", "other_chains", MODEL, own_task(results))
    run, prompts = f"calibration=run:{traces},calibration_samples=200", "calibration=task:tts_chain_short"
    yield "| method | experts dropped | short, % kept | long, % kept |"
    yield "|---|--:|--:|--:|"
    for count, methods in ((2, ON_TRACES), (4, ("trace-experts", "frequency", "reap"))):
        for method in methods:
            yield _row(results, base, f"`{method}`", count, [f"prune={method}:{count},{run}"])
        for method in ("frequency", "reap"):
            yield _row(results, base, f"`{method}`, prompts", count, [f"prune={method}:{count},{prompts}"])
        if count == 2:
            yield _row(results, base, "`aimer`", count, [f"prune=aimer:{count}"])
        seeds = [f"prune=random-experts:{count}:seed={seed}" for seed in SEEDS]
        yield _row(results, base, "`random-experts`", count, seeds)
    uneven = f"prune=trace-experts:2:uneven=True,{run}"
    yield _row(results, base, "`trace-experts`, uneven", 2, [uneven])


def _row(results: Path, base: Path, name: str, count: int, arguments: Sequence[str]) -> str:
    folders = [
        evaluated(results / f"{name.replace('`', '').replace(', ', '-')}-{count}-{number}", f"{SHORT},{LONG}", given)
        for number, given in enumerate(f"{MODEL},{one}" for one in arguments)
    ]
    tables = [tts.compare(base, folder, on=["tts_chain_short", "tts_chain"]).to_frame() for folder in folders]
    cells = []
    for place in (0, 1):
        kept = [100 * float(table["kept"].iloc[place]) for table in tables]
        low, high = (float(tables[0][side].iloc[place]) * 100 for side in ("kept_low", "kept_high"))
        ends = (low, high) if len(kept) == 1 else (min(kept), max(kept))
        cells.append(f"{fmean(kept):.0f} ({ends[0]:.0f} to {ends[1]:.0f})")
    return f"| {name} | {count} of 8 | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
