"""What `Descent` costs around an optimizer's own step, next to that optimizer alone.

    OMP_NUM_THREADS=1 python benchmarks/updates.py

Times are CPU microseconds of one thread. Steps of both are taken in turn, each after its own backward pass, and the
median of the ratios is given.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import statistics
import time
from pathlib import Path

import torch
from table import Row, write_json
from torch import nn

from thalweg import Descent, Fixed, Update

RESULTS = Path(__file__).parent / "results" / "updates.json"
WIDTHS = {94_218: 256, 2_418_010: 1500}
TARGET = 1.2


def network(width: int) -> nn.Module:
    """A ReLU network 100-width-width-10."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(100, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def microseconds(models: list[nn.Module], optimizers: list[torch.optim.Optimizer], repeats: int) -> list[list[float]]:
    """Return for each optimizer the times of its steps, taken in turn."""
    inputs = torch.randn(64, 100)
    found: list[list[float]] = [[] for _ in optimizers]
    for _ in range(repeats):
        for model, optimizer, times in zip(models, optimizers, found, strict=True):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            start = time.process_time_ns()
            optimizer.step()
            times.append((time.process_time_ns() - start) / 1e3)
    return found


def main() -> None:
    torch.set_num_threads(1)
    rows: list[Row] = []
    for number, width in WIDTHS.items():
        models = [network(width) for _ in range(2)]
        assert sum(parameter.numel() for parameter in models[0].parameters()) == number
        update = Update(torch.optim.AdamW, lr=1e-4, fused=True)
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(models[0].parameters(), lr=1e-4, fused=True),
            Descent(models[1].parameters(), update, Fixed(1)),
        ]
        plain, ours = microseconds(models, optimizers, 600 if width < 1000 else 200)
        for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
            assert torch.equal(mine, theirs), "both must have done the same"
        ratio = statistics.median(own / other for own, other in zip(ours, plain, strict=True))
        details = {"plain": statistics.median(plain), "ours": statistics.median(ours)}
        what = f"Update(AdamW) with Fixed(1), {number:,} parameters"
        rows.append(Row("updates", what, ratio, "fused AdamW steps", f"<= {TARGET}", ratio <= TARGET, details))
        print(rows[-1].line())
    write_json(RESULTS, rows)


if __name__ == "__main__":
    main()
