"""Model classes that can't force a thinking budget are told so, before they decode anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from lm_eval_ext.paths import TINY_CHAIN
from tests.test_plugin import run

LM_EVAL = (sys.executable, "-m", "lm_eval", "run", "--limit", "1")


@pytest.mark.parametrize("cached", [(), ("--use_cache", "cache")])
def test_hf_cannot_run_a_task_with_a_budget(cached: tuple[str, ...], tmp_path: Path) -> None:
    tasks = ("--tasks", "tts_chain_short_b8,tts_sums")
    model = ("--model", "hf", "--model_args", f"pretrained={TINY_CHAIN}")
    found = run(*LM_EVAL, *model, *tasks, *(str(tmp_path / one) if one == "cache" else one for one in cached))
    last = found.stderr.strip().splitlines()[-1]
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert last.startswith("lm-eval-tts: tts_chain_short_b8, tts_sums: HFLM can't force a thinking budget; expected")


def test_a_model_that_decodes_nothing_may() -> None:
    assert run(*LM_EVAL, "--model", "dummy", "--tasks", "tts_chain_short_b8").returncode == 0


@pytest.mark.parametrize(("model", "said"), [("dummy", ""), ("pruned-hf", "run the same command again to go on")])
def test_ctrl_c_in_other_models_stays_as_it_is(model: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    import lm_eval
    from lm_eval.api.registry import get_model

    monkeypatch.setattr(get_model(model), "generate_until", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        lm_eval.simple_evaluate(model=model, tasks=["tts_chain_short_b8"], limit=1)
    assert str(stopped.value) == said
