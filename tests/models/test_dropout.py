"""Dropout: PyTorch's where the examples are not known, else a mask for each example, wherever it stands."""

import pytest
import torch
import torch.nn.functional as F

from thalweg import noise
from thalweg.models.attention import attend
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
    assert kept.unique().tolist() == pytest.approx([0.0, 1.0 / (1.0 - p)])
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


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_dropout_is_its_formula(causal, masked):
    q, k, v = (torch.randn(2, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]]) if masked else None
    torch.manual_seed(1)
    found = attend(q, k, v, mask, causal=causal, dropout=0.3)
    scores = q @ k.transpose(-1, -2) / 2.0
    seen = torch.ones(2, 1, 5, 5, dtype=torch.bool) if mask is None else mask[:, None, None, :].expand(2, 1, 5, 5)
    scores = scores.masked_fill(~(seen.tril() if causal else seen), -torch.inf)
    torch.manual_seed(1)
    torch.testing.assert_close(found, F.dropout(scores.softmax(-1), 0.3) @ v)
