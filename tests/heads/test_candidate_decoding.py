"""Answers from few words are those from all words, with probabilities that fit."""

import pytest
import torch
from torch.nn import functional as F

from thalweg.heads.candidate_decoding import CandidateDecoding
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
