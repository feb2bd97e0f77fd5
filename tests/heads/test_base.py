"""What every head must do: one table of heads, and the tests that each row passes."""

import dataclasses
from collections.abc import Callable
from typing import final

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.nn import functional as F

from thalweg.heads.adapt import as_head
from thalweg.heads.base import AbstractHead, ConvexLoss
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared

ROWS, OUTPUTS = 6, 4
CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64)
POS_WEIGHTS = torch.tensor([3.0, 1.0, 0.5, 2.0], dtype=torch.float64)


@final
@dataclasses.dataclass(frozen=True)
class Case:
    """A head without a layer, its kind of targets, and the mean loss of an unmasked, unweighted batch."""

    name: str
    make: Callable[[], AbstractHead]
    targets: str
    mean: Callable[[Tensor, Tensor], Tensor]


def targets_of(kind: str, rows: int = ROWS) -> Tensor:
    """Targets for `rows` examples, always the same."""
    generator = torch.Generator().manual_seed(7)
    if kind == "ids":
        return torch.randint(OUTPUTS, (rows,), generator=generator)
    if kind == "probabilities":
        return torch.softmax(torch.randn(rows, OUTPUTS, generator=generator, dtype=torch.float64), -1)
    if kind == "bools":
        return torch.rand(rows, OUTPUTS, generator=generator) < 0.5
    return torch.randn(rows, OUTPUTS, generator=generator, dtype=torch.float64)


def prediction_of(*leading: int) -> Tensor:
    """A prediction with these leading dimensions, always the same, that wants its gradient."""
    generator = torch.Generator().manual_seed(11)
    return (2 * torch.randn(*leading, OUTPUTS, generator=generator, dtype=torch.float64)).requires_grad_()


def _smoothed_by_hand(logits: Tensor, ids: Tensor) -> Tensor:
    q = 0.9 * F.one_hot(ids, OUTPUTS).double() + 0.1 / OUTPUTS
    return -(q * (logits - logits.logsumexp(-1, keepdim=True))).sum(-1).mean()


def _bernoulli_by_hand(logits: Tensor, y: Tensor) -> Tensor:
    y = y.double() * 0.8 + 0.1
    p = 1 / (1 + torch.exp(-logits))
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def _half_squares(prediction: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (y - prediction).square().mean()


def _adapted(loss: nn.Module, name: str, targets: str) -> Case:
    def mean(prediction: Tensor, y: Tensor) -> Tensor:
        return loss(prediction, y.to(prediction.dtype) if targets == "bools" else y)

    return Case(name, lambda: as_head(loss), targets, mean)


CASES = [
    Case("softmax", lambda: Softmax(None, OUTPUTS), "ids", F.cross_entropy),
    Case("softmax smoothed", lambda: Softmax(None, OUTPUTS, label_smoothing=0.1), "ids", _smoothed_by_hand),
    Case("softmax probabilities", lambda: Softmax(None, OUTPUTS), "probabilities", F.cross_entropy),
    Case("squared", Squared, "numbers", _half_squares),
    Case(
        "bernoulli",
        lambda: Bernoulli(None, OUTPUTS),
        "bools",
        lambda z, y: F.binary_cross_entropy_with_logits(z, y.double()),
    ),
    Case("bernoulli smoothed", lambda: Bernoulli(None, OUTPUTS, label_smoothing=0.2), "bools", _bernoulli_by_hand),
    _adapted(nn.CrossEntropyLoss(), "CrossEntropyLoss", "ids"),
    _adapted(nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), "CrossEntropyLoss weight", "ids"),
    _adapted(
        nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, label_smoothing=0.3, ignore_index=2), "CrossEntropyLoss all", "ids"
    ),
    _adapted(
        nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, label_smoothing=0.3),
        "CrossEntropyLoss probabilities",
        "probabilities",
    ),
    _adapted(nn.MSELoss(), "MSELoss", "numbers"),
    _adapted(nn.BCEWithLogitsLoss(), "BCEWithLogitsLoss", "bools"),
    _adapted(nn.BCEWithLogitsLoss(weight=CLASS_WEIGHTS, pos_weight=POS_WEIGHTS), "BCEWithLogitsLoss all", "bools"),
]

MASK = torch.tensor([True, False, True, True, False, True])
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0, 0.25], dtype=torch.float64)
every_head = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
one_of_each = pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[3], CASES[4]], ids=lambda case: case.name)
# A mask alone and weights alone have tests of their own below.
masks_and_weights = pytest.mark.parametrize(
    ("mask", "weights"), [(None, None), (MASK, WEIGHTS)], ids=["all", "mask and weights"]
)


def gradient(total: Tensor, prediction: Tensor) -> Tensor:
    return torch.autograd.grad(total, prediction)[0]


@every_head
def test_mean_and_gradient_equal_the_reference(case):
    prediction, targets = prediction_of(ROWS), targets_of(case.targets)
    total, count = case.make().loss(prediction, targets)
    reference = case.mean(prediction, targets)
    torch.testing.assert_close(total / count, reference, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        gradient(total / count, prediction), gradient(reference, prediction), rtol=1e-10, atol=1e-14
    )


