"""CPU time of L-BFGS an evaluation, next to torch.optim.LBFGS, on models so small that everything else shows.

    OMP_NUM_THREADS=1 python benchmarks/lbfgs.py

Both search for the strong Wolfe conditions, with as many pairs. CPU microseconds of one thread over evaluations of loss
and gradient, the best of five runs in turn.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import time
from collections.abc import Callable
from pathlib import Path

import torch
from table import Row, write_json
from torch import Tensor, nn

from thalweg import LBFGS, Descent, Objective, Softmax, StrongWolfe

RESULTS = Path(__file__).parent / "results" / "lbfgs.json"
STEPS, EVALUATIONS, REPEATS = 60, 80, 5


class Words(nn.Module):
    """A transformer of two layers, 16 wide, over 50 words."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
        self.table, self.output = nn.Embedding(50, 16), nn.Linear(16, 50)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, words: Tensor) -> Tensor:
        """Return logits of each word."""
        return self.output(self.layers(self.table(words)))


def logistic() -> Objective:
    x = torch.randn(200, 50) * torch.logspace(-1, 1, 50)
    return Objective(nn.Linear(50, 1), nn.BCEWithLogitsLoss(), x, (torch.rand(200, 1) < 0.5).float(), l2=1e-4)


def network() -> Objective:
    x = torch.randn(100, 10)
    model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 1))
    return Objective(model, nn.MSELoss(), x, torch.sin(x.sum(1, keepdim=True)))


def transformer() -> Objective:
    words = torch.randint(0, 50, (8, 12))
    return Objective(Words(), Softmax(None, None), words, words.roll(1, 1))


def ours(objective: Objective, memory: int) -> None:
    optimizer = Descent(objective.parameters, LBFGS(memory=memory), StrongWolfe())
    for _ in range(STEPS):
        optimizer.step(objective)


def theirs(objective: Objective, memory: int) -> None:
    optimizer = torch.optim.LBFGS(
        objective.parameters,
        max_iter=10**6,
        max_eval=EVALUATIONS,
        history_size=memory,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(objective)


def microseconds(make: Callable[[], Objective], train: Callable[[Objective, int], None], memory: int) -> float:
    """Return CPU microseconds an evaluation."""
    torch.manual_seed(0)
    objective = make()
    start = time.process_time()
    train(objective, memory)
    return 1e6 * (time.process_time() - start) / (objective.num_gradients + objective.num_values)


def main() -> None:
    torch.set_num_threads(1)
    rows: list[Row] = []
    for make in (logistic, network, transformer):
        for memory in (10, 20):
            runs = [[microseconds(make, train, memory) for train in (ours, theirs)] for _ in range(REPEATS)]
            mine, other = (min(column) for column in zip(*runs, strict=True))
            what = f"{make.__name__}, {memory} pairs"
            details = {"ours": mine, "theirs": other}
            rows.append(Row("lbfgs", what, mine / other, "torch's evaluations", "<= 1.0", mine <= other, details))
            print(rows[-1].line())
    write_json(RESULTS, rows)


if __name__ == "__main__":
    main()
