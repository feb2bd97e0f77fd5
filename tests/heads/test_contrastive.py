"""Draws with prescribed inclusion probabilities: the probabilities, the sums they make unbiased, the refusals."""

import math

import pytest
import torch

from thalweg.heads.contrastive import InclusionSampler

CASES = [(10, 1, 1.0), (10, 10, 1.0), (50, 7, 0.0), (50, 20, 0.5), (1000, 100, 1.0), (1000, 999, 1.0), (3, 3, 0.5)]


def zipf(size: int) -> torch.Tensor:
    return 1.0 / torch.arange(1, size + 1).double()[torch.randperm(size)]


def anywhere() -> torch.Tensor:
    return torch.rand((), dtype=torch.float64)


@pytest.mark.parametrize(("size", "num", "power"), CASES)
def test_probabilities_are_capped_proportional_and_sum_to_num(size, num, power):
    f = zipf(size)
    sampler = InclusionSampler(f, num, power=power)
    pi = sampler.log_weights.double().neg().exp()
    assert pi.sum().item() == pytest.approx(num, rel=1e-5)
    assert (pi <= 1 + 1e-6).all()
    free = pi < 1 - 1e-6
    ratio = (pi / f**power)[free]
    if free.any():
        assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-4)
        assert (ratio[0] * f**power >= pi - 1e-6).all()


@pytest.mark.parametrize(("size", "num", "power"), CASES)
def test_a_draw_has_num_different_words(size, num, power):
    sampler = InclusionSampler(zipf(size), num, power=power)
    for _ in range(20):
        ids = sampler(anywhere())
        assert len(ids) == num
        assert len(ids.unique()) == num
        assert int(ids.min()) >= 0
        assert int(ids.max()) < size


def test_words_come_as_often_as_promised_and_sums_are_unbiased():
    torch.manual_seed(0)
    sampler = InclusionSampler(zipf(60), 12)
    pi = sampler.log_weights.double().neg().exp()
    x = torch.rand(60, dtype=torch.float64)
    draws, counts, sums = 4000, torch.zeros(60, dtype=torch.float64), []
    for _ in range(draws):
        ids = sampler(anywhere())
        counts[ids] += 1
        sums.append((x[ids] / pi[ids]).sum())
    error = (counts / draws - pi).abs() / (pi * (1 - pi) / draws).sqrt().clamp(min=1e-9)
    assert error[pi < 1 - 1e-6].max() < 4.5
    assert (counts[pi >= 1 - 1e-6] == draws).all()
    total = torch.stack(sums)
    assert abs(total.mean() - x.sum()) < 4.5 * total.std() / math.sqrt(draws)


def test_the_same_start_draws_the_same_words():
    sampler, start = InclusionSampler(zipf(100), 10), anywhere()
    assert torch.equal(sampler(start), sampler(start))


def test_the_line_stays_in_float64_when_the_model_is_cast():
    sampler = InclusionSampler(zipf(100), 10)
    exact = sampler.reach.clone(), sampler.log_weights.clone()
    sampler.to(torch.bfloat16)
    assert torch.equal(sampler.reach, exact[0])
    assert torch.equal(sampler.log_weights, exact[1])


@pytest.mark.parametrize(
    ("frequencies", "num", "power", "message"),
    [
        ([1.0, 2.0], 3, 1.0, "draws different words, and there are 2"),
        ([1.0, 2.0], 0, 1.0, "must be at least 1"),
        ([1.0, 0.0], 1, 1.0, "positive, finite"),
        ([1.0, math.nan], 1, 1.0, "positive, finite"),
        ([1.0, 2.0], 1, 1.5, r"must lie in \[0, 1\]"),
    ],
)
def test_bad_arguments_are_refused(frequencies, num, power, message):
    with pytest.raises(ValueError, match=message):
        InclusionSampler(torch.tensor(frequencies), num, power=power)
