"""What a point's neighborhood says about it: that it is not a minimum (measured), or that no way down is seen."""

import dataclasses
import enum
import math
import time
import warnings
from typing import Final, final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.certificates.certificate.interval import Certificate, Proof
from thalweg.certificates.checker.statements import down
from thalweg.curvature.culprit import UNCHECKED, CurvatureError, UncheckedWarning
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.lanczos import random_vector, tridiagonalize
from thalweg.errors import InputError
from thalweg.objective import Objective

CURVATURE = "smallest curvature"  # the quantity of the certificate
LENGTHS: Final = tuple(10.0**k for k in range(-6, 3))  # steps tried along a direction, times the length of the weights
STEEPEST: Final = 1e-3  # of the loss: a step along minus the gradient that lowers it by more says "not stationary"


class Verdict(enum.Enum):
    """What was found; the value of a member is what the user reads."""

    DESCENDS = "The point is not a minimum: the loss falls along the negative gradient."
    NEGATIVE_CURVATURE = "The point is not a minimum: the loss falls along a direction of negative curvature."
    SADDLE_OR_FLAT = (
        "There is a direction of negative curvature, but no step tried along it lowers the loss by more than rounding."
    )
    SECOND_ORDER = "No negative curvature was found in the directions examined; the point looks like a local minimum."


@final
@dataclasses.dataclass(frozen=True)
class LocalVerdict:
    r"""What is known about the neighborhood of a point.

    Args:
        verdict: the finding.
        loss: the loss at the point.
        gradient_norm: $\lVert\nabla f\rVert$.
        curvature: the smallest curvature that was met, $y^\top H y$ with $\lVert y\rVert = 1$: the smallest eigenvalue
            is not above it (proved up to rounding).
        least: what the smallest eigenvalue is not below, but for a chance of `failure`.
        greatest: the largest curvature that was met.
        failure: chance that `least` is wrong, over the random start of Lanczos.
        num_products: products with the Hessian.
        step: how to get to the improved point, one tensor per parameter; None where there is none.
        improved_loss: the loss there, measured.
        seconds: time it took.
    """

    verdict: Verdict
    loss: float
    gradient_norm: float
    curvature: float
    least: float
    greatest: float
    failure: float
    num_products: int
    step: list[Tensor] | None
    improved_loss: float
    seconds: float

    @property
    def sentence(self) -> str:
        """The verdict with its figures."""
        said = self.verdict.value
        if self.step is not None:
            how = f"a step of length {float(vectors.norm(self.step)):.3g} lowers the loss from {self.loss:.9g} to"
            said = f"{said[:-1]}; {how} {self.improved_loss:.9g}, measured."
        least = "The"
        if math.isfinite(self.least):
            floor = down(self.least, 3)
            least = f"Except with probability {self.failure:.0e}, curvatures are at least {floor}; the"
        return (
            f"{said} {least} smallest one found is {self.curvature:.3g}; the "
            f"gradient has the norm {self.gradient_norm:.3g}."
        )

    def certificate(self) -> Certificate:
        """Return the interval for the smallest curvature at the point as a certificate."""
        improved = self.step is not None
        return Certificate(
            name="local",
            quantity=CURVATURE,
            unit="1",
            loss=self.curvature,
            bound=self.least,
            scope=self.sentence,
            whole=False,
            proof=Proof.PROBABILISTIC,  # the bound, whatever the verdict; a lower loss was measured
            probability=self.failure,
            assumptions=(
                "The loss is twice differentiable at the point; for ReLU this is the curvature of its piece.",
            ),
            reached=self.improved_loss if improved else None,
            seconds=self.seconds,
        )


