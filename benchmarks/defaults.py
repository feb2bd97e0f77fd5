"""What `thalweg train FILE` reaches with defaults on public data, beside what people would take instead.

`python benchmarks/defaults.py` reads ../shared/data (SOURCE.md in each folder says where it is from), runs all open
sets in one go, and prints the README's table, losing rows first. `--sealed` runs the sets that nothing was chosen by,
`--large` the million rows; `--only trec sst2` runs some sets, `--methods thalweg` some methods, `--again FILE` prints
the tables of an earlier run. Every command is a process of its own on one thread, and its CPU seconds are counted
whole. Peers that are not installed are left out: `pip install --no-deps -r benchmarks/peers.txt` installs them.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import answers
import peers
from linear_peers import read_labeled
from public_sets import OPEN, Parts, PublicSet
from scores import Answers, measures
from sealed_sets import SEALED
from stress_sets import LARGE, STRESS
from table import machine

SETS = {each.name: each for each in (*OPEN, *STRESS, *LARGE, *SEALED)}
PEERS = {
    "classify": ("tfidf", "svm", "fasttext"),
    "tag": ("crf",),
    "score": ("cosine", "ridge", "overlap"),
    "large": ("hashing",),
}
LINEAR, OTHER = ("tfidf", "svm", "hashing", "cosine", "ridge", "overlap"), ("fasttext", "crf")
NEEDED = {"fasttext": "fasttext", "crf": "sklearn_crfsuite"}
Row = dict[str, Any]


def main() -> None:
    arguments = parsed()
    if arguments.again:
        show(json.loads(arguments.again.read_text(encoding="utf-8"))["rows"])
        return
    chosen = [SETS[name] for name in arguments.only or default_names(sealed=arguments.sealed, large=arguments.large)]
    if any(each.sealed for each in chosen) and not arguments.sealed:
        raise SystemExit("That set is sealed: nothing may be chosen by it. `--sealed` runs it, at the end.")
    kept = json.loads(arguments.out.read_text(encoding="utf-8"))["rows"] if arguments.out.exists() else {}
    rows: dict[str, Row] = dict(kept) if arguments.methods or arguments.only else {}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for each in chosen:
        with tempfile.TemporaryDirectory() as folder:
            before = rows.get(each.name, {}) if arguments.methods else {}
            rows[each.name] = before | measured(each, Path(folder), arguments.methods)
        arguments.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1), encoding="utf-8")
    show(rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    methods = ["thalweg", *dict.fromkeys(peer for group in PEERS.values() for peer in group)]
    parser.add_argument("--only", nargs="+", choices=list(SETS), help="run these sets, and keep the file's other rows")
    parser.add_argument("--methods", nargs="+", choices=methods, help="measure only these, and keep other figures")
    parser.add_argument("--sealed", action="store_true", help="run the sets that nothing was chosen by")
    parser.add_argument("--large", action="store_true", help="run the million rows: some minutes, 3 GB")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "defaults.json")
    parser.add_argument("--again", type=Path, help="print the tables of this file and run nothing")
    return parser.parse_args()


def default_names(*, sealed: bool, large: bool) -> list[str]:
    """Return the sets that are run where none is named."""
    return [each.name for each in ((SEALED if sealed else ()) + (LARGE if large else ())) or (*OPEN, *STRESS)]


def measured(each: PublicSet, folder: Path, methods: list[str] | None) -> Row:
    """Return the figures of one set by method."""
    files = each.write(folder)
    row: Row = {"num_lines": {part: path.read_text(encoding="utf-8").count("\n") for part, path in files.items()}}
    for method in ("thalweg", *PEERS[each.task]):
        if methods is None or method in methods:
            row[method] = run_thalweg(each, files, folder) if method == "thalweg" else run_peer(each, method, files)
            print(f"{each.name:<11} {method:<9} {json.dumps(row[method])}", file=sys.stderr, flush=True)
    return row


def run_peer(each: PublicSet, method: str, files: Parts) -> Row:
    """Run one peer and measure its answers to the test part; the seconds have all settings that it tried in them."""
    if method not in peers.METHODS or importlib.util.find_spec(NEEDED.get(method, "sklearn")) is None:
        return {"missing": "not installed"}
    given = [str(files[part]) if part in files else "" for part in ("train", "dev", "test")]
    ran = timed([sys.executable, peers.__file__, method, *given], files["train"].parent)
    found = json.loads(ran.printed.splitlines()[-1])
    figures = figures_of(each, files["test"], found) if "labels" in found else {each.metric: found["score"]}
    return figures | {"valid": found.get("valid"), "settings": found.get("settings"), **ran.cost()}


def run_thalweg(each: PublicSet, files: Parts, folder: Path) -> Row:
    """Train with defaults and measure on the test part; the seconds are those of `thalweg train`."""
    start, run = [sys.executable, "-m", "thalweg"], folder / "runs" / "run"
    command = [*start, "train", str(files["train"]), "--out", str(folder / "runs"), "--name", "run", "--json"]
    ran = timed(command + (["--valid", str(files["dev"])] if "dev" in files else []), folder)
    summary = json.loads(ran.printed.splitlines()[-1])
    if each.task in ("classify", "large"):
        printed = timed([sys.executable, answers.__file__, str(run), str(files["test"])], folder).printed
        figures = figures_of(each, files["test"], json.loads(printed.splitlines()[-1]))
    else:
        printed = timed([*start, "evaluate", str(run), str(files["test"]), "--json"], folder).printed
        figures = json.loads(printed.splitlines()[-1])["metrics"]
    kept = {key: summary[key] for key in ("model", "optimizer", "steps", "status") if key in summary}
    return figures | kept | ran.cost() | {"said": [line.strip() for line in ran.said.splitlines() if line.strip()]}


def figures_of(each: PublicSet, test: Path, found: Row) -> Row:
    """Return the figures of a classifier's answers."""
    given = {key: found[key] for key in ("labels", "likeliest", "probability", "of_truth") if key in found}
    return measures(read_labeled(test)[1], Answers(**given), each.rare)


