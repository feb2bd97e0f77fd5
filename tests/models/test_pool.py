"""Pooling against loops over real tokens."""

import pytest
import torch

from thalweg.models import pool

LENGTHS = [4, 1, 0, 3]


@pytest.fixture
def hidden():
    torch.manual_seed(0)
    return torch.randn(4, 4, 6, dtype=torch.float64)


def masks():
    return torch.arange(4)[None] < torch.tensor(LENGTHS)[:, None]


REFERENCES = {
    pool.mean: lambda rows: rows.mean(0),
    pool.maximum: lambda rows: rows.max(0).values,
    pool.last: lambda rows: rows[-1],
    pool.both_ends: lambda rows: torch.cat([rows[-1, :3], rows[0, 3:]]),
}


@pytest.mark.parametrize("pooling", REFERENCES, ids=lambda pooling: pooling.__name__)
def test_pooling_sees_real_tokens_only(pooling, hidden):
    expected = [REFERENCES[pooling](hidden[i, :n]) if n else torch.zeros(6).double() for i, n in enumerate(LENGTHS)]
    torch.testing.assert_close(pooling(hidden, masks()), torch.stack(expected))


@pytest.mark.parametrize("pooling", REFERENCES, ids=lambda pooling: pooling.__name__)
def test_pooling_without_a_mask_is_pooling_with_all_true(pooling, hidden):
    torch.testing.assert_close(pooling(hidden, None), pooling(hidden, torch.ones(4, 4, dtype=torch.bool)))


def test_every_clears_padding_even_when_it_is_not_finite(hidden):
    hidden[~masks()] = float("nan")
    kept = pool.every(hidden, masks())
    assert torch.equal(kept[masks()], hidden[masks()])
    assert torch.count_nonzero(kept[~masks()]) == 0
    assert pool.every(hidden, None) is hidden
