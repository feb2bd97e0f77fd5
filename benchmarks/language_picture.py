"""Draw perplexity against training time from the figures of `language.py` (needs matplotlib).

python benchmarks/language_picture.py benchmarks/results/language.json docs/pictures/heads.png
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

HIGHEST = 300.0
PLACES = {
    "contrastive": ((0, -8), "center", "top"),
    "sampled": ((0, 8), "center", "bottom"),
    "softmax": ((0, 8), "center", "bottom"),
    "softmax, unigram start": ((-8, 0), "right", "center"),
    "sampled, equal time": ((-8, 0), "right", "center"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("figures", type=Path, help="JSON file that language.py wrote")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    values: dict[str, dict[str, float]] = {}
    for row in json.loads(arguments.figures.read_text(encoding="utf-8"))["rows"]:
        size, _, rest = row["what"].partition(" ")
        name, _, key = rest.rpartition(": ")
        if row["part"] == "words" and not row["unit"].startswith("of "):
            values.setdefault(name, {"size": float(size[2:])})[key] = row["value"]
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    for name, found in values.items():
        x, y = found["seconds"], found["perplexity"]
        if y > HIGHEST:
            continue  # frozen vectors without a notion of probability would flatten all others; the title says so
        color = "tab:gray" if "frozen" in name else "tab:orange" if "softmax" in name else "tab:blue"
        axes.scatter(x, y, color=color, zorder=3)
        shift, across, along = PLACES.get(name, ((8, 0), "left", "center"))
        axes.annotate(name, (x, y), xytext=shift, textcoords="offset points", ha=across, va=along)
    axes.set(xlim=(0, None), xlabel="CPU seconds of training", ylabel="exact perplexity (held out)")
    size = int(next(iter(values.values()))["size"])
    axes.set_title(f"The next of {size:,} words (heads above a perplexity of {HIGHEST:.0f} left out)", fontsize=10)
    axes.grid(alpha=0.3)
    figure.savefig(arguments.picture, dpi=110)


if __name__ == "__main__":
    main()
