"""Trains `pruned_models/tiny-chain`, a tiny reasoning model, from scratch; or `tiny-moe-chain`, a mixture of experts.

    python -m examples.tiny_chain [FOLDER] [--experts] [--steps 2600] [--seed 1]

The model learns to think through a chain step by step, writing the running value after every step, and then to put the
last value in a box. If its thinking is cut (in a fraction `CUT` of the examples), it learns to answer at once. Chains
grow longer as it learns. During training, each layer is skipped with probability `SKIP` (stochastic depth, arXiv
1603.09382): with a high rate, every single layer becomes dispensable; without skipping, many become indispensable, even
for a single step. Labels are slightly smoothed, so that the model makes occasional mistakes when it is sampled.
Matrices are trained with Muon (Jordan et al. 2024), everything else with AdamW. Experts are matrices of their own for
Muon; nothing balances how often they are chosen.

Writes weights, tokenizer and `training.json`, which has the loss, and accuracy by chain length for the base model and
without each of its layers, or of its experts. It runs on one thread by default, so that the same seed gives the same
weights whatever the number of cores.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from lm_eval_ext.paths import TINY_CHAIN, TINY_MOE_CHAIN
from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.testbed.problems import chain, running_values, worked_out

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TOKENS = 4096  # per batch, approximately
SHORTEST, LONGEST = 6, 40  # maximum chain length at the start and at the end, in steps
LEARNED = 0.1  # mean loss per token; below it, chains grow longer
CUT = 0.25
SKIP = 0.001
SMOOTHING = 0.0015
RATES = {"muon": 0.02, "adamw": 3e-3}
LENGTHS = (1, 2, 3, 6, 12, 18, 24, 32, 40)

INSTRUCTION = "Compute from left to right, modulo 10, and put the result in \\boxed{}: "
_SPECIAL = ("<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")
_TEXT = (
    "<think>", "</think>", "\\boxed{", INSTRUCTION,
    *(f"{operator}{digit}" for operator in "+-*=" for digit in "0123456789"),
)  # fmt: skip
# The template's comment identifies the format in `thinking_formats.yaml`.
_CHAT_TEMPLATE = (
    "{# thinking_format: bare #}"
    "{% for message in messages %}"
    "{{ '<|user|>' if message.role == 'user' else '<|assistant|>' }}{{ message.content }}"
    "{{ '<|end|>' if message.role == 'assistant' else '' }}"
    "{% endfor %}"
    "{{ '<|assistant|>' if add_generation_prompt else '' }}"
)


def main() -> None:
    """Train and write everything to a folder."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", type=Path)
    arguments.add_argument("--experts", action="store_true", help="train a mixture of experts")
    arguments.add_argument("--steps", type=int, help="by default 2600, or 1600 with --experts")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--skip", type=float, default=SKIP, help="probability of skipping a layer")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--examples", type=int, default=100, help="chains of each length in the final evaluation")
    given = arguments.parse_args()
    folder = given.folder or (TINY_MOE_CHAIN if given.experts else TINY_CHAIN)
    steps = given.steps or (1600 if given.experts else 2600)
    log = train(folder, steps, given.seed, given.skip, given.threads, given.examples, experts=given.experts)
    print(json.dumps(log["accuracy"]))


def train(
    folder: Path,
    steps: int,
    seed: int,
    skip: float = SKIP,
    threads: int = 1,
    examples: int = 100,
    *,
    experts: bool = False,
) -> dict[str, object]:
    """Train a model, write it to `folder`, and return the contents of `training.json`."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = chain_tokenizer()
    model = (_new_mixture if experts else _new_model)(tokenizer).to(device)
    begun = time.monotonic()
    losses = _fit(model, tokenizer, steps, skip, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    log: dict[str, object] = {
        "seed": seed, "steps": steps, "skip": skip, "minutes": round((time.monotonic() - begun) / 60),
        "parameters": model.num_parameters(), "torch": torch.__version__, "loss": losses,
        "accuracy": _accuracies(folder, tokenizer, examples, device),
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(log, indent=1) + "\n", "utf-8")
    return log


def _new_model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=96, num_hidden_layers=12, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        initializer_range=0.08,  # for a width of 32; the default is meant for thousands
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def _new_mixture(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    from transformers import GenerationConfig, Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=32, moe_intermediate_size=32, num_hidden_layers=6, num_experts=8,
        num_experts_per_tok=2, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        initializer_range=0.08, router_aux_loss_coef=0.0, intermediate_size=32,
    )  # fmt: skip
    model = Qwen3MoeForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


# Tokenizer --------------------------------------------------------------------------------------------------


def chain_tokenizer() -> PreTrainedTokenizerFast:
    """Create the tokenizer; it can encode any text, and encodes the model's training data in few tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in _TEXT])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    fast.chat_template = _CHAT_TEMPLATE
    return fast


# Examples ---------------------------------------------------------------------------------------------------


def example(steps: int, generator: random.Random, *, cut: bool = False) -> tuple[str, str, str]:
    """A problem in three parts: the prompt, the text after it that is not learned, and the text to learn."""
    question = chain(steps, generator)
    parts = worked_out(question)
    answer = rf"\boxed{{{running_values(question)[-1]}}}<|end|>"
    prompt = f"<|user|>{INSTRUCTION}{question}<|assistant|><think>"
    if not cut:
        return prompt, "", f"{''.join(parts)}</think>{answer}"
    near_end = max(0, len(parts) - 6) if generator.random() < 0.6 else 0  # the end is where there is something to learn
    return prompt, f"{''.join(parts[: generator.randrange(near_end, len(parts))])}</think>", answer


