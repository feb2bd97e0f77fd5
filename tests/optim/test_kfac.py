"""K-FAC and Sophia: where their steps are known exactly, what they adapt, and what they refuse."""

import copy

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature.diagonal import gauss_newton_diagonal
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.kronecker import Sharing, kronecker_factors
from thalweg.heads.softmax import Softmax
from thalweg.models.presets import ModelOptions, causal_transformer, pooled_lstm
from thalweg.models.shape import ModelShape
from thalweg.objective import Objective
from thalweg.optim.base import Point, Requires
from thalweg.optim.damping import Damping
from thalweg.optim.descent import Descent
from thalweg.optim.kfac import KFAC
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.sophia import Sophia
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status


@pytest.fixture
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def network(seed=0, inputs=4, outputs=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, outputs))


def waves(num=60):
    x = torch.rand(num, 4, generator=torch.Generator().manual_seed(1)) * 2.0 - 1.0
    x = x.to(torch.get_default_dtype())
    return x, torch.sin(3.0 * x[:, :1]) * x[:, 1:2] + x[:, 2:3]


def point_of(objective, groups=()):
    loss, gradients = objective.value_and_gradient()
    gradient = flat(gradients)
    return Point(gradient, gradient, objective.parameters, list(groups), objective, float(loss))


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("head", ["softmax", "squared"])
def test_on_one_layer_and_one_example_the_step_is_gauss_newtons(head):
    torch.manual_seed(2)
    model = nn.Linear(4, 3)
    loss, target = {
        "softmax": (nn.CrossEntropyLoss(), torch.tensor([1])),
        "squared": (nn.MSELoss(), torch.randn(1, 3)),
    }[head]
    objective = Objective(model, loss, torch.randn(1, 4), target)
    direction = KFAC(0.3, corrected=True, num_samples=None, trust=None, momentum=0.0)
    point = point_of(objective)
    found = direction.propose(point, direction.start([])).vector
    matrix = GaussNewton(objective).dense()
    damped = matrix + 0.3 * matrix.trace() / len(matrix) * torch.eye(len(matrix))
    torch.testing.assert_close(found, -torch.linalg.solve(damped, point.gradient), rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("_float64")
def test_a_penalty_is_part_of_the_curvature():
    """Where the network says nothing the penalized step is Newton's: to the penalty's minimum."""
    model = nn.Linear(3, 2, bias=False)
    x = torch.zeros(1, 3)
    objective = Objective(model, nn.MSELoss(), x, torch.zeros(1, 2), l2=0.5)
    direction = KFAC(1e-3, trust=None, momentum=0.0)
    found = direction.propose(point_of(objective), direction.start([])).vector
    torch.testing.assert_close(found, -flat(model.parameters()))


def test_it_needs_fewer_steps_than_lbfgs():
    """The same network, to the same loss; half as many steps at least."""
    x, y = waves()
    steps = {}
    for name, direction, step_size in (
        ("kfac", KFAC(Damping()), Armijo()),
        ("lbfgs", None, StrongWolfe()),
    ):
        model = network()
        objective = Objective(model, nn.MSELoss(), x, y)
        optimizer = Descent(model.parameters(), direction, step_size)
        while optimizer.step(objective) > 1e-3:
            assert optimizer.counts["steps"] < 200
        steps[name] = optimizer.counts["steps"]
    assert 2 * steps["kfac"] <= steps["lbfgs"]


def test_batches_and_a_schedule():
    """On batches it ends lower than AdamW at the best of three rates, in as many steps."""
    x, y = waves(400)
    whole = Objective(network(), nn.MSELoss(), x, y)
    ends = {}
    for name in ("kfac", 1e-2, 3e-2, 1e-1):
        model = network()
        optimizer = (
            Descent(model.parameters(), KFAC(), Fixed())
            if name == "kfac"
            else torch.optim.AdamW(model.parameters(), lr=name, weight_decay=0.0)
        )
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 120)
        for step in range(120):
            rows = torch.randint(400, (50,), generator=torch.Generator().manual_seed(step))
            optimizer.step(Objective(model, nn.MSELoss(), x[rows], y[rows]))
            schedule.step()
        whole.model = model
        ends[name] = float(whole.value())
    assert ends["kfac"] < min(value for name, value in ends.items() if name != "kfac")


def test_a_step_is_no_longer_than_the_trust_in_the_models_norm():
    x, y = waves()
    model = network()
    objective = Objective(model, nn.MSELoss(), x, 100.0 * y)
    point, lengths = point_of(objective), []
    for trust in (None, 1e-2):
        direction = KFAC(1e-6, trust=trust, momentum=0.0, num_samples=None, corrected=True)
        found = direction.propose(point, direction.start([])).vector
        lengths.append(-float(found @ point.gradient))
    assert lengths[0] > 1.0
    # d' (B + mu) d is -g'd for the whole step, and that times the square of what it was shortened by.
    assert lengths[1] == pytest.approx((lengths[0] * 1e-2) ** 0.5, rel=1e-4)


