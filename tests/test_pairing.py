"""The same questions in the logs of two tools: by their texts, whatever the order and whatever stands around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.lm_eval_output import write_output
from lm_eval_ext.analysis.evaluated import read_model
from lm_eval_ext.analysis.pairing import paired
from lm_eval_ext.analysis.regraded import with_regraded
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.task_results import AskedQuestion
from tests.foreign_logs import (
    INTEROP,
    LEGACY,
    lm_eval_tts,
    write_inspect,
    write_legacy,
    write_lighteval,
    write_nemo,
)

ALLOW = "grader,shots,thinking budget,sampling,tokens in all,further generation arguments"


def asked(text: str, gold: str = "", template: str = "{}", *, bare: bool = True) -> AskedQuestion:
    return AskedQuestion(text if bare else "", template.format(text), (gold,) if gold else ())


def sums(count: int) -> list[str]:
    return [f"What is {number} + {number * number % 97}?" for number in range(count)]


TEMPLATES = {
    "bare": "{}",
    "instruction": "Solve the problem. The last line must be the answer.\n\n{}\n\nThink step by step.",
    "question and answer": "Question: {}\nAnswer:",
    "five examples": "".join(f"Question: {text}\nAnswer: no\n\n" for text in sums(5)) + "Question: {}\nAnswer:",
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("few", [False, True])
@given(order=st.permutations(range(40)))
def test_questions_are_found_in_prompts(template: str, few: bool, order: list[int]) -> None:
    """Also with examples that are questions themselves, and where one side has only some."""
    texts = sums(40)
    base = [asked(text, str(number)) for number, text in enumerate(texts)]
    chosen = order[:20] if few else order
    candidate = [asked(texts[at], str(at), TEMPLATES[template], bare=False) for at in chosen]
    pairs = paired(base, candidate)
    assert [(base[one].bare, at) for one, at in zip(*pairs, strict=True)] == [
        (texts[one], chosen.index(one)) for one in sorted(chosen)
    ]
    back = paired(candidate, base)
    assert dict(zip(back.candidate, back.base, strict=True)) == dict(zip(*pairs, strict=True))


def test_a_text_within_another_or_within_a_word_is_not_it() -> None:
    base = [asked("What is 1 + 1"), asked("What is 1 + 11"), asked("is 1 + 1")]
    candidate = [
        asked("What is 1 + 11", template="Q: {}.", bare=False),
        asked("What is 1 + 1", template="Q: {}.", bare=False),
    ]
    assert paired(base, candidate) == ((0, 1), (1, 0))


def test_case_spaces_and_unicode_forms_do_not_matter() -> None:
    assert paired([asked("What  is\n2\uff0b3?")], [asked("what is 2+3?")]) == ((0,), (0,))


def test_questions_of_one_text_are_left_out_because_it_is_not_known_which_is_which() -> None:
    base = [asked("a?", "1"), asked("a?", "2"), *(asked(text) for text in sums(40))]
    pairs = paired(base, list(reversed(base)))
    assert pairs.base == tuple(range(2, 42)) and pairs.candidate == tuple(range(39, -1, -1))


@pytest.mark.parametrize(
    ("one", "other"), [("72", "#### 72"), ("42", r"\boxed{42}"), ("1/2", r"\frac{1}{2}"), ("Paris", "paris"), ("5", "")]
)
def test_golds_may_be_written_differently_or_be_unknown(one: str, other: str) -> None:
    assert paired([asked("a?", one)], [asked("a?", other)]) == ((0,), (0,))


def test_another_gold_is_refused_with_the_question() -> None:
    base = [asked(text, str(number)) for number, text in enumerate(sums(30))]
    candidate = [*base[:29], asked(base[29].bare, "31")]
    with pytest.raises(ResultsError, match=r"1 questions have other gold answers: 'What is 29 \+ 65\?'"):
        paired(base, candidate)


def test_too_few_of_the_same_are_refused_unless_they_are_asked_for() -> None:
    base, candidate = [asked(text) for text in sums(20)], [asked(text) for text in [*sums(10), *map(str, range(10))]]
    with pytest.raises(
        ResultsError, match=r"only 10 of 20 and 20 questions are the same.*'What is 10 .*; --common takes"
    ):
        paired(base, candidate)
    assert paired(base, candidate, common=True) == (tuple(range(10)), tuple(range(10)))
    with pytest.raises(ResultsError, match="only 0 of 20 and 1 questions are the same"):
        paired(base, [asked("Something else?")], common=True)


def test_two_prompts_with_one_question_are_refused() -> None:
    base = [asked(text) for text in sums(3)]
    candidate = [asked(text, template="Q: {} A:", bare=False) for text in [*sums(3)[:2], sums(3)[1]]]
    with pytest.raises(ResultsError, match=r"several questions have the text of one: 'what is 1 \+ 1"):
        paired(base, candidate)


def test_a_question_among_the_examples_or_within_another_is_not_the_one_that_is_asked() -> None:
    base = [asked(f"Is the number {number} a prime?", "Yes") for number in range(20)]
    shown = "Q: Is the number {} a prime?\nA: Yes\n\nQ: Is the number {} a prime?\nA:"
    candidate = [AskedQuestion("", shown.format(number, number + 50), ("Yes",)) for number in range(20)]
    with pytest.raises(ResultsError, match="questions are the same"):
        paired(base, candidate)
    base = [asked(text) for text in sums(20)]
    within = "{} He doesn't know. What does Bob say to number {}?"
    candidate = [asked("", template=within.format(text, at), bare=False) for at, text in enumerate(sums(20))]
    with pytest.raises(ResultsError, match="questions are the same"):
        paired(base, candidate)


def test_other_options_are_another_question() -> None:
    base = [AskedQuestion("Which is true?", "Which is true?", ("None",), ("None", "A", "B"))]
    assert paired(base, [base[0]._replace(options=("b", "none", "a"))]) == ((0,), (0,)), "in another order"
    with pytest.raises(ResultsError, match="1 questions have other options: 'Which is true"):
        paired(base, [base[0]._replace(options=("None", "C", "D"))])


def test_many_long_prompts_are_paired_at_once() -> None:
    texts = [f"{'many words ' * 50}{number} in question {number * 7}?" for number in range(3000)]
    base = [asked(text) for text in texts]
    candidate = [asked(text, template="Example. " * 300 + "Q: {}\nA:", bare=False) for text in reversed(texts)]
    assert paired(base, candidate).candidate == tuple(range(2999, -1, -1))


# Whole comparisons --------------------------------------------------------------------------------------------


def test_two_tools_give_a_paired_comparison(tmp_path: Path) -> None:
    def renamed(content: Any) -> None:
        content["benchmark"].update(name="SUMS")

    inspect, light = write_inspect(tmp_path / "a"), write_lighteval(tmp_path / "b")
    nemo = write_nemo(tmp_path / "c", renamed)
    for base, candidate in ((inspect, light), (light, nemo), (nemo, inspect)):
        code, said = lm_eval_tts("compare", base, candidate, "--allow", ALLOW)
        assert code == 0, said
        row = next(line for line in said.splitlines() if line.lower().startswith("sums  "))
        assert "3 x " in row and " 0.0 (" in row, "the same answers, in other orders"
        assert "  grader: " in said and "  metric: " in said, "what is allowed to differ is listed"
    code, said = lm_eval_tts("compare", inspect, light)
    assert code == 2 and "cannot be compared, because of " in said and "grader: inspect_ai and lighteval" in said


def test_with_results_of_lm_eval(tmp_path: Path) -> None:
    path = write_output(tmp_path / "lm_eval", {"sums": [[True, False]]})
    code, said = lm_eval_tts("compare", write_inspect(tmp_path / "a"), path, "--allow", ALLOW)
    assert code == 2 and "only 0 of 3 and 1 questions are the same, judged by their texts; not paired: 'What is" in said


def test_some_questions_of_a_log(tmp_path: Path) -> None:
    def fewer(content: Any) -> None:
        content["samples"] = [sample for sample in content["samples"] if sample["id"] != "q3"]
        content["results"]["scores"][1]["metrics"]["accuracy"]["value"] = 0.25

    base, candidate = write_lighteval(tmp_path / "a"), write_inspect(tmp_path / "b", fewer)
    code, said = lm_eval_tts("compare", base, candidate, "--allow", ALLOW)
    assert code == 0 and "sums: questions that are paired: 2 of 3 and 2 of 2" in said and "2 x " in said

    def renamed(content: Any) -> None:
        for sample in content["samples"]:
            if sample["id"] != "q1":
                sample["input"] = "another?"

    other = write_inspect(tmp_path / "c", renamed)
    assert lm_eval_tts("compare", base, other, "--allow", ALLOW)[0] == 2


def test_regraded_answers_decide_and_the_tools_own_scores_stay(tmp_path: Path) -> None:
    """One tool doesn't read a fraction as the same number: by our grader, nothing is lost."""

    def strict(content: Any) -> None:
        for sample in content["samples"]:
            if sample["id"] == "q1" and sample["epoch"] == 1:
                sample["scores"]["match"]["value"] = "I"
                sample["output"]["choices"][0]["message"]["content"] = r"The answer is \boxed{\frac{10}{2}}."
        content["results"]["scores"][1]["metrics"]["accuracy"]["value"] = 1 / 3

    base, other = write_lighteval(tmp_path / "a"), write_inspect(tmp_path / "b", strict)
    code, said = lm_eval_tts(
        "compare", base, other, "--allow", ALLOW.removeprefix("grader,"), "--regrade", "--keep", "0.5"
    )
    rows = {line.split()[0]: line for line in said.splitlines() if line.startswith("sums") and " x " in line}
    assert code == 3, said
    assert "50.0 (" in rows["sums"] and "33.3 (" in rows["sums"] and " 0.0 (" in rows["sums-regraded"]
    assert "sums-regraded: undecided" in said and "sums: undecided" not in said
    code, said = lm_eval_tts("compare", base, write_legacy(tmp_path / "c"), "--regrade", "--allow", ALLOW)
    assert code == 2 and "no answers can be graded again: it takes texts and gold answers" in said


