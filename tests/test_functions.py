"""Functions of tensors as objectives, against automatic differentiation and SciPy, and what is refused."""

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn
from torch.func import functional_call

from thalweg.batch import Batch
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.lanczos import extreme_eigenvalues
from thalweg.curvature.split_trace import hessian_trace
from thalweg.errors import InputError
from thalweg.functions import as_objective
from thalweg.heads.softmax import Softmax
from thalweg.optim.base import AbstractDirection, AbstractStepSize
from thalweg.optim.descent import Descent
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo
from thalweg.optim.newton import Newton
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.preconditioner import NoPreconditioner
from thalweg.optim.quasi_newton import BFGS, SelfScaledBFGS, SelfScaledBroyden
from thalweg.optim.trust_region import TrustRegion
from thalweg.optim.wolfe import StrongWolfe

pytestmark = pytest.mark.usefixtures("float64")

START = torch.tensor([-1.2, 1.0], dtype=torch.float64)


def residuals(x):
    return torch.stack([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0], 0.3 * (x[0] * x[1]).sin()])


def half_squares(x):
    return 0.5 * residuals(x).square().sum()


# How variables are given, how they come back, and the function of one vector made a function of them.
FORMS = {
    "tensor": (START, torch.Tensor, half_squares, ["x"]),
    "array": (START.numpy(), torch.Tensor, half_squares, ["x"]),
    "numbers": ([-1.2, 1.0], torch.Tensor, half_squares, ["x"]),
    "list": ([START[0], START[1:]], list, lambda v: half_squares(torch.cat([v[0].reshape(1), v[1]])), ["0", "1"]),
    "tuple": ((-1.2, START[1]), tuple, lambda v: half_squares(torch.stack(v)), ["0", "1"]),
    "dict": ({"a": -1.2, "b": 1.0}, dict, lambda v: half_squares(torch.stack([v["a"], v["b"]])), ["a", "b"]),
    "dots": (
        {"0.a": -1.2, "0.b.c": 1.0},
        dict,
        lambda v: half_squares(torch.stack(list(v.values()))),
        ["0.a", "0.b.c"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_variables_keep_their_form_and_are_left_alone(form):
    variables, kind, function, names = FORMS[form]
    objective = as_objective(function, variables)
    x = START.clone().requires_grad_()
    expected = half_squares(x)
    (slope,) = torch.autograd.grad(expected, x)
    value, gradient = objective.value_and_gradient()
    assert torch.equal(value, expected.detach())
    assert torch.equal(torch.cat([part.reshape(-1) for part in gradient]), slope)
    assert [name for name, _ in objective.named_parameters()] == names
    Descent(objective.parameters, LBFGS(), StrongWolfe()).step(objective)
    own = objective.model.variables
    assert isinstance(own, kind)
    assert kind is not dict or list(own) == names
    assert torch.equal(START, torch.tensor([-1.2, 1.0]))
    moved = torch.cat([tensor.detach().reshape(-1) for tensor in objective.parameters])
    assert half_squares(moved) < expected.detach()
    assert torch.equal(objective.value(), half_squares(moved))


@pytest.mark.parametrize("scheme", [False, True])
def test_the_hessian_is_that_of_the_function(scheme):
    objective = as_objective(residuals if scheme else half_squares, START, residuals=scheme, l2=0.1)
    expected = torch.autograd.functional.hessian(half_squares, START) + 0.1 * torch.eye(2)
    hessian = Hessian(objective)
    torch.testing.assert_close(hessian.dense(), expected)
    values = torch.linalg.eigvalsh(expected)
    torch.testing.assert_close(extreme_eigenvalues(hessian, num_largest=1).largest, values[-1:])
    assert hessian_trace(hessian).value == pytest.approx(float(values.sum()), rel=1e-6)
    torch.testing.assert_close(objective.value(), half_squares(START) + 0.05 * START.square().sum())


def test_residuals_have_a_gauss_newton_matrix():
    jacobian = torch.func.jacrev(residuals)(START)
    objective = as_objective(residuals, START, residuals=True)
    torch.testing.assert_close(GaussNewton(objective).dense(), jacobian.T @ jacobian)
    # Any shape is a list of residuals.
    shaped = as_objective(lambda x: residuals(x).reshape(1, 3, 1), START, residuals=True)
    torch.testing.assert_close(GaussNewton(shaped).dense(), jacobian.T @ jacobian)
    single = as_objective(lambda x: residuals(x)[0], START, residuals=True)
    torch.testing.assert_close(GaussNewton(single).dense(), torch.outer(jacobian[0], jacobian[0]))


def test_predictions_have_the_curvature_of_their_head():
    x, y = torch.randn(12, 3), torch.randint(4, (12,))
    weight = torch.randn(4, 3)
    objective = as_objective(lambda w: x @ w.T, weight, head=Softmax(None, None), targets=y)

    def loss(w):
        return nn.functional.cross_entropy(x @ w.reshape(4, 3).T, y)

    expected = torch.autograd.functional.hessian(loss, weight.reshape(-1))
    torch.testing.assert_close(objective.value(), loss(weight))
    torch.testing.assert_close(Hessian(objective).dense(), expected)
    torch.testing.assert_close(GaussNewton(objective).dense(), expected)  # the predictions are linear
    # Some of the rows, in another order.
    rows = torch.tensor([5, 0, 7])
    part = objective.on(Batch({"rows": rows}, y[rows]))
    torch.testing.assert_close(part.value(), nn.functional.cross_entropy(x[rows] @ weight.T, y[rows]))
    shuffled = torch.randperm(12)
    whole = objective.on(Batch({"rows": shuffled}, y[shuffled]))
    torch.testing.assert_close(whole.value(), loss(weight))


def test_levenberg_marquardt_finds_what_scipy_finds():
    t = torch.linspace(0.0, 3.0, 15)
    y = 2.0 * (-0.7 * t).exp() + 0.3 + 0.05 * torch.randn(15)

    def fit(v):
        return v["a"] * (-v["rate"] * t).exp() + v["c"] - y

    objective = as_objective(fit, {"a": 1.0, "rate": 1.0, "c": 0.0}, residuals=True)
    optimizer = Descent(objective.parameters, LevenbergMarquardt(), tolerance=1e-10)
    while optimizer.status.continues:
        optimizer.step(objective)

    def array(v):
        return fit(dict(zip(("a", "rate", "c"), torch.as_tensor(v), strict=True))).numpy()

    reference = scipy.optimize.least_squares(array, [1.0, 1.0, 0.0], xtol=1e-12, ftol=1e-12, gtol=1e-12)
    assert float(objective.value()) == pytest.approx(reference.cost, rel=1e-10)
    found = [float(objective.model.variables[name].detach()) for name in ("a", "rate", "c")]
    np.testing.assert_allclose(found, reference.x, rtol=1e-5)


DIRECTIONS: list[tuple[AbstractDirection, AbstractStepSize, bool]] = [
    (BFGS(), StrongWolfe(), False),
    (LBFGS(), Armijo(), False),
    (SelfScaledBFGS(), StrongWolfe(), False),
    (SelfScaledBroyden(), StrongWolfe(), False),
    (Newton(), Armijo(), False),
    (Newton(), TrustRegion(), False),
    (NewtonCG(Hessian, preconditioner=NoPreconditioner()), TrustRegion(), False),
    (NewtonCG(), Armijo(), True),
    (LevenbergMarquardt(), Armijo(), True),
    (LevenbergMarquardt(), TrustRegion(), True),
]


@pytest.mark.parametrize(("direction", "step_size", "squares"), DIRECTIONS, ids=str)
def test_every_direction_works_on_functions(direction, step_size, squares):
    objective = as_objective(residuals if squares else half_squares, START, residuals=squares)
    optimizer = Descent(objective.parameters, direction, step_size, tolerance=1e-7)
    for _ in range(150):
        optimizer.step(objective)
        if not optimizer.status.continues:
            break
    best = scipy.optimize.minimize(lambda v: float(half_squares(torch.as_tensor(v))), START.numpy(), tol=1e-12)
    assert float(objective.value()) == pytest.approx(best.fun, rel=1e-6)


def test_a_function_may_differentiate_inside():
    """The equation u' = -u with u(0) = 1."""
    times = torch.linspace(0.0, 1.0, 9)

    def equation(p):
        t = times.clone().requires_grad_()
        u = 1.0 + t * (torch.tanh(t[:, None] * p["w"] + p["b"]) @ p["v"])
        (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        return slope + u

    start = {name: 0.5 * torch.randn(4) for name in "wbv"}
    objective = as_objective(equation, start, residuals=True)

    def of_vector(flat):
        return 0.5 * equation(dict(zip("wbv", flat.split(4), strict=True))).square().sum()

    flat = torch.cat(list(start.values()))
    torch.testing.assert_close(objective.value(), of_vector(flat))
    expected = torch.autograd.functional.hessian(of_vector, flat)
    torch.testing.assert_close(Hessian(objective).dense(), expected)
    before = float(objective.value())
    optimizer = Descent(objective.parameters, LevenbergMarquardt())
    for _ in range(8):
        optimizer.step(objective)
    assert float(objective.value()) < 1e-3 * before


def test_numbers_of_single_precision_around_the_function_stay_so():
    matrix = torch.randn(5, 3, dtype=torch.float32)
    start = torch.zeros(3, dtype=torch.float32)
    objective = as_objective(lambda x: matrix @ x - 1.0, start, residuals=True)
    torch.testing.assert_close(Hessian(objective).dense(), matrix.T @ matrix)
    torch.testing.assert_close(GaussNewton(objective).dense(), matrix.T @ matrix)


def test_a_model_is_a_function_of_its_parameters():
    model, x = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)), torch.randn(6, 3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    named = dict(model.named_parameters())
    objective = as_objective(lambda p: functional_call(model, p, (x,)), named, head=nn.MSELoss(), targets=x[:, :1])
    assert [name for name, _ in objective.named_parameters()] == list(named)
    assert len(objective.choose("2.*")) == 2
    Descent(objective.parameters, LBFGS()).step(objective)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_module_as_the_function_keeps_its_parameters_out():
    module = nn.Linear(2, 1).requires_grad_(False)
    objective = as_objective(module, START)
    assert [name for name, _ in objective.named_parameters()] == ["x"]


def test_evaluations_are_counted():
    calls = []
    objective = as_objective(lambda x: calls.append(0) or residuals(x), START, residuals=True)
    objective.value()
    objective()
    assert (objective.num_values, objective.num_gradients) == (2, 1)  # one to count the residuals
    assert len(calls) == 3


@pytest.mark.parametrize(
    "use",
    [
        lambda objective: GaussNewton(objective).dense(),
        lambda objective: Descent(objective.parameters, LevenbergMarquardt()).step(objective),
        lambda objective: Descent(objective.parameters, NewtonCG()).step(objective),
    ],
)
def test_a_number_has_no_gauss_newton_matrix(use):
    with pytest.raises(InputError, match=r"no Gauss-Newton matrix: give as_objective.*residuals=True"):
        use(as_objective(half_squares, START))


OTHERS = nn.Linear(2, 1).double()
REFUSED = {
    "several numbers": (lambda x: x, START, "must return one number; got a float64 tensor of shape .2.. For a sum"),
    "a Python number": (lambda x: x.sum().item(), START, "must return a real tensor.*; got a float"),
    "nothing": (lambda _: None, START, "must return a real tensor.*; got None"),
    "whole numbers": (lambda x: x.sum().long(), START, "must return a real tensor.*; got a int64 tensor"),
    "no graph": (lambda x: torch.tensor(x.sum().item()), START, "no graph back to its variables"),
    "parameters of others": (lambda x: OTHERS(x).sum(), START, "depends on 2 trainable parameters .* closes over"),
    "whole variables": (torch.sum, torch.tensor([1, 2]), "'x' must have a real floating type; got a int64"),
    "complex variables": (torch.sum, torch.ones(2, dtype=torch.complex64), "view_as_real"),
    "no variables": (sum, [], "There are no variables"),
    "a word": (torch.sum, "start", "'x' must be a tensor, a NumPy array or a number; got a str"),
    "lists in lists": (sum, [[START], START], "'0' must be a tensor, a NumPy array or a number; got a list"),
    "numbers as keys": (sum, {1: START}, "has strings as keys; got .1."),
    "a name that is taken": (sum, {"forward": START}, "'forward' cannot be the name of a variable"),
    "a name inside another": (sum, {"a": START, "a.b": START}, "'a.b' cannot be the name of a variable"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_function_of_variables_is_refused(case):
    function, variables, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        as_objective(function, variables)()


def test_a_head_and_its_targets_belong_together():
    with pytest.raises(ValueError, match=r"as_objective\(targets=...\) belongs to a head"):
        as_objective(residuals, START, targets=torch.zeros(3))
    with pytest.raises(ValueError, match=r"as_objective\(head=...\) needs targets"):
        as_objective(residuals, START, head=nn.MSELoss())
    with pytest.raises(InputError, match="must return at least one residual; got none"):
        as_objective(lambda x: x[:0], START, residuals=True)
    with pytest.raises(ValueError, match="residuals=True or a head, not both"):
        as_objective(residuals, START, residuals=True, head=nn.MSELoss(), targets=torch.zeros(3))
    with pytest.raises(InputError, match=r"must return a tensor of 4 rows.*; got a float64 tensor of shape .3."):
        as_objective(residuals, START, head=nn.MSELoss(), targets=torch.zeros(4)).value()
