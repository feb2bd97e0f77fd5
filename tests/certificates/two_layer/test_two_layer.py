"""Two-layer networks: the bound below every network, the reached loss at the bound, and the checker's own opinion."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import nn

from thalweg.certificates.certificate.interval import Proof
from thalweg.certificates.checker.check import prove, proved
from thalweg.certificates.halfspaces.cells import arrange
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.certificates.number_losses import LogisticLoss, SquaredLoss
from thalweg.certificates.two_layer.cell_oracle import CellOracle
from thalweg.certificates.two_layer.column_generation import best_network, descended
from thalweg.certificates.two_layer.fan_oracle import FanOracle
from thalweg.certificates.two_layer.level import certify_point, certify_two_layer, insert_neuron
from thalweg.certificates.two_layer.matrices import positive_part
from thalweg.certificates.two_layer.neurons import Bias, with_bias
from thalweg.certificates.two_layer.oracles import oracle_of
from thalweg.certificates.two_layer.point import TwoLayerPoint, to_mlp, two_layer_point
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights
from thalweg.certificates.two_layer.relaxed_oracle import RelaxedOracle
from thalweg.certificates.two_layer.restricted import RestrictedNetwork
from thalweg.certificates.two_layer.semidefinite import Relaxation
from thalweg.errors import InputError
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.models.mlp import MLP
from thalweg.models.presets import FlatWindow
from thalweg.objective import Objective


def random_weights(rng, problem, width):
    dimension, outputs = problem.features.shape[1], problem.loss.num_outputs
    there = problem.hidden_bias is not Bias.NONE, problem.output_bias is not Bias.NONE
    return Weights(
        rng.normal(size=(width, dimension)),
        there[0] * rng.normal(size=width),
        rng.normal(size=(width, outputs)),
        there[1] * rng.normal(size=outputs),
        problem.skip * rng.normal(size=(dimension, outputs)),
    )


def make_loss(rng, kind, num, outputs):
    if kind == "squared":
        return SquaredLoss(torch.from_numpy(rng.integers(-2, 3, (num, outputs)).astype(float)), count=num)
    if kind == "logistic":
        return LogisticLoss(torch.from_numpy(rng.integers(0, 2, (num, outputs)).astype(float)), count=num)
    return SoftmaxLoss.of_labels(torch.from_numpy(rng.integers(0, outputs, num)), outputs)


@st.composite
def problems(draw):
    """Small problems on a grid (ties, duplicates, collinear points, zero features, one class only) or off it."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    num, dimension = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    grid = draw(st.booleans())
    features = rng.integers(-1, 2, (num, dimension)).astype(float) if grid else rng.normal(size=(num, dimension))
    if draw(st.booleans()):
        features[:, 0] = 0.0
    kind, hidden = draw(st.sampled_from(["squared", "logistic", "softmax"])), draw(st.sampled_from(list(Bias)))
    outputs = draw(st.integers(1, 3)) if kind != "softmax" else 3
    problem = TwoLayerProblem(
        features,
        make_loss(rng, kind, num, outputs),
        draw(st.sampled_from([0.003, 0.03, 0.3])),
        draw(st.sampled_from([0.0, 0.01, -0.5, 1.5])),
        hidden,
        draw(st.sampled_from(list(Bias))),
        skip=draw(st.booleans()),
    )
    return rng, problem


@settings(max_examples=25, phases=[Phase.generate])
@given(problems())
def test_bound_below_optimum_below_loss(data):
    check_bounds(*data)


def test_ties_are_no_reason_to_refuse():
    rng = np.random.default_rng(446)
    features = rng.integers(-1, 2, (9, 2)).astype(float)
    loss = make_loss(rng, "softmax", 9, 3)
    check_bounds(rng, TwoLayerProblem(features, loss, 0.3, -0.5, Bias.PENALIZED, Bias.PENALIZED))


def test_weight_moves_from_a_unit_at_a_wall_to_one_beside_it_within_a_few_rounds():
    features = np.array([[0.5289623291993757], [-1.387083320690272], [-1.411599264663776]])
    loss = SquaredLoss(torch.tensor([[2.0, 0.0], [-1.0, 2.0], [2.0, -2.0]], dtype=torch.float64))
    problem = TwoLayerProblem(features, loss, 0.003, -0.5, Bias.PENALIZED, Bias.NONE, skip=True)
    solution = best_network(problem, oracle_of(problem), max_rounds=12)
    assert solution.objective - solution.bound <= 1e-8 * solution.objective


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("bias", list(Bias))
def test_a_wide_network_trained_by_descent_is_close_to_the_best(bias, skip):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(20, 2)) + 1.0
    loss = SquaredLoss(torch.from_numpy(np.sin(2.0 * features[:, :1])))
    problem = TwoLayerProblem(features, loss, 0.03, -0.1, bias, Bias.PENALIZED, skip)
    best = best_network(problem, oracle_of(problem))
    weights = descended(problem, 60.0, width=20)
    assert best.bound <= problem.objective(weights) <= 1.05 * best.objective
    assert problem.objective(weights) == pytest.approx(problem.objective(problem.balanced(weights)))