def test_the_damping_adapts():
    x, y = waves()
    model = network()
    objective = Objective(model, nn.MSELoss(), x, y)
    optimizer = Descent(model.parameters(), KFAC(Damping(1.0)))
    assert isinstance(optimizer.step_size, Armijo)
    dampings = []
    for _ in range(10):
        optimizer.step(objective)
        dampings.append(optimizer.state_dict()["state"][0]["direction"]["damping"])
        assert optimizer.status is Status.STEPPED
    assert dampings[-1] < 0.1 * dampings[0]
    assert optimizer.report.gain is not None


def test_a_momentum_that_leads_uphill_is_dropped():
    x, y = waves()
    model = network()
    objective = Objective(model, nn.MSELoss(), x, y)
    optimizer = Descent(model.parameters(), KFAC(momentum=0.99), Armijo())
    optimizer.step(objective)
    memory = next(iter(optimizer.state.values()))["direction"]
    memory["average"] = -100.0 * memory["average"]
    before = float(objective.value())
    optimizer.step(objective)
    assert optimizer.counts["restarts"] == 1
    assert float(objective.value()) < before


@pytest.mark.usefixtures("_float64")
def test_micro_batches_make_the_step_of_the_whole_batch():
    x, y = waves()
    ends = []
    for slices in ([slice(60)], [slice(25), slice(25, 60)]):
        model = network()
        batches = [Batch({"input": x[some]}, y[some]) for some in slices]
        objective = Objective(model, nn.MSELoss(), batches)
        optimizer = Descent(model.parameters(), KFAC(num_samples=None), Fixed())
        for _ in range(3):
            optimizer.step(objective)
        ends.append(flat(model.parameters()))
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


def test_what_is_frozen_stays_and_what_is_thawed_moves():
    x, y = waves()
    model = network()
    model[0].requires_grad_(False)
    objective = Objective(model, nn.MSELoss(), x, y)
    optimizer = Descent(model.parameters(), KFAC(), Fixed())
    before = flat(model[0].parameters())
    for _ in range(3):
        optimizer.step(objective)
    assert torch.equal(flat(model[0].parameters()), before)
    model[0].requires_grad_()
    optimizer.step(objective)
    assert not torch.equal(flat(model[0].parameters()), before)


def test_estimates_and_decompositions_are_made_as_often_as_said():
    x, y = waves()
    model = network()
    objective = Objective(model, nn.MSELoss(), x, y)
    optimizer, seen = Descent(model.parameters(), KFAC(every=2, refresh=6), Fixed()), []
    for _ in range(16):
        optimizer.step(objective)
        memory = optimizer.state_dict()["state"][0]["direction"]
        seen.append((memory["blocks"][0]["left"].clone(), memory["bases"][0]["left_vectors"].clone()))
    changes = [[i for i in range(1, 16) if not torch.equal(seen[i][k], seen[i - 1][k])] for k in (0, 1)]
    assert changes == [[2, 4, 6, 8, 10, 12, 14], [2, 4, 8, 14]]  # early ones sooner


WORDS = ModelShape(vocabulary_size=20, max_length=6)
SMALL = ModelOptions(width=8, hidden=8, layers=1, heads=2, dropout=0.0)


def language_model(head_of):
    torch.manual_seed(3)
    model = causal_transformer(WORDS, SMALL)
    ids = torch.randint(1, 20, (16, 7))
    mask = torch.arange(6) < torch.randint(3, 7, (16, 1))
    return Objective(model, head_of(model), Batch({"tokens": ids[:, :-1]}, ids[:, 1:], mask))


TEXTS = {
    "language model": lambda: language_model(lambda model: Softmax(8, 20)),
    "tied language model": lambda: language_model(lambda model: Softmax(8, 20, tied=model.embedding)),
    "recurrent": lambda: Objective(
        pooled_lstm(WORDS, SMALL),
        Softmax(16, 3),
        {"tokens": torch.arange(1, 13).reshape(4, 3)},
        torch.tensor([0, 1, 2, 0]),
    ),
}


@pytest.mark.parametrize("direction", [KFAC(), KFAC(corrected=True, reduce=True, max_side=8), Sophia()], ids=str)
@pytest.mark.parametrize("name", TEXTS)
def test_text_models_learn(name, direction):
    objective = TEXTS[name]()
    optimizer = Descent(objective.parameters, direction, Fixed(0.02 if isinstance(direction, Sophia) else 1.0))
    start = float(objective.value())
    for _ in range(40):
        optimizer.step(objective)
    assert float(objective.value()) < 0.8 * start