@final
@dataclass(frozen=True)
class Ran:
    """What a command printed and said, its CPU seconds, and the most memory that it had."""

    printed: str
    said: str
    seconds: float
    megabytes: float

    def cost(self) -> Row:
        """Return what the table has of it."""
        return {"seconds": self.seconds, "megabytes": self.megabytes}


def timed(command: list[str], folder: Path) -> Ran:
    """Run a command on one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads | {"OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "1000"}
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=printed, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said.read()[-3000:]}")
        return Ran(printed.read(), said.read(), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def show(rows: dict[str, Row]) -> None:
    """Print the README's table, and the one of docs/training.md."""
    print(table(rows), small_print(rows), sep="\n\n")


def table(rows: dict[str, Row]) -> str:
    """Return the table of the README: losing rows first, the largest loss on top."""
    lines = ["| data: metric | thalweg | linear model | fastText or CRF |", "| --- | --- | --- | --- |"]
    for each in sorted((SETS[name] for name in rows if name in SETS), key=lambda each: lead(each, rows[each.name])):
        found = rows[each.name]
        cells = (_cell(found.get(method), each.metric) for method in ("thalweg", best_linear(found), _of(found, OTHER)))
        lines.append(f"| {each.title}: {each.metric.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def small_print(rows: dict[str, Row]) -> str:
    """Return the other figures of the classifiers: macro F1, calibration, log loss, rare labels, megabytes."""
    names = {"macro_f1": 3, "ece": 3, "log_loss": 2, "rare_recall": 2, "rare_f1": 2, "megabytes": 0}
    lines = [f"| data | method | {' | '.join(name.replace('_', ' ') for name in names)} |", f"| --- {'| --- ' * 7}|"]
    for name, found in rows.items():
        for method in ("thalweg", *PEERS["classify"], *PEERS["large"]):
            figures = found.get(method, {})
            if "macro_f1" in figures:
                cells = (f"{figures[key]:,.{digits}f}" if key in figures else "" for key, digits in names.items())
                lines.append(f"| {name} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def lead(each: PublicSet, found: Row) -> float:
    """Return how far thalweg is ahead of its best peer; where it was not run, 0."""
    others = [figures[each.metric] for method in (*LINEAR, *OTHER) if each.metric in (figures := found.get(method, {}))]
    return found["thalweg"][each.metric] - max(others, default=0.0) if "thalweg" in found else 0.0


def best_linear(found: Row) -> str:
    """Return the linear peer that its own choice on the validation part speaks for."""
    measured = [peer for peer in LINEAR if found.get(peer, {}).get("valid") is not None]
    return max(measured, key=lambda peer: found[peer]["valid"], default="")


def _of(found: Row, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in found), "")


def _cell(figures: Row | None, metric: str) -> str:
    if figures is None:
        return ""
    return figures.get("missing") or f"{figures[metric]:.3f} ({figures['seconds']:.0f} s)"


if __name__ == "__main__":
    main()
