"""Whether two processes have the losses of one: every optimizer, head and model of the test, in float64.

OMP_NUM_THREADS=1 python benchmarks/processes.py [--steps 50] [--out processes.json]
OMP_NUM_THREADS=1 python benchmarks/processes.py --shard         # two processes that divide their parameters; 4 steps
OMP_NUM_THREADS=1 python benchmarks/processes.py --speed 20      # seconds a step instead, of a language model
"""

import argparse
import itertools
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))  # for the processes that this file starts
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training" / "session"))

import test_ranks
import torch
from ranks import together
from table import Row, write_json

from thalweg import names
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.loop import train
from thalweg.training.session.prepare import Request, prepare

HERE = Path(__file__).parent
DIGITS = -math.log10(test_ranks.CLOSE)
EXACT = 17.0  # no difference at all
FASTER = 1.7
LANGUAGE = {
    "source": "manual", "task": "language", "model": "transformer", "width": 128, "hidden": 512, "layers": 4,
    "max_length": 128, "vocabulary_size": 4000, "batch_size": 32, "optimizer": "adamw", "steps": 10_000,
    "evaluate_every": 10**9, "checkpoint_every": 1e9, "name": "speed",
}  # fmt: skip
SMALL = {**test_ranks.LSTM, "model": "transformer", "heads": 2, "width": 8, "hidden": 8, "layers": 2, "lr": 1e-2}
WRITES = {**test_ranks.TRANSLATE, "model": "transformer", "heads": 2}
DIVIDED = {
    **{f"optimizer {name}": {**SMALL, "optimizer": name} for name in names.DIVISIBLE},
    **{f"model {name}": {**SMALL, "model": name} for name in ("bag", "mlp", "gru", "lstm")},
    **{f"head {name}": {**WRITES, "head": name} for name in names.HEADS if name != names.CHAIN_HEAD},
    "following targets": {**WRITES, "head": "contrastive", "targets": "embedding", "target_average": 0.9},
    "dispersion": {**WRITES, "head": "contrastive", "targets": "trained", "dispersion": "sliced"},
    "tied": {**WRITES, "tie": True},
    "norm clipped": {**SMALL, "clip": 0.1},
    "values clipped": {**SMALL, "clip_value": 0.01},
    "units clipped": {**SMALL, "clip_adaptive": 0.01},
    "by norms before": {**SMALL, "clip_running": 1.5},
    "update clipped": {**SMALL, "clip_update": 0.5},
    "average": {**SMALL, "average": "ema"},
    "accumulation": {**SMALL, "accumulate": 3, "batch_size": 30},
    "penalty": {**SMALL, "l2": 1e-3},
    "dropout": {**SMALL, "dropout": 0.3},
    "single numbers": {**SMALL, "skip": "rezero"},
    "tag": {**SMALL, "task": "tag", "source": "words.conll", "head": "crf"},
    "score": {**SMALL, "task": "score", "source": "phrases"},
    "language": {**test_ranks.CASES["language"], "batch_size": 8},
    "forecast": {**test_ranks.CASES["forecast"], "optimizer": "adamw"},
}  # fmt: skip


def seconds(folder: str, part: str, steps: int) -> float:
    """Return the median seconds of so many steps after the first three, neither evaluated nor saved."""
    torch.set_num_threads(1)
    times = []
    with prepare(Request(Options(LANGUAGE), Path(folder) / part), lambda _: None) as session:
        entries = train(session)
        for entry in entries:
            if entry["event"] == "step":
                times.append(time.perf_counter())
            if len(times) > steps + 3:
                break
        entries.close()
    return statistics.median(after - before for before, after in itertools.pairwise(times[3:]))


def measure_speed(steps: int, rounds: int = 3) -> list[Row]:
    """Print how many times as fast two processes are, in turn with one; the batch is the same."""
    rows = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            one = seconds(folder, "one", steps)
            two = max(together(seconds, folder, "two", steps, folder=folder, seconds=1800.0))
        case = f"two processes, round {number + 1}"
        rows.append(Row("speed", case, one / two, "x one", f">= {FASTER}", one / two >= FASTER))
        print(rows[-1].line(), flush=True)
    return rows


def main() -> None:
    """Train each case in one process and in two, print the largest relative difference of a loss, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=0, help="0: 50, and 4 with --shard")
    parser.add_argument("--shard", action="store_true", help="divide the parameters of the two")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "processes.json")
    parser.add_argument("--speed", type=int, default=0, help="measure so many steps of a language model instead")
    given = parser.parse_args()
    if given.speed:
        write_json(given.out, measure_speed(given.speed))
        return
    rows, steps = [], given.steps or (4 if given.shard else 50)
    with tempfile.TemporaryDirectory() as folder:
        test_ranks.write_data(Path(folder))
        cases = DIVIDED if given.shard else test_ranks.CASES
        alone = test_ranks.curves(folder, "one", steps, cases)
        if given.shard:
            cases = {name: {**case, "shard": True} for name, case in cases.items()}
        first, second = together(test_ranks.curves, folder, "two", steps, cases, folder=folder, seconds=1800.0)
    for case, (status, losses) in alone.items():
        ended, others = first[case]
        apart = max(abs(one - two) / max(abs(one), 1e-300) for one, two in zip(losses, others, strict=True))
        digits = -math.log10(apart) if apart else EXACT
        is_same = first[case] == second[case] and ended == status
        unit = f"digits alike in {len(losses)} losses"
        rows.append(Row("two", case, digits, unit, f">= {DIGITS:.0f}", is_same and digits >= DIGITS))
        print(rows[-1].line(), flush=True)
    write_json(given.out, rows)


if __name__ == "__main__":
    main()
