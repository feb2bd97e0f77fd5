"""Linear systems by products alone: conjugate gradients and MINRES; each returns a solution with a Status."""

import dataclasses
import math
from typing import Generic, TypeVar, final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.curvature.operators import AbstractOperator
from thalweg.status import Status

Vectors = TypeVar("Vectors", Tensor, list[Tensor])


@final
@dataclasses.dataclass(frozen=True)
class Solve(Generic[Vectors]):
    r"""How the solve of $A x = b$ ended.

    Args:
        solution: x, flat or a list, as the right-hand side was.
        status: why it ended.
        num_iterations: products with A, but for the one that a warm start costs.
        residual: $\lVert b - A x \rVert$, as the recurrences have it.
        model: $\frac12 x^\top A x - b^\top x$, below zero where x is better than nothing.
        negative_curvature: a direction $p$ with $p^\top A p \le 0$, if the solve met one.
        length: of x, in the norm of a trust region's ball; None without one.
    """

    solution: Vectors
    status: Status
    num_iterations: int
    residual: float
    model: float
    negative_curvature: Vectors | None = None
    length: float | None = None


def conjugate_gradients(
    operator: AbstractOperator,
    right: Vectors,
    *,
    start: Vectors | None = None,
    preconditioner: AbstractOperator | None = None,
    tolerance: float = 1e-6,
    progress: float | None = None,
    radius: float | None = None,
    max_iterations: int | None = None,
) -> Solve[Vectors]:
    r"""Solve $A x = b$ for a positive definite $A$, and notice where it is not.

    It ends when $\lVert b - A x \rVert \le$ `tolerance` $\lVert b \rVert$; or when the quadratic model
    $q(x) = \frac12 x^\top A x - b^\top x$ improves too little: $(q(x_i) - q(x_{i-k})) / q(x_i) < k$ `progress` with
    $k = \max(10, i / 10)$; or at a direction of negative curvature; or at the edge of a trust region, to which it then
    goes. Whatever happens, the model is not above its value at the start.

    Args:
        operator: A.
        right: b, flat or a list of tensors; a Newton step takes minus the gradient.
        start: where to begin, such as a multiple of the last step's solution; None: zero.
        preconditioner: a positive definite approximation of the **inverse** of A, such as `Diagonal(1 / diagonal)`.
        tolerance: on the residual, relative to b, >= 0.
        progress: least improvement of the model an iteration, such as 5e-4; None: not looked at.
        radius: of the trust region, above 0; None: there is none. With a preconditioner $C \approx A^{-1}$ the length
            of x is $\sqrt{x^\top C^{-1} x}$: in this norm the iterates grow, so none comes back into the ball.
        max_iterations: products allowed; None: as many as there are unknowns.

    Returns:
        The solution; `negative_curvature` is set where one was met. If that was in the first iteration without a
        radius, the solution is the start.

    Raises:
        ValueError: for a tolerance below 0, a radius of 0 or less, a start outside the radius, or a start with both a
            radius and a preconditioner.

    Example:
        >>> from thalweg.curvature.operators import Matrix
        >>> solve = conjugate_gradients(Matrix(torch.diag(torch.tensor([1.0, 4.0]))), torch.tensor([1.0, 2.0]))
        >>> solve.solution, solve.status.name
        (tensor([1.0000, 0.5000]), 'CONVERGED')

    Source: Hestenes and Stiefel (1952), Methods of Conjugate Gradients for Solving Linear Systems; trust region:
    Steihaug (1983), The Conjugate Gradient Method and Trust Regions in Large Scale Optimization; progress: Martens
    (2010), Deep Learning via Hessian-free Optimization.

    Not for indefinite matrices whose solution is wanted itself: use `minres`.
    """
    if not tolerance >= 0.0 or (radius is not None and not radius > 0.0):
        raise ValueError(
            "conjugate_gradients(tolerance=..., radius=...) must be >= 0 and > 0; "
            f"got tolerance={tolerance!r}, radius={radius!r}."
        )
    b = _flat(right)
    x = torch.zeros_like(b) if start is None else _flat(start).clone()
    if radius is not None and start is not None and preconditioner is not None:
        raise ValueError("conjugate_gradients(start=..., radius=..., preconditioner=...): leave out one of the three.")
    if radius is not None and not float(x.norm()) <= radius:
        raise ValueError("conjugate_gradients(start=..., radius=...): the start must lie inside the radius.")
    limit = len(b) if max_iterations is None else max_iterations
    r = b.clone() if start is None else b - operator @ x
    z = r if preconditioner is None else preconditioner @ r
    p, rz = z.clone(), float(torch.dot(r, z))
    # The inverse of the preconditioner times x and p: lengths are measured with it, and z = C r needs no product.
    metric_x, metric_p = x.clone(), r.clone()
    goal = tolerance * float(b.norm())
    models = [_model(x, b, r)]
    status, negative, i = Status.OUT_OF_ITERATIONS, None, 0
    if float(r.norm()) <= goal:
        status, limit = Status.CONVERGED, 0
    while i < limit:
        product = operator @ p
        i += 1
        curvature = float(torch.dot(p, product))
        if not (math.isfinite(curvature) and math.isfinite(rz)):
            status = Status.BROKE_DOWN
            break
        rounding = torch.finfo(b.dtype).eps * float(p.norm()) * float(product.norm())
        step = rz / curvature if curvature > rounding else math.inf
        if step == math.inf:
            negative, status = p.clone(), Status.NEGATIVE_CURVATURE
            if radius is None:
                break
        on_boundary = False
        if radius is not None:
            further = _to_sphere(x, p, metric_x, metric_p, radius)
            if step >= further:
                step, status, on_boundary = further, Status.ON_BOUNDARY, True
            metric_x.add_(metric_p, alpha=step)
        x.add_(p, alpha=step)
        r = r - step * product
        models.append(_model(x, b, r))
        if on_boundary:
            break
        z = r if preconditioner is None else preconditioner @ r
        before, rz = rz, float(torch.dot(r, z))
        if float(r.norm()) <= goal:
            status = Status.CONVERGED
            break
        if progress is not None and _stalled(models, progress):
            status = Status.LITTLE_PROGRESS
            break
        p = p.mul_(rz / before).add_(z)
        metric_p = metric_p.mul_(rz / before).add_(r)
    direction = None if negative is None else _as(negative, right)
    length = math.sqrt(max(float(torch.dot(x, metric_x)), 0.0)) if radius is not None else None
    return Solve(_as(x, right), status, i, float(r.norm()), models[-1], direction, length)


