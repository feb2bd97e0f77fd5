"""Slices through the loss against exact quadratics, closed forms and filters scaled by hand."""

import math

import pytest
import torch
from torch import nn

from thalweg.diagnosis.slices import between, filter_normalized, landscape
from thalweg.errors import InputError
from thalweg.objective import Objective

pytestmark = pytest.mark.usefixtures("float64")


def quadratic(weight=(3.0, -2.0)):
    """Half of 4 a^2 + b^2, in the weights (a, b), as a mean of squares: rows (2, 0) and (0, 1)."""
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weight]))
    return Objective(model, nn.MSELoss(), torch.diag(torch.tensor([2.0, 1.0])), torch.zeros(2, 1))


def network(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2))
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    return Objective(model, nn.CrossEntropyLoss(), x, torch.arange(8) % 2)


def test_plane_along_given_directions_is_the_quadratic_itself():
    axes = [[torch.tensor([[1.0, 0.0]])], [torch.tensor([[0.0, 1.0]])]]
    found = landscape(quadratic(), axes, span=2.0, points=5)
    assert found.places == ((-2.0, -1.0, 0.0, 1.0, 2.0),) * 2
    for b, row in zip(found.places[1], found.losses, strict=True):
        for a, loss in zip(found.places[0], row, strict=True):
            assert loss == pytest.approx(0.5 * (4.0 * (3.0 + a) ** 2 + (b - 2.0) ** 2))
    assert found.loss == found.losses[2][2] == 20.0


@pytest.mark.parametrize(("name", "curvature"), [("largest", 4.0), ("smallest", 1.0)], ids=["largest", "smallest"])
def test_line_along_an_eigenvector_has_its_eigenvalue_as_curvature(name, curvature):
    found = landscape(quadratic((0.0, 0.0)), [name], points=3)
    left, middle, right = found.losses[0]
    (length,) = found.lengths
    assert (left - 2.0 * middle + right) / length**2 == pytest.approx(curvature)


def test_line_along_the_gradient_has_its_slope():
    objective = quadratic()
    found = landscape(objective, ["gradient"], points=3, span=0.5)
    left, _, right = found.losses[0]
    slope = math.hypot(12.0, -2.0)
    assert (right - left) / found.lengths[0] == pytest.approx(slope)
    assert max(left, right) <= 20.0 + 1.0  # the length is such that the loss rises by no more than 1


def test_filters_are_scaled_to_the_norms_of_the_weights():
    weight, bias = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]), torch.tensor([5.0])
    drawn = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    scaled, zero = filter_normalized([drawn, torch.ones(1)], [weight, bias])
    torch.testing.assert_close(scaled, torch.tensor([[5.0, 0.0], [1.2, 1.6], [0.0, 0.0]]))
    assert zero.tolist() == [0.0]
    still, _ = filter_normalized([torch.zeros(3, 2), bias], [weight, bias])
    assert still.abs().sum() == 0.0


def test_random_direction_has_the_filters_of_the_weights_and_depends_on_the_seed():
    found = landscape(quadratic(), ["random"], points=3)
    assert found.lengths[0] == pytest.approx(math.hypot(3.0, 2.0))  # one filter
    assert landscape(quadratic(), ["random"], points=3) == found
    assert landscape(quadratic(), ["random"], points=3, seed=1).losses != found.losses


def test_path_lies_on_the_plane_of_its_components():
    ways = {"start": [torch.tensor([[4.0, -2.0]])], "middle": [torch.tensor([[3.5, -1.0]])]}
    objective = quadratic()
    found = landscape(objective, ["path", "path-2"], path=ways, span=1.25, points=3)
    assert [place.name for place in found.path] == ["start", "middle"]
    for place in found.path:
        assert place.away == pytest.approx(0.0, abs=1e-12)
        assert max(map(abs, place.at)) <= 1.0 + 1e-12
    assert found.path[0].loss == pytest.approx(0.5 * (64.0 + 4.0))
    square = sum((at * length) ** 2 for at, length in zip(found.path[1].at, found.lengths, strict=True))
    assert square == pytest.approx(0.25 + 1.0)  # the components are orthogonal


def test_path_beside_a_line_says_how_far_away_it_is():
    found = landscape(quadratic(), [[torch.tensor([[2.0, 0.0]])]], path={"x": [torch.tensor([[4.0, 1.0]])]}, points=3)
    assert found.path[0].at == pytest.approx((0.5,))
    assert found.path[0].away == pytest.approx(3.0)


