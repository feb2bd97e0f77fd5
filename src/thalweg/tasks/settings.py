"""What a recipe says about reading data, as plain values for a task."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, final

from thalweg.data.arrays.ragged import IN_MEMORY, Spill
from thalweg.data.text.normalize import Normalizer

_Task = TypeVar("_Task")


@final
@dataclasses.dataclass(frozen=True)
class Settings:
    """What the data part of a recipe says, as plain values (see `thalweg.training.recipe.sections_data.DataSection`).

    Args:
        columns: role -> column name, as chosen (such as `{"text": "review", "label": "stars"}`). A forecast has a list
            under "series". Several labels in one field have "separator", and any number of labels "multilabel": True.
        valid_share: fraction held out for validation when there is no validation file.
        normalize: steps of text normalization.
        tokenizer: kind of tokenizer.
        vocabulary_size: maximum vocabulary size.
        bigrams: maximum number of bigrams among the features of the layouts "bag" and "joint".
        max_length: longest sequence in tokens.
        carry, stride: see the options of these names.
        lags: past values that a forecast sees; 0: the task chooses.
        scaling: scaling of numeric columns.
        gaps, day_first: see the options of these names; None: the column decides what 01/02/2024 means.
        layout: how the model reads its input: "bag", "joint" (a pair of texts is one bag), "padded", "window",
            "causal", "translate", "differences", "features" (of each word), "subwords" (of a pretrained model) or
            "encoded" (what a frozen one says of a text, as a bag of features).
        class_weights: what labels of whole texts count in the training loss: "none" or "balanced".
        threshold: probability from which a label is given, as text; "auto": validation data choose it; "": as usual.
        spill: where arrays of ids go that are too large for memory.
        start: the task of the run that training starts from: its entries come first, and its scaling is kept; None: all
            is learned from the data.
        pretrained: name of the pretrained model that reads the texts (`hf:PATH`); "": none.
        pooling: from its states to one of a text; "auto": as it was made with.
        pairs: how it reads pairs of texts: "cross" (in one sequence), "bi" (each by itself), or "auto".
        device: where a frozen one computes.
        word_vectors: file of word vectors whose mean is read beside bags of words; "": none.
        normalize_vectors: how they are normalized.
        bleu_tokenizer: of BLEU (see `thalweg.tasks.translate.scores.score`).
        select: the metric of written texts that picks the best weights; "": none.
        long: what becomes of training pairs that are longer than `max_length`: "drop" or "cut".
        max_ratio: how many times as many tokens one side of a training pair may have as the other; 0: any number.
        bpe_dropout: probability with which "bpe" leaves a merge out in training batches.
        vocabulary: file of a vocabulary that was given (see `thalweg.data.text.subwords.vocabularies`); "": none.
        vocabularies: whether source and target have one vocabulary, "joint", or each its own, "separate".
        min_frequency: times that a pair of subwords must meet to be joined; 0: as often as the task says.
        tell: takes sentences about how far the reading is, where it takes long.
    """

    columns: dict[str, Any]
    valid_share: float
    normalize: tuple[str, ...]
    tokenizer: str
    vocabulary_size: int
    bigrams: int
    max_length: int
    lags: int
    scaling: str
    layout: str
    carry: int = 0
    min_frequency: int = 0
    stride: int = 0
    class_weights: str = "none"
    threshold: str = ""
    gaps: str = "auto"
    day_first: bool | None = None
    spill: Spill = IN_MEMORY
    start: Any = None
    pretrained: str = ""
    pooling: str = "auto"
    pairs: str = "auto"
    device: str = "cpu"
    word_vectors: str = ""
    normalize_vectors: str = "length"
    bleu_tokenizer: str = "13a"
    select: str = ""
    long: str = "drop"
    max_ratio: float = 0.0
    bpe_dropout: float = 0.0
    vocabulary: str = ""
    vocabularies: str = "joint"
    tell: Callable[[str], None] | None = None

    def normalizer(self) -> Normalizer:
        """Return the steps of text normalization."""
        return Normalizer(self.normalize)

    def started_as(self, kind: type[_Task]) -> _Task | None:
        """Return the task that training starts from, which is of this kind; None where there is none."""
        assert self.start is None or isinstance(self.start, kind)
        return self.start
