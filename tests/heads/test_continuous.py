"""What every family of continuous outputs must do: one table, and the tests that each row passes."""

import dataclasses
import math
from collections.abc import Callable
from typing import final

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.nn import functional as F

from thalweg.heads.analytic import AnalyticSoftmax
from thalweg.heads.bessel import log_partition
from thalweg.heads.continuous import AbstractContinuous
from thalweg.heads.contrastive import Contrastive, SampledSoftmax
from thalweg.heads.distance import L2, Cosine, PowerSpherical
from thalweg.heads.margin import MaxMargin, SyntheticMargin, Triplet
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher
from thalweg.objective import Objective

VOCABULARY, WIDTH, ROWS = 12, 8, 6
COUNTS = torch.tensor([40.0, 30, 20, 10, 9, 8, 7, 6, 5, 4, 3, 2])


@final
@dataclasses.dataclass(frozen=True)
class Case:
    """A family without a layer, by its table; whether a row's loss depends on the other rows of its batch."""

    name: str
    make: Callable[[Targets], AbstractContinuous]
    alone: bool = True


CASES = [
    Case("l2", lambda t: L2(None, t)),
    Case("l2 not squared", lambda t: L2(None, t, squared=False)),
    Case("l2 smoothed", lambda t: L2(None, t, label_smoothing=0.2)),
    Case("cosine", lambda t: Cosine(None, t)),
    Case("cosine smoothed", lambda t: Cosine(None, t, label_smoothing=0.1, prior=1.0)),
    Case("power spherical", lambda t: PowerSpherical(None, t)),
    Case("vmf", lambda t: VonMisesFisher(None, t)),
    Case("vmf reg1", lambda t: VonMisesFisher(None, t, reg1=0.2)),
    Case("vmf reg2", lambda t: VonMisesFisher(None, t, reg2=0.1)),
    Case("vmf reg1 reg2", lambda t: VonMisesFisher(None, t, reg1=0.02, reg2=0.1)),
    Case("vmf log", lambda t: VonMisesFisher(None, t, reg1=0.2, logarithmic=True)),
    Case("vmf smoothed", lambda t: VonMisesFisher(None, t, label_smoothing=0.1, prior=0.5)),
    Case("max margin", lambda t: MaxMargin(None, t), alone=False),
    Case("max margin everywhere", lambda t: MaxMargin(None, t, margin=1.0, everywhere=True)),
    Case("projection margin", lambda t: SyntheticMargin(None, t)),
    Case("difference margin", lambda t: SyntheticMargin(None, t, difference=True)),
    Case("triplet", lambda t: Triplet(None, t), alone=False),
    Case("contrastive", lambda t: Contrastive(None, t), alone=False),
    Case("contrastive published", lambda t: Contrastive(None, t, correct=False), alone=False),
    Case("contrastive smoothed", lambda t: Contrastive(None, t, label_smoothing=0.1), alone=False),
    Case("sampled", lambda t: SampledSoftmax(None, t, num_samples=5), alone=False),
    Case("sampled with batch", lambda t: SampledSoftmax(None, t, num_samples=4, with_batch=True), alone=False),
    Case("sampled smoothed", lambda t: SampledSoftmax(None, t, num_samples=5, label_smoothing=0.2), alone=False),
    Case("analytic", lambda t: AnalyticSoftmax(None, t, shortlist=3), alone=False),
    Case("analytic without batch", lambda t: AnalyticSoftmax(None, t, shortlist=3, with_batch=False)),
    Case("analytic shared", lambda t: AnalyticSoftmax(None, t, shortlist=2, sample_fraction=0.5), alone=False),
    Case("analytic smoothed", lambda t: AnalyticSoftmax(None, t, shortlist=2, label_smoothing=0.1), alone=False),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
# One family of each way to a loss, for what the base class does for all of them.
WAYS = {
    "l2",
    "cosine",
    "power spherical",
    "vmf",
    "max margin",
    "triplet",
    "contrastive",
    "sampled with batch",
    "analytic",
}
one_of_each = pytest.mark.parametrize("case", [case for case in CASES if case.name in WAYS], ids=lambda case: case.name)
every_prior = pytest.mark.parametrize("counts", [None, COUNTS], ids=["uniform", "counts"])
MASK = torch.tensor([True, False, True, True, False, True])
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0, 0.25], dtype=torch.float64)
IDS = torch.tensor([3, 0, 7, 3, 11, 1])
masks_and_weights = pytest.mark.parametrize(
    ("mask", "weights"), [(None, None), (MASK, WEIGHTS)], ids=["all", "mask and weights"]
)


