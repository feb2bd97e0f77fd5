"""Dropout: PyTorch's where the examples are not known, else a mask for each example, wherever it stands."""

import pytest
import torch
import torch.nn.functional as F

from thalweg import noise
from thalweg.models.dropout import Dropout, dropped


def masks(keys, *shape, seed=0, p=0.4):
    torch.manual_seed(seed)
    with noise.of_examples(torch.tensor(keys)):
        return dropped(torch.ones(len(keys), *shape), p)


def test_without_keys_it_draws_what_pytorch_draws():
    x = torch.randn(4, 5)
    torch.manual_seed(3)
    expected = F.dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.3)(x), expected)


def test_an_example_has_its_mask_wherever_it_stands_and_however_it_is_padded():
    whole = masks([5, 6, 7, 8], 9, 16)
    assert torch.equal(masks([8, 6], 4, 16), whole[[3, 1], :4])
    assert torch.equal(masks([7], 9, 16), whole[2:3])


@pytest.mark.parametrize("other", [{"seed": 1}, {"keys": [6, 5]}])
def test_other_seeds_and_examples_have_other_masks(other):
    given = {"keys": [5, 6], "seed": 0} | other
    assert not torch.equal(masks(given.pop("keys"), 50, **given), masks([5, 6], 50))


def test_each_call_of_a_pass_has_masks_of_its_own():
    with noise.of_examples(torch.tensor([1, 2])):
        first, second = (dropped(torch.ones(2, 100), 0.5) for _ in range(2))
    assert 0.3 < float((first == second).float().mean()) < 0.7


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_shares_are_those_asked_for_and_independent_along_every_dimension(p):
    kept = masks(list(range(40)), 50, 64, p=p)
    assert kept.unique().tolist() == pytest.approx([0.0, 1.0 / (1.0 - p)], rel=2e-4)  # p has 16 bits
    dropped_ones = (kept == 0.0).double()
    error = (p * (1.0 - p)) ** 0.5
    for dims, num in (((1, 2), 50 * 64), ((0, 2), 40 * 64), ((0, 1), 40 * 50)):
        shares = dropped_ones.mean(dims)
        assert float(shares.sub(p).abs().max()) < 4.5 * error / num**0.5
    centered = (dropped_ones - p) / error
    for dim in range(3):
        neighbors = (centered.narrow(dim, 1, kept.shape[dim] - 1) * centered.narrow(dim, 0, kept.shape[dim] - 1)).mean()
        assert abs(float(neighbors)) < 5.0 / kept.numel() ** 0.5


def test_a_shape_that_is_no_batch_of_the_examples_is_pytorchs():
    torch.manual_seed(0)
    with noise.of_examples(torch.tensor([1, 2])):
        found = dropped(torch.ones(3, 4), 0.5)
    torch.manual_seed(0)
    assert torch.equal(found, F.dropout(torch.ones(3, 4), 0.5))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5)])
def test_entries_that_share_a_hash_are_independent(shape):
    """Of neighbors along the last dimension each has its half of one hash; an odd number of them, and one alone."""
    kept = masks(list(range(3000)), *shape, p=0.5)
    assert kept.shape == (3000, *shape)
    ones = (kept > 0.0).double() - 0.5
    flat = ones.reshape(3000, -1)
    correlation = flat.T @ flat / (0.25 * 3000) - torch.eye(flat.shape[1], dtype=torch.float64)
    assert float(correlation.abs().max()) < 5.0 / 3000**0.5
