"""Translation to the end: softmax and continuous outputs trained until the development score stands, over seeds.

    python benchmarks/translate_converged.py --train pairs.tsv --dev dev.tsv --test test.tsv

All share the body, the batches and the number of steps. Each head is first tuned: a short run for each of its learning
rates, the best development BLEU wins. Then it is trained on every seed with a warm-up and a cosine to zero over the
whole run, measured along the way (greedy BLEU of development pairs), and the best weights are scored on the test pairs,
greedy and with a beam. Seconds are CPU seconds of one thread for the training steps alone. Each run is a process of its
own and writes its figures at once; what is there is not computed again.

Heads with a plus are variants that tell what a difference comes of: `softmax+prior` begins with a bias of the words'
frequencies, `sampled+all` is the exact softmax over unit vectors, `sampled+all+bare` the same without the prior.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import machine
from torch import nn

from thalweg.data.arrays.batches import Examples
from thalweg.data.files.sources import open_source
from thalweg.heads.base import AbstractHead
from thalweg.heads.contrastive import SampledSoftmax
from thalweg.heads.softmax import Softmax
from thalweg.heads.targets import log_fractions
from thalweg.objective import Objective
from thalweg.optim import construct
from thalweg.tasks.settings import Settings
from thalweg.tasks.translate.report import texts_of
from thalweg.tasks.translate.scores import QUICK, score
from thalweg.tasks.translate.task import Translate
from thalweg.training.folder import build
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options
from thalweg.training.steps.evaluate import calibrate, evaluate

RESULTS = Path(__file__).parent / "results" / "translate_converged.json"
RATES = {"softmax": (1e-3, 2e-3, 4e-3, 8e-3)}
OTHER_RATES = (2e-3, 4e-3)
HEADS = ("softmax", "analytic", "sampled")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for part in ("train", "dev", "test"):
        parser.add_argument(f"--{part}", required=True, help="a file with the columns english and german")
    parser.add_argument("--heads", nargs="+", default=list(HEADS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=24_000, help="of the training file, evenly spread")
    parser.add_argument("--epochs", type=float, default=12.0)
    parser.add_argument("--tuning-epochs", type=float, default=3.0)
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--vocabulary-size", type=int, default=8000)
    parser.add_argument("--num-dev", type=int, default=400)
    parser.add_argument("--num-test", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True, help="where single runs are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=4, metavar=("HEAD", "RATE", "SEED", "EPOCHS"), help=argparse.SUPPRESS)
    return parser.parse_args()


def read(arguments: argparse.Namespace) -> tuple[Translate, dict[str, Examples]]:
    settings = Settings(
        columns={"source": "english", "target": "german"}, valid_share=0.1, normalize=("nfc",), tokenizer="bpe",
        vocabulary_size=arguments.vocabulary_size, bigrams=0, max_length=64, lags=0, scaling="none", layout="translate",
    )  # fmt: skip
    lines = Path(arguments.train).read_text(encoding="utf-8").splitlines()
    chosen = 1 + np.arange(min(arguments.pairs, len(lines) - 1)) * (len(lines) - 1) // arguments.pairs
    some = arguments.folder / f"train-{arguments.pairs}.tsv"
    if not some.exists():
        some.write_text("\n".join([lines[0], *(lines[i] for i in chosen)]) + "\n", encoding="utf-8")
    train, dev, test = (open_source(place) for place in (some, arguments.dev, arguments.test))
    task, prepared = Translate.prepare(train, dev, settings)
    return task, {"train": prepared.train, "dev": prepared.valid, "test": task.examples(test, settings.columns)[0]}


def first(examples: Examples, limit: int) -> Examples:
    """Return at most so many examples, evenly spread."""
    return examples.take(np.arange(min(limit, len(examples))) * len(examples) // min(limit, len(examples)))


def variant(head: AbstractHead, names: list[str], width: int, counts: torch.Tensor) -> AbstractHead:
    """Return a head changed as its name says."""
    if "prior" in names:
        assert isinstance(head, Softmax)
        with torch.no_grad():
            head.output.bias.copy_(log_fractions(counts, len(counts)))
    if "all" in names:
        assert isinstance(head, SampledSoftmax)
        prior, smoothing = (0.0 if "bare" in names else 1.0), head.label_smoothing
        return SampledSoftmax(width, head.targets, num_samples=head.targets.num, prior=prior, label_smoothing=smoothing)
    return head


def run(arguments: argparse.Namespace, head_name: str, rate: float, seed: int, epochs: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    task, parts = read(arguments)
    head_name, *variants = head_name.split("+")
    given = Options(
        {
            "task": "translate",
            "source": "",
            "head": head_name,
            "seed": seed,
            "width": arguments.width,
            "hidden": 2 * arguments.width,
            "precision": "float32",
            "lr": rate,
            "optimizer": "adamw",
            "batch_tokens": arguments.tokens,
        }
    )
    recipe = complete(given)
    counts = task.token_counts(parts["train"])
    model, built = build.build_networks(recipe, task, counts=counts)
    head = variant(built, variants, arguments.width, counts)
    feed = build.build_feed(recipe, task, parts["train"], torch.device("cpu"))
    steps = math.ceil(epochs * feed.steps_per_epoch)
    optimizer = construct.make_optimizer(
        torch.optim.AdamW, model, head, lr=rate, weight_decay=recipe.training.weight_decay, options={}
    )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    objective, history, seconds, best, best_score = None, [], 0.0, [], -1.0
    every, dev, test = max(1, steps // arguments.evaluations), first(parts["dev"], arguments.num_dev), parts["test"]
    test = first(test, arguments.num_test)

    def bleu(examples: Examples, beam: int) -> dict[str, float]:
        rows = np.arange(len(examples))
        found = task.translations(model, head, examples, rows, beam=beam)
        return score(found, [texts_of(examples, "target", rows)], metrics=QUICK).values

    begun = time.process_time()
    for step in range(steps):
        warm = max(1, steps // 10)
        share = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        torch.manual_seed(seed * 1_000_003 + step)
        model.train()
        head.train()
        batches = feed(step)
        objective = Objective(model, head, batches) if objective is None else objective.on(batches)
        loss = objective()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        head.after_step()
        if (step + 1) % every == 0 or step + 1 == steps:
            seconds += time.process_time() - begun
            value = bleu(dev, 1)["bleu"]
            history.append({"step": step + 1, "seconds": seconds, "loss": float(loss), "dev": value})
            print(f"{head_name} {rate:g} seed {seed} step {step + 1}/{steps}: {history[-1]}", flush=True)
            if value > best_score:
                best_score = value
                best = [t.clone() for part in (model, head) for t in part.state_dict().values()]
            begun = time.process_time()
    result: dict[str, Any] = {
        "head": "+".join([head_name, *variants]), "rate": rate, "seed": seed, "steps": steps, "epochs": epochs,
        "history": history,
        "best_dev": best_score, "seconds": seconds, "vocabulary_size": task.tokenizer.vocabulary_size,
    }  # fmt: skip
    if epochs < arguments.epochs:
        return result
    for tensor, kept in zip((t for part in (model, head) for t in part.state_dict().values()), best, strict=True):
        tensor.copy_(kept)
    calibrate(model, head, feed(0)[0])
    found = evaluate(task, model, head, test, batch_size=128)
    result |= {"perplexity": found.metrics["perplexity"], "token_accuracy": found.metrics["token_accuracy"]}
    for name, beam in (("greedy", 1), ("beam", 5)):
        begun = time.process_time()
        result |= {f"{name}_{key}": value for key, value in bleu(test, beam).items()}
        result[f"{name}_seconds"] = time.process_time() - begun
    return result


def place_of(arguments: argparse.Namespace, head: str, rate: float, seed: int, epochs: float) -> Path:
    return arguments.folder / f"{head}-{rate:g}-{seed}-{epochs:g}-{arguments.pairs}-{arguments.width}.json"


def obtained(arguments: argparse.Namespace, head: str, rate: float, seed: int, epochs: float) -> dict[str, Any]:
    """Return a run's figures, computed in a process of its own unless they are there."""
    place = place_of(arguments, head, rate, seed, epochs)
    if not place.exists():
        command = [sys.executable, *sys.argv, "--one", head, str(rate), str(seed), str(epochs)]
        subprocess.run(command, check=True)
    return json.loads(place.read_text())


