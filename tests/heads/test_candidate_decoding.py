"""Answers from few words are those from all words, with probabilities that fit."""

import sys

import pytest
import torch
from torch.nn import functional as F

from thalweg.errors import InputError
from thalweg.heads.candidate_decoding import ApproximateIndex, CandidateDecoding, rank_candidates
from thalweg.heads.contrastive import SampledSoftmax
from thalweg.heads.distance import Cosine
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher

NUM, WIDTH = 3000, 24


def make(family):
    counts = 1e5 / torch.arange(1, NUM + 1)
    table = F.normalize(torch.randn(NUM, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)
    return family(None, Targets(table, counts=counts))


def predictions(num=6, scale=8.0):
    return scale * F.normalize(torch.randn(2, num, WIDTH, generator=torch.Generator().manual_seed(1)), dim=-1)


def near(head):
    return lambda queries, k: (queries @ head.targets.table().T).topk(k).indices


@pytest.mark.parametrize("family", [VonMisesFisher, Cosine, SampledSoftmax])
def test_the_best_words_and_nearly_their_probabilities(family):
    head = make(family)
    fast = CandidateDecoding(head, near(head), shortlist=torch.arange(200), num_near=300, num_sampled=1000)
    e = predictions()
    exact_ids, exact = head.decode(e, 5)
    ids, scores = fast.decode(e, 5)
    assert torch.equal(ids, exact_ids)
    assert (scores - exact).abs().max() < 0.1
    assert torch.equal(fast(e), e)


def test_with_all_words_in_the_sample_the_probabilities_are_exact():
    head = make(VonMisesFisher)
    fast = CandidateDecoding(head, near(head), num_near=20, num_sampled=NUM)
    ids, scores = fast.decode(predictions(), 9)
    exact_ids, exact = head.decode(predictions(), 9)
    assert torch.equal(ids, exact_ids)
    assert torch.allclose(scores, exact, atol=1e-5)


def test_a_shortlist_of_everything_has_no_tail_and_fewer_candidates_give_fewer_answers():
    head = make(VonMisesFisher)
    everything = CandidateDecoding(head, shortlist=torch.arange(NUM))
    ids, scores = everything.decode(predictions(), 4)
    exact_ids, exact = head.decode(predictions(), 4)
    assert torch.equal(ids, exact_ids)
    assert torch.allclose(scores, exact, atol=1e-5)
    assert CandidateDecoding(head, shortlist=torch.tensor([7, 7, 9])).decode(predictions(), 4)[0].shape == (2, 6, 2)


def test_everything_else_is_the_heads_own():
    head = make(SampledSoftmax)
    fast = CandidateDecoding(head, shortlist=torch.arange(9))
    e, y = predictions(), torch.arange(12).view(2, 6)
    assert torch.equal(fast.loss(e, y)[0], head.loss(e, y)[0])
    assert torch.equal(fast.log_probability(e, y), head.log_probability(e, y))
    assert torch.equal(fast.curvature_product(e, y, None, e), head.curvature_product(e, y, None, e))
    assert torch.equal(fast.curvature_root(e, y, None, e), head.curvature_root(e, y, None, e))


def test_candidates_and_their_tail_give_the_probabilities_of_the_whole():
    s = 3 * torch.randn(5, 37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ids = torch.stack([torch.randperm(37, generator=torch.Generator().manual_seed(i))[:9] for i in range(5)])
    others = torch.ones_like(s, dtype=torch.bool).scatter(1, ids, False)
    tail = s.masked_fill(~others, -torch.inf).logsumexp(-1)
    twice = torch.cat([ids, ids[:, :4]], 1)
    found, values = rank_candidates(twice, s.gather(1, twice), 3, tail)
    assert torch.allclose(values, s.log_softmax(-1).gather(1, found))
    assert torch.equal(found[:, 0], ids.gather(1, s.gather(1, ids).argmax(1, keepdim=True))[:, 0])
    _, alone = rank_candidates(ids, s.gather(1, ids), 9)
    assert torch.allclose(alone.exp().sum(-1), torch.ones(5, dtype=torch.float64))


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
    ("options", "message"),
    [
        ({}, "needs one of them; got neither"),
        ({"shortlist": torch.tensor([NUM])}, r"must hold ids in \[0, 3000\)"),
        ({"shortlist": torch.tensor([0]), "num_sampled": 0}, "must be at least 1; got 64 and 0"),
    ],
)
def test_wrong_calls_say_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        CandidateDecoding(make(VonMisesFisher), **options)


def test_wrong_searches_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"decode\(k=...\) must be at least 1; got 0"):
        rank_candidates(torch.zeros(1, 2).long(), torch.zeros(1, 2), 0)
    with pytest.raises(ValueError, match="num_cells >= 0 and num_probes >= 1; got 0 and 0"):
        ApproximateIndex(torch.eye(4), num_probes=0)
