"""Plausible runs of invented models, for looking at a leaderboard of any size.

    python -m benchmarks.site_runs FOLDER [--runs 60]

Qwen-like, Llama-like and smaller bases with smaller models made from them: layers off by several methods, quantized,
recovered. What is kept of knowledge, short and long reasoning is as in the paper: the more is taken away, the more long
reasoning is lost. All numbers are drawn from a fixed seed.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.lm_eval_output import write_output
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import read_source
from lm_eval_ext.runs.publish import publish
from lm_eval_ext.runs.run import Tier
from lm_eval_ext.runs.samples import write_run

BASES = {"Qwen3-8B": 0.72, "Llama-like-8B": 0.48, "Small-1.5B": 0.3, "Qwen-like-4B": 0.6, "Mistral-like-7B": 0.42}
METHODS = {"laco": 1.05, "shortgpt": 1.0, "angular": 0.97, "sleb": 0.94, "taylor": 0.92, "reverse": 0.9}
BUDGETS = (512, 1024, 2048, 4096, 8192)
DEPTH = 36
BENCHMARKS = {"tts_aime24": (30, 8, 0.0), "tts_math500": (100, 4, 0.0), "tts_gpqa_diamond": (60, 4, 0.25)}
_WORDS = ("so the sum is", "wait, let me check that again", "then it is", "which gives", "now the next one:", "hence")


class Model(NamedTuple):
    """An invented model: how it was made, and the share of each kind that it keeps."""

    base: str
    strength: float
    dropped: tuple[int, ...]
    method: str
    config: dict[str, object]
    knowledge: float
    long: float


def models(count: int) -> Iterator[Model]:
    """As many models, the bases among them."""
    draw = random.Random(7)
    made = 0
    for number, (base, strength) in enumerate(BASES.items()):
        for place in range(math.ceil((count - made) / (len(BASES) - number))):
            yield _model(base, strength, place, draw)
            made += 1


def _model(base: str, strength: float, place: int, draw: random.Random) -> Model:
    if place == 0:
        return Model(base, strength, (), "none", {}, 1.0, 1.0)
    if place in (1, 2):
        bits = {1: "load_in_8bit", 2: "load_in_4bit"}[place]
        arguments = {"pretrained": f"Lab/{base}", bits: True}
        return Model(base, strength, (), "none", {"model_args": arguments}, 0.99, (0.99, 0.93)[place - 1])
    step = place - 3
    method = list(METHODS)[step % len(METHODS)]
    off = 1 + step // len(METHODS) % 6
    first = 28 - step % len(METHODS) * 3 - step // (6 * len(METHODS)) - off // 2  # others for each method
    skill = METHODS[method] * draw.uniform(0.97, 1.03)
    knowledge, long = min(1.0, skill * 0.985**off), min(1.0, skill * 0.8 ** (off**1.2))
    return Model(base, strength, tuple(range(first, first + off)), method, {}, knowledge, long)


def _costs(model: Model) -> dict[str, float]:
    return {
        "active_parameters": 8e9 * (1 - len(model.dropped) / DEPTH), "layers": DEPTH - len(model.dropped),
        "attention_heads": 32, "kv_heads": 8, "head_size": 128, "kv_element_bytes": 2,
    }  # fmt: skip


def write_runs(folder: Path, count: int) -> None:
    """Write published runs of `count` models."""
    catalogue = read_catalogue()
    for number, model in enumerate(models(count)):
        output = folder / ".output" / str(number)
        tasks, texts = _tasks(model, number)
        path = write_output(
            output, tasks, base=f"Lab/{model.base}", dropped=model.dropped, method=model.method,
            config={**model.config, "costs": _costs(model)},
            texts=texts, depth=DEPTH, measures=_measures(model, list(tasks)),
        )  # fmt: skip
        published = publish(read_source(path, catalogue), folder)
        tier: Tier = "reported" if number % 9 == 8 else "verified"
        write_run(published.run.model_copy(update={"tier": tier}), published.path.parent)
    shutil.rmtree(folder / ".output")


def _tasks(model: Model, number: int) -> tuple[dict[str, list[list[bool]]], dict[str, list[list[str]]]]:
    """Right or wrong by task, question and sample, and the texts, of which smaller budgets have beginnings."""
    draw = random.Random(f"{model.base} {model.dropped} {number}")
    tasks: dict[str, list[list[bool]]] = {}
    texts: dict[str, list[list[str]]] = {}
    for benchmark, (questions, samples, chance) in BENCHMARKS.items():
        hardness = [random.Random(f"{benchmark} {question}").gauss(0, 1.5) for question in range(questions)]
        for budget in BUDGETS:
            tasks[f"{benchmark}_b{budget}"] = []
            texts[f"{benchmark}_b{budget}"] = []
        for hard in hardness:
            traces = [_trace(model, hard, chance, draw) for _ in range(samples)]
            for at, budget in enumerate(BUDGETS):
                tasks[f"{benchmark}_b{budget}"].append([right[at] for right, _ in traces])
                texts[f"{benchmark}_b{budget}"].append([thought[at] + "</think>\\boxed{%s}" for _, thought in traces])
    tasks["tts_sums"] = [[draw.random() < 0.95 * model.knowledge] for _ in range(60)]
    return tasks, texts


def _measures(model: Model, tasks: list[str]) -> dict[str, dict[str, float]]:
    """Tokens, and shares of samples that were cut or ended in a loop: the more, the less is kept."""
    lost = 1 - model.long
    found = {}
    for name in tasks:
        budget = int(name.rpartition("_b")[2]) if "_b" in name else 200
        thinking = min(budget, round(min(budget, 6000) * (0.7 + 0.3 * lost)))
        found[name] = {
            "thinking_tokens": float(thinking), "answer_tokens": 40.0, "forced": round(0.1 + 0.6 * lost, 3),
            "looped": round(0.3 * lost**1.4, 3),
        }  # fmt: skip
    return found


def _trace(model: Model, hard: float, chance: float, draw: random.Random) -> tuple[list[bool], list[str]]:
    able = model.strength * 7 - 4 - hard + 7 * math.log(max(model.long, 0.02))
    found_at = draw.gauss(3 - able, 1.2)
    lost_at = found_at + draw.expovariate(1 / (1 + 9 * model.long))
    right, thoughts, thought = [], [], ""
    for at in range(len(BUDGETS)):
        right.append(found_at <= at < lost_at or draw.random() < chance)
        thought += " ".join(draw.choices(_WORDS, k=4)) + ". "
        thoughts.append(thought)
    return right, thoughts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=60)
    given = parser.parse_args()
    write_runs(given.folder, given.runs)


if __name__ == "__main__":
    main()
