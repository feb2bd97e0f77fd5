"""fastText's files for supervised training: `__label__one __label__two the text` on each line."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, final

from thalweg.data.files.base import BadRows, Chunk
from thalweg.errors import InputError

PREFIX: Final = "__label__"
MIN_LABELED: Final = 0.9  # of the lines begin or end with a label


@final
@dataclass(frozen=True)
class LabeledLines:
    """Reads the labels at the beginning of each line, or at its end; one in between is part of the text."""

    is_multilabel: bool  # whether a row has a list of labels, or one
    columns: tuple[str, ...] = ("text", "label")

    def parse(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        """Blocks of whole lines (see `LineReader.blocks`) -> chunks of at most `size` rows."""
        rows = self._rows(blocks, bad)
        while batch := list(islice(rows, size)):
            lines, texts, labels = zip(*batch, strict=True)
            yield Chunk(self.columns, list(lines), (list(texts), list(labels)))

    def _rows(self, blocks: Iterator[tuple[int, str]], bad: BadRows) -> Iterator[tuple[int, str, str | list[str]]]:
        for first, block in blocks:
            for line, content in enumerate(block[:-1].split("\n"), start=first):
                labels, text = labels_and_text(content)
                if not content or content.isspace():
                    continue
                if not labels:
                    bad.add(line, f"expected a line that begins or ends with {PREFIX}")
                elif self.is_multilabel:
                    yield line, text, labels
                elif len(labels) > 1:
                    bad.add(line, f"expected one label, as in the lines before, got {len(labels)}")
                else:
                    yield line, text, labels[0]


def labels_and_text(line: str) -> tuple[list[str], str]:
    """The labels at the beginning of a line, or else at its end, and the rest.

    Example:
        >>> labels_and_text("a fine film __label__good")
        (['good'], 'a fine film')
        >>> labels_and_text("__label__good __label__long a fine __label__ film")
        (['good', 'long'], 'a fine __label__ film')
    """
    labels, rest = [], line.strip()
    begins = rest.startswith(PREFIX)
    while rest.startswith(PREFIX):
        first, _, rest = rest.partition(" ") if " " in rest else rest.partition("\t")
        if "\t" in first:
            first, _, more = first.partition("\t")
            rest = f"{more} {rest}"
        labels.append(first[len(PREFIX) :])
        rest = rest.lstrip()
    while not begins:
        before, _, last = rest.rpartition(" ")
        if not last.startswith(PREFIX):
            break
        labels.insert(0, last[len(PREFIX) :])
        rest = before.rstrip()
    return labels, rest


def looks_like_fasttext(lines: list[str]) -> bool:
    """Whether nearly all lines begin or end with a label; the lines are not empty."""
    num_labeled = sum(PREFIX in line and bool(labels_and_text(line)[0]) for line in lines)
    return bool(lines) and num_labeled > MIN_LABELED * len(lines)


def open_labeled_lines(name: str, sample: str) -> tuple[LabeledLines, list[str]]:
    """Return how fastText's lines are read, judged by the first ones, and notes; an InputError if none has a label."""
    found = [labels for line in sample.split("\n") if (labels := labels_and_text(line)[0])]
    if not found:
        raise InputError(
            f"{name}, line 1: expected lines that begin or end with {PREFIX} and the label's name, got none."
        )
    is_multilabel = any(len(labels) > 1 for labels in found)
    what = "labels, one or several a line," if is_multilabel else "label"
    return LabeledLines(is_multilabel), [f"The {what} after {PREFIX} and the text are the columns of each line."]
