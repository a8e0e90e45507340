"""The library as it is imported: what it has, what it costs, and that its page runs as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import lm_eval_ext as tts
from benchmarks.lm_eval_output import write_output
from lm_eval_ext.errors import ArgumentError, CheckpointError, ResultsError, TaskError
from lm_eval_ext.harness.session import GeneratedSamples
from tests.shared import ROOT, case_table

PAGE = ROOT / "docs" / "howto" / "notebook.md"
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def cells() -> list[str]:
    return [code.strip() for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)]


def test_what_is_public_is_pinned() -> None:
    assert tts.__all__ == [
        "KeptTest", "build_site", "choose_layers", "compare", "diagnose", "difference_interval", "diverge", "evaluate",
        "gate", "generate", "grade", "load", "maj_at_k", "mean_interval", "pass_at_k", "ratio_interval", "read_runs",
        "shrink",
    ]  # fmt: skip
    for name in tts.__all__:
        assert ">>>" in (getattr(tts, name).__doc__ or ""), f"{name} has no example"
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = tts.lode


def test_its_names_are_completed() -> None:
    assert dir(tts) == sorted(tts.__all__)


def test_importing_it_loads_nothing() -> None:
    code = (
        "import sys, lm_eval_ext; "
        "print([name for name in ('torch', 'lm_eval', 'numpy', 'pydantic', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.documentation
def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "leaderboard").symlink_to(ROOT / "leaderboard")
    names: dict[str, object] = {}
    for cell in cells():
        exec(compile(cell, str(PAGE), "exec"), names)
    kept = tts.ratio_interval(names["after"], names["before"])  # type: ignore[arg-type]
    assert kept is not None and kept.high < 0.7, "two layers fewer, and long chains are lost"
    assert (tmp_path / "site" / "index.html").is_file() and Path("tiny-chain-shortgpt-2.yaml").is_file()


def test_the_notebook_is_the_page() -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    code = ["".join(cell["source"]).strip() for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code == cells(), "python -m examples.write"


def test_tables_show_themselves() -> None:
    runs = tts.read_runs(ROOT / "leaderboard" / "results")
    table = runs.to_frame()
    assert len(runs) == 67 and len(table) == 421 and "<table" in runs._repr_html_()
    row = table[(table.model == "dense") & (table.task == "tts_chain_b128")].iloc[0]
    assert row.low < row.accuracy < row.high and row.budget == 128
    samples = runs.to_frame(samples=True)
    assert set(samples.grade) <= {"correct", "wrong", "no answer", "unparsable"} and samples.text.notna().all()


def test_what_is_printed_fits_a_screen() -> None:
    runs = tts.read_runs(ROOT / "leaderboard" / "results")
    assert len(repr(runs).splitlines()) <= 25 and "and 47 more" in repr(runs)
    run = runs[0]
    assert "<table" in run._repr_html_() and len(run.to_frame()) == len(run.tasks)
    assert len(repr(run)) < 600 and "scores=" not in repr(run.tasks["tts_chain_b8"])
    folder = ROOT / "leaderboard" / "results" / "tiny-chain"
    compared = tts.compare(folder / "tiny-chain-dense-fc97c339", folder / "tiny-chain-shortgpt-2-555e0f3e", keep=0.9)
    assert f"verdict lost, {len(compared.rows)} tasks" in repr(compared) and len(repr(compared)) < 200
    assert repr(GeneratedSamples()) == "<0 generated texts; to_frame() gives a table of them>"


def test_runs_in_memory_are_compared() -> None:
    """By their scores: of a run that was not kept, there are no texts."""
    options = {"limit": 10, "gen_kwargs": {"do_sample": False, "temperature": 0.0}}
    base, smaller = (
        tts.evaluate(tts.load(journal="off", **layers), "tts_chain_short_b16", **options)  # type: ignore[arg-type]
        for layers in ({}, {"drop_layers": [10, 11]})
    )
    found = tts.compare(base, smaller, keep=0.9)
    (row,) = found.rows
    assert row.questions == 10 and row.samples == (1, 1)
    assert row.base.estimate == pytest.approx(base.tasks["tts_chain_short_b16"].accuracy.value)
    assert "layers 10-11" in found.candidate


@pytest.mark.parametrize(
    ("kind", "answers", "golds", "options", "expected"), case_table("answers_found.yaml")["graded"]
)
def test_answers_of_every_kind_are_graded(
    kind: str, answers: list[str], golds: str, options: dict[str, object], expected: list[bool]
) -> None:
    assert [grade.correct for grade in tts.grade(answers, golds, kind, **options)] == expected


def test_unknown_kinds_and_options_are_named() -> None:
    with pytest.raises(ArgumentError, match="kind='maths'; expected one of: math, choice, text, number"):
        tts.grade(["1"], "1", "maths")
    with pytest.raises(TaskError, match="unknown option 'relativ' for number answers"):
        tts.grade(["1"], "1", "number", relativ=1)


def test_runs_without_samples_have_no_rows_of_samples(tmp_path: Path) -> None:
    write_output(tmp_path, {"tts_sums": [[True], [False]]}, samples=False)
    runs = tts.read_runs(tmp_path)
    assert len(runs.to_frame()) == 1 and runs.to_frame(samples=True).empty


def test_a_site_without_its_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    wanted = r"^leaderboard build needs vl_convert: pip install 'lm-eval-tts\[leaderboard\]'$"
    with pytest.raises(ArgumentError, match=wanted):
        tts.build_site([ROOT / "leaderboard" / "results"], tmp_path / "site")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ArgumentError, match="unknown engine 'tgi'; expected one of: hf, vllm"):
        tts.load(engine="tgi")
    with pytest.raises(ArgumentError, match="unknown model argument 'drop_layer'"):
        tts.load(drop_layer=[1])
    with pytest.raises(ResultsError, match="nowhere: does not exist"):
        tts.read_runs("nowhere")
    with pytest.raises(ArgumentError, match="unknown method 'shortgtp'"):
        tts.choose_layers("tiny-chain", "shortgtp", remove=1)
    with pytest.raises(ArgumentError, match="max_tokens=1: at least 2 tokens per text are needed"):
        tts.choose_layers("tiny-chain", "shortgpt", remove=1, max_tokens=1)
    with pytest.raises(ArgumentError, match="samples=0; allowed: 1 or more"):
        tts.generate(tts.load(journal="off"), "1+2", samples=0)
    with pytest.raises(CheckpointError, match=r"^pretrained=\./nowhere: folder not found$"):
        tts.load("./nowhere")
    with pytest.raises(ValueError, match="2 answers and 1 golds"):
        tts.grade(["1", "2"], ["1"])
    with pytest.raises(TaskError, match=r"unknown task 'tts_chian'; did you mean tts_chain"):
        tts.evaluate(tts.load(journal="off"), "tts_chian")


def test_changed_weights_are_another_model_for_the_journal(tmp_path: Path) -> None:
    """Also in memory, after an evaluation, and also if a model on disk differs in one neuron."""
    asked = "Compute from left to right, modulo 10, and put the result in \\boxed{}: 1+2+3+4"
    journal = str(tmp_path / "journal.sqlite")

    def texts(model: Any) -> list[str]:
        return [str(one.text) for one in tts.generate(model, asked, samples=4, temperature=1.5, max_gen_toks=32)]

    model: Any = tts.load(journal=journal)
    before, resumed = texts(model), tts.load(journal=journal)
    assert texts(resumed) == before
    down = [layer.mlp.down_proj.weight for layer in model.model.model.layers]
    with torch.no_grad():
        for weight in down:
            weight[:, 1:48] = 0
    model.model.save_pretrained(tmp_path / "changed")
    model.tokenizer.save_pretrained(tmp_path / "changed")
    changed = texts(tts.load(str(tmp_path / "changed"), journal="off"))
    assert changed != before
    assert texts(model) == changed, "which was changed in memory"
    assert texts(tts.load(str(tmp_path / "changed"), journal=journal)) == changed


def test_results_that_cannot_be_written_are_no_results_of_before(tmp_path: Path) -> None:
    """lm-eval only logs that; the folder holds another evaluation."""
    model = tts.load(journal="off")
    tts.evaluate(model, "tts_chain_b16", limit=1, output=tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    folder.rename(tmp_path / "before")
    folder.write_text("no folder")
    with pytest.raises(ResultsError, match="the results cannot be written"):
        tts.evaluate(model, "tts_chain_short_b16", limit=1, output=tmp_path)
    assert len(list((tmp_path / "before").iterdir())) == 2


def test_results_of_which_a_part_is_written_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full."""
    whole = Path.write_text
    monkeypatch.setattr(
        Path, "write_text", lambda path, text, *more, **options: whole(path, text[:20], *more, **options)
    )
    with pytest.raises(ResultsError, match="the results cannot be written"):
        tts.evaluate(tts.load(journal="off"), "tts_chain_b16", limit=1, output=tmp_path)