@pytest.mark.parametrize(("kind", "outputs"), [("squared", 1), ("logistic", 2)])
def test_the_relaxation_of_a_free_bias_is_below_the_exact_bound_and_close(kind, outputs):
    rng = np.random.default_rng(4)
    features = rng.normal(size=(8, 2)) + 3.0
    problem = TwoLayerProblem(features, make_loss(rng, kind, 8, outputs), 0.1, 0.01)
    best = best_network(problem, oracle_of(problem))
    found = Relaxation(problem).solve(best.weights, 60.0, best.objective, 200)
    assert found is not None
    assert 0.9 * best.objective <= found.bound <= best.objective


def test_a_unit_of_length_zero_is_left_out():
    """Rounding decides whether column generation meets one on this problem, so it is made to."""
    features = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    loss = LogisticLoss(torch.tensor([[1.0], [0.0], [0.0]]))
    problem = TwoLayerProblem(features, loss, 0.003, 0.0, Bias.PENALIZED, Bias.NONE, skip=True)
    linear, ridge, _ = problem.linear
    inputs = with_bias(features, Bias.PENALIZED)
    network = RestrictedNetwork(inputs, problem.array_loss, problem.l2, linear, ridge, width=1, num_sized=4)
    network.add(oracle_of(problem).search(problem.array_loss.residual(np.zeros((3, 1))), problem.l2).neurons)
    network.units[0].z = np.zeros_like(network.units[0].z)
    network.fit_sizes()
    assert np.isfinite(network.objective())


def test_a_network_without_anything_to_move_stays():
    problem = TwoLayerProblem(np.eye(3), LogisticLoss(torch.eye(3)[:, :1]), 10.0, 1.5, Bias.NONE, Bias.NONE)
    linear, ridge, _ = problem.linear
    network = RestrictedNetwork(problem.features, problem.array_loss, 10.0, linear, ridge, width=1, num_sized=3)
    network.polish()
    assert network.objective() == pytest.approx(np.log(2.0))


def check_bounds(rng, problem):
    """The bound lies below every network, without a tolerance; the reached loss at the bound; the checker agrees."""
    oracle = oracle_of(problem)
    point = TwoLayerPoint(problem, random_weights(rng, problem, 3))
    level, solution = certify_point(point, oracle, max_rounds=20 if oracle.exact else 4, seconds=60.0, steps=80)
    assert level.bound <= level.reached <= level.loss == pytest.approx(problem.objective(point.weights))
    for width in (0, 1, 4):
        for size in (0.1, 1.0):
            other = random_weights(rng, problem, width)
            other = dataclasses.replace(other, ingoing=size * other.ingoing, outgoing=size * other.outgoing)
            assert problem.objective(other, balanced=True) >= level.bound
    assert trained(rng, problem, 5) >= level.bound
    if oracle.exact:
        assert solution.objective - level.bound <= 1e-5 * abs(solution.objective) + 1e-6
    found = prove(level.evidence)
    assert found.loss == pytest.approx(level.loss, rel=1e-10)
    assert level.bound <= proved(found)


