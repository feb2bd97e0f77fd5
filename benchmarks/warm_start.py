"""What `--start-from` saves: BANKING77 in two halves, the second one trained from initial weights and from the first.

    OMP_NUM_THREADS=1 python benchmarks/warm_start.py

Prints the validation loss and accuracy of the second half after each evaluation, and writes JSON. No text is in both
halves.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import csv
import lzma
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from public_sets import DATA
from table import Row, write_json

from thalweg import train
from thalweg.training.folder.run import Run

RESULTS = Path(__file__).parent / "results" / "warm_start.json"
NETWORK = {"task": "classify", "model": "lstm", "width": 64, "hidden": 64}
EPOCHS_BEFORE, EPOCHS = 6, 4


def halves(folder: Path, num_rows: int | None) -> tuple[Path, Path]:
    """Write the two halves of the training texts, each text on one side."""
    with lzma.open(DATA / "banking77" / "train.csv.xz", "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    rows = list({row[0].strip().lower(): row for row in rows}.values())
    random.Random(0).shuffle(rows)
    rows = rows[:num_rows]
    paths = folder / "first.csv", folder / "second.csv"
    for path, part in zip(paths, (rows[::2], rows[1::2]), strict=True):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *part])
    return paths


def rows_of(name: str, run: Run) -> Iterator[Row]:
    """Return the figures of each evaluation."""
    for entry in run.history:
        if entry["event"] == "evaluation":
            details = {"accuracy": entry["metrics"]["accuracy"]}
            what = f"{name}, step {entry['step']}, accuracy {details['accuracy']:.3f}"
            yield Row("lstm", what, entry["loss"], "validation loss", details=details)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="see that it works; the figures mean nothing")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = halves(folder, 400 if quick else None)
        before = train(first, out=folder, epochs=1 if quick else EPOCHS_BEFORE, **NETWORK)
        epochs = 1 if quick else EPOCHS
        fresh = train(second, out=folder, name="fresh", epochs=epochs, **NETWORK)
        warm = train(second, out=folder, name="warm", epochs=epochs, start_from=str(before.folder))
        rows = [*rows_of("initial weights", fresh), *rows_of("from the first half", warm)]
    for row in rows:
        print(row.line())
    if not quick:
        write_json(RESULTS, rows, threads=1)


if __name__ == "__main__":
    main()
