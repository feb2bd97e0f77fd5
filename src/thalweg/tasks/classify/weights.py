"""Class weights: what each answer counts in the training loss, so that rare labels count as much as frequent ones."""

import numpy as np
import torch
from torch import Tensor

from thalweg.data.arrays.ragged import Ragged
from thalweg.tasks.reading.labels import counts_of


def balanced(labels: np.ndarray | Ragged, num_labels: int) -> Tensor:
    r"""Return the balanced weights of labels.

    Of labels that exclude one another $n / (K n_k)$, with $n$ texts, $K$ labels and $n_k$ texts of label $k$. Where a
    text may have several, each label is a question of its own with two answers, which count $n / (2 (n - n_k))$ (no)
    and $n / (2 n_k)$ (yes). Their mean over the texts is 1, so that a penalty keeps its meaning. An answer that never
    comes has weight 0.

    Args:
        labels: of the training texts: ids `[num_texts]`, or the ids of each text.
        num_labels: $K$.

    Returns:
        float64 `[num_labels]`, or `[2, num_labels]`: weights of no and of yes.
    """
    if isinstance(labels, Ragged):
        yes = torch.from_numpy(counts_of(labels, num_labels)).double()
        counts = torch.stack([len(labels) - yes, yes])
        return torch.where(counts > 0.0, len(labels) / (2.0 * counts.clamp_min(1.0)), 0.0)
    counts = torch.from_numpy(counts_of(labels, num_labels)).double()
    return torch.where(counts > 0.0, len(labels) / (num_labels * counts.clamp_min(1.0)), 0.0)


def of_targets(weights: Tensor, targets: Tensor) -> Tensor:
    """Return what each target of a batch weighs: ids `[batch]` -> `[batch]`, 0/1 rows -> `[batch, num_labels]`."""
    return torch.where(targets > 0.0, weights[1], weights[0]) if weights.ndim == 2 else weights[targets]
