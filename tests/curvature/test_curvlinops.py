"""Products next to those of curvlinops, on models without layer norm, where it is right."""

import warnings

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature.gauss_newton import EmpiricalFisher, Fisher, GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.objective import Objective

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, when it is imported
    import curvlinops

# Forward differentiation calls PyTorch's own deprecated torch.jit.script when it is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


class Recurrent(nn.Module):
    """Tokens through a table and a GRU; the last state is the prediction."""

    def __init__(self):
        super().__init__()
        self.table, self.gru, self.out = nn.Embedding(6, 3), nn.GRU(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.out(self.gru(self.table(inputs))[0][:, -1])


def tanh():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def relu():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))


def convolution():
    return nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(8, 3)
    )


def numbers(n):
    return torch.randn(n, 4)


def tokens(n):
    return torch.randint(6, (n, 5))


MODELS = {
    "tanh": (tanh, numbers),
    "relu": (relu, numbers),
    "convolution": (convolution, numbers),
    "gru": (Recurrent, tokens),
}
LOSSES = {
    "softmax": (nn.CrossEntropyLoss(), lambda n: torch.randint(3, (n,))),
    "squared": (nn.MSELoss(), lambda n: torch.randn(n, 3)),
    "bernoulli": (nn.BCEWithLogitsLoss(), lambda n: torch.rand(n, 3).round()),
}
CASES = [*[(model, "softmax") for model in MODELS], ("tanh", "squared"), ("gru", "squared"), ("tanh", "bernoulli")]


def problem(case):
    """An objective of two uneven batches, and what curvlinops takes for the same."""
    torch.manual_seed(5)
    (make, inputs), (loss, targets) = MODELS[case[0]], LOSSES[case[1]]
    model = make()
    data = [(inputs(n), targets(n)) for n in (5, 3)]
    objective = Objective(model, loss, [Batch({key(model): x}, y) for x, y in data])
    return objective, (model, loss, objective.parameters, data)


def key(model):
    return "input" if isinstance(model, nn.Sequential) else "inputs"


def dense(operator):
    return operator @ torch.eye(operator.shape[1], dtype=torch.float64)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_gauss_newton_and_exact_fisher(case, float64):
    objective, theirs = problem(case)
    reference = dense(curvlinops.GGNLinearOperator(*theirs))
    torch.testing.assert_close(GaussNewton(objective).dense(), reference, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(Fisher(objective).dense(), reference, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_exact_fisher_is_the_mean_of_sampled_ones(case, float64):
    objective, theirs = problem(case)
    sampled = dense(curvlinops.FisherMCLinearOperator(*theirs, mc_samples=1000))
    exact = Fisher(objective).dense()
    assert (sampled - exact).norm() <= 0.1 * exact.norm()


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_empirical_fisher(case, float64):
    objective, theirs = problem(case)
    reference = dense(curvlinops.EFLinearOperator(*theirs))
    torch.testing.assert_close(EmpiricalFisher(objective).dense(), reference, rtol=1e-9, atol=1e-11)


# It differentiates forward, and fused recurrent kernels have no such derivative.
@pytest.mark.parametrize("case", [case for case in CASES if case[0] != "gru"], ids=" ".join)
def test_hessian(case, float64):
    objective, theirs = problem(case)
    reference = dense(curvlinops.HessianLinearOperator(*theirs))
    torch.testing.assert_close(Hessian(objective).dense(), reference, rtol=1e-9, atol=1e-11)
