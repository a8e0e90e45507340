"""Signs in traces: self-BLEU as in sacrebleu, the others by hand and by their properties."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

import lm_eval_ext as tts
from benchmarks.lm_eval_output import write_output
from lm_eval_ext.analysis import diagnosis
from lm_eval_ext.analysis.diagnosis import self_bleu
from lm_eval_ext.generation.engine import COPIES, TOKENS, loops
from tests.commands import cli
from tests.shared import case_table

SENTENCES = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=12), min_size=2, max_size=6)
REFERENCE = BLEU(tokenize="none", effective_order=True)


@given(SENTENCES)
def test_self_bleu_is_that_of_sacrebleu(sentences: list[list[str]]) -> None:
    expected = [
        REFERENCE.sentence_score(
            " ".join(sentence), [" ".join(other) for at, other in enumerate(sentences) if at != number]
        ).score
        for number, sentence in enumerate(sentences)
    ]
    assert self_bleu(sentences) == pytest.approx(sum(expected) / len(expected) / 100)


def test_one_text_has_no_self_bleu() -> None:
    assert self_bleu([["a", "b"]]) is None and diagnosis.self_bleu_of_sentences("Only one.") is None


@given(st.text(max_size=200))
def test_every_text_has_signs_within_bounds(text: str) -> None:
    words = diagnosis.words_of(text)
    shares = [diagnosis.distinct(words, 2), diagnosis.repeated_share(words), diagnosis.repeated_steps(text)]
    shares += [diagnosis.foreign_letters(text, "What?"), diagnosis.self_bleu_of_sentences(text)]
    assert all(share is None or 0 <= share <= 1 + 1e-9 for share in shares)


def test_a_loop_shows_in_every_sign_of_repetition() -> None:
    loop = "So the answer is four, and we are done here.\n" * 30
    prose = "\n".join(f"Step {number}: we add {number * 7} to {number * 3} and go on." for number in range(30))
    assert (diagnosis.repeated_steps(loop) or 0) > 0.9 > (diagnosis.repeated_steps(prose) or 0)
    assert diagnosis.repeated_share(diagnosis.words_of(loop)) > 0.8
    assert (diagnosis.compression_ratio(loop) or 0) > 3 * (diagnosis.compression_ratio(prose) or 1)
    assert (diagnosis.self_bleu_of_sentences(loop) or 0) > (diagnosis.self_bleu_of_sentences(prose) or 1)


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("Wait, no. But let me check: yes.", 3),
        ("The butter waits.", 0),
        ("等等\uff0c不对。", 2),
        ("Moment mal, aber ja.", 2),
    ],
)
def test_marks_of_reflection_are_whole_words_of_several_languages(text: str, marks: int) -> None:
    assert diagnosis.reflections(text, 1000) == marks


def test_only_scripts_that_the_prompt_lacks_are_foreign() -> None:
    assert diagnosis.foreign_letters("\u03b1 + x = 答", "What is x?") == pytest.approx(1 / 3)
    assert diagnosis.foreign_letters("答案", "这是什么?") == 0


def test_a_run_is_diagnosed_from_its_samples(tmp_path: Path) -> None:
    text = "Wait. " * 50 + "</think>\\boxed{%s}"
    write_output(tmp_path, {"tts_sums": [[True, False]] * 5}, text=text)
    found = tts.diagnose(tmp_path)
    signs_of_task = found.tasks["tts_sums"]
    assert signs_of_task["reflections"] == 500 and signs_of_task["repeated_steps"] == pytest.approx(0.98)
    assert signs_of_task["self_bleu_samples"] == pytest.approx(1), "all thinking is the same"
    assert found.to_frame()["task"].tolist() == ["tts_sums"]
    done = cli("diagnose", tmp_path)
    assert done.exit_code == 0 and "marks of reflection per 1,000 words" in done.output


def test_gated_samples_have_nothing_to_diagnose(tmp_path: Path) -> None:
    write_output(tmp_path, {"tts_gpqa_diamond": [[True, False]] * 5})
    assert "no texts were saved" in str(tts.diagnose(tmp_path))


# Loops ----------------------------------------------------------------------------------------------------------------


TEXTS = case_table("looping_texts.json")


@pytest.mark.parametrize("case", [pytest.param(case, id=case["source"]) for case in TEXTS])
def test_texts(case: dict[str, object]) -> None:
    assert loops(str(case["text"]).split(" ")) == case["loops"]  # type: ignore[arg-type]  # words stand for tokens


def plainly(ids: list[int]) -> bool:
    """The definition, word for word: some block, at least four copies at the end, at least 32 tokens."""
    for period in range(1, len(ids) // COPIES + 1):
        covered = period
        while covered < len(ids) and ids[-covered - 1] == ids[-covered - 1 + period]:
            covered += 1
        if covered >= COPIES * period and covered >= TOKENS:
            return True
    return False


@given(
    st.lists(st.integers(0, 2), max_size=30),
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
    st.integers(0, 40),
    st.lists(st.integers(0, 2), max_size=2),
)
def test_it_is_the_definition(head: list[int], block: list[int], copies: int, tail: list[int]) -> None:
    ids = head + block * copies + tail
    assert loops(ids) == plainly(ids)
