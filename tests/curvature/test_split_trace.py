import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.split_trace import gauss_newton_trace, hessian_trace
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective


class Keywords(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class Twice(nn.Module):
    """One layer called twice, as in a network that goes on in time."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x).tanh())


class Tied(nn.Module):
    """A weight that is used outside of its layer, too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x).tanh() @ self.layer.weight


def softmax_objective(model, l2=0.3):
    batches = [
        Batch({"x": torch.randn(n, 4)}, torch.randint(3, (n,)), torch.arange(n) % 3 > 0, torch.rand(n) + 0.1)
        for n in (7, 4)
    ]
    return Objective(model, Softmax(4, 3), batches, l2=l2)


FITTING = {
    "tanh": lambda: Keywords(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4, bias=False)),
    "relu": lambda: Keywords(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU()),
    "batch norm in evaluation": lambda: Keywords(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)).eval(),
}
OTHERS = {
    "layer norm": lambda: Keywords(nn.Linear(4, 4), nn.LayerNorm(4)),
    "batch norm in training": lambda: Keywords(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Tanh()).train(),
    "one layer twice": Twice,
    "tied weights": Tied,
    "no layer at all": lambda: Keywords(nn.Identity()),
}


@pytest.mark.parametrize("name", FITTING)
def test_gauss_newtons_trace_is_that_of_the_dense_matrix(name, float64):
    objective = softmax_objective(FITTING[name]())
    trace = gauss_newton_trace(objective, objective.parameters)
    torch.testing.assert_close(trace, float(GaussNewton(objective).dense().trace()), rtol=1e-12, atol=0.0)


def test_trace_of_some_parameters(float64):
    objective = softmax_objective(FITTING["tanh"]())
    for choice in ("*bias", "layers.0.weight", "head.*"):
        trace = gauss_newton_trace(objective, objective.choose(choice))
        torch.testing.assert_close(trace, float(GaussNewton(objective, choice).dense().trace()), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_noticed_and_estimated(name, float64):
    objective = softmax_objective(OTHERS[name]())
    if name != "no layer at all":
        assert gauss_newton_trace(objective, objective.parameters) is None
    hessian = Hessian(objective)
    estimate = hessian_trace(hessian, relative_error=0.2)
    assert abs(estimate.value - float(hessian.dense().trace())) <= 5.0 * estimate.standard_error + 1e-9


def test_sequences_are_noticed(float64):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    objective = Objective(model, nn.MSELoss(), torch.randn(5, 6, 3), torch.randn(5, 6, 3))
    assert gauss_newton_trace(objective, objective.parameters) is None


def test_a_trained_network_needs_few_products_and_states_its_error(float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    inputs = torch.randn(200, 4)
    objective = Objective(model, nn.CrossEntropyLoss(), inputs, (inputs @ torch.randn(4, 3)).argmax(1))
    optimizer = torch.optim.Adam(objective.parameters, lr=1e-2)
    for _ in range(150):
        optimizer.step(objective)
    hessian = Hessian(objective)
    exact = float(hessian.dense().trace())
    estimates = [hessian_trace(hessian, relative_error=0.02, seed=seed) for seed in range(20)]
    assert all(estimate.standard_error <= 0.02 * abs(exact) * 1.1 for estimate in estimates)
    assert max(estimate.num_products for estimate in estimates) <= 40
    errors = torch.tensor([(e.value - exact) / e.standard_error for e in estimates])
    assert (errors.abs() < 3.0).float().mean() >= 0.8
    assert torch.tensor([e.value for e in estimates]).mean() == pytest.approx(exact, rel=0.02)


def test_a_noisy_rest_is_left_to_xtrace(float64):
    """Far from a fit the Hessian is not Gauss-Newton's matrix, and its trace may even be near zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    objective = Objective(model, nn.MSELoss(), torch.randn(50, 4), 30.0 * torch.randn(50, 2))
    hessian = Hessian(objective)
    estimate = hessian_trace(hessian, relative_error=1e-3)
    torch.testing.assert_close(estimate.value, float(hessian.dense().trace()), rtol=1e-2, atol=0.0)


def test_numbers_out_of_range_are_refused(float64):
    hessian = Hessian(softmax_objective(FITTING["tanh"]()))
    for keywords, message in (({"relative_error": 0.0}, "got 0.0, 300"), ({"max_products": 3}, "got 0.02, 3")):
        with pytest.raises(ValueError, match=message):
            hessian_trace(hessian, **keywords)
