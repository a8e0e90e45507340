from __future__ import annotations

import numpy as np
import pytest

from lm_eval_ext.grading.prediction import Votes, predict_maj_at_k, predict_pass_at_k
from lm_eval_ext.statistics.estimators import maj_at_k, pass_at_k


def population(questions: int, n: int, seed: int) -> list[list[int]]:
    """For each question n samples of a few answers, 0 the correct one; log-odds of it are normal, most wide."""
    generator = np.random.default_rng(seed)
    right = 1 / (1 + np.exp(-generator.normal(0, 3, questions)))
    chances = [[chance, *(1 - chance) * generator.dirichlet([0.5] * 5)] for chance in right]
    return [list(generator.choice(6, size=n, p=chance)) for chance in chances]


def votes(samples: list[int]) -> Votes:
    answers = sorted(set(samples))
    return Votes([samples.count(answer) for answer in answers], [answer == 0 for answer in answers])


def actual(samples: list[list[int]], k: int) -> tuple[float, float]:
    all_votes = [votes(some) for some in samples]
    passed = [pass_at_k(some.n, some.right, k) for some in all_votes]
    majority = [maj_at_k(some.votes, some.correct, k) for some in all_votes]
    return float(np.mean(passed)), float(np.mean(majority))


def test_thirty_two_are_predicted_from_eight() -> None:
    errors: dict[str, list[float]] = {"pass": [], "maj": [], "pass at 8": [], "maj at 8": []}
    for seed in range(4):
        samples = population(200, 32, seed)
        passed, majority = actual(samples, 32)
        passed_8, majority_8 = actual([some[:8] for some in samples], 8)
        seen = [votes(some[:8]) for some in samples]
        predicted = predict_pass_at_k(seen, 32), predict_maj_at_k(seen, 32)
        assert predicted[0].low <= passed <= predicted[0].high
        assert predicted[1].low <= majority <= predicted[1].high
        errors["pass"].append(abs(predicted[0].estimate - passed))
        errors["maj"].append(abs(predicted[1].estimate - majority))
        errors["pass at 8"].append(abs(passed_8 - passed))
        errors["maj at 8"].append(abs(majority_8 - majority))
    mean = {name: float(np.mean(some)) for name, some in errors.items()}
    assert mean["pass"] < min(0.04, mean["pass at 8"] / 2), "better than to stop at what was seen"
    assert mean["maj"] < min(0.02, mean["maj at 8"])


def test_what_is_seen_already_is_predicted_closely() -> None:
    samples = population(100, 32, 7)
    passed, majority = actual(samples, 8)
    all_votes = [votes(some) for some in samples]
    assert abs(predict_pass_at_k(all_votes, 8).estimate - passed) < 0.02
    assert abs(predict_maj_at_k(all_votes, 8).estimate - majority) < 0.02


def test_certain_answers_stay_certain() -> None:
    seen = [Votes([8], [True])] * 5
    assert predict_maj_at_k(seen, 100).estimate > 0.99
    assert predict_pass_at_k(seen, 100).estimate > 0.99
    assert predict_maj_at_k([Votes([5], [False], 3)] * 5, 100).estimate < 0.01
    assert predict_maj_at_k([Votes([], [], 8)] * 5, 100).estimate < 0.15, "nothing is known but that it is rare"


def test_a_question_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="without samples"):
        predict_pass_at_k([Votes([], [])], 8)


def test_wrong_answers_that_never_repeat_do_not_win() -> None:
    seen = [Votes([5] + [1] * 11, [True] + [False] * 11)] * 15
    assert predict_maj_at_k(seen, 64).estimate > 0.95


def test_questions_without_wrong_answers_beside_others() -> None:
    assert 0.3 < predict_maj_at_k([Votes([3], [False]), Votes([4], [True])] * 3, 8).estimate < 0.7
