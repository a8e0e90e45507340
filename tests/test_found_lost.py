"""What became of right answers as a model thought on: by hand, by brute force, and from results folders."""

from __future__ import annotations

import json
import random
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lm_eval_ext as tts
from benchmarks.lm_eval_output import write_output
from lm_eval_ext.analysis.found_lost import LostCompared, Traces, found_lost
from lm_eval_ext.thinking_formats import format_named
from tests.commands import cli

BUDGETS = (8, 32, 128)
TABLES = st.lists(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=2), min_size=1, max_size=5
)


def traces(right: Any) -> Traces:
    return Traces("b", BUDGETS, tuple(range(len(right))), np.array(right, dtype=np.float64))


@given(TABLES)
def test_counts_by_brute_force(right: list[list[list[bool]]]) -> None:
    counted = found_lost(traces(right))
    samples = [sample for question in right for sample in question]
    number = len(samples)
    assert counted.found.estimate == pytest.approx(sum(any(sample) for sample in samples) / number)
    assert counted.lost.estimate == pytest.approx(sum(any(one) and not one[-1] for one in samples) / number)
    assert counted.late.estimate == pytest.approx(sum(one == [False, False, True] for one in samples) / number)
    wrong = sum(before and not after for one in samples for before, after in pairwise(one))
    assert counted.turned_wrong.estimate == pytest.approx(wrong / number)
    assert counted.found.estimate == pytest.approx(counted.kept.estimate + counted.lost.estimate)
    area = sum((one[0] + 2 * one[1] + one[2]) / 4 for one in samples) / number
    assert counted.anytime is not None and counted.anytime.estimate == pytest.approx(area)


def test_the_reference_deals_the_answers_of_each_budget_anew() -> None:
    right = [[[True, False, False], [False, True, True]], [[True, True, False], [False, False, True]]]
    lost = []
    for question in right:
        columns = list(zip(*question, strict=True))
        for chosen in product((0, 1), repeat=3):  # which sample's answer comes at each budget
            dealt = [columns[budget][sample] for budget, sample in enumerate(chosen)]
            lost.append(any(dealt) and not dealt[-1])
    assert found_lost(traces(right)).by_chance == pytest.approx(np.mean(lost))


def test_a_guesser_finds_most_and_loses_half() -> None:
    """Four options, five budgets, a new guess at each."""
    draw = np.random.default_rng(0)
    right = (draw.random((500, 8, 5)) < 0.25).astype(float)
    counted = found_lost(Traces("b", (1, 2, 4, 8, 16), tuple(range(500)), right))
    assert counted.found.estimate == pytest.approx(0.76, abs=0.02)
    assert counted.lost.estimate == pytest.approx(0.51, abs=0.02)
    assert counted.by_chance == pytest.approx(counted.lost.estimate, abs=0.02)


