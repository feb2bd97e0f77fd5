"""Drawn tokens against the exact distribution, over vocabularies larger than any list of candidates."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from thalweg.heads.contrastive import SampledSoftmax
from thalweg.heads.softmax import Softmax
from thalweg.heads.targets import Targets
from thalweg.tasks.writing.rules import Rules
from thalweg.tasks.writing.sampling import Sampling, stream_seed, uniform_numbers

NOTHING = torch.zeros(1, 0, dtype=torch.long)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), [0.5, 0.25, 0.15, 0.1]),
        (Sampling(0.5), [0.25 / 0.345, 0.0625 / 0.345, 0.0225 / 0.345, 0.01 / 0.345]),
        (Sampling(1.0, top_p=0.6), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(1.0, top_p=0.01), [1, 0, 0, 0]),
        (Sampling(1.0, top_k=3), [5 / 9, 2.5 / 9, 1.5 / 9, 0]),
        (Sampling(1.0, top_k=3, top_p=0.6), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(0.0), [1, 0, 0, 0]),
    ],
)
def test_sampled_shares_are_those_of_the_definition(sampling: Sampling, expected: list[float]) -> None:
    num = 20_000
    prediction = torch.log(torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64)).expand(num, 4)
    uniform = (torch.arange(num) + 0.5) / num  # evenly spread, so that the shares are exact to 1 / num
    drawn, gains = sampling.pick(Softmax(None, 4), prediction, uniform, Rules(), NOTHING.expand(num, 0), 0)
    assert torch.allclose(gains, prediction[0, drawn])
    shares = torch.bincount(drawn, minlength=4) / num
    torch.testing.assert_close(shares, torch.tensor(expected, dtype=torch.float32), atol=2e-4, rtol=0.0)


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-24])
def test_extreme_random_numbers_draw_tokens_that_can_occur(uniform: float) -> None:
    prediction = torch.tensor([[-math.inf, 0.0, -1.0, -math.inf]])
    drawn, _ = Sampling(1.0).pick(Softmax(None, 4), prediction, torch.tensor([uniform]), Rules(), NOTHING, 0)
    assert drawn.item() in (1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -1.0}, r"temperature=.*must be zero or positive; got -1.0"),
        ({"temperature": math.nan}, r"temperature=.*must be zero or positive; got nan"),
        ({"top_p": 0.0}, r"top_p=.*must lie in \(0, 1\]; got 0.0"),
        ({"top_k": 0}, r"top_k=.*at least 1; got 0"),
    ],
)
def test_sampling_refuses_numbers_out_of_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**arguments)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("family", ["softmax", "continuous"])
def test_draws_at_temperature_1_have_the_distribution_of_the_model_over_all_words(family: str) -> None:
    num, draws = 2000, 20_000
    generator = torch.Generator().manual_seed(0)
    if family == "softmax":
        head, prediction = Softmax(None, num), 1.5 * torch.randn(1, num, generator=generator)
    else:
        table = F.normalize(torch.randn(num, 16, generator=generator), dim=-1)
        head = SampledSoftmax(None, Targets(table, counts=torch.ones(num)))
        prediction = 3.0 * F.normalize(torch.randn(1, 16, generator=generator), dim=-1)
    exact = head.log_probability(prediction.double().expand(num, -1), torch.arange(num)).exp().numpy()
    assert exact.sum() == pytest.approx(1.0, abs=1e-5)
    drawn = torch.cat(
        [
            Sampling(1.0).pick(
                head, prediction.expand(1000, -1), uniform_numbers([seed], 1000)[0], Rules(), NOTHING.expand(1000, 0), 0
            )[0]
            for seed in range(draws // 1000)
        ]
    )
    # Groups of words of about equal probability, so that each is expected often enough for the approximation.
    order = np.argsort(exact)
    groups = np.minimum((np.cumsum(exact[order]) * 100).astype(int), 99)
    counts, expected = np.zeros(100), np.zeros(100)
    np.add.at(counts, groups, np.bincount(drawn.numpy(), minlength=num)[order])
    np.add.at(expected, groups, draws * exact[order])
    is_some = expected > 0
    statistic = float(((counts - expected)[is_some] ** 2 / expected[is_some]).sum())
    freedom = int(is_some.sum()) - 1
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)  # four standard deviations of chi-square
    rare = exact < np.sort(exact)[-1024]
    share = float(rare[drawn.numpy()].mean())
    assert share == pytest.approx(float(exact[rare].sum()), abs=0.01)
    assert share > 0.05  # words that a list of 1,024 candidates would leave out


def test_each_prompt_and_sample_has_random_numbers_of_its_own() -> None:
    seeds = [
        stream_seed(seed, place, sample) for seed in (0, 1, 2**63 - 1) for place in range(5) for sample in range(5)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(2**32, 0, 0) != stream_seed(0, 1, 0)
    rows = uniform_numbers(seeds[:3], 50)
    assert torch.equal(rows[1], uniform_numbers([seeds[1]], 50)[0])
    assert torch.equal(rows[:, :20], uniform_numbers(seeds[:3], 20))
    assert len(np.unique(rows)) == rows.numel()
