"""Answers found and graded, through what lm-eval calls."""

from __future__ import annotations

import json
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sympy import Integer

from benchmarks.smollm2 import HUB
from lm_eval_ext.errors import TaskError
from lm_eval_ext.generation.request import Generation
from lm_eval_ext.grading.extraction import final_answer
from lm_eval_ext.grading.grading import grades, in_workers, plainly_equal, rational
from lm_eval_ext.grading.kinds import ChoiceExtractor, extractor
from lm_eval_ext.grading.letters import chosen_letter
from lm_eval_ext.grading.meaning import Reading, Several, Value
from lm_eval_ext.grading.reading import compared, read
from lm_eval_ext.grading.rules import Extractor
from lm_eval_ext.grading.wrapping import normalised
from lm_eval_ext.harness.registration import FILTERS
from lm_eval_ext.metrics import FUNCTIONS, share_compared
from tests.shared import case_table, needs_benchmarks

math_verify, math_graded, choice_match = (FUNCTIONS[name] for name in ("math_verify", "math_graded", "choice_match"))
MathAnswer, ChoiceAnswer = FILTERS["math_answer"], FILTERS["choice_answer"]


def cases(name: str) -> list[Any]:
    return [pytest.param(row, id=row["source"]) for row in case_table(f"{name}.json")]


@pytest.mark.parametrize("case", cases("graded_outputs"))
def test_what_small_models_write_is_graded_as_a_reader_would(case: dict[str, str]) -> None:
    answers = MathAnswer().apply([[case["output"]]], [{"answer": case["gold"]}])
    assert math_graded([case["gold"]], answers)["graded"] == [case["reason"]]


@pytest.mark.parametrize("case", cases("final_answers"))
def test_final_answers(case: dict[str, str]) -> None:
    assert final_answer(case["output"]) == case["answer"]


@pytest.mark.parametrize("case", cases("equivalence"))
def test_equivalence(case: dict[str, Any]) -> None:
    assert math_verify([case["gold"]], [[case["answer"]]])["acc"] == float(case["equal"])
    if case["answer"]:
        assert math_verify([case["answer"]], [[case["gold"]]])["acc"] == float(case["equal"]), "it is symmetric"


@pytest.mark.parametrize(
    "case", [pytest.param(row, id=f"{row['gold']} and {row['answer']}") for row in case_table("read_whole.json")]
)
def test_an_answer_is_read_whole_or_not_at_all(case: dict[str, Any]) -> None:
    pairs = [(case["gold"], case["answer"]), (case["answer"], case["gold"])]
    assert [grade.correct for grade in grades(pairs)] == [case["equal"]] * 2


def test_pairs_that_every_reader_decides() -> None:
    """Written without looking at the grader: `[gold, answer, whether they are equal]`."""
    pairs = case_table("pairs.json")
    graded = grades([(gold, answer) for gold, answer, _ in pairs])
    assert [pair for pair, grade in zip(pairs, graded, strict=True) if grade.correct != pair[2]] == []


def test_outputs_of_which_every_reader_knows_the_answer() -> None:
    """Also written without looking: what is found in a text, or what must `not` be taken for its answer."""
    texts = case_table("declared.json") + case_table("chosen.json")
    found = []
    for row in texts:
        doc = {"choices": row.get("choices", ())}
        ((answer,),) = extractor(row["filter"], row["options"]).answers([[row["text"]]], [doc])
        found.append(str(answer))
    graded = grades(
        [(row.get("not") or row["answer"] or "0", answer) for row, answer in zip(texts, found, strict=True)]
    )
    wrong = [
        (row, answer)
        for row, answer, grade in zip(texts, found, graded, strict=True)
        if (grade.correct if "not" in row else answer != row["answer"] and not (row["answer"] and grade.correct))
    ]
    assert wrong == []


@pytest.mark.parametrize("number", ["1" * 400, "1," * 200, "1 k" * 130])
def test_long_numbers_in_a_last_sentence_take_no_time(number: str) -> None:
    """Backtracking over them would take years."""
    assert final_answer(f"3 * 4 = 12. He gets {number}x and has 5.") == "5"


@pytest.mark.parametrize("members", [(), ((Value(Integer(1)),), ())])
def test_several_of_nothing_are_no_reading(members: tuple[tuple[Reading, ...], ...]) -> None:
    """They would equal any others."""
    with pytest.raises(ValueError, match="no members, or one without a reading"):
        Several("matrix", members)


