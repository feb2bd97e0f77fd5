"""What an output layer costs: time and memory of forward and backward, softmax against continuous families.

    OMP_NUM_THREADS=1 python benchmarks/heads.py                              # V = 8k, 32k, 128k; ten minutes
    OMP_NUM_THREADS=1 python benchmarks/heads.py --vocabularies 32000 --vector-width 300
    OMP_NUM_THREADS=1 python benchmarks/heads.py --bessel                     # log-partition next to SciPy
    python benchmarks/heads.py --device cuda

The head alone: hidden states `[tokens, width]` in, gradients of hidden states and of the head's parameters out. Target
ids are Zipf-distributed, as words are. Times are CPU seconds of one thread (on a GPU wall seconds after waiting for
it), medians; families and peers are timed in turn. Memory is the most that is held beyond what lay there before, from
the allocator: scratch space inside of matrix products is not in it.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages

import numpy as np
import torch
from scipy.special import ive
from table import Row, write_json
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.heads.analytic import AnalyticSoftmax
from thalweg.heads.base import AbstractHead
from thalweg.heads.bessel import log_partition
from thalweg.heads.contrastive import Contrastive, SampledSoftmax
from thalweg.heads.distance import L2, Cosine, PowerSpherical
from thalweg.heads.margin import MaxMargin, SyntheticMargin, Triplet
from thalweg.heads.softmax import Softmax
from thalweg.heads.target_tables import random_table
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher

TARGET_V = 32000  # the size for which there are targets
ALONE, COMPARED = 40.0, 15.0  # at most one part in so many of the softmax: families of one word, and of several
Step = Callable[[], None]


def zipf(vocabulary: int) -> Tensor:
    """Counts of words, most frequent first."""
    return 1e7 / (torch.arange(vocabulary) + 2.7)


def families(width: int, vocabulary: int, vector_width: int) -> dict[str, tuple[AbstractHead, float]]:
    """Name -> head, and how many times cheaper than the softmax it is to be."""
    generator = torch.Generator().manual_seed(0)
    rows = random_table(vocabulary, vector_width, generator=generator)
    frozen = Targets(rows, counts=zipf(vocabulary))

    def learned(**options: Any) -> Targets:
        return Targets(rows, trainable=True, counts=zipf(vocabulary), **options)

    return {
        "l2": (L2(width, frozen), ALONE),
        "cosine": (Cosine(width, frozen), ALONE),
        "power spherical": (PowerSpherical(width, frozen), ALONE),
        "vmf": (VonMisesFisher(width, frozen), ALONE),
        "vmf reg1 reg2": (VonMisesFisher(width, frozen, reg1=0.02, reg2=0.1), ALONE),
        "vmf log": (VonMisesFisher(width, frozen, reg1=0.2, logarithmic=True), ALONE),
        "margin by projection": (SyntheticMargin(width, frozen), ALONE),
        "margin by difference": (SyntheticMargin(width, frozen, difference=True), ALONE),
        "max-margin in batch": (MaxMargin(width, frozen), ALONE),
        "triplet in batch": (Triplet(width, frozen), ALONE),
        "analytic, no shortlist": (AnalyticSoftmax(width, frozen, shortlist=0, with_batch=False), ALONE),
        "analytic, shortlist 512 + batch": (AnalyticSoftmax(width, frozen), COMPARED),
        "analytic, the same, learned": (AnalyticSoftmax(width, learned()), COMPARED),
        "analytic, learned, sparse": (AnalyticSoftmax(width, learned(sparse=True)), COMPARED),
        "contrastive, frozen": (Contrastive(width, frozen), COMPARED),
        "contrastive, learned": (Contrastive(width, learned()), COMPARED),
        "contrastive, learned, sparse": (Contrastive(width, learned(sparse=True)), COMPARED),
        "sampled 1024, frozen": (SampledSoftmax(width, frozen), COMPARED),
        "sampled 1024, learned": (SampledSoftmax(width, learned()), COMPARED),
        "sampled 1024, learned, sparse": (SampledSoftmax(width, learned(sparse=True)), COMPARED),
    }


def step_of_head(head: AbstractHead, hidden: Tensor, ids: Tensor) -> Step:
    def step() -> None:
        hidden.grad = None
        for parameter in head.parameters():
            parameter.grad = None
        head.loss_from_hidden(hidden, ids)[0].backward()

    return step


def step_of(module: nn.Module, hidden: Tensor, loss: Callable[[], Tensor]) -> Step:
    def step() -> None:
        hidden.grad = None
        for parameter in module.parameters():
            parameter.grad = None
        loss().backward()

    return step


def peers(hidden: Tensor, ids: Tensor, vocabulary: int, native: bool) -> dict[str, Step]:
    """What else there is, each with its own parameters."""
    width, device = hidden.shape[1], hidden.device
    linear = nn.Linear(width, vocabulary, device=device)
    cutoffs = [2000, 10000] if vocabulary > 10000 else [2000]
    adaptive = nn.AdaptiveLogSoftmaxWithLoss(width, vocabulary, cutoffs, div_value=4.0).to(device)
    found = {
        "linear + F.cross_entropy": step_of(linear, hidden, lambda: F.cross_entropy(linear(hidden), ids)),
        "thalweg Softmax": step_of_head(Softmax(width, vocabulary).to(device), hidden, ids),
        "nn.AdaptiveLogSoftmaxWithLoss": step_of(adaptive, hidden, lambda: adaptive(hidden, ids).loss),
    }
    if native:
        options = nn.LinearCrossEntropyOptions()
        found["F.linear_cross_entropy"] = step_of(
            linear, hidden, lambda: F.linear_cross_entropy(hidden, linear.weight, ids, options=options)
        )
    return found


def seconds(step: Step, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    step()
    return time.process_time() - start


def peak_bytes(step: Step, device: torch.device) -> int:
    """The most memory that a step holds beyond what is there before it."""
    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = np.cumsum([0, *(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))])
    return int((held - np.minimum.accumulate(held)).max())  # the gradients of the step before are freed first


def measure(steps: dict[str, Step], device: torch.device, repeats: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Milliseconds and megabytes of each step; the steps are taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for turn in range(max(repeats.values())):
        for name, step in steps.items():
            if turn < repeats[name]:
                times[name].append(seconds(step, device))
    return {
        name: (1e3 * statistics.median(times[name]), peak_bytes(step, device) / 1e6) for name, step in steps.items()
    }


def heads(arguments: argparse.Namespace) -> list[Row]:
    device = torch.device(arguments.device)
    rows = []
    for vocabulary in arguments.vocabularies:
        torch.manual_seed(0)
        hidden = torch.randn(arguments.tokens, arguments.width, device=device, requires_grad=True)
        ids = torch.multinomial(zipf(vocabulary), arguments.tokens, replacement=True).to(device)
        others = peers(hidden, ids, vocabulary, native=vocabulary <= TARGET_V or device.type == "cuda")
        made = families(arguments.width, vocabulary, arguments.vector_width)
        steps = dict(others)
        for name, (head, _) in made.items():
            steps[name] = step_of_head(head.to(device), hidden, ids)
        few = arguments.repeats if device.type == "cuda" else 3 if vocabulary <= TARGET_V else 1
        repeats = {name: few if name in others else arguments.repeats for name in steps}
        figures = measure(steps, device, repeats)
        base_ms, base_mb = figures["linear + F.cross_entropy"]
        part = f"V={vocabulary // 1000}k"
        for name, (ms, mb) in figures.items():
            limit = made[name][1] if name in made and vocabulary == TARGET_V and device.type == "cpu" else None
            details = {"ms": ms, "mb": mb, "distinct_words": len(ids.unique()), "vector_width": arguments.vector_width}
            rows.append(
                Row(
                    part,
                    f"{name}: {ms:.2f} ms",
                    base_ms / ms,
                    "x cheaper than cross-entropy",
                    "" if limit is None else f">= {limit:.0f}",
                    None if limit is None else base_ms / ms >= limit,
                    details,
                )
            )
            rows.append(
                Row(
                    part,
                    f"{name}: {mb:.2f} MB",
                    base_mb / mb,
                    "x less memory",
                    "" if limit is None else f">= {limit:.0f}",
                    None if limit is None else base_mb / mb >= limit,
                    details,
                )
            )
    return rows


def bessel(arguments: argparse.Namespace) -> list[Row]:
    """Log-partition and its derivative, next to what is usually written: two calls of SciPy on the CPU."""
    rows = []
    for width in (128, 300, 768):
        for num in (2048, 32768):
            kappa = torch.rand(num) * 200.0 + 5.0

            def ours(kappa: Tensor = kappa, width: int = width) -> None:
                leaf = kappa.clone().requires_grad_()
                log_partition(leaf.square(), width).sum().backward()

            def usual(kappa: Tensor = kappa, width: int = width) -> None:
                k, v = kappa.double().numpy(), width / 2 - 1
                first, second = ive(v, k), ive(v + 1, k)
                with np.errstate(all="ignore"):
                    torch.from_numpy(np.log(first) + k - v * np.log(k)).float(), torch.from_numpy(second / first)

            times: dict[str, list[float]] = {"ours": [], "usual": []}
            for _ in range(arguments.repeats):
                times["usual"].append(seconds(usual, torch.device("cpu")))
                times["ours"].append(seconds(ours, torch.device("cpu")))
            ms = {name: 1e3 * statistics.median(values) for name, values in times.items()}
            ratio = ms["usual"] / ms["ours"]
            rows.append(Row("bessel", f"m={width}, {num} values: {ms['ours']:.3f} ms", ratio, "x faster than SciPy",
                            ">= 10", ratio >= 10.0, ms))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[8000, 32000, 128000])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vector-width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bessel", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "heads.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = bessel(arguments) if arguments.bessel else heads(arguments)
    for row in rows:
        print(row.line())
    write_json(arguments.out, rows, arguments=json.loads(json.dumps(vars(arguments), default=str)))


if __name__ == "__main__":
    main()
