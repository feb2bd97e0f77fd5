"""PyTorch's losses as heads: through random shapes, settings and reductions they are what PyTorch computes."""

import math
import random

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian

from thalweg.batch import Batch
from thalweg.curvature.diagonal import gauss_newton_diagonal
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.root import gauss_newton_root
from thalweg.errors import InputError
from thalweg.heads.adapt import as_head
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective
from thalweg.optim.descent import Descent
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.newton import Newton
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.preconditioner import NoPreconditioner
from thalweg.training.certified.certify import certify

pytestmark = pytest.mark.filterwarnings("ignore:Using a target size")  # which PyTorch repeats, with a warning
Case = tuple[nn.Module, Tensor, Tensor]  # loss, output, targets


def cross_entropy(choice: random.Random, reduction: str) -> Case:
    classes, rest = choice.randint(1, 4), [choice.randint(1, 4) for _ in range(choice.randint(0, 3))]
    if choice.random() < 0.3 and rest:
        rest[0] = classes  # the layouts cannot be told apart by their shapes
    batch = [choice.randint(1, 4)] if rest or choice.random() < 0.8 else []
    output = torch.randn(*batch, classes, *rest)
    loss = nn.CrossEntropyLoss(
        weight=torch.rand(classes) + 0.1 if choice.random() < 0.5 else None,
        ignore_index=choice.choice([-100, 0, 1]),
        reduction=reduction,
        label_smoothing=choice.choice([0.0, 0.3]),
    )
    targets = torch.randint(0, classes, (*batch, *rest))
    if choice.random() < 0.4:
        loss.ignore_index = -100  # PyTorch has no other with probabilities
        targets = torch.rand(output.shape)
    elif (targets == loss.ignore_index).all():
        loss.ignore_index = -100
    return loss, output, targets