def local_verdict(
    objective: Objective, *, max_products: int = 100, failure: float = 1e-6, seed: int = 0, seconds: float = math.inf
) -> LocalVerdict:
    r"""Look at the neighborhood of a point: gradient, curvature, and a step down where there is one.

    With $k$ products of Lanczos from a random start, extreme Ritz values $\theta_1 \le \theta_k$ of an $n \times n$
    Hessian and $\sqrt\varepsilon = \ln(2 \cdot 1.648 \sqrt n / \delta) / (2k - 1)$, its least eigenvalue is at least

    $$\theta_1 - \frac{\varepsilon}{1 - 2\varepsilon} (\theta_k - \theta_1)$$

    but for a chance of $\delta$ (`failure`). A direction of negative curvature proves that the point is not a minimum;
    the step along it (downhill of the gradient) is taken on trial and its loss measured.

    Args:
        objective: the function, a deterministic one; in float64 the figures are sharper.
        max_products: $k$, products with the Hessian, at least 2.
        failure: $\delta$ in (0, 1).
        seed: of the random start.
        seconds: after which no further product begins.

    Raises:
        CurvatureError: the model has no second derivative, or nothing can be said about whether it is right.
        InputError: for a loss that is not the same at every evaluation (dropout in training mode), or not finite.
        ValueError: for a number out of its range.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, torch.nn.MSELoss(), torch.ones(1, 1), model(torch.ones(1, 1)).detach())
        >>> found = local_verdict(objective)
        >>> found.verdict.name, round(found.curvature, 3), round(found.least, 3)
        ('SECOND_ORDER', 2.0, 2.0)

    Source: Kuczyński and Woźniakowski (1992), Estimating the Largest Eigenvalue by the Power and Lanczos Algorithms
    with a Random Start.

    It says nothing about other valleys: a local minimum may be far above the best loss.
    """
    if max_products < 2 or not 0.0 < failure < 1.0:
        raise ValueError(
            "local_verdict(max_products=..., failure=...) must be at least 2, and lie in (0, 1); "
            f"got {max_products!r}, {failure!r}."
        )
    begin = time.perf_counter()
    objective.require_determinism()
    value, gradient = objective.value_and_gradient()
    loss, norm = float(value), float(vectors.norm(gradient))
    if not math.isfinite(loss + norm):
        raise InputError(f"The loss is {loss:g} and its gradient {norm:g} here, so there is nothing to certify.")
    hessian = Hessian(objective)
    start = random_vector(hessian, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncheckedWarning)  # nothing is claimed with derivatives that may be wrong
        try:
            run = tridiagonalize(hessian, start, max_products, lambda _: time.perf_counter() - begin > seconds)
        except UncheckedWarning:
            raise CurvatureError(UNCHECKED) from None
    ritz, coordinates, _ = run.ritz()
    curvature, greatest = float(ritz[0]), float(ritz[-1])
    rounding = 10.0 * torch.finfo(hessian.dtype).eps * max(abs(curvature), abs(greatest))
    missed = _missed(len(ritz), hessian.size, failure, run.complete)
    least = curvature - missed * (greatest - curvature) - rounding if math.isfinite(missed) else -math.inf
    # An eigenvector of the tridiagonal matrix is the direction whose curvature is the Ritz value itself.
    direction = (run.basis[: len(ritz)].T @ coordinates[:, 0].to(run.basis)).detach()
    threshold = 1e3 * torch.finfo(hessian.dtype).eps * abs(loss)
    negative = curvature < -rounding
    verdict, step, improved = Verdict.SADDLE_OR_FLAT if negative else Verdict.SECOND_ORDER, None, loss
    if norm > 0.0:
        found = _step_down(objective, [-part for part in gradient], loss)
        # Close to a minimum a step along the gradient still lowers the loss a little; the curvature says more.
        if found[1] <= loss - max(STEEPEST * abs(loss), threshold):
            verdict, (step, improved) = Verdict.DESCENDS, found
    if negative:
        along = vectors.split(direction, gradient)
        sign = -1.0 if float(vectors.dot(along, gradient)) > 0.0 else 1.0
        found = _step_down(objective, [sign * part for part in along], loss)
        if found[1] <= loss - threshold and found[1] < improved:
            verdict, (step, improved) = Verdict.NEGATIVE_CURVATURE, found
    return LocalVerdict(
        verdict, loss, norm, curvature, least, greatest, failure, len(ritz), step, improved,
        time.perf_counter() - begin,
    )  # fmt: skip


def _missed(steps: int, size: int, failure: float, complete: bool) -> float:
    """Return the fraction of the spectrum's width by which Lanczos may have missed its lower end."""
    if complete:  # the start has a part in every eigenspace, so all of them have been met
        return 0.0
    root = math.log(2.0 * 1.648 * math.sqrt(size) / failure) / (2 * steps - 1)
    return root**2 / (1.0 - 2.0 * root**2) if 2.0 * root**2 < 1.0 else math.inf


def _step_down(objective: Objective, direction: list[Tensor], loss: float) -> tuple[list[Tensor] | None, float]:
    """Return the best of a few steps along a direction and the loss there; the parameters stay as they are."""
    length = float(vectors.norm(direction))
    scale = max(float(vectors.norm([p.detach() for p in objective.parameters])), 1e-3) / length
    best: tuple[list[Tensor] | None, float] = None, loss
    held = [parameter.detach().clone() for parameter in objective.parameters]
    try:
        for factor in LENGTHS:
            step = [factor * scale * part for part in direction]
            with torch.no_grad():
                for parameter, start, part in zip(objective.parameters, held, step, strict=True):
                    parameter.copy_(start + part)
            value = float(objective.value())
            if math.isfinite(value) and value < best[1]:
                best = step, value
    finally:
        with torch.no_grad():
            for parameter, start in zip(objective.parameters, held, strict=True):
                parameter.copy_(start)
    return best
