"""Whether `diverge` predicts what `lm_eval` measures: rank correlations over many smaller versions of embedded models.

    python -m benchmarks.screening [--results FOLDER] [--write]

Layers, blocks, weights, bits, merges and experts are removed from tiny-chain and tiny-moe-chain, by methods and by
hand. Each is held to its base's correct replies to 100 chains without decoding, and evaluated on 100 other short and
long chains, three samples each. What is in the folder already is taken from there. `--write` saves the page
`docs/reference/screening.md` with its table.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap, spearmanr

import lm_eval_ext as tts
from benchmarks.trace_method import own_task

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "screening.md"
SHORT, LONG = "tts_chain_short_b128", "tts_chain_b128"
QUESTIONS = 100
LEFT = 0.5  # of its base's accuracy on short chains: what a screen is for
Row = dict[str, Any]


def candidates(traces: Mapping[str, Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Base, kind and model arguments of each."""
    texts = {base: {"calibration": f"run:{folder}", "calibration_samples": 64} for base, folder in traces.items()}
    chain, mixture = traces
    yield from ((chain, "layers", {"drop_layers": [layer]}) for layer in range(12))
    yield from ((chain, "layers", {"drop_layers": [layer, layer + 1]}) for layer in range(2, 11, 2))
    for method in ("shortgpt", "angular", "sleb", "trace"):
        yield from ((chain, "layers", {"prune": f"{method}:{count}", **texts[chain]}) for count in (2, 3))
    yield from ((chain, "merges", {"prune": f"laco:{count}", **texts[chain]}) for count in (1, 2))
    yield from ((chain, "blocks", {"prune": f"attention:{count}", **texts[chain]}) for count in (1, 2, 4))
    yield from ((chain, "blocks", {"prune": f"mlp:{count}", **texts[chain]}) for count in (1, 2))
    for share in (20, 40, 60):
        yield chain, "weights", {"prune": f"magnitude-weights:{share}%"}
        yield chain, "weights", {"prune": f"wanda:{share}%", **texts[chain]}
    yield from ((chain, "bits", {"quantize": f"quanto:int{bits}"}) for bits in (8, 4, 2))
    for method in ("frequency", "reap", "trace-experts"):
        yield from ((mixture, "experts", {"prune": f"{method}:{share}%", **texts[mixture]}) for share in (25, 50))


MEASURES: Mapping[str, Callable[[Row], float]] = {
    "mean divergence, in bits a token": lambda row: -row["kl"],
    "tokens until the first fork": lambda row: row["until_fork"],
    "perplexity of the traces": lambda row: -row["perplexity_ratio"],
}


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "screening")
    parser.add_argument("--write", action="store_true", help="save the page")
    given = parser.parse_args()
    found = rows(given.results)
    text = page(found)
    print(text)
    if given.write:
        PAGE.write_text(text, encoding="utf-8")


def rows(results: Path) -> list[Row]:
    """What was measured of each candidate, without decoding and with."""
    bases = ("tiny-chain", "tiny-moe-chain")
    traces = {base: results / f"traces-{base}" for base in bases}
    for base, folder in traces.items():
        if not list(folder.rglob("results_*.json")):
            options: dict[str, Any] = {"include_path": str(own_task(results)), "limit": QUESTIONS}
            tts.evaluate(tts.load(base, journal="off"), "other_chains", output=folder, **options)
    found = []
    for base in bases:
        asked = [(kind, arguments) for other, kind, arguments in candidates(traces) if other == base]
        models = {said(arguments): {"pretrained": base, **arguments} for _, arguments in asked}
        report = tts.diverge(base, models, traces[base], samples=QUESTIONS, keep=results / "diverge")
        whole = accuracies(results, {"pretrained": base})
        for (kind, _), one in zip(asked, report.candidates, strict=True):
            measures = {"kl": one.divergence.kl, **one.divergence.measures}
            names = ("kl", "until_fork", "perplexity_ratio")
            estimates = {name: interval.estimate for name in names if (interval := measures[name])}
            own = accuracies(results, models[one.name])
            kept = {name: own[name] / whole[name] for name in own}
            found.append({"base": base, "kind": kind, "name": one.name, **estimates, **kept})
    return _distinct(found)