@every_head
@masks_and_weights
def test_gradient_equals_finite_differences(case, mask, weights):
    head, targets = case.make(), targets_of(case.targets)
    assert torch.autograd.gradcheck(lambda z: head.loss(z, targets, mask, weights)[0], prediction_of(ROWS))


@every_head
@masks_and_weights
def test_sum_and_count_add_up_over_a_split_batch(case, mask, weights):
    head, prediction, targets = case.make(), prediction_of(ROWS), targets_of(case.targets)

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        cut = [None if x is None else x[rows] for x in (prediction, targets, mask, weights)]
        return head.loss(*cut)

    whole, halves = part(slice(None)), [part(slice(0, 2)), part(slice(2, None))]
    torch.testing.assert_close(halves[0][0] + halves[1][0], whole[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(halves[0][1] + halves[1][1], whole[1], rtol=1e-12, atol=1e-14)


@every_head
def test_masked_rows_add_exactly_nothing_even_when_they_hold_nan(case):
    head, targets = case.make(), targets_of(case.targets)
    clean = prediction_of(ROWS)
    dirty = clean.detach().clone()
    dirty[1], dirty[4] = float("nan"), float("inf")
    dirty.requires_grad_()
    if targets.is_floating_point():
        targets[1] = float("nan")
    elif targets.dtype == torch.int64:
        targets[1] = 10**6
    for weights in (None, WEIGHTS):
        total, count = head.loss(dirty, targets, MASK, weights)
        kept = None if weights is None else weights[MASK]
        expected, expected_count = head.loss(clean[MASK], targets[MASK], None, kept)
        torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(count, expected_count, rtol=1e-12, atol=0)
        slope = gradient(total, dirty)
        assert slope.isfinite().all()
        assert (slope[~MASK] == 0).all()
        v = torch.ones(ROWS, OUTPUTS, dtype=torch.float64)
        v[1] = float("nan")
        for product in (head.curvature_product, head.curvature_root):
            result = product(dirty, targets, MASK, v, weights)
            assert result.isfinite().all()
            assert (result[~MASK] == 0).all()


@every_head
def test_weights_are_repetitions(case):
    head, prediction, targets = case.make(), prediction_of(ROWS), targets_of(case.targets)
    repetitions = torch.tensor([1, 3, 0, 2, 1, 1])
    weighted = head.loss(prediction, targets, None, repetitions)
    repeated = head.loss(prediction.repeat_interleave(repetitions, 0), targets.repeat_interleave(repetitions, 0))
    torch.testing.assert_close(weighted, repeated, rtol=1e-12, atol=1e-14)


@one_of_each
def test_sequences_equal_the_same_targets_in_a_row(case):
    head, targets = case.make(), targets_of(case.targets)
    prediction = prediction_of(ROWS)
    flat = head.loss(prediction, targets, MASK, WEIGHTS)
    shape = (2, 3)
    cut = [x.reshape(*shape, *x.shape[1:]) for x in (prediction, targets, MASK, WEIGHTS)]
    torch.testing.assert_close(head.loss(*cut), flat, rtol=1e-12, atol=0)
    torch.testing.assert_close(head.loss_from_hidden(*cut), flat, rtol=1e-12, atol=0)
    per_example = head.loss(cut[0], cut[1], torch.tensor([True, False]))
    torch.testing.assert_close(per_example, head.loss(prediction[:3], targets[:3]), rtol=1e-12, atol=1e-14)


@every_head
@masks_and_weights
def test_curvature_product_equals_double_backward(case, mask, weights):
    head, prediction, targets = case.make(), prediction_of(ROWS), targets_of(case.targets)
    dense = hessian(lambda z: head.loss(z, targets, mask, weights)[0], prediction)
    assert isinstance(dense, Tensor)
    dense = dense.reshape(ROWS * OUTPUTS, ROWS * OUTPUTS)
    basis = torch.eye(ROWS * OUTPUTS, dtype=torch.float64).reshape(-1, ROWS, OUTPUTS)
    product = head.curvature_product(prediction, targets, mask, basis, weights).reshape(ROWS * OUTPUTS, -1).T
    torch.testing.assert_close(product.detach(), dense, rtol=1e-10, atol=1e-12)


@every_head
@masks_and_weights
def test_root_times_its_transpose_is_the_curvature(case, mask, weights):
    head, prediction, targets = case.make(), prediction_of(ROWS).detach(), targets_of(case.targets)
    basis = torch.eye(ROWS * OUTPUTS, dtype=torch.float64).reshape(-1, ROWS, OUTPUTS)
    root = head.curvature_root(prediction, targets, mask, basis, weights).reshape(ROWS * OUTPUTS, -1).T
    product = head.curvature_product(prediction, targets, mask, basis, weights).reshape(ROWS * OUTPUTS, -1).T
    torch.testing.assert_close(root @ root.T, product, rtol=1e-10, atol=1e-12)


@one_of_each
def test_half_precision_predictions_are_summed_in_float32(case):
    head, prediction, targets = case.make(), prediction_of(ROWS), targets_of(case.targets)
    exact = head.loss(prediction.float(), targets.float() if targets.is_floating_point() else targets)[0]
    half = prediction.detach().bfloat16().requires_grad_()
    total, count = head.loss(half, targets.float() if targets.is_floating_point() else targets, MASK, WEIGHTS.float())
    assert total.dtype == count.dtype == torch.float32
    assert gradient(total, half).dtype == torch.bfloat16
    unweighted = head.loss(half, targets.float() if targets.is_floating_point() else targets)[0]
    torch.testing.assert_close(unweighted, exact, rtol=2e-2, atol=1e-2)


@one_of_each
def test_masks_and_weights_of_a_wrong_shape_are_refused(case):
    head, prediction, targets = case.make(), prediction_of(ROWS), targets_of(case.targets)
    with pytest.raises(ValueError, match=r"mask must have the shape \[6.*got \[4\]"):
        head.loss(prediction, targets, torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"weights must have the shape \[6.*got \[1\]"):
        head.loss(prediction, targets, None, torch.ones(1))


@one_of_each
def test_targets_of_a_wrong_shape_are_refused(case):
    head, prediction, targets = case.make(), prediction_of(ROWS), targets_of(case.targets)
    with pytest.raises(ValueError, match=r"must have the shape"):
        head.loss(prediction, targets[:3])


POSITIVE = torch.tensor([1.0, 3.0, 0.5])
HEADS = {
    "softmax": (lambda: Softmax(4, 3), "ids"),
    "smoothed": (lambda: Softmax(4, 3, label_smoothing=0.2, bias=False), "ids"),
    "class weights": (lambda: Softmax(4, 3, class_weights=POSITIVE, label_smoothing=0.1), "ids"),
    "soft targets": (lambda: Softmax(4, 3), "rows"),
    "bernoulli": (lambda: Bernoulli(4, 3, label_smoothing=0.1), "answers"),
    "positive weights": (lambda: Bernoulli(4, 3, pos_weight=POSITIVE, factor=POSITIVE.flip(0)), "answers"),
    "squared": (lambda: Squared(4, 3, factor=0.7), "numbers"),
}


def make_targets(kind):
    if kind == "ids":
        return torch.randint(0, 3, (5, 2))
    raw = torch.rand(5, 2, 3)
    return {"rows": raw / raw.sum(-1, keepdim=True), "answers": (raw > 0.5).double(), "numbers": raw}[kind]


def value(form):
    """The loss as the form's docstring says it."""
    z = form.features if form.layer is None else form.layer(form.features)
    t = form.targets
    if form.loss is ConvexLoss.SOFTMAX:
        t = t if t.is_floating_point() else F.one_hot(t, z.shape[-1]).double()
        t = (1 - form.smoothing) * t + form.smoothing / z.shape[-1]
        u = torch.ones(z.shape[-1]) if form.class_weights is None else form.class_weights
        each = -(t * u * z.log_softmax(-1)).sum(-1)
    elif form.loss is ConvexLoss.LOGISTIC:
        each = F.softplus(z) - t * z
    else:
        each = form.factor * (z - t) ** 2
    return (each if form.weights is None else each * form.weights).sum() / form.count


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize(("masked", "weighted"), [(False, False), (True, False), (True, True)])
def test_it_is_the_heads_own_loss(name, masked, weighted):
    make, kind = HEADS[name]
    head, hidden, targets = make().double(), torch.randn(5, 2, 4), make_targets(kind)
    mask = torch.rand(5, 2) > 0.4 if masked else None
    weights = torch.rand(5, 2) if weighted else None
    if masked and kind != "ids":
        targets = torch.where(mask.unsqueeze(-1), targets, torch.nan)
    total, count = head.loss_from_hidden(hidden, targets, mask, weights)
    form = head.linear_form(hidden, targets, mask, weights)
    assert torch.isclose(value(form), total / count, rtol=1e-12, atol=0.0)
    assert not form.features.requires_grad


@pytest.mark.usefixtures("float64")
def test_a_loss_without_a_layer_has_the_prediction_as_features():
    prediction, numbers = torch.randn(5, 3), torch.randn(5, 3)
    form = as_head(nn.MSELoss()).linear_form(prediction, numbers)
    assert form.layer is None
    assert torch.isclose(value(form), nn.MSELoss()(prediction, numbers))
    ids = torch.tensor([0, 1, -100, 2, 0])
    form = as_head(nn.CrossEntropyLoss()).linear_form(prediction, ids)
    assert form.targets.tolist() == [0, 1, 2, 0]
    assert torch.isclose(value(form), nn.CrossEntropyLoss()(prediction, ids))


@pytest.mark.usefixtures("float64")
def test_single_answers_may_be_masked():
    head, hidden = Squared(4, 3), torch.randn(5, 4)
    targets, mask = torch.randn(5, 3), torch.rand(5, 3) > 0.5
    total, count = head.loss_from_hidden(hidden, targets, mask)
    assert torch.isclose(value(head.linear_form(hidden, targets, mask)), total / count)
