"""The self-check refuses no right derivative: padding, kinks, scales, buffers, types; and still each wrong one."""

import pytest
import torch
from torch import nn

from thalweg.curvature.agreement import Verdict, compare, settled
from thalweg.curvature.culprit import CurvatureError
from thalweg.curvature.diagonal import gauss_newton_diagonal
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian, Scheme
from thalweg.curvature.root import gauss_newton_root
from thalweg.curvature.split_trace import hessian_trace
from thalweg.objective import Objective


class TextCNN(nn.Module):
    """The largest output over time, padding not masked."""

    def __init__(self):
        super().__init__()
        self.table, self.convolution = nn.Embedding(9, 4, padding_idx=0), nn.Conv1d(4, 5, 3)
        self.output = nn.Linear(5, 3)

    def forward(self, tokens):
        return self.output(torch.relu(self.convolution(self.table(tokens).transpose(1, 2))).amax(2))


class LastState(nn.Module):
    """An LSTM that reads the padding."""

    def __init__(self):
        super().__init__()
        self.table, self.layers = nn.Embedding(9, 4, padding_idx=0), nn.LSTM(4, 3, batch_first=True)

    def forward(self, tokens):
        return self.layers(self.table(tokens))[0][:, -1]


class Tied(nn.Module):
    """Words and output share a table with a padding row."""

    def __init__(self):
        super().__init__()
        self.table, self.output = nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 9)
        self.output.weight = self.table.weight

    def forward(self, tokens):
        return self.output(torch.tanh(self.table(tokens)).mean(1))


class Single(nn.Module):
    """Names its type wherever one can be named."""

    def __init__(self, inner):
        super().__init__()
        self.first, self.inner, self.constant = nn.Linear(4, 5), inner, torch.randn(5, 3)

    def forward(self, x):
        x = self.inner(self.first(x.float()).to(torch.float32))
        x = x + torch.zeros(x.shape, dtype=torch.float32)
        return (torch.softmax(x, -1, dtype=torch.float32) @ self.constant).float()


class OnlySingle(nn.Module):
    """Refuses every other type, as some kernels do."""

    def __init__(self, inner, dtype=torch.float32):
        super().__init__()
        self.first, self.inner, self.dtype = nn.Linear(4, 3, dtype=dtype), inner, dtype

    def forward(self, x):
        if x.dtype != self.dtype:
            raise RuntimeError("expected scalar type Float but found Double")
        return self.inner(self.first(x))


class Brown(nn.Module):
    """Brown's badly scaled function: one parameter is a million, the other a millionth."""

    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.tensor([1e6, 1e-6], dtype=torch.float64))

    def forward(self, _):
        a, b = self.x
        return torch.stack([a - 1e6, b - 2e-6, a * b - 2.0])[None]


class SmoothlyWrong(torch.autograd.Function):
    """Its gradient is right, and the gradient's derivative is a share too large."""

    @staticmethod
    def forward(ctx, x, share):
        ctx.save_for_backward(x)
        ctx.share = share
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        slope = x.cos()
        return grad * (slope + ctx.share * (slope - slope.detach())), None


class Slipping(torch.autograd.Function):
    """Its gradient is a share too large."""

    @staticmethod
    def forward(ctx, x, share):
        ctx.save_for_backward(x)
        ctx.share = share
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.cos() * (1.0 + ctx.share), None


class Applied(nn.Module):
    def __init__(self, function, share):
        super().__init__()
        self.function, self.share = function, share

    def forward(self, x):
        return self.function.apply(x, self.share)


def words(model, outputs=3):
    tokens = torch.randint(1, 9, (6, 7))
    tokens[:3, 4:] = 0
    return Objective(model, nn.CrossEntropyLoss(), tokens, torch.randint(outputs, (6,)))


def numbers(model, dtype=torch.float32):
    return Objective(model, nn.MSELoss(), torch.randn(10, 4, dtype=dtype), torch.randn(10, 3, dtype=dtype))


