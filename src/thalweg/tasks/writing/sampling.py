"""Drawing tokens from a model's distribution over the whole vocabulary, or over what some limits leave of it."""

import dataclasses
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.heads.base import AbstractHead
from thalweg.tasks.writing.rules import Rules, all_choices, best_choices


@final
@dataclasses.dataclass(frozen=True)
class Sampling:
    r"""How a token is drawn: from $p_i^{1/T} / \sum_j p_j^{1/T}$, the sum being over all tokens that may be taken.

    Args:
        temperature: T, at least 0; 0 takes the most probable token, 1 draws from the model's own distribution.
        top_p: in (0, 1]: only the fewest tokens whose probabilities (after the temperature) reach this sum.
        top_k: only so many of the most probable tokens, at least 1; None: all.

    Raises:
        ValueError: for a number out of its range.

    Source of `top_k`: Fan, Lewis, Dauphin (2018), Hierarchical Neural Story Generation; of `top_p`: Holtzman, Buys, Du,
    Forbes, Choi (2020), The Curious Case of Neural Text Degeneration.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"Sampling(temperature=...) must be zero or positive; got {self.temperature!r}.")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"Sampling(top_p=...) must lie in (0, 1]; got {self.top_p!r}.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"Sampling(top_k=...) must be at least 1; got {self.top_k!r}.")

    def pick(
        self, head: AbstractHead, prediction: Tensor, uniform: Tensor, rules: Rules, before: Tensor, place: int
    ) -> tuple[Tensor, Tensor]:
        """Return an id for each prediction of the next token, and its log-probability in the model, both `[rows]`.

        Args:
            head: gives the probabilities.
            prediction: `[rows, outputs]`.
            uniform: numbers in [0, 1), `[rows]`; equal ones draw equal tokens.
            rules: what may be taken.
            before: the ids in sight, `[rows, n]`.
            place: how many tokens have been written.
        """
        if self.temperature == 0.0:
            best = best_choices(head, prediction, 1, rules, before, place)
            where = best.scores.argmax(-1, keepdim=True)
            return best.ids.gather(-1, where).squeeze(-1), best.log_probabilities.gather(-1, where).squeeze(-1)
        scores, log_p = all_choices(head, prediction, rules, before, place)
        drawn = self._drawn(scores, uniform)
        return drawn, log_p.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)

    def _drawn(self, scores: Tensor, uniform: Tensor) -> Tensor:
        ids = None
        if self.top_k is not None:
            scores, ids = scores.topk(min(self.top_k, scores.shape[-1]), dim=-1)
        probabilities = torch.softmax(scores / self.temperature, -1)
        if self.top_p < 1.0:
            # Best first; one is kept as long as those before it have not reached the sum.
            probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
            ids = order if ids is None else ids.gather(-1, order)
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= self.top_p, 0.0)
        heights = probabilities.double().cumsum(-1)
        wanted = uniform.to(heights).unsqueeze(-1) * heights[:, -1:]
        place = torch.searchsorted(heights, wanted, right=True).clamp_(max=heights.shape[-1] - 1)
        return (place if ids is None else ids.gather(-1, place)).squeeze(-1)


def stream_seed(seed: int, place: int, sample: int = 0) -> int:
    """Return the seed of the random numbers of one text: the `sample`-th one after the `place`-th prompt.

    Each has a stream of its own, whatever others are asked for with it.

    Example:
        >>> len({stream_seed(0, place, sample) for place in range(10) for sample in range(10)})
        100
    """
    found = np.random.SeedSequence(seed, spawn_key=(place, sample)).generate_state(1, np.uint64)
    return int(found[0]) >> 1


def uniform_numbers(seeds: Sequence[int], length: int) -> Tensor:
    """Return numbers in [0, 1), `[seeds, length]`; each row depends on its seed alone."""
    return torch.stack([torch.rand(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