def test_losses_that_are_not_finite_are_gaps():
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    objective = Objective(model, nn.MSELoss(), torch.ones(1, 1), torch.zeros(1, 1))
    found = landscape(objective, [[torch.tensor([[1e200]])]], points=3)
    assert found.losses == ((None, 1.0, None),)


def test_everything_is_put_back_bit_for_bit():
    other, objective = network(1), network()
    objective.model.train()
    objective()
    tensors = [t for part in objective.every_tensor() for t in part]
    before = [t.detach().clone() for t in tensors]
    grads = [t.grad.clone() for t in objective.parameters]
    state = torch.get_rng_state()
    landscape(objective, ["largest", "random"], points=3)
    landscape(objective, ["gradient"], points=3)
    between(objective, other, points=3)
    with pytest.raises(InputError, match="path"):
        landscape(objective, ["path"], points=3)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))
    assert all(torch.equal(a, b.grad) for a, b in zip(grads, objective.parameters, strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training for module in objective.model.modules())


def test_barrier_of_a_double_well_is_its_hill():
    """(w^2 - 1)^2 has wells at -1 and 1 and a hill of 1 between them."""

    class Square(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[value]]))

        def forward(self, inputs):
            return inputs * self.weight**2

    first, second, higher = (
        Objective(Square(value), nn.MSELoss(), torch.ones(1, 1), torch.ones(1, 1)) for value in (-1.0, 1.0, 2.0)
    )
    found = between(first, second, points=5)
    assert found.losses == pytest.approx((0.0, 0.5625, 1.0, 0.5625, 0.0))
    assert (found.barrier, found.instability, found.distance) == pytest.approx((1.0, 1.0, 2.0))
    uneven = between(first, higher, points=61)
    t = torch.linspace(0.0, 1.0, 61)
    losses = ((3.0 * t - 1.0) ** 2 - 1.0) ** 2
    assert uneven.barrier == pytest.approx(float((losses - t * 9.0).max()))
    assert uneven.instability == pytest.approx(4.5)


def test_convex_loss_has_no_barrier_and_an_infinite_one_is_told():
    assert between(quadratic(), quadratic((-1.0, 5.0))).barrier == pytest.approx(0.0, abs=1e-12)
    far = quadratic((1e200, 0.0))
    found = between(quadratic(), far, points=3)
    assert found.losses[0] == 20.0
    assert found.losses[1:] == (None, None)
    assert found.barrier == math.inf
    assert found.to_json()["barrier"] is None


def test_buffers_move_along_so_that_both_ends_are_the_networks():
    first, second = network(), network(1)
    with torch.no_grad():
        second.model[1].running_mean.fill_(0.5)
    for objective in (first, second):
        objective.model.eval()
    found = between(first, second, points=3)
    assert found.losses[0] == float(first.value())
    assert found.losses[-1] == float(second.value())


WRONG = {
    "direction": ({"directions": ["up"]}, r"knows .*; got 'up'"),
    "three": ({"directions": ["random"] * 3}, "takes one direction or two; got 3"),
    "points": ({"points": 4}, "must be odd and at least 3; got 4"),
    "span": ({"span": 0.0}, "must be above zero; got 0.0"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused(case):
    arguments, message = case
    with pytest.raises(ValueError, match=message):
        landscape(quadratic(), **arguments)


def test_lines_that_are_none_are_refused():
    line = {"start": [torch.tensor([[4.0, -2.0]])]}
    with pytest.raises(InputError, match="needs other weights than the present ones"):
        landscape(quadratic(), ["path"])
    with pytest.raises(InputError, match="lies on a line, so it has no component 2"):
        landscape(quadratic(), ["path", "path-2"], path=line)
    with pytest.raises(InputError, match="'gradient' is zero"):
        landscape(quadratic((0.0, 0.0)), ["gradient"])
    wide = Objective(nn.Linear(2, 2, bias=False), nn.MSELoss(), torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(InputError, match=r"'model.weight' has shape \[1, 2\] in one and \[2, 2\]"):
        between(quadratic(), wide)
    with pytest.raises(InputError, match="only one of them has 'model"):
        between(quadratic(), network())
    with pytest.raises(ValueError, match="at least 3; got 2"):
        between(quadratic(), quadratic(), points=2)
