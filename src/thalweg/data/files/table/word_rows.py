"""Tables with one word in a row, and a column that says which sentence it belongs to -> a row for each sentence."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, final

from thalweg.data.columns.role_names import LAST_WORD, name_score, normalized
from thalweg.data.files.base import BadRows, Chunk
from thalweg.data.files.conll import MAX_WORDS

_SENTENCES: Final = frozenset(
    ("sentence", "sentence_id", "sent", "sent_id", "sentence_number", "sentence_no", "sentence_idx", "sentid", "sid")
)
_WORDS: Final = frozenset(("word", "words", "token", "tokens", "form"))
_NUM_LOOKED_AT: Final = 200


@final
@dataclass(frozen=True)
class WordRows:
    """How words in rows are put together: the place of the sentence's column, which other columns are lists."""

    columns: tuple[str, ...]
    sentence: int

    def chunks(self, chunks: Iterable[Chunk], bad: BadRows, size: int) -> Iterator[Chunk]:
        """Chunks of words -> chunks of at most `size` sentences; the id may stand in the first row of each only."""
        lines: list[int] = []
        rows: list[tuple[Any, ...]] = []
        for line, row in self._sentences(chunks, bad):
            lines.append(line)
            rows.append(row)
            if len(rows) == size:
                yield Chunk(self.columns, lines, tuple(map(list, zip(*rows, strict=True))))
                lines, rows = [], []
        if rows:
            yield Chunk(self.columns, lines, tuple(map(list, zip(*rows, strict=True))))

    def _sentences(self, chunks: Iterable[Chunk], bad: BadRows) -> Iterator[tuple[int, tuple[Any, ...]]]:
        start, name = 0, ""
        words: list[tuple[str, ...]] = []
        for chunk in chunks:
            for line, values in zip(chunk.lines, zip(*chunk.values, strict=True), strict=True):
                own = values[self.sentence].strip()
                if own and own != name and words:
                    yield from self._row(start, name, words, bad)
                    words = []
                start, name = (start, name) if words else (line, own or name)
                words.append(values)
        if words:
            yield from self._row(start, name, words, bad)

    def _row(
        self, start: int, name: str, words: list[tuple[str, ...]], bad: BadRows
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        if len(words) > MAX_WORDS:
            bad.add(start, f"the sentence has more than {MAX_WORDS:,} words")
            return
        columns: list[Any] = list(map(list, zip(*words, strict=True)))
        columns[self.sentence] = name
        yield start, tuple(columns)


def words_in_rows(columns: tuple[str, ...], rows: list[list[str]]) -> WordRows | None:
    """Whether a table has one word in a row and a column of sentences, judged by names and the first rows.

    Example:
        >>> rows = [["1", "Anna", "B-PER"], ["", "ran", "O"], ["2", "Rio", "B-LOC"]]
        >>> words_in_rows(("Sentence #", "Word", "Tag"), rows).sentence
        0
    """
    names = [normalized(column) for column in columns]
    place = next((i for i, name in enumerate(names) if name in _SENTENCES), None)
    has_words = any(name in _WORDS for name in names)
    has_tags = any(name_score(name, "tags") >= LAST_WORD for name in names)
    if place is None or not has_words or not has_tags:
        return None
    ids = [row[place].strip() for row in rows[:_NUM_LOOKED_AT] if len(row) == len(columns)]
    # A sentence has several words: its id stands in one row, or comes again.
    goes_on = sum(not own or own == before for before, own in pairwise(ids))
    return WordRows(columns, place) if ids and ids[0] and goes_on > 0 else None
