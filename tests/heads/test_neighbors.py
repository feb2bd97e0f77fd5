"""The best of all words, found in blocks of the vocabulary."""

import pytest
import torch

from thalweg.heads.neighbors import block_size, log_normalizer, rank


def scores(rows=5, num=37, dtype=torch.float32):
    return 3 * torch.randn(rows, num, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("size", [1, 5, 37, 100])
@pytest.mark.parametrize("k", [1, 4, 50])
def test_blocks_of_any_size_give_what_one_look_at_all_words_gives(k, size):
    s = scores(dtype=torch.float64)
    ids, values = rank(lambda a, b: s[:, a:b], 37, k, size)
    expected, places = s.log_softmax(-1).topk(min(k, 37))
    assert torch.equal(ids, places)
    assert torch.allclose(values, expected, atol=1e-12)
    assert torch.allclose(log_normalizer(lambda a, b: s[:, a:b], 37, size), s.logsumexp(-1), atol=1e-12)


def test_no_more_scores_exist_at_once_than_were_asked_for():
    s, seen = scores(), []

    def block(start, stop):
        seen.append(stop - start)
        return s[:, start:stop]

    rank(block, 37, 3, 8)
    assert seen == [8, 8, 8, 8, 5]
    assert block_size(2**21) == 2


def test_half_precision_scores_are_summed_in_single():
    s = scores(num=3000).bfloat16()
    _, values = rank(lambda a, b: s[:, a:b], 3000, 2, 512)
    assert torch.allclose(values, s.float().log_softmax(-1).topk(2).values, atol=1e-5)
    total = log_normalizer(lambda a, b: s[:, a:b], 3000, 512)
    assert torch.allclose(total, s.float().logsumexp(-1), atol=1e-5)
    assert total.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank(lambda a, b: torch.zeros(1, b - a), 4, 0, 2), "got 4, 0 and 2"),
        (lambda: log_normalizer(lambda a, b: torch.zeros(1, b - a), 0, 2), "got 0, 1 and 2"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
