"""Train a classifier on a CSV file, ask it, and measure it on rows it has never seen.

`python examples/classify_csv.py` writes a small reviews.csv first; `python examples/classify_csv.py FILE` takes any
file with a column of texts and one of labels.
"""

import csv
import random
import sys
from pathlib import Path

import thalweg

GOOD = ["a fine film", "lovely songs", "a clever plot", "warm and funny", "great acting", "I would see it twice"]
BAD = ["a dull film", "noisy songs", "a silly plot", "cold and slow", "wooden acting", "I walked out"]


def write_reviews(path: Path, num_rows: int, seed: int) -> None:
    """Write made-up reviews: three phrases, two of which agree with the verdict; one verdict in twenty is wrong."""
    draw = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "verdict"])
        for _ in range(num_rows):
            verdict = draw.choice(["good", "bad"])
            agree, differ = (GOOD, BAD) if verdict == "good" else (BAD, GOOD)
            phrases = [*draw.sample(agree, 2), draw.choice(differ)]
            draw.shuffle(phrases)
            if draw.random() < 0.05:
                verdict = "bad" if verdict == "good" else "good"
            writer.writerow([", ".join(phrases), verdict])


def main() -> None:
    if len(sys.argv) > 1:
        train_file = Path(sys.argv[1])
        held_out = None
    else:
        train_file, held_out = Path("reviews.csv"), Path("held-out.csv")
        write_reviews(train_file, 500, seed=0)
        write_reviews(held_out, 100, seed=1)

    run = thalweg.train(train_file, say=print)  # say takes the sentences about what was chosen
    print(run.status.value)
    print("validation:", {name: round(value, 3) for name, value in run.metrics.items()})
    if held_out is not None:
        print("held out:  ", {name: round(value, 3) for name, value in run.evaluate(held_out).metrics.items()})
    for answer in run.predict(["a clever plot, but I walked out", "warm and funny, lovely songs"]):
        print(f"{answer['text']!r}: {answer['label']} ({answer['probability']:.2f})")
    print("report:", run.folder / "report.html")


if __name__ == "__main__":
    main()
