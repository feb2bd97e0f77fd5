"""How well wrong labels are found: a twentieth of the labels is changed, and each ranking should list those first.

    OMP_NUM_THREADS=1 python benchmarks/mislabeled.py                  # some minutes
    OMP_NUM_THREADS=1 python benchmarks/mislabeled.py --only trec --seeds 10
    OMP_NUM_THREADS=1 python benchmarks/mislabeled.py --models bag gru # the loss of a trained GRU as well

Each label of a random 5 % of the training rows becomes another one. The baseline is what people do first: train (here:
`thalweg train` with defaults) and look at the training rows with the largest loss. The figure is the average precision
of a ranking of the training rows; a random one has 0.05, the best possible one 1. "Right labels of the others" is a
model that nobody can have: it is fitted to the right labels of the rows that it is not asked about. The penalty of the
linear model was chosen on TREC and SST-2 with the seeds 0, 1 and 2; the other sets and the seeds here took no part.
"""

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import public
import torch
from scipy import sparse
from sklearn.metrics import average_precision_score
from table import Row, write_json
from torch.nn import functional as F

import thalweg
from thalweg.certificates.by_example.suspects import STRENGTH, suspect_labels
from thalweg.certificates.factored.newton import solve
from thalweg.certificates.factored.problem import Factored
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features, from_bags
from thalweg.certificates.linear.polish import polish
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.training.certified.certify import open_run

SETS = {
    "trec": public.write_trec,
    "sst2": public.write_sst2,
    "sms": public.write_sms,
    "banking77": public.write_banking77,
}
TWICE = ("trec", "sst2")  # where twice the baseline is asked for
SHARE = 0.05
FOLDS = 10
BASELINE, CHOSEN = "loss of the trained default", "suspect_labels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12])
    parser.add_argument("--models", nargs="+", default=["bag"], help="whose training loss is ranked")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "mislabeled.json")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in arguments.only:
        results = [measure(name, seed, arguments.models) for seed in arguments.seeds]
        for what in results[0]:
            rows.append(row_of(name, what, results))
            print(rows[-1].line(), flush=True)
    write_json(arguments.out, rows, seeds=arguments.seeds)


def row_of(name: str, what: str, results: list[dict[str, dict[str, float]]]) -> Row:
    """Return the mean of a ranking's figures over the seeds."""
    figures = {key: [result[what][key] for result in results] for key in results[0][what]}
    ratio = statistics.mean(result[what]["precision"] / result[BASELINE]["precision"] for result in results)
    asked = what == CHOSEN and name in TWICE
    first = statistics.mean(figures["first"])
    unit = f"{ratio:.2f} x, {first:.0%} of first 100"
    mean = statistics.mean(figures["precision"])
    return Row(
        name, what, mean, unit, ">= 2 x" if asked else "", ratio >= 2.0 if asked else None, figures | {"ratio": ratio}
    )


def measure(name: str, seed: int, models: list[str]) -> dict[str, dict[str, float]]:
    """Return the figures of each ranking for one choice of the labels that are changed."""
    with tempfile.TemporaryDirectory() as folder:
        path, right = write_noisy(name, seed, Path(folder))
        found: dict[str, dict[str, float]] = {}
        for model in models:
            more: dict[str, Any] = {} if model == "bag" else {"model": model}
            start = time.process_time()
            run = thalweg.train(path, out=folder, name=model, seed=seed, **more)
            opened = open_run(run)
            assert opened.prepared.lines is not None
            prediction, y = opened.task.predictions(run.model, run.head, opened.prepared.train)
            ids = {opened.task.answer_name(np.array(place)): place for place in range(prediction.shape[1])}
            clean = torch.tensor([ids[right[line]] for line in opened.prepared.lines.tolist()])
            changed = (clean != y).numpy()
            score = F.cross_entropy(prediction.double(), y, reduction="none").numpy()
            key = BASELINE if model == "bag" else f"loss of a trained {model}"
            found[key] = figures_of(changed, score, time.process_time() - start)
            if model == "bag":
                words = opened.task.words_of(opened.prepared.train)
                assert words is not None
                tokens, weights, size = words
                ids, each, starts = (torch.from_numpy(a) for a in (tokens.values, weights.values, tokens.offsets[:-1]))
                features = from_bags(ids, starts, each, size)
                found |= rankings(features, y, clean, run.recipe.training.l2)
        return found


