"""Whether the search of `shrink` also finds a smaller SmolLM2 than methods do.

    python -m benchmarks.shrinking_smollm2 [--results FOLDER] [--write]

SmolLM2-135M can't reason, so the perplexity of real text stands in for the gate: sections of Python's manual, which
comes with Python. A model is kept if its perplexity is at most a quarter above the whole model's, by a t-test over
texts at 5%; models are tested from the largest to the smallest, and the first that isn't kept ends it, as in `shrink`.
Methods and search read the same texts, of other sections; what methods choose is among what the search scores.

What is in the folder already is taken from there. `--write` saves the page `docs/reference/shrunk_smollm2.md`.
"""

from __future__ import annotations

import argparse
import math
import random
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from pydoc_data.topics import topics
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student
from transformers import AutoConfig, AutoTokenizer

import lm_eval_ext as tts
from benchmarks.shrinking import METHODS, PARAMETERS, lacks
from benchmarks.smollm2 import SMOLLM2
from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.gating.gate_file import GatedBenchmark
from lm_eval_ext.pruning.context import ScoreCache
from lm_eval_ext.pruning.layers import loss_sum
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.recipe import Recipe, Shape, kept_layers
from lm_eval_ext.shrinking.distributions import BaseDistributions
from lm_eval_ext.shrinking.forced import with_model
from lm_eval_ext.shrinking.proposals import propose, recipe_of
from lm_eval_ext.shrinking.shrink_file import Removable, Search, ShrinkFile, ShrinkGate, TraceSource
from lm_eval_ext.shrinking.token_traces import TokenTrace

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "shrunk_smollm2.md"
WORSE = 1.25  # times the base's perplexity: what is still kept
GIVEN_UP = 1.6  # times: a method goes no further
READ, READ_TOKENS = 8, 48  # texts that methods and search read
PROVEN, PROVEN_TOKENS = 64, 64  # texts that decide


class Row(NamedTuple):
    """A smaller model, and by how many times its perplexity is the base's."""

    name: str
    what: str
    parameters: int
    times: float
    kept: bool


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "shrinking-smollm2")
    parser.add_argument("--write", action="store_true", help="save the page")
    given = parser.parse_args()
    text = page(Comparison(given.results))
    print(text)
    if given.write:
        PAGE.write_text(text, encoding="utf-8")


def paragraphs() -> tuple[list[str], list[str]]:
    """Paragraphs of running text: those that methods and search read, and those of other sections, which decide."""
    found: tuple[list[str], list[str]] = ([], [])
    for number, (_, section) in enumerate(sorted(topics.items())):
        for part in section.split("\n\n"):
            text = " ".join(part.split())
            if len(text) >= 300 and re.match(r"[A-Z]", text) and "\n   " not in part:
                found[number % 2].append(text)
    numbers = random.Random(0)
    return numbers.sample(found[0], READ), numbers.sample(found[1], PROVEN)


