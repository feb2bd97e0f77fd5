"""CPU seconds of whole commands with this checkout and with another one, in turn, and their ratio.

python benchmarks/versus.py OTHER/src [--repeats 5] [--only train]

Each command runs in a process of its own with one thread, this checkout and the other in turn, so that a machine whose
speed drifts treats both alike; the figure to read is the ratio of the medians.
"""

import argparse
import os
import random
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from table import Row, write_json

OWN = Path(__file__).parents[1] / "src"
ROWS = 40_000  # of the file that is read
COMMANDS = {
    "train: proved bag": "train docstrings --out {out} --overwrite --quiet",
    "train: LSTM, 60 steps": "train docstrings --model lstm --steps 60 --out {out} --name lstm --overwrite --quiet",
    "train: transformer, 30 steps": "train numbers --steps 30 --out {out} --name numbers --overwrite --quiet",
    "train: L-BFGS, 40 steps": "train sunspots --optimizer lbfgs --line-search wolfe --steps 40 --out {out} --name"
    " lbfgs --overwrite --quiet",
    "read: 40,000 rows into ids": "train {file} --model lstm --fast --out {out} --overwrite --quiet",
    "certify: bag": "certify {out}/docstrings --no-report --quiet",
}
TOLERANCE = 1.02


def seconds(command: str, source: Path) -> float:
    """Run a command of thalweg and return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, "-m", "thalweg", *shlex.split(command)], env=environment, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_rows(path: Path) -> None:
    """Write texts with two labels."""
    rng = random.Random(0)
    words = [f"word{number}" for number in range(5000)]
    lines = (f'"{" ".join(rng.choices(words, k=20))}",{rng.choice("ab")}' for _ in range(ROWS))
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the `src` folder of another checkout")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="commands whose name begins so")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "versus.json")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        write_rows(file)
        for name, template in COMMANDS.items():
            if not name.startswith(arguments.only):
                continue
            taken: dict[Path, list[float]] = {OWN: [], arguments.other: []}
            for _ in range(arguments.repeats):
                for number, source in enumerate(taken):
                    command = template.format(out=Path(folder) / f"runs{number}", file=file)
                    taken[source].append(seconds(command, source))
            own, other = map(statistics.median, taken.values())
            ratio = own / other
            details = {"seconds": own, "other_seconds": other}
            rows.append(
                Row("versus", name, ratio, "of the other's CPU seconds", f"<= {TOLERANCE}", ratio <= TOLERANCE, details)
            )
            print(rows[-1].line(), f"{own:.2f} s, {other:.2f} s", flush=True)
    write_json(arguments.out, rows)


if __name__ == "__main__":
    main()