def write_noisy(name: str, seed: int, folder: Path) -> tuple[Path, dict[int, str]]:
    """Write the training rows with some labels changed; return the file, and the right label of each line."""
    clean = SETS[name](folder)["train"]
    with clean.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    place = len(header) - 1
    names = sorted({row[place] for row in rows})
    rng = np.random.default_rng(seed)
    right, line = {}, 2
    for row in rows:
        right[line] = row[place]
        line += 1 + sum(value.count("\n") for value in row)
    chosen = rng.choice(len(rows), round(SHARE * len(rows)), replace=False)
    for row in chosen.tolist():
        others = [label for label in names if label != rows[row][place]]
        rows[row][place] = others[rng.integers(len(others))]
    path = folder / "noisy.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path, right


def rankings(features: Features, y: torch.Tensor, clean: torch.Tensor, l2: float) -> dict[str, dict[str, float]]:
    """Return the figures of what can be had without the network; `clean` are the right labels."""
    n, k, changed = len(y), int(y.max()) + 1, (clean != y).numpy()
    found = {}

    def add(what: str, score: Callable[[], np.ndarray]) -> None:
        start = time.process_time()
        value = score()
        found[what] = figures_of(changed, value, time.process_time() - start)

    def loss(z: torch.Tensor) -> np.ndarray:
        return F.cross_entropy(z, y, reduction="none").numpy()

    def linear(rows: torch.Tensor, labels: torch.Tensor = y) -> tuple[torch.Tensor, torch.Tensor]:
        head = Head(part(features, rows), SoftmaxLoss.of_labels(labels[rows], k), L2(STRENGTH / n), intercept=True)
        point = polish(head, tolerance=1e-4).point
        return point.weight, point.bias

    def factored(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        problem = Factored(part(features, rows), SoftmaxLoss.of_labels(y[rows], k), l2, intercept=True)
        point, _ = solve(problem, k, tolerance=1e-3)
        return point.embedding @ point.weight.T, point.bias

    def held_out(fit: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
        z = torch.zeros(n, k, dtype=torch.float64)
        for fold in range(FOLDS):
            test = order[fold::FOLDS].sort().values
            inside = torch.ones(n, dtype=torch.bool)
            inside[test] = False
            weight, bias = fit(inside.nonzero().squeeze(1))
            z[test] = part(features, test).times(weight) + bias
        return z

    labels = y.numpy()
    add("dual weights", lambda: suspect_labels(features, labels, k).carried)
    add(CHOSEN, lambda: -np.log(np.maximum(suspect_labels(features, labels, k).own, 1e-300)))
    z = held_out(linear)
    add(f"loss in {FOLDS} folds", lambda: loss(held_out(linear)))
    add(f"confident learning in {FOLDS} folds", lambda: confident(torch.softmax(z, 1).numpy(), labels))
    add(f"right labels of the others, {FOLDS} folds", lambda: loss(held_out(lambda rows: linear(rows, clean))))
    if k <= 10:  # with more labels this takes minutes
        add(f"loss of the default in {FOLDS} folds", lambda: loss(held_out(factored)))
    return found


def confident(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the normalized margin of confident learning: probabilities less each class's mean self-confidence."""
    rows = np.arange(len(labels))
    means = np.array([p[labels == k, k].mean() if (labels == k).any() else 1.0 for k in range(p.shape[1])])
    adjusted = p - means
    own = adjusted[rows, labels].copy()
    adjusted[rows, labels] = -np.inf
    return adjusted.max(1) - own


def part(features: Features, rows: torch.Tensor) -> Features:
    """Return some rows of sparse features."""
    arrays = features.arrays()
    matrix = sparse.csr_array((arrays["X_values"], arrays["X_columns"], arrays["X_starts"]), shape=features.shape)
    return Features(matrix[rows.numpy()])


def figures_of(changed: np.ndarray, score: np.ndarray, seconds: float) -> dict[str, float]:
    """Return average precision, the share of changed labels among the first 100, and CPU seconds."""
    first = np.argsort(-score, kind="stable")[:100]
    return {
        "precision": float(average_precision_score(changed, score)),
        "first": float(changed[first].mean()),
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
