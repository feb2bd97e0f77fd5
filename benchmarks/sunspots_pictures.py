"""The pictures of docs/sunspots.md, from what `sunspots.py` has written; needs `pip install matplotlib`.

python benchmarks/sunspots_pictures.py benchmarks/results/sunspots.json
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image
from sunspots import CLASSIC, GOALS, SPLIT, windows

mpl.use("Agg")
import matplotlib.pyplot as plt

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
Rows = list[dict[str, Any]]


def main() -> None:
    """Read one or more result files and draw."""
    files = sys.argv[1:] or [str(Path(__file__).parent / "results" / "sunspots.json")]
    rows = [row for file in files for row in json.loads(Path(file).read_text(encoding="utf-8"))["rows"]]
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 100})
    PICTURES.mkdir(exist_ok=True)
    draw_starts(rows)
    draw_descent(rows)
    draw_forecasts(rows)
    draw_sparse(rows)


def part(rows: Rows, experiment: str, activation: str, *, named: bool = False) -> Rows:
    """Return the rows of one experiment; `named` keeps those with a short name."""
    found = [row["details"] | {"what": row["what"]} for row in rows if row["part"] == experiment]
    return [row for row in found if row["activation"] == activation and (row["key"] or not named)]


def save(figure: Any, name: str) -> None:
    """Write one picture, with 32 colors, so that it stays small."""
    buffer = io.BytesIO()
    figure.savefig(buffer, bbox_inches="tight")
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(32, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)


def draw_starts(rows: Rows) -> None:
    """One dot a start."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
    for axis, (activation, goal) in zip(axes, GOALS.items(), strict=True):
        own = part(rows, "all", activation)
        for place, row in enumerate(own):
            axis.plot(row["all"], [place] * len(row["all"]), "o", ms=3, alpha=0.5, color="#3b6ea5")
            axis.plot([row["median"]], [place], "|", ms=12, mew=2, color="#c0392b")
        axis.axvline(goal, color="#888888", lw=0.8, ls=":")
        axis.set(xscale="log", xlabel="NMSE after 100 iterations", title=activation, xlim=(0.045, 1.0))
        axis.set_xticks([0.05, 0.1, 0.2, 0.5, 1.0], ["0.05", "0.1", "0.2", "0.5", "1"])
        axis.set_yticks(range(len(own)), [row["what"] for row in own])
    axes[0].invert_yaxis()
    save(figure, "sunspots-starts.png")


def draw_descent(rows: Rows) -> None:
    """Median over the starts, by iteration."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, activation in zip(axes, GOALS, strict=True):
        for row in part(rows, "all", activation, named=True):
            axis.plot(row["trace"], lw=1.2, label=row["key"])
        axis.set(yscale="log", xlabel="iteration", title=activation, ylim=(0.05, 2.0))
        axis.set_yticks([0.05, 0.1, 0.2, 0.5, 1.0, 2.0], ["0.05", "0.1", "0.2", "0.5", "1", "2"])
    axes[0].set_ylabel("NMSE, median of the starts")
    axes[1].legend(frameon=False, fontsize=7)
    save(figure, "sunspots-descent.png")


def draw_forecasts(rows: Rows) -> None:
    """Actual against forecast, 1921 to 1979, for the best start of each method (by the training years)."""
    own = part(rows, "split", "tanh", named=True)
    actual = [float(value) for test in SPLIT.tests for value in windows(SPLIT, 10, test)[1][:, 0]]
    draw_panels(
        own, range(SPLIT.tests[0][0], SPLIT.tests[-1][1] + 1), actual, "tested", "sunspots-forecasts.png", split=1955.5
    )


def draw_sparse(rows: Rows) -> None:
    """Actual against forecast of the 2-3-1 network from the published start."""
    own = part(rows, "published start", "leaky ReLU", named=True)
    actual = windows(CLASSIC, 2)[1][:, 0].tolist()
    years = range(CLASSIC.first + 2, CLASSIC.last + 1)
    draw_panels(own, years, actual, "forecasts", "sunspots-sparse.png", since=1900)


def draw_panels(
    own: Rows, years: range, actual: list[float], what: str, name: str, *, since: int = 0, split: float | None = None
) -> None:
    """One panel a method."""
    figure, axes = plt.subplots(4, 2, figsize=(9, 7), sharex=True, sharey=True)
    shown = [place for place, year in enumerate(years) if year >= since]
    x = [years[place] for place in shown]
    for axis, row in zip(axes.flat, own, strict=False):
        axis.plot(x, [actual[place] for place in shown], lw=1.0, color="#999999", label="actual")
        axis.plot(x, [row[what][place] for place in shown], lw=1.0, color="#c0392b", label="forecast")
        errors = f"NMSE {row['best']:.3f}" if not row["tests"] else "best start"
        axis.set_title(f"{row['key']}, {errors}", fontsize=8)
        if split is not None:
            axis.axvline(split, color="#888888", lw=0.6, ls=":")
    for axis in list(axes.flat)[len(own) :]:
        axis.axis("off")
    axes.flat[0].legend(frameon=False, fontsize=7, ncol=2)
    figure.supylabel("scaled sunspot number", fontsize=8)
    figure.tight_layout()
    save(figure, name)


if __name__ == "__main__":
    main()
