"""Try the drawn problems of the certificates' tests with fresh seeds: what the suite leaves out to stay deterministic.

    OMP_NUM_THREADS=1 python benchmarks/explore.py 20                          # every such test, with the seeds 0 to 19
    OMP_NUM_THREADS=1 python benchmarks/explore.py 20 --first 100 --only two_layer floor

A seed stands for as many examples as the test draws in the suite. Each failure is printed with its seed and example;
`1 --first SEED` draws it again. The exit code is 1 if there was any.
"""

import argparse
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis

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


def main() -> int:
    """Run every test with every seed; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("num_seeds", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="+", default=[], help="names of test files, without test_ and .py")
    options = parser.parse_args()
    failures = 0
    for name, test in drawn_tests(options.only):
        failed = []
        for seed in range(options.first, options.first + options.num_seeds):
            try:
                hypothesis.seed(seed)(test)()
            except Exception as error:
                failed.append(seed)
                print(f"{name}, seed {seed}: {''.join(traceback.format_exception_only(error))}", flush=True)
        print(f"{name}: {options.num_seeds - len(failed)} of {options.num_seeds} seeds passed", flush=True)
        failures += len(failed)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