def results(folder: Path, dropped: tuple[int, ...], whole: bool = True) -> Path:
    """A model whose traces are right at the second budget, and half of the time at the third."""
    luck = random.Random(len(dropped))
    last = [[luck.random() < 0.5 for _ in range(4)] for _ in range(30)]
    tasks = {
        "tts_chain_b8": [[False] * 4] * 30, "tts_chain_b32": [[True] * 4] * 30, "tts_chain_b128": last,
    }  # fmt: skip
    write_output(folder, tasks, dropped=dropped)
    for number, name in enumerate(tasks):
        (file,) = folder.glob(f"samples_{name}_*.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            thought = " ".join(str(step) for step in range(3 * (number + 1)))
            thought = thought if whole or number != 1 else f"other {thought}"
            row["resps"] = [[f"{thought}</think>\\boxed{{{answer}}}" for answer in row["filtered_resps"][0]]]
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_compare_shows_what_was_lost(tmp_path: Path) -> None:
    one, other = results(tmp_path / "base", ()), results(tmp_path / "other", (3,))
    (found,) = tts.compare(one, other).lost
    assert isinstance(found, LostCompared)
    assert found.base.found.estimate == 1 and 0.3 < found.base.lost.estimate < 0.7
    difference = found.candidate.lost.estimate - found.base.lost.estimate
    assert found.difference.estimate == pytest.approx(difference)
    assert "lost: found, and wrong at the largest" in str(tts.compare(one, other))


def test_texts_that_are_no_cuts_of_one_trace_are_refused(tmp_path: Path) -> None:
    one, other = results(tmp_path / "base", ()), results(tmp_path / "other", (3,), whole=False)
    (of_candidate,), (of_base,) = tts.compare(one, other).lost, tts.compare(other, one).lost
    assert of_candidate == f"candidate: {of_base}"
    assert "are not the beginnings of those at larger ones" in str(of_base)


def plain_results(folder: Path, settings: dict[str, str]) -> Path:
    """A model whose one trace is cut twice and then ends by itself: right, wrong, right."""
    stop = format_named("plain").early_stop
    trace = f"2+2=4</think> Or so.{stop} 4"  # its own words; the second cut falls inside them
    texts = [f"{trace[:5]}{stop} 4.{stop} 5", f"{trace[:-5]}{stop} 6", trace]
    tasks = {f"tts_chain_b{budget}": [[number != 1] * 2] * 3 for number, budget in enumerate(BUDGETS)}
    named = {name: [[text] * 2] * 3 for name, text in zip(tasks, texts, strict=True)}
    write_output(folder, tasks, texts=named, config={"settings": settings})
    return folder


def test_a_cut_of_a_plain_trace_ends_where_the_words_of_the_cut_begin(tmp_path: Path) -> None:
    folder = plain_results(tmp_path / "plain", {"thinking_format": "plain"})
    (found,) = tts.compare(folder, folder).lost
    assert isinstance(found, LostCompared) and found.base.turned_wrong.estimate == found.base.turned_right.estimate == 1
    assert tts.diagnose(folder).tasks["tts_chain_b8"]["words"] == 5
    assert trace(folder, "--question", 2).splitlines()[2:4] == ["2+2=4", "--- 8 tokens: 4 (correct)"]
    unrecorded = plain_results(tmp_path / "unrecorded", {})
    (said,) = tts.compare(unrecorded, unrecorded).lost
    assert "are not the beginnings" in str(said), "in another format they are words like others"


def test_texts_that_were_not_saved_are_the_reason(tmp_path: Path) -> None:
    tasks = {f"tts_gpqa_diamond_b{budget}": [[True] * 2] * 3 for budget in BUDGETS}
    write_output(tmp_path, tasks)
    (said,) = tts.compare(tmp_path, tmp_path).lost
    assert said == "tts_gpqa_diamond: no texts were saved, because it is gated, so nothing can be told about traces"


def trace(*words: object, code: int = 0) -> str:
    done = cli("trace", *words)
    assert done.exit_code == code, done.output
    return done.output


def test_a_trace_is_shown_with_its_cuts(tmp_path: Path) -> None:
    folder = results(tmp_path, ())
    assert trace(folder, "--question", 2, "--sample", 1).splitlines()[:6] == [
        "tts_chain, question 2, sample 1; gold answer: 4",
        "What is it, number 2?",
        "0 1 2",
        "--- 8 tokens: 5 (wrong)",
        " 3 4 5",
        "--- 32 tokens: 4 (correct)",
    ]
    for file in folder.glob("samples_*.jsonl"):
        file.write_text(file.read_text().replace("0 1 2", "0 \\u001b[2J1 2"))
    shown = trace(folder, "--question", 2, "--sample", 1)
    assert "0 \\x1b[2J1 2\n" in shown and "\x1b" not in shown, "what a model writes acts on the terminal"
    assert "question=99: tts_chain_b8 has no such question" in trace(folder, "--question", 99, code=1)
    assert "sample=4: question 2 of tts_chain has 4 samples" in trace(folder, "--question", 2, "--sample", 4, code=1)
    assert "on=x: not in these results" in trace(folder, "--question", 2, "--on", "x", code=1)
