"""Trainings that are healthy, on public data: what the faults of `faults.py` are planted into.

Thresholds are set on group "A"; "B" has other data, sizes and seeds. Family "gru" was never looked at before the end.
"""

import csv
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

from public_sets import DATA, lines_of, open_text, write_csv

NUM_TRAIN, NUM_VALID = 2400, 600
Rows = list[tuple[str, str]]


@final
@dataclasses.dataclass(frozen=True)
class Setting:
    """A healthy training.

    Args:
        name: of the setting.
        family: of its network: "mlp", "recurrent", "transformer", "linear".
        group: "A" sets thresholds, "B" is scored.
        data: name of the data in `DATASETS`.
        options: of the recipe.
        num_train: training examples.
        sealed: whether nobody looked at it before the end.
    """

    name: str
    family: str
    group: str
    data: str
    options: dict[str, Any]
    num_train: int = NUM_TRAIN
    sealed: bool = False


def trec() -> Rows:
    """Questions, six classes."""
    return [(row[2], row[0]) for row in lines_of(DATA / "trec_qc/train.tsv.xz")]


def sms() -> Rows:
    """Short messages, spam or not."""
    return [(row[1], row[0]) for row in lines_of(DATA / "sms_spam/train.tsv.xz") if len(row) == 2]


def sst2() -> Rows:
    """Phrases of reviews, good or bad."""
    return [(row[0], row[1]) for row in lines_of(DATA / "sst2/train.tsv.xz") if len(row) == 2 and row[1] in "01"]


def polarity() -> Rows:
    """Sentences of reviews, good or bad."""
    return [(row[1], row[0]) for row in lines_of(DATA / "sentence_polarity/train.tsv.xz") if len(row) == 2]


def snips() -> Rows:
    """Commands to a machine, seven intents."""
    rows: Rows = []
    label, words = "", []
    for line in [*open_text(DATA / "snips/train.conll.xz").split("\n"), ""]:
        if line.startswith("# intent = "):
            label = line.removeprefix("# intent = ").strip()
        elif line.strip() and not line.startswith("#"):
            words.append(line.split("\t")[0].split(" ")[0])
        elif words:
            rows.append((" ".join(words), label))
            words = []
    return rows


TEXTS: Final[dict[str, Callable[[], Rows]]] = {
    "trec": trec, "sms": sms, "sst2": sst2, "polarity": polarity, "snips": snips,
}  # fmt: skip
SERIES: Final = {"temperatures": "daily-min-temperatures.csv", "co2": "co2.csv", "monthly": "monthly-sunspots.csv"}


def unique(rows: Rows) -> Rows:
    """Return the rows whose text comes for the first time."""
    seen: dict[str, str] = {}
    for text, label in rows:
        seen.setdefault(" ".join(text.lower().split()), label)
    return list(seen.items())


