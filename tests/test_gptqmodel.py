"""Dropping layers of AWQ and GPTQ checkpoints in transformers, which needs gptqmodel for them (make test-gptqmodel)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks.packing import AWQ, GPTQ, awq, gptq
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.recipe import Recipe
from tests.quantized import KEPT, logits, pruned, without, write_quantized

if find_spec("gptqmodel") is None:
    pytest.skip("gptqmodel is not installed (make test-gptqmodel)", allow_module_level=True)


@pytest.mark.parametrize("name", ["awq", "gptq"])
def test_a_packed_checkpoint_without_layers(name: str, tmp_path: Path) -> None:
    fields, pack = {"awq": (AWQ, awq), "gptq": (GPTQ, gptq)}[name]
    folder = write_quantized(tmp_path / "base", fields, pack)
    whole, expected = without(folder, KEPT)
    assert not torch.equal(whole, expected)
    assert torch.equal(logits(pruned(folder, KEPT)), expected)
    recipe = Recipe(base=str(folder), drop=(1, 4), method="by hand", source="test")
    out = export(recipe, tmp_path / "out")
    assert torch.equal(without(out, range(len(KEPT)))[0], expected), "also in stock transformers"
