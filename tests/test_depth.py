"""Problems of any depth, the parts of benchmarks, and half-lives."""

from __future__ import annotations

import random
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.analysis.evaluated import read_model
from lm_eval_ext.analysis.parts import checked, depths, parts_compared, parts_of
from lm_eval_ext.errors import TaskError
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.run import Score, TaskResult
from lm_eval_ext.statistics.estimators import half_life
from lm_eval_ext.testbed.depth import DEPTHS, FAMILIES, PER_DEPTH, boxes_dataset, first_wrong, problem, problems, states
from lm_eval_ext.testbed.problems import chain, worked_out
from tests.commands import cli
from tests.shared import case_table


@pytest.mark.parametrize("family", FAMILIES)
@given(steps=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_the_text_holds_the_whole_problem(family: str, steps: int, seed: int) -> None:
    made = problem(family, steps, random.Random(seed))
    found = states(f"Please solve:\n\n{made['question']}\n\nPut your answer in a box.")
    assert found is not None and len(found) == steps
    assert found[-1] == made["answer"]


STARTS = {
    "arithmetic": [str(number) for number in range(100)],
    "boxes": [str(box) for box in range(1, 9)],
    "rewriting": ["".join(digits) for digits in permutations("123456")],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_mistake_is_made_good_by_later_steps(family: str) -> None:
    """Different states never become the same one again."""
    kind, draw = FAMILIES[family], random.Random(3)
    start, steps = kind.draw(draw, 40)
    if family == "graph":
        starts = [f"{node} of {start.partition(' of ')[2]}" for node in range(20)]
    elif family == "circuit":  # the first gate of a circuit is what can be wrong
        starts, turned = [start], steps[0].replace("XNOR", "X-OR").replace("XOR", "XNOR").replace("X-OR", "XOR")
        assert list(kind.walk(start, steps))[-1] != list(kind.walk(start, [turned, *steps[1:]]))[-1]
    else:
        starts = STARTS[family]
    assert len({list(kind.walk(one, steps))[-1] for one in starts}) == len(starts)


@pytest.mark.parametrize("family", FAMILIES)
def test_they_are_always_the_same_and_all_different(family: str) -> None:
    made = problems(family)
    assert made == problems(family) and len({one["question"] for one in made}) == len(DEPTHS) * PER_DEPTH
    answers = [one["answer"] for one in made]
    most = max(map(answers.count, set(answers))) / len(answers)
    assert most < FAMILIES[family].chance + 0.12, "no answer is much more frequent than by chance"


def test_the_depth_can_be_dialled() -> None:
    rows = list(boxes_dataset(depths=[1, 16], per_depth=30, version=2.0)["test"])
    assert [row["steps"] for row in rows] == ["1"] * 30 + ["16"] * 30
    assert rows[30:55] == problems("boxes")[25:50], "a problem does not depend on the other depths"
    assert rows != list(boxes_dataset(depths=[1, 16], per_depth=30, problem_seed=1)["test"])


@pytest.mark.parametrize(("options", "message"), case_table("wrong_arguments.yaml")["depth"])
def test_a_depth_that_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError) as raised:
        boxes_dataset(**options)
    assert str(raised.value).startswith(message)


def test_no_other_text_is_taken_for_a_problem() -> None:
    assert states("What is 2+2?") is None and states("Start with the number 4. Add 5.") is None


def test_the_first_wrong_step_is_found_in_what_a_model_wrote() -> None:
    right = ["47", "3", "90"]
    assert first_wrong("1: 47\n2: 3\n3: 90\nSo \\boxed{90}", right) is None
    assert first_wrong("Step 1: 47\n**2**: 3\n3 = 91", right) == 1, "only lines that begin with a number count"
    assert first_wrong("1: 47\n2: 4\n3: 91", right) == 2 and first_wrong("1: 47\n3: 90", right) == 2
    assert first_wrong("1: 9\nWait.\n1: 47\n2: 3\n3: 90", right) is None, "a correction counts"


def result(scores: list[float], parts: dict[str, list[str]]) -> TaskResult:
    return TaskResult.model_validate({
        "benchmark": "b", "score": "acc", "metrics": {"acc": Score(value=sum(scores) / len(scores))},
        "questions": len(scores), "of": len(scores), "scores": scores, "parts": parts,
    })  # fmt: skip


def test_parts_are_means_over_their_questions() -> None:
    task = result([1, 0, 1, 0.5], {"level": ["2", "10", "2", "10"], "subject": ["b", "a", "a", "a"]})
    found = {(one.column, one.value): (one.questions, one.accuracy.estimate) for one in parts_of(task)}
    assert list(found.items()) == [
        (("level", "2"), (2, 1.0)), (("level", "10"), (2, 0.25)),
        (("subject", "a"), (3, 0.5)), (("subject", "b"), (1, 1.0)),
    ]  # fmt: skip
    compared = next(iter(parts_compared("t", task, task.scores, [0, 0, 0, 0])))
    assert (compared.value, compared.difference.estimate) == ("2", -1.0)


def test_many_numbers_are_put_into_ranges() -> None:
    values = [str(number) for number in range(6, 41) for _ in range(5)]
    parts = list(parts_of(result([1.0] * len(values), {"steps": values})))
    assert len(parts) == 8 and sum(part.questions for part in parts) == len(values)
    assert parts[0].value == "6 to 10" and max(part.questions for part in parts) <= 30


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"parts\.level: 1 values for 2 scores"):
        result([1, 0], {"level": ["1"]})


