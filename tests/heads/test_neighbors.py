"""Nearest words: exact in blocks, among candidates, through an approximate index."""

import sys

import pytest
import torch
from torch.nn import functional as F

from thalweg.errors import InputError
from thalweg.heads.neighbors import ApproximateIndex, block_size, log_normalizer, rank, rank_candidates


def scores(rows=5, num=37, dtype=torch.float32):
    return 3 * torch.randn(rows, num, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("size", [1, 5, 36, 37, 100])
@pytest.mark.parametrize("k", [1, 4, 37, 50])
def test_blocks_of_any_size_give_what_one_look_at_all_words_gives(k, size):
    s = scores(dtype=torch.float64)
    found = rank(lambda a, b: s[:, a:b], 37, k, size)
    values, ids = s.log_softmax(-1).topk(min(k, 37))
    assert torch.equal(found.ids, ids)
    assert torch.allclose(found.log_probabilities, values, atol=1e-12)
    assert torch.allclose(found.log_normalizer, s.logsumexp(-1), atol=1e-12)
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
    found = rank(lambda a, b: s[:, a:b], 3000, 2, 512)
    assert torch.allclose(found.log_normalizer, s.float().logsumexp(-1), atol=1e-5)
    assert log_normalizer(lambda a, b: s[:, a:b], 3000, 512).dtype == torch.float32


def test_candidates_and_their_tail_give_the_probabilities_of_the_whole():
    s = scores(dtype=torch.float64)
    ids = torch.stack([torch.randperm(37, generator=torch.Generator().manual_seed(i))[:9] for i in range(5)])
    others = torch.ones_like(s, dtype=torch.bool).scatter(1, ids, False)
    tail = s.masked_fill(~others, -torch.inf).logsumexp(-1)
    twice = torch.cat([ids, ids[:, :4]], 1)
    found = rank_candidates(twice, s.gather(1, twice), 3, tail)
    assert torch.allclose(found.log_probabilities, s.log_softmax(-1).gather(1, found.ids))
    assert torch.equal(found.ids[:, 0], ids.gather(1, s.gather(1, ids).argmax(1, keepdim=True))[:, 0])
    alone = rank_candidates(ids, s.gather(1, ids), 9)
    assert torch.allclose(alone.log_probabilities.exp().sum(-1), torch.ones(5, dtype=torch.float64))


def test_the_approximate_index_finds_nearly_all_neighbors():
    pytest.importorskip("faiss")
    table = F.normalize(torch.randn(3000, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    queries = table[:50] + 0.05 * torch.randn(50, 32, generator=torch.Generator().manual_seed(2))
    exact = (queries @ table.T).topk(5).indices
    found = ApproximateIndex(table, num_probes=64)(queries, 5)
    assert torch.equal(found[:, 0], torch.arange(50))
    shared = (found.unsqueeze(2) == exact.unsqueeze(1)).any(2).float().mean()
    assert shared > 0.8
    everything = ApproximateIndex(table, num_cells=10, num_probes=10)(queries, 5)
    assert torch.equal(everything.sort().values, exact.sort().values)


def test_without_faiss_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # what an import of a missing library comes to
    with pytest.raises(InputError, match=r"pip install 'thalweg\[ann\]', or search exactly"):
        ApproximateIndex(torch.eye(4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank(lambda a, b: torch.zeros(1, b - a), 4, 0, 2), "got 4, 0 and 2"),
        (lambda: log_normalizer(lambda a, b: torch.zeros(1, b - a), 0, 2), "got 0, 1 and 2"),
        (lambda: rank_candidates(torch.zeros(1, 2).long(), torch.zeros(1, 2), 0), "at least 1 word, 1 answer"),
        (lambda: ApproximateIndex(torch.eye(4), num_probes=0), "num_cells >= 0 and num_probes >= 1; got 0 and 0"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
