"""`--model pruned-vllm` on real vLLM; `make test-vllm` sets up one that runs on a CPU."""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from benchmarks.packing import AWQ, GPTQ, W8A8, Pack, awq, gptq, int8
from benchmarks.smollm2 import SMOLLM2, questions, templated
from tests.checkpoints import write_checkpoint
from tests.commands import LM_EVAL, run
from tests.quantized import write_quantized
from tests.tokenizers import TEMPLATE, byte_tokenizer

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here (make test-vllm has it)"
)
DROPS = [
    pytest.param(None, id="none", marks=pytest.mark.long),
    pytest.param([25], id="one", marks=pytest.mark.long),
    pytest.param([25, 26], id="two"),
    pytest.param(list(range(15, 25)), id="ten", marks=pytest.mark.long),
]
# On a CPU, vLLM wants most of the memory to be free by default, and a page cache counts as used.
SMALL = {
    "dtype": "float32", "max_model_len": 1024, "gpu_memory_utilization": 0.4, "journal": "off",
    "thinking_format": "plain",
}  # fmt: skip
GREEDY = {"do_sample": False, "temperature": 0.0, "until": [], "max_gen_toks": 48}


@contextmanager
def loaded(drop: list[int] | None, **arguments: Any) -> Iterator[Any]:
    from lm_eval_ext.harness.models.pruned_vllm import PrunedVLLM

    arguments = {"pretrained": str(SMOLLM2), **arguments}
    lm = PrunedVLLM(drop_layers=drop, **{**SMALL, "enforce_eager": True, **arguments})
    yield lm
    lm.model.llm_engine.engine_core.shutdown()
    del lm
    gc.collect()


def instances(texts: list[str], repeats: int = 1, **kwargs: Any) -> list[Instance]:
    made = [
        Instance("generate_until", {}, (text, {**GREEDY, **kwargs}), 0, metadata=("t", number, repeats))
        for number, text in enumerate(texts)
    ]
    return [instance for instance in made for _ in range(repeats)]


def texts_of(lm: Any, requests: list[Instance]) -> list[str]:
    return [str(text) for text in lm.generate_until(requests, disable_tqdm=True)]


def test_without_vllm_one_line_says_what_to_install() -> None:
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed here")
    done = run(LM_EVAL, "--model", "pruned-vllm", "--model_args", "pretrained=x", "--tasks", "tts_sums")
    assert done.returncode != 0
    assert "pip install 'lm-eval-tts[vllm]'" in done.stderr.strip().splitlines()[-1]


@needs_vllm
@pytest.mark.parametrize("drop", DROPS)
def test_greedy_texts_are_those_of_pruned_hf(drop: list[int] | None, pytestconfig: pytest.Config) -> None:
    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

    hf = PrunedHFLM(
        str(SMOLLM2), drop_layers=drop, dtype="float32", batch_size=20, journal="off", thinking_format="plain"
    )
    requests = instances(
        [templated(hf.tokenizer, text) for text in questions(20 if pytestconfig.getoption("--long") else 6)],
        thinking_token_budget=-1,
    )
    expected = texts_of(hf, requests)
    with loaded(drop) as lm:
        found = texts_of(lm, requests)
        ours, theirs = lm.get_model_info()["pruning"], hf.get_model_info()["pruning"]
    assert {key: ours[key] for key in ours if key != "model_fingerprint"} == {
        key: theirs[key] for key in ours if key != "model_fingerprint"
    }
    assert found == expected


@needs_vllm
def test_the_embedded_model_is_the_default() -> None:
    question = "Compute from left to right, modulo 10, and put the result in \\boxed{}: 7+5*3-8"
    with loaded(None, pretrained=None, thinking_format=None) as lm:
        (text,) = texts_of(lm, instances([question], thinking_token_budget=64))
    assert text.removesuffix("<|end|>") == "7+5=2*3=6-8=8</think>\\boxed{8}"


