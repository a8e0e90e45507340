"""What docs/architecture.md says about adding something: tried, with nothing touched but what it names."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lm_eval.api.registry import get_metric, model_registry
from lm_eval.tasks import TaskManager
from transformers import AutoConfig

import lm_eval_ext as tts
from examples import reference
from lm_eval_ext import metrics, thinking_formats
from lm_eval_ext.grading.extraction import final_answer
from lm_eval_ext.harness import registry
from lm_eval_ext.harness.registration import register
from lm_eval_ext.metrics import Measure, Metric
from lm_eval_ext.paths import TASKS, TINY_CHAIN
from lm_eval_ext.pruning import selection
from lm_eval_ext.pruning.calibration import Calibration
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.removal import Removal, Removals
from lm_eval_ext.pruning.selection import Method
from lm_eval_ext.thinking_formats import format_named, format_names
from tests.commands import cli
from tests.shared import ROOT
from tests.standins import write_standins

PAGE = ROOT / "docs" / "architecture.md"


def test_a_thinking_format(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**thinking_formats._table(), "mine": {"start": "<ponder>", "end": "</ponder>"}}
    monkeypatch.setattr(thinking_formats, "_table", lambda: table)
    thinking_formats.text_marks.cache_clear()
    try:
        assert "mine" in format_names() and format_named("mine").end == "</ponder>"
        assert final_answer(r"<ponder>\\boxed{1}</ponder>\\boxed{2}") == "2"
    finally:
        monkeypatch.undo()
        thinking_formats.text_marks.cache_clear()


def test_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(context: PruningContext, remove: Sequence[int], *, first: int = 0) -> Removals:
        return {count: Removal(tuple(range(first, first + count))) for count in remove}

    module: Any = ModuleType("lm_eval_ext.pruning.methods.mine")
    module.mine = choose
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(selection.METHODS, "mine", Method("mine:mine", "a paper of mine", needs_texts=False))

    def none() -> Calibration:
        raise AssertionError("texts were loaded")

    context = PruningContext(str(TINY_CHAIN), AutoConfig.from_pretrained(TINY_CHAIN), none)
    recipe = selection.choose(context, "mine", [2], {"first": 3})[2]
    assert recipe.drop == (3, 4) and recipe.source.endswith("a paper of mine") and recipe.calibration is None


def test_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    def length_stats(predictions: Iterable[Sequence[str]], **_: Any) -> dict[str, float]:
        (samples,) = predictions
        return {"length": sum(map(len, samples)) / len(samples)}

    added = Metric(length_stats, "mean", False, (Measure("length", "characters of an answer", "characters", None),))
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, added))
    monkeypatch.setattr(reference, "METRICS", metrics.METRICS)
    register(added)
    assert get_metric("length_stats")(predictions=[["12", "1234"]]) == {"length": 3}
    assert "`length` | characters of an answer | characters" in reference.tables()["docs/reference/metrics.md"]
    found = metrics.score_named("length")
    assert found is not None and found.unit == "characters"


def test_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of the guide, as it stands there, decodes what ours does."""
    page = (ROOT / "docs" / "howto" / "add-an-engine.md").read_text("utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    names = ("lm_eval_ext.generation.engines.plain", "lm_eval_ext.harness.models.plain")
    for name, block in zip(names, blocks, strict=True):
        monkeypatch.setitem(sys.modules, name, module := ModuleType(name))
        exec(block, vars(module))
    entry = registry.EngineEntry("plain-hf", f"{names[1]}:PlainLM", True, True, True)
    monkeypatch.setitem(registry.ENGINES, "plain", entry)
    prompts = [f"Compute from left to right, modulo 10, and put the result in \\boxed{{}}: {a}+2+3" for a in range(4)]
    found = [
        [str(text) for text in tts.generate(model, prompts, budgets=[8, None], max_gen_toks=40, temperature=0.0)]
        for engine in ("plain", "hf")
        for model in (tts.load(engine=engine, journal="off", drop_layers=[1]),)
    ]
    assert found[0] == found[1] and len(found[0]) == 8 and "plain-hf" in model_registry
    assert registry.capabilities("plain-hf") == {"reproducible": True, "token_exact": True, "drops_layers": True}


def test_a_benchmark_needs_its_yaml_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stand-in for its dataset is to be written, and `tasks sync` writes its variants and the pages."""
    tasks = tmp_path / "checkout" / "tasks"
    shutil.copytree(TASKS, tasks)
    own = tasks / "mine" / "tts_mine.yaml"
    own.parent.mkdir()
    own.write_text((TASKS / "aime24" / "tts_aime24.yaml").read_text("utf-8").replace("aime24", "mine"), "utf-8")
    own.write_text(own.read_text("utf-8").replace("Maxwell-Jia/AIME_2024", "lab/mine"), "utf-8")
    pages = [tmp_path / "checkout" / "docs" / "reference" / name for name in ("tasks.md", "gallery.md")]
    pages[0].parent.mkdir(parents=True)
    for page in pages:
        page.write_text("", "utf-8")
    for module in ("authoring.tasks_page", "cli.tasks"):
        monkeypatch.setattr(f"lm_eval_ext.{module}.TASKS", tasks)
    monkeypatch.setattr("lm_eval_ext.authoring.tasks_page.REFERENCE", pages[0].parent)
    done = cli("tasks", "sync")
    assert "mine/variants/tts_mine_b512.yaml" in done.output
    assert all("`tts_mine`" in page.read_text("utf-8") for page in pages)
    assert cli("tasks", "sync").output == "files changed: 0\n", "the second time, not the pages"
    for page in pages:
        page.write_text(page.read_text("utf-8").replace("tts_mine", "tts_old"), "utf-8")
        done = cli("tasks", "sync", "--check")
        assert done.exit_code == 1 and str(page) in done.output.splitlines() and "tts_old" in page.read_text("utf-8")
    (standin,) = write_standins(tasks / "mine", tmp_path / "hub")
    assert standin == tmp_path / "hub" / "lab" / "mine" / "default" / "train.jsonl"

    monkeypatch.chdir(tmp_path / "hub")
    (task,) = TaskManager(include_path=str(tasks / "mine")).load(["tts_mine_b512"])["tasks"].values()
    assert len(task.eval_docs) == 3 and "boxed" in task.doc_to_text(task.eval_docs[0])
