"""Scores on public data, with defaults, beside what people would take instead; CPU seconds of the whole process.

`python benchmarks/public.py` reads ../shared/data (SOURCE.md in each folder says where it is from), runs all sets, and
prints the README's table; `--only trec sst2` runs some sets, `--again FILE` prints the table of an earlier run.
Peers that are not installed are left out: `pip install --no-deps -r benchmarks/peers.txt` installs them.
"""

import argparse
import csv
import importlib.util
import json
import lzma
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
from table import machine

DATA = Path(__file__).parents[2] / "shared" / "data"
NEEDED = {"fasttext": "fasttext", "crf": "sklearn_crfsuite"}
ROWS = (
    ("trec", "TREC questions, 6 labels", "accuracy"),
    ("sst2", "SST-2 reviews, 2 labels", "accuracy"),
    ("sms", "SMS spam, 2 labels", "accuracy"),
    ("banking77", "BANKING77 intents, 77 labels", "accuracy"),
    ("clinc150", "CLINC150 intents, 150 labels", "accuracy"),
    ("wnut17", "WNUT17 entities", "span_f1"),
    ("ewt", "English EWT, parts of speech", "accuracy"),
    ("stsb", "STS-B, similarity of two sentences", "pearson"),
)
PEERS = {"wnut17": ("crf",), "ewt": ("crf",), "stsb": ("cosine", "ridge")}  # elsewhere: tfidf and fasttext


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name, _, _ in ROWS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--methods", nargs="+", help="measure only these, and keep the file's other figures")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "public.json")
    parser.add_argument("--again", type=Path, help="print the table of this file and run nothing")
    arguments = parser.parse_args()
    if arguments.again:
        print(table(json.loads(arguments.again.read_text(encoding="utf-8"))["rows"]))
        return
    kept = json.loads(arguments.out.read_text(encoding="utf-8"))["rows"] if arguments.methods else {}
    rows: dict[str, dict[str, Any]] = dict(kept)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name, _, metric in ROWS:
        if name in arguments.only:
            with tempfile.TemporaryDirectory() as folder:
                rows[name] = kept.get(name, {}) | measure(name, metric, Path(folder), arguments.methods)
            content = {"machine": machine(), "rows": rows}
            arguments.out.write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(table(rows))


def measure(name: str, metric: str, folder: Path, methods: list[str] | None) -> dict[str, Any]:
    """Return the figures of one data set by method: its score on the official test part, and CPU seconds."""
    files = WRITERS[name](folder)
    train, valid, test = files["train"], files.get("dev"), files["test"]
    row: dict[str, Any] = {"metric": metric}
    for method in ("thalweg", *PEERS.get(name, ("tfidf", "fasttext"))):
        if methods is not None and method not in methods:
            continue
        if method == "thalweg":
            row[method] = run_thalweg(folder, train, valid, test, metric)
        elif importlib.util.find_spec(NEEDED.get(method, "sklearn")) is None:
            row[method] = {"missing": "not installed"}
        else:
            command = [sys.executable, peers.__file__, method, str(train), str(valid or ""), str(test)]
            printed, seconds = timed(command, folder)
            row[method] = {**json.loads(printed.splitlines()[-1]), "seconds": seconds}
        print(f"{name:<10} {method:<9} {json.dumps(row[method])}", file=sys.stderr, flush=True)
    return row


def run_thalweg(folder: Path, train: Path, valid: Path | None, test: Path, metric: str) -> dict[str, Any]:
    """Train with defaults and measure on the test part; the seconds are those of `thalweg train`."""
    start = [sys.executable, "-m", "thalweg"]
    command = [*start, "train", str(train), "--out", str(folder / "runs"), "--name", "run", "--json", "--quiet"]
    printed, seconds = timed(command + (["--valid", str(valid)] if valid else []), folder)
    summary = json.loads(printed.splitlines()[-1])
    printed, _ = timed([*start, "evaluate", str(folder / "runs" / "run"), str(test), "--json"], folder)
    measured = json.loads(printed.splitlines()[-1])["metrics"]
    return {
        "score": measured[metric],
        "seconds": seconds,
        "model": summary["model"],
        "optimizer": summary["optimizer"],
        "steps": summary["steps"],
        "metrics": measured,
    }