def trained(rng, problem, width):
    """What L-BFGS from a random start makes of a network, by gradients of its own."""
    start = random_weights(rng, problem, width)
    names = [field.name for field in dataclasses.fields(Weights)]
    shapes = [getattr(start, name).shape for name in names]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    cost = dict.fromkeys(("ingoing", "outgoing", "skip"), problem.l2)
    cost["hidden_bias"] = problem.l2 * (problem.hidden_bias is Bias.PENALIZED)
    cost["output_bias"] = problem.l2 * (problem.output_bias is Bias.PENALIZED)
    free = {"hidden_bias": problem.hidden_bias, "output_bias": problem.output_bias}
    there = {name: free.get(name) is not Bias.NONE and (name != "skip" or problem.skip) for name in names}

    def of(flat):
        parts = [flat[a:b].reshape(shape) for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True)]
        return Weights(*parts)

    def value_and_slope(flat):
        w = of(flat)
        before = problem.features @ w.ingoing.T + w.hidden_bias
        slopes = np.where(before > 0.0, 1.0, problem.leak)
        v = -problem.array_loss.residual(problem.predictions(w))
        back = (v @ w.outgoing.T) * slopes
        slope = {
            "ingoing": back.T @ problem.features, "hidden_bias": back.sum(0),
            "outgoing": (slopes * before).T @ v, "output_bias": v.sum(0), "skip": problem.features.T @ v,
        }  # fmt: skip
        full = [there[name] * (slope[name] + cost[name] * getattr(w, name)) for name in names]
        return problem.objective(w), np.concatenate([part.ravel() for part in full])

    flat = np.concatenate([getattr(start, name).ravel() for name in names])
    return minimize(value_and_slope, flat, jac=True, method="L-BFGS-B", options={"maxiter": 100}).fun


@pytest.mark.parametrize("leak", [0.0, 0.1])
@pytest.mark.parametrize("bias", list(Bias))
def test_oracles_agree_and_bound_every_direction(bias, leak):
    rng = np.random.default_rng(4)
    dimension = 1 if bias is Bias.PENALIZED else 2
    features, residual = rng.integers(-3, 4, (12, dimension)).astype(float), rng.normal(size=(12, 1))
    residual -= residual.mean()
    fan, cells = (kind(features, bias, leak).search(residual, 0.0) for kind in (FanOracle, CellOracle))
    relaxed = RelaxedOracle(features, bias, leak)
    assert fan.bound == pytest.approx(cells.bound, rel=1e-12)
    assert relaxed.signs(residual)[0] >= fan.bound * (1.0 - 1e-12)
    inputs = with_bias(features, bias)
    directions = rng.normal(size=(4000, inputs.shape[1]))
    sized = directions[:, :dimension] if bias is Bias.FREE else directions
    directions /= np.linalg.norm(sized, axis=1, keepdims=True)
    hidden = inputs @ directions.T
    values = np.abs(residual.T @ np.where(hidden > 0, hidden, leak * hidden))
    assert values.max() <= fan.bound * (1.0 + 1e-12)
    for answer in (fan, cells, relaxed.search(residual, 0.0)):
        for neuron in answer.neurons:
            hidden = inputs @ neuron.weights
            image = residual.T @ np.where(hidden > 0, hidden, leak * hidden)
            assert abs(image[0]) == pytest.approx(neuron.value, rel=1e-9)


def test_signs_that_end_early_have_the_bound_of_the_slowest_anchor():
    rng = np.random.default_rng(5)
    features, residual = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    residual -= residual.mean(0)
    oracle = RelaxedOracle(features, Bias.FREE)
    whole = [[max(oracle._relax(oracle._rows_at(int(anchor)), sign * column).bound for sign in (1.0, -1.0))
              for column in residual.T] for anchor in oracle.anchors]  # fmt: skip
    bound, found = oracle.signs(residual)
    assert bound == pytest.approx(np.linalg.norm(np.max(whole, 0)), rel=1e-12)
    assert len(found) == 20 * 2 * 2


@pytest.mark.parametrize("bias", list(Bias))
def test_the_form_of_moments_is_that_of_the_basis(bias):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(9, 6))
    problem = TwoLayerProblem(x, SquaredLoss(torch.from_numpy(rng.normal(size=(9, 2)))), 0.1, 0.2, bias, bias)
    relaxation = Relaxation(problem)
    relaxation.prepare()
    matrix = rng.normal(size=(relaxation.r.stop, relaxation.r.stop))
    matrix += matrix.T
    expected = relaxation.basis.T @ matrix @ relaxation.basis
    np.testing.assert_allclose(relaxation._form(matrix), expected, rtol=0, atol=1e-13 * np.abs(matrix).sum())


@pytest.mark.parametrize("shift", [-100.0, 0.0, 100.0])
def test_positive_part_against_all_eigenvalues(shift):
    matrix = np.random.default_rng(7).normal(size=(12, 12))
    matrix = matrix + matrix.T + shift * np.eye(12)
    values, vectors = positive_part(matrix)
    every, turn = np.linalg.eigh(matrix)
    expected = (turn * np.maximum(every, 0.0)) @ turn.T
    np.testing.assert_allclose((vectors * values) @ vectors.T, expected, atol=1e-12 * (1.0 + abs(shift)))


