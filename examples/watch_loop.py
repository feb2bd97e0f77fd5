"""A training loop of one's own, watched: ten lines of PyTorch, two of them tell the watch the loss."""

import torch
from torch import nn

from thalweg.diagnosis import Watch


def points(num: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points `[n, 2]` and their class: 0 inside the unit circle, 1 outside."""
    x = 1.3 * torch.randn(num, 2, generator=generator)
    return x, (x.norm(dim=1) > 1.0).long()


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    second = nn.Linear(32, 32)
    nn.init.constant_(second.bias, -20.0)  # planted here: no unit of the second layer is ever above zero
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), second, nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    watch = Watch(model, optimizer, steps=200)
    for step in range(200):
        x, y = points(64, generator)
        loss = nn.functional.cross_entropy(model(x), y)
        watch.loss(loss, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            with watch.evaluation(), torch.no_grad():
                x, y = points(500, generator)
                watch.loss(nn.functional.cross_entropy(model(x), y), y)

    print(watch.diagnose())
    first = next(entry for entry in watch.history if entry["event"] == "step")
    for site in first["sites"]:
        figures = [f"{name} {site[name]:.3g}" for name in ("mean", "std", "dead", "flow") if name in site]
        print(f"module {site['name']} ({site['kind']}): {', '.join(figures)}")
    print(f"watched {watch.num_steps} steps")


if __name__ == "__main__":
    main()