CAPITALS = (("France", "Paris"), ("Italy", "Rome"), ("Norway", "Oslo"), ("Spain", "Madrid"))


def quiz(folder: Path, order: Sequence[int], written: Sequence[str], *, prompts: bool = True, **more: Any) -> Path:
    """A log of multiple choice: options in an order of its own, and what a model wrote of each question."""
    options = [CAPITALS[at][1] for at in order]

    def change(content: Any) -> None:
        content["eval"].update(
            task="capitals", dataset={"name": "capitals", "samples": 4}, config={"epochs": 1}, **more
        )
        content["samples"] = []
        for (country, capital), text in zip(CAPITALS, written, strict=True):
            shown = "\n".join(f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=True))
            sample = {
                "id": country, "epoch": 1, "input": f"What is the capital of {country}?", "choices": options,
                "target": "ABCD"[options.index(capital)],
                "messages": [{"role": "user", "content": f"Answer the question.\n\nWhat is it?\n\n{shown}"}],
                "output": {"choices": [{"message": {"content": text}, "stop_reason": "stop"}]},
                "scores": {"match": {"value": "I", "answer": ""}},  # by a scorer that reads no letter
            }  # fmt: skip
            content["samples"].append(sample if prompts else {**sample, "messages": []})
        content["results"]["scores"][1]["metrics"]["accuracy"]["value"] = 0.0

    return write_inspect(folder, change)