def test_budgets_of_a_sample_are_cuts_of_one_trace() -> None:
    model = tts.load(journal="off")
    asked = [
        "Compute from left to right, modulo 10, and put the result in \\boxed{}: " + "1+2+3+" * n + "4" for n in (3, 5)
    ]
    found = tts.generate(model, asked, budgets=[8, 16, 64], samples=2)
    assert len(found) == 12 and "<table" in found._repr_html_()
    assert all(one.text.thinking_tokens <= (one.budget or 0) for one in found)
    traces = {(one.prompt, one.number): str(one.text) for one in found if one.budget == 64}
    for one in found:
        thought = str(one.text).partition("</think>")[0]
        assert not one.text.forced or traces[one.prompt, one.number].startswith(thought[:8])
    again = tts.generate(model, asked, budgets=[64, 8], samples=1)
    by_key = {one[:3]: str(one.text) for one in found}
    assert all(by_key[one[:3]] == str(one.text) for one in again), "whatever else is asked beside it"


def test_samples_are_drawn_independently() -> None:
    model = tts.load(journal="off")
    asked = "Compute from left to right, modulo 10, and put the result in \\boxed{}: 1+2+3+4+5+6+7"
    found = tts.generate(model, asked, samples=8, temperature=4.0, max_gen_toks=32)
    assert len({one.text.seed for one in found}) == len({str(one.text) for one in found}) == 8


def test_a_site_of_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no results were given"):
        tts.build_site([], tmp_path / "site")


def test_what_lm_eval_caches_of_another_model_or_budget_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path / "requests"))
    model = tts.load(journal="off")
    with pytest.raises(
        ArgumentError, match="--use_cache: lm-eval's cache gives the answers of whichever model was asked"
    ):
        tts.evaluate(model, "tts_mini", limit=1, use_cache=str(tmp_path / "answers"))
    tokens = []
    for budget in (64, 1):
        generation = {"thinking_token_budget": budget, "max_gen_toks": 8}
        run = tts.evaluate(model, "tts_chain_short", limit=2, cache_requests=True, gen_kwargs=generation)
        tokens += [task.metrics["thinking_tokens"].value for task in run.tasks.values()]
    assert tokens[0] > tokens[1] == 1 and "--cache_requests: without effect on pruned-hf" in caplog.text