def timed(command: list[str], folder: Path) -> tuple[str, float]:
    """Run a command on one thread; return what it printed, and its CPU seconds."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=os.environ | threads, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of the README."""
    lines = [
        "| data, what is measured on its test part | thalweg | TF-IDF + linear model | fastText | CRF |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, title, metric in ROWS:
        if name in rows:
            found = rows[name]
            linear = max(
                (peer for peer in ("tfidf", "cosine", "ridge") if peer in found), key=_valid_score(found), default=""
            )
            cells = [_cell(found.get(method)) for method in ("thalweg", linear, "fasttext", "crf")]
            lines.append(f"| {title}: {metric.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _valid_score(found: dict[str, Any]) -> Callable[[str], float]:
    return lambda peer: found[peer]["valid"]


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if "missing" in found:
        return "not installed"
    return f"{found['score']:.3f} ({found['seconds']:.0f} s)"


# Official parts as files that need no options: CSV with a header, or CoNLL as it is.


def open_text(path: Path) -> str:
    """Return a file's text, unwrapped where it is compressed."""
    raw = path.read_bytes()
    return (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")


def write_csv(path: Path, header: list[str], rows: Iterator[list[str]]) -> Path:
    """Write rows under a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_tsv_parts(folder: Path, parts: dict[str, Path], header: list[str], columns: list[int]) -> dict[str, Path]:
    """Write chosen columns of tab-separated files without quotes as CSV."""
    return {
        part: write_csv(
            folder / f"{part}.csv",
            header,
            ([line.split("\t")[column] for column in columns] for line in open_text(path).split("\n") if line.strip()),
        )
        for part, path in parts.items()
    }


def write_trec(folder: Path) -> dict[str, Path]:
    parts = {"train": DATA / "trec_qc" / "train.tsv.xz", "test": DATA / "trec_qc" / "test.tsv"}
    return write_tsv_parts(folder, parts, ["text", "label"], [2, 0])


def write_sst2(folder: Path) -> dict[str, Path]:
    source = DATA / "sst2"
    parts = {"train": source / "train.tsv.xz", "dev": source / "dev.tsv", "test": source / "test.tsv"}
    return write_tsv_parts(folder, parts, ["text", "label"], [0, 1])


def write_sms(folder: Path) -> dict[str, Path]:
    parts = {"train": DATA / "sms_spam" / "train.tsv.xz", "test": DATA / "sms_spam" / "test.tsv"}
    return write_tsv_parts(folder, parts, ["text", "label"], [1, 0])


def write_banking77(folder: Path) -> dict[str, Path]:
    files = {}
    for part, name in (("train", "train.csv.xz"), ("test", "test.csv")):
        files[part] = folder / f"{part}.csv"
        files[part].write_text(open_text(DATA / "banking77" / name), encoding="utf-8")
    return files


def write_clinc150(folder: Path) -> dict[str, Path]:
    content = json.loads(open_text(DATA / "clinc150" / "data_full.json.xz"))
    names = {"train": "train", "dev": "val", "test": "test"}  # the 150 intents; queries out of scope are left out
    return {part: write_csv(folder / f"{part}.csv", ["text", "label"], content[name]) for part, name in names.items()}


def write_wnut17(folder: Path) -> dict[str, Path]:
    names = {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}
    files = {}
    for part, name in names.items():
        files[part] = folder / f"{part}.conll"
        lines = (line if line.strip() else "" for line in open_text(DATA / "wnut17" / name).split("\n"))
        files[part].write_text("\n".join(lines), encoding="utf-8")
    return files


def write_ewt(folder: Path) -> dict[str, Path]:
    files = {}
    for part in ("train", "dev", "test"):
        files[part] = folder / f"{part}.conllu"
        files[part].write_text(open_text(DATA / "ud_english_ewt" / f"en_ewt-ud-{part}.conllu.xz"), encoding="utf-8")
    return files


def write_stsb(folder: Path) -> dict[str, Path]:
    source = DATA / "stsb"
    parts = {"train": source / "sts-train.csv.xz", "dev": source / "sts-dev.csv", "test": source / "sts-test.csv"}
    return write_tsv_parts(folder, parts, ["sentence1", "sentence2", "score"], [5, 6, 4])


WRITERS: dict[str, Callable[[Path], dict[str, Path]]] = {
    "trec": write_trec,
    "sst2": write_sst2,
    "sms": write_sms,
    "banking77": write_banking77,
    "clinc150": write_clinc150,
    "wnut17": write_wnut17,
    "ewt": write_ewt,
    "stsb": write_stsb,
}


if __name__ == "__main__":
    main()
