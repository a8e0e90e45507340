from __future__ import annotations

import math

import pytest
import torch

from lm_eval_ext.generation.request import Sampling
from lm_eval_ext.generation.sampling import Noise, next_tokens

CPU = torch.device("cpu")


def draws(sampling: Sampling, logits: list[float], count: int) -> list[int]:
    noise = Noise(3, CPU)
    row = torch.tensor([logits])
    return [next_tokens(row, sampling, [noise])[0] for _ in range(count)]


def test_frequencies_are_the_probabilities() -> None:
    probabilities = [0.5, 0.3, 0.15, 0.05]
    count = 20_000
    tokens = draws(Sampling(temperature=1.0), [math.log(p) for p in probabilities], count)
    chi_square = sum((tokens.count(i) - count * p) ** 2 / (count * p) for i, p in enumerate(probabilities))
    assert chi_square < 16.3  # 3 degrees of freedom, one in a thousand


def test_temperature_sharpens() -> None:
    cold = draws(Sampling(temperature=0.5), [math.log(0.6), math.log(0.4)], 5_000).count(0) / 5_000
    assert abs(cold - 0.36 / (0.36 + 0.16)) < 0.03


def test_zero_temperature_takes_the_best() -> None:
    assert draws(Sampling(), [0.0, 2.0, 1.0], 3) == [1, 1, 1]


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(temperature=1.0, top_k=2), {0, 1}),
        (Sampling(temperature=1.0, top_p=0.75), {0, 1}),
        (Sampling(temperature=1.0, top_p=0.0), {0}),
        (Sampling(temperature=1.0, min_p=0.4), {0, 1}),
        (Sampling(temperature=1.0, top_k=50), {0, 1, 2, 3}),
    ],
)
def test_filters_exclude(sampling: Sampling, possible: set[int]) -> None:
    assert set(draws(sampling, [math.log(p) for p in (0.5, 0.3, 0.15, 0.05)], 2_000)) == possible


def test_repetition_is_penalised() -> None:
    logits = torch.tensor([[2.0, 1.9, -1.0]])
    sampling = Sampling(repetition_penalty=1.5)
    assert next_tokens(logits, sampling, [Noise(0, CPU)], [[0]]) == [1]
    assert next_tokens(logits, sampling, [Noise(0, CPU)], [[]]) == [0]


def test_a_row_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 50)
    sampling = Sampling(temperature=1.0)
    together = next_tokens(logits, sampling, [Noise(seed, CPU) for seed in range(5)])
    alone = [next_tokens(logits[i : i + 1], sampling, [Noise(i, CPU)])[0] for i in range(5)]
    assert together == alone
