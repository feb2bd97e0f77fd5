"""Public data as files that need no options: CSV with a header, or CoNLL as it is; and the table of all sets.

A writer gets a folder and returns the paths of its parts: `train`, `test`, and `dev` where the source has one. Splits
are the official ones; where there is none, a hash of the text or the place in a book decides.
"""

import csv
import json
import lzma
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

DATA = Path(__file__).parents[2] / "shared" / "data"
Parts = dict[str, Path]
Writer = Callable[[Path], Parts]
Task = Literal["classify", "tag", "score", "large"]


@final
@dataclass(frozen=True)
class PublicSet:
    """One row of the table.

    Args:
        name: what `--only` takes.
        title: what the table says.
        metric: what decides who loses; a key of the figures of `scores.py`, or of the task's own metrics.
        write: writes the parts into a folder.
        task: which peers it is measured beside.
        sealed: whether nobody looked at it, nor ran on it, before the end.
        rare: labels whose recall and F1 are measured.
    """

    name: str
    title: str
    metric: str
    write: Writer
    task: Task = "classify"
    sealed: bool = False
    rare: tuple[str, ...] = ()


def open_text(path: Path) -> str:
    """Return a file's text, unwrapped where it is compressed."""
    raw = path.read_bytes()
    return (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")


def lines_of(path: Path) -> list[list[str]]:
    """Return the cells of a tab-separated file without quotes."""
    return [line.split("\t") for line in open_text(path).split("\n") if line.strip()]


def write_csv(path: Path, rows: Iterable[Iterable[str]], header: tuple[str, ...] = ("text", "label")) -> Path:
    """Write rows under a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def columns(source: str, names: dict[str, str], *chosen: int) -> Writer:
    """Return a writer of a text and a label from tab-separated files."""

    def write(folder: Path) -> Parts:
        return {
            part: write_csv(
                folder / f"{part}.csv", ([row[column] for column in chosen] for row in lines_of(DATA / source / name))
            )
            for part, name in names.items()
        }

    return write


def write_banking77(folder: Path) -> Parts:
    files = {}
    for part, name in (("train", "train.csv.xz"), ("test", "test.csv")):
        files[part] = folder / f"{part}.csv"
        files[part].write_text(open_text(DATA / "banking77" / name), encoding="utf-8")
    return files


def clinc150() -> dict[str, list[list[str]]]:
    """Return texts and intents by part: the 150 intents; queries out of scope are left out."""
    content = json.loads(open_text(DATA / "clinc150" / "data_full.json.xz"))
    return {part: content[name] for part, name in {"train": "train", "dev": "val", "test": "test"}.items()}


def write_clinc150(folder: Path) -> Parts:
    return {part: write_csv(folder / f"{part}.csv", rows) for part, rows in clinc150().items()}


def write_wnut17(folder: Path) -> Parts:
    names = {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}
    files = {}
    for part, name in names.items():
        files[part] = folder / f"{part}.conll"
        lines = (line if line.strip() else "" for line in open_text(DATA / "wnut17" / name).split("\n"))
        files[part].write_text("\n".join(lines), encoding="utf-8")
    return files


def write_ewt(folder: Path) -> Parts:
    files = {}
    for part in ("train", "dev", "test"):
        files[part] = folder / f"{part}.conllu"
        files[part].write_text(open_text(DATA / "ud_english_ewt" / f"en_ewt-ud-{part}.conllu.xz"), encoding="utf-8")
    return files


def pairs(**names: str) -> Writer:
    """Return a writer of parts of STS-B."""

    def write(folder: Path) -> Parts:
        header = ("sentence1", "sentence2", "score")
        return {
            part: write_csv(
                folder / f"{part}.csv", ([row[5], row[6], row[4]] for row in lines_of(DATA / "stsb" / name)), header
            )
            for part, name in names.items()
        }

    return write


PARTS = {"train": "train.tsv.xz", "dev": "dev.tsv", "test": "test.tsv"}
TWO_PARTS = {"train": "train.tsv.xz", "test": "test.tsv"}
OPEN: tuple[PublicSet, ...] = (
    PublicSet("trec", "TREC questions, 6 labels", "accuracy", columns("trec_qc", TWO_PARTS, 2, 0)),
    PublicSet("trec-fine", "TREC questions, 50 labels", "accuracy", columns("trec_qc", TWO_PARTS, 2, 1)),
    PublicSet("sst2", "SST-2 reviews, 2 labels", "accuracy", columns("sst2", PARTS, 0, 1)),
    PublicSet("sms", "SMS spam, 2 labels", "accuracy", columns("sms_spam", TWO_PARTS, 1, 0)),
    PublicSet("banking77", "BANKING77 intents, 77 labels", "accuracy", write_banking77),
    PublicSet("clinc150", "CLINC150 intents, 150 labels", "accuracy", write_clinc150),
    PublicSet("polarity", "film reviews, 2 labels", "accuracy", columns("sentence_polarity", PARTS, 1, 0)),
    PublicSet("wnut17", "WNUT17 entities", "span_f1", write_wnut17, "tag"),
    PublicSet("ewt", "English EWT, parts of speech", "accuracy", write_ewt, "tag"),
    PublicSet(
        "stsb", "STS-B development part", "pearson", pairs(train="sts-train.csv.xz", test="sts-dev.csv"), "score"
    ),
)