def test_numbers_beyond_floats_are_no_crash() -> None:
    assert final_answer("3 * 4 = 12. The sum of 9 and 99!·99! = 99!·99!·99! = 5.") in ("", "5")


def test_math_verify_published_behaviour() -> None:
    """At least as many verdicts right as by Math-Verify alone, whose own are kept in the rows."""
    published = case_table("math_verify.json")
    places = ("boxed", "declared", "last_expression")
    graded = grades([(final_answer(row["gold"], places), final_answer(row["output"], places)) for row in published])
    wrong = [row for row, grade in zip(published, graded, strict=True) if grade.correct != row["equal"]]
    assert [row for row in wrong if not row.get("missed")] == []
    assert len(wrong) <= sum(row["math_verify"] != row["equal"] for row in published)


def test_a_generation_says_itself_what_to_grade() -> None:
    text = r"\boxed{1}</think>\boxed{2}"
    assert final_answer(Generation(text, answer=r"\boxed{2}")) == "2"
    assert final_answer(Generation(text, answer=None)) == "", "cut before it could answer"


def test_accuracy_is_the_mean_over_samples() -> None:
    samples = [[r"\boxed{1}", r"\boxed{2}", "no idea", r"\boxed{01}"]]
    (answers,) = MathAnswer().apply(samples, [{}])
    assert answers == ["1", "2", "", "01"]
    assert math_verify(references=[1], predictions=[answers])["acc"] == 0.5
    assert math_verify(references=["1"], predictions=["1"])["acc"] == 1.0, "stock models give one text"


@pytest.mark.parametrize(("output", "letter"), case_table("answers_found.yaml")["letters"])
def test_letters(output: str, letter: str) -> None:
    assert chosen_letter(final_answer(output)) == letter
    assert ChoiceExtractor().answers([[output]]) == [[letter]]


@pytest.mark.parametrize("case", cases("choices"))
def test_letters_of_a_task(case: dict[str, str]) -> None:
    choices = {"choices": list(case["letters"])}
    (found,) = ChoiceAnswer().apply([[case["output"]]], [choices])
    assert found == [case["answer"]]
    assert ChoiceAnswer(letters=case["letters"]).apply([[case["output"]]], [{}]) == [[case["answer"]]]


def test_letters_are_matched() -> None:
    answers = ChoiceAnswer().apply([[r"\boxed{A}", r"\boxed{B}"]], [{}])[0]
    assert choice_match(["A"], [answers])["acc"] == 0.5


def test_votes_are_counted_where_they_are_asked_for() -> None:
    answers = ["1/2", "0.5", "3", "3", r"\frac{1}{2}", "", "4", "4"]
    scores = math_verify(["0.50"], [answers], votes=True, g_pass=[0.5])
    assert scores["acc"] == 3 / 8 and scores["answered"] == 7 / 8
    assert scores["pass@8"] == 1 and scores["maj@8"] == 1, "three votes against two and two"
    assert {"pass@2", "pass@4", "maj@2", "maj@4", "g-pass@8_0.5"} <= set(scores)
    assert choice_match(["A"], [["A", "B", "B", "A"]], votes=True)["maj@4"] == 0.5, "a tie is split"
    assert set(math_verify(["1"], [["1"]] * 3)) == {"acc", "answered"}


def test_every_grade_has_a_reason() -> None:
    answers = ["4", "5", "", r"\begin{cases", "(" * 3000, r"\prod_{n=1}^{10^9} n"]
    reasons: Any = math_graded(["4"], [answers])["graded"]
    assert reasons[:5] == ["correct", "wrong", "no answer", "unparsable", "unparsable"]
    assert reasons[5] in ("timeout", "memory")
    assert share_compared([reasons]) == 0.5


@pytest.mark.parametrize("case", cases("thinking_texts"))
def test_thinking_is_told_from_the_answer_in_every_format(case: dict[str, str]) -> None:
    """One real example of each, as stock models show it: what is boxed in the thinking never counts."""
    text = case["text"].replace("6 times 7 is 42.", r"Perhaps \boxed{41}.")
    assert MathAnswer().apply([[text]], [{}]) == [["42"]]
    cut = case["text"].partition("The answer is")[0].replace("6 times 7 is 42.", r"Perhaps \boxed{41}.")
    assert MathAnswer().apply([[cut]], [{}]) == [[""]]


