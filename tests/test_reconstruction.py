"""Which layers and experts a published checkpoint kept is found from its tensors and those of its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.recipe import Recipe, load_recipe
from tests.checkpoints import LAYERS, write_checkpoint
from tests.commands import cli
from tests.test_experts import KINDS, checkpoint


def recovered(folder: Path, base: Path, tmp_path: Path, *options: str) -> Any:
    return cli("recipes", "recover", folder, "--base", base, "--out", tmp_path / "found.yaml", *options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drop", [(), (3,)])
def test_experts_and_layers_are_found_again(kind: str, drop: tuple[int, ...], tmp_path: Path) -> None:
    base = checkpoint(kind, tmp_path / "base")
    first = KINDS[kind].get("first_k_dense_replace", 0)
    dropped: dict[int, tuple[int, ...]] = {
        layer: (layer % 4, 4 + (layer + 2) % 4) for layer in range(first, LAYERS) if layer not in drop
    }
    recipe = Recipe(base=str(base), drop=drop, drop_experts=dropped, method="reap", source="test")
    folder = export(recipe, tmp_path / "out")
    done = recovered(folder, base, tmp_path, "--method", "reap")
    assert done.exit_code == 0, done.output
    found = load_recipe(str(tmp_path / "found.yaml"))
    assert (found.drop, found.drop_experts, found.method) == (drop, dropped, "reap")
    assert found.digest == recipe.digest and "recipes recover" in found.source


def test_layers_alone(tmp_path: Path) -> None:
    base = write_checkpoint("llama", tmp_path / "base")
    folder = export(Recipe(base=str(base), drop=(0, 4), method="x", source="test"), tmp_path / "out")
    assert recovered(folder, base, tmp_path).exit_code == 0
    found = load_recipe(str(tmp_path / "found.yaml"))
    assert found.drop == (0, 4) and not found.drop_experts and found.method == "not known"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("model.layers.1.self_attn.q_proj.weight", "layer 1 is none of the base's: it was merged, trained"),
        ("model.layers.2.mlp.gate.weight", "an expert of layer 2 is none of the base's: experts were merged"),
        ("model.layers.3.mlp.experts.2.up_proj.weight", "experts.2.up_proj.weight differs from the base's"),
        ("model.embed_tokens.weight", "model.embed_tokens.weight differs from the base's"),
        ("model.layers.0.mlp.adapter.weight", "layer 0 is none of the base's"),
        ("model.adapter.weight", "model.adapter.weight is only in the checkpoint: it was made in another way"),
    ],
)
def test_what_was_merged_or_trained_has_no_recipe(changed: str, said: str, tmp_path: Path) -> None:
    base = checkpoint("qwen3_moe", tmp_path / "base")
    dropped: dict[int, tuple[int, ...]] = dict.fromkeys(range(LAYERS), (1, 2))
    folder = export(Recipe(base=str(base), drop_experts=dropped, method="x", source="test"), tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    tensors[changed] = tensors.get(changed, torch.zeros(1)) + 1.0
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    done = recovered(folder, base, tmp_path)
    assert done.exit_code == 1 and said in done.output.replace("\n", ""), done.output
    assert len(done.output.strip().splitlines()) == 1


def test_experts_that_were_merged_are_noticed_wherever_they_differ(tmp_path: Path) -> None:
    base = checkpoint("gpt_oss", tmp_path / "base")
    dropped: dict[int, tuple[int, ...]] = dict.fromkeys(range(LAYERS), (1, 2))
    folder = export(Recipe(base=str(base), drop_experts=dropped, method="x", source="test"), tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.2.mlp.experts.down_proj"
    tensors[name].view(-1)[5] += 3.0
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    done = recovered(folder, base, tmp_path)
    assert done.exit_code == 1 and f"{name} differs from the base's" in done.output, done.output


def test_another_config_is_another_model(tmp_path: Path) -> None:
    base = checkpoint("qwen3_moe", tmp_path / "base")
    dropped: dict[int, tuple[int, ...]] = dict.fromkeys(range(LAYERS), (1, 2))
    folder = export(Recipe(base=str(base), drop_experts=dropped, method="x", source="test"), tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_experts_per_tok": 1}))
    done = recovered(folder, base, tmp_path)
    assert done.exit_code == 1 and "its config says num_experts_per_tok=1, but that of the base" in done.output


def test_the_other_way_round(tmp_path: Path) -> None:
    base = write_checkpoint("llama", tmp_path / "base")
    folder = export(Recipe(base=str(base), drop=(0, 4), method="x", source="test"), tmp_path / "out")
    done = recovered(base, folder, tmp_path)
    assert done.exit_code == 1 and "are they the other way round?" in done.output


def test_a_copy_of_the_base_has_no_recipe(tmp_path: Path) -> None:
    base = checkpoint("qwen3_moe", tmp_path / "base")
    done = recovered(base, base, tmp_path)
    assert done.exit_code == 1 and "has all layers and experts" in done.output
