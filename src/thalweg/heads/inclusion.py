"""Which words of a large vocabulary take part in a step, each with a probability that is known exactly."""

from collections.abc import Callable
from typing import Self, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.heads.base import check_positive


@final
class InclusionSampler(nn.Module):
    r"""Draws `num` different words with prescribed inclusion probabilities, and the weights that make sums unbiased.

    With word frequencies $f_w > 0$ `[V]`, in any unit, the probability that word $w$ is drawn is

    $$\pi_w = \min(1, c f_w^a), \qquad \sum_w \pi_w = n,$$

    so frequent words are drawn every time (a shortlist that nobody has to choose) and the others in proportion to
    $f_w^a$; $a$ is `power` in [0, 1]. The sum of $x_w / \pi_w$ over the drawn words has the mean $\sum_w x_w$; with
    $x_w = \exp(s_w)$ that is the sum under a softmax, from $n$ words instead of all. `log_weights` is $-\log \pi_w$,
    `[V]`.

    The draw is systematic: the words lie in order of frequency on a line, each with a length $\pi_w$, and $n$ points
    one apart fall on it from one random start. So every draw has exactly `num` different words, costs
    $O(n \log V)$, waits for no device, and neighbors in frequency stand for each other, which lowers the variance.

    Sources: Horvitz, Thompson, "A Generalization of Sampling Without Replacement From a Finite Universe" (1952);
    Madow, "On the Theory of Systematic Sampling, II" (1949).
    """

    log_weights: Tensor
    sure: Tensor
    rest: Tensor
    reach: Tensor

    def __init__(self, frequencies: Tensor, num: int, *, power: float = 1.0) -> None:
        super().__init__()
        check_positive(num, "InclusionSampler(num=...)")
        f = frequencies.detach().double().cpu().numpy()
        if f.ndim != 1 or not (np.isfinite(f).all() and (f > 0).all()):
            raise ValueError("InclusionSampler(frequencies=...) must be a vector of positive, finite numbers.")
        if num > len(f):
            raise ValueError(
                f"InclusionSampler(num={num}) draws different words, and there are {len(f)}; give a smaller num."
            )
        if not 0.0 <= power <= 1.0:
            raise ValueError(f"InclusionSampler(power=...) must lie in [0, 1]; got {power!r}.")
        order = np.argsort(-f, kind="stable")
        probabilities, num_sure = _probabilities(f[order] ** power, num)
        self.num = num
        inclusion = np.empty_like(f)
        inclusion[order] = probabilities
        reach = np.cumsum(probabilities[num_sure:])
        if len(reach):
            reach *= (num - num_sure) / reach[-1]  # ends at a whole number, whatever the sum was rounded to
        # All of them follow from the frequencies, so a run's weights need not carry them.
        self.register_buffer("log_weights", torch.from_numpy(-np.log(inclusion)).float(), persistent=False)
        self.register_buffer("sure", torch.from_numpy(order[:num_sure].copy()), persistent=False)
        self.register_buffer("rest", torch.from_numpy(order[num_sure:].copy()), persistent=False)
        self.register_buffer("reach", torch.from_numpy(reach), persistent=False)

    def forward(self, start: Tensor | None = None) -> Tensor:
        """Draw ids `[num]`, all different; equal starts (0-dim, in [0, 1)) draw equal words, None at random."""
        num_drawn = self.num - len(self.sure)
        if num_drawn == 0:
            return self.sure
        device = self.reach.device
        if start is None:
            start = torch.rand((), device=device, dtype=torch.float64)
        points = torch.arange(num_drawn, device=device) + start
        places = torch.searchsorted(self.reach, points, right=True).clamp_(max=len(self.rest) - 1)
        return torch.cat([self.sure, self.rest[places]])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move with the module, but keep the numbers' own types, whatever type the model takes."""
        exact = self.reach, self.log_weights
        super()._apply(fn, recurse)
        self.reach, self.log_weights = (tensor.to(self.rest.device) for tensor in exact)
        return self


def _probabilities(f: np.ndarray, num: int) -> tuple[np.ndarray, int]:
    """Return min(1, c f) with the sum `num` for falling `f`, and how many of them are 1."""
    tails = f[::-1].cumsum()[::-1]
    sure = np.arange(min(num, len(f)))
    # With the first k taken for sure, c = (num - k) / (sum of the rest); k is right once c f_k <= 1.
    fits = (num - sure) * f[: len(sure)] <= tails[: len(sure)]
    num_sure = int(np.argmax(fits)) if fits.any() else num
    if num_sure >= num:
        return np.where(np.arange(len(f)) < num, 1.0, 0.0), num
    probabilities = np.ones_like(f)
    probabilities[num_sure:] = (num - num_sure) * f[num_sure:] / tails[num_sure]
    return probabilities, num_sure
