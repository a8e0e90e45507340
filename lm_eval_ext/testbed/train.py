"""Trains the tiny reasoner, `pruned_models/tiny-chain`, from scratch.

    python -m lm_eval_ext.testbed.train [FOLDER] [--steps 7000] [--seed 2510]

It learns to write the running value after every step of a chain as its thinking and then the last one in a box; where
its thinking was cut (`CUT` of the examples, at a random step, or before the first), to answer at once. In training each
layer is left out with probability `SKIP` (stochastic depth, arXiv 1603.09382), so that a layer less makes the model
worse and does not silence it. Writes weights, tokenizer and `training.json`: loss, and accuracy by length of chain, of
the whole model and without each of its layers.

On one thread by default, for the same weights from the same seed whatever the number of cores.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.registry import PRUNED_MODELS
from lm_eval_ext.testbed.problems import chain, running_values
from lm_eval_ext.testbed.tokenizer import INSTRUCTION, chain_tokenizer

if TYPE_CHECKING:
    import torch

BATCH = 64
LONGEST = 26  # steps; those of the benchmark are 24 at most
LEARNING_RATE = 1e-3
LEARNED = 0.2  # mean loss of a token, below which chains grow longer
CUT = 0.3
SKIP = 0.1
LENGTHS = (1, 2, 4, 8, 12, 16, 20, 24)


def main() -> None:
    """Train and write everything to a folder."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", type=Path, default=PRUNED_MODELS / "tiny-chain")
    arguments.add_argument("--steps", type=int, default=7000)
    arguments.add_argument("--seed", type=int, default=2510)
    arguments.add_argument("--skip", type=float, default=SKIP, help="probability with which a layer is left out")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--examples", type=int, default=100, help="chains of each length in the last evaluation")
    given = arguments.parse_args()
    log = train(given.folder, given.steps, given.seed, given.skip, given.threads, given.examples)
    print(json.dumps(log["accuracy"]))


def train(folder: Path, steps: int, seed: int, skip: float = SKIP, threads: int = 1, examples: int = 100) -> Any:
    """Train a model, write it to `folder`, and return what `training.json` holds."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = chain_tokenizer()
    model = _new_model(tokenizer).to(device)
    begun = time.monotonic()
    losses = _fit(model, tokenizer, steps, skip, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    log = {
        "seed": seed, "steps": steps, "batch": BATCH, "skip": skip, "minutes": round((time.monotonic() - begun) / 60),
        "parameters": model.num_parameters(), "torch": torch.__version__, "loss": losses,
        "accuracy": _accuracies(folder, tokenizer, examples, device),
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(log, indent=1) + "\n", "utf-8")
    return log


def _new_model(tokenizer: Any) -> Any:
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=192, num_hidden_layers=12, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        initializer_range=0.08,  # of a width of 64; the default is for thousands
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


# Examples ---------------------------------------------------------------------------------------------------


def example(steps: int, generator: random.Random, *, cut: bool = False) -> tuple[str, str, str]:
    """A problem as prompt, what stands after it without being learned, and what is learned."""
    question = chain(steps, generator)
    values = running_values(question)
    answer = rf"\boxed{{{values[-1]}}}<|end|>"
    prompt = f"<|user|>{INSTRUCTION}{question}<|assistant|><think>"
    if not cut:
        return prompt, "", f"{values}</think>{answer}"
    return prompt, f"{values[: generator.randrange(steps)]}</think>", answer


def _batch(tokenizer: Any, longest: int, generator: random.Random, *, cut: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels; of about one length, for little padding, and of the longest chains more often."""
    steps = longest if generator.random() < 0.3 else generator.randint(1, longest)
    shortest = max(1, steps - 2)
    return _padded(tokenizer, [example(generator.randint(shortest, steps), generator, cut=cut) for _ in range(BATCH)])


def _padded(tokenizer: Any, examples: Sequence[tuple[str, str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    parts = [[tokenizer.encode(part, add_special_tokens=False) for part in example] for example in examples]
    rows = [[*before, *given, *learned] for before, given, learned in parts]
    width = max(map(len, rows))
    ids = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows]
    labels = [
        [-100] * (len(row) - len(part[-1])) + part[-1] + [-100] * (width - len(row))
        for row, part in zip(rows, parts, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(labels)


# Training ---------------------------------------------------------------------------------------------------


def _fit(model: Any, tokenizer: Any, steps: int, skip: float, seed: int) -> list[list[float]]:
    """Step, mean loss of thinking since the one before, and longest chain, about a hundred times.

    Chains grow by a step whenever those there are have been learned.
    """
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, min(100, steps // 10), steps)
    layers, generator = decoder_layers(model), random.Random(seed)
    longest, recent, losses, shown = 1, 1.0, list[float](), list[list[float]]()
    model.train()
    for number in tqdm(range(1, steps + 1), desc="Training"):
        cut = generator.random() < CUT
        ids, labels = _batch(tokenizer, longest, generator, cut=cut)
        with bypassed(layers, [layer for layer in range(len(layers)) if generator.random() < skip]):
            loss = model(input_ids=ids.to(model.device), labels=labels.to(model.device), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if not cut:
            losses.append(float(loss))
            recent = 0.9 * recent + 0.1 * losses[-1]
        if recent < LEARNED and longest < LONGEST:
            longest, recent = longest + 1, 2 * LEARNED
        if number % max(1, steps // 100) == 0 and losses:
            shown.append([number, round(sum(losses) / len(losses), 4), longest])
            losses.clear()
    return shown


# Evaluation -------------------------------------------------------------------------------------------------


def _accuracies(folder: Path, tokenizer: Any, examples: int, device: Any) -> dict[str, dict[str, float]]:
    """Greedy, thinking as long as it likes: by what is left out, then by number of steps."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    found: dict[str, dict[str, float]] = {}
    for dropped in (None, *range(config.num_hidden_layers)):
        kept = [layer for layer in range(config.num_hidden_layers) if layer != dropped]
        model = load_pruned(str(folder), config, kept).to(device)
        name = "dense" if dropped is None else f"without layer {dropped}"
        found[name] = {str(steps): _accuracy(model, tokenizer, steps, examples) for steps in LENGTHS}
    return found


def _accuracy(model: Any, tokenizer: Any, steps: int, examples: int) -> float:
    """Share of chains whose answer is right."""
    import torch

    generator = random.Random(f"evaluation {steps}")
    questions = [chain(steps, generator) for _ in range(examples)]
    prompts = [f"<|user|>{INSTRUCTION}{question}<|assistant|><think>" for question in questions]
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts], device=model.device)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=steps + 8)
    right = [
        rf"</think>\boxed{{{running_values(question)[-1]}}}" in text
        for question, text in zip(questions, tokenizer.batch_decode(out[:, ids.shape[1] :]), strict=True)
    ]
    return sum(right) / examples


if __name__ == "__main__":
    main()
