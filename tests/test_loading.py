"""Dropping layers on load against loading everything and deleting them."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lm_eval_ext.errors import CheckpointError
from lm_eval_ext.pruning import sliced_model
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, tensor_names, weight_files
from lm_eval_ext.pruning.loading import (
    Sliced,
    checkpoint_fingerprint,
    checksum,
    fingerprint,
    load_pruned,
    pruned_config,
)
from lm_eval_ext.pruning.recipe import kept_layers
from lm_eval_ext.pruning.vllm_loader import engine_arguments
from tests.checkpoints import ARCHITECTURES, LAYERS, write_checkpoint

DROPS = [(0,), (2,), (LAYERS - 1,), (1, 3), (0, 1, 4, 5)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: write_checkpoint(kind, root / kind) for kind in ARCHITECTURES}


def delete_layers(folder: Path, kept: Sequence[int]) -> PreTrainedModel:
    """The plain way: load all, delete, repair every `layer_idx` and the per-layer config lists by hand."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.model.layers = torch.nn.ModuleList(copy.deepcopy(model.model.layers[old]) for old in kept)
    for new, layer in enumerate(model.model.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = new
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[old] for old in kept]
    model.config.num_hidden_layers = len(kept)
    loaded: PreTrainedModel = model.eval()
    return loaded


def aligned(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in freshly allocated memory.

    On a CPU, weights stay where the file maps them, and kernels for a single row differ in the last bit with
    the alignment of their operands.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def logits(model: PreTrainedModel, use_cache: bool) -> torch.Tensor:
    """Logits of 24 positions, [1, 24, vocabulary]; with a cache, token by token."""
    model = aligned(model)
    torch.manual_seed(1)
    ids = torch.randint(3, 90, (1, 24))
    with torch.no_grad():
        if not use_cache:
            whole: torch.Tensor = model(ids, use_cache=False).logits
            return whole
        steps, cache = [], None
        for position in range(ids.shape[1]):
            output = model(ids[:, position : position + 1], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            steps.append(output.logits)
        return torch.cat(steps, dim=1)


@pytest.mark.parametrize("drop", DROPS, ids=str)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_same_logits_as_load_then_delete(kind: str, drop: tuple[int, ...], checkpoints: dict[str, Path]) -> None:
    folder, kept = checkpoints[kind], kept_layers(drop, LAYERS)
    pruned = load_pruned(str(folder), AutoConfig.from_pretrained(folder), kept, dtype=torch.float32)
    expected = delete_layers(folder, kept)
    for use_cache in (False, True):
        assert torch.equal(logits(pruned, use_cache), logits(expected, use_cache))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_survives_save_and_load(kind: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder, kept = checkpoints[kind], (0, 2, 5)
    pruned = load_pruned(str(folder), AutoConfig.from_pretrained(folder), kept, dtype=torch.float32)
    pruned.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for use_cache in (False, True):
        assert torch.equal(logits(again, use_cache), logits(pruned, use_cache))


def test_a_dropped_layer_matters(checkpoints: dict[str, Path]) -> None:
    """Else the comparisons above would hold for any layer."""
    folder = checkpoints["qwen3"]
    config = AutoConfig.from_pretrained(folder)
    first, second = (load_pruned(str(folder), config, kept, dtype=torch.float32) for kept in ((0, 1, 2), (0, 1, 3)))
    assert not torch.allclose(logits(first, False), logits(second, False))
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(first) == fingerprint(load_pruned(str(folder), config, (0, 1, 2), dtype=torch.float32))


def test_offloaded_weights_are_known_by_their_values(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = checkpoints["qwen3"]
    places = {"model.layers": "disk", **dict.fromkeys(("model.embed_tokens", "model.norm", "lm_head"), "cpu")}
    config, found = AutoConfig.from_pretrained(folder), []
    for number, kept in enumerate(((0, 1, 2), (0, 1, 3), (0, 1, 2))):
        options: dict[str, Any] = {"device_map": places, "offload_folder": str(tmp_path / str(number))}
        model = load_pruned(str(folder), config, kept, dtype=torch.float32, **options)
        assert model.model.layers[2].mlp.down_proj.weight.device.type == "meta"
        found.append(fingerprint(model))
    assert found[0] != found[1] and found[0] == found[2]
    assert found[0] == fingerprint(load_pruned(str(folder), config, (0, 1, 2), dtype=torch.float32))


def test_weights_in_other_files_and_code_are_known_by_their_bytes(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path)
    config, layers = AutoConfig.from_pretrained(folder), range(LAYERS)
    config.auto_map = {"AutoModelForCausalLM": "own.Own"}
    found = [checkpoint_fingerprint(str(folder), config, layers, "main")]
    (folder / "own.py").write_text("from .rest import Own\n", "utf-8")
    (folder / "rest.py").write_text("scale = 1.0\n", "utf-8")
    found.append(checkpoint_fingerprint(str(folder), config, layers, "main"))
    (folder / "rest.py").write_text("scale = 2.0\n", "utf-8")
    found.append(checkpoint_fingerprint(str(folder), config, layers, "main"))
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    for value in range(2):
        torch.save({"weight": torch.full((3,), value)}, folder / "pytorch_model.bin")
        found.append(checkpoint_fingerprint(str(folder), config, layers, "main"))
    assert len(set(found)) == len(found) == 5
    assert found[-1] == checkpoint_fingerprint(str(folder), config, layers, "main")


@given(st.data())
def test_any_value_of_a_tensor_changes_its_checksum(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=3))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool]))
    tensor = torch.ones(shape).to(dtype)
    before = checksum(tensor)
    assert checksum(tensor.clone()) == before
    place = data.draw(st.integers(0, tensor.numel() * tensor.element_size() - 1))
    tensor.view(-1).view(torch.uint8)[place] ^= data.draw(st.integers(1, 255)) if dtype != torch.bool else 1
    assert checksum(tensor) != before


