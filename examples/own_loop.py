"""The parts in a training loop of one's own: Objective, a torch.optim optimizer, a schedule, clipping.

Nothing here knows of runs or recipes. The data are a circle inside a ring; the model is a plain PyTorch module.
"""

import torch
from torch import nn

from thalweg import Batch, Objective
from thalweg.optim import ClipNorm, cosine


def ring(num_points: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points `[n, 2]` and their class: 0 inside the unit circle, 1 in the ring around it."""
    labels = torch.randint(2, (num_points,), generator=generator)
    radius = torch.rand(num_points, generator=generator) * 0.8 + 1.2 * labels
    angle = torch.rand(num_points, generator=generator) * 2 * torch.pi
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), labels


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    head = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    steps = 150
    schedule = cosine(optimizer, total_steps=steps, warmup=10)
    clip = ClipNorm(1.0)

    for step in range(steps):
        # Two micro-batches of different size: sums are added and divided once, so this is the loss of all 96 points.
        micro_batches = [Batch({"input": x}, y) for x, y in (ring(64, generator), ring(32, generator))]
        loss = Objective(model, head, micro_batches)()
        norm, was_clipped = clip(model.parameters())
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss:.4f}, gradient norm {norm:.3f}, clipped {bool(was_clipped)}")

    points, labels = ring(1000, generator)
    with torch.no_grad():
        accuracy = (model(points).argmax(1) == labels).float().mean()
    print(f"accuracy on 1,000 new points: {accuracy:.3f}")

    # L-BFGS calls the objective several times a step: it is the closure. Here the data stay the same.
    objective = Objective(model, head, points, labels, l2=1e-4)
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    for _ in range(3):
        loss = optimizer.step(objective)
        print(f"L-BFGS: loss {loss:.5f} after {objective.num_gradients} evaluations")


if __name__ == "__main__":
    main()
