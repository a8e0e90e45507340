"""A run that finds everything in the journal does not load the model; one that does not find it does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import lm_eval_ext as tts
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.paths import TINY_CHAIN

PROMPTS = ["Compute from left to right, modulo 10, and put the result in \\boxed{}: 1+2+3"]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the models that are loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found: list[str] = []
    created = PrunedHFLM._created

    def counted(self: PrunedHFLM, pretrained: str, **kwargs: Any) -> None:
        found.append(pretrained)
        created(self, pretrained, **kwargs)

    monkeypatch.setattr(PrunedHFLM, "_created", counted)
    return found


def run(**arguments: Any) -> tuple[list[str], dict[str, Any]]:
    model = tts.load(seed=1, **arguments)
    texts = [str(one.text) for one in tts.generate(model, PROMPTS, budgets=[8, 32], samples=2)]
    info = model.get_model_info()
    info.pop("generation")
    info["costs"].pop("peak_memory")
    return texts, info


@pytest.mark.parametrize("arguments", [{}, {"drop_layers": [11], "dtype": "bfloat16"}], ids=["dense", "pruned"])
def test_a_rerun_loads_nothing_and_reports_the_same(loads: list[str], arguments: dict[str, Any]) -> None:
    first = run(**arguments)
    assert len(loads) == 1
    assert run(**arguments) == first
    assert len(loads) == 1, "everything was in the journal"


def test_what_is_missing_is_decoded(loads: list[str]) -> None:
    run()
    model: Any = tts.load(seed=1)
    tts.generate(model, PROMPTS, budgets=[8, 32], samples=3)
    assert len(loads) == 2 and model.model.training is False


def test_other_requests_load_the_model(loads: list[str]) -> None:
    from lm_eval.api.instance import Instance

    run()
    model: Any = tts.load(seed=1)
    assert len(loads) == 1
    assert model.loglikelihood([Instance("loglikelihood", {}, (PROMPTS[0], " 6"), 0)], disable_tqdm=True)
    assert len(loads) == 2


def test_other_weights_are_loaded(loads: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY_CHAIN, folder)
    _, info = run(pretrained=str(folder))
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4:] = b"\x00\x00\x80?"
    weights.write_bytes(content)
    _, other = run(pretrained=str(folder))
    assert len(loads) == 2
    assert info["pruning"]["model_fingerprint"] != other["pruning"]["model_fingerprint"]


def test_a_damaged_cache_is_ignored(loads: list[str], tmp_path: Path) -> None:
    first = run()
    (file,) = (tmp_path / "cache" / "lm-eval-tts" / "models").iterdir()
    file.write_text("{")
    assert run() == first
    assert len(loads) == 2


def test_costs_that_cannot_be_told_do_not_end_a_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lm_eval_ext.harness import costs

    def broken(config: object) -> None:
        raise RuntimeError("no such layer")

    monkeypatch.setattr(costs, "_on_meta", broken)
    assert set(tts.load(journal="off").get_model_info()["costs"]) == {"peak_memory"}
    assert "cannot be told from the config: no such layer" in caplog.text
