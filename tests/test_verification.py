"""Dropping layers is exact or refused: for every kind of model, and for those that nobody here has seen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.utils import logging as theirs

from lm_eval_ext.errors import ArchitectureError, TTSError
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning import verification
from lm_eval_ext.pruning.architecture import _table
from lm_eval_ext.pruning.export import export, read_back_difference
from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.pruning.verification import tiny_config
from tests.checkpoints import write_checkpoint
from tests.shared import one_line
from tests.tokenizers import TEMPLATE, byte_tokenizer

ROOT = Path(__file__).parent.parent

CODE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM


class StrangeConfig(LlamaConfig):
    model_type = "strange"

    def __init__(self, scale_by_index=False, blocks=None, sizes=None, oddity="", window_size=None, **kwargs):
        super().__init__(**kwargs)
        self.scale_by_index, self.blocks, self.sizes, self.oddity = scale_by_index, blocks, sizes, oddity
        self.window_size = window_size


class StrangeForCausalLM(LlamaForCausalLM):
    config_class = StrangeConfig

    def __init__(self, config):
        layers, config.num_hidden_layers = config.num_hidden_layers, config.blocks or config.num_hidden_layers
        super().__init__(config)
        config.num_hidden_layers = layers
        for number, layer in enumerate(self.model.layers):
            if config.scale_by_index:
                layer.self_attn.scaling *= 1 + number
            if config.sizes:
                layer.self_attn.scaling *= config.sizes[number]
            if config.oddity == "idle":
                layer.forward = lambda states, *_, **__: states
            if config.window_size and number % 2:
                layer.register_forward_hook(lambda _, __, out: out * (1 + (out.shape[1] > config.window_size)))
            if config.oddity == "cache" and layers < 5:
                layer.self_attn.layer_idx = 0
        if config.oddity == "integers":
            self.order = torch.nn.Parameter(torch.arange(3), requires_grad=False)
"""


