"""Prequential accuracy and speed of learning from a stream, next to scikit-learn one example at a time.

Run on one core, so that the speeds can be compared:

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/online.py --json online.json

The streams are read from ../shared/data where they are; without them a synthetic stream is made. Every learner predicts
a row before it learns from it. The speed of thalweg includes reading the row from its line of JSON; that of
scikit-learn doesn't. scikit-learn is told all classes in advance, because `partial_fit` needs them; thalweg is not.
Above 10 classes scikit-learn takes 0.1 s and more for a row (each step goes through the whole table of weights), so it
is left out there.
"""

import argparse
import csv
import io
import json
import lzma
import platform
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from thalweg.data.files.incoming import open_stream
from thalweg.online.classifier import OnlineClassifier
from thalweg.online.learn import learn_online, source_rows
from thalweg.online.regressor import OnlineRegressor

Rows = list[dict[str, object]]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def read(name: str) -> str:
    return lzma.open(DATA / name, "rt", encoding="utf-8", errors="replace").read()


def shuffled(rows: Rows) -> Rows:
    random.Random(0).shuffle(rows)
    return rows


def table(name: str, text: int, label: int) -> Rows:
    lines = (line.split("\t") for line in read(name).splitlines() if "\t" in line)
    return shuffled([{"text": line[text], "label": line[label]} for line in lines])


def numeric(name: str, label: str) -> Rows:
    """Rows of numbers in their own order: it is a stream with drift."""
    rows = csv.DictReader(io.StringIO(read(name)))
    return [{"label" if k == label else k: v if k == label else float(v) for k, v in row.items()} for row in rows]


def synthetic(num_rows: int = 5000) -> Rows:
    rng = random.Random(0)
    words = [[f"w{i}" for i in rng.sample(range(3000), 150)] for _ in range(4)]
    rows: Rows = []
    for _ in range(num_rows):
        label = rng.randrange(4)
        chosen = [rng.choice(words[label]) if rng.random() < 0.3 else f"w{rng.randrange(3000)}" for _ in range(15)]
        rows.append({"text": " ".join(chosen), "label": f"class {label}"})
    return rows


def streams() -> Iterator[tuple[str, Rows]]:
    if not DATA.is_dir():
        yield "synthetic", synthetic()
        return
    yield "sms_spam", table("sms_spam/train.tsv.xz", text=1, label=0)
    yield "trec", table("trec_qc/train.tsv.xz", text=2, label=0)
    yield "sst2", table("sst2/train.tsv.xz", text=0, label=1)
    banking = csv.DictReader(io.StringIO(read("banking77/train.csv.xz")))
    yield "banking77", shuffled([{"text": row["text"], "label": row["category"]} for row in banking])
    clinc = json.loads(read("clinc150/data_full.json.xz"))["train"]
    yield "clinc150", shuffled([{"text": text, "label": label} for text, label in clinc])
    yield "elec", numeric("streams_numeric/elec.csv.xz", "class")
    yield "weather", numeric("streams_numeric/weather.csv.xz", "target")


def thalweg(rows: Rows, model: OnlineClassifier | OnlineRegressor) -> dict[str, float]:
    lines = io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())
    started = time.perf_counter()
    *_, record = learn_online(source_rows(open_stream(lines)), model, label_column="label")
    seconds = time.perf_counter() - started
    return {
        "score": record.score,
        "loss": record.loss,
        "rows_per_second": len(rows) / seconds,
        "most frequent": record.frequent_score,
        "repeat last": record.repeat_score,
        "megabytes": model.num_bytes / 1e6,
    }


def peer(rows: Rows, model: SGDClassifier) -> dict[str, float]:
    labels = [str(row["label"]) for row in rows]
    classes = np.array(sorted(set(labels)))
    vectorizer = HashingVectorizer(n_features=2**18, ngram_range=(1, 2), norm="l2")
    scaler = StandardScaler()
    columns = [name for name in rows[0] if name != "label"]
    right, started = 0, time.perf_counter()
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        if "text" in row:
            inputs = vectorizer.transform([row["text"]])
        else:
            values = np.array([[row[name] for name in columns]])
            inputs = scaler.transform(values) if number else np.zeros_like(values)
            scaler.partial_fit(values)
        right += bool(number) and model.predict(inputs)[0] == label
        model.partial_fit(inputs, [label], classes=classes)
    return {"score": right / len(rows), "rows_per_second": len(rows) / (time.perf_counter() - started)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Prequential accuracy and speed, next to scikit-learn.")
    parser.add_argument("--rows", type=int, default=5000, help="first rows of each stream; 0 for all")
    parser.add_argument("--no-peers", action="store_true", help="leave scikit-learn out")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    arguments = parser.parse_args()
    figures: dict[str, dict] = {}
    print(f"{'stream':<10} {'rows':>6} {'classes':>7} {'learner':<22} {'accuracy':>8} {'loss':>7} {'rows/s':>8}")
    for name, every in streams():
        rows = every[: arguments.rows or None]
        classes = {row["label"] for row in rows}
        thalweg(rows[:500], OnlineClassifier())  # warm up
        own = thalweg(rows, OnlineClassifier())
        results = {"thalweg": own}
        if not arguments.no_peers and len(classes) <= 10:
            pa = {"loss": "hinge", "learning_rate": "pa1", "eta0": 1.0}
            results["sklearn SGD (log loss)"] = peer(rows, SGDClassifier(loss="log_loss", random_state=0))
            results["sklearn PA-I"] = peer(rows, SGDClassifier(**pa, alpha=0.0, random_state=0))
        for baseline in ("most frequent", "repeat last"):
            results[baseline] = {"score": own.pop(baseline)}
        figures[name] = {"rows": len(rows), "classes": len(classes), "results": results}
        for learner, result in results.items():
            head = f"{name:<10} {len(rows):>6} {len(classes):>7} {learner:<22}"
            loss = f"{result['loss']:7.4f}" if "loss" in result else ""
            speed = f"{result['rows_per_second']:8,.0f}" if "rows_per_second" in result else ""
            print(f"{head} {result['score']:8.4f} {loss:>7} {speed:>8}", flush=True)
    if arguments.json:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
        arguments.json.write_text(json.dumps({"machine": machine, "streams": figures}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
