"""What a task is: columns -> examples -> batches; which head, which metrics, how to answer, what to show."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, final

import numpy as np

from thalweg.data.arrays.batches import Examples, Rows
from thalweg.data.arrays.equal import View
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.errors import InputError
from thalweg.models.shape import ModelShape
from thalweg.tasks.answering import answering, typed_example
from thalweg.tasks.growing import Growth, grown
from thalweg.tasks.meter import AbstractMeter
from thalweg.tasks.questions import AbstractAnswering, Predict
from thalweg.tasks.settings import Settings
from thalweg.tasks.verdict import Seen, main_figure
from thalweg.tasks.written import NOTHING, Generated, Scoring

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thalweg.batch import Batch
    from thalweg.heads.base import AbstractHead
    from thalweg.heads.targets import Targets

BATCH_SIZE = 256  # of examples that are looked at once training is over

TableMaker = Callable[[int, int, AnyTokenizer | None], "Tensor"]
"""Size of the vocabulary, width, tokenizer -> unit vectors `[vocabulary, width]`."""


class HeadFamily(Protocol):
    """How a head with continuous outputs is made: see `thalweg.heads.presets`."""

    def __call__(self, width: int, targets: Targets, *, label_smoothing: float = 0.0) -> AbstractHead:
        """Return the head for hidden states of this width."""
        ...


@final
@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """What the recipe says about the output layer.

    Args:
        label_smoothing: in [0, 1).
        tie: share a table with the model's embedding: a softmax its matrix, trained targets their vectors.
        family: makes a head with continuous outputs; None: softmax, or whatever suits the task.
        table: makes the vectors of the words for such a head, from the task's vocabulary (its size and, where it is
            one, the tokenizer); None: random ones.
        trained: whether those vectors are learned.
        follow: fraction of the old targets that stays at each step while they follow the model's embedding, in [0, 1);
            None: they don't.
        target_width: width of the vectors.
        dispersion: penalty that keeps learned vectors apart; None for none.
        dispersion_weight: what it is multiplied with.
        counts: how often each token is a target in the training data; None: unknown (the weights will tell).
        chain: whether the tags of a sentence depend on each other (a CRF).
    """

    label_smoothing: float = 0.0
    tie: bool = False
    family: HeadFamily | None = None
    table: TableMaker | None = None
    trained: bool = False
    follow: float | None = None
    target_width: int = 128
    dispersion: nn.Module | None = None
    dispersion_weight: float = 0.0
    counts: Tensor | None = None
    chain: bool = False


@final
@dataclasses.dataclass
class Prepared:
    """Training and validation examples, and sentences about them (what was cut, counted, left out)."""

    train: Examples
    valid: Examples
    notes: list[str] = dataclasses.field(default_factory=list)
    lines: np.ndarray | None = None  # the line of the source on which each training example starts; None: it has none
    valid_lines: np.ndarray | None = None  # the same of the validation examples, where they are of the same file
    stream: Rows | None = None  # all training examples, where those in `train` are a sample of them
    sums: Mapping[str, str] = dataclasses.field(default_factory=dict)  # SHA-256 of files that were read, where known

    @property
    def num_train(self) -> int:
        """How many training examples there are, about where they are read in blocks."""
        return len(self.train) if self.stream is None else len(self.stream)

    def in_all(self, count: int) -> int:
        """Return about how many there are in all training examples of what `train` has so many of."""
        return count if self.stream is None else round(count * len(self.stream) / len(self.train))

    def with_validation(self) -> Prepared:
        """Return the same with the validation examples among the training examples as well, after the others."""
        if not len(self.valid):
            return self
        train = self.train.followed_by(self.valid)
        lines = None
        if self.lines is not None and self.valid_lines is not None:
            lines = np.concatenate([self.lines, self.valid_lines])
        return dataclasses.replace(self, train=train, lines=lines)


class AbstractTask(AbstractAnswering):
    """One kind of question put to a network.

    A task is made by `prepare` from data, or by `load` from a run's folder; after either it can build heads and
    batches, and answer. It holds vocabulary, labels, scaling: what is needed to read new input. It holds no weights.
    """

    row_is_example: ClassVar[bool] = True

    @property
    def vocabulary(self) -> AnyTokenizer | None:
        """The tokenizer whose ids are the rows of the model's embedding; None where there is none."""
        return None

    def token_counts(self, examples: Examples) -> Tensor | None:
        """Return how often each id is a target, `[vocabulary]`, in tasks that write text; None by default."""
        del examples
        return None

    @classmethod
    @abstractmethod
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple[AbstractTask, Prepared]:
        """Read the data and make the task and its examples.

        Raises:
            InputError: if the data cannot be used (one class only, a number that is not a number, unseen labels ...).
        """

    @abstractmethod
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        """Read more labeled data (for `thalweg evaluate`) with the task as it is; also return notes about it."""

    def training_examples(self, source: AbstractSource, columns: dict[str, Any]) -> Examples:
        """Read some rows to train on, one or more, with the task as it is, which they do not change."""
        return self.examples(source, columns)[0]

    def view(self, examples: Examples) -> View | None:
        """Return which examples look the same to the model, for the floors of `thalweg certify`; None: nobody knows.

        It must fit the order in which `batch` gives the targets.
        """
        del examples

    def answer_name(self, target: np.ndarray) -> str:
        """Return how one target of a batch reads: by default its numbers."""
        return ", ".join(f"{value:.4g}" for value in np.atleast_1d(target).tolist())

    def words_of(self, examples: Examples) -> tuple[Ragged, Ragged, int] | None:
        """Return features, weights and the number of features of the examples as bags of words and bigrams.

        They are for what can be said without the network, where each example has one label; None: it has not.
        """
        del examples

    def about(self) -> dict[str, str]:
        """Return what statements about the training data call them: "examples", and "features" where there are some."""
        return {"examples": "training examples"}

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Return what `load` reads, by the names of the files: `tokenizer.json`, `labels.json` and the like."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, settings: Settings) -> AbstractTask:
        """Make the task again from the files of a run's folder.

        Raises:
            InputError: if a file is missing or damaged; it is named.
        """

    @abstractmethod
    def shape(self) -> ModelShape:
        """Return the sizes that a model for this task needs."""

    def growth(self, old: AbstractTask) -> list[Growth]:
        """Return where the entries of the task that this one was begun from (`Settings.start`) are among its own.

        By default words and labels that are new come after the old ones.
        """
        before, after = old.shape(), self.shape()
        words = grown("word", before.vocabulary_size, after.vocabulary_size)
        return [words, grown("label", before.num_outputs, after.num_outputs)]

    @abstractmethod
    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a new output layer for a model with hidden states of width `model.width`."""

    @abstractmethod
    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        """Collate the examples with these indices."""

    def training_batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        """Collate examples to train on, with the weights they have in the training loss; by default as `batch`."""
        return self.batch(examples, indices)

    @property
    def drawn_batch(self) -> Callable[[Examples, np.ndarray, np.ndarray, int], Batch] | None:
        """What collates examples that differ in each step (see `thalweg.training.steps.feed`); None: they don't."""
        return None

    @final
    def predictions(self, model: nn.Module, head: AbstractHead, examples: Examples) -> tuple[Tensor, Tensor]:
        """Return what the head says about all examples, and their targets, both on the CPU.

        For tasks with one prediction an example (so that batches can be joined).
        """
        import torch

        found: list[tuple[Tensor, Tensor]] = []
        with answering(model, head) as parameter:
            for start in range(0, len(examples), BATCH_SIZE):
                indices = np.arange(start, min(start + BATCH_SIZE, len(examples)))
                batch = self.batch(examples, indices).to(parameter.device, parameter.dtype)
                found.append((head(model(**batch.inputs)).cpu(), batch.targets.cpu()))
        predictions, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
        return predictions, targets

    @abstractmethod
    def meter(self) -> AbstractMeter:
        """Return an empty meter for one pass over validation data."""

    def tune(self, model: nn.Module, head: AbstractHead, examples: Examples) -> bool:
        """Choose what is chosen after training, on validation examples; return whether model or head changed.

        By default there is nothing to choose.
        """
        del model, head, examples
        return False

    @property
    def is_tuned(self) -> bool:
        """Whether validation examples choose how predictions become answers."""
        return False

    def settle(self, model: nn.Module, head: AbstractHead, prepared: Prepared) -> tuple[list[str], dict[str, bytes]]:
        """Choose on validation examples, after training, how predictions become answers.

        Returns what a user should know about the answers, and those of the `files` that the choice changed; by default
        there is nothing to choose or to say.
        """
        del model, head, prepared
        return [], {}

    def example(self, valid: Examples) -> str:
        """Return a short input like those of these examples, as somebody could type it; "" where there is none.

        By default it is the beginning of one of the texts that are kept beside the examples.
        """
        return "" if self.reads_pairs else typed_example(valid.raw or ())

    def with_threshold(self, probability: float) -> AbstractTask:
        """Return the task with another probability from which an answer is given.

        Raises:
            InputError: for a probability outside (0, 1), and for a task without labels of whole texts.
        """
        raise InputError(f"--threshold ({probability:g}) is for labels of whole texts; task '{self.name}' has none.")

    @property
    @abstractmethod
    def selects_by(self) -> tuple[str, str]:
        """The validation quantity that picks the best checkpoint and its better end: ("accuracy", "higher")."""

    @property
    @abstractmethod
    def explanations(self) -> dict[str, tuple[str, str]]:
        """For each metric: its better end ("higher" or "lower"), and one sentence that says what it means."""

    def decided(self) -> dict[str, Any]:
        """Return options that the data decided where the user did not, such as the penalty; none by default."""
        return {}

    def compared(self, metrics: Mapping[str, float]) -> str:
        """Return what metrics say beside the simplest answers there are, in a sentence; nothing by default."""
        del metrics
        return ""

    def with_scoring(self, scoring: Scoring) -> AbstractTask:
        """Return the task with another way to write and measure texts in an evaluation.

        Raises:
            InputError: for what it cannot do; by default, for anything.
        """
        for name in scoring.given:
            what = "one long text" if name == "stride" else "translations"
            raise InputError(f"--{name.replace('_', '-')} is for {what}; an evaluation of task '{self.name}' has none.")
        return self

    @property
    def num_judged(self) -> int:
        """How many texts an evaluation during training writes, where a metric of them picks the weights; 0: none."""
        return 0

    def generated_metrics(
        self, model: nn.Module, head: AbstractHead, examples: Examples, limit: int, *, quick: bool = False
    ) -> Generated:
        """Return metrics that need generated text (BLEU), over at most `limit` examples; none by default.

        `quick` asks for those that are measured during training.
        """
        del model, head, examples, limit, quick
        return NOTHING

    def verdict(self, metrics: Mapping[str, float], seen: Seen) -> str:
        """Return the result in half a sentence: the main figure with its interval, and what it is to be beaten by.

        By default the figure that picks the weights. The metrics have the loss among them.
        """
        return main_figure(metrics, self.selects_by[0], seen, "examples")

    def predictor(self, weights: Mapping[str, np.ndarray]) -> Predict | None:
        """Return what answers like `predict` from saved weights, without PyTorch; None where it needs that."""
        del weights

    def scorer(self) -> AbstractAnswering:
        """Return what measures given texts in place of writing some: how probable each is, and each of its tokens.

        Raises:
            InputError: for a task that does not write text.
        """
        raise InputError(f"--score measures texts by a model that writes them; task '{self.name}' has none.")

    @abstractmethod
    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return the report's sections that help most for this task (plain data)."""

    @abstractmethod
    def describe(self, prepared: Prepared) -> str:
        """Return half a sentence: "5,423 texts with 15 labels"."""