def written(name: str, folder: Path, *, seed: int = 0, change: Callable[[Rows, Rows], tuple[Rows, Rows]] | None = None,
            num_train: int = NUM_TRAIN) -> dict[str, Any]:  # fmt: skip
    """Write a data set's training and validation files; return the options that name them.

    `change` takes and returns training and validation rows, which are all different texts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name in SERIES:
        return {"source": str(series(name, folder))}
    if name not in TEXTS and name != "shakespeare":  # a built-in set
        return {"source": name}
    if name == "shakespeare":
        path = folder / "text.txt"
        text = open_text(DATA / "tinyshakespeare/train.txt.xz")
        path.write_text(text[seed * 50_000 : seed * 50_000 + 120_000], encoding="utf-8")
        return {"source": str(path), "task": "language"}
    rows = unique(TEXTS[name]())
    random.Random(seed).shuffle(rows)
    train, valid = rows[:num_train], rows[num_train : num_train + NUM_VALID]
    if change is not None:
        train, valid = change(train, valid)
    paths = {
        "source": write_csv(folder / "train.csv", train),
        "valid": write_csv(folder / "valid.csv", valid),
    }
    return {key: str(path) for key, path in paths.items()} | {"task": "classify", "text_column": "text",
                                                            "label_column": "label"}  # fmt: skip


def series(name: str, folder: Path, change: Callable[[list[list[str]]], list[list[str]]] | None = None) -> Path:
    """Write a numeric series as CSV with a header."""
    with (DATA / "timeseries" / SERIES[name]).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    numbers = [row[-1] for row in rows if _is_number(row[-1])][-3000:]
    table = [[value] for value in numbers]
    header = ["value"]
    if change is not None:
        table = change(table)
        header = ["value", *(f"extra {i}" for i in range(len(table[0]) - 1))]
    path = folder / "series.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *table])
    return path


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_ADAM = {"optimizer": "adamw", "schedule": "cosine", "batch_size": 32, "clip": 1.0}
_MLP = _ADAM | {"model": "mlp", "width": 32, "hidden": 64, "layers": 2, "epochs": 4.0, "dropout": 0.1, "lr": 3e-3}
_LSTM = _ADAM | {"model": "lstm", "width": 32, "hidden": 32, "layers": 1, "epochs": 4.0, "dropout": 0.1, "lr": 5e-3}
_TRANSFORMER = _ADAM | {
    "model": "transformer", "width": 32, "hidden": 64, "layers": 2, "heads": 4, "epochs": 4.0, "dropout": 0.1,
    "lr": 2e-3, "max_length": 48,
}  # fmt: skip
_FORECAST = {"task": "forecast", "optimizer": "adamw", "schedule": "cosine", "batch_size": 32, "epochs": 6.0,
             "lags": 12, "hidden": 16, "lr": 5e-3, "model": "mlp", "layers": 2}  # fmt: skip

BUILT_IN: Final = {"width": 48, "hidden": 48}
SETTINGS: Final = (
    Setting("trec-mlp", "mlp", "A", "trec", _MLP),
    Setting("sms-mlp", "mlp", "A", "sms", _MLP | {"width": 48, "layers": 3}),
    Setting("trec-lstm", "recurrent", "A", "trec", _LSTM),
    Setting("sms-lstm", "recurrent", "A", "sms", _LSTM | {"max_length": 40}),
    Setting("trec-transformer", "transformer", "A", "trec", _TRANSFORMER),
    Setting("sms-transformer", "transformer", "A", "sms", _TRANSFORMER | {"layers": 3, "max_length": 40}),
    Setting("temperatures-mlp", "mlp", "A", "temperatures", _FORECAST),
    Setting("snips-mlp", "mlp", "B", "snips", _MLP | {"width": 64, "hidden": 96}),
    Setting(
        "sst2-mlp", "mlp", "B", "sst2", _MLP | {"width": 24, "layers": 3, "activation": "tanh", "epochs": 1.6}, 5000
    ),
    Setting("snips-lstm", "recurrent", "B", "snips", _LSTM | {"width": 48, "hidden": 40}),
    Setting(
        "polarity-lstm",
        "recurrent",
        "B",
        "polarity",
        _LSTM | {"hidden": 24, "max_length": 40, "epochs": 1.3, "dropout": 0.3},
        6000,
    ),
    Setting("snips-transformer", "transformer", "B", "snips", _TRANSFORMER | {"width": 48, "hidden": 96}),
    Setting("sst2-transformer", "transformer", "B", "sst2", _TRANSFORMER | {"layers": 3, "epochs": 1.6}, 5000),
    Setting("monthly-mlp", "mlp", "B", "monthly", _FORECAST | {"lags": 24, "hidden": 24}),
    # The other tasks on built-in sets, without faults: they must have no findings.
    Setting("tokens-lstm", "recurrent", "B", "tokens", BUILT_IN | {"model": "lstm", "steps": 150}),
    Setting("tokens-linear", "linear", "B", "tokens", {"epochs": 20.0}),
    Setting("phrases-lstm", "recurrent", "B", "phrases", BUILT_IN | {"model": "lstm", "steps": 200}),
    Setting("phrases-linear", "linear", "B", "phrases", {}),
    Setting("sunspots-ar", "linear", "B", "sunspots", {}),
    Setting("manual-lstm", "recurrent", "B", "manual", BUILT_IN | {"steps": 150}),
    Setting("manual-transformer", "transformer", "B", "manual", BUILT_IN | {"model": "transformer", "steps": 150}),
    Setting("numbers-transformer", "transformer", "B", "numbers", BUILT_IN | {"steps": 250}),
    Setting("docstrings-bag", "linear", "B", "docstrings", {}),
    Setting("snips-gru", "recurrent", "B", "snips", _LSTM | {"model": "gru", "width": 40}, sealed=True),
)
