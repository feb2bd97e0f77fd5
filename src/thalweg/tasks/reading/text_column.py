"""A column of texts, normalized, read as often as needed; kept in memory while it is small."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import final

import numpy as np

from thalweg.data.arrays.split import text_keys
from thalweg.data.columns.facts import as_text, shortened
from thalweg.data.files.base import AbstractSource, Chunk
from thalweg.data.text.normalize import Normalizer
from thalweg.errors import InputError

MAX_CHARACTERS_IN_MEMORY = 200_000_000


def check_columns(source: AbstractSource, names: Iterable[str | None]) -> None:
    """Raise an InputError unless the source has all these columns; None stands for one that is not used."""
    for name in names:
        if name is not None and name not in source.columns:
            raise InputError(f"{source.name} has no column {name!r}; its columns are {shortened(source.columns, 20)}.")


@final
@dataclasses.dataclass(eq=False)
class TextColumn:
    """The normalized texts of a column, in chunks.

    The first pass keeps them, unless they have more than `max_characters`: then every pass reads the file again, so
    memory does not grow with the file.
    """

    source: AbstractSource
    column: str
    normalizer: Normalizer
    max_characters: int = MAX_CHARACTERS_IN_MEMORY
    _kept: list[tuple[Sequence[int], list[str]]] | None = dataclasses.field(default=None, init=False, repr=False)

    def chunks(self) -> Iterator[tuple[Sequence[int], list[str]]]:
        """Yield line numbers and normalized texts."""
        if self._kept is not None:
            yield from self._kept
            return
        for chunk, texts in self._read():
            yield chunk.lines, texts

    def read(self, visit: Callable[[list[str]], None]) -> Iterator[Chunk]:
        """Yield the chunks of the source, for what else is to be read from them; `visit` gets the normalized texts."""
        for chunk, texts in self._read():
            visit(texts)
            yield chunk

    def _read(self) -> Iterator[tuple[Chunk, list[str]]]:
        """Read the source, and keep the texts while they are few."""
        kept: list[tuple[Sequence[int], list[str]]] | None = []
        num_characters = 0
        for chunk in self.source.chunks():
            values = chunk.column(self.column)
            texts = self.normalizer.many([value if type(value) is str else as_text(value) for value in values])
            yield chunk, texts
            if kept is not None:
                num_characters += sum(map(len, texts))
                if num_characters > self.max_characters:
                    kept = None
                else:
                    kept.append((chunk.lines, texts))
        self._kept = kept

    def chosen(self, rows: np.ndarray) -> Iterator[list[str]]:
        """Yield the texts of the rows that are True, in chunks."""
        start = 0
        for _, texts in self.chunks():
            part = rows[start : start + len(texts)]
            start += len(texts)
            yield texts if part.all() else [text for text, wanted in zip(texts, part.tolist(), strict=True) if wanted]

    def kept(self, rows: np.ndarray, limit: int) -> list[str] | None:
        """Return the texts of the rows that are True, or None if they are more than `limit`."""
        return [text for texts in self.chosen(rows) for text in texts] if rows.sum() <= limit else None

    def keys(self) -> np.ndarray:
        """Return a 64-bit key of every text: equal texts have equal keys."""
        parts = [text_keys(texts) for _, texts in self.chunks()]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