def test_where_answers_are_looked_for() -> None:
    output = r"We find $x = 3$ and then 17 apples."
    assert final_answer(output) == ""
    assert Extractor(find=["boxed", "last_expression"]).answers([[output, r"\boxed{1} of 2"]]) == [["17", "1"]]
    assert Extractor(find=["boxed"]).answers([["The answer is 5."]]) == [[""]]
    with pytest.raises(TaskError, match="find=\\['box'\\]; expected a list of: boxed, declared"):
        MathAnswer(find=["box"])


@pytest.mark.parametrize("unit", ["The answer:\n", "\n", " ", r"\boxed{", "Final Answer:", "$", "**", "("])
def test_an_output_caught_in_a_loop_holds_nothing_up(unit: str) -> None:
    """Expressions that backtrack would take hours."""
    text = r"\boxed{5} The answer:" + unit * 20_000
    assert final_answer(text) == "5"
    assert final_answer(text, ("declared", "last_expression")) != ""


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{1}" + "\n\n- " * 70 + r"x \boxed{2}", r"\boxed{1}" + "\n \n" * 90 + r"! \boxed{2}",
        "So " + "1+" * 800 + "1 apples =", "Answer:" + "\n" * 20_000, "So it is 5. " + "✓" * 4000 + "x",
        "A? " * 5000, "(A) " * 5000, "[ ] A\n" * 3000,
    ],
)  # fmt: skip
def test_what_could_be_divided_in_many_ways_is_read_at_once(text: str) -> None:
    for kind in ("math", "choice", "number", "text"):
        extractor(f"{kind}_answer", {}).answers([[text]], [{}])


def test_a_truncated_trace_never_scores() -> None:
    cut = [r"so \boxed{4}", r"**Final Answer:** 4", "The answer is 4.", "Answer: (A)"]
    for text in cut:
        assert final_answer(Generation(text, answer=None)) == ""
        assert final_answer("<think>" + text) == ""
        assert final_answer("[THINK]" + text) == ""
        # A template may open the thinking, so that the text does not; the other samples tell.
        assert MathAnswer().apply([[text, r"hm</think>\boxed{5}"]], [{}]) == [["", "5"]]
        assert MathAnswer(thinking_end="</thought>").apply([[text]], [{}]) == [[""]]
    assert MathAnswer().apply([[cut[0], r"<think>hm</think>\boxed{5}"]], [{}]) == [["4", "5"]], "this one did not think"


def test_the_filter_grades_all_questions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []

    def counted(pairs: list[tuple[str, str]]) -> list[Any]:
        batches.append(len(pairs))
        return grades(pairs)

    monkeypatch.setattr("lm_eval_ext.grading.kinds.grades", counted)
    MathAnswer().apply([[r"\boxed{1}"], [r"\boxed{2}", r"\boxed{x}"]], [{"Answer": "1"}, {"ANSWER": 2}])
    assert batches == [3]
    MathAnswer().apply([[r"\boxed{1}"]], [{"answer": "A solution\nof several lines: 1"}])
    assert batches == [3, 0]


FILES = {
    "HuggingFaceH4/MATH-500/test.jsonl": "answer",
    "Maxwell-Jia/AIME_2024/train.jsonl": "Answer",
    "math-ai/aime25/test.jsonl": "answer",
}


def golds(file: str) -> list[str]:
    return [str(json.loads(line)[FILES[file]]) for line in (HUB / file).read_text("utf-8").splitlines()]


def rewritings(gold: str) -> list[str]:
    """Other ways to write the same."""
    ways = [f" {gold} ", f"${gold}$", rf"\({gold}\)", rf"\,{gold}\,", f"{gold}.", rf"\displaystyle {gold}"]
    ways += (
        [gold.replace(r"\frac", r"\dfrac"), gold.replace(r"\%", "%"), gold.replace(" ", "")]
        if "\\text" not in gold
        else []
    )
    if "[" not in gold and r"\left" not in gold:
        ways.append(gold.replace("(", r"\left(").replace(")", r"\right)"))
    if gold.isdigit():
        ways += [f"0{gold}", f"{gold}.0", rf"{gold}\text{{ cm}}", rf"{gold} \text{{ units}}"]
        ways += [f"{int(gold):,}".replace(",", separator) for separator in (",", r"\,", "{,}", r",\!", " ")]
    return ways