def test_several_outputs_on_a_fan_against_a_fine_turn():
    rng = np.random.default_rng(0)
    features, residual = rng.normal(size=(15, 2)), rng.normal(size=(15, 3))
    bound = FanOracle(features, Bias.NONE).search(residual, 0.0).bound
    angle = np.linspace(0.0, 2.0 * np.pi, 100_001)
    values = residual.T @ np.maximum(features @ np.stack([np.cos(angle), np.sin(angle)]), 0.0)
    largest = np.sqrt((values**2).sum(0)).max()
    assert largest <= bound <= largest * (1.0 + 1e-3)


@pytest.mark.parametrize(("num", "rank"), [(80, 3), (30, 4), (16, 5)])
def test_a_small_gap_where_cells_are_listed(num, rank):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(num, rank))
    targets = np.tanh(features[:, :1]) + 0.1 * rng.normal(size=(num, 1))
    loss = SquaredLoss(torch.from_numpy(targets), count=1.0)
    oracle = CellOracle(features, Bias.NONE)
    strongest = oracle.search(targets, 0.0).bound  # from here on the empty network is best
    empty = TwoLayerProblem(features, loss, 1.0001 * strongest, 0.0, Bias.NONE, Bias.NONE)
    assert not len(best_network(empty, oracle).weights.ingoing)
    problem = dataclasses.replace(empty, l2=0.2 * strongest)
    solution = best_network(problem, oracle)
    assert 0.0 <= solution.objective - solution.bound <= 1e-8 * solution.objective


def test_the_convex_program_over_all_patterns_has_the_same_value():
    cvxpy = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(0)
    features = rng.integers(-2, 3, (8, 2)).astype(float)
    problem = TwoLayerProblem(features, make_loss(rng, "squared", 8, 1), 0.02, 0.1, Bias.PENALIZED, Bias.NONE)
    inputs = with_bias(features, Bias.PENALIZED)
    total, penalty, constraints = 0, 0, []
    for active in np.unique(arrange(inputs).active(), axis=0):
        for sign in (1.0, -1.0):
            v = cvxpy.Variable(3)
            total = total + sign * cvxpy.multiply(np.where(active, 1.0, 0.1), inputs @ v)
            penalty = penalty + cvxpy.norm(v)
            constraints.append(cvxpy.multiply(np.where(active, 1.0, -1.0), inputs @ v) >= 0)
    loss = cvxpy.sum_squares(total - problem.loss.targets[:, 0].numpy()) / 16
    value = cvxpy.Problem(cvxpy.Minimize(loss + 0.02 * penalty), constraints).solve(solver="CLARABEL")
    solution = best_network(problem, oracle_of(problem))
    assert solution.bound - 1e-7 <= value <= solution.objective + 1e-7


def objective_of(rng, *, activation=nn.ReLU, head=None, outputs=1, penalized="weights", l2=0.01, **options):
    torch.manual_seed(int(rng.integers(1000)))
    model = MLP([2, 4, outputs], activation=activation, **options).double()
    x = torch.from_numpy(rng.normal(size=(11, 2)))
    head = nn.MSELoss() if head is None else head
    if isinstance(head, Softmax):
        y = torch.from_numpy(rng.integers(0, outputs, 11))
    else:
        y = torch.from_numpy(rng.random((11, outputs)))
    chosen = None if penalized == "weights" else list(model.parameters())
    mask = torch.from_numpy(rng.random(11) < 0.8)
    return Objective(model, head, x, y, mask=mask, l2=l2, penalized=chosen)


@pytest.mark.parametrize("penalized", ["weights", "all"])
@pytest.mark.parametrize(
    ("head", "outputs"),
    [(nn.MSELoss(), 2), (Squared(factor=0.5), 1), (Bernoulli(None, 2, label_smoothing=0.1), 2),
     (Softmax(None, 3, label_smoothing=0.1, class_weights=torch.tensor([1.0, 2.0, 0.5])), 3), (Softmax(None, 3), 3)],
)  # fmt: skip
def test_the_objective_is_mapped_exactly(head, outputs, penalized):
    for options in ({}, {"bias": False}, {"input_skip": True}, {"activation": nn.LeakyReLU}):
        check_the_mapping(head, outputs, options, penalized)