@pytest.fixture
def strange(tmp_path: Path) -> Any:
    """Writes a model that ships its own code, with some fields."""

    def write(**fields: Any) -> Path:
        import importlib.util

        folder = tmp_path / "strange"
        folder.mkdir()
        (folder / "modeling_strange.py").write_text(CODE, "utf-8")
        spec = importlib.util.spec_from_file_location("modeling_strange", folder / "modeling_strange.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.manual_seed(3)
        config = module.StrangeConfig(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3, **fields,
        )  # fmt: skip
        config.auto_map = {
            "AutoConfig": "modeling_strange.StrangeConfig",
            "AutoModelForCausalLM": "modeling_strange.StrangeForCausalLM",
        }
        module.StrangeForCausalLM(config).save_pretrained(folder)
        byte_tokenizer(TEMPLATE).save_pretrained(folder)
        return folder

    return write


def pruned(folder: Path, **options: Any) -> PrunedHFLM:
    return PrunedHFLM(
        str(folder), drop_layers=[1, 3], trust_remote_code=True, dtype="float32", journal="off", **options
    )


def test_a_model_with_its_own_code_verifies_itself(strange: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lm_eval.tts"):
        lm = pruned(strange())
    said = [record.getMessage() for record in caplog.records if "tiny random twin" in record.getMessage()]
    assert len(decoder_layers(lm.model)) == 3 and len(said) == 1 and said[0].startswith("strange is not a verified")


def test_an_unknown_field_is_cut_by_layer_if_that_is_shown_to_be_exact(strange: Any) -> None:
    lm = pruned(strange(sizes=[1.0, 2.0, 3.0, 4.0, 5.0]))
    assert lm.model.config.sizes == [1.0, 3.0, 5.0]


def test_a_model_that_depends_on_the_index_is_refused_in_one_line(strange: Any) -> None:
    folder = strange(scale_by_index=True)
    with one_line(ArchitectureError, match=r"logits differ by .*trust_layer_fields=true"):
        pruned(folder)
    assert len(decoder_layers(pruned(folder, trust_layer_fields=True).model)) == 3


@pytest.mark.parametrize("window", [32, 10_000])
def test_a_model_whose_windows_depend_on_the_index_is_refused(window: int, strange: Any) -> None:
    """They only matter for prompts longer than them, so the twin's windows are small, whatever their field's name."""
    with pytest.raises(ArchitectureError, match="logits differ by "):
        pruned(strange(window_size=window))


@pytest.mark.parametrize(
    ("oddity", "reason"),
    [("idle", "its layers change nothing in a random twin"), ("cache", "generation with a cache differs by ")],
)
def test_a_model_that_shows_nothing_or_caches_wrongly_is_refused(oddity: str, reason: str, strange: Any) -> None:
    with one_line(ArchitectureError, match=reason):
        pruned(strange(oddity=oddity))


def test_a_model_with_integers_among_its_weights_verifies_itself(strange: Any) -> None:
    lm = pruned(strange(oddity="integers"))
    assert lm.model.order.tolist() == [0, 1, 2] and len(decoder_layers(lm.model)) == 3


def test_a_twin_that_is_not_tiny_is_refused(strange: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_LARGEST", 1000)
    with pytest.raises(ArchitectureError, match=r"its sizes could not be reduced: \d+ parameters are left"):
        pruned(strange())


def test_prompts_with_padding_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_table(), "attention_first", [])
    config = AutoConfig.for_model("minimax", num_hidden_layers=4)
    reason = "generation with a cache and padding on the left differs"
    with verification.tiny_twin(config) as twin, pytest.raises(verification.NotExactError, match=reason):
        twin.difference([1, 2, 3])


def test_windows_of_any_name_are_reduced_and_counts_of_layers_are_not() -> None:
    qwen = tiny_config(AutoConfig.for_model("qwen2", use_sliding_window=True, max_window_layers=20))
    assert (qwen.sliding_window, qwen.max_window_layers) == (4, 20)
    own = tiny_config(AutoConfig.for_model("llama", window_size=[32, -1], chunk_len=64, rope_local_base_freq=10_000))
    assert (own.window_size, own.chunk_len, own.rope_local_base_freq) == ([4, -1], 4, 10_000)


def test_sizes_by_layer_are_reduced_too() -> None:
    config = AutoConfig.for_model("gemma3n_text")
    tiny = tiny_config(config)
    assert tiny.num_hidden_layers == len(tiny.intermediate_size) == len(config.intermediate_size)
    assert max(tiny.intermediate_size) < 100 < min(config.intermediate_size)


def test_progress_bars_that_were_off_stay_off() -> None:
    theirs.disable_progress_bar()
    try:
        with verification.quiet_transformers():
            pass
        assert not theirs.is_progress_bar_enabled()
    finally:
        theirs.enable_progress_bar()


def test_a_model_that_keeps_its_depth_is_refused_even_where_it_is_trusted(strange: Any) -> None:
    folder = strange(blocks=5)
    for trust in (False, True):
        with one_line(TTSError):
            pruned(folder, trust_layer_fields=trust)


def test_export_refuses_and_trusts_alike(strange: Any, tmp_path: Path) -> None:
    folder = strange(scale_by_index=True)
    recipe = Recipe.model_validate({"base": str(folder), "drop": (1, 3), "method": "manual", "source": "-"})
    with pytest.raises(ArchitectureError, match="trust_layer_fields=true"):
        export(recipe, tmp_path / "a", trust_remote_code=True)
    export(recipe, tmp_path / "b", trust_remote_code=True, trust_layer_fields=True)
    assert (tmp_path / "b" / "model.safetensors").is_file()


def test_a_later_transformers_verifies_again(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("transformers.__version__", "99.1.0")
    with caplog.at_level(logging.INFO, "lm_eval.tts"):
        PrunedHFLM(str(tiny_model), drop_layers=[2], dtype="float32", journal="off")
    assert any("llama is not a verified architecture" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("kind", ["qwen3_5", "qwen3_5_moe"])
def test_a_multimodal_checkpoint_loads_its_text_model(kind: str) -> None:
    config = AutoConfig.for_model(kind)
    config.text_config = AutoConfig.for_model(f"{kind}_text", num_hidden_layers=8)
    with verification.tiny_twin(config) as twin:
        assert any("visual" in name for name in load_file(f"{twin.folder}/model.safetensors"))
        kept = [0, 1, 3, 6]
        model = load_pruned(twin.folder, AutoConfig.from_pretrained(twin.folder), kept, dtype="float32").eval()
        ids = torch.randint(5, 90, (1, 12), generator=torch.Generator().manual_seed(1))
        with torch.no_grad(), bypassed(decoder_layers(twin.model), [2, 4, 5, 7]):
            expected = twin.model(ids, use_cache=False).logits
            found = model(ids, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "fields"), [("gemma3n_text", {}), ("gemma4_text", {"use_double_wide_mlp": True})])
def test_per_layer_embeddings_and_shared_keys_are_cut_by_layer(kind: str, fields: dict[str, Any]) -> None:
    types = ["sliding_attention"] * 4 + ["full_attention", "sliding_attention"] * 3
    config = AutoConfig.for_model(kind, num_hidden_layers=10, layer_types=types, num_kv_shared_layers=4, **fields)
    with verification.tiny_twin(config) as twin:
        for kept in ([1, 4, 5, 7, 8], [4, 5, 6], [0, 2, 4]):
            assert twin.difference(kept) < 1e-5
            assert kept[-1] % 2 or read_back_difference(twin, kept) < 1e-5


@pytest.mark.parametrize(
    ("kind", "text", "rope"),
    [
        ("mistral3", "ministral3", {}),
        ("qwen3_vl", "qwen3_vl_text", {"mrope_section": [24, 20, 20]}),
        ("glm4v", "glm4v_text", {"mrope_section": [8, 12, 12], "partial_rotary_factor": 0.5}),
    ],
)
def test_an_image_text_checkpoint_is_used_for_text(kind: str, text: str, rope: dict[str, Any], tmp_path: Path) -> None:
    """Its class for images and text loads it, as there is no causal one, and its vision part stays."""
    part = AutoConfig.for_model(text, num_hidden_layers=5)
    part.rope_parameters |= rope
    config = tiny_config(AutoConfig.for_model(kind, text_config=part.to_dict()))
    config.text_config.vocab_size = 300
    folder = tmp_path / "base"
    base = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    verification._shake(base)
    base.save_pretrained(folder)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    whole = AutoModelForImageTextToText.from_pretrained(folder).eval()
    layers = whole.model.language_model.layers
    whole.model.language_model.layers = torch.nn.ModuleList(layers[layer] for layer in (0, 2, 4))
    recipe = Recipe(base=str(folder), drop=(1, 3), method="by hand", source="test")
    exported = AutoModelForImageTextToText.from_pretrained(export(recipe, tmp_path / "exported")).eval()
    ids = torch.randint(5, 90, (2, 70), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(exported(input_ids=ids).logits, whole(input_ids=ids).logits)
    assert "AutoModelForImageTextToText.from_pretrained" in (tmp_path / "exported" / "README.md").read_text("utf-8")
    assert any("vis" in name for name, _ in exported.named_parameters())

    lm = PrunedHFLM(str(folder), drop_layers=[1, 3], journal="off", batch_size=2)
    texts = ("ab", "a longer text")
    requests = [Instance("loglikelihood", {}, (one, "xyz"), 0, metadata=("t", 0, 1)) for one in texts]
    found: Any = lm.loglikelihood(requests, disable_tqdm=True)
    for one, (log_likelihood, _) in zip(texts, found, strict=True):
        ids = torch.tensor([lm.tok_encode(one + "xyz")])
        with torch.no_grad():
            likely = whole(input_ids=ids).logits[0, :-1].log_softmax(-1)
        assert log_likelihood == pytest.approx(float(likely.gather(1, ids[0, 1:, None])[-3:].sum()), abs=1e-4)


@pytest.mark.parametrize("kind", ["qwen3_next", "lfm2_moe", "olmo_hybrid", "nemotron_h"])
def test_the_last_attention_layer_has_to_stay(kind: str) -> None:
    fields = {"layer_types": ["conv", "full_attention"] * 3} if kind == "lfm2_moe" else {}
    config = AutoConfig.for_model(kind, num_hidden_layers=6, **fields)
    types = list(getattr(config, "layer_types", None) or config.layers_block_type)
    attention = [layer for layer, one in enumerate(types) if "attention" in one and "linear" not in one]
    kept = [layer for layer in range(len(types)) if layer not in attention]
    with pytest.raises(ArchitectureError, match=rf"attention layers \({', '.join(map(str, attention))}\) must be kept"):
        load_pruned("nowhere", config, kept)


def test_auto_is_the_dtype_that_stock_transformers_takes(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path, shard_size="10MB")
    config = AutoConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    mixed = {name: tensor if "norm" in name else tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    config.dtype = None
    config.save_pretrained(folder)
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert (
        load_pruned(str(folder), AutoConfig.from_pretrained(folder), [0, 1, 2]).dtype == stock.dtype == torch.bfloat16
    )
