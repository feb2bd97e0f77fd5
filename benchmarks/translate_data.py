"""Pairs of texts for `translate.py`: read and encoded once, then handed out as batches that lie on the device."""

import dataclasses
import json
import lzma
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.files.sources import open_source
from thalweg.data.text.tokenizer import BOS
from thalweg.tasks.base import Settings
from thalweg.tasks.translate.task import Translate

EDGES = (8, 12, 16, 24, 32)  # lengths to which texts are padded; longer pairs are left out of training
PARTS = ("train", "dev", "test")


def settings(tokenizer: str, vocabulary_size: int) -> Settings:
    """Return the data part of a recipe for translation."""
    return Settings(
        columns={"source": "english", "target": "german"}, valid_share=0.1, normalize=("nfc",), tokenizer=tokenizer,
        vocabulary_size=vocabulary_size, bigrams=0, max_length=EDGES[-1] * 2, lags=0, scaling="none",
        layout="translate",
    )  # fmt: skip


def encode(data: str, tokenizer: str, vocabulary_size: int, folder: Path) -> None:
    """Read the data and write what the runs need into a folder, unless it is there."""
    if (folder / "data.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    options = settings(tokenizer, vocabulary_size)
    if data in SAMPLES:
        task, prepared = Translate.prepare(SAMPLES[data], None, options)
        half = np.arange(len(prepared.valid)) % 2 == 0
        parts = {"train": prepared.train, "dev": rows_of(prepared.valid, half), "test": rows_of(prepared.valid, ~half)}
    else:
        names = {part: unpacked(next(Path(data).glob(f"*.{part}.tsv*")), folder) for part in PARTS}
        train, dev, test = (open_source(names[part]) for part in PARTS)
        task, prepared = Translate.prepare(train, dev, options)
        parts = {"train": prepared.train, "dev": prepared.valid, "test": task.examples(test, options.columns)[0]}
    for name, content in task.files().items():
        (folder / name).write_bytes(content)
    for part, examples in parts.items():
        arrays = {}
        for name, column in examples.columns.items():
            assert isinstance(column, Ragged)
            arrays |= {f"{name}.values": np.asarray(column.values), f"{name}.offsets": column.offsets}
        np.savez(folder / f"{part}.npz", **arrays)
    (folder / "data.json").write_text(
        json.dumps({"data": data, "tokenizer": tokenizer, "vocabulary_size": vocabulary_size})
    )


def rows_of(examples: Examples, rows: np.ndarray) -> Examples:
    """Return some rows of examples."""
    chosen = np.flatnonzero(rows)
    return Examples({name: examples.ragged(name).take(chosen) for name in examples.columns}, sort_by=())


def unpacked(path: Path, folder: Path) -> Path:
    """Return a file of pairs with names for its columns."""
    content = path.read_bytes()
    text = (lzma.decompress(content) if path.suffix == ".xz" else content).decode("utf-8")
    target = folder / path.name.removesuffix(".xz")
    target.write_text("english\tgerman\n" + text.removeprefix("english\tdeu\n"), encoding="utf-8")
    return target


@final
@dataclasses.dataclass(frozen=True)
class Data:
    """What `encode` wrote: the task, and its examples by part."""

    task: Translate
    parts: dict[str, Examples]

    @classmethod
    def load(cls, folder: Path) -> "Data":
        """Read it back."""
        saved = json.loads((folder / "data.json").read_text())
        task = Translate.load(folder, settings(saved["tokenizer"], saved["vocabulary_size"]))
        parts = {}
        for part in PARTS:
            with np.load(folder / f"{part}.npz") as file:
                names = sorted({key.rpartition(".")[0] for key in file})
                columns = {name: Ragged(file[f"{name}.values"], file[f"{name}.offsets"]) for name in names}
            parts[part] = Examples(columns, sort_by=("source", "target"))
        return cls(task, parts)


@final
class Batches:
    """Training pairs on the device, padded to a few lengths, in an order that depends on the seed alone.

    Args:
        examples: the pairs.
        tokens: target positions of a batch, padding included.
        seed: of the order.
        device: where they lie.
    """

    def __init__(self, examples: Examples, tokens: int, seed: int, device: torch.device) -> None:
        source, target = examples.ragged("source"), examples.ragged("target")
        lengths = np.maximum(source.lengths, target.lengths)
        self.tables: list[tuple[Tensor, Tensor]] = []
        self.sizes = []
        for low, high in zip((0, *EDGES[:-1]), EDGES, strict=True):
            rows = np.flatnonzero((lengths > low) & (lengths <= high))
            self.tables.append((padded(source, rows, high).to(device), padded(target, rows, high).to(device)))
            self.sizes.append(min(len(rows), max(1, tokens // high)))
        self.rng = np.random.default_rng(seed)
        self.device = device
        self.queue: list[tuple[int, Tensor]] = []
        self.steps_per_epoch = sum(
            len(table[0]) // size for table, size in zip(self.tables, self.sizes, strict=True) if size
        )

    def next(self) -> tuple[int, Tensor]:
        """Return the number of the next batch's table and the rows that are in it."""
        if not self.queue:
            self._fill()
        return self.queue.pop()

    def restart(self, seed: int) -> None:
        """Begin anew with another order."""
        self.rng = np.random.default_rng(seed)
        self.queue = []
        self._fill()

    def _fill(self) -> None:
        for number, ((table, _), size) in enumerate(zip(self.tables, self.sizes, strict=True)):
            if size:  # what does not fill a batch waits for another epoch's order
                order = torch.from_numpy(self.rng.permutation(len(table))).to(self.device)
                self.queue += [(number, rows) for rows in order.split(size) if len(rows) == size]
        self.queue = [self.queue[place] for place in self.rng.permutation(len(self.queue))]

    def batch(self, number: int, rows: Tensor) -> Batch:
        """Return a batch; all of one table have the same shape."""
        source, target = (table.index_select(0, rows) for table in self.tables[number])
        begin = torch.full_like(target[:, :1], BOS)
        inputs = {
            "tokens": source,
            "mask": source != 0,
            "decoder_tokens": torch.cat([begin, target[:, :-1]], 1),
        }
        return Batch(inputs, target, target != 0)


def padded(column: Ragged, rows: np.ndarray, length: int) -> Tensor:
    """Return sequences as a matrix of ids with zeros behind them."""
    chosen = column.take(rows)
    matrix = np.zeros((len(rows), length), dtype=np.int64)
    matrix[np.arange(length) < chosen.lengths[:, None]] = chosen.values
    return torch.from_numpy(matrix)
