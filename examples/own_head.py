"""A head of one's own: counts, with the Poisson distribution.

The model says the logarithm z of a rate, and a count y has the probability exp(z y - exp(z)) / y!. The head owns what
follows from that: the loss, its curvature in z (exp(z), diagonal), and the answers (the most probable counts).
"""

from typing import final

import torch
from torch import Tensor, nn

from thalweg import AbstractHead, Objective
from thalweg.heads import masked


@final
class Poisson(AbstractHead):
    """A linear layer to the logarithm of a rate, with the negative log-likelihood of a count as loss.

    Args:
        width: width of the hidden states.
        max_count: largest count that `decode` considers.
    """

    counts: Tensor

    def __init__(self, width: int, max_count: int = 100) -> None:
        super().__init__()
        self.output = nn.Linear(width, 1)
        self.register_buffer("counts", torch.arange(max_count + 1), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return log-rates `[..., 1]`."""
        return self.output(hidden)

    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sum over all real counts, and how many there are."""
        log_rate = prediction.squeeze(-1)
        factor = self._factor(log_rate, mask, weights)
        log_rate, targets = masked(mask, log_rate), masked(mask, targets.to(log_rate.dtype))
        each = log_rate.exp() - targets * log_rate + torch.lgamma(targets + 1.0)
        return (factor * each).sum(), factor.sum()

    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return exp(z) v."""
        del targets  # the curvature of this loss is the same for every count
        return self._curvature(prediction, mask, weights) * v

    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return exp(z / 2) v."""
        del targets
        return self._curvature(prediction, mask, weights).sqrt() * v

    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k most probable counts and their log-probabilities."""
        counts = self.counts.to(prediction.dtype)
        log_probabilities = counts * prediction - prediction.exp() - torch.lgamma(counts + 1.0)
        values, ids = log_probabilities.topk(min(k, len(counts)), dim=-1)
        return ids, values

    def _curvature(self, prediction: Tensor, mask: Tensor | None, weights: Tensor | None) -> Tensor:
        log_rate = prediction.squeeze(-1)
        return (self._factor(log_rate, mask, weights) * masked(mask, log_rate).exp()).unsqueeze(-1)

    def _factor(self, log_rate: Tensor, mask: Tensor | None, weights: Tensor | None) -> Tensor:
        return masked(mask, torch.ones_like(log_rate) if weights is None else weights.to(log_rate.dtype))


def check_curvature(head: Poisson) -> float:
    """Return the largest error of `curvature_product` against PyTorch's own second derivative."""
    prediction = torch.randn(6, 1, dtype=torch.float64, requires_grad=True)
    targets, v = torch.tensor([0, 1, 2, 5, 0, 3]), torch.randn(6, 1, dtype=torch.float64)
    mask = torch.tensor([True, True, False, True, True, True])
    (gradient,) = torch.autograd.grad(head.loss(prediction, targets, mask)[0], prediction, create_graph=True)
    (expected,) = torch.autograd.grad((gradient * v).sum(), prediction)
    with torch.no_grad():
        product = head.curvature_product(prediction, targets, mask, v)
        root_twice = head.curvature_root(prediction, targets, mask, head.curvature_root(prediction, targets, mask, v))
    return float(torch.maximum((product - expected).abs().max(), (root_twice - expected).abs().max()))


def main() -> None:
    torch.manual_seed(0)
    hours = torch.rand(500, 1) * 24
    rate = torch.exp(1.0 + 1.5 * torch.sin(hours / 24 * 2 * torch.pi))  # customers an hour
    customers = torch.poisson(rate.squeeze(1)).long()

    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh())
    head = Poisson(16)
    print(f"largest error of the curvature: {check_curvature(head):.1e}")

    objective = Objective(model, head, hours / 12 - 1, customers)
    optimizer = torch.optim.LBFGS(objective.parameters, line_search_fn="strong_wolfe", max_iter=50)
    for _ in range(3):
        optimizer.step(objective)
    print(f"loss {objective.value():.4f} nats a count, after {objective.num_gradients} evaluations")

    with torch.no_grad():
        for hour in (6.0, 18.0):
            prediction = head(model(torch.tensor([[hour / 12 - 1]])))
            ids, log_probabilities = head.decode(prediction, 3)
            best = ", ".join(f"{i} ({p:.2f})" for i, p in zip(ids[0].tolist(), log_probabilities[0].exp(), strict=True))
            print(f"{hour:4.1f} h: rate {prediction.exp().item():.2f}; most probable counts {best}")


if __name__ == "__main__":
    main()
