"""What a step of each preconditioned optimizer costs, in forward and backward passes of the model it steps.

    python benchmarks/preconditioned.py                       # half an hour; AVX-512 or AMX machines much less
    python benchmarks/preconditioned.py --quick               # see that it works; the figures mean nothing
    python benchmarks/preconditioned.py --only soap,normuon --out figures.json

A transformer language model of 10 million parameters (8,192 tied words, width 320, 6 layers) on batches of 4 x 128
tokens. One model makes the gradients of a round; every optimizer steps parameters of its own with copies of them, in
turn, so that all meet the same load. CPU seconds are those of one thread; the seconds by the clock, on two threads, are
there for an idle machine. The first step is left out of medians and named apart. Peers: PyTorch's AdamW and Muon,
pytorch_optimizer's SOAP, the last two on the matrices inside the layers with AdamW on the rest.
"""

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_optimizer
import torch
from table import Row, write_json
from torch import Tensor, nn

from thalweg.optim import SOAP, Combined, NorMuon, PolarMuon, Polynomial, Shampoo, parameter_groups

RESULTS = Path(__file__).parent / "results" / "preconditioned.json"
WORDS, WIDTH, LAYERS, BATCH, LENGTH = 8192, 320, 6, 4, 128
# Of forward and backward (222 ms on the machine where they were set, by the clock): 250 ms for SOAP, 130 ms for Muon.
TARGETS = {"SOAP": 1.13, "PolarMuon": 0.59}
WORST = 2.0  # the longest step of SOAP, in medians


class Language(nn.Module):
    """A causal transformer with tied word vectors."""

    def __init__(self, quick: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        width, layers = (64, 2) if quick else (WIDTH, LAYERS)
        self.words, self.positions = nn.Embedding(WORDS, width), nn.Embedding(LENGTH, width)
        nn.init.normal_(self.words.weight, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, words: Tensor) -> Tensor:
        """Return scores of the next words `[batch, length, words]`."""
        hidden = self.words(words) + self.positions.weight
        for layer in self.layers:
            hidden = layer(hidden, src_mask=self.mask, is_causal=True)
        return self.norm(hidden) @ self.words.weight.T


def matrices_by(make: Callable[..., torch.optim.Optimizer]) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """The peer on the matrices inside the layers, fused AdamW on the rest."""

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(model)
        inside = [p for group in groups if group["matrix"] for p in group["params"]]
        rest = [p for group in groups if not group["matrix"] for p in group["params"]]
        return Combined([make(inside), torch.optim.AdamW(rest, lr=1e-3, fused=True)])

    return optimizer


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "AdamW, fused": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True),
    "AdamW, as PyTorch has it": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
    "SOAP": lambda model: SOAP(parameter_groups(model)),
    "SOAP, all parameters given": lambda model: SOAP(model.parameters()),
    "Shampoo": lambda model: Shampoo(parameter_groups(model)),
    "PolarMuon": lambda model: PolarMuon(parameter_groups(model)),
    "NorMuon": lambda model: NorMuon(parameter_groups(model)),
    "PolarMuon, Newton-Schulz": lambda model: PolarMuon(parameter_groups(model), polar=Polynomial(half=False)),
    "torch Muon": matrices_by(lambda matrices: torch.optim.Muon(matrices, lr=0.02)),
    "pytorch_optimizer SOAP": matrices_by(lambda matrices: pytorch_optimizer.SOAP(matrices, lr=3e-3)),
}
RARELY = {"torch Muon": 5}  # without fast products in bfloat16 a step of it takes many seconds


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Return CPU seconds and seconds."""
    clock, cpu = time.perf_counter(), time.process_time()
    action()
    return time.process_time() - cpu, time.perf_counter() - clock


def measure(names: list[str], rounds: int, threads: int, quick: bool) -> dict[str, list[tuple[float, float]]]:
    """Return the times of every step, and of forward and backward under the name of nothing."""
    torch.set_num_threads(threads)
    source = Language(quick)
    models = {name: Language(quick) for name in names}
    optimizers = {name: OPTIMIZERS[name](model) for name, model in models.items()}
    generator = torch.Generator().manual_seed(1)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ["", *names]}

    def gradients() -> None:
        source.zero_grad()
        words = torch.randint(WORDS, (BATCH, LENGTH + 1), generator=generator)
        nn.functional.cross_entropy(source(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten()).backward()

    for number in range(rounds):
        times[""].append(timed(gradients))
        for name, model in models.items():
            if number % RARELY.get(name, 1) == 0:
                for own, other in zip(model.parameters(), source.parameters(), strict=True):
                    own.grad = None if other.grad is None else other.grad.clone()
                times[name].append(timed(optimizers[name].step))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(OPTIMIZERS), help="some of: " + "; ".join(OPTIMIZERS))
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2, help="of the seconds by the clock; 0: CPU seconds only")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    given = [part.strip().lower() for part in arguments.only.replace(", ", "\0").split(",")]
    names = [name for name in OPTIMIZERS if name.lower() in [part.replace("\0", ", ") for part in given]]
    rounds = 5 if arguments.quick else arguments.rounds
    alone = measure(names, rounds, 1, arguments.quick)
    clock = measure(names, rounds, arguments.threads, arguments.quick) if arguments.threads else None
    passes = statistics.median(cpu for cpu, _ in alone[""])
    rows = []
    for name in names:
        cpu = [seconds for seconds, _ in alone[name]]
        later = cpu[1:] or cpu
        median = statistics.median(later)
        details: dict[str, Any] = {
            "cpu_ms": 1e3 * median, "longest_cpu_ms": 1e3 * max(later), "first_cpu_ms": 1e3 * cpu[0],
            "forward_backward_cpu_ms": 1e3 * passes,
        }  # fmt: skip
        if clock is not None:
            seconds = [by_clock for _, by_clock in clock[name]][1:] or [clock[name][0][1]]
            details["clock_ms"] = 1e3 * statistics.median(seconds)
            details["longest_clock_ms"] = 1e3 * max(seconds)
            details["forward_backward_clock_ms"] = 1e3 * statistics.median(second for _, second in clock[""])
        target, ratio = TARGETS.get(name), median / passes
        met = None if target is None else ratio <= target
        rows.append(Row("step", name, ratio, "forward+backward", f"<= {target}" if target else "", met, details))
        worst = max(cpu) / median
        is_ours = name in ("SOAP", "Shampoo")
        aim = f"<= {WORST}" if is_ours else ""
        rows.append(Row("longest", name, worst, "medians", aim, worst <= WORST if is_ours else None))
    for row in rows:
        print(row.line())
    write_json(arguments.out, rows, rounds=rounds, quick=arguments.quick)


if __name__ == "__main__":
    main()
