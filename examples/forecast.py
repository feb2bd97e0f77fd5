"""Forecast two series at once, several steps ahead, and compare with the simplest forecast there is."""

import csv
import math
import random
from pathlib import Path

import thalweg


def write_weeks(path: Path, num_days: int) -> list[tuple[float, float]]:
    """Write a daily load and price with a week's rhythm and some noise; return the rows."""
    draw = random.Random(0)
    rows = []
    for day in range(num_days):
        turn = 2 * math.pi * day / 7
        rows.append((50 + 10 * math.sin(turn) + draw.gauss(0, 1), 20 + 5 * math.cos(turn) + draw.gauss(0, 0.5)))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["day", "load", "price"])
        writer.writerows((day, f"{load:.2f}", f"{price:.2f}") for day, (load, price) in enumerate(rows))
    return rows


def main() -> None:
    rows = write_weeks(Path("power.csv"), 300)
    run = thalweg.train("power.csv", lags=7, epochs=40, say=print)
    # NMSE: squared error over that of the mean. naive_nmse is "tomorrow as today".
    print({name: round(value, 3) for name, value in run.metrics.items()})
    (answer,) = run.predict([{"values": rows[-7:], "steps": 3}])
    for ahead, step in enumerate(answer["forecast"], start=1):
        print(f"in {ahead} days: load {step['load']:.1f}, price {step['price']:.1f}")


if __name__ == "__main__":
    main()
