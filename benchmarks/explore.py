"""Try the drawn problems of the certificates' tests with fresh seeds: what the suite leaves out to stay deterministic.

    OMP_NUM_THREADS=1 python benchmarks/explore.py 20                          # every such test, with the seeds 0 to 19
    OMP_NUM_THREADS=1 python benchmarks/explore.py 20 --first 100 --only two_layer floor

`--only halfspaces` draws rougher problems for halfspaces than the tests do, 60 a seed, and compares them with integers.
Else a seed stands for as many examples as the test draws in the suite. Each failure is printed with its seed and
example; `1 --first SEED` draws it again. The exit code is 1 if there was any.
"""

import argparse
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np

from thalweg.errors import InputError

TESTS = Path(__file__).parents[1] / "tests"


def drawn_tests(only: list[str]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield every test of the certificates that draws its problems, with its name."""
    sys.path.insert(0, str(TESTS))
    for path in [TESTS / "conftest.py", *sorted((TESTS / "certificates").rglob("test_*.py"))]:
        name = path.stem.removeprefix("test_")
        if path.name != "conftest.py" and only and name not in only:
            continue
        spec = importlib.util.spec_from_file_location(f"explored_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for key, value in vars(module).items():
            if getattr(value, "is_hypothesis_test", False):
                yield f"{name}.{key}", value


def halfspaces(seed: int, num_problems: int = 60) -> None:
    """Compare separability and fewest errors with integers: columns of scales 1e-6 to 1e6, offsets, near collinear."""
    from halfspace_problems import fewest, separable_in_integers, splits

    from thalweg.certificates.halfspaces.separable import disjoint_conflicts, separability
    from thalweg.certificates.halfspaces.threshold import Gate, fewest_errors

    undecided = 0
    for number in range(num_problems):
        rng = np.random.default_rng([seed, number])
        num, dimension = int(rng.integers(1, 7 if number % 10 == 0 else 14)), int(rng.integers(1, 5))
        x = rng.normal(size=(num, dimension))
        match int(rng.integers(0, 4)):
            case 0:
                x = rng.integers(-2, 3, size=x.shape).astype(float)
            case 1:
                x = np.round(x, 1)
            case 2:
                x[:, -1] = x[:, 0] * (1.0 + 1e-12 * rng.integers(-1, 2, num))
        scale = 10.0 ** rng.integers(-6, 7, dimension)
        x = x * scale + rng.choice([0.0, 1e9, 1.7e9, -3.3, 1e-3], dimension)
        if rng.random() < 0.3:
            x[:, rng.integers(dimension)] = rng.choice([0.0, 5.0, 1e9])
        x[rng.integers(num)] = x[rng.integers(num)]
        labels = rng.integers(0, 2, num)
        if rng.random() < 0.4:
            value = (x - x[0]) @ (rng.normal(size=dimension) / scale)
            labels = (value > np.median(value)).astype(int)
        sign = np.where(labels, 1, -1)
        try:
            found = separability(x, sign)
        except InputError:
            undecided += 1
            continue
        assert found.separable == separable_in_integers(x, labels), f"problem {number}"
        conflicts = disjoint_conflicts(x, sign)
        assert conflicts.stopped or (len(conflicts.sets) == 0) == found.separable, f"problem {number}"
        if number % 10 == 0:
            units = splits(x)
            for gate in Gate:
                best = fewest_errors(x, labels, gate)
                right = best.bound == fewest(units, labels, gate) <= best.errors == best.network.errors(x, labels)
                assert right, f"problem {number}, {gate}"
    assert undecided <= 0.05 * num_problems, f"{undecided} of {num_problems} were not decided"


def main() -> int:
    """Run every test with every seed; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("num_seeds", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="+", default=[], help="names of test files, without test_ and .py")
    options = parser.parse_args()
    failures = 0
    runs = {name: lambda seed, test=test: hypothesis.seed(seed)(test)() for name, test in drawn_tests(options.only)}
    if not options.only or "halfspaces" in options.only:
        runs["halfspaces"] = halfspaces
    for name, run in runs.items():
        failed = []
        for seed in range(options.first, options.first + options.num_seeds):
            try:
                run(seed)
            except Exception as error:
                failed.append(seed)
                print(f"{name}, seed {seed}: {''.join(traceback.format_exception_only(error))}", flush=True)
        print(f"{name}: {options.num_seeds - len(failed)} of {options.num_seeds} seeds passed", flush=True)
        failures += len(failed)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
