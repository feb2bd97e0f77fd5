"""Scores of a linear model on bags of features, from saved weights and without PyTorch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Final, final

import numpy as np

LINEAR: Final = ("model.table.weight", "model.bias")
BAG: Final = ("model.embedding.weight", "head.output.weight", "head.output.bias")


@final
@dataclasses.dataclass(frozen=True)
class BagScores:
    r"""What `LinearBag`, or `Bag` under a linear layer, gives in evaluation mode, by numpy alone.

    $$z = \Bigl(\sum_i w_i M_{t_i}\Bigr) A^\top + b$$

    with features $t$, weights $w$, a table $M$, a layer $A$ (or none) and a bias $b$. The sums are those of the network
    but for the order in which a row is added up, so that scores agree to a few units in the last place.

    Args:
        table: `[num_features, width]`.
        layer: `[num_outputs, width]`; None: the width is the number of scores.
        bias: `[num_outputs]`.

    Example:
        >>> scores = BagScores(np.array([[1.0], [10.0]]), None, np.array([0.5]))
        >>> offsets = np.array([0, 2, 2, 3])  # the second text is empty
        >>> scores(np.array([0, 1, 1]), offsets, np.array([1.0, 2.0, 3.0])).tolist()
        [[21.5], [0.5], [30.5]]

    When not to use it: to answer many texts, or on a GPU; it saves the second that importing PyTorch takes.
    """

    table: np.ndarray
    layer: np.ndarray | None
    bias: np.ndarray

    @classmethod
    def of(cls, weights: Mapping[str, np.ndarray], num_features: int, num_outputs: int) -> BagScores | None:
        """Return the scores of a run's saved weights; None where they are not those of such a model of these sizes.

        Weights with numbers that are not finite, or of several types, are none either.
        """
        names = LINEAR if LINEAR[0] in weights else BAG
        if weights.keys() != set(names):
            return None
        parts = [weights[name] for name in names]
        table, *layer, bias = parts
        width = table.shape[-1] if layer else num_outputs
        shapes = [(num_features, width), *((num_outputs, width) for _ in layer), (num_outputs,)]
        fits = [part.shape for part in parts] == shapes and len({part.dtype for part in parts}) == 1
        if not fits or table.dtype not in (np.float32, np.float64):
            return None
        if not all(np.isfinite(part).all() for part in parts):
            return None
        return cls(table, layer[0] if layer else None, bias)

    def __call__(self, tokens: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return scores `[texts, num_outputs]`.

        Args:
            tokens: features of all texts, one after the other, int `[total]`.
            offsets: where each text begins in `tokens` and the last one ends, int `[texts + 1]`; an empty text has the
                sum zero.
            weights: weight of each feature, float `[total]`.
        """
        weights = weights.astype(self.table.dtype)
        sums = [weights[a:b] @ self.table[tokens[a:b]] for a, b in itertools.pairwise(offsets.tolist())]
        hidden = np.stack(sums) if sums else np.zeros((0, self.table.shape[1]), self.table.dtype)
        return (hidden if self.layer is None else hidden @ self.layer.T) + self.bias
