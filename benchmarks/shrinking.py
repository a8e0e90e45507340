"""Whether `shrink` finds a smaller model than any method by itself that keeps as much, also on other problems.

    python -m benchmarks.shrinking [--results FOLDER] [--write]

Runs `examples/shrink-tiny.yaml`, and evaluates its recipe and the choices of every method for layers and blocks (on the
same traces: one, two, ... of them, until three in a row keep too little) on all the questions that decide, and on short
chains, which no search has seen.
`evolution` is EvoPress (arXiv 2410.14649) in few lines: of a number of blocks, which ones are left out changes by
swaps, and of the offspring of each generation the one that diverges least goes on.

What is in the folder already is taken from there. `--write` saves the page `docs/reference/shrunk.md`.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig

import lm_eval_ext as tts
from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.recipe import Recipe, Shape, kept_layers, load_recipe
from lm_eval_ext.shrinking.distributions import BaseDistributions
from lm_eval_ext.shrinking.diverge import mean_bits
from lm_eval_ext.shrinking.forced import LocalModel
from lm_eval_ext.shrinking.proposals import Proposal, Variant, recipe_of
from lm_eval_ext.shrinking.shrink import ShrinkStudy
from lm_eval_ext.shrinking.states import State, without
from lm_eval_ext.shrinking.token_traces import token_traces

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "shrunk.md"
FILE = ROOT / "examples" / "shrink-tiny.yaml"
TASKS = ("chains_to_prove", "tts_chain_short_b128")
METHODS = (  # all that choose layers or blocks
    "shortgpt", "angular", "trace", "perplexity", "sleb", "taylor", "magnitude", "reverse", "random", "laco",
    "replaceme", "attention", "mlp", "joint",
)  # fmt: skip
PARAMETERS: Mapping[str, Mapping[str, Any]] = {"laco": {"threshold": -1.0, "interval": 1, "merged": 2}}  # any number
LOST = 3  # numbers of layers or blocks in a row that keep too little, after which a method is given up
KEEP = 0.95
BLOCKS = range(2, 11)  # that the evolution leaves out
GENERATIONS, OFFSPRING = 12, 16


class Row(NamedTuple):
    """A smaller model, and what it keeps of its base's accuracy, by task."""

    name: str
    what: str
    parameters: int
    kept: Mapping[str, tuple[float, float, float]]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "shrinking")
    parser.add_argument("--write", action="store_true", help="save the page")
    given = parser.parse_args()
    report = tts.shrink(FILE, quiet=True)
    if report.winner is None:
        raise SystemExit("nothing smaller is kept, so there is nothing to compare with")
    found = list(rows(given.results, ShrinkStudy(FILE), str(report.winner.arguments["recipe"])))
    text = page(report, found)
    print(text)
    if given.write:
        PAGE.write_text(text, encoding="utf-8")


def rows(results: Path, study: ShrinkStudy, recipe_path: str) -> Iterator[Row]:
    """The recipe that was found, then the choices of methods."""
    whole = evaluated(results / "whole", {"pretrained": "tiny-chain"})

    def row(name: str, recipe: Recipe) -> Row:
        path = recipe.save(results / "recipes" / f"{recipe.digest}.yaml")
        return Row(
            name, lacks(recipe), parameters(recipe), evaluated(results / path.stem, {"recipe": str(path)}, whole)
        )

    yield row("shrink", load_recipe(recipe_path))
    for method in METHODS:
        lost = 0
        for count, recipe in choices(method, study):
            found = row(f"{method}:{count}", recipe)
            yield found
            lost = 0 if found.kept[TASKS[0]][0] >= KEEP else lost + 1
            if lost == LOST:
                break
    for count, recipe in evolved(study).items():
        yield row(f"evolution:{count}", recipe)


def choices(method: str, study: ShrinkStudy) -> Iterator[tuple[int, Recipe]]:
    """What a method chooses on the traces of the search: one layer or block, two, ..., as far as it goes."""
    for count in itertools.count(1):
        try:
            yield count, tts.choose_layers(
                "tiny-chain", method, remove=count, parameters=PARAMETERS.get(method),
                calibration=str(study.folder / "traces.jsonl"), samples=study.file.traces.count, max_tokens=512,
            )  # fmt: skip
        except ArgumentError:
            return


def lacks(recipe: Recipe) -> str:
    """What it drops, such as `layers 7, attention 8+10`."""
    said = recipe.summary.replace("drops ", "") + (", with a linear map" if recipe.linear_map else "")
    return f"layers {said}" if said[:1].isdigit() else said


