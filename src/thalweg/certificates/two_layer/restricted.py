"""The best network made of a few neurons that stay in their cells: the inner problem of column generation."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, final

import numpy as np

from thalweg.certificates.newton import backtracking
from thalweg.certificates.two_layer.neurons import Neuron

SMALLEST = 1e-13


@final
@dataclasses.dataclass
class Unit:
    """One neuron of the network: ingoing weights `basis @ z`, outgoing weights `a`."""

    basis: np.ndarray
    slopes: np.ndarray
    held: np.ndarray
    z: np.ndarray
    a: np.ndarray


@final
class RestrictedNetwork:
    r"""The network of some neurons, each of which stays in its cell; it is minimized by Newton steps.

    $$\ell\Bigl(\sum_j D_j \tilde X B_j z_j a_j^\top + Z C\Bigr)
    + \frac{\beta}{2} \sum_j (\|z_j\|^2 + \|a_j\|^2) + \frac12 \sum_i \rho_i \|C_i\|^2$$

    At a wall a neuron stays on it from then on: on the other side another column is needed, which the oracle finds. No
    step raises the objective. $\tilde X$ is `inputs` `[n, p]`, the column of ones last where there is a bias, of whose
    p weights the first `num_sized` are under the penalty; Z is `linear` `[n, q]`, with the penalties rho `ridge` `[q]`.
    The loss takes and returns arrays (`TwoLayerProblem.array_loss`).
    """

    def __init__(
        self,
        inputs: np.ndarray,
        loss: Any,
        beta: float,
        linear: np.ndarray,
        ridge: np.ndarray,
        *,
        width: int,
        num_sized: int,
    ) -> None:
        self.inputs, self.loss, self.beta, self.linear, self.ridge = inputs, loss, beta, linear, ridge
        self.units: list[Unit] = []
        self.num_sized = num_sized
        self.coefficients = np.zeros((linear.shape[1], width))

    def predictions(self) -> np.ndarray:
        """Return F, `[n, K]`."""
        total = self.linear @ self.coefficients
        if not self.units:
            return total
        ingoing = np.array([unit.basis @ unit.z for unit in self.units])
        hidden = np.array([unit.slopes for unit in self.units]) * (ingoing @ self.inputs.T)
        return total + hidden.T @ np.array([unit.a for unit in self.units])

    def objective(self) -> float:
        """Return the loss with its penalties."""
        penalty = sum(float(unit.z @ unit.z + unit.a @ unit.a) for unit in self.units)
        return float(self.loss.value(self.predictions())) + self._penalty(penalty)

    def add(self, neurons: Iterable[Neuron]) -> None:
        """Take neurons in, each with the size that suits it and the others best."""
        for neuron in neurons:
            self.units.append(Unit(neuron.basis, neuron.slopes, neuron.held, neuron.z.copy(), 1e-9 * neuron.output))
        self.fit_sizes()

    def merge(self) -> bool:
        """Make one neuron of two that fire together, whose sum costs no more (one output only); True if any did."""
        if self.coefficients.shape[1] > 1:
            return False
        kept: list[Unit] = []
        for unit in self.units:
            for other in kept:
                both = ~unit.held & ~other.held
                same = unit.a[0] * other.a[0] > 0.0 and (unit.slopes[both] == other.slopes[both]).all()
                if same and self._unite(other, unit):
                    break
            else:
                kept.append(unit)
        merged = len(kept) < len(self.units)
        self.units = kept
        return merged

    def _unite(self, unit: Unit, other: Unit) -> bool:
        """Make `unit` the sum of two; False if their sum has a bias alone, which a neuron's size does not see."""
        whole = (unit.basis @ unit.z) * abs(unit.a[0]) + (other.basis @ other.z) * abs(other.a[0])
        basis = np.linalg.svd(np.column_stack([unit.basis, other.basis]), full_matrices=False)
        basis = basis[0][:, basis[1] > 1e-9 * basis[1][0]]
        sized = basis[: self.num_sized]
        _, size, right = np.linalg.svd(sized, full_matrices=False)
        if size.min() <= 1e-9 * size.max() or len(sized) < basis.shape[1]:
            return False
        basis = basis @ right.T / size
        z = np.linalg.lstsq(basis, whole, rcond=None)[0]
        length = np.sqrt(np.linalg.norm(z))
        unit.slopes = np.where(unit.held, other.slopes, unit.slopes)
        unit.held = unit.held & other.held
        unit.basis, unit.z, unit.a = basis, z / length, np.sign(unit.a) * length
        return True

    def fit_sizes(self) -> None:
        """Minimize over sizes >= 0 of the neurons as they are, and over the linear part: a convex problem."""
        atoms, directions, sizes = [], [], []
        self.units = [unit for unit in self.units if unit.z.any() and unit.a.any()]
        for unit in self.units:
            z, a = np.linalg.norm(unit.z), np.linalg.norm(unit.a)
            directions.append((unit.z / z, unit.a / a))
            atoms.append(np.outer(self._hidden(unit) / z, unit.a / a))
            sizes.append(z * a)
        num, width = self.linear.shape[1], self.coefficients.shape[1]
        columns = [*atoms, *(np.outer(column, row) for column in self.linear.T for row in np.eye(width))]
        if not columns:
            return
        design = np.stack(columns, 2)  # [n, K, m]
        linear_cost = np.r_[np.full(len(atoms), self.beta), np.zeros(num * width)]
        ridge = np.r_[np.zeros(len(atoms)), np.repeat(self.ridge, width)]
        bounded = np.arange(design.shape[2]) < len(atoms)
        start = np.r_[sizes, self.coefficients.ravel()]
        best = nonnegative_newton(self.loss, design, linear_cost, ridge, bounded, start)
        kept = []
        for unit, (z, a), size in zip(self.units, directions, best, strict=False):
            if size > SMALLEST:
                unit.z, unit.a = np.sqrt(size) * z, np.sqrt(size) * a
                kept.append(unit)
        self.units = kept
        self.coefficients = best[len(atoms) :].reshape(num, width)

    def polish(self, max_steps: int = 60) -> bool:
        """Let all neurons turn within their cells until nothing moves any more; False if steps ran out before."""
        before, last = self.objective(), 3
        for _ in range(max_steps):
            if last == 0 or not (self.units or self.coefficients.size):
                return True
            gradient, hessian = self._derivatives()
            value, vectors = np.linalg.eigh(hessian)
            size = np.maximum(np.abs(value), 1e-11 * np.abs(value).max(initial=0.0) + 1e-300)
            step = -vectors @ ((vectors.T @ gradient) / size)
            slope = float(gradient @ step)
            if not np.isfinite(slope) or slope >= 0.0:
                return True
            # Where the objective no longer tells steps apart, the gradient still gains from a few.
            last -= -slope <= 1e-12 * abs(before)
            after = self._move(step, slope, before)
            if after is None:
                return True
            before = after
        return False

    def parameters(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ingoing weights `[m, p]`, outgoing weights `[m, K]` and the linear part `[q, K]`."""
        width = self.coefficients.shape[1]
        ingoing = np.array([unit.basis @ unit.z for unit in self.units]).reshape(-1, self.inputs.shape[1])
        return ingoing, np.array([unit.a for unit in self.units]).reshape(-1, width), self.coefficients

    def _penalty(self, squares: float) -> float:
        return 0.5 * self.beta * float(squares) + 0.5 * float((self.ridge[:, None] * self.coefficients**2).sum())

    def _hidden(self, unit: Unit) -> np.ndarray:
        return unit.slopes * (self.inputs @ (unit.basis @ unit.z))

    # A step in all unknowns is one flat vector: unit by unit, then the linear part row by row.
    #
    #     z_1 [k_1] | a_1 [K] | z_2 [k_2] | a_2 [K] | ... | z_m [k_m] | a_m [K] | C [q K]
    #
    # k_j is the number of columns of the unit's basis, which shrinks when the unit meets a wall; K is the number of
    # outputs. The Jacobian of the predictions is [n, K, unknowns], with the parts
    #
    #     by z_j: slopes_i (x_i B_j)_c a_jk     by a_j: hidden_ij [k = l]     by C: Z_ip [k = l]
    #
    # and the Hessian is J' curvature J, plus beta (units) or rho (linear part) on the diagonal, minus the cross
    # blocks (D_j X B_j)' V between z_j and a_j of the same unit, V the residual [n, K].
    def _places(self) -> Iterator[tuple[Unit, slice, slice]]:
        """Yield each unit with the places of its z and its a in the flat vector."""
        place, width = 0, self.coefficients.shape[1]
        for unit in self.units:
            middle = place + len(unit.z)
            yield unit, slice(place, middle), slice(middle, middle + width)
            place = middle + width

    def _derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian by all unknowns."""
        predictions = self.predictions()
        residual, curvature = self.loss.residual(predictions), self.loss.curvature(predictions).blocks()
        width = residual.shape[1]
        eye = np.eye(width)
        jacobian, gradient, blocks = [], [], []
        for unit in self.units:
            within = unit.slopes[:, None] * (self.inputs @ unit.basis)
            hidden = within @ unit.z
            jacobian.append(within[:, None, :] * unit.a[None, :, None])
            jacobian.append(hidden[:, None, None] * eye)
            cross = within.T @ residual  # [k, K]
            gradient += [self.beta * unit.z - cross @ unit.a, self.beta * unit.a - cross.T @ unit.z]
            blocks.append(cross)
        jacobian.append((self.linear[:, None, :, None] * eye[None, :, None, :]).reshape(len(residual), width, -1))
        gradient.append((self.ridge[:, None] * self.coefficients - self.linear.T @ residual).ravel())
        whole = np.concatenate(jacobian, 2)
        flat = whole.reshape(-1, whole.shape[2])
        hessian = flat.T @ np.einsum("nkl,nlp->nkp", curvature, whole).reshape(flat.shape)
        for (_, z, a), cross in zip(self._places(), blocks, strict=True):
            hessian[z, a] -= cross
            hessian[a, z] -= cross.T
        penalties = np.repeat(self.ridge, width)
        diagonal = np.concatenate([np.full(len(hessian) - len(penalties), self.beta), penalties])
        hessian[np.arange(len(hessian)), np.arange(len(hessian))] += diagonal
        return np.concatenate(gradient), hessian

    def _move(self, step: np.ndarray, slope: float, before: float) -> float | None:
        """Go along a step (see `_places`) as far as it helps, each neuron up to its wall.

        Returns the objective, or None if nothing helps; `slope` is its derivative along the step, negative.
        """
        parts = [(step[z], step[a]) for _, z, a in self._places()]
        walls = [self._wall(unit, dz) for unit, (dz, _) in zip(self.units, parts, strict=True)]
        at_wall = [number for number, (reach, _) in enumerate(walls) if reach <= 1e-14]
        if at_wall:
            for number in reversed(at_wall):
                self._hold(number, walls[number][1])
            return self.objective()
        rest = step[len(step) - self.coefficients.size :].reshape(self.coefficients.shape)
        held = [(unit.z, unit.a) for unit in self.units], self.coefficients

        def go(lengths: list[float], length: float) -> None:
            for unit, (z, a), (dz, da), own in zip(self.units, held[0], parts, lengths, strict=True):
                unit.z, unit.a = z + own * dz, a + own * da
            self.coefficients = held[1] + length * rest

        def own_walls(length: float) -> list[float]:
            return [min(length, reach) for reach, _ in walls]

        def together(length: float) -> list[float]:
            return [length] * len(walls)

        # First each neuron goes as far as its own wall; if that does not help, all go as far as the first one.
        nearest = min((reach for reach, _ in walls), default=np.inf)
        after = before
        for lengths, longest, halvings in ((own_walls, 1.0, 4), (together, min(1.0, nearest), 56)):

            def attempt(length: float, lengths: Callable[[float], list[float]] = lengths) -> tuple[float, float]:
                nonlocal after
                go(lengths(length), length)
                after = self.objective()
                if length == 1.0 and -slope <= 1e-12 * abs(before):  # where rounding hides what is gained
                    return after - 1e-15 * abs(before), 0.0
                return (after if after < before else np.inf), length * slope

            length = backtracking(attempt, before, longest=longest, max_halvings=halvings)
            if length is not None:
                arrived = [number for number, own in enumerate(lengths(length)) if walls[number][0] <= own]
                for number in reversed(arrived):
                    self._hold(number, walls[number][1])
                return self.objective() if arrived else after
        go(together(0.0), 0.0)
        return None

    def _wall(self, unit: Unit, dz: np.ndarray) -> tuple[float, int]:
        """How far along dz the neuron stays in its cell, and the example that ends it."""
        side = np.where(unit.slopes == 1.0, 1.0, -1.0)
        now, rate = side * (self.inputs @ (unit.basis @ unit.z)), side * (self.inputs @ (unit.basis @ dz))
        ahead = ~unit.held & (rate < -1e-14 * np.abs(rate).max(initial=0.0))
        if not ahead.any():
            return np.inf, -1
        reach = np.full(len(now), np.inf)
        reach[ahead] = np.maximum(now[ahead], 0.0) / -rate[ahead]
        row = int(reach.argmin())
        return float(reach[row]), row

    def _hold(self, number: int, row: int) -> None:
        """Keep a neuron on the wall that it has met; drop it where nothing is left to it."""
        unit = self.units[number]
        normal = self.inputs[row] @ unit.basis
        size = np.linalg.norm(normal)
        if len(unit.z) == 1 or size == 0.0:
            del self.units[number]
            return
        inner = np.linalg.svd(normal[None] / size, full_matrices=True)[2][1:].T
        unit.basis, unit.z = unit.basis @ inner, inner.T @ unit.z
        values = np.abs(self.inputs @ unit.basis).max(1)
        unit.held = unit.held | (values <= 1e-11 * np.abs(self.inputs).max())


def nonnegative_newton(
    loss: Any,
    design: np.ndarray,
    cost: np.ndarray,
    ridge: np.ndarray,
    bounded: np.ndarray,
    start: np.ndarray,
    base: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Minimize `loss(base + design x) + cost . x + 1/2 ridge . x^2` with x >= 0 where bounded, by Newton steps.

    The design is `[n, K, m]`, the feasible `start` `[m]`, and `base` holds predictions to begin with, `[n, K]`.
    """

    def value(x: np.ndarray) -> float:
        return float(loss.value(base + design @ x)) + float(cost @ x) + 0.5 * float(ridge @ (x * x))

    if not len(start):
        return start
    x, flat = start.copy(), design.reshape(-1, design.shape[2])
    now = value(x)
    for _ in range(100):
        predictions = base + design @ x
        gradient = cost + ridge * x - flat.T @ loss.residual(predictions).ravel()
        free = ~bounded | (x > 0.0) | (gradient < 0.0)
        if not free.any():
            break
        part = design[:, :, free]
        hessian = np.einsum("nkl,nlp->nkp", loss.curvature(predictions).blocks(), part).reshape(-1, part.shape[2])
        hessian = part.reshape(-1, part.shape[2]).T @ hessian + np.diag(ridge[free])
        hessian += (1e-12 * np.trace(hessian) / max(1, len(hessian)) + 1e-300) * np.eye(len(hessian))
        step = np.zeros_like(x)
        step[free] = -np.linalg.solve(hessian, gradient[free])
        if not -(gradient @ step) > 1e-15 * abs(now):
            break
        after = _along(value, x, now, step, gradient, bounded)
        if after is None:
            break
        x, now = after
    return x


def _along(
    value: Callable[[np.ndarray], float],
    x: np.ndarray,
    now: float,
    step: np.ndarray,
    gradient: np.ndarray,
    bounded: np.ndarray,
) -> tuple[np.ndarray, float] | None:
    """Return the point on the way x + t step, bent to stay at zero or above where bounded, that gains enough."""
    reached = x, now

    def attempt(length: float) -> tuple[float, float]:
        nonlocal reached
        trial = np.where(bounded, np.maximum(x + length * step, 0.0), x + length * step)
        reached = trial, value(trial)
        return (reached[1] if reached[1] < now else np.inf), -abs(float(gradient @ (trial - x)))

    return None if backtracking(attempt, now) is None else reached