def _batch(
    tokenizer: PreTrainedTokenizerFast, longest: int, generator: random.Random
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, labels, and which rows are cut; chains have similar lengths (for little padding), often the longest."""
    import torch

    steps = longest if generator.random() < 0.4 else generator.randint(1, longest)
    rows = max(16, min(128, TOKENS // (3 * steps + 12)))
    cuts = [generator.random() < CUT for _ in range(rows)]
    lengths = [generator.randint(max(1, steps - 3), steps) for _ in range(rows)]
    examples = [example(length, generator, cut=cut) for length, cut in zip(lengths, cuts, strict=True)]
    return *_padded(tokenizer, examples), torch.tensor(cuts)


def _padded(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[tuple[str, str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
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


def _fit(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, steps: int, skip: float, seed: int
) -> list[list[float]]:
    """Train the model; chains grow by two steps whenever the current ones have been learned.

    Returns:
        About a hundred entries of step, mean loss per token on uncut rows since the previous entry, and longest chain.
    """
    import torch

    optimizers = _optimizers(model)
    layers, generator = decoder_layers(model), random.Random(seed)
    longest, recent, losses, shown = SHORTEST, 2.0, list[float](), list[list[float]]()
    model.train()
    progress = tqdm(range(1, steps + 1), desc="Training")
    for number in progress:
        ids, labels, cuts = _batch(tokenizer, longest, generator)
        with bypassed(layers, [layer for layer in range(len(layers)) if generator.random() < skip]):
            logits = model(input_ids=ids.to(model.device), use_cache=False).logits[:, :-1]
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1),
            labels[:, 1:].flatten().to(logits.device),
            ignore_index=-100,
            reduction="none",
            label_smoothing=SMOOTHING,
        ).view(len(ids), -1)
        counted = (labels[:, 1:] != -100).to(each.device)
        torch.autograd.backward(each.sum() / counted.sum())
        _step(model, optimizers, number / steps)
        whole = ~cuts.to(each.device)
        losses.append(float(each.detach()[whole].sum() / counted[whole].sum().clamp(min=1)))
        recent = 0.9 * recent + 0.1 * losses[-1]
        if recent < LEARNED and longest < LONGEST:
            longest, recent = min(LONGEST, longest + 2), 2 * LEARNED
        if number % max(1, steps // 100) == 0:
            shown.append([number, round(sum(losses) / len(losses), 4), longest])
            progress.set_postfix_str(f"loss {shown[-1][1]}, up to {longest} steps", refresh=False)
            losses.clear()
    return shown


def _optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    import torch

    inner = {name: weight for name, weight in model.named_parameters() if weight.ndim > 1 and ".layers." in name}
    routers = {name for name in inner if name.endswith("mlp.gate.weight")}
    chosen = {id(weight) for name, weight in inner.items() if name not in routers}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    matrices = [weight for weight in model.parameters() if id(weight) in chosen and weight.ndim == 2]
    stacked = [weight for weight in model.parameters() if id(weight) in chosen and weight.ndim == 3]
    for weight in stacked:
        matrices += _unstacked(weight)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=RATES["muon"], momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=RATES["adamw"], betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return optimizers


def _unstacked(stacked: torch.nn.Parameter) -> list[torch.nn.Parameter]:
    """A matrix for each expert, in the memory of the tensor of all experts, that gets its part of the gradient."""
    import torch

    matrices = [torch.nn.Parameter(part) for part in stacked.data]

    def hand_out(whole: torch.Tensor) -> None:
        assert whole.grad is not None
        for matrix, gradient in zip(matrices, whole.grad, strict=True):
            matrix.grad = gradient

    stacked.register_post_accumulate_grad_hook(hand_out)  # type: ignore[no-untyped-call]  # torch's
    return matrices


def _step(model: PreTrainedModel, optimizers: Sequence[torch.optim.Optimizer], progress: float) -> None:
    """Take an optimizer step; rates rise in the first 60th of the steps and fall to a 50th in the second half."""
    import torch

    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    share = min(1.0, 60 * progress, max(0.02, 2 * (1 - progress)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["full_rate"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.zero_grad(set_to_none=True)  # also of experts, which the optimizer knows one by one


# Evaluation -------------------------------------------------------------------------------------------------


def _accuracies(
    folder: Path, tokenizer: PreTrainedTokenizerFast, examples: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Accuracy of greedy decoding without a budget, by the layer or expert left out, then by number of steps."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    layers = range(config.num_hidden_layers)
    experts = range(getattr(config, "num_experts", 0))
    without: dict[str, tuple[list[int], dict[int, tuple[int, ...]]]] = {"dense": ([*layers], {})}
    for layer in layers:
        if experts:
            without |= {f"without expert {layer}.{one}": ([*layers], {layer: (one,)}) for one in experts}
        else:
            without[f"without layer {layer}"] = ([other for other in layers if other != layer], {})
    found: dict[str, dict[str, float]] = {}
    for name, (kept, dropped) in without.items():
        model = load_pruned(str(folder), config, kept, experts=dropped).to(device)
        found[name] = {str(steps): _accuracy(model, tokenizer, steps, examples) for steps in LENGTHS}
    return found


def _accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, steps: int, examples: int) -> float:
    """Fraction of chains with a correct answer."""
    import torch

    generator = random.Random(f"evaluation {steps}")
    questions = [chain(steps, generator) for _ in range(examples)]
    prompts = [f"<|user|>{INSTRUCTION}{question}<|assistant|><think>" for question in questions]
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts], device=model.device)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=2 * steps + 8)
    right = [
        rf"</think>\boxed{{{running_values(question)[-1]}}}" in text
        for question, text in zip(questions, tokenizer.batch_decode(out[:, ids.shape[1] :]), strict=True)
    ]
    return sum(right) / examples


if __name__ == "__main__":
    main()
