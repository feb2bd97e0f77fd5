"""Softmax over few words: unbiased sums, exact limits, accidental hits, duplicates, readable starts."""

import math

import pytest
import torch
from torch.nn import functional as F

from thalweg.heads import candidates
from thalweg.heads.analytic import AnalyticSoftmax
from thalweg.heads.contrastive import Contrastive, SampledSoftmax
from thalweg.heads.margin import MaxMargin, Triplet
from thalweg.heads.targets import Targets, log_fractions

VOCABULARY, WIDTH, ROWS = 600, 64, 48
COUNTS = 1e4 / torch.arange(1, VOCABULARY + 1)


def targets(**options) -> Targets:
    generator = torch.Generator().manual_seed(2)
    return Targets(torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64), **options)


def drawn(table: Targets, near: float = 4.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of ids as frequent as they should be, and predictions that lean toward them."""
    weights = torch.ones(VOCABULARY) if table.log_prior is None else table.log_prior.exp()
    ids = torch.multinomial(weights, ROWS, replacement=True)
    noise = F.normalize(torch.randn(ROWS, WIDTH, dtype=torch.float64), dim=-1)
    return near * table(ids).detach() + 4.0 * noise, ids


HEADS = {
    "contrastive": lambda table: Contrastive(None, table),
    "sampled": lambda table: SampledSoftmax(None, table, num_samples=120),
    "sampled with batch": lambda table: SampledSoftmax(None, table, num_samples=80, with_batch=True),
    "analytic": lambda table: AnalyticSoftmax(None, table, shortlist=60),
    "analytic without batch": lambda table: AnalyticSoftmax(None, table, shortlist=60, with_batch=False),
    "analytic sampled": lambda table: AnalyticSoftmax(None, table, shortlist=60, sample_fraction=1.0),
    "analytic mixed": lambda table: AnalyticSoftmax(None, table, shortlist=0, sample_fraction=0.5),
}
every_head = pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
every_prior = pytest.mark.parametrize("counts", [None, COUNTS], ids=["uniform", "counts"])


@every_head
@every_prior
def test_estimates_are_close_to_the_exact_cross_entropy(make, counts):
    table = targets(counts=counts)
    head = make(table)
    errors, exact = [], []
    for _ in range(12):
        prediction, ids = drawn(table)
        total, count = head.loss(prediction, ids)
        assert count.item() == ROWS
        exact.append(-head.log_probability(prediction, ids).mean())
        errors.append(total / count - exact[-1])
    # A missing correction is off by a nat or more.
    assert abs(torch.stack(errors).mean()) < 0.05
    assert 1.0 < torch.stack(exact).mean() < math.log(VOCABULARY) - 1.0


@every_head
def test_predictions_that_say_nothing_start_at_log_v(make):
    table = targets()
    total, count = make(table).loss(torch.zeros(ROWS, WIDTH), torch.randint(VOCABULARY, (ROWS,)))
    assert (total / count).item() == pytest.approx(math.log(VOCABULARY), abs=0.025)


def test_all_words_drawn_is_the_softmax():
    table = targets(counts=COUNTS)
    prediction, ids = drawn(table)
    total, _ = SampledSoftmax(None, table, num_samples=VOCABULARY).loss(prediction, ids)
    logits = prediction @ table.table().T + log_fractions(COUNTS, VOCABULARY)
    torch.testing.assert_close(total, F.cross_entropy(logits, ids, reduction="sum"), rtol=1e-6, atol=0)


def test_a_shortlist_of_all_words_is_the_softmax():
    table = targets(counts=COUNTS)
    prediction, ids = drawn(table)
    total, _ = AnalyticSoftmax(None, table, shortlist=VOCABULARY).loss(prediction, ids)
    logits = prediction @ table.table().T + log_fractions(COUNTS, VOCABULARY)
    torch.testing.assert_close(total, F.cross_entropy(logits, ids, reduction="sum"), rtol=1e-5, atol=0)


def test_published_contrast_without_duplicates_and_false_negatives():
    table = targets()
    prediction, ids = drawn(table)
    ids[5] = ids[3]
    words = ids.unique()
    total, _ = Contrastive(None, table, correct=False).loss(prediction, ids)
    logits = prediction @ table(words).T
    places = (ids.unsqueeze(1) == words).int().argmax(1)
    expected = F.cross_entropy(logits, places, reduction="sum") + ROWS * math.log(VOCABULARY / len(words))
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)


OTHERS = {"max margin": lambda table: MaxMargin(None, table), "triplet": lambda table: Triplet(None, table)}


@pytest.mark.parametrize("make", [*HEADS.values(), *OTHERS.values()], ids=[*HEADS, *OTHERS])
@every_prior
def test_the_way_of_other_devices_gives_the_same_loss_and_gradient(make, counts, monkeypatch):
    """Without looking at the data: masked rows stay, words that come again are empty places."""
    table = targets(counts=counts)
    head = make(table)
    prediction, ids = drawn(table)
    mask = torch.rand(ROWS) < 0.7
    ids[~mask] = -100
    prediction.requires_grad_()
    expected = head.loss(prediction, ids, mask)
    slope = torch.autograd.grad(expected[0], prediction)[0]
    for module in ("contrastive", "analytic", "margin"):
        monkeypatch.setattr(f"thalweg.heads.{module}.distinct", candidates._first_places)
    rows = head._rows(prediction, ids, mask, None, drop=False)
    total = (head._losses(rows.prediction, rows.ids, rows.real) * rows.factor).sum()
    torch.testing.assert_close(total, expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.autograd.grad(total, prediction)[0], slope, rtol=1e-5, atol=1e-9)


def test_distinct_words_without_looking_are_the_same_words():
    ids, real = torch.randint(9, (30,)), torch.rand(30) < 0.6
    words, there = candidates._first_places(ids, real, 9)
    assert words.shape == ids.shape
    assert torch.equal(words[there].sort().values, candidates.distinct(ids, real, 9)[0])


def test_the_same_batch_draws_the_same_words_in_any_order_and_another_batch_others():
    head = SampledSoftmax(None, targets(counts=COUNTS), num_samples=50)
    ids = torch.randint(VOCABULARY, (ROWS,))
    words = head.candidates(ids).ids
    assert torch.equal(words, head.candidates(ids.flip(0)).ids)
    assert not torch.equal(words, head.candidates((ids + 1) % VOCABULARY).ids)
    other = SampledSoftmax(None, head.targets, num_samples=50, seed=1)
    assert not torch.equal(words, other.candidates(ids).ids)


def test_starts_are_spread_evenly():
    fractions = torch.stack([candidates.fraction_of(torch.randint(1000, (8,)), None, 0) for _ in range(2000)])
    counts = torch.histc(fractions.float(), 10, 0.0, 1.0)
    assert ((counts - 200).abs() < 5 * math.sqrt(200)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: AnalyticSoftmax(None, t, shortlist=VOCABULARY + 1), r"shortlist=.*\[0, 600\].*got 601"),
        (lambda t: AnalyticSoftmax(None, t, sample_fraction=1.5), r"sample_fraction=.*\[0, 1\].*got 1.5"),
        (lambda t: SampledSoftmax(None, t, num_samples=VOCABULARY + 1), "there are 600"),
        (lambda t: SampledSoftmax(None, t, num_samples=0), "at least 1"),
        (lambda t: Contrastive(None, t, label_smoothing=1.0), r"label_smoothing=.*\[0, 1\)"),
        (lambda t: Contrastive(None, t, prior=-1.0), "prior=.*zero or positive"),
        (lambda t: Contrastive(None, t, concentration=0.0), "concentration=.*positive"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(targets())


@every_head
def test_a_sparse_gradient_holds_the_rows_that_were_used_and_trains(make):
    dense, sparse = (make(targets(trainable=True, counts=COUNTS, sparse=kind)) for kind in (False, True))
    prediction, ids = drawn(dense.targets)
    for head in (dense, sparse):
        head.loss(prediction, ids)[0].backward()
    (full,), (rows,) = dense.parameters(), sparse.parameters()
    assert rows.grad is not None
    assert rows.grad.is_sparse
    assert rows.grad.coalesce().indices().shape[1] <= 120 + ROWS
    torch.testing.assert_close(rows.grad.to_dense(), full.grad, rtol=1e-9, atol=1e-12)
    before = sparse.loss(prediction, ids)[0].item()
    torch.optim.SparseAdam(sparse.parameters(), lr=0.05).step()
    assert sparse.loss(prediction, ids)[0].item() < before


@pytest.mark.parametrize("make", [HEADS["sampled"], HEADS["analytic"]], ids=["sampled", "analytic"])
@pytest.mark.parametrize("way", ["load_state_dict", "copy"])
def test_words_are_chosen_again_when_weights_bring_other_frequencies(make, way):
    trained = make(targets(counts=COUNTS.flip(0)))
    fresh = make(targets(counts=torch.zeros(VOCABULARY)))
    prediction, ids = drawn(trained.targets)
    if way == "load_state_dict":
        fresh.loss(prediction, ids)  # used before
        fresh.load_state_dict(trained.state_dict())
    else:
        for own, new in zip(fresh.state_dict().values(), trained.state_dict().values(), strict=True):
            own.copy_(new)
    assert torch.equal(fresh.candidates(ids).ids, trained.candidates(ids).ids)
    assert torch.equal(fresh.loss(prediction, ids)[0], trained.loss(prediction, ids)[0])


@every_head
def test_new_words_are_met_at_once(make):
    head = make(targets(counts=COUNTS))
    prediction, ids = drawn(head.targets)
    head.loss(prediction, ids)
    (new,) = head.targets.add(torch.randn(1, WIDTH, dtype=torch.float64)).tolist()
    ids[0] = new
    total, count = head.loss(prediction, ids)
    exact = -head.log_probability(prediction, ids).sum()
    assert abs(total - exact) / count < 0.5
    assert head.decode(30.0 * head.targets(ids[:1]), 1)[0].item() == new


@pytest.mark.parametrize(
    "make",
    [
        lambda t, a: SampledSoftmax(None, t, num_samples=8, label_smoothing=a),
        lambda t, a: Contrastive(None, t, label_smoothing=a),
        lambda t, a: AnalyticSoftmax(None, t, shortlist=4, label_smoothing=a),
    ],
)
def test_smoothing_spreads_over_the_words_that_take_part(make):
    generator = torch.Generator().manual_seed(0)
    counts = 1e6 / torch.arange(1, 41).double()
    vectors = F.normalize(torch.randn(40, 8, generator=generator, dtype=torch.float64), dim=-1)
    targets = Targets(vectors, trainable=True, counts=counts)
    smoothed, plain = (make(targets, a) for a in (0.1, 0.0))
    ids = torch.multinomial(counts, 16, replacement=True, generator=generator)
    prediction = 3.0 * torch.randn(16, 8, generator=generator, dtype=torch.float64)
    words = smoothed.candidates(ids).ids
    scores = prediction @ vectors.T + targets.log_prior
    expected = 0.1 * (scores.gather(1, ids.unsqueeze(1)).squeeze(1) - scores[:, words].mean(1)).sum()
    difference = smoothed.loss(prediction, ids)[0] - plain.loss(prediction, ids)[0]
    torch.testing.assert_close(difference, expected, rtol=1e-5, atol=1e-5)