def minres(
    operator: AbstractOperator,
    right: Vectors,
    *,
    start: Vectors | None = None,
    preconditioner: AbstractOperator | None = None,
    tolerance: float = 1e-6,
    stop_at_negative_curvature: bool = False,
    max_iterations: int | None = None,
) -> Solve[Vectors]:
    r"""Solve $A x = b$ for a symmetric $A$ of any definiteness, making $\lVert b - A x \rVert$ as small as it can.

    It ends when $\lVert b - A x \rVert \le$ `tolerance` $\lVert b - A x_0 \rVert$ (in the norm of the preconditioner),
    or, for a singular A, when nothing more of the residual can be removed.

    Args:
        operator: A, symmetric.
        right: b, flat or a list of tensors.
        start: where to begin, $x_0$; None: zero.
        preconditioner: a positive definite approximation of the **inverse** of the absolute value of A.
        tolerance: on the residual, >= 0.
        stop_at_negative_curvature: whether to end when the residual is a direction of negative curvature, which is then
            returned; not with a preconditioner.
        max_iterations: products allowed; None: as many as there are unknowns.

    Raises:
        ValueError: for a tolerance below 0, or the search for negative curvature with a preconditioner.

    Example:
        >>> from thalweg.curvature.operators import Matrix
        >>> minres(Matrix(torch.diag(torch.tensor([1.0, -4.0]))), torch.tensor([1.0, 2.0])).solution
        tensor([ 1.0000, -0.5000])

    Source: Paige and Saunders (1975), Solution of Sparse Indefinite Systems of Linear Equations; negative curvature:
    Liu and Roosta (2022), A Newton-MR Algorithm with Complexity Guarantees for Nonconvex Smooth Unconstrained
    Optimization.
    """
    if not tolerance >= 0.0:
        raise ValueError(f"minres(tolerance=...) must be >= 0; got {tolerance!r}.")
    if stop_at_negative_curvature and preconditioner is not None:
        raise ValueError("minres(stop_at_negative_curvature=True) works without a preconditioner only.")
    b = _flat(right)
    x = torch.zeros_like(b) if start is None else _flat(start).clone()
    limit = len(b) if max_iterations is None else max_iterations
    r2 = b.clone() if start is None else b - operator @ x
    r1, residual = r2, r2.clone()
    y = r2 if preconditioner is None else preconditioner @ r2
    beta = first = math.sqrt(max(float(torch.dot(r2, y)), 0.0))
    old_beta, delta_bar, epsilon, phi_bar, cosine, sine = 0.0, 0.0, 0.0, beta, -1.0, 0.0
    scale = 0.0
    w = w_old = torch.zeros_like(b)
    status, negative, i = Status.OUT_OF_ITERATIONS, None, 0
    if beta == 0.0:
        status, limit = Status.CONVERGED, 0
    while i < limit:
        # One step of Lanczos: v is the next basis vector, alpha and beta the next entries of the tridiagonal matrix.
        v = y / beta
        y = operator @ v
        if i:
            y = y - (beta / old_beta) * r1
        i += 1
        alpha = float(torch.dot(v, y))
        y = y - (alpha / beta) * r2
        r1, r2 = r2, y
        y = r2 if preconditioner is None else preconditioner @ r2
        old_beta, beta = beta, math.sqrt(max(float(torch.dot(r2, y)), 0.0))
        if not (math.isfinite(alpha) and math.isfinite(beta)):
            status = Status.BROKE_DOWN
            break
        # The rotation that makes it triangular.
        delta = cosine * delta_bar + sine * alpha
        gamma_bar = sine * delta_bar - cosine * alpha
        if stop_at_negative_curvature and cosine * gamma_bar >= 0.0:
            negative, status = residual, Status.NEGATIVE_CURVATURE
            break
        old_epsilon, epsilon, delta_bar = epsilon, sine * beta, -cosine * beta
        gamma, scale = math.hypot(gamma_bar, beta), max(scale, abs(alpha) + beta)
        if math.hypot(gamma_bar, delta_bar) <= 10.0 * torch.finfo(b.dtype).eps ** 0.5 * scale:
            # The left side is |A r| / |r|: A is singular and b has a part outside its range, which is all that is left.
            # Without reorthogonalization it gets no smaller than the root of the rounding error, and then grows.
            status = Status.LITTLE_PROGRESS
            break
        cosine, sine = gamma_bar / gamma, beta / gamma
        phi, phi_bar = cosine * phi_bar, sine * phi_bar
        w, w_old = (v - old_epsilon * w_old - delta * w) / gamma, w
        x.add_(w, alpha=phi)
        if stop_at_negative_curvature and beta > 0.0:
            residual = sine**2 * residual - (phi_bar * cosine / beta) * y
        if phi_bar <= tolerance * first:
            status = Status.CONVERGED
            break
    actual = b - operator @ x if i else r2
    direction = None if negative is None else _as(negative, right)
    return Solve(_as(x, right), status, i, float(actual.norm()), _model(x, b, actual), direction)


