"""A differential equation solved by a small network: a function of tensors that differentiates inside, minimized.

The equation of logistic growth, u' = u (1 - u) with u(0) = 0.1, has a solution to compare with: 1 / (1 + 9 exp(-t)).
"""

import torch
from torch import Tensor

import thalweg


def network(weights: dict[str, Tensor], t: Tensor) -> Tensor:
    """Return u(t): right at t = 0 whatever the weights are."""
    hidden = torch.tanh(t.unsqueeze(1) * weights["slopes"] + weights["offsets"])
    return 0.1 + t * (hidden @ weights["output"])


def residuals(weights: dict[str, Tensor]) -> Tensor:
    """Return by how much the network misses the equation at each time."""
    t = torch.linspace(0.0, 6.0, 60, dtype=torch.float64, requires_grad=True)
    u = network(weights, t)
    (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    return slope - u * (1.0 - u)


def main() -> None:
    torch.manual_seed(1)
    start = {name: 0.5 * torch.randn(10, dtype=torch.float64) for name in ("slopes", "offsets", "output")}
    times = torch.linspace(0.0, 6.0, 301, dtype=torch.float64)
    exact = 1.0 / (1.0 + 9.0 * torch.exp(-times))

    # One number: quasi-Newton methods, Newton, the Hessian's eigenvalues.
    found = thalweg.minimize(lambda weights: residuals(weights).square().sum(), start, max_steps=150)
    print(found)
    print(f"BFGS: largest error {float((network(found.x, times) - exact).abs().max()):.1e}")

    # As residuals it has a Gauss-Newton matrix, too: Levenberg-Marquardt gets much further.
    objective = thalweg.as_objective(residuals, start, residuals=True)
    found = thalweg.minimize(objective, direction=thalweg.LevenbergMarquardt(), max_steps=100)
    print(found)
    print(f"Levenberg-Marquardt: largest error {float((network(found.x, times) - exact).abs().max()):.1e}")


if __name__ == "__main__":
    main()
