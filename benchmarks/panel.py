"""Several series in one file: one equation for all of them beside one equation for each.

    OMP_NUM_THREADS=1 python benchmarks/panel.py            # about a minute
    OMP_NUM_THREADS=1 python benchmarks/panel.py --quick    # see that it works; the figures mean nothing

Six simulated AR(2) series in a file, whose laws are the same (0.6, 0.2), or opposite for half of them (-0.6, 0.2). Each
is trained on its first rows, in one run with an id column and in a run of its own, with all defaults, and forecasts the
400 rows behind these one step ahead. The figure is the mean squared error over the noise's variance, 1 at best, on
average over the series and the panels.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from table import Row, write_json

from thalweg import train

RESULTS = Path(__file__).parent / "results" / "panel.json"
NUM_SERIES, NUM_TESTED, NUM_BEFORE = 6, 400, 200
LAWS = {"the same law": ((0.6, 0.2),) * 2, "opposite laws": ((0.6, 0.2), (-0.6, 0.2))}


def simulated(law: tuple[float, float], num_rows: int, noise: np.random.Generator) -> np.ndarray:
    """Return a series of an AR(2) process whose noise has variance 1."""
    values = np.zeros(NUM_BEFORE + num_rows)
    for row in range(2, len(values)):
        values[row] = law[0] * values[row - 1] + law[1] * values[row - 2] + noise.normal()
    return values[NUM_BEFORE:]


def errors(table: pd.DataFrame, num_rows: int, folder: Path) -> Iterator[float]:
    """Yield the mean squared error of each series, trained in one run."""
    place = table.groupby("id").cumcount()
    before, behind = table[place < num_rows], table[place >= num_rows]
    names = table["id"].unique()
    how = {"task": "forecast", "columns": ("y",), "time_column": "day", "id_column": "id" if len(names) > 1 else "none"}
    run = train(before, valid=behind, out=folder, **how)
    for name in names:
        nmse = run.metrics[f"nmse {name}" if len(names) > 1 else "nmse"]
        yield nmse * float(np.var(behind.loc[behind["id"] == name, "y"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="see that it works; the figures mean nothing")
    quick = parser.parse_args().quick
    rows = []
    for what, laws in LAWS.items():
        for num_rows in (40,) if quick else (40, 100, 300):
            shared, each = [], []
            for panel in range(1 if quick else 5):
                noise = np.random.default_rng(panel)
                days = pd.date_range("2020-01-01", periods=num_rows + NUM_TESTED).strftime("%Y-%m-%d")
                tables = [
                    pd.DataFrame({"id": f"s{i}", "day": days, "y": simulated(laws[i % 2], len(days), noise)})
                    for i in range(NUM_SERIES)
                ]
                with tempfile.TemporaryDirectory() as folder:
                    shared += errors(pd.concat(tables), num_rows, Path(folder))
                    each += [error for table in tables for error in errors(table, num_rows, Path(folder))]
            for how, found in (("one equation", shared), ("one each", each)):
                rows.append(Row("panel", f"{what}, {num_rows} rows, {how}", float(np.mean(found)), "x noise variance"))
                print(rows[-1].line(), flush=True)
    if not quick:
        write_json(RESULTS, rows, threads=1)


if __name__ == "__main__":
    main()