def test_shards_of_dropped_layers_may_be_absent(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path, shard_size="8KB")
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {shard for name, shard in weight_map.items() if ".layers.3." not in name}
    spare = set(weight_map.values()) - needed
    assert spare, "the checkpoint has no shard of layer 3 alone"
    for shard in spare:
        (folder / shard).unlink()
    load_pruned(str(folder), AutoConfig.from_pretrained(folder), (0, 1, 2, 4, 5))
    with pytest.raises(CheckpointError, match="is missing"):
        load_pruned(str(folder), AutoConfig.from_pretrained(folder), (0, 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"index\.json: cannot be read as JSON"),
        ("[]", r"index\.json: contains a list; expected a JSON object"),
        ('{"weight_map": ["a"]}', r"index\.json: weight_map is missing, or is no mapping"),
        ('{"weight_map": {"a": 1}}', r"index\.json: weight_map is missing, or is no mapping"),
    ],
)
def test_a_damaged_index_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path, shard_size="8KB")
    config = AutoConfig.from_pretrained(folder)
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_pruned(str(folder), config, (0, 1))
    with pytest.raises(CheckpointError, match=message):
        tensor_names(str(folder), {"revision": "main"})


def test_a_single_file_beside_an_index_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    folder, other = write_checkpoint("llama", tmp_path / "a"), write_checkpoint("llama", tmp_path / "b", "1GB")
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, folder / "model.safetensors")
    hub: dict[str, object] = {"revision": "main"}
    assert weight_files(str(folder), (0,), NO_CHANGES, hub) == [folder / "model.safetensors"]
    assert tensor_names(str(folder), hub) == sorted(weights)
    config = AutoConfig.from_pretrained(folder)
    ours = load_pruned(str(folder), config, range(LAYERS), dtype=torch.float32)
    assert torch.equal(logits(ours, False), logits(AutoModelForCausalLM.from_pretrained(folder), False))
    with pytest.raises(CheckpointError, match="vLLM reads the files of the index, and transformers the single one"):
        engine_arguments(str(folder), config, Sliced((0,), NO_CHANGES, config), hub)


def test_a_tensor_missing_from_the_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    lost = "model.layers.2.mlp.up_proj.weight"
    path = folder / index[lost]
    with safe_open(path, framework="pt") as file:
        rest = {name: file.get_tensor(name) for name in file.keys() if name != lost}  # noqa: SIM118
    save_file(rest or {"model.layers.0.unused": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"do not fit.*layers\.1\.mlp\.up_proj"):
        load_pruned(str(folder), AutoConfig.from_pretrained(folder), (0, 2, 3, 4, 5))


def test_tensors_that_transformers_leaves_unused_in_the_base_are_no_obstacle(tmp_path: Path) -> None:
    """transformers only warns of them; tensors that the base uses and the pruned model doesn't are refused."""
    folder = write_checkpoint("llama", tmp_path, "1GB")
    path = folder / "model.safetensors"
    others = ("model.layers.2.self_attn.rotary_emb.inv_freq", "model.layers.2.self_attn.q_norm.weight", "head.weight")
    save_file(load_file(path) | {name: torch.ones(8) for name in others}, path, {"format": "pt"})
    kept = (0, 2, 3, 5)
    config = AutoConfig.from_pretrained(folder)
    ours = load_pruned(str(folder), config, kept, dtype=torch.float32)
    assert torch.equal(logits(aligned(ours), False), logits(aligned(delete_layers(folder, kept)), False))

    packed = tmp_path / "packed"
    shutil.copytree(folder, packed)
    scale = {"model.layers.2.mlp.up_proj.weight_scale_inv": torch.ones(1)}
    save_file(load_file(path) | scale, packed / path.name, {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"1 unexpected keys, e\.g\. model\.layers\.1\.mlp\.up_proj\.weight_scale_inv"
    ):
        load_pruned(str(packed), config, kept)

    sliced = pruned_config(str(folder), config, kept, {"revision": "main"})
    config.attention_bias = True
    biases = {f"model.layers.{layer}.self_attn.q_proj.bias": torch.ones(8) for layer in range(LAYERS)}
    save_file(load_file(path) | biases, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"4 unexpected keys, e\.g\. model\.layers\.0\.self_attn\.q_proj\.bias"):
        sliced_model.load_sliced(str(folder), config, sliced, kept, NO_CHANGES, {"revision": "main"}, "auto", False, {})


def test_no_safetensors_is_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model("llama", num_hidden_layers=4)
    config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="only be dropped from safetensors"):
        load_pruned(str(tmp_path), config, (0, 1))