def to_reach(history: list[dict[str, float]], score_: float) -> float:
    """Return the CPU seconds at which a development score is reached, between measurements by a line; else infinity."""
    before = {"dev": 0.0, "seconds": 0.0}
    for entry in history:
        if entry["dev"] >= score_:
            share = (score_ - before["dev"]) / max(1e-9, entry["dev"] - before["dev"])
            return before["seconds"] + share * (entry["seconds"] - before["seconds"])
        before = entry
    return math.inf


def main() -> None:
    arguments = parse()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        head, rate, seed, epochs = arguments.one
        place = (
            arguments.folder
            / f"{head}-{float(rate):g}-{seed}-{float(epochs):g}-{arguments.pairs}-{arguments.width}.json"
        )
        place.write_text(json.dumps(run(arguments, head, float(rate), int(seed), float(epochs)), indent=1))
        return
    tuned, runs = {}, []
    for head in arguments.heads:
        tried = {
            rate: obtained(arguments, head, rate, 0, arguments.tuning_epochs)["best_dev"]
            for rate in RATES.get(head, OTHER_RATES)
        }
        tuned[head] = tried
        print(head, tried, flush=True)
    for seed in arguments.seeds:
        for head, tried in tuned.items():
            best = max(tried, key=lambda rate: tried[rate])
            runs.append(obtained(arguments, head, best, seed, arguments.epochs))
    softmax = [one for one in runs if one["head"] == "softmax"]
    bar = statistics.mean(one["best_dev"] for one in softmax) if softmax else math.inf
    reference = statistics.mean(to_reach(one["history"], one["best_dev"]) for one in softmax) if softmax else math.nan
    print(
        f"{'head':<12}{'rate':>8}{'greedy':>14}{'beam 5':>14}{'chrF':>7}{'ppl':>7}{'dev':>7}{'s':>7}{'to softmax':>12}"
    )
    rows = []
    for head in arguments.heads:
        own = [one for one in runs if one["head"] == head]
        values = {
            key: [one[key] for one in own]
            for key in ("greedy_bleu", "beam_bleu", "beam_chrf", "perplexity", "best_dev", "seconds")
        }
        row: dict[str, Any] = {"head": head, "rate": own[0]["rate"], "seeds": len(own)}
        for key, numbers in values.items():
            row[key] = statistics.mean(numbers)
            row[f"{key}_deviation"] = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
        row["to_softmax"] = statistics.mean(to_reach(one["history"], bar) for one in own) / reference
        rows.append(row)
        print(
            f"{head:<12}{row['rate']:>8g}{row['greedy_bleu']:>8.2f}+-{row['greedy_bleu_deviation']:.2f}"
            f"{row['beam_bleu']:>8.2f}+-{row['beam_bleu_deviation']:.2f}{row['beam_chrf']:>7.1f}"
            f"{row['perplexity']:>7.2f}{row['best_dev']:>7.2f}{row['seconds']:>7.0f}{row['to_softmax']:>12.2f}",
            flush=True,
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "arguments": {k: str(v) for k, v in vars(arguments).items()}, "tuned": tuned}
    arguments.out.write_text(json.dumps(content | {"rows": rows, "runs": runs}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