@needs_vllm
def test_the_sweep_and_the_votes() -> None:
    """One engine for both: starting one takes long."""
    with loaded([25, 26]) as lm:
        prompts = [templated(lm.tokenizer, text) for text in questions(2)]
        samplings: list[dict[str, Any]] = [{}, {"do_sample": True, "temperature": 1.0}]
        for sampling in samplings:
            together = [
                request
                for budget in (8, 16, 32)
                for request in instances(prompts, thinking_token_budget=budget, answer_token_budget=8, **sampling)
            ]
            shared = texts_of(lm, together)
            lm._thinking.share_traces = False
            assert texts_of(lm, together) == shared
            lm._thinking.share_traces = True
        assert lm._thinking.totals.saved_by_sharing >= 2 * 2 * (8 + 16)

        votes = instances(prompts[:1], 8, thinking_token_budget=16, do_sample=True, temperature=1.0)
        first = texts_of(lm, votes)
        assert len(set(first)) == 8 and texts_of(lm, votes) == first

        stops = instances(prompts, thinking_token_budget=0, answer_token_budget=40, until=[" the"])
        assert all(" the" not in text.partition("Final Answer:")[2] for text in texts_of(lm, stops))


@pytest.mark.long
@needs_vllm
def test_shards_of_dropped_layers_are_not_read(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="40MB")
    AutoTokenizer.from_pretrained(SMOLLM2).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    drop = list(range(8, 20))
    dropped = {f"model.layers.{layer}." for layer in drop}
    only = {
        shard
        for shard in index.values()
        if all(any(name.startswith(layer) for layer in dropped) for name, where in index.items() if where == shard)
    }
    assert only, "a shard holds nothing but dropped layers"
    code = (
        "import sys; from lm_eval_ext.harness.models.pruned_vllm import PrunedVLLM\n"
        f"lm = PrunedVLLM(sys.argv[1], drop_layers={drop}, enforce_eager=True, **{SMALL})\n"
        "print(lm.get_model_info()['pruning']['parameters_after'])"
    )
    done = run(sys.executable, "-c", code, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Skipped {len(only)}/{len(set(index.values()))} safetensors shard(s)" in done.stdout + done.stderr


@pytest.mark.long
@needs_vllm
@pytest.mark.parametrize("changed", ["merge", "linear_map"])
def test_changed_weights_and_exports_give_the_text_of_pruned_hf(changed: str, tmp_path: Path) -> None:
    """LaCo's merges, or ReplaceMe's map, streamed into vLLM; and the exported checkpoint in stock vLLM."""
    import torch

    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
    from lm_eval_ext.pruning.export import export
    from lm_eval_ext.pruning.merging import save_map
    from lm_eval_ext.pruning.recipe import Recipe, load_recipe

    matrix = torch.eye(576) + torch.randn(576, 576, generator=torch.Generator().manual_seed(1)) / 50
    changes: dict[str, object] = {
        "merge": [{"into": 24, "layers": [25, 26]}],
        "linear_map": save_map(24, matrix, tmp_path / "maps"),
    }
    fields = {"base": str(SMOLLM2), "drop": [25, 26], "method": "a test", "source": "-", changed: changes[changed]}
    path = Recipe.model_validate(fields).save(tmp_path / "r.yaml")
    requests = instances(questions(6), thinking_token_budget=24)
    expected = texts_of(PrunedHFLM(recipe=str(path), dtype="float32", journal="off", thinking_format="plain"), requests)
    with loaded(None, recipe=str(path)) as ours:
        assert texts_of(ours, requests) == expected
    export(load_recipe(str(path)), tmp_path / "out", shard_bytes=100_000_000)
    with loaded(None, pretrained=str(tmp_path / "out")) as stock:
        assert stock.recipe is None and texts_of(stock, requests) == expected


@pytest.mark.long
@needs_vllm
def test_blocks_that_are_left_out_add_nothing() -> None:
    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

    blocks: dict[str, Any] = {"drop_attention": [10, 12], "drop_mlp": [14]}
    hf = PrunedHFLM(str(SMOLLM2), dtype="float32", batch_size=8, journal="off", thinking_format="plain", **blocks)
    requests = instances([templated(hf.tokenizer, text) for text in questions(8)], thinking_token_budget=-1)
    with loaded(None, **blocks) as lm:
        assert texts_of(lm, requests) == texts_of(hf, requests)
        info = lm.get_model_info()["pruning"]
    assert info["dropped_attention"] == [10, 12] and info["parameters_after"] == info["parameters_before"]


@pytest.mark.long
@needs_vllm
@pytest.mark.parametrize(
    ("fields", "pack"),
    [({**W8A8, "ignore": ["lm_head", "model.layers.5.mlp.down_proj"]}, int8), (GPTQ, gptq), (AWQ, awq)],
    ids=["compressed-tensors", "gptq", "awq"],
)
def test_a_packed_checkpoint_without_layers_is_the_exported_one(
    fields: dict[str, object], pack: Pack, tmp_path: Path
) -> None:
    from lm_eval_ext.pruning.export import export
    from lm_eval_ext.pruning.recipe import Recipe

    base = write_quantized(tmp_path / "base", fields, pack, vocab_size=300)
    byte_tokenizer(TEMPLATE).save_pretrained(base)
    recipe = Recipe(base=str(base), drop=(1, 4), method="by hand", source="test")
    small: dict[str, Any] = {"max_model_len": 256, "dtype": "bfloat16"}  # packed maps of 4 bits know no float32 there
    requests = instances(["1+2=", "what?", "a longer prompt"], thinking_token_budget=-1)
    with loaded([1, 4], pretrained=str(base), **small) as lm:
        found = texts_of(lm, requests)
        assert lm.get_model_info()["pruning"]["quantization"]["method"] == fields["quant_method"]
    with loaded(None, pretrained=str(export(recipe, tmp_path / "exported")), **small) as lm:
        assert texts_of(lm, requests) == found
    with loaded([1, 3], pretrained=str(base), **small) as lm:
        assert texts_of(lm, requests) != found, "the layers matter"


@pytest.mark.long
@needs_vllm
@pytest.mark.parametrize("kind", ["qwen3_moe", "olmoe"])
def test_without_experts_greedy_texts_are_those_of_pruned_hf(kind: str, tmp_path: Path) -> None:
    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

    sizes: dict[str, Any] = {
        "vocab_size": 300, "max_position_embeddings": 512, "hidden_size": 128, "head_dim": 32, "num_experts": 8,
        "intermediate_size": 128, "moe_intermediate_size": 64, "num_experts_per_tok": 2, "mlp_only_layers": [],
        "decoder_sparse_step": 1,
    }  # fmt: skip
    folder = write_checkpoint(kind, tmp_path, **sizes)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    given: dict[str, Any] = {"drop_experts": {layer: [layer, 7] for layer in range(6)}, "drop_layers": [3]}
    del given["drop_experts"][3]
    requests = instances([f"Compute {n}+{n * 7 % 13}*{n * 3}=" for n in range(40)], thinking_token_budget=24)
    shared: dict[str, Any] = {"dtype": "float32", "journal": "off", "thinking_format": "plain"}
    expected = texts_of(PrunedHFLM(str(folder), batch_size=8, **shared, **given), requests)
    whole = texts_of(PrunedHFLM(str(folder), batch_size=8, **shared), requests)
    assert sum(one == other for one, other in zip(expected, whole, strict=True)) < 10, "the experts matter"
    drop = given.pop("drop_layers")
    with loaded(drop, pretrained=str(folder), max_model_len=512, **given) as lm:
        assert texts_of(lm, requests) == expected
        assert lm.get_model_info()["pruning"]["dropped_experts"]["0"] == "0+7"


@pytest.mark.long
@needs_vllm
@pytest.mark.parametrize(
    ("kind", "prune"), [("llama", "wanda:40%"), ("qwen3_moe", "wanda:40%"), ("llama", "sparsegpt:50%")]
)
def test_with_zeros_greedy_texts_are_those_of_pruned_hf(kind: str, prune: str, tmp_path: Path) -> None:
    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

    sizes: dict[str, Any] = {
        "vocab_size": 300, "max_position_embeddings": 512, "hidden_size": 128, "head_dim": 32, "intermediate_size": 128,
        **({"num_experts": 8, "moe_intermediate_size": 64, "decoder_sparse_step": 1} if kind == "qwen3_moe" else {}),
    }  # fmt: skip
    folder = write_checkpoint(kind, tmp_path, **sizes)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(f"Compute {n} plus {n * 5 % 17} times {n}." for n in range(20)))
    given: dict[str, Any] = {"prune": prune, "calibration": str(texts)}
    requests = instances([f"Compute {n}+{n * 7 % 13}*{n * 3}=" for n in range(40)], thinking_token_budget=24)
    shared: dict[str, Any] = {"dtype": "float32", "journal": "off", "thinking_format": "plain"}
    expected = texts_of(PrunedHFLM(str(folder), batch_size=8, **shared, **given), requests)
    whole = texts_of(PrunedHFLM(str(folder), batch_size=8, **shared), requests)
    assert sum(one == other for one, other in zip(expected, whole, strict=True)) < 10, "the zeros matter"
    with loaded(None, pretrained=str(folder), max_model_len=512, **given) as lm:
        assert texts_of(lm, requests) == expected
        assert lm.get_model_info()["pruning"]["sparsity"]["amount"] == prune.partition(":")[2]
