from __future__ import annotations

import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from lm_eval_ext.generation.request import Sampling
from lm_eval_ext.generation.sampling import BLOCK, Noise, next_tokens

# `make release-check` draws 10,000,000.
DRAWS = int(os.environ.get("LM_EVAL_TTS_DRAWS", "200000"))
SAMPLE = Sampling(temperature=1.0)


def draws(sampling: Sampling, logits: list[float], count: int, seed: int = 3, at_once: int = 5_000) -> list[int]:
    """Tokens at positions 0, 1, ..."""
    row = torch.tensor([logits])
    tokens: list[int] = []
    for start in range(0, count, at_once):
        positions = range(start, min(start + at_once, count))
        tokens += next_tokens(row.expand(len(positions), -1), sampling, [seed] * len(positions), positions)
    return tokens


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """The chance of counts at least as far from those expected; cells below 50 are pooled."""
    rare = expected < 50
    observed = torch.cat([counts[~rare], counts[rare].sum().reshape(1)]).double()
    wanted = torch.cat([expected[~rare], expected[rare].sum().reshape(1)])
    kept = wanted > 0
    return float(chisquare(observed[kept], wanted[kept] * observed.sum() / wanted.sum()).pvalue)


def test_frequencies_are_the_probabilities() -> None:
    """Common tokens by chi-square; 10,000 tokens of 1e-7 each together within 4 standard deviations."""
    common = torch.linspace(0, 6, 300, dtype=torch.float64).exp()
    common *= (1 - 1e-3) / common.sum()
    probabilities = torch.cat([common[:150], torch.full((10_000,), 1e-7, dtype=torch.float64), common[150:]])
    counts = torch.bincount(torch.tensor(draws(SAMPLE, probabilities.log().tolist(), DRAWS)), minlength=10_300)
    rare = slice(150, 10_150)
    assert chi_square(counts, probabilities * DRAWS) > 1e-4
    assert abs(int(counts[rare].sum()) - DRAWS * 1e-3) < 4 * math.sqrt(DRAWS * 1e-3)


def test_positions_and_seeds_are_independent() -> None:
    """Pairs of draws at neighbouring positions, and of neighbouring seeds: as often as their product says."""
    logits = [math.log(p) for p in (0.4, 0.3, 0.2, 0.1)]
    expected = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).outer(
        torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    )
    count = 100_000
    one, other = (torch.tensor(draws(SAMPLE, logits, count, seed)) for seed in (2**62, 2**62 + 1))
    for first, second in ((one[:-1], one[1:]), (one, other)):
        pairs = torch.bincount(first * 4 + second, minlength=16)
        assert chi_square(pairs, expected.flatten() * len(first)) > 1e-4


def test_all_64_bits_of_a_seed_count() -> None:
    logits = torch.zeros(64, 50_000)
    tokens = next_tokens(logits, SAMPLE, [1 << bit for bit in range(64)], [0] * 64)
    assert len(set(tokens)) > 60


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_token_is_that_of_plain_gumbel_max_over_the_filtered_vocabulary(data: st.DataObject) -> None:
    """Blocks, lazily computed noise and floors only save work."""
    vocabulary = data.draw(st.sampled_from([1, 2, 255, 256, 257, 1000, 3000]))
    sampling = Sampling(
        temperature=data.draw(st.sampled_from([0.3, 1.0, 2.0])),
        top_p=data.draw(st.sampled_from([1.0, 0.95, 0.5, 0.0])),
        top_k=data.draw(st.sampled_from([0, 1, 20, 5000])),
        min_p=data.draw(st.sampled_from([0.0, 0.1])),
    )
    torch.manual_seed(data.draw(st.integers(0, 10_000)))
    logits = torch.randn(6, vocabulary) * data.draw(st.sampled_from([0.1, 3.0]))
    if data.draw(st.booleans()):
        logits = logits.bfloat16().float()  # with ties
    seeds = [data.draw(st.integers(0, 2**64 - 1)) for _ in range(6)]
    assert next_tokens(logits, sampling, seeds, range(6)) == plainly_chosen(logits, sampling, seeds)


def plainly_chosen(logits: torch.Tensor, sampling: Sampling, seeds: list[int]) -> list[int]:
    noise = Noise(seeds, range(6), logits.shape[1], logits.device)
    rows, blocks = torch.arange(6), torch.arange(-(-logits.shape[1] // BLOCK))
    variables = noise.of(rows, blocks.expand(6, -1)).flatten(1)[:, : logits.shape[1]]
    scores = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[1]:
        scores = scores.masked_fill(scores < scores.sort(descending=True).values[:, [sampling.top_k - 1]], -math.inf)
    weights = scores.softmax(-1)
    above = (weights.unsqueeze(1) * (scores.unsqueeze(1) > scores.unsqueeze(2))).sum(-1)
    scores = scores.masked_fill((above >= sampling.top_p) & (scores < scores.amax(1, keepdim=True)), -math.inf)
    scores = scores.masked_fill(weights < sampling.min_p * weights.amax(1, keepdim=True), -math.inf)
    chosen: list[int] = (scores - variables.log()).argmax(-1).tolist()
    return chosen


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
    assert next_tokens(logits, sampling, [0], [0], [[0]]) == [1]
    assert next_tokens(logits, sampling, [0], [0], [[]]) == [0]


def test_a_row_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 1000)
    sampling = Sampling(temperature=1.0, top_p=0.9)
    together = next_tokens(logits, sampling, range(50), range(50))
    alone = [next_tokens(logits[i : i + 1], sampling, [i], [i])[0] for i in range(50)]
    assert together == alone