def test_options_are_regraded_by_the_letters_that_the_prompt_shows(tmp_path: Path) -> None:
    base = quiz(tmp_path / "a", (0, 1, 2, 3), ("ANSWER: A", "The answer is (B).", r"\boxed{C}", "I don't know"))
    other = quiz(tmp_path / "b", (3, 2, 1, 0), ("ANSWER: D", "ANSWER: B", "ANSWER: B", "ANSWER: A"), model="hf/x/small")
    scores = {}
    for path in (base, other):
        found = with_regraded(read_model(path, read_catalogue())).tasks
        task = found["capitals-regraded"]
        asked = [one.bare for one in task.sources[0].asked("capitals")]
        scores[path] = dict(zip((one.split()[-1] for one in asked), task.scores, strict=True))
        assert set(found["capitals"].scores) == {0.0} and task.result.chance == 0.25
    assert scores[base] == {"France?": 1, "Italy?": 1, "Norway?": 1, "Spain?": 0}
    assert scores[other] == {"France?": 1, "Italy?": 0, "Norway?": 1, "Spain?": 1}
    code, said = lm_eval_tts("compare", base, other, "--allow", ALLOW.removeprefix("grader,"), "--regrade")
    assert code == 0 and "capitals-regraded" in said, said
    with pytest.raises(ResultsError, match="of multiple choice prompts that show the options"):
        with_regraded(read_model(quiz(tmp_path / "c", (0, 1, 2, 3), "ABCD", prompts=False), read_catalogue()))


@pytest.mark.parametrize("golds", [("Paris", "Rome", "Oslo"), ("A", "B", "C"), ("yes", "5", "6")])
def test_golds_in_words_or_letters_are_not_regraded_as_mathematics(golds: Sequence[str], tmp_path: Path) -> None:
    def change(content: Any) -> None:
        for sample in content["samples"]:
            sample["target"] = golds[int(sample["id"][1]) - 1]

    with pytest.raises(ResultsError, match="no answers can be graded again"):
        with_regraded(read_model(write_inspect(tmp_path, change), read_catalogue()))