@needs_benchmarks
@pytest.mark.parametrize("file", FILES)
def test_every_gold_equals_itself_however_it_is_written(file: str) -> None:
    assert len(golds(file)) >= 30
    pairs = [(gold, way) for gold in golds(file) for way in (gold, *rewritings(gold))]
    boxed = [(gold, final_answer(rf"It follows that \boxed{{{way}}}.")) for gold, way in pairs]
    graded = grades(boxed)
    assert [pair for pair, grade in zip(boxed, graded, strict=True) if not grade.correct] == []


@needs_benchmarks
def test_no_two_answers_of_aime_are_equal() -> None:
    answers = {int(gold) for file in FILES if "MATH" not in file for gold in golds(file)}
    pairs = [(str(one), str(other)) for one in answers for other in answers if one != other]
    assert len(pairs) > 2_000 and not any(grade.correct for grade in grades(pairs))


@needs_benchmarks
def test_settling_without_algebra_agrees_with_algebra() -> None:
    """Wherever the shortcut has a verdict on golds, neighbours and rewritings, the algebra system has the same."""
    some = sorted({way for file in FILES for gold in golds(file)[:90] for way in (gold, *rewritings(gold)[:3])})
    texts = sorted({normalised(way) for way in some})
    numbers = [text for text in texts if rational(text) is not None]
    pairs = [(text, text) for text in texts] + list(pairwise(numbers)) + list(zip(numbers, numbers[5:], strict=False))
    settled = [(pair, verdict) for pair in pairs if (verdict := plainly_equal(*pair)) is not None]
    outcomes = in_workers(compared, [pair for pair, _ in settled], seconds=20)
    differing = [
        pair for (pair, verdict), outcome in zip(settled, outcomes, strict=True) if outcome.value is not verdict
    ]
    readable = {
        text
        for text, outcome in zip(texts, in_workers(read, [(text,) for text in texts]), strict=True)
        if outcome.value and outcome.value[0]
    }
    assert len(settled) > 300
    assert [pair for pair in differing if set(pair) <= readable] == []


@given(
    content=st.text("0123456789xyz+-^{}()=, ", min_size=1, max_size=30).filter(lambda text: text.strip() == text),
    before=st.text(max_size=200),
    after=st.text("abc .,\n", max_size=100),
)
def test_the_last_whole_box_is_found_in_any_text(content: str, before: str, after: str) -> None:
    depths = list(accumulate((character == "{") - (character == "}") for character in content))
    assume(min(depths) >= 0 == depths[-1])
    assume("boxed" not in before and not before.endswith("\\") and "{" not in before)
    assert final_answer(rf"{before} \boxed{{{content}}}{after}", ("boxed",)) == content


_PIECES = (
    r"\frac { } 1 23 x + - ^ _ \sqrt ( ) , \pm \text{cm} = < \cup \pi ! \le .5 ° | \{ \} & %"
    r" \begin{pmatrix} \end{pmatrix}"
)
LATEX = st.lists(st.sampled_from([*_PIECES.split(), " "]), max_size=14).map("".join)


NUMBER = st.sampled_from(["2", "12", "0.5", "x", "(2+1)", "½", "2²"])
SIGN = st.sampled_from([*"+-*/", "//", "**", ""])
SIDES = st.lists(st.tuples(NUMBER, SIGN).map("".join), max_size=3).flatmap(
    lambda some: NUMBER.map("".join(some).__add__)
)


@given(
    st.lists(SIDES, min_size=1, max_size=3).map(" = ".join),
    st.sampled_from(["", "It costs ", "So ", "$", "Tom has 3. "]),
)
@settings(max_examples=400)
def test_any_equation_has_an_answer_or_none(equation: str, before: str) -> None:
    assert isinstance(final_answer(f"{before}{equation}{before if before == '$' else ''}"), str)


@given(LATEX)
def test_what_is_written_is_read_as_the_same_again(text: str) -> None:
    plain = normalised(text)
    assert normalised(plain) == plain


@given(LATEX, LATEX)
@settings(max_examples=60, deadline=None)
def test_no_text_breaks_the_grammar_and_verdicts_are_symmetric(one: str, other: str) -> None:
    assert compared(one, other) == compared(other, one)
