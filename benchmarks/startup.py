"""What a command costs before it does anything: CPU seconds and memory of new processes.

    python benchmarks/startup.py                        # a minute: the table, and benchmarks/results/startup.json
    python benchmarks/startup.py --repeats 3 --out figures.json

Each command runs in new processes, one thread each, on runs that are trained here first; the figures are medians, of
what `os.wait4` says of the process.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from table import Row, write_json

QUICK = ("--width", "4", "--optimizer", "adamw", "--steps", "3", "--quiet")
RUNS = {
    "bag": ["docstrings", "--model", "bag", *QUICK],
    "linear": ["docstrings", "--model", "linear", *QUICK],
    "lstm": ["docstrings", "--model", "lstm", *QUICK],
}
SECONDS, MEGABYTES = 1.0, 150.0  # targets of what has next to nothing to do


def commands(folder: Path) -> dict[str, tuple[list[str], bool]]:
    """Return command lines by name, and whether each has a target."""
    text = "Return the sum of two numbers."
    found = {
        "--help": (["--help"], True),
        "data docstrings": (["data", "docstrings"], False),  # whose time is that of reading
        "data sunspots": (["data", "sunspots"], True),
        "verify RUN": (["verify", str(folder / "bag")], True),
    }
    return found | {f"predict RUN ({name})": (["predict", str(folder / name), text], name != "lstm") for name in RUNS}


def measured(arguments: list[str]) -> tuple[float, float]:
    """Return CPU seconds and megabytes of a process that runs a command."""
    process = os.fork()
    if process == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.execv(sys.executable, [sys.executable, "-m", "thalweg", *arguments])
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit(f"thalweg {' '.join(arguments)} has failed.")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, arguments in RUNS.items():
            measured(["train", *arguments, "--name", name, "--out", scratch])
        for name, (arguments, is_quick) in commands(Path(scratch)).items():
            found = [measured(arguments) for _ in range(options.repeats)]
            for what, unit, values, most in zip(
                ("CPU", "memory"), ("s", "MB"), zip(*found, strict=True), (SECONDS, MEGABYTES), strict=True
            ):
                value = statistics.median(values)
                target, met = (f"<= {most:g}", value <= most) if is_quick else ("", None)
                rows.append(Row("startup", f"{name}: {what}", value, unit, target, met, {"all": values}))
                print(rows[-1].line())
    write_json(options.out, rows)


if __name__ == "__main__":
    main()