class Comparison:
    """The search's front and the methods' choices, by the perplexity of text.

    Args:
        folder: where scores are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = str(SMOLLM2)
        self.config = AutoConfig.from_pretrained(SMOLLM2)
        self.cache = ScoreCache(folder / "scores.jsonl")
        self.read, self.proven = paragraphs()
        self._source = folder / "read.txt"
        folder.mkdir(parents=True, exist_ok=True)
        self._source.write_text("\n\n".join(self.read), encoding="utf-8")

    @cached_property
    def whole(self) -> Sequence[float]:
        """The base's loss on each text that decides, in nats a token."""
        return self.losses("whole", None)

    def losses(self, name: str, recipe: Recipe | None) -> list[float]:
        """A model's loss on each text that decides, in nats a token; loaded only if one isn't known."""
        keys = [f"{name} {recipe.digest if recipe else ''} {number}" for number in range(PROVEN)]
        loaded: list[Any] = []

        def loss(number: int) -> float:
            if not loaded:
                loaded.append(_loaded(self.base, self.config, recipe))
            total, count = loss_sum(loaded[0], *self._rows[number])
            return float(total) / count

        return [self.cache.value(key, partial(loss, number)) for number, key in enumerate(keys)]

    @cached_property
    def _rows(self) -> list[Any]:
        tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
        rows = [tokenizer(text, return_tensors="pt")["input_ids"][:, :PROVEN_TOKENS] for text in self.proven]
        return [(ids, ids.new_ones(ids.shape)) for ids in rows]

    def row(self, name: str, recipe: Recipe) -> Row:
        """A model with what it keeps."""
        excess = [own - base for own, base in zip(self.losses(name, recipe), self.whole, strict=True)]
        highest = fmean(excess) + student.ppf(0.95, len(excess) - 1) * stdev(excess) / math.sqrt(len(excess))
        kept = highest < math.log(WORSE)
        return Row(name, lacks(recipe), self.parameters(recipe), math.exp(fmean(excess)), kept)

    def parameters(self, recipe: Recipe | None) -> int:
        """Number of parameters of a smaller model, or of the base."""
        return sum(value.numel() for value in _loaded(self.base, self.config, recipe).parameters())

    def searched(self) -> tuple[list[Row], int]:
        """The models of the search's front that were tested, from large to small, and how many it scored."""
        trace = TraceSource(run=".", count=READ, max_tokens=READ_TOKENS)
        layers = tuple(name for name in METHODS if name not in ("trace", "attention", "mlp", "joint"))
        remove = Removable(layers=layers, attention=("attention",), mlp=("mlp", "joint"))
        file = ShrinkFile(
            output=str(self.folder), base={"pretrained": self.base}, remove=remove, traces=trace,
            gate=ShrinkGate(benchmarks={"mini": GatedBenchmark(tier="critical")}),  # not this one, but the texts decide
            minimise="parameters", search=Search(beam=1, worst=0.6, front=24),
        )  # fmt: skip
        loading = {"pretrained": self.base}
        base = with_model(loading, lambda model: self._distributions(model.forced, model.tokenizer))
        proposals = propose(file, loading, base, str(self._source), self.cache)
        tested: list[Row] = []
        for number, (one, _) in enumerate(proposals.front(file.search.front, file.search.worst)):
            of_variant = proposals.variants[one.candidate.variant].recipe
            recipe = recipe_of(one.candidate, of_variant, self.base, "main", Shape.of(self.config))
            tested.append(self.row(f"front {number}", recipe))
            print(tested[-1], flush=True)
            if not tested[-1].kept:
                break
        return tested, len(proposals.scored)

    def _distributions(self, model: Any, tokenizer: Any) -> BaseDistributions:
        """What the base would write at each place of the texts that are read."""
        traces = []
        for text in self.read:
            ids = tuple(tokenizer(text)["input_ids"][:READ_TOKENS])
            none = np.zeros(len(ids) - 1, dtype=np.bool_)
            traces.append(TokenTrace(text, ids, 1, none, none))
        found = BaseDistributions(self.folder / "base", traces, model.identity)
        found.compute(model, lambda _: None)
        return found

    def of_methods(self) -> Iterator[Row]:
        """The choices of every method, of one layer or block, two, ... until the perplexity is much too high."""
        for method in METHODS:
            for count in range(1, 11):
                try:
                    recipe = tts.choose_layers(
                        self.base, method, remove=count, calibration=str(self._source), samples=READ,
                        max_tokens=READ_TOKENS, parameters=PARAMETERS.get(method, {}),
                    )  # fmt: skip
                except ArgumentError as error:
                    print(f"{method}:{count}: {error}", flush=True)
                    break
                row = self.row(f"{method}:{count}", recipe)
                print(row, flush=True)
                yield row
                if row.times > GIVEN_UP:
                    break


def _loaded(base: str, config: Any, recipe: Recipe | None) -> Any:
    if recipe is None:
        return load_pruned(base, config, range(config.num_hidden_layers)).eval()
    kept = kept_layers(recipe.drop, config.num_hidden_layers)
    return load_pruned(base, config, kept, changes=recipe.changes, blocks=recipe.blocks).eval()


def page(comparison: Comparison) -> str:
    """The page, with a row for each method: its smallest model that is kept by the estimate."""
    tested, scored = comparison.searched()
    of_methods = list(comparison.of_methods())
    whole, perplexity = comparison.parameters(None), math.exp(fmean(comparison.whole))
    lines = [
        "# What shrink finds in SmolLM2", "",
        f"SmolLM2-135M can't reason, so perplexity stands in for the gate: that of {PROVEN} paragraphs of Python's "
        f"manual ({PROVEN_TOKENS} tokens of each; the whole model's is {perplexity:.1f}) may be {WORSE} times as high, "
        f"by a t-test over paragraphs at 5%. Search and methods read {READ} paragraphs of other sections. Of each "
        "method, the smallest model that the test keeps; of the search, the smallest of its front, tested from the "
        "largest model to the first that isn't kept. Written by `python -m benchmarks.shrinking_smollm2 --write`.", "",
        "| method | drops | parameters, millions | perplexity, times the base's |", "|---|---|--:|--:|",
    ]  # fmt: skip
    kept = [row for row in tested if row.kept]
    for name in ("shrink", *METHODS):
        own = kept if name == "shrink" else [row for row in of_methods if row.name.partition(":")[0] == name]
        good = [row for row in own if row.kept]
        best = min(good, key=lambda row: row.parameters, default=None)
        if best is None:
            lines.append(
                f"| {name} | none of {len(own)} | | |" if own else f"| {name} | chooses nothing from plain texts | | |"
            )
            continue
        size = f"{best.parameters / 1e6:.1f} ({100 * best.parameters / whole:.1f}%)"
        shown = name if name == "shrink" else best.name
        lines.append(f"| `{shown}` | {best.what} | {size} | {best.times:.3f} |")
    lines += ["", f"The search scored {scored:,} models, and {len(tested)} were tested."]
    failed = [row for row in tested if not row.kept]
    if failed:
        one = failed[0]
        lines[-1] += (
            f" The next smaller one (without {one.what}; {one.parameters / 1e6:.1f} million) wasn't kept: its "
            f"perplexity is {one.times:.3f} times the base's."
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
