"""The table of options: name, type, default, range, choices, help and readers, each written once.

The recipe, its TOML, the flags of the command line, the checks, the defaults and the sentences about options without
effect are made from it. Only the defaults of one task stand elsewhere, in that task's `spec.py`. Imports no torch.
"""

import dataclasses
from collections.abc import Iterable
from typing import Final, get_type_hints

from thalweg.training.recipe.option import Option
from thalweg.training.recipe.sections_data import DataSection, RunSection
from thalweg.training.recipe.sections_training import ModelSection, TrainingSection

SECTIONS: Final[dict[str, type]] = {
    "run": RunSection,
    "data": DataSection,
    "model": ModelSection,
    "training": TrainingSection,
}


def _entries() -> Iterable[Option]:
    for section, fields in SECTIONS.items():
        for name, hint in get_type_hints(fields, include_extras=True).items():
            (option,) = hint.__metadata__
            yield dataclasses.replace(option, name=name, kind=hint.__origin__, section=section)


OPTIONS: Final[dict[str, Option]] = {option.name: option for option in _entries()}

_COLUMNS: Final = {name for name in OPTIONS if name.endswith("_column")}
READING: Final = frozenset({*_COLUMNS, "columns", "skip_bad_rows", "kind", "header", "decimal"})
"""The options of how a file is read that a finished run takes for another file, too."""
