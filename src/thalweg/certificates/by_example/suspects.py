"""Which labels are likely wrong: the examples that carry the loss of the best penalized linear model."""

import dataclasses
import math
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.polish import polish
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.errors import require

STRENGTH: Final = 0.3  # of the penalty, divided by the number of examples; chosen by benchmarks/mislabeled.py
TOLERANCE: Final = 1e-4  # relative gap of the optimum


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Suspects:
    """How much each example's label is doubted.

    Args:
        labels: class ids, int `[n]`.
        carried: the dual weights $1 - p_{i, y_i}$ at the optimum, in [0, 1], `[n]`.
        probabilities: of the classes for each example, estimated without its own label, `[n, classes]`.
        order: the examples, the most doubtful label first, int `[n]`.
        relative_gap: how far the model may be from the optimum, at most, as a fraction of its loss.
    """

    labels: np.ndarray
    carried: np.ndarray
    probabilities: np.ndarray
    order: np.ndarray
    relative_gap: float

    @property
    def own(self) -> np.ndarray:
        """The estimated probability of each example's own label, `[n]`."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    @property
    def likelier(self) -> np.ndarray:
        """The most probable class of each example, estimated without its own label, int `[n]`."""
        return self.probabilities.argmax(1)


def suspect_labels(
    features: Features, labels: np.ndarray, num_classes: int, *, l2: float | None = None, seconds: float = math.inf
) -> Suspects:
    r"""Return which labels are likely wrong, judged by all other examples.

    The penalized softmax

    $$\min_{W, b} \frac1n \sum_i \phi_{y_i}(x_i^\top W + b) + \frac\lambda2 \lVert W \rVert^2$$

    has a dual with one variable an example and class: $r_{ik} = [y_i = k] - p_{ik}$, and $1 - p_{i, y_i}$ says how hard
    an example pulls on the optimum. An example pulls on its own prediction, too, which hides wrong labels; so the
    prediction is corrected by a Newton step of the model without the example, on nearly the diagonal of the curvature:

    $$z_{ik}^{(-i)} = z_{ik} - r_{ik} \sum_j \frac{x_{ij}^2}{n \lambda + \sum_{m \ne i} c_{mk} x_{mj}^2}, \quad
    c_{mk} = \frac{K}{K - 1}\, p_{mk} (1 - p_{mk}) .$$

    With $K$ classes of equal probability, $c$ is the curvature along residuals, which sum to zero over the classes.
    Labels are ordered by their probability under the softmax of $z^{(-i)}$.

    Args:
        features: $X$, `[n, num_features]`.
        labels: $y$, class ids in [0, num_classes), int `[n]`.
        num_classes: number of classes.
        l2: $\lambda > 0$; None: $0.3 / n$.
        seconds: after which the optimum is taken as it is.

    Returns:
        A ranking for a person's eyes, no proof.

    Raises:
        ValueError: for another number of labels than rows, or an id out of range.

    Example:
        >>> x = torch.eye(2).repeat(5, 1)  # two kinds of examples, five of each
        >>> found = suspect_labels(Features(x), np.array([0, 1, 0, 1, 0, 1, 1, 1, 0, 1]), 2)  # the fourth 0 is a 1
        >>> int(found.order[0]), int(found.likelier[6]), bool(found.own[6] < 0.5)
        (6, 0, True)

    Source: Koh and Liang (2017), Understanding Black-box Predictions via Influence Functions (a step without one
    example); Northcutt, Jiang and Chuang (2021), Confident Learning (ranking labels by held-out probability).
    When not to use it: for features that were themselves trained on these labels, such as the hidden states of a
    network: they have the wrong labels in them.
    """
    y = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    n = features.shape[0]
    require(len(y) == n, "suspect_labels(features, labels) needs a label for each row", (n, len(y)))
    inside = len(y) > 0 and int(y.min()) >= 0 and int(y.max()) < num_classes
    require(inside, f"suspect_labels(labels=...) must be ids in [0, {num_classes})", y.unique().tolist()[:10])
    strength = STRENGTH / n if l2 is None else l2
    head = Head(features, SoftmaxLoss.of_labels(y, num_classes), L2(strength), intercept=True)
    polished = polish(head, tolerance=TOLERANCE, seconds=seconds)
    z = polished.point.z
    p = torch.softmax(z, 1)
    residual = torch.nn.functional.one_hot(y, num_classes) - p
    curvature = num_classes / max(1, num_classes - 1) * p * (1.0 - p)
    corrected = z - residual * _own_pull(features, curvature, n * strength)
    log_probability = torch.log_softmax(corrected, 1)
    own = log_probability.gather(1, y[:, None]).squeeze(1)
    order = torch.argsort(own, stable=True)
    carried = 1.0 - p.gather(1, y[:, None]).squeeze(1)
    gap = max(0.0, polished.point.total - polished.bound) / polished.point.total
    return Suspects(y.numpy(), carried.numpy(), log_probability.exp().numpy(), order.numpy(), gap)


def _own_pull(features: Features, curvature: Tensor, l2: float) -> Tensor:
    r"""Return $\sum_j x_{ij}^2 / (\lambda' + \sum_{m \ne i} c_{mk} x_{mj}^2)$ for each example and class."""
    arrays = features.arrays()
    pull = torch.empty_like(curvature)
    for k in range(curvature.shape[1]):
        own = curvature[:, k].contiguous()
        sums = l2 + features.square_sums(own)
        if features.is_sparse:
            starts = np.asarray(arrays["X_starts"])
            rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            squares = np.square(arrays["X_values"])
            others = sums.numpy()[arrays["X_columns"]] - own.numpy()[rows] * squares
            pull[:, k] = torch.from_numpy(np.bincount(rows, squares / np.maximum(others, l2), len(own)))
        else:
            squares = torch.as_tensor(arrays["X"]).square()
            pull[:, k] = (squares / (sums - own[:, None] * squares).clamp_min(l2)).sum(1)
    return pull
