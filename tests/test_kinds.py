"""The kinds of answers: what each accepts, what its options do, how its answers are found and vote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.choices import LETTERS, shown_texts
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.items import ListExtractor, ListRules
from lm_eval_ext.grading.kinds import KINDS, extractor
from lm_eval_ext.grading.rules import Answer
from lm_eval_ext.grading.structure import JsonExtractor, JsonRules, json_in
from lm_eval_ext.grading.texts import TextExtractor, TextRules
from lm_eval_ext.metrics import FUNCTIONS
from tests.shared import case_table, one_line


def cases(name: str) -> list[Any]:
    rows = case_table(f"{name}.json")
    return [pytest.param(row, id=f"{row['source']}: {row.get('answer', row.get('text'))}"[:60]) for row in rows]


@pytest.mark.parametrize("case", cases("texts"))
def test_texts(case: dict[str, Any]) -> None:
    assert right("text", case) is case["right"]


@pytest.mark.parametrize("case", cases("numbers"))
def test_numbers(case: dict[str, Any]) -> None:
    assert right("number", case) is case["right"]


@pytest.mark.parametrize("case", cases("lists"))
def test_lists(case: dict[str, Any]) -> None:
    assert right("list", case) is case["right"]


@pytest.mark.parametrize("case", cases("structures"))
def test_structures(case: dict[str, Any]) -> None:
    answer = json_in(case["text"])
    scores = FUNCTIONS["json_match"]([case["gold"]], [[answer]])
    ((_, reason),) = JsonRules().grades([(case["gold"], answer)])
    assert FUNCTIONS["json_graded"]([case["gold"]], [[answer]]) == {"graded": [reason]}
    assert (scores["acc"], scores["cells"]) == (float(case["right"]), case["cells"])
    assert reason == case.get("reason", "correct" if case["right"] else "wrong")


def right(kind: str, case: dict[str, Any]) -> bool:
    (grade,) = KINDS[kind].of(case.get("options", {})).grades([(case["gold"], case["answer"])])
    return grade.correct


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_option_is_one_line(kind: str) -> None:
    for name in (KINDS[kind].match_name(), KINDS[kind].graded_name()):
        with one_line(TaskError, match=rf"unknown option 'relativ' for {kind} answers; expected one of: "):
            FUNCTIONS[name](["1"], [["1"]], relativ=0.1)


@pytest.mark.parametrize(("kind", "options", "said"), case_table("wrong_arguments.yaml")["options"])
def test_an_option_that_cannot_be_is_one_line(kind: str, options: dict[str, Any], said: str) -> None:
    with one_line(TaskError, said):
        KINDS[kind].of(options)


@pytest.mark.parametrize(("text", "found"), case_table("answers_found.yaml")["words"])
def test_where_words_are_found(text: str, found: str) -> None:
    assert TextExtractor().of(text) == found


@pytest.mark.parametrize(("text", "found"), case_table("answers_found.yaml")["lists"])
def test_where_lists_are_found(text: str, found: str) -> None:
    assert ListExtractor().of(text) == found


@pytest.mark.parametrize("kind", ["text", "number", "json", "list", "expression", "choice", "math"])
def test_what_was_cut_has_no_answer(kind: str) -> None:
    outputs = [['<think>The answer is A, so \\boxed{A} and {"a": 1}', '<think>yes</think>\\boxed{A} {"a": 1}']]
    ((cut, whole),) = extractor(f"{kind}_answer", {}).answers(outputs, [{}])
    assert cut == "" and whole != ""
    assert FUNCTIONS[KINDS[kind].match_name()](["A"], [[cut, whole]])["answered"] == 0.5


def test_a_task_of_yes_and_no_knows_its_chance() -> None:
    assert FUNCTIONS["text_match"](["True"], [["yes"]], synonyms="yes_no")["chance"] == 0.5
    assert "chance" not in FUNCTIONS["text_match"](["True"], [["yes"]])


@pytest.mark.parametrize(
    ("gold", "answers", "acc", "chance"),
    [("A|C", ["A", "B", "C", ""], 0.5, 0.5), ("A, C", ["A, C", "A", "A, B, C", ""], 0.25, 1 / 15)],
)
def test_more_than_one_right_option(gold: str, answers: list[str], acc: float, chance: float) -> None:
    found = [Answer(answer) for answer in answers]
    for answer in found:
        answer.options = 4
    scores = FUNCTIONS["choice_match"]([gold], [found])
    assert (scores["acc"], scores["chance"]) == (acc, chance)


def test_a_shuffled_option_has_the_letter_that_the_question_shows() -> None:
    options = ["Venus", "Earth", "Mars", "Jupiter"]
    doc = {"id": 5, "options": options}
    letter = LETTERS[shown_texts(doc, ["options"], "id").index("Mars")]
    some = {"choices": "options", "shuffle": "id"}
    replies = ["Mars", f"{letter}) Mars", f"{letter}) Venus", f"It is {letter}."]
    ((*found,),) = extractor("choice_answer", some).answers([replies], [doc])
    assert found == [letter, letter, "", letter]
    assert options[LETTERS.index(letter)] != "Mars", "the order of this question is changed"


def test_letters_of_several_options_are_found() -> None:
    ((found,),) = extractor("choice_answer", {"several": True, "letters": "ABCD"}).answers(
        [[r"\boxed{\text{C and A}}"]]
    )
    assert found == "A, C"


@pytest.mark.parametrize(("kind", "options", "answers", "labels"), case_table("answers_found.yaml")["votes"])
def test_equal_answers_vote_together(
    kind: str, options: dict[str, Any], answers: list[str], labels: list[int | None]
) -> None:
    (found,) = KINDS[kind].of(options).clusters([answers])
    names: dict[int | None, int] = {}
    assert [one if one is None else names.setdefault(one, len(names)) for one in found] == labels


words = st.text(alphabet="aBé \t'-.", max_size=8)


@given(words)
def test_markup_and_a_full_stop_change_nothing(word: str) -> None:
    rules, answer = TextRules(), f"x{word}x"
    for written in (f"**{answer}**", rf"\text{{{answer}}}", f"The {answer}.", answer.upper(), f" {answer}\n"):
        assert rules.key(written) == rules.key(answer)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(alphabet="ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="xyz", min_size=1, max_size=2), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(alphabet="xyz", min_size=1, max_size=2), values, min_size=1, max_size=3))
def test_json_is_right_when_it_is_the_gold_answer(value: dict[str, Any]) -> None:
    gold = json.dumps(value)
    found = JsonExtractor().of(f"Therefore\n```json\n{json.dumps(value, indent=2)}\n```")
    assert JsonRules().compare([(gold, found)]) == [True]


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=3), min_size=1, max_size=5), st.randoms())
def test_a_list_is_right_in_any_order(items: list[str], generator: Any) -> None:
    shuffled = list(items)
    generator.shuffle(shuffled)
    assert ListRules().compare([("\n".join(items), ", ".join(shuffled))]) == [True]


@given(st.text(max_size=300))
def test_no_output_breaks_an_extractor_or_a_comparison(text: str) -> None:
    for finder in (TextExtractor(), ListExtractor(), JsonExtractor()):
        answer = finder.of(text)
        for kind in ("text", "json", "list", "expression"):
            KINDS[kind].of({}).grades([(text, answer), ('{"a": 1}', answer)])


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, '{"a":' * 50_000, "```json\n" * 20_000])
def test_hostile_json_is_read_in_time(text: str) -> None:
    JsonRules().grades([('{"a": 1}', json_in(text))])


@pytest.mark.parametrize("case", cases("expressions"))
def test_expressions(case: dict[str, Any]) -> None:
    assert right("expression", case) is case["right"]


@pytest.mark.parametrize("kind", ["text", "list", "expression", "choice"])
@pytest.mark.parametrize("text", ["? " + " " * 100_000 + "x=a", "a and " * 20_000, "(" * 50_000, "1. a\n" * 20_000])
def test_hostile_texts_are_read_in_time(kind: str, text: str) -> None:
    ((answer,),) = extractor(f"{kind}_answer", {}).answers([[rf"\boxed{{{text}}}"]])
    KINDS[kind].of({"synonyms": "yes_no"} if kind == "text" else {}).grades([("yes", answer), ("yes", text)])


@pytest.mark.parametrize("answer", ["(" * 290, "2**9999999", "9" * 300, "__import__('os')", "1/0", "2 3", ""])
def test_hostile_expressions_are_wrong(answer: str) -> None:
    (grade,) = KINDS["expression"].of({}).grades([('{"target": 24, "numbers": [2, 3, 4]}', answer)])
    assert not grade.correct


@pytest.mark.parametrize(("name", "text", "answer"), case_table("answers_found.yaml")["taken back"])
def test_the_models_own_turn_counts_without_what_it_takes_back(name: str, text: str, answer: str) -> None:
    options = {"letters": "ABCD"} if name == "choice" else {}
    assert extractor(f"{name}_answer", options).answers([[text]], [{}]) == [[answer]]
