"""What no method can score is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.calibration import Calibration
from lm_eval_ext.pruning.context import PruningContext, ScoreCache
from lm_eval_ext.pruning.methods.removal import lowest
from lm_eval_ext.pruning.selection import choose
from tests.contexts import context_of


def test_scores_that_are_no_numbers_choose_nothing() -> None:
    with pytest.raises(ArchitectureError, match="the score of layer 1 is nan"):
        lowest([0.5, float("nan"), 0.1], [1])


def test_a_loss_that_is_no_number_chooses_nothing(tiny_model: Path) -> None:
    broken = context_of(tiny_model, samples=2)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.lm_head.weight.data = torch.full_like(model.lm_head.weight, float("nan"))
    vars(broken)["model"] = model
    for method in ("perplexity", "taylor"):
        with pytest.raises(ArchitectureError, match=r"the model's loss is nan in torch.float32; try dtype=bfloat16"):
            choose(broken, method, [1], {})


def test_layers_of_an_unknown_name_are_not_scored(tiny_model: Path) -> None:
    renamed = context_of(tiny_model, samples=2)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.storeys = model.model.layers
    del model.model.layers
    vars(renamed)["model"] = model
    with pytest.raises(ArchitectureError, match=r"no list of 6 decoder layers in LlamaForCausalLM; .*tensor_names"):
        choose(renamed, "magnitude", [1], {})


def test_weights_that_are_elsewhere_are_not_scored(tiny_model: Path) -> None:
    offloaded = context_of(tiny_model, samples=2)
    vars(offloaded)["model"] = cpu_offload(AutoModelForCausalLM.from_pretrained(tiny_model))
    for method in ("magnitude", "taylor", "laco"):
        with pytest.raises(ArchitectureError, match="offloaded"):
            choose(offloaded, method, [1], {})
    assert choose(offloaded, "shortgpt", [1], {}) == choose(context_of(tiny_model, samples=2), "shortgpt", [1], {})


def test_texts_of_a_single_token_are_one_line(tiny_model: Path) -> None:
    short = PruningContext(
        str(tiny_model), AutoConfig.from_pretrained(tiny_model), lambda: Calibration("short", ("",)), max_tokens=8
    )
    with pytest.raises(ArgumentError, match="none of the 1 texts has at least two tokens"):
        choose(short, "shortgpt", [1], {})


def test_what_took_long_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"

    def values() -> Iterator[float]:
        yield 0.5

    assert ScoreCache(path).value("a", values().__next__) == 0.5
    path.write_text(path.read_text("utf-8") + '\n["b", 0.', "utf-8")  # killed while it wrote
    again = ScoreCache(path)
    assert again.value("a", lambda: 1.0) == 0.5 and again.value("b", lambda: 2.0) == 2.0
    assert ScoreCache(path).value("b", lambda: 3.0) == 2.0


def test_scores_that_cannot_be_kept_are_computed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ScoreCache(tmp_path / "file" / "scores.jsonl")
    assert [cache.value(key, lambda: 0.5) for key in "ab"] == [0.5, 0.5]
