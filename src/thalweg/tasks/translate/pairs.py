"""Pairs of texts, read in step."""

from typing import Any, final

import numpy as np

from thalweg.data.files.base import AbstractSource
from thalweg.data.text.normalize import Normalizer
from thalweg.errors import InputError
from thalweg.tasks.reading.text_column import TextColumn, check_columns


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
