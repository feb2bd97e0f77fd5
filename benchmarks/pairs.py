"""Scores of pairs beside what people would take instead: STS-B, and three sets made from the questions of TREC.

`python benchmarks/pairs.py` prints Pearson's r and CPU seconds, on STS-B's dev part (its test part: `defaults.py`) and
on the made sets' test parts; `--only shared unrelated single` needs ../shared/data for TREC alone.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import peers
from defaults import timed
from public_sets import DATA, open_text, write_csv

METHODS = ("thalweg", "thalweg --model bag", "cosine", "ridge", "overlap")
HEADER = ("sentence1", "sentence2", "score")
NOISE = 0.3  # deviation of what is added to the scores of the made sets, which vary by about 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    arguments = parser.parse_args()
    print("| set | method | Pearson | CPU seconds |\n| --- | --- | --- | --- |")
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            files = SETS[name](folder)
            for method in arguments.methods:
                if name != "single" or method.startswith("thalweg"):
                    score, seconds = measure(method, files, folder)
                    print(f"| {name} | {method} | {score:.3f} | {seconds:.1f} |", flush=True)


def measure(method: str, files: dict[str, Path], folder: Path) -> tuple[float, float]:
    """Return Pearson's r on the test part, and the CPU seconds of the whole command that trains."""
    train, dev, test = (str(files[part]) for part in ("train", "dev", "test"))
    if not method.startswith("thalweg"):
        ran = timed([sys.executable, peers.__file__, method, train, dev, test], folder)
        return json.loads(ran.printed.splitlines()[-1])["score"], ran.seconds
    start, out = [sys.executable, "-m", "thalweg"], ["--json", "--quiet", "--overwrite"]
    ran = timed([*start, "train", train, "--valid", dev, "--name", "run", *method.split()[1:], *out], folder)
    if test != dev:  # else training has measured on it, before it learned from it
        ran_again = timed([*start, "evaluate", "runs/run", test, "--json"], folder)
        return json.loads(ran_again.printed.splitlines()[-1])["metrics"]["pearson"], ran.seconds
    return json.loads(ran.printed.splitlines()[-1])["metrics"]["pearson"], ran.seconds


def stsb(folder: Path) -> dict[str, Path]:
    """The official train and dev parts; the test part is looked at by `defaults.py` alone."""
    source = DATA / "stsb"
    parts = {"train": source / "sts-train.csv.xz", "dev": source / "sts-dev.csv"}
    files: dict[str, Path] = {}
    for part, path in parts.items():
        cells = (line.split("\t") for line in open_text(path).split("\n") if line.strip())
        files[part] = write_csv(folder / f"{part}.csv", ([row[5], row[6], row[4]] for row in cells), HEADER)
    return files | {"test": files["dev"]}


def shared(folder: Path) -> dict[str, Path]:
    """Pairs of a question and what is left of it; the score is a curved function of how much they share."""

    def score(first: list[str], second: list[str]) -> float:
        one, other = set(first), set(second)
        jaccard = len(one & other) / len(one | other)
        return 4.0 * jaccard**2 - 1.5 * abs(np.log(len(first) / len(second))) + 2.0 * jaccard * (len(other) > 6)

    return made(folder, lambda draw, words, text: (text, changed(draw, words, text)), score)


def unrelated(folder: Path) -> dict[str, Path]:
    """Pairs of two questions; the score is the sum of the first one's words' worth, minus that of the second one's."""
    return made(folder, lambda draw, words, text: (text, draw.choice(words)), lambda one, two: worth(one) - worth(two))


def single(folder: Path) -> dict[str, Path]:
    """Single questions; the score is the sum of their words' worth."""
    return made(folder, lambda draw, words, text: (text,), worth)  # noqa: ARG005


def worth(words: list[str]) -> float:
    """Return the sum of a number for each word, which its spelling decides."""
    return sum(random.Random(word).gauss(0.0, 1.0) for word in set(words)) / len(words) ** 0.5


def changed(draw: random.Random, questions: list[list[str]], text: list[str]) -> list[str]:
    """Return a text with some words left out, misspelled, moved, or taken from another one."""
    other, rate = draw.choice(questions), draw.random()
    found = []
    for word in text:
        kind = draw.random() if draw.random() < rate else 1.0
        if kind < 0.2:
            found.append(word[:-1] or word)
        elif kind < 0.6:
            found.append(draw.choice(other))
        elif kind == 1.0 or kind > 0.9:
            found.append(word)
    if draw.random() < 0.3:
        draw.shuffle(found)
    return found or other


def made(
    folder: Path,
    draw_pair: Callable[[random.Random, list[list[str]], list[str]], tuple[list[str], ...]],
    score: Callable[..., float],
) -> dict[str, Path]:
    """Write the parts of a made set: 3,500 rows to train on, 500 to choose on, 1,400 to measure on."""
    draw = random.Random(0)
    lines = [line for line in open_text(DATA / "trec_qc" / "train.tsv.xz").split("\n") if line.strip()]
    questions = [line.split("\t")[2].lower().split() for line in lines]
    draw.shuffle(questions)
    bounds = {"train": (0, 3500), "dev": (3500, 4000), "test": (4000, 5400)}

    def rows(part: str) -> Iterator[list[str]]:
        first, last = bounds[part]
        for text in questions[first:last]:
            texts = draw_pair(draw, questions[first:last], text)
            yield [*map(" ".join, texts), f"{score(*texts) + draw.gauss(0.0, NOISE):.3f}"]

    width = len(draw_pair(random.Random(1), questions, questions[0]))
    header = (*HEADER[:width], HEADER[2])
    return {part: write_csv(folder / f"{part}.csv", rows(part), header) for part in bounds}


SETS = {"stsb": stsb, "shared": shared, "unrelated": unrelated, "single": single}


if __name__ == "__main__":
    main()