def squared(choice: random.Random, reduction: str) -> Case:
    output = torch.randn([choice.randint(1, 4) for _ in range(choice.randint(0, 4))])
    shape = [choice.choice([size, size, 1]) for size in output.shape]
    return nn.MSELoss(reduction=reduction), output, torch.randn(shape[choice.choice([0, 0, len(shape) // 2]) :])


def logistic(choice: random.Random, reduction: str) -> Case:
    output = torch.randn([choice.randint(1, 4) for _ in range(choice.randint(0, 3))])

    def setting() -> Tensor | None:
        shape = [choice.choice([size, size, 1]) for size in output.shape]
        return torch.rand(shape[choice.randint(0, len(shape)) :]) + 0.1 if choice.random() < 0.6 else None

    return nn.BCEWithLogitsLoss(setting(), reduction=reduction, pos_weight=setting()), output, torch.rand(output.shape)


def cases(make, number: int) -> "list[tuple[str, Case]]":
    torch.manual_seed(0)
    choice = random.Random(make.__name__)
    torch.set_default_dtype(torch.float64)
    try:
        return [
            (f"{i}: {case[0]} {list(case[1].shape)} {list(case[2].shape)}", case)
            for i in range(number)
            for case in [make(choice, choice.choice(["mean", "sum"]))]
        ]
    finally:
        torch.set_default_dtype(torch.float32)


EVERY = pytest.mark.parametrize("make", [cross_entropy, squared, logistic])


def value_of(head, output, targets):
    total, count = head.loss_from_hidden(output, targets)
    return total / head.divisor(count)


@EVERY
def test_values_gradients_and_curvature_are_pytorchs(make):
    for name, (loss, output, targets) in cases(make, 60):
        head, output = as_head(loss), output.requires_grad_()
        expected, found = loss(output, targets), value_of(head, output, targets)
        torch.testing.assert_close(found, expected, msg=name)
        slopes = [torch.autograd.grad(one, output)[0] for one in (found, expected)]
        torch.testing.assert_close(*slopes, msg=name)

        prediction = head(output).detach()
        total, count = head.loss(prediction, targets)
        torch.testing.assert_close(total / head.divisor(count), expected, msg=name)
        n = prediction.numel()
        units = torch.eye(n, dtype=torch.float64).reshape(n, *prediction.shape)
        matrix = head.curvature_product(prediction, targets, None, units).reshape(n, n)
        root = head.curvature_root(prediction, targets, None, units).reshape(n, n)
        torch.testing.assert_close(root.T @ root, matrix, msg=name)
        # The Hessian of PyTorch's own loss by the output, whose entries the head may have put elsewhere.
        own = hessian(lambda flat, o=output, t=targets, f=loss: f(flat.reshape(o.shape), t), output.detach().flatten())
        place = head(torch.arange(float(n)).reshape(output.shape)).flatten().long()
        torch.testing.assert_close(matrix / head.divisor(count), own[place][:, place], msg=name)


@EVERY
def test_micro_batches_equal_the_whole_batch(make):
    cut = 0
    for name, (loss, output, targets) in cases(make, 60):
        settings = (loss.weight, loss.pos_weight) if make is logistic else ()
        whole = not output.dim() or len(output) < 2 or targets.shape[:1] != output.shape[:1]
        whole = whole or (make is squared and targets.dim() < output.dim())
        if whole or any(s is not None and s.dim() == output.dim() for s in settings):
            continue  # no batch, or settings for each example of it
        batches = [Batch({"input": output[rows]}, targets[rows]) for rows in (slice(0, 1), slice(1, None))]
        values = [
            Objective(nn.Identity(), loss, parts).value() for parts in (batches, Batch({"input": output}, targets))
        ]
        torch.testing.assert_close(*values, msg=name)
        cut += 1
    assert cut > 15


IDS, SHARES = (
    torch.tensor([[0, 2, 1], [1, 2, 2]]),
    torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)).double(),
)
CLASS_WEIGHTS, OWN_WEIGHTS = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([[1.0], [2.0], [3.0]]).double()
NUMBERS = torch.tensor([1.0, -1.0, 0.5]).double()

# For a model whose output is [2, 3, 3], where classes and places cannot be told apart by their number: PyTorch's loss
# with its targets, and the head that says the same with its own, of an output with classes last.
SQUARE = {
    "ids": (
        (nn.CrossEntropyLoss(CLASS_WEIGHTS, label_smoothing=0.1), IDS),
        (Softmax(None, 3, class_weights=CLASS_WEIGHTS, label_smoothing=0.1), IDS),
    ),
    "a sum": ((nn.CrossEntropyLoss(reduction="sum", ignore_index=1), IDS), (Softmax(None, 3, ignore_index=1), IDS)),
    "probabilities": ((nn.CrossEntropyLoss(), SHARES), (Softmax(None, 3), SHARES.mT)),
    "numbers": ((nn.MSELoss(reduction="sum"), NUMBERS), (Squared(), NUMBERS.expand(2, 3, 3).mT)),
    "labels": (
        (nn.BCEWithLogitsLoss(OWN_WEIGHTS), SHARES),
        (Bernoulli(None, factor=OWN_WEIGHTS.T), SHARES.mT),
    ),
}
CONVOLUTION = {"1.weight": (4, 2, 1), "1.bias": (4,), "3.weight": (3, 4, 1), "3.bias": (3,)}
START = torch.randn(27, generator=torch.Generator().manual_seed(1)).double()
INPUTS = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(2)).double()


def convolution(*last: nn.Module) -> nn.Module:
    model = nn.Sequential(nn.Identity(), nn.Conv1d(2, 4, 1), nn.Tanh(), nn.Conv1d(4, 3, 1), *last).double()
    nn.utils.vector_to_parameters(START.clone(), model.parameters())
    return model


def output(flat: Tensor) -> Tensor:
    parts = flat.split([math.prod(shape) for shape in CONVOLUTION.values()])
    tensors = {name: part.view(shape) for (name, shape), part in zip(CONVOLUTION.items(), parts, strict=True)}
    return torch.func.functional_call(convolution(), tensors, (INPUTS,))


def in_two(loss: nn.Module, targets: Tensor) -> Objective:
    each = targets.expand(2, *targets.shape[-2:]) if targets.dim() == 1 else targets
    batches = [Batch({"input": INPUTS[i : i + 1]}, targets if targets.dim() == 1 else each[i : i + 1]) for i in (0, 1)]
    return Objective(convolution(), loss, batches)


@pytest.mark.parametrize("name", SQUARE)
def test_curvature_where_classes_are_dimension_one(name):
    (loss, targets), _ = SQUARE[name]
    j = jacobian(lambda flat: output(flat).flatten(), START)
    outer = hessian(lambda z: loss(z.view(2, 3, 3), targets), output(START).flatten())
    g = j.T @ outer @ j
    for objective in (Objective(convolution(), loss, INPUTS, targets), in_two(loss, targets)):
        dense = Hessian(objective).dense()
        torch.testing.assert_close(dense, hessian(lambda flat: loss(output(flat), targets), START))
        torch.testing.assert_close(GaussNewton(objective).dense(), g)
        for per_example in (True, False):
            root = gauss_newton_root(objective, per_example=per_example).matrix
            torch.testing.assert_close(root.T @ root, g)
    found = gauss_newton_diagonal(objective, objective.parameters, 200)
    torch.testing.assert_close(found, g.diagonal(), rtol=0.5, atol=0.05 * float(g.diagonal().max()))


@pytest.mark.parametrize(
    "direction",
    [LevenbergMarquardt(), NewtonCG(preconditioner=NoPreconditioner()), Newton()],
    ids=lambda d: type(d).__name__,
)
@pytest.mark.parametrize("name", SQUARE)
def test_second_order_steps_are_those_of_our_own_head_with_classes_last(name, direction):
    (loss, targets), (head, own_targets) = SQUARE[name]
    objectives = (
        in_two(loss, targets),
        Objective(convolution(ClassesLast()), head, INPUTS, own_targets),
    )
    ends = []
    for objective in objectives:
        start = objective.value()
        optimizer = Descent(objective.parameters, direction)
        for _ in range(3):
            optimizer.step(objective)
        assert objective.value() < start
        ends.append(nn.utils.parameters_to_vector(objective.parameters).detach())
    assert not torch.equal(ends[0], START)
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-4)


class ClassesLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1)


def test_a_sum_has_no_certificate():
    objective = Objective(
        nn.Linear(1, 2), nn.CrossEntropyLoss(reduction="sum"), torch.ones(3, 1), torch.tensor([0, 1, 1])
    )
    with pytest.raises(InputError, match='about the mean over targets; take the loss with reduction="mean"'):
        certify(objective)


def test_layouts_are_checked_where_they_are_chosen():
    for options in ({"class_dim": 0}, {"class_dim": 1, "width": 3}):
        with pytest.raises(ValueError, match=r"Softmax\(class_dim=...\) must be -1, or 1 without a layer; got"):
            Softmax(**{"width": None, "num_classes": 2, **options})
