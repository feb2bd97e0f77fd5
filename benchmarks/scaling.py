"""What a step costs against parameters, vocabulary, length and processes: measured, predicted, and beyond what is here.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py                         # measure and compare; minutes
    OMP_NUM_THREADS=1 python benchmarks/scaling.py --paper --ranks 1000 --bandwidth 25e9 --latency 5e-6 --flops 4e14

Sizes are predicted by hand (`scaling_model.py`). Seconds by operation, by number and by message are fitted on some
shapes, and compared on others.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))  # for the processes that this file starts

from ranks import together
from scaling_model import FLOAT, Decoder, Network, memory, messages
from scipy.optimize import nnls
from table import Row, write_json

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.heads.analytic import AnalyticSoftmax
from thalweg.heads.softmax import Softmax
from thalweg.heads.targets import Targets
from thalweg.models.presets import ModelOptions, causal_transformer
from thalweg.models.shape import ModelShape
from thalweg.objective import Objective
from thalweg.optim.construct import find_optimizer, make_optimizer

HERE = Path(__file__).parent
CLOSE = 0.2
FITTED = [
    Decoder(64, 256, 1, 500, 32, 8), Decoder(64, 256, 4, 500, 64, 8), Decoder(128, 512, 2, 500, 64, 8),
    Decoder(128, 256, 2, 4000, 64, 8), Decoder(64, 128, 2, 8000, 32, 8), Decoder(192, 768, 2, 1000, 32, 16),
    Decoder(64, 512, 3, 1000, 128, 4), Decoder(256, 512, 1, 2000, 32, 8),
]  # fmt: skip
UNSEEN = [
    Decoder(96, 384, 3, 2000, 64, 8), Decoder(128, 512, 4, 1000, 96, 6), Decoder(256, 1024, 2, 500, 32, 8),
    Decoder(64, 256, 2, 6000, 64, 8),
]  # fmt: skip
SIZES = [2**12, 2**18, 2**20, 2**22, 2**24]  # bytes of a message
UNSEEN_SIZES = [2**19, 2**21, 2**23]


def built(shape: Decoder, optimizer: str = "adamw") -> tuple[Objective, torch.optim.Optimizer]:
    """Return an objective on one batch, and an optimizer that has taken a step."""
    torch.manual_seed(0)
    options = ModelOptions(width=shape.width, hidden=shape.hidden, layers=shape.layers, heads=4, dropout=0.0)
    model = causal_transformer(ModelShape(shape.vocabulary, max_length=shape.length), options)
    if shape.target_width:
        table = torch.nn.functional.normalize(torch.randn(shape.vocabulary, shape.target_width), dim=-1)
        head = AnalyticSoftmax(shape.width, Targets(table))
    else:
        head = Softmax(shape.width, shape.vocabulary)
    ids = torch.randint(shape.vocabulary, (shape.sequences, shape.length + 1))
    objective = Objective(model, head, Batch({"tokens": ids[:, :-1]}, ids[:, 1:].contiguous()))
    taken = make_optimizer(find_optimizer(optimizer), model, head)
    objective()
    taken.step()
    return objective, taken


def kept(objective: Objective) -> int:
    """Return the bytes that the forward pass keeps for the backward pass, beside parameters and the batch."""
    own = {t.untyped_storage().data_ptr() for tensors in objective.every_tensor() for t in tensors}
    batch = objective.batches[0]
    own |= {t.untyped_storage().data_ptr() for t in (*batch.inputs.values(), batch.targets)}
    found: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes(), tensor.detach()  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        objective.sum_and_count(batch)
    return sum(size for size, _ in found.values())


def state_of(optimizer: torch.optim.Optimizer) -> int:
    """Return how many numbers an optimizer remembers, its counters of steps left out."""
    tensors = [value for entry in optimizer.state_dict()["state"].values() for value in entry.values()]
    return sum(tensor.numel() for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.dim())


def seconds(pairs: list[tuple[Objective, torch.optim.Optimizer]], rounds: int = 6) -> list[float]:
    """Return the CPU seconds of a step of each, the least of several rounds in turn."""
    found = []
    for _ in range(rounds):
        found.append([])
        for objective, optimizer in pairs:
            start = time.process_time()
            for _ in range(3):
                objective()
                optimizer.step()
            found[-1].append((time.process_time() - start) / 3)
    return np.min(found, axis=0).tolist()


def by_operation(shape: Decoder) -> list[float]:
    """Return what the seconds of a step grow with: products, numbers in between, logits, parameters, calls."""
    t = shape.tokens
    between = t * shape.layers * (8 * shape.width + 3 * shape.hidden)
    return [shape.products(), between, t * shape.vocabulary, shape.parameters(), shape.layers, 1.0]


def fitted(grows: Callable[[Decoder], list[float]], measured: list[float], shapes: list[Decoder]) -> np.ndarray:
    """Return the factor of each, not negative, by least squares of the relative errors."""
    rows = np.array([grows(shape) for shape in shapes]) / np.array(measured)[:, None]
    scale = rows.max(0)
    return nnls(rows / scale, np.ones(len(shapes)))[0] / scale


def compared(part: str, what: str, predicted: float, measured: float, unit: str, allowed: float = CLOSE) -> Row:
    """Return predicted over measured as a row."""
    predicted, measured = float(predicted), float(measured)
    ratio = predicted / measured
    details = {"predicted": predicted, "measured": measured, "unit": unit}
    target = "exact" if not allowed else f"1 +- {allowed}"
    return Row(part, what, ratio, f"of {measured:.4g} {unit}", target, bool(abs(ratio - 1.0) <= allowed), details)


def named(shape: Decoder) -> str:
    """Return a shape in a few words."""
    head = f" m {shape.target_width}" if shape.target_width else ""
    batch = f"t {shape.length}x{shape.sequences}"
    return f"w {shape.width} h {shape.hidden} l {shape.layers} V {shape.vocabulary} {batch}{head}"


def measure_alone() -> Iterator[Row]:
    """Compare sizes, bytes that are kept and seconds of one process."""
    for optimizer in ("sgd", "adamw", "muon"):
        for shape in (UNSEEN[0], Decoder(96, 384, 3, 2000, 64, 8, target_width=48)):
            objective, taken = built(shape, optimizer)
            kind = "continuous" if shape.target_width else "softmax"
            num = sum(tensor.numel() for tensor in objective.parameters)
            yield compared("sizes", f"parameters, {kind}", shape.parameters(), num, "numbers", 0.0)
            own = state_of(taken)
            if own or shape.state(optimizer):
                yield compared("sizes", f"state of {optimizer}, {kind}", shape.state(optimizer), own, "numbers", 0.0)
    pairs = {shape: built(shape) for shape in (*FITTED, *UNSEEN)}
    for shape, (objective, _) in pairs.items():
        yield compared("memory", f"kept, {named(shape)}", FLOAT * shape.kept(), kept(objective), "bytes")
    others = [Decoder(64, 64, 1, vocabulary, 64, 8, target_width=32) for vocabulary in (4000, 20_000)]
    for shape in (Decoder(32, 32, 1, 50_000, 64, 8), *others):
        yield compared("memory", f"kept, {named(shape)}", FLOAT * shape.kept(), kept(built(shape)[0]), "bytes")
    took = dict(zip(pairs, seconds(list(pairs.values())), strict=True))
    speed = fitted(by_operation, [took[shape] for shape in FITTED], FITTED)
    for shape in UNSEEN:
        yield compared("time", f"a step, {named(shape)}", float(speed @ by_operation(shape)), took[shape], "CPU s")
    per_second = float(1e-9 / max(speed[0], 1e-30))
    yield Row("time", "operations a second of products, fitted", per_second, f"e9; alone {rate():.3g}e9")


def rate() -> float:
    """Return billions of operations a second of a product of matrices by itself."""
    left, right = torch.randn(512, 256), torch.randn(256, 512)
    found = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(20):
            left @ right
        found.append((time.process_time() - start) / 20)
    return 2e-9 * left.numel() * 512 / min(found)


def messages_of(sizes: list[int]) -> list[list[float]]:
    """Return the CPU and wall seconds of a sum over all processes for each size, the least of several."""
    found = []
    for size in sizes:
        tensor, pairs = torch.zeros(size // FLOAT), []
        for _ in range(12):
            distributed.gather(0)  # all begin together
            cpu, wall = time.process_time(), time.perf_counter()
            distributed.begin_sum(tensor)()
            pairs.append((time.process_time() - cpu, time.perf_counter() - wall))
        found.append([min(cpu for cpu, _ in pairs), min(wall for _, wall in pairs)])
    return found


def measure_messages(num: int) -> Iterator[Row]:
    """Compare the seconds of messages among `num` processes."""
    with tempfile.TemporaryDirectory() as folder:
        found = together(messages_of, [*SIZES, *UNSEEN_SIZES], folder=folder, num=num)
    wall = np.max([[pair[1] for pair in one] for one in found], axis=0)
    rows = np.array([[2 * (num - 1), 2 * (num - 1) / num * size] for size in SIZES]) / wall[: len(SIZES), None]
    scale = rows.max(0)
    latency, per_byte = nnls(rows / scale, np.ones(len(SIZES)))[0] / scale
    network = Network(num, float(1.0 / max(per_byte, 1e-15)), float(latency))
    yield Row("messages", f"bandwidth, {num} processes", network.bandwidth / 1e9, f"GB/s; latency {latency:.2g} s")
    for size, measured in zip(UNSEEN_SIZES, wall[len(SIZES) :], strict=True):
        yield compared("messages", f"{size:,} bytes, {num} processes", network.sum(size), measured, "s")


def on_paper(given: argparse.Namespace) -> Iterator[str]:
    """Say what a billion parameters need; nothing of it was measured."""
    network = Network(given.ranks, given.bandwidth, given.latency)
    yield "| output | optimizer | parameters | | weights + gradients | state | kept | messages | products |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for target_width in (0, 128):
        shape = Decoder(1536, 6144, 32, 50_000, 2048, 4, target_width)
        for optimizer in ("sgd", "adamw", "muon"):
            for divided in (False, True):
                size = memory(shape, optimizer, given.ranks if divided else 1)
                sizes = size["weights"] + size["gradients"], size["state"], size["kept"]
                seconds_of = messages(shape, network, divided=divided), shape.products() / given.flops
                figures = (f"{number / 1e9:.2f} GB" for number in sizes)
                times = (f"{1e3 * number:.0f} ms" for number in seconds_of)
                kind = "continuous" if target_width else "softmax"
                way = "divided" if divided else "on each"
                cells = [kind, optimizer, f"{shape.parameters() / 1e9:.3f} e9", way, *figures, *times]
                yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", action="store_true", help="compute for a billion parameters, and measure nothing")
    parser.add_argument("--ranks", type=int, default=1000)
    parser.add_argument("--bandwidth", type=float, default=25e9, help="bytes a second from one process to the next")
    parser.add_argument("--latency", type=float, default=5e-6, help="seconds of a message of no length")
    parser.add_argument("--flops", type=float, default=2e14, help="operations a second of one process")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scaling.json")
    given = parser.parse_args()
    if given.paper:
        print("\n".join(on_paper(given)))
        return
    torch.set_num_threads(1)
    rows = []
    for part in (measure_alone(), measure_messages(2), measure_messages(4)):
        for row in part:
            rows.append(row)
            print(row.line(), flush=True)
    write_json(given.out, rows)


if __name__ == "__main__":
    main()
