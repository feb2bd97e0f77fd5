"""The built-in data sets: one for each task, made from what every Python has; nothing is downloaded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, final

from thalweg.data.builtin.code import docstrings, manual, tokens
from thalweg.data.builtin.generated import numbers, phrases
from thalweg.data.builtin.series import sunspots
from thalweg.data.files.base import AbstractSource, Chunk


@final
@dataclass(eq=False)
class Sample(AbstractSource):
    """A built-in data set; it can be read like an open file."""

    name: str  # what the user types
    description: str  # one sentence
    columns: tuple[str, ...]
    generate: Callable[[], list[tuple[Any, ...]]]  # makes the rows, the same at each call
    kind: str = "sample"
    notes: list[str] = field(default_factory=list)

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """All rows, at most `size` at a time; the line of a row is its number, from 1."""
        rows = self.generate()
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            lines = range(start + 1, start + 1 + len(part))
            yield Chunk(self.columns, lines, tuple(map(list, zip(*part, strict=True))))


# The rows are kept in memory once made: a run reads its data several times.
SAMPLES: Final[dict[str, Sample]] = {
    sample.name: sample
    for sample in (
        Sample(
            "docstrings",
            "Docstrings of Python's standard library, labeled with their package.",
            ("text", "label"),
            cache(docstrings),
        ),
        Sample("manual", "Python's own language manual.", ("text",), cache(manual)),
        Sample("numbers", "English number names and German ones.", ("english", "german"), cache(numbers)),
        Sample(
            "tokens",
            "Source lines of Python's standard library, each word with its kind.",
            ("tokens", "tags"),
            cache(tokens),
        ),
        Sample("sunspots", "Yearly mean sunspot numbers, 1700 to 2008.", ("year", "sunspots"), cache(sunspots)),
        Sample(
            "phrases",
            "Pairs of sentences from a small grammar that defines how similar they are.",
            ("sentence1", "sentence2", "similarity"),
            cache(phrases),
        ),
    )
}
