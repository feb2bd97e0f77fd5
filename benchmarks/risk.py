"""How often classifiers are wrong on new texts: what can be proved from the rows of the training file alone.

`python benchmarks/risk.py` trains the default classifier on TREC, SST-2 (../shared/data) and the built-in docstrings,
calls `thalweg.training.risk_on_new_texts`, prints a table and writes JSON; `--model gru` takes another. The bounds
of one split hold together with probability 0.95; the error on the official test part stands beside them.
"""

import argparse
import csv
import json
import lzma
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from table import machine

import thalweg
from thalweg.training import risk_on_new_texts

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {"trec": "TREC questions", "sst2": "SST-2 reviews", "docstrings": "docstrings"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--model", default="bag")
    parser.add_argument("--seeds", type=int, default=3, help="splits of the rows; the table has the worst")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "risk.json")
    arguments = parser.parse_args()
    rows = {}
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = measure(name, arguments.model, arguments.seeds, Path(folder))
        print(json.dumps(rows[name]), file=sys.stderr, flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "model": arguments.model, "rows": rows}
    arguments.out.write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(table(rows))


def measure(name: str, model: str, seeds: int, folder: Path) -> dict[str, Any]:
    """Return the bounds of one data set for each split, and the test error of a model trained on all rows."""
    source, test = files(name, folder)
    run = thalweg.train(source, out=folder, model=model, name="all")
    splits = []
    for seed in range(seeds):
        start = time.process_time()
        found = risk_on_new_texts(run, seed=seed)
        splits.append(
            {
                "rows": [found.trained, found.tested],
                "majority": found.baseline,
                "half": found.wrong / found.tested,
                "half_bound": found.bound,
                "drawn": {
                    one.part: {"everything": vars(one.everything), "between": vars(one.between)} for one in found.drawn
                },
                "seconds": time.process_time() - start,
            }
        )
    row: dict[str, Any] = {"splits": splits}
    if test is not None:
        row["test_error"] = 1.0 - run.evaluate(test).metrics["accuracy"]
    return row


def files(name: str, folder: Path) -> tuple[str | Path, Path | None]:
    """Return the training file of a set and its official test part."""
    if name == "docstrings":
        return name, None
    kind = {"trec": "trec_qc", "sst2": "sst2"}[name]
    found = []
    for part in ("train.tsv.xz", "test.tsv"):
        path = DATA / kind / part
        raw = path.read_bytes()
        text = (lzma.decompress(raw) if part.endswith("xz") else raw).decode("utf-8")
        with open(folder / f"{name}-{len(found)}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for line in text.rstrip("\n").split("\n"):
                fields = line.split("\t")
                writer.writerow([fields[2], fields[0]] if name == "trec" else fields[:2])
            found.append(Path(file.name))
    return found[0], found[1]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of the docs: the worst of the splits."""
    lines = [
        "| | always the most frequent label | trained on half: seen, at most | output layer on all rows: at most | "
        "bag on all rows: at most | an eighth of the way: at most | test part, trained on all rows |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        splits = row["splits"]

        def worst(*keys: str, splits: list[Any] = splits) -> float:
            found = []
            for split in splits:
                value: Any = split
                for key in keys:
                    value = value[key]
                found.append(value)
            return max(found)

        least = min(split["majority"] for split in splits)
        cells = [f"{least:.3f}", f"{worst('half'):.3f}, {worst('half_bound'):.3f}"]
        cells.append(f"{worst('drawn', 'output layer', 'everything', 'bound'):.3f}")
        bag = "embeddings and output layer"
        for kind in ("everything", "between"):
            has = bag in splits[0]["drawn"]
            cells.append(f"{worst('drawn', bag, kind, 'bound'):.3f}" if has else "")
        cells.append(f"{row['test_error']:.3f}" if "test_error" in row else "")
        lines.append(f"| {SETS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