def test_options_that_an_epoch_or_an_example_shows_otherwise_are_not_regraded(tmp_path: Path) -> None:
    path = quiz(tmp_path / "a", (0, 1, 2, 3), ("A", "B", "C", "D"))
    content = json.loads(path.read_text("utf-8"))
    first = content["samples"][0]
    first["messages"][0]["content"] = "\n".join(
        ["For example:", *(f"{letter}) {CAPITALS[at][1]}" for letter, at in zip("ABCD", (3, 2, 1, 0), strict=True)),
         first["messages"][0]["content"]]
    )  # fmt: skip
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ResultsError, match="no answers can be graded again"):
        with_regraded(read_model(path, read_catalogue()))
    other = json.loads(quiz(tmp_path / "b", (0, 1, 2, 3), ("A", "B", "C", "D")).read_text("utf-8"))
    again = json.loads(quiz(tmp_path / "c", (3, 2, 1, 0), ("D", "C", "B", "A")).read_text("utf-8"))
    other["samples"] += [{**sample, "epoch": 2} for sample in again["samples"]]
    other["eval"]["config"]["epochs"] = 2
    path = tmp_path / "b" / "log.json"
    path.write_text(json.dumps(other), "utf-8")
    with pytest.raises(ResultsError, match="no answers can be graded again"):
        with_regraded(read_model(path, read_catalogue()))


def test_answers_of_another_kind_are_not_regraded_as_mathematics(tmp_path: Path) -> None:
    model = read_model(write_output(tmp_path, {"tts_aime24": [[True], [False]]}), read_catalogue())
    (name, again), task = list(with_regraded(model).tasks.items())[1], model.tasks["tts_aime24"]
    assert (name, again.scores) == ("tts_aime24-regraded", (1.0, 0.0))
    other = replace(task, result=task.result.model_copy(update={"kind": "json"}))
    with pytest.raises(ResultsError, match="no answers can be graded again"):
        with_regraded(replace(model, tasks={"tts_aime24": other}))


def test_means_alone_are_compared_unpaired_and_give_no_verdict(tmp_path: Path) -> None:
    base = write_legacy(tmp_path / "a")
    smaller = write_legacy(
        tmp_path / "b", LEGACY.replace("acme/tiny", "acme/small").replace("value: 0.5", "value: 0.3")
    )
    code, said = lm_eval_tts("compare", base, smaller, "--allow", ALLOW)
    row = next(line for line in said.splitlines() if line.startswith("sums  "))
    assert code == 0 and "unpaired" in row and " -20.0 (" in row
    code, said = lm_eval_tts("compare", base, smaller, "--allow", ALLOW, "--keep", "0.9")
    assert code == 2 and "means alone give no verdict" in said
    code, said = lm_eval_tts("compare", write_lighteval(tmp_path / "c"), smaller, "--allow", ALLOW)
    assert code == 0 and "unpaired" in said, "also where only one of them has questions"


def test_results_of_lm_eval_without_samples_are_compared_unpaired(tmp_path: Path) -> None:
    for name, right in (("base", [True] * 40 + [False] * 10), ("other", [True] * 20 + [False] * 30)):
        tasks = {task: [[one] for one in right] for task in ("tts_math500_b512", "tts_math500_b1024")}
        write_output(tmp_path / name, tasks, samples=False, dropped=(3,) if name == "other" else ())
    code, said = lm_eval_tts("compare", tmp_path / "base", tmp_path / "other")
    row = next(line for line in said.splitlines() if line.startswith("tts_math500_b512  "))
    assert code == 0 and "unpaired" in row and " -40.0 (-55.2 to -21.0)" in row, said


@pytest.mark.skipif(not INTEROP.is_dir(), reason=f"no logs of other tools at {INTEROP}")
def test_real_logs_of_the_same_questions_are_paired() -> None:
    """What the files say: 2+3 is right in the first sample, 7*6 in the second, 10-4 never; inspect's answers differ."""
    inspect = next((INTEROP / "inspect").glob("*toy-math*.json"))
    for base, candidate, difference in (
        (INTEROP / "lm_eval" / "acme__tiny", INTEROP / "lighteval", "16.7"),
        (INTEROP / "lighteval", INTEROP / "nemo_evaluator", "0.0"),
        (inspect, INTEROP / "nemo_evaluator", "16.7"),
        (inspect, INTEROP / "lm_eval" / "acme__tiny", "0.0"),
    ):
        code, said = lm_eval_tts("compare", base, candidate, "--on", "toy_math", "--allow", ALLOW)
        row = next(line for line in said.splitlines() if line.startswith("toy_math  "))
        assert code == 0 and f" {difference} (" in row, said
