"""What the data asks of a model, whichever is built."""

import dataclasses
from collections.abc import Mapping
from typing import Any, final


@final
@dataclasses.dataclass(frozen=True)
class ModelShape:
    """What the data asks of a model.

    Args:
        vocabulary_size: number of token ids (for bags: of features), special ones included; of a translation, the
            source side's.
        num_columns: numeric columns at each time.
        lags: times in a window.
        target_vocabulary_size: number of token ids on the target side of a translation.
        num_outputs: scores of an example, for models that give them without a layer on top.
        max_length: longest sequence in tokens, for models with positions.
        config: of a pretrained network; None: there is none.
        pooling: from its states to one of a text: "mean", "cls" or "last".
        is_crossed: whether it reads both texts of a pair in one sequence.
    """

    vocabulary_size: int = 0
    num_columns: int = 0
    lags: int = 0
    target_vocabulary_size: int = 0
    num_outputs: int = 0
    max_length: int = 512
    config: Mapping[str, Any] | None = None
    pooling: str = "mean"
    is_crossed: bool = False
