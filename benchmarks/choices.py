"""What each choice gains on the built-in sets: the figures of docs/how-to-choose.md.

`python benchmarks/choices.py` runs every part (about an hour of CPU time, most of it `large`), `--only seeds` some.
Each line is one run of `thalweg.train` with the options that it names; seconds are CPU seconds of the whole call.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from table import machine

import thalweg

ADAMW = {"source": "docstrings", "optimizer": "adamw"}
PARTS: dict[str, list[dict[str, Any]]] = {
    "seeds": [
        *({"source": "docstrings", "seed": seed} for seed in range(3)),
        *({**ADAMW, "seed": seed} for seed in range(5)),
    ],
    "rates": [{**ADAMW, "lr": lr} for lr in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)],
    "regularization": [
        ADAMW,
        {**ADAMW, "dropout": 0.5},
        {**ADAMW, "weight_decay": 0.1},
        {**ADAMW, "label_smoothing": 0.1},
    ],
    "optimizers": [
        {"source": "docstrings", "optimizer": "sgd"},
        {"source": "docstrings", "optimizer": "sgd", "lr": 3.0, "optimizer_options": {"momentum": 0.9}, "clip": 0.0},
        {"source": "sunspots", "optimizer": "adamw"},
        {"source": "sunspots", "optimizer": "bfgs"},
        {"source": "sunspots", "optimizer": "lbfgs", "line_search": "wolfe"},
        {"source": "sunspots", "optimizer": "newton-cg"},
        {"source": "sunspots", "optimizer": "levenberg-marquardt"},
    ],
    "tokenizers": [
        {**ADAMW, "tokenizer": "word"},
        {**ADAMW, "tokenizer": "word", "bigrams": 0},
        {**ADAMW, "tokenizer": "bpe", "bigrams": 0},
    ],
    "small": [
        {"source": "docstrings", "model": "bag"},
        {"source": "docstrings", "model": "mlp"},
        {"source": "phrases", "model": "bag"},
        {"source": "phrases", "model": "lstm"},
        {"source": "phrases", "model": "transformer"},
        {"source": "sunspots", "model": "mlp"},
        {"source": "sunspots", "model": "lstm"},
        {"source": "tokens", "model": "lstm"},
        {"source": "numbers", "model": "lstm"},
    ],
    "large": [
        {"source": "docstrings", "model": "lstm"},
        {"source": "docstrings", "model": "gru"},
        {"source": "docstrings", "model": "transformer"},
        {"source": "tokens", "model": "transformer"},
        {"source": "numbers", "model": "transformer"},
        {"source": "manual", "model": "lstm"},
        {"source": "manual", "model": "transformer"},
    ],
}


def measure(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return metrics, steps and CPU seconds of one run."""
    start = time.process_time()
    run = thalweg.train(
        options["source"], out=folder, **{name: value for name, value in options.items() if name != "source"}
    )
    seconds = time.process_time() - start
    return {"options": options, "metrics": run.metrics, "steps": run.history[-1]["step"], "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "choices.json")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        thalweg.train("docstrings", out=folder, fast=True)  # what is loaded once is not the first run's cost
    for part in arguments.only:
        for options in PARTS[part]:
            with tempfile.TemporaryDirectory() as folder:
                row = measure(options, Path(folder))
            found.setdefault(part, []).append(row)
            given = " ".join(f"{name}={value}" for name, value in options.items())
            metrics = " ".join(f"{name} {value:.4f}" for name, value in row["metrics"].items())
            print(f"{part:<14} {given:<72} {metrics}  ({row['steps']} steps, {row['seconds']} s)", flush=True)
            arguments.out.write_text(json.dumps({"machine": machine(), **found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
