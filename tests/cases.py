"""The tables that drive the optimizer tests: problems, and every direction x step size pair that fits.

A new direction or step size is one line here and at once gets every common test.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, AbstractStepSize
from thalweg.optim.damping import Damping
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient, Update
from thalweg.optim.initial import InverseDiagonal, InverseGaussNewton
from thalweg.optim.kfac import KFAC
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.newton import Floor, Newton, Shift
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.preconditioner import KroneckerFactored, NoPreconditioner
from thalweg.optim.quasi_newton import BFGS, SelfScaledBFGS, SelfScaledBroyden
from thalweg.optim.sophia import Sophia
from thalweg.optim.stochastic import StochasticArmijo
from thalweg.optim.trust_region import TrustRegion
from thalweg.optim.wolfe import StrongWolfe

# ---- problems ----


class Residuals(nn.Module):
    """A function of a few unknowns as half the mean square of residuals; row i of the input asks for residual i.

    `parts` cuts the unknowns into several parameters, which must change nothing.
    """

    def __init__(self, residuals: Callable[[Tensor], Tensor], start: Tensor, parts: list[int] | None = None) -> None:
        super().__init__()
        self.residuals = residuals
        pieces = start.split(parts or [len(start)])
        self.unknowns = nn.ParameterList([nn.Parameter(piece.clone()) for piece in pieces])

    def forward(self, rows: Tensor) -> Tensor:
        return self.residuals(torch.cat(list(self.unknowns)))[rows].unsqueeze(-1)


@dataclasses.dataclass(frozen=True)
class Problem:
    name: str
    make: Callable[[torch.dtype, list[int] | None], Objective]
    minimum: float
    start: float  # the loss at the start


def least_squares(name: str, residuals: Callable[[Tensor], Tensor], start: list[float]) -> Problem:
    def make(dtype: torch.dtype, parts: list[int] | None = None) -> Objective:
        first = torch.tensor(start, dtype=dtype)
        count = len(residuals(first))
        model = Residuals(residuals, first, parts)
        return Objective(model, Squared(), torch.arange(count), torch.zeros(count, 1, dtype=dtype))

    value = residuals(torch.tensor(start, dtype=torch.float64)).square().mean().item() / 2
    return Problem(name, make, 0.0, value)


def quadratic(name: str, condition: float, size: int = 6) -> Problem:
    weights = torch.logspace(0.0, math.log10(condition) / 2, size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    turn = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    center = torch.randn(size, generator=generator, dtype=torch.float64)
    return least_squares(
        name, lambda x: weights.to(x) * (turn.to(x) @ (x - center.to(x))), [1.0 + 0.1 * i for i in range(size)]
    )


def rosenbrock(x: Tensor) -> Tensor:
    return torch.cat([10.0 * (x[1:] - x[:-1] ** 2), 1.0 - x[:-1]])


def beale(x: Tensor) -> Tensor:
    return torch.stack([c - x[0] * (1.0 - x[1] ** i) for i, c in ((1, 1.5), (2, 2.25), (3, 2.625))])


def powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x
    return torch.stack([a + 10.0 * b, 5**0.5 * (c - d), (b - 2.0 * c) ** 2, 10**0.5 * (a - d) ** 2])


def saddle(x: Tensor) -> Tensor:
    """Minima at (1, 0) and (-1, 0), a saddle at (0, 0)."""
    return torch.stack([x[0] ** 2 - 1.0, x[1]])


def examples(num: int, columns: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(num, columns, generator=generator, dtype=torch.float64).to(dtype)


def logistic(dtype: torch.dtype, parts: list[int] | None = None) -> Objective:
    del parts
    x = examples(60, 5, dtype) * torch.logspace(-1, 1, 5, dtype=dtype)
    y = ((x.sum(1) + examples(60, 1, dtype)[:, 0]) > 0.0).to(dtype)
    model = nn.Linear(5, 1).to(dtype)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return Objective(model, Bernoulli(None), x, y.unsqueeze(1), l2=1e-2)


def network(inputs: int, outputs: int, dtype: torch.dtype) -> nn.Module:
    model = nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, outputs)).to(dtype)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5
        parameter.data.copy_(values.to(dtype))
    return model


def regression(dtype: torch.dtype, parts: list[int] | None = None) -> Objective:
    del parts
    x = examples(40, 3, dtype)
    return Objective(network(3, 1, dtype), nn.MSELoss(), x, torch.sin(x.sum(1, keepdim=True)))


def classes(dtype: torch.dtype, parts: list[int] | None = None) -> Objective:
    del parts
    x = examples(40, 3, dtype)
    return Objective(network(3, 3, dtype), Softmax(None, None), x, x.argmax(1), l2=1e-3)


PROBLEMS = {
    problem.name: problem
    for problem in (
        quadratic("quadratic", 100.0),
        quadratic("ill-conditioned quadratic", 1e5),
        least_squares("rosenbrock", rosenbrock, [-1.2, 1.0]),
        least_squares("long rosenbrock", rosenbrock, [-1.2, 1.0] * 4),
        least_squares("beale", beale, [1.0, 1.0]),
        least_squares("powell singular", powell_singular, [3.0, -1.0, 0.0, 1.0]),
        least_squares("saddle", saddle, [0.0, 1.0]),
        Problem("logistic", logistic, 0.11488198007451503, math.log(2.0)),
        Problem("regression", regression, 0.0, 1.4634539476629995),
        Problem("classes", classes, 0.027537840187660916, 1.2812450657253285),
    )
}

# ---- directions x step sizes ----

DIRECTIONS: dict[str, AbstractDirection] = {
    "gradient": Gradient(),
    "sgd": Update(torch.optim.SGD, lr=0.02, momentum=0.5),
    "adamw": Update(torch.optim.AdamW, lr=0.05, weight_decay=0.0),
    "bfgs": BFGS(),
    "damped bfgs": BFGS(damping=0.2),
    "self-scaled bfgs": SelfScaledBFGS(),
    "self-scaled broyden": SelfScaledBroyden(),
    "lbfgs": LBFGS(memory=8),
    "damped lbfgs": LBFGS(memory=8, damping=0.2),
    "bfgs from gauss-newton": BFGS(initial=InverseGaussNewton(refresh=20)),
    "lbfgs from a diagonal": LBFGS(memory=8, initial=InverseDiagonal(damping=0.1)),
    "newton": Newton(),
    "modified newton": Newton(Floor()),
    "damped newton": Newton(Shift(), Damping()),
    "newton with gauss-newton": Newton(curvature=GaussNewton),
    "newton-cg": NewtonCG(),
    "newton-cg with hessian": NewtonCG(Hessian, damping=None, preconditioner=NoPreconditioner()),
    "newton-cg with warm start": NewtonCG(warm_start=0.5),
    "levenberg-marquardt": LevenbergMarquardt(),
    "kfac": KFAC(trust=0.1, damping=0.01, momentum=0.5, every=1, refresh=1),
    "adaptive kfac": KFAC(Damping()),
    "corrected kfac": KFAC(Damping(), corrected=True, num_samples=None),
    "sophia": Sophia(),
    "newton-cg with kronecker factors": NewtonCG(preconditioner=KroneckerFactored()),
}
STEP_SIZES: dict[str, AbstractStepSize] = {
    "fixed": Fixed(),
    "small fixed": Fixed(0.05),
    "armijo": Armijo(),
    "wolfe": StrongWolfe(),
    "stochastic": StochasticArmijo(),
    "trust region": TrustRegion(),
}
UPDATES = ("sgd", "adamw")
WITHOUT_MODEL = (*UPDATES, "sophia")
# Their first matrix needs an objective, so a plain closure is not enough.
FROM_CURVATURE = ("bfgs from gauss-newton", "lbfgs from a diagonal")
FIRST_ORDER = ("gradient", *UPDATES, "kfac", "adaptive kfac", "corrected kfac", "sophia")
# Without a search the first step of these has a length that means nothing, such as that of the bare gradient.
UNSCALED_AT_FIRST = (
    "gradient",
    "bfgs",
    "damped bfgs",
    "self-scaled bfgs",
    "self-scaled broyden",
    "lbfgs",
    "damped lbfgs",
    "sophia",
)


def fits(direction: str, step_size: str) -> bool:
    if step_size == "trust region":
        return direction not in WITHOUT_MODEL
    if direction == "lbfgs from a diagonal" and "fixed" in step_size:
        return False  # the scale of the first pair is right along that pair only
    if step_size in ("fixed", "small fixed"):
        return (step_size == "small fixed") == (direction in UNSCALED_AT_FIRST)
    return True


PAIRS = [(direction, step_size) for direction in DIRECTIONS for step_size in STEP_SIZES if fits(direction, step_size)]
SEARCHED = [pair for pair in PAIRS if "fixed" not in pair[1]]


def some_pairs() -> list[tuple[str, str]]:
    """Every direction with two of its step sizes, in turn, so that each step size meets many directions."""
    chosen = []
    for place, direction in enumerate(DIRECTIONS):
        sizes = [step_size for step_size in STEP_SIZES if fits(direction, step_size)]
        chosen += [(direction, sizes[(place + i) % len(sizes)]) for i in (0, 2)]
    return chosen


SOME_PAIRS = some_pairs()


def descent(objective: Objective, pair: tuple[str, str], **options) -> Descent:
    return Descent(objective.parameters, DIRECTIONS[pair[0]], STEP_SIZES[pair[1]], **options)


def run(objective: Objective, optimizer: Descent, steps: int) -> list[float]:
    """Take steps and return the losses, that at the end included."""
    losses = [float(optimizer.step(objective)) for _ in range(steps)]
    return [*losses, float(objective.value())]


def snapshot(objective: Objective) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in objective.parameters])