def table(**options) -> Targets:
    generator = torch.Generator().manual_seed(5)
    return Targets(torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64), **options)


def prediction_of(*leading: int, scale: float = 1.5) -> Tensor:
    """A prediction with these leading dimensions, always the same, that wants its gradient."""
    generator = torch.Generator().manual_seed(11)
    return (scale * torch.randn(*leading, WIDTH, generator=generator, dtype=torch.float64)).requires_grad_()


def gradient(total: Tensor, prediction: Tensor) -> Tensor:
    return torch.autograd.grad(total, prediction)[0]


def _length(x: Tensor) -> Tensor:
    return x.norm(dim=-1)


def _power_spherical(e: Tensor, cosine: Tensor) -> Tensor:
    kappa, beta = _length(e), 0.5 * (WIDTH - 1)
    normalizer = torch.lgamma(beta + kappa) - torch.lgamma(2 * beta + kappa) - math.lgamma(beta) + math.lgamma(2 * beta)
    return kappa * math.log(2.0) + normalizer - kappa * torch.log(1 + cosine)


def _partition(e: Tensor) -> Tensor:
    return log_partition(_length(e).square(), WIDTH)


# The formulas of the docstrings from the prediction, the target's vector and the cosine between them.
FORMULAS = {
    "l2": lambda e, u, cosine: 0.5 * _length(e - u).square() - 0.5,
    "l2 not squared": lambda e, u, cosine: _length(e - u) - 1,
    "cosine": lambda e, u, cosine: -cosine,
    "power spherical": lambda e, u, cosine: _power_spherical(e, cosine),
    "vmf": lambda e, u, cosine: _partition(e) - (e * u).sum(-1),
    "vmf reg1 reg2": lambda e, u, cosine: _partition(e) + 0.02 * _length(e) - 0.1 * (e * u).sum(-1),
    "vmf log": lambda e, u, cosine: _partition(e) + torch.log1p(_length(e)) * (0.2 - cosine),
    "projection margin": lambda e, u, cosine: (0.5 + (1 - cosine**2).sqrt() - cosine).clamp_min(0) - 1.5,
    "difference margin": lambda e, u, cosine: (0.5 + ((1 - cosine) / 2).sqrt() - cosine).clamp_min(0) - 0.5 - 0.5**0.5,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_the_formulas(name):
    head, prediction = next(case for case in CASES if case.name == name).make(table()), prediction_of(ROWS).detach()
    own = head.targets(IDS)
    expected = FORMULAS[name](prediction, own, F.cosine_similarity(prediction, own)).sum()
    torch.testing.assert_close(head.loss(prediction, IDS)[0], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("family", [L2, Cosine, VonMisesFisher])
def test_smoothing_is_the_mean_over_smoothed_targets_where_the_vectors_have_mean_zero(family):
    """Up to the constant of L2, whose distance to the smoothed vector is measured."""
    targets, a = Targets(torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)]).double()), 0.3
    plain, smoothed = family(None, targets), family(None, targets, label_smoothing=a)
    for prediction in prediction_of(2, 1).detach():
        ids = torch.tensor([3])
        others = torch.stack([plain.loss(prediction, torch.tensor([w]))[0] for w in range(targets.num)]).mean()
        expected = (1 - a) * plain.loss(prediction, ids)[0] + a * others
        torch.testing.assert_close(smoothed.loss(prediction, ids)[0], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("family", [PowerSpherical, MaxMargin, SyntheticMargin, Triplet])
def test_smoothing_is_refused_where_it_has_no_meaning(family):
    with pytest.raises(ValueError, match=rf"{family.__name__} has no distribution.*smoothing 0.1, give 0"):
        family(None, table(), label_smoothing=0.1)


def test_exact_softmaxes_smooth_as_pytorch_does():
    targets, prediction = table(), prediction_of(ROWS).detach()
    exact = F.cross_entropy(prediction @ targets.table().T, IDS, reduction="sum", label_smoothing=0.2)
    for head in (
        SampledSoftmax(None, targets, num_samples=VOCABULARY, label_smoothing=0.2),
        AnalyticSoftmax(None, targets, shortlist=VOCABULARY, label_smoothing=0.2),
    ):
        torch.testing.assert_close(head.loss(prediction, IDS)[0], exact, rtol=1e-5, atol=1e-5)


@every_case
@masks_and_weights
def test_gradient_equals_finite_differences(case, mask, weights):
    head = case.make(table(counts=COUNTS))
    assert torch.autograd.gradcheck(lambda z: head.loss(z, IDS, mask, weights)[0], prediction_of(ROWS), fast_mode=True)


@every_case
def test_gradient_of_a_learned_table_equals_finite_differences(case):
    head = case.make(table(trainable=True, counts=COUNTS))
    prediction = prediction_of(ROWS).detach()
    (weight,) = head.parameters()

    def loss(rows: Tensor) -> Tensor:
        return torch.func.functional_call(_Loss(head), {"head.targets.embedding.weight": rows}, (prediction, IDS, MASK))

    assert torch.autograd.gradcheck(loss, weight.detach().clone().requires_grad_(), fast_mode=True)


class _Loss(nn.Module):
    def __init__(self, head: AbstractContinuous) -> None:
        super().__init__()
        self.head = head

    def forward(self, prediction: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head.loss(prediction, ids, mask)[0]


@every_case
def test_sum_and_count_add_up_over_a_split_batch(case):
    """Where rows are compared with each other's words: with the words of the whole batch given to both parts."""
    head, prediction = case.make(table(counts=COUNTS)), prediction_of(ROWS)

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        cut = [x[rows] for x in (prediction, IDS, MASK, WEIGHTS)]
        return head.loss(*cut)

    whole, halves = part(slice(None)), [part(slice(0, 2)), part(slice(2, None))]
    torch.testing.assert_close(halves[0][1] + halves[1][1], whole[1], rtol=1e-12, atol=1e-14)
    if case.alone:
        torch.testing.assert_close(halves[0][0] + halves[1][0], whole[0], rtol=1e-12, atol=1e-14)
    elif isinstance(head, Contrastive | SampledSoftmax | AnalyticSoftmax):
        words = head.candidates(IDS[MASK])
        factor = torch.where(MASK, WEIGHTS, 0.0)
        pieces = [head.row_losses(prediction[rows], IDS[rows], words) for rows in (slice(0, 2), slice(2, None))]
        torch.testing.assert_close((torch.cat(pieces) * factor).sum(), whole[0], rtol=1e-12, atol=1e-14)


@every_case
def test_masked_rows_add_exactly_nothing_even_when_they_hold_nan(case):
    head, clean = case.make(table(counts=COUNTS)), prediction_of(ROWS)
    dirty = clean.detach().clone()
    dirty[1], dirty[4] = float("nan"), float("inf")
    dirty.requires_grad_()
    ids = IDS.clone()
    ids[1], ids[4] = 10**6, -100
    for weights in (None, WEIGHTS):
        total, count = head.loss(dirty, ids, MASK, weights)
        kept = None if weights is None else weights[MASK]
        expected, expected_count = head.loss(clean[MASK], ids[MASK], None, kept)
        torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(count, expected_count, rtol=1e-12, atol=0)
        slope = gradient(total, dirty)
        assert slope.isfinite().all()
        assert (slope[~MASK] == 0).all()
        v = torch.ones(ROWS, WIDTH, dtype=torch.float64)
        v[1] = float("nan")
        for product in (head.curvature_product, head.curvature_root):
            result = product(dirty, ids, MASK, v, weights)
            assert result.isfinite().all()
            assert (result[~MASK] == 0).all()


@one_of_each
def test_the_ignored_id_is_a_mask(case):
    head, prediction = case.make(table(counts=COUNTS)), prediction_of(ROWS)
    ids = torch.where(MASK, IDS, -100)
    torch.testing.assert_close(head.loss(prediction, ids), head.loss(prediction, IDS, MASK), rtol=1e-12, atol=0)


@one_of_each
def test_a_batch_without_targets_adds_nothing(case):
    head, prediction = case.make(table(counts=COUNTS)), prediction_of(ROWS)
    for ids, mask in ((torch.full((ROWS,), -100), None), (IDS, torch.zeros(ROWS, dtype=torch.bool))):
        total, count = head.loss(prediction, ids, mask)
        assert (total.item(), count.item()) == (0.0, 0.0)
        assert (gradient(total, prediction) == 0).all()
        v = torch.ones(ROWS, WIDTH, dtype=torch.float64)
        assert (head.curvature_product(prediction, ids, mask, v) == 0).all()
        assert (head.curvature_root(prediction, ids, mask, v) == 0).all()


@every_case
def test_one_target_alone_has_a_finite_loss(case):
    head, prediction = case.make(table(counts=COUNTS)), prediction_of(1)
    total, _ = head.loss(prediction, IDS[:1])
    assert total.isfinite()
    assert gradient(total, prediction).isfinite().all()


@one_of_each
@every_prior
def test_the_order_of_the_vocabulary_changes_nothing(case, counts):
    order = torch.randperm(VOCABULARY)
    rows = table().table()
    place = order.argsort()
    head = case.make(Targets(rows, counts=counts))
    turned = case.make(Targets(rows[order], counts=None if counts is None else counts[order]))
    prediction = prediction_of(ROWS)
    if "sampled" not in case.name and (counts is not None or "analytic" not in case.name):
        # Which words are drawn depends on the ids; and without counts the shortlist is the first words.
        expected, got = head.loss(prediction, IDS)[0], turned.loss(prediction, place[IDS])[0]
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(turned.scores(prediction)[:, place], head.scores(prediction), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(place[head.decode(prediction, 3)[0]], turned.decode(prediction, 3)[0])


@one_of_each
def test_targets_decode_to_themselves(case):
    targets = table()
    head = case.make(targets)
    words = torch.arange(VOCABULARY)
    ids, log_probabilities = head.decode(20.0 * targets(words), VOCABULARY + 5)
    assert torch.equal(ids[:, 0], words)
    assert ids.shape == (VOCABULARY, VOCABULARY)
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(VOCABULARY, dtype=torch.float64))
    assert (log_probabilities.diff(dim=-1) <= 0).all()


@one_of_each
@every_prior
def test_log_probabilities_are_those_of_a_softmax_over_the_scores(case, counts):
    head, prediction = case.make(table(counts=counts)), prediction_of(2, 3)
    expected = head.scores(prediction).log_softmax(-1)
    ids = IDS.reshape(2, 3)
    own = expected.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(head.log_probability(prediction, ids), own, rtol=1e-9, atol=1e-9)
    found, values = head.decode(prediction, 4)
    torch.testing.assert_close(values, expected.gather(-1, found), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        head.scores(prediction, found), head.scores(prediction).gather(-1, found), rtol=1e-9, atol=1e-9
    )
    ids = ids.clone()
    ids[0, 0] = -100
    assert head.log_probability(prediction, ids).isfinite().all()


@every_case
@masks_and_weights
def test_curvature_is_the_semidefinite_part_of_the_hessian(case, mask, weights):
    head, prediction = case.make(table(counts=COUNTS)), prediction_of(ROWS)
    dense = hessian(lambda z: head.loss(z, IDS, mask, weights)[0], prediction)
    assert isinstance(dense, Tensor)
    basis = torch.eye(WIDTH, dtype=torch.float64).unsqueeze(1).expand(WIDTH, ROWS, WIDTH)
    product = head.curvature_product(prediction, IDS, mask, basis, weights)
    root = head.curvature_root(prediction, IDS, mask, basis, weights)
    for row in range(ROWS):
        own = dense[row, :, row]
        assert (dense[row, :, [r for r in range(ROWS) if r != row]] == 0).all()  # only the row's own curvature
        values, turn = torch.linalg.eigh(own)
        expected = turn @ torch.diag(values.clamp_min(0.0)) @ turn.T
        torch.testing.assert_close(product[:, row].T, expected, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(root[:, row].T @ root[:, row], expected, rtol=1e-6, atol=1e-8)


@every_case
def test_a_prediction_that_says_nothing_starts_at_chance(case):
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(500, 64, generator=generator)
    head = case.make(Targets(rows))
    ids = torch.randint(500, (200,), generator=generator)
    assert head.chance in (0.0, pytest.approx(math.log(500)))
    small = 0.05 * F.normalize(torch.randn(200, 64, generator=generator), dim=-1)
    total, count = head.loss(small, ids)
    # The nearest wrong word of a batch is nearer than the average one; the margin is then 0.05 to 0.4 too large.
    slack = 0.4 if "max margin" in case.name else 0.05
    assert (total / count).item() == pytest.approx(head.chance, abs=slack)
    # A prediction that lies on its target is better than chance; a distance also wants the length to be right.
    scale = 1.0 if "l2" in case.name else 8.0
    total, count = head.loss(scale * head.targets(ids), ids)
    assert (total / count).item() < head.chance - 0.1


@every_case
def test_zero_and_huge_predictions_give_finite_losses_and_gradients(case):
    head = case.make(table(counts=COUNTS))
    for scale in (0.0, 1e-30, 1e-6, 1e4, 1e12):
        prediction = (scale * torch.ones(ROWS, WIDTH)).requires_grad_()
        total, _ = head.loss(prediction, IDS)
        assert total.isfinite(), scale
        assert gradient(total, prediction).isfinite().all(), scale
        v = torch.ones(ROWS, WIDTH)
        assert head.curvature_product(prediction, IDS, None, v).isfinite().all(), scale
        assert head.decode(prediction, 2)[1].isfinite().all(), scale


@one_of_each
def test_half_precision_is_summed_in_float32_and_autocast_is_safe(case):
    head, prediction = case.make(Targets(table().table().float(), counts=COUNTS)), prediction_of(ROWS)
    exact = head.loss(prediction.float(), IDS)[0]
    half = prediction.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        total, count = head.loss(half, IDS)
        under = head.loss(prediction.detach().float(), IDS)[0]
        assert head.decode(half, 2)[1].dtype == torch.float32
    assert total.dtype == count.dtype == torch.float32
    assert gradient(total, half).dtype == torch.bfloat16
    torch.testing.assert_close(under, exact.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(total, exact, rtol=3e-2, atol=6e-2)


@every_case
def test_training_steps_lower_the_loss_through_an_objective(case):
    head = case.make(Targets(table().table().float(), counts=COUNTS))
    model = nn.Embedding(VOCABULARY, WIDTH)
    nn.init.normal_(model.weight, std=0.5)
    inputs = torch.arange(VOCABULARY)
    objective = Objective(model, head, inputs, inputs.flip(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    first = float(objective.value())
    for _ in range(15):
        optimizer.step(objective)
    assert float(objective.value()) < first - 0.05
    assert (head.decode(head(model(inputs)), 1)[0][:, 0] == inputs.flip(0)).float().mean() > 0.6


@one_of_each
def test_the_same_batch_has_the_same_loss_again(case):
    head, prediction = case.make(table(counts=COUNTS)), prediction_of(ROWS)
    assert torch.equal(head.loss(prediction, IDS)[0], head.loss(prediction, IDS)[0])


@one_of_each
def test_layer_and_hidden_states(case):
    """A head with a layer of its own, sequences, masked rows left out before the layer."""
    bare = case.make(table(counts=COUNTS))
    head = case.make(table(counts=COUNTS))
    head.output = nn.Linear(5, WIDTH).double()
    hidden = torch.randn(2, 3, 5, dtype=torch.float64)
    ids, mask, weights = IDS.reshape(2, 3), MASK.reshape(2, 3), WEIGHTS.reshape(2, 3)
    hidden[~mask] = float("nan")
    prediction = head(hidden.nan_to_num())
    assert prediction.shape == (2, 3, WIDTH)
    expected = bare.loss(prediction.reshape(ROWS, WIDTH), IDS, MASK, WEIGHTS)
    torch.testing.assert_close(head.loss_from_hidden(hidden, ids, mask, weights), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(head.loss(prediction, ids, mask, weights), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in {"cosine", "sampled"}], ids=lambda c: c.name)
@pytest.mark.parametrize(
    ("prediction", "ids", "mask", "message"),
    [
        (torch.zeros(ROWS, WIDTH + 1), IDS, None, r"width of the target vectors, 8; got 9"),
        (torch.zeros(ROWS, WIDTH), IDS[:3], None, r"must have the shape \[6\]; got \[3\]"),
        (torch.zeros(ROWS, WIDTH), IDS.double(), None, "ids of words"),
        (torch.zeros(ROWS, WIDTH), IDS + 1, None, r"must lie in \[0, 12\)"),
        (torch.zeros(ROWS, WIDTH), -IDS, None, r"must lie in \[0, 12\)"),
        (torch.zeros(ROWS, WIDTH), IDS, torch.ones(4, dtype=torch.bool), r"mask must have the shape \[6.*got \[4\]"),
    ],
)
def test_wrong_shapes_and_ids_are_refused(case, prediction, ids, mask, message):
    with pytest.raises(ValueError, match=message):
        case.make(table()).loss(prediction, ids, mask)


@pytest.mark.parametrize("counts", [None, torch.arange(1.0, 51.0)], ids=["uniform", "counts"])
@pytest.mark.parametrize("family", [Cosine, VonMisesFisher])
def test_calibration_finds_the_concentration_that_made_the_data(family, counts):
    targets = Targets(torch.randn(50, 16, dtype=torch.float64), counts=counts)
    head = family(None, targets, concentration=7.0, prior=1.0)
    prediction = F.normalize(torch.randn(4000, 16, dtype=torch.float64), dim=-1)
    ids = torch.multinomial(head.scores(prediction).softmax(-1), 1).squeeze(-1)
    head.concentration.fill_(1.0)
    before = head.log_probability(prediction, ids).sum()
    ids[:100] = -100
    mask = torch.arange(4000) >= 200
    found = head.calibrate(prediction, ids, mask)
    assert found == pytest.approx(7.0, rel=0.1)
    assert head.concentration.item() == pytest.approx(found)
    ids[:200] = 0
    at = head.log_probability(prediction, ids)[200:].sum()
    assert at > before
    for factor in (0.97, 1.03):
        head.concentration.fill_(found * factor)
        assert head.log_probability(prediction, ids)[200:].sum() < at


def test_calibration_needs_targets():
    head = Cosine(None, Targets(torch.eye(4)))
    with pytest.raises(ValueError, match="at least one real target"):
        head.calibrate(torch.zeros(2, 4), torch.full((2,), -100))