def on_kinks(model=None):
    """Rows of zeros into layers without bias or with biases of zero: their units are exactly at the kink."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.zeros_(model[0].bias)
    nn.init.zeros_(model[2].bias)
    objective = numbers(model)
    objective.batches[0].inputs["inputs"][:4] = 0.0
    return objective


def near_a_kink():
    """One unit is 1e-9 before its kink."""
    objective = numbers(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double(), torch.float64)
    with torch.no_grad():
        layer = objective.model[0]
        layer.bias[0] -= layer(objective.batches[0].inputs["inputs"])[0, 0] + 1e-9
    return objective


RIGHT = {
    "padding in a text CNN": lambda: words(TextCNN()),
    "padding in an LSTM": lambda: words(LastState()),
    "padding in a tied table": lambda: words(Tied(), 9),
    "units at their kinks": on_kinks,
    "a unit next to its kink": near_a_kink,
    "badly scaled": lambda: Objective(Brown(), nn.MSELoss(), torch.zeros(1, 1).double(), torch.zeros(1, 3).double()),
    "single precision inside": lambda: numbers(Single(nn.ReLU())),
    "single precision only": lambda: numbers(OnlySingle(nn.Tanh())),
    "half precision": lambda: numbers(nn.Sequential(nn.Linear(4, 3), nn.Tanh()).bfloat16(), torch.bfloat16),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_is_not_refused(case, kind):
    torch.manual_seed(0)
    operator = kind(RIGHT[case]())
    result = operator @ torch.ones(operator.size, dtype=operator.dtype)
    assert result.isfinite().all()


WRONG = {
    "second, 1 %": (Hessian, SmoothlyWrong, 0.01, "a second derivative is wrong"),
    "second, all": (Hessian, SmoothlyWrong, -1.0, "a second derivative is wrong"),
    "first, 1 %": (Hessian, Slipping, 0.01, "derivative is wrong"),
    "first, Gauss-Newton": (GaussNewton, Slipping, 0.01, "differs from a difference of predictions"),
}
PLACES = {
    "a text CNN": (lambda m: words(nn.Sequential(TextCNN(), m)), "1"),
    "an LSTM": (lambda m: words(nn.Sequential(LastState(), m)), "1"),
    "next to a kink": (lambda m: numbers(nn.Sequential(nn.Linear(4, 6), m, nn.ReLU(), nn.Linear(6, 3))), "1"),
    "single precision": (lambda m: numbers(Single(m)), "inner"),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_wrong_by_a_percent_is_refused_by_name(place, fault):
    torch.manual_seed(0)
    kind, function, share, message = WRONG[fault]
    make, name = PLACES[place]
    operator = kind(make(Applied(function, share)))
    with pytest.raises(CurvatureError, match=rf"{message}.*probably in '{name}' \(Applied\)"):
        operator @ torch.ones(operator.size)


def test_a_gross_fault_is_refused_where_only_single_precision_works():
    torch.manual_seed(0)
    with pytest.raises(CurvatureError, match="a second derivative is wrong"):
        Hessian(numbers(OnlySingle(Applied(SmoothlyWrong, -1.0)))).dense()


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_where_only_half_precision_works_nothing_was_checked(kind):
    torch.manual_seed(0)
    objective = numbers(OnlySingle(nn.Tanh(), torch.bfloat16), torch.bfloat16)
    with pytest.warns(UserWarning, match="could not be checked here"):
        kind(objective).dense()


LOOKING = {
    "Hessian": lambda o: Hessian(o).dense(),
    "rebuilt": lambda o: Hessian(o, scheme=Scheme.REBUILT_GRAPH).dense(),
    "forward": lambda o: Hessian(o, scheme=Scheme.FORWARD_OVER_REVERSE).dense(),
    "Gauss-Newton": lambda o: GaussNewton(o).dense(),
    "trace": lambda o: hessian_trace(Hessian(o)),
    "diagonal": lambda o: gauss_newton_diagonal(o, o.parameters),
    "root": gauss_newton_root,
    "determinism": lambda o: o.require_determinism(),
}


@pytest.mark.parametrize("look", LOOKING)
def test_looking_leaves_running_statistics_alone(look):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    LOOKING[look](numbers(model))
    assert len(before) == 3
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


class Physics(nn.Module):
    """The residual of u'' + u = 0."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x):
        x = x.detach().requires_grad_()
        u = self.net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        return curvature + u


