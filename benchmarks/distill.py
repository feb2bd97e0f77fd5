"""What a small model gains by the answers of a pretrained one, and what it saves.

    python benchmarks/distill.py trec.tsv trec_test.tsv --model hf:models/minilm --label coarse
    python benchmarks/distill.py sst_train.tsv sst_test.tsv --model hf:models/minilm --label label --labeled 500,2000

The teacher is the pretrained model, frozen, with an output layer that is trained to its proved optimum on the first so
many labeled texts of the file. The pupils are bags (`--model bag`) of the same task: on the same labels; on the
teacher's answers to the same texts; and on its answers to all texts of the file, whose labels they do not see. All are
judged by the test file. An answer is timed one text at a time, on one core.
"""

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

import torch
from table import Row, write_json

import thalweg


def read(path: str, text: str, label: str) -> list[dict[str, str]]:
    """Return the rows of a tab-separated file."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [{"text": row[text], "label": row[label]} for row in rows]


def milliseconds(run: thalweg.Run, texts: list[str]) -> float:
    """Return the median time of an answer."""
    run.predict(texts[:1])
    taken = []
    for one in texts:
        begin = time.perf_counter()
        run.predict([one])
        taken.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(taken)


def rows_of(name: str, train: list[dict[str, str]], test: list[dict[str, str]], count: int, model: str) -> list[Row]:
    """Return the figures with so many labels."""
    few = train[:count]
    bare = [{"text": row["text"]} for row in train]
    with tempfile.TemporaryDirectory() as folder:
        common = {"out": folder, "text_column": "text"}
        taught = {"start_from": f"{folder}/teacher", "distill": True, "model": "bag"}
        runs = {"teacher (frozen)": thalweg.train(few, model=model, freeze=True, name="teacher", **common)}
        runs["bag, labels"] = thalweg.train(few, model="bag", name="labels", **common)
        runs["bag, teacher's answers"] = thalweg.train(few, name="answers", **common, **taught)
        runs["bag, half and half"] = thalweg.train(few, name="half", distill_weight=0.5, **common, **taught)
        if count < len(train):
            runs[f"bag, teacher's answers to {len(train)}"] = thalweg.train(bare, name="bare", **common, **taught)
        found = []
        for what, run in runs.items():
            accuracy = run.evaluate(test).metrics["accuracy"]
            taken = milliseconds(run, [row["text"] for row in test[:50]])
            part = f"{name} {count}"
            found += [Row(part, what, accuracy, "accuracy"), Row(part, what, taken, "ms an answer")]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--model", required=True, help="hf:PATH")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--labeled", default="500,all", help="numbers of labeled texts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name = Path(arguments.train).stem
    train, test = (read(path, arguments.text, arguments.label) for path in (arguments.train, arguments.test))
    rows: list[Row] = []
    for count in arguments.labeled.split(","):
        own = rows_of(name, train, test, len(train) if count == "all" else int(count), arguments.model)
        print(*(row.line() for row in own), sep="\n")
        rows += own
    write_json(Path(__file__).parent / "results" / f"distill-{name}.json", rows)


if __name__ == "__main__":
    main()