def _model(x: Tensor, b: Tensor, residual: Tensor) -> float:
    return -0.5 * float(torch.dot(x, b + residual))


def _stalled(models: list[float], progress: float) -> bool:
    """Whether the last iterations lowered the model by too little, of what they lowered it in all."""
    i = len(models) - 1
    k = max(10, math.ceil(0.1 * i))
    return i > k and models[-1] < 0.0 and (models[-1] - models[-1 - k]) / models[-1] < k * progress


def _to_sphere(x: Tensor, p: Tensor, metric_x: Tensor, metric_p: Tensor, radius: float) -> float:
    """Return the positive t for which `x + t p` has the length of the radius, by the metric's products with both."""
    products = torch.stack([torch.dot(p, metric_p), torch.dot(x, metric_p), torch.dot(x, metric_x)]).tolist()
    pp, xp, outside = products[0], products[1], products[2] - radius**2
    root = math.sqrt(max(xp * xp - pp * outside, 0.0))
    # Whichever form does not subtract numbers of one size.
    return -outside / (xp + root) if xp > 0.0 else (root - xp) / pp


def _flat(vector: Tensor | list[Tensor]) -> Tensor:
    flat = vector if isinstance(vector, Tensor) else vectors.flatten(vector)
    return flat.detach()


def _as(flat: Tensor, like: Vectors) -> Vectors:
    return flat if isinstance(like, Tensor) else vectors.split(flat, like)  # pyright: ignore[reportReturnType]
