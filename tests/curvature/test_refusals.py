"""Wrong or missing second derivatives are refused, with the module's name; nothing wrong gets out."""

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from thalweg.curvature.culprit import CurvatureError
from thalweg.curvature.gauss_newton import EmpiricalFisher, Fisher, GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.errors import InputError
from thalweg.objective import Objective

pytestmark = pytest.mark.usefixtures("float64")


class ForgetfulTanh(torch.autograd.Function):
    """Its backward pass takes what it saved for a constant: the gradient is right, the Hessian is not."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (1.0 - x.detach().tanh() ** 2)


class OnceOnly(ForgetfulTanh):
    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (1.0 - x.tanh() ** 2)


class WrongGradient(torch.autograd.Function):
    """Its gradient is no gradient at all."""

    @staticmethod
    def forward(ctx, x):
        return x.tanh()

    @staticmethod
    def backward(ctx, grad):
        return grad


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


class Reentrant(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return checkpoint(self.layer, x, use_reentrant=True)


class Unseeded(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.rand_like(x)


def objective_with(module):
    model = nn.Sequential(nn.Linear(3, 4), module, nn.Linear(4, 3))
    return Objective(model, nn.CrossEntropyLoss(), torch.randn(9, 3), torch.randint(3, (9,)))


REFUSED = {
    "wrong second derivative": (
        Hessian,
        lambda: Applied(ForgetfulTanh),
        r"differs from a difference of gradients by .* is wrong, probably in '1' \(Applied\)",
    ),
    "missing second derivative": (Hessian, lambda: Applied(OnceOnly), r"probably in '1' \(Applied\)"),
    "missing, Gauss-Newton": (GaussNewton, lambda: Applied(OnceOnly), r"probably in '1' \(Applied\)"),
    "not implemented": (Hessian, nn.Hardsigmoid, r"twice, probably in '1' \(Hardsigmoid\)\. PyTorch says"),
    "not implemented, Gauss-Newton": (GaussNewton, nn.Hardsigmoid, r"probably in '1' \(Hardsigmoid\)\. PyTorch says"),
    "wrong first derivative": (Hessian, lambda: Applied(WrongGradient), r"not symmetric|differs"),
    "wrong first derivative, Gauss-Newton": (
        GaussNewton,
        lambda: Applied(WrongGradient),
        "differs from a difference of predictions",
    ),
    "inside a block": (Hessian, lambda: nn.Sequential(nn.Tanh(), Applied(ForgetfulTanh)), r"in '1\.1' \(Applied\)"),
    "reentrant checkpoint": (
        Hessian,
        Reentrant,
        r"cannot be differentiated twice.*Checkpoint with use_reentrant=False",
    ),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("case", REFUSED)
def test_wrong_curvature_is_refused_by_name(case):
    make, module, message = REFUSED[case]
    operator = make(objective_with(module()))
    for _ in range(2):  # asking again doesn't help
        with pytest.raises(CurvatureError, match=message):
            operator @ torch.randn(operator.size)


def test_without_the_check_the_wrong_number_can_be_looked_at():
    objective = objective_with(Applied(ForgetfulTanh))
    assert Hessian(objective, check=False).dense().isfinite().all()


@pytest.mark.parametrize("make", [Hessian, GaussNewton, Fisher, EmpiricalFisher])
def test_dropout_is_refused_with_what_to_do(make):
    objective = objective_with(nn.Dropout(0.5))
    with pytest.raises(InputError, match=r"dropout is active in '1'\. Call model\.eval\(\) first"):
        make(objective).dense()
    objective.model.eval()
    assert make(objective).dense().isfinite().all()


@pytest.mark.parametrize("seed", [3, 24])  # two draws that sum up to about the same loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_is_refused_in_every_type_and_by_every_draw(dtype, seed):
    torch.set_default_dtype(torch.float32)  # put back by the fixture
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3)).to(dtype)
    inputs, targets = torch.randn(64, 16).to(dtype), torch.randint(3, (64,))
    torch.randn(643)
    objective = Objective(model, nn.CrossEntropyLoss(), inputs, targets)
    with pytest.raises(InputError, match=r"dropout is active in '2'"):
        objective.require_determinism()


class Attending(nn.Module):
    """Attention in a checkpoint: the kernel must be the same when it is computed again."""

    def forward(self, x):
        x = x.reshape(1, 1, *x.shape)
        return checkpoint(nn.functional.scaled_dot_product_attention, x, x, x, use_reentrant=False)[0, 0]


class Plain(nn.Module):
    def forward(self, x):
        return torch.softmax(x @ x.T / x.shape[-1] ** 0.5, -1) @ x


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_attention_in_a_checkpoint_has_curvature(kind):
    torch.manual_seed(0)
    objective = objective_with(Attending())
    matrix = kind(objective).dense()
    objective.model[1] = Plain()
    torch.testing.assert_close(matrix, kind(objective).dense())


def test_other_randomness_is_refused_too():
    with pytest.raises(InputError, match="something in it draws random numbers"):
        Hessian(objective_with(Unseeded())).dense()


def test_a_loss_that_is_no_number_is_refused():
    objective = objective_with(nn.Tanh())
    with torch.no_grad():
        objective.parameters[0][0, 0] = torch.nan
    with pytest.raises(InputError, match="The loss is nan at these parameters"):
        Hessian(objective).dense()


def test_an_objective_without_parameters_is_refused():
    objective = Objective(nn.Identity(), nn.MSELoss(), torch.ones(2, 1), torch.ones(2, 1))
    with pytest.raises(ValueError, match="neither the model nor the head has a trainable parameter"):
        Hessian(objective)


@pytest.mark.parametrize("kind", [Hessian, GaussNewton, EmpiricalFisher])
def test_a_model_that_changes_its_parameters_is_refused(kind):
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=0.5), nn.Flatten(), nn.Linear(6, 3))
    objective = Objective(model, nn.CrossEntropyLoss(), torch.randint(5, (4, 2)), torch.randint(3, (4,)))
    with pytest.raises(CurvatureError, match=r"changes its own parameters .* nn.Embedding\(max_norm=...\)"):
        kind(objective).dense()


class Single(nn.Module):
    """Computes in single precision inside, whatever comes in, as the normalizations of many language models do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.float()).to(x.dtype)


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_single_precision_inside_is_not_taken_for_a_wrong_derivative(kind):
    torch.manual_seed(0)
    objective = objective_with(Single(nn.Tanh()))
    matrix = kind(objective).dense()
    objective.model[1] = nn.Tanh()
    torch.testing.assert_close(matrix, kind(objective).dense(), rtol=1e-4, atol=1e-6)


def test_a_wrong_derivative_in_single_precision_is_refused():
    torch.manual_seed(0)
    with pytest.raises(CurvatureError, match="a second derivative is wrong"):
        Hessian(objective_with(Single(Applied(ForgetfulTanh)))).dense()
