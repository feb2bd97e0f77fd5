"""Texts that a task writes in an evaluation: how they are written and measured, and what is found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from thalweg.certificates.new_texts.resampling import Samples


@final
@dataclass(frozen=True)
class Scoring:
    """How texts are written and measured; what is not said is as in `thalweg predict`, and as in training.

    Args:
        beam: see `thalweg.tasks.questions.AnswerOptions`.
        length_penalty: see the same.
        bleu_tokenizer: of BLEU, one of `thalweg.names.BLEU_TOKENIZERS`; None: that of the training.
        stride: tokens between the sliding windows of a language model; None: as in training.
        references: further references by the names of their files, each with a text for each row of the file.
    """

    beam: int | None = None
    length_penalty: float | None = None
    bleu_tokenizer: str | None = None
    stride: int | None = None
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def given(self) -> list[str]:
        """The names of what is said."""
        return [name for name, value in vars(self).items() if value is not None and value != {}]


@final
@dataclass(frozen=True, eq=False)
class Generated:
    """Metrics of texts that were written for them.

    Args:
        metrics: by name.
        samples: what was kept of each text, for intervals; None: nothing was.
        num_examples: how many texts were written.
        signatures: how metrics were computed, in the words of the package that did, by name.
        notes: sentences about how the texts were written and measured.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    samples: Samples | None = None
    num_examples: int = 0
    signatures: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


NOTHING: Final = Generated()
AS_PREDICTED: Final = Scoring()
