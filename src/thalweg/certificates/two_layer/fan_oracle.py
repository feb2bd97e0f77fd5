"""The next neuron where its direction lies in a plane: one turn around it, exact for any number of outputs."""

from typing import final

import numpy as np

from thalweg.certificates.two_layer.neurons import AbstractOracle, Answer, Bias, Neuron, different, families

ON_LINE = 1e-11


@final
class FanOracle(AbstractOracle):
    """Turns a direction u once around and keeps the sum over the examples that are active up to date.

    Between two of the angles at which an example starts or stops being active the objective is a matrix times u, whose
    largest value over the sector is known: at its top singular vector if that lies inside, else at an end. No tolerance
    decides anything: two angles that rounding puts in the wrong order bound a sector of no width.

    The rank must be 2 at most: with the bias if that is penalized, after centering if it is free. With a free bias
    there is a fan for each different example, on whose hyperplane the neuron's kink lies. An answer holds `at_most`
    neurons.
    """

    exact = True

    def __init__(self, features: np.ndarray, bias: Bias, leak: float = 0.0, *, at_most: int = 12) -> None:
        self.leak, self.at_most = leak, at_most
        found, self.axes = families(features, bias)
        rank = self.axes.shape[1]
        if rank > 2:
            raise ValueError(f"FanOracle needs features of rank 2 at most; got rank {rank}.")
        self.flat = rank == 1
        # In one dimension the second coordinate is zero.
        spare = 2 - rank
        self.rows = np.stack([np.pad(rows, ((0, 0), (0, spare))) for rows, _ in found])
        self.lifts = [np.pad(lift, ((0, 0), (0, spare))) for _, lift in found]
        self._sort()

    def search(self, residual: np.ndarray, floor: float) -> Answer:
        """Return the largest value over all directions, and the best neurons."""
        num = self.rows.shape[1]
        terms = residual[None, :, :, None] * self.rows[:, :, None, :]  # [fans, n, K, 2]
        width = residual.shape[1]
        moves = np.take_along_axis(terms, self.event_row[:, :, None, None], 1)
        moves *= ((1.0 - self.leak) * self.event_sign)[:, :, None, None]
        start = self.leak * terms.sum(1) + (1.0 - self.leak) * np.einsum("fnkr,fn->fkr", terms, self.at_start)
        after = start[:, None] + np.cumsum(moves, 1)  # the matrix in the sector that follows each event
        after = after.reshape(-1, width, 2)
        low, high = self.ray.reshape(-1, 2), self.next_ray.reshape(-1, 2)
        at_low = np.sqrt((np.einsum("ekr,er->ek", after, low) ** 2).sum(1))
        size, turn = _top(after)
        for sign in (1.0, -1.0):
            inside = _between(sign * turn, low, high)
            at_low = np.where(inside & (size > at_low), size, at_low)
            turn = np.where(inside[:, None], sign * turn, turn)
        inside = _between(turn, low, high) & (at_low >= size)
        best = float(at_low.max(initial=0.0))
        slack = 1e-14 * float(np.abs(residual).sum(1) @ np.sqrt((self.rows**2).sum(2)).max(0))
        found = []
        order = np.argsort(-at_low, kind="stable")
        order = order[at_low[order] > floor + 0.5 * max(0.0, best - floor)][: 40 * self.at_most]
        for place in order:
            z = turn[place] if inside[place] else low[place]
            image = after[place] @ z
            value = float(np.sqrt(image @ image))
            found.append(self._neuron(place // (2 * num), place, z, bool(inside[place]), image / value, value))
        return Answer(best + slack, different(found, self.at_most))

    def _neuron(self, fan: int, place: int, z: np.ndarray, inside: bool, output: np.ndarray, value: float) -> Neuron:
        values = self.rows[fan] @ z
        active = self.rows[fan] @ self.middle.reshape(-1, 2)[place] > 0.0  # of the sector, where the ray says zero
        scale = np.abs(self.rows[fan]).max(initial=0.0)
        held = np.abs(self.rows[fan]).max(1) == 0.0
        on = held | (np.abs(values) <= ON_LINE * scale)
        lift = self.lifts[fan]
        free = inside and not self.flat
        return Neuron(
            lift if free else (lift @ z)[:, None],
            np.where(active, 1.0, self.leak),
            held if free else on,
            z / np.sqrt(z @ z) if free else np.ones(1),
            output,
            value,
        )

    def _sort(self) -> None:
        """Find the angles at which each example starts and stops being active, in their order."""
        middle = np.arctan2(self.rows[..., 1], self.rows[..., 0])
        real = np.abs(self.rows).max(2) > 0.0
        angle = np.concatenate([middle - 0.5 * np.pi, middle + 0.5 * np.pi], 1)
        angle = np.where(angle > np.pi, angle - 2.0 * np.pi, np.where(angle <= -np.pi, angle + 2.0 * np.pi, angle))
        num = self.rows.shape[1]
        order = np.argsort(angle, axis=1, kind="stable")
        self.event_row = order % num
        self.event_sign = np.where(order < num, 1.0, -1.0)
        stop = angle[:, num:]
        # Just before the first event: active are those that stop before they start.
        self.at_start = np.where(real & (stop < angle[:, :num]), 1.0, 0.0)
        sorted_angle = np.take_along_axis(angle, order, 1)
        self.ray = np.stack([np.cos(sorted_angle), np.sin(sorted_angle)], 2)
        self.next_ray = np.roll(self.ray, -1, axis=1)
        following = np.concatenate([sorted_angle[:, 1:], sorted_angle[:, :1] + 2.0 * np.pi], 1)
        halfway = 0.5 * (sorted_angle + following)
        self.middle = np.stack([np.cos(halfway), np.sin(halfway)], 2)


def _top(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest singular value and right singular vector of matrices `[e, K, 2]`."""
    a, b = (matrices[:, :, 0] ** 2).sum(1), (matrices[:, :, 1] ** 2).sum(1)
    c = (matrices[:, :, 0] * matrices[:, :, 1]).sum(1)
    angle = 0.5 * np.arctan2(2.0 * c, a - b)
    turn = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.sqrt((np.einsum("ekr,er->ek", matrices, turn) ** 2).sum(1)), turn


def _between(turn: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether directions lie between two rays less than half a turn apart, the ends included."""
    slack = 1e-12

    def cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]

    ahead = (turn * (low + high)).sum(1) >= -slack
    return ahead & (cross(low, turn) >= -slack) & (cross(turn, high) >= -slack)