def check_the_mapping(head, outputs, options, penalized):
    objective = objective_of(np.random.default_rng(0), head=head, outputs=outputs, penalized=penalized, **options)
    point = two_layer_point(objective)
    assert point.loss == pytest.approx(objective.value().item(), rel=1e-12)
    expected = Bias.NONE if options.get("bias") is False else Bias.FREE if penalized == "weights" else Bias.PENALIZED
    assert point.problem.hidden_bias is expected
    # Balanced, the network predicts the same and its penalty is that of the convex form.
    weights = point.problem.balanced(point.weights)
    assert point.problem.predictions(weights) == pytest.approx(point.problem.predictions(point.weights))
    assert point.problem.objective(weights) <= point.loss + 1e-12
    sizes = (weights.ingoing**2).sum(1) + (weights.hidden_bias**2 if expected is Bias.PENALIZED else 0.0)
    assert sizes == pytest.approx((weights.outgoing**2).sum(1))


def test_a_forecasts_network_is_two_layers():
    rng = np.random.default_rng(0)
    body = MLP([2, 3], activation=nn.LeakyReLU, output_activation=nn.LeakyReLU)
    model, head = FlatWindow(body).double(), Squared(3, 1).double()
    windows, following = torch.from_numpy(rng.normal(size=(30, 2, 1))), torch.from_numpy(rng.normal(size=(30, 1)))
    objective = Objective(model, head, {"features": windows}, following, l2=0.01)
    level = certify_two_layer(objective)
    assert level.loss == pytest.approx(objective.value().item(), rel=1e-12)
    assert level.proof is Proof.PROOF
    assert level.whole
    assert level.relative_gap > (level.reached - level.bound) / level.reached
    assert (level.reached - level.bound) / level.reached < 1e-6


def test_the_last_two_layers_of_a_deeper_network():
    torch.manual_seed(0)
    model = MLP([3, 2, 4, 1], activation=nn.ReLU).double()
    x, y = torch.randn(12, 3).double(), torch.randn(12, 1).double()
    objective = Objective(model, nn.MSELoss(), x, y, l2=0.01)
    level = certify_two_layer(objective)
    assert not level.whole
    assert "with what the earlier layers give them now as input" in level.scope
    assert level.loss == pytest.approx(objective.value().item(), rel=1e-12)
    assert level.bound <= level.reached <= level.loss


def test_the_better_network_goes_into_a_model_and_can_be_pruned():
    rng = np.random.default_rng(1)
    objective = objective_of(rng, activation=nn.LeakyReLU, head=Squared())
    point = two_layer_point(objective)
    level, solution = certify_point(point, oracle_of(point.problem))
    model = to_mlp(solution.weights, 0.01)
    batch = objective.batches[0]
    again = Objective(model, objective.head, [batch], l2=0.01)
    again._positional = True
    assert again.value().item() == pytest.approx(level.reached, rel=1e-12)
    small = point.problem.pruned(solution.weights, 1)
    assert len(small.ingoing) == 1
    assert point.problem.objective(small) >= level.bound
    with pytest.raises(ValueError, match="at least 1"):
        point.problem.pruned(small, 0)


@pytest.mark.parametrize("bias", [True, False])
def test_an_inserted_neuron_lowers_the_loss(bias):
    objective = objective_of(np.random.default_rng(2), bias=bias)
    point = two_layer_point(objective)
    offer = insert_neuron(point, oracle_of(point.problem))
    assert offer.loss < point.loss
    assert point.problem.objective(offer.weights) == pytest.approx(offer.loss)
    assert len(offer.weights.ingoing) == 5
    assert "One more hidden unit would lower the loss" in offer.sentence()


def test_no_neuron_is_offered_at_the_optimum():
    objective = objective_of(np.random.default_rng(2))
    point = two_layer_point(objective)
    solution = best_network(point.problem, oracle_of(point.problem), tolerance=1e-12)
    best = dataclasses.replace(point, weights=solution.weights)
    offer = insert_neuron(best, oracle_of(point.problem))
    assert offer is None or offer.before - offer.loss < 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": nn.Tanh}, "relu or leaky_relu"),
        ({"l2": 0.0}, "L2 penalty in the loss"),
        ({"dropout": 0.5}, "dropout is 0.5"),
    ],
)
def test_what_is_in_the_way_is_told(change, message):
    with pytest.raises(InputError, match=message):
        certify_two_layer(objective_of(np.random.default_rng(0), **change))


def test_other_models_and_nan_are_told():
    x = torch.zeros(3, 2)
    with pytest.raises(InputError, match="must be an MLP"):
        certify_two_layer(Objective(nn.Linear(2, 1), nn.MSELoss(), x, torch.zeros(3, 1), l2=0.1))
    with pytest.raises(InputError, match="NaN or infinity"):
        certify_two_layer(Objective(MLP([2, 2, 1], activation=nn.ReLU), nn.MSELoss(), x * torch.nan, x[:, :1], l2=0.1))