def _distinct(found: Sequence[Row]) -> list[Row]:
    """Without those that another method has made, too, so that no model counts twice."""
    measured = {(row["base"], row["kl"], row["until_fork"]): row for row in reversed(found)}
    return [row for row in found if measured[row["base"], row["kl"], row["until_fork"]] is row]


def said(arguments: Mapping[str, Any]) -> str:
    """What was done, for the table."""
    return next(f"{name}={value}" for name, value in arguments.items()).replace(", ", ",")


def accuracies(results: Path, arguments: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy on short and long chains, from the folder if it is there."""
    name = "whole" if len(arguments) == 1 else said({key: arguments[key] for key in arguments if key != "pretrained"})
    path = results / "accuracies" / f"{arguments['pretrained']} {name}.json"
    if not path.is_file():
        run = tts.evaluate(tts.load(**arguments, journal="off", batch_size=256), [SHORT, LONG], limit=QUESTIONS)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({task: run.tasks[task].accuracy.value for task in (SHORT, LONG)}))
    content: dict[str, float] = json.loads(path.read_text())
    return content


def correlation(found: Sequence[Row], measure: Callable[[Row], float], task: str) -> tuple[float, float, float]:
    """Spearman's rank correlation of a measure with the accuracy on a task, with its interval over candidates."""
    pairs = np.array([[measure(row) for row in found], [row[task] for row in found]])

    def ranked(one: Any, other: Any) -> float:
        return float(spearmanr(one, other).statistic)

    ends = bootstrap(
        tuple(pairs), ranked, paired=True, vectorized=False, n_resamples=2000, rng=np.random.default_rng(0)
    ).confidence_interval
    return ranked(*pairs), float(ends.low), float(ends.high)


def page(found: Sequence[Row]) -> str:
    """The page with both tables."""
    left = [row for row in found if row[SHORT] >= LEFT]
    kinds = sorted({row["kind"] for row in found})
    lines = [
        "# What a screen without decoding predicts", "",
        f"`lm-eval-tts diverge` on {len(found)} smaller versions of the embedded models ({', '.join(kinds)}), beside "
        f"what they keep of their base's accuracy on {QUESTIONS} short and {QUESTIONS} long chains. The traces are the "
        "base's correct replies to 100 other chains. Spearman's rank correlation with its 95% interval over candidates "
        "(BCa bootstrap); 1 is the same order. Written by `python -m benchmarks.screening --write`.", "",
        "| measured without decoding | short chains, all | long chains, all | "
        f"long chains, the {len(left)} that keep half of the short ones |",
        "|---|--:|--:|--:|",
    ]  # fmt: skip
    for name, measure in MEASURES.items():
        cells = [correlation(some, measure, task) for some, task in ((found, SHORT), (found, LONG), (left, LONG))]
        lines.append(f"| {name} | {' | '.join(f'{a:.2f} ({b:.2f} to {c:.2f})' for a, b, c in cells)} |")
    lines += ["", "All candidates, by divergence:", ""]
    lines += ["| what | bits a token | tokens until a fork | perplexity | short, kept | long, kept |"]
    lines += ["|---|--:|--:|--:|--:|--:|"]
    for row in sorted(found, key=lambda row: float(row["kl"])):
        ratio = row["perplexity_ratio"]
        cells_of_row = (
            f"{row['base']} `{row['name']}`", f"{row['kl']:.3g}", f"{row['until_fork']:.1f}",
            f"{ratio:.3g}x" if math.isfinite(ratio) else "-", f"{100 * row[SHORT]:.0f}%", f"{100 * row[LONG]:.0f}%",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells_of_row)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