def test_a_model_that_differentiates_inside_needs_nothing_special():
    torch.manual_seed(0)
    model, calls = Physics(), []
    model.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    x = torch.randn(12, 1)
    objective = Objective(model, nn.MSELoss(), {"x": x}, x.sin())
    value = objective.value()
    assert not value.requires_grad
    assert calls == [False, True]
    assert float(value) == pytest.approx(float(objective()))
    assert not objective.on(objective.batches).value().requires_grad
    assert False not in calls[1:]  # it is found out once
    root = gauss_newton_root(objective).matrix
    torch.testing.assert_close(root.T @ root, GaussNewton(objective).dense(), rtol=1e-4, atol=1e-5)
    assert Hessian(objective).dense().isfinite().all()


def test_an_ordinary_model_never_has_a_graph_for_its_value():
    calls = []
    model = nn.Linear(4, 3)
    model.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    numbers(model).value()
    assert calls == [False]


ERRORS = {
    "none": (lambda exact: exact, lambda step: 0.0, Verdict.RIGHT),
    "a wrong formula": (lambda exact: 1.01 * exact, lambda step: 0.0, Verdict.WRONG),
    "a kink": (lambda exact: exact, lambda step: 1e-4 / step, Verdict.UNCLEAR),
    "a step that is too long": (lambda exact: exact, lambda step: 1e12 * step**2, Verdict.RIGHT),
    "no number": (lambda exact: exact * torch.nan, lambda step: 0.0, Verdict.WRONG),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_that_stays_is_a_formula_and_one_that_changes_is_not(case):
    formula, error, verdict = ERRORS[case]
    exact = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)
    found = compare([formula(exact)], lambda step: [exact + error(step)])
    assert found.verdict is verdict


def test_one_that_agrees_is_enough_and_a_wrong_one_needs_a_second():
    exact = torch.ones(3, dtype=torch.float64)
    right = compare([exact], lambda step: [exact])
    wrong = compare([1.1 * exact], lambda step: [exact])
    elsewhere = wrong._replace(wrong={1: 0.1})
    assert settled(iter([wrong, right]))[0] is Verdict.RIGHT
    assert settled(iter([wrong, wrong])) == (Verdict.WRONG, 0, pytest.approx(0.1 / 1.1))
    assert settled(iter([wrong, elsewhere]))[0] is Verdict.UNCLEAR


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64)), nn.Parameter(torch.randn(3))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.w).abs() + torch.tanh(self.b)


@pytest.mark.parametrize(
    "make", [Hessian, GaussNewton, gauss_newton_root, lambda o: gauss_newton_diagonal(o, o.choose(None))]
)
def test_complex_parameters_are_refused_in_a_sentence(make):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"one of these is complex: .* torch\.view_as_complex"):
        make(numbers(Complex()))


def test_the_real_parameters_of_a_complex_model_have_curvature():
    torch.manual_seed(0)
    objective = numbers(Complex())
    assert Hessian(objective, "b").dense().shape == (3, 3)


class Mixed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, 3).double()

    def forward(self, x):
        return self.second(torch.tanh(self.first(x.to(self.first.weight))).to(self.second.weight))


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
@pytest.mark.parametrize("width", [5, 12])  # in one pass, and block by block
@pytest.mark.parametrize(("types", "rtol"), [("mixed", 1e-4), ("half", 0.1)])
def test_types_are_mixed_and_flat_vectors_have_the_widest(kind, types, rtol, width):
    torch.manual_seed(0)
    model = Mixed(width) if types == "mixed" else Mixed(width).bfloat16()
    objective = numbers(model, next(model.second.parameters()).dtype)
    dense = kind(objective).dense()
    assert dense.dtype == (torch.float64 if types == "mixed" else torch.float32)
    exact = kind(objective.copied(torch.float64)).dense()
    assert float((dense - exact).norm() / exact.norm()) <= rtol