def test_layers_that_come_and_go_keep_their_factors():
    """A layer that some batches do not use loses its factors neither then nor for the parameters' sake."""

    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 1)

        def forward(self, inputs):
            return self.last(torch.tanh((self.first if inputs[0, 0] > 0.0 else self.second)(inputs)))

    model, (x, y) = Either(), waves()
    optimizer = Descent(model.parameters(), KFAC(every=1, refresh=1), Fixed(0.1))
    for sign in (1.0, 1.0, -1.0, 1.0, -1.0):
        optimizer.step(Objective(model, nn.MSELoss(), sign * x[x[:, 0] > 0.0], y[x[:, 0] > 0.0]))
    members = sorted(tuple(block["members"]) for block in optimizer.state_dict()["state"][0]["direction"]["blocks"])
    assert members == [(0, 1), (2, 3), (4, 5)]


def test_a_copy_and_a_state_hold_no_more_than_numbers():
    x, y = waves()
    model = network()
    optimizer = Descent(model.parameters(), KFAC(), Fixed())
    optimizer.step(Objective(model, nn.MSELoss(), x, y))
    assert "gradient" not in optimizer.state_dict()["state"][0]["direction"]
    assert copy.deepcopy(optimizer).counts == optimizer.counts


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KFAC(0.0), r"KFAC\(damping=...\) must be positive and finite; got 0.0"),
        (lambda: KFAC(momentum=1.0), r"KFAC\(momentum=...\) must lie in \[0, 1\); got 1.0"),
        (lambda: KFAC(decay=-0.1), r"KFAC\(decay=...\) must lie in \[0, 1\); got -0.1"),
        (lambda: KFAC(trust=0.0), r"KFAC\(trust=...\) must be positive; got 0.0"),
        (lambda: KFAC(every=0), r"KFAC\(every=...\) must be at least 1; got 0"),
        (lambda: KFAC(num_samples=2**63), "must lie between 1 and 10,000; got 9223372036854775808"),
        (lambda: KFAC(num_samples=0), r"KFAC\(num_samples=...\) must lie between 1 and 10,000; got 0"),
        (lambda: Sophia(momentum=1.0), r"Sophia\(momentum=...\) must lie in \[0, 1\); got 1.0"),
        (lambda: Sophia(rho=0.0), r"Sophia\(rho=...\) must be positive; got 0.0"),
        (lambda: Sophia(every=0), r"Sophia\(every=...\) must be at least 1; got 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_adaptive_damping_asks_for_the_loss_at_the_end():
    assert Requires.END_VALUE in KFAC(Damping()).requires
    assert Requires.END_VALUE not in KFAC().requires


# ---- Sophia ----


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("hessian", [False, True], ids=["gauss-newton", "hessian"])
def test_sophias_step_is_the_clipped_quotient(hessian):
    """On a separable quadratic both diagonals are exact."""
    model = nn.Linear(3, 1, bias=False)
    x = torch.diag(torch.tensor([0.1, 1.0, 3.0]))
    objective = Objective(model, nn.MSELoss(), x, torch.ones(3, 1))
    direction = Sophia(rho=0.5, hessian=hessian)
    point = point_of(objective)
    diagonal = GaussNewton(objective).dense().diagonal()
    torch.testing.assert_close(gauss_newton_diagonal(objective, objective.parameters), diagonal)
    expected = -(point.gradient / (0.5 * diagonal)).clamp(-1.0, 1.0)
    torch.testing.assert_close(direction.propose(point, direction.start([])).vector, expected)
    assert expected.abs().max() == 1.0
    assert expected.abs().min() < 1.0


def test_sophia_goes_by_the_sign_where_there_is_no_curvature():
    model = nn.Linear(2, 1, bias=False)
    objective = Objective(model, nn.MSELoss(), torch.tensor([[0.0, 1.0]]), torch.ones(1, 1))
    direction, state = Sophia(), {"num_steps": 1, "average": torch.tensor([1e-9, 0.0]), "diagonal": torch.zeros(2)}
    assert direction.propose(point_of(objective), state).vector[0] == -1.0


def test_sharing_reaches_the_factors():
    torch.manual_seed(0)
    x, y = torch.randn(6, 5, 4), torch.randn(6, 5, 1)
    objective = Objective(nn.Linear(4, 1), nn.MSELoss(), x, y)
    states = []
    for reduce in (False, True):
        direction = KFAC(reduce=reduce)
        direction.propose(point_of(objective), state := direction.start([]))
        states.append(state["blocks"][0]["right"])
    (block,) = kronecker_factors(objective, objective.parameters, num_samples=1, sharing=Sharing.REDUCE)
    assert torch.equal(states[1], block.right)
    assert not torch.allclose(*states)