@pytest.mark.parametrize(("life", "chance"), [(5.0, 0.0), (40.0, 0.1), (300.0, 0.5)])
def test_half_lives_are_found_again(life: float, chance: float) -> None:
    draw = np.random.default_rng(1)
    steps = np.repeat(DEPTHS, 100).astype(float)
    accuracy = chance + (1 - chance) * 2 ** (-steps / life)
    covered = 0
    for seed in range(20):
        scores = draw.binomial(4, accuracy) / 4
        found = half_life(list(steps), list(scores), chance=chance, seed=seed)
        assert found is not None and found.low <= found.estimate <= found.high
        covered += found.low <= life <= found.high
    assert covered >= 16


def test_half_lives_that_the_scores_say_nothing_of() -> None:
    assert half_life([8, 16], [1.0, 1.0]) is None and half_life([8, 16], [0.1, 0.1], chance=0.1) is None
    with pytest.raises(ValueError, match="1 lengths for 2 scores"):
        half_life([8], [1.0, 0.5])


@given(st.integers(1, 40), st.randoms(use_true_random=False), st.data())
def test_a_chain_of_the_embedded_model_is_a_case_of_it(
    steps: int, generator: random.Random, data: st.DataObject
) -> None:
    question = chain(steps, generator)
    problem = checked(f"Compute from left to right, modulo 10, and put the result in \\boxed{{}}: {question}<|end|>")
    assert problem is not None and problem.steps == steps
    parts = worked_out(question)
    assert problem.first_wrong("".join(parts)) is None
    at = data.draw(st.integers(1, steps))
    parts[2 * at] = f"={(int(parts[2 * at][1]) + 1) % 10}"
    assert problem.first_wrong("".join(parts)) == at, "the first wrong step"
    assert problem.first_wrong("".join(parts[: 2 * at])) == at, "a missing one"


def test_parts_go_from_a_run_into_results_and_comparison(tmp_path: Path) -> None:
    import lm_eval_ext as tts

    model = tts.load(journal="off")
    run = tts.evaluate(model, ["tts_chain_short_b16"], limit=30, output=tmp_path / "base")
    steps = run.tasks["tts_chain_short_b16"].parts["steps"]
    assert set(steps) == {"1", "2", "3"} and len(steps) == len(run.tasks["tts_chain_short_b16"].scores) == 30
    tts.evaluate(
        tts.load(journal="off", drop_layers=[9, 10]), ["tts_chain_short_b16"], limit=30, output=tmp_path / "small"
    )
    found = tts.compare(tmp_path / "base", tmp_path / "small")
    assert {(part.column, part.value) for part in found.parts} == {("steps", value) for value in ("1", "2", "3")}
    assert "steps" in str(found)
    published = cli("leaderboard", "add", tmp_path / "base", "--to", tmp_path / "to")
    assert published.exit_code == 0
    (again,) = tts.read_runs(tmp_path / "to")
    assert again.tasks["tts_chain_short_b16"].parts["steps"] == steps


def test_accuracy_by_depth_is_that_of_all_seeds(tmp_path: Path) -> None:
    import lm_eval_ext as tts

    for seed in (1, 2):
        loaded = tts.load(journal="off", drop_layers=[9, 10], seed=seed)
        tts.evaluate(loaded, ["tts_chain_short_b16"], limit=20, output=tmp_path / str(seed))
    model = read_model(tmp_path, read_catalogue())
    scores = model.tasks["tts_chain_short_b16"].scores
    assert len(model.tasks["tts_chain_short_b16"].sources) == 2
    (task,) = depths(model).tasks
    assert sum(row.questions * row.accuracy.estimate for row in task.rows) == pytest.approx(sum(scores))
