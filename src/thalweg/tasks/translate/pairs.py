"""Pairs of texts: read in step, turned into ids, and which of them are trained on."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, final

import numpy as np
import torch

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.collate import pad
from thalweg.data.arrays.equal import Prefixes, same_rows
from thalweg.data.arrays.ragged import Ragged, RaggedBuilder, Spill
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.data.text.subwords.dropout import Dropout
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.tasks.reading.text_column import TextColumn, check_columns

SHORT: Final = 10  # tokens: pairs without a longer side may differ as they like
ODD: Final = 9.0  # times as many tokens on one side: what a note tells where nothing is left out
RARE: Final = 0.1  # of the pairs: where more are odd, it is what the data are about


@final
class Pairs:
    """Texts of the columns "source" and "target", normalized, read in step; a missing column is an InputError."""

    def __init__(self, source: AbstractSource, columns: dict[str, Any], normalizer: Normalizer) -> None:
        check_columns(source, (columns["source"], columns["target"]))
        self.name = source.name
        self.sources = TextColumn(source, columns["source"], normalizer)
        self.targets = TextColumn(source, columns["target"], normalizer)

    def complete(self) -> tuple[np.ndarray, list[str]]:
        """Return True for the rows with a text on both sides (none is an InputError), and a note about the others."""
        parts, missing = [np.zeros(0, dtype=bool)], []
        num_missing = 0
        for (lines, sources), (_, targets) in zip(self.sources.chunks(), self.targets.chunks(), strict=True):
            present = [bool(source.strip() and target.strip()) for source, target in zip(sources, targets, strict=True)]
            parts.append(np.array(present, dtype=bool))
            num_missing += present.count(False)
            missing += [line for line, there in zip(lines, present, strict=True) if not there][: 3 - len(missing)]
        keep = np.concatenate(parts)
        if not keep.any():
            raise InputError(f"{self.name}: expected pairs of texts, got none in which neither is empty.")
        where = ", ".join(str(line) for line in missing) + (", ..." if num_missing > 3 else "")
        note = f"{self.name}: {num_missing:,} pairs without a source or a target were left out (line {where})."
        return keep, [note] if num_missing else []

    def chosen(self, rows: np.ndarray) -> Iterator[tuple[list[str], list[str]]]:
        """Yield sources and targets of the rows that are True, in chunks."""
        return zip(self.sources.chosen(rows), self.targets.chosen(rows), strict=True)


@final
@dataclasses.dataclass(frozen=True)
class Tokens:
    """The ids of some texts: each with its end, unless it was cut.

    Args:
        ids: of each text.
        lengths: tokens of each text before it was cut, its end not counted, int64 `[texts]`.
        is_cut: of each text, bool `[texts]`.
    """

    ids: Ragged
    lengths: np.ndarray
    is_cut: np.ndarray


def tokens_of(tokenizer: AnyTokenizer, texts: Sequence[str], max_length: int) -> Tokens:
    """Return the ids of texts, of at most `max_length` tokens each, the end included."""
    ids = Ragged.from_lengths(*tokenizer.encode_many(list(texts)))
    is_long = ids.lengths >= max_length
    tokens, mask = pad(ids, np.arange(len(ids)), max_length=max_length, dtype=np.int32)
    rows = torch.cat([tokens, torch.zeros(len(ids), 1, dtype=torch.int32)], 1).numpy()
    lengths = mask.sum(1).numpy()
    short = np.flatnonzero(~is_long)
    rows[short, lengths[short]] = tokenizer.end
    lengths = lengths + ~is_long
    cut = Ragged.from_lengths(rows[np.arange(rows.shape[1]) < lengths[:, None]], lengths)
    return Tokens(cut, ids.lengths, is_long)


@final
@dataclasses.dataclass(frozen=True)
class Reading:
    """How pairs become examples.

    Args:
        source: tokenizer of the sources.
        target: tokenizer of the targets.
        max_length: longest text in tokens, its end included.
        spill: where arrays of ids go that are too large for memory.
        long: what becomes of longer pairs in training: "drop" leaves them out, "cut" keeps their beginnings.
        max_ratio: how many times as many tokens one side of a training pair may have as the other; 0: any number.
    """

    source: AnyTokenizer
    target: AnyTokenizer
    max_length: int
    spill: Spill
    long: str = "drop"
    max_ratio: float = 0.0

    def held_out(self, pairs: Pairs, rows: np.ndarray) -> tuple[Examples, list[str]]:
        """Return ids and texts of pairs to measure by, and notes; none is left out, and long texts are cut."""
        builder, num_cut = _Builder(self.spill, with_texts=True), 0
        for texts in pairs.chosen(rows):
            sides = self._sides(texts)
            num_cut += sum(int(side.is_cut.sum()) for side in sides)
            builder.add(sides, np.ones(len(texts[0]), dtype=bool), texts)
        return builder.finish(), self._cut_notes(num_cut)

    def training(self, pairs: Pairs, rows: np.ndarray) -> tuple[Examples, list[str]]:
        """Return ids of pairs to train on, maybe none, and notes about those that were cut or left out."""
        builder = _Builder(self.spill, with_texts=False)
        num_long = num_odd = num_cut = 0
        for texts in pairs.chosen(rows):
            sides = self._sides(texts)
            is_long = sides[0].is_cut | sides[1].is_cut
            keep = ~is_long if self.long == "drop" else np.ones(len(is_long), dtype=bool)
            odd = keep & _is_odd(*(side.lengths for side in sides), self.max_ratio or ODD)
            if self.max_ratio:
                keep &= ~odd
            num_long += int(is_long.sum())
            num_odd += int(odd.sum())
            num_cut += sum(int((side.is_cut & keep).sum()) for side in sides)
            builder.add(sides, keep, None)
        examples = builder.finish()
        notes = self._odd_notes(num_odd, int(rows.sum()))
        if self.long == "cut":
            notes = self._cut_notes(num_cut) + notes
        elif num_long:
            notes.insert(0, self._told(num_long, int(rows.sum())))
        return examples, notes

    def _sides(self, texts: tuple[Sequence[str], Sequence[str]]) -> tuple[Tokens, Tokens]:
        return (
            tokens_of(self.source, texts[0], self.max_length),
            tokens_of(self.target, texts[1], self.max_length),
        )

    def _cut_notes(self, num_cut: int) -> list[str]:
        note = f"{num_cut:,} texts are longer than {self.max_length - 1} tokens and were truncated (--max-length)."
        return [note] if num_cut else []

    def _told(self, num_long: int, total: int) -> str:
        return (
            f"{num_long:,} of {total:,} training pairs have a text of more than {self.max_length - 1} tokens and were "
            "left out (--max-length; --long cut keeps the beginnings)."
        )

    def _odd_notes(self, num_odd: int, total: int) -> list[str]:
        if not num_odd or (not self.max_ratio and num_odd > RARE * total):
            return []
        limit = self.max_ratio or ODD
        what = f"{num_odd:,} of {total:,} training pairs have more than {limit:g} times as many tokens on one side"
        if self.max_ratio:
            return [f"{what} and were left out (--max-ratio)."]
        return [f"{what}: are they translations? --max-ratio {ODD:g} leaves them out."]


def _is_odd(sources: np.ndarray, targets: np.ndarray, limit: float) -> np.ndarray:
    """Return whether one side of a pair has more than `limit` times as many tokens as the other, and not just a few."""
    longer, shorter = np.maximum(sources, targets), np.minimum(sources, targets)
    return (longer > SHORT) & (longer > limit * shorter)


def view_of(examples: Examples, sizes: str) -> Prefixes:
    """Return the target tokens, each predicted from the source and those before; `sizes` of vocabulary and length."""
    source, target = examples.ragged("source"), examples.ragged("target")
    first = same_rows((source.values[: int(source.offsets[-1])], source.lengths))
    sees = (
        "the source text and the translation up to the next token (fixed: the normalization, the vocabulary of "
        f"{sizes} each)"
    )
    return Prefixes(target.values[: int(target.offsets[-1])], target.lengths, first, sees)


def as_bytes(parts: Iterable[Sequence[str]], spill: Spill) -> Ragged:
    """Return texts as a column of examples."""
    builder = RaggedBuilder(np.uint8, spill)
    for part in parts:
        builder.extend(map(_bytes, part))
    return builder.finish()


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)


@final
class Redrawn:
    """Pairs in other subwords for each step; see `thalweg.data.text.subwords.dropout.Dropout`.

    Args:
        source: tokenizer of the sources, of the kind "bpe".
        target: tokenizer of the targets, which may be the same.
        probability: with which a merge is left out.
        longest: most tokens of a text.
    """

    def __init__(self, source: AnyTokenizer, target: AnyTokenizer, probability: float, longest: int) -> None:
        assert isinstance(source, Tokenizer)
        assert isinstance(target, Tokenizer)
        first = Dropout(source, probability)
        self._sides = {"source": first, "target": first if target is source else Dropout(target, probability)}
        self._longest = longest

    def __call__(
        self, examples: Examples, indices: np.ndarray, keys: np.ndarray, number: int
    ) -> tuple[Examples, np.ndarray]:
        """Return these examples drawn for a step of this number, and their places; `keys` are a number for each."""
        columns: dict[str, Ragged | np.ndarray] = {}
        for turn, (name, dropout) in enumerate(self._sides.items()):
            rows = list(examples.ragged(name).take(indices))
            columns[name] = dropout.drawn(rows, keys, 2 * number + turn, self._longest)
        return Examples(columns), np.arange(len(indices))


@final
class _Builder:
    """Collects the columns of examples."""

    def __init__(self, spill: Spill, *, with_texts: bool) -> None:
        self.ids = {name: RaggedBuilder(np.int32, spill) for name in ("source", "target")}
        self.texts = {name: RaggedBuilder(np.uint8, spill) for name in self.ids} if with_texts else {}

    def add(
        self, sides: tuple[Tokens, Tokens], keep: np.ndarray, texts: tuple[Sequence[str], Sequence[str]] | None
    ) -> None:
        for builder, side in zip(self.ids.values(), sides, strict=True):
            kept = side.ids if keep.all() else side.ids.take(np.flatnonzero(keep))
            builder.extend_flat(kept.values, kept.lengths)
        for builder, part in zip(self.texts.values(), texts or (), strict=True):
            builder.extend(map(_bytes, part))

    def finish(self) -> Examples:
        columns: dict[str, Ragged | np.ndarray] = {}
        for name, builder in self.ids.items():
            columns[name] = builder.finish()
            if name in self.texts:
                columns[f"{name}_text"] = self.texts[name].finish()
        return Examples(columns, sort_by=("source", "target"))