def evolved(study: ShrinkStudy) -> dict[int, Recipe]:
    """The blocks that an evolution leaves out, by their number."""
    lm: Any = tts.load("tiny-chain", journal="off")
    model = LocalModel(lm.model)
    traces = token_traces(study.traces(), lm.tokenizer, study.file.traces.max_tokens)
    base = BaseDistributions(study.folder / "evolution", traces, "tiny-chain")
    base.compute(model, lambda _: None)
    every = [(kind, layer) for kind in ("attention", "mlp") for layer in range(lm.model.config.num_hidden_layers)]

    def state(gone: Collection[tuple[str, int]]) -> State:
        of_kind = {kind: [layer for one, layer in gone if one == kind] for kind in ("attention", "mlp")}
        return State.of((), of_kind["attention"], of_kind["mlp"])

    @cache
    def bits(gone: frozenset[tuple[str, int]]) -> float:
        with without(lm.model, state(gone)):
            return mean_bits(model, base)

    found, numbers = {}, random.Random(0)
    for count in BLOCKS:
        parent = min((frozenset(numbers.sample(every, count)) for _ in range(OFFSPRING)), key=bits)
        for _ in range(GENERATIONS):
            swaps = (
                (numbers.choice(sorted(parent)), numbers.choice(sorted({*every} - parent))) for _ in range(OFFSPRING)
            )
            parent = min([parent, *(parent - {away} | {back} for away, back in swaps)], key=bits)
        proposal = Proposal(Variant(), state(parent))
        shape = Shape.of(lm.model.config)
        found[count] = recipe_of(proposal, None, "tiny-chain", "main", shape)
    return found


def evaluated(folder: Path, arguments: Mapping[str, Any], base: Any = None) -> Any:
    """Results of a model; with a base, what it keeps of the base's accuracy."""
    path = folder / "results"
    if not list(path.rglob("results_*.json")):
        model = tts.load(**arguments, journal="off", batch_size=256)
        tts.evaluate(model, list(TASKS), output=path, include_path=str(FILE.parent / "chains"), limit=600)
    if base is None:
        return path
    frame = tts.compare(base, path, all_budgets=True).to_frame()
    return {row.task: (row.kept, row.kept_low, row.kept_high) for row in frame.itertuples()}


def parameters(recipe: Recipe) -> int:
    """Number of parameters of tiny-chain's smaller version."""
    config = AutoConfig.from_pretrained(TINY_CHAIN)
    kept = kept_layers(recipe.drop, config.num_hidden_layers)
    model = load_pruned(str(TINY_CHAIN), config, kept, changes=recipe.changes, blocks=recipe.blocks)
    return sum(value.numel() for value in model.parameters())


def page(report: Any, found: list[Row]) -> str:
    """The page, with a row for each method: its smallest model that keeps 95% of the long chains."""
    (winner, *others), whole = found, report.whole
    long, short = TASKS
    lines = [
        "# What shrink finds", "",
        "`examples/shrink-tiny.yaml` beside the choices of single methods on the same traces, of one layer or block, "
        f"two, ... until {LOST} in a row keep too little: of each, the smallest model whose accuracy on all 600 long "
        f"chains is at least {100 * KEEP:g}% of the base's above guessing (95% intervals, paired by question), by that "
        "estimate alone. The short chains have one to three steps, and no search has seen "
        "them; on `tts_depth`, tiny-chain itself has nothing right, so nothing can be lost. Written by `python -m "
        "benchmarks.shrinking --write`.", "",
        "| method | drops | parameters | long chains kept, % | short chains kept, % |", "|---|---|--:|--:|--:|",
    ]  # fmt: skip
    for method in ("shrink", "evolution", *METHODS):
        own = [row for row in found if row.name.partition(":")[0] == method]
        good = [row for row in own if row.kept[long][0] >= KEEP]
        best = min(good, key=lambda row: row.parameters, default=None)
        if best is None:
            lines.append(f"| {method} | none of {len(own)} | | | |")
            continue
        shown = (f"{100 * a:.1f} ({100 * b:.1f} to {100 * c:.1f})" for a, b, c in (best.kept[long], best.kept[short]))
        size = f"{best.parameters:,} ({100 * best.parameters / whole:.0f}%)"
        lines.append(f"| `{best.name}` | {best.what} | {size} | {' | '.join(shown)} |")
    each = report.all_tokens / (1 + len(report.front))
    lines += [
        "", "Of those that papers compare with, `joint` is LLM-Drop, `evolution` is EvoPress, and `replaceme` chooses "
        "LLM-Streamline's runs of layers, with a linear map in the place of the layer that it trains.", "",
        f"The search scored {len(report.scored):,} models without decoding, and the proof decoded "
        f"{report.tokens:,.0f} tokens. Evaluating the {len(others)} choices of single methods and of the evolution "
        f"decoded about {each:,.0f} for each, {len(others) * each / 1e6:.1f} million in all.",
    ]  # fmt: skip
    assert winner.name == "shrink"
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
