"""A run: a folder that a person can read, and what can be asked of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import numpy as np

from thalweg import names
from thalweg.data.containers.places import checksums_of, short_name
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.report.cells import block, table
from thalweg.tasks.base import AbstractTask
from thalweg.tasks.questions import AbstractAnswering, Predict, Question
from thalweg.tasks.reading.text_reader import BAGS
from thalweg.training.folder.answers import (
    answer_options,
    answers_to,
    batches,
    refuse,
    require_finite,
    require_read,
    to_answer,
)
from thalweg.training.folder.columns import FOR_FILES, check_reading, find_columns
from thalweg.training.folder.opening import has_series, settings_of, skipped_rows, with_numbers
from thalweg.training.integrity.checkpoint_names import is_online, run_with
from thalweg.training.integrity.contents import read_weights
from thalweg.training.integrity.run_files import HELD_OUT, RECIPE, WEIGHTS, AbstractFolder
from thalweg.training.recipe.recipe import named_source
from thalweg.training.recipe.rules import read_own_recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thalweg.heads.base import AbstractHead
    from thalweg.training.steps.evaluate import Evaluation

T = TypeVar("T")
_TRIES: Final = 5  # to read files that another process is changing

_loading = [threading.RLock()]  # of networks, by one thread at a time


def _new_lock() -> None:
    _loading[0] = threading.RLock()  # the thread that held it is not in the forked process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


@final
class Run(AbstractFolder):
    """A finished or unfinished run in its folder.

    The recipe is read at once; task, weights and everything else when they are first needed. It may be used from
    several threads, and in forked processes. Pickled or copied, it is its folder, which must be there when the copy
    answers, with what was changed in memory: words that were added, and other weights.

    Args:
        folder: the run's folder, such as `runs/docstrings`.

    Raises:
        InputError: if there is no such folder, or it holds no recipe.
    """

    def __init__(self, folder: str | Path) -> None:
        self._set_folder(Path(folder))
        if not self.folder.is_dir():
            raise InputError(f"There is no run folder {self.folder}; expected one that `thalweg train` made.")
        if not (self.folder / RECIPE).is_file():
            if is_online(self.folder):  # a stream's model is nothing but its checkpoints
                raise InputError(
                    f"{self.folder} has learned from a stream: use thalweg predict (the score it "
                    "printed is on rows it had not seen); to evaluate files, train a run (without --online)."
                )
            whole = run_with(self.folder)
            raise InputError(
                f"{self.folder} is not a run folder: it has no {RECIPE}; give "
                f"{'a folder that `thalweg train` made' if whole is None else f'that of the run, {whole}'}."
            )
        self._opened = self.basis
        self.recipe = read_own_recipe(self.ledger, RECIPE)
        self._begin({}, {})

    def _begin(self, words: dict[str, Any], changed: dict[str, Tensor]) -> None:
        self.objects: dict[str, AbstractSource] = {}  # the data that training was given in Python, by name
        self._words, self._changed = words, changed  # what is put over the folder's task and weights
        self._parts: tuple[AbstractTask, nn.Module, AbstractHead] | None = None
        self._measured: tuple[nn.Module, AbstractHead] | None = None
        self._data = None
        self._task: AbstractTask | None = None  # without its networks
        self._versions: list[int] = []  # of the weights as they were loaded

    def __getstate__(self) -> dict[str, Any]:
        changed = self._changed
        if self._parts is not None and self._versions != _versions(*self._parts[1:]):
            from thalweg.training.folder import build

            weights = build.get_weights(*self._parts[1:])
            changed = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        state = {"folder": self.folder.absolute(), "recipe": self.recipe, "opened": self._opened}
        return state | {"words": self._words, "changed": changed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Nothing is read yet: an error here would end a worker of a process pool without a word.
        self._set_folder(state["folder"])
        self.recipe, self._opened = state["recipe"], state["opened"]
        self._begin(state["words"], state["changed"])

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what was trained, how it ended, and its figures; no network is loaded."""
        try:
            result, recipe = self.result, self.recipe
        except InputError as error:
            return block(repr(self), [], [error])
        facts = [("task", recipe.run.task), ("model", recipe.model.model), ("optimizer", recipe.training.optimizer)]
        facts += [(name, result[name]) for name in ("steps", "seconds") if name in result]
        figures = [("validation loss", result["loss"])] if "loss" in result else []
        figures += [(name.replace("_", " "), value) for name, value in self.metrics.items()]
        said = [self.status.value, *filter(None, [result.get("verdict")])]
        return block(str(self.folder), [table((), facts), table((), figures[:12])], said)

    @property
    def task(self) -> AbstractTask:
        """The task, which reads new input as the training data were read."""
        return self._load()[0] if self._task is None or self._parts is not None else self._task

    @property
    def model(self) -> nn.Module:
        """The network with the weights that were kept, in evaluation mode."""
        return self._load()[1]

    @property
    def head(self) -> AbstractHead:
        """The output layer with the weights that were kept."""
        return self._load()[2]

    @property
    def is_refitted(self) -> bool:
        """Whether the weights were trained on the validation examples, too, after these had measured others."""
        return HELD_OUT in self.ledger

    @property
    def measured(self) -> tuple[nn.Module, AbstractHead]:
        """Network and output layer that the validation figures are of, which have not been trained on these examples.

        They are the run's own, except where it `is_refitted`.
        """
        if self._measured is None:
            task, model, head = self._load()
            self._measured = self._networks(task, HELD_OUT) if self.is_refitted else (model, head)
        return self._measured

    def predict(self, inputs: Any, *, errors: str = "raise", **options: Any) -> list[dict[str, Any]]:
        """Answer new inputs, or the rows of a file.

        Args:
            inputs: a list of texts; for pairs tuples of two texts; for tags texts or lists of words; for a forecast
                lists of numbers. Or the name of a file, or data with columns in memory (see `train`).
            errors: what to do about an input that cannot be answered: "raise" an InputError that says where it is, or
                "null" to have an answer in its place whose values are None and whose "error" is the reason.
            **options: those that say how a file is read (`text_column`, `other_column`, `columns`, `time_column`,
                `id_column`, `kind`, `header`, `decimal`); those of `thalweg.tasks.AnswerOptions` (`top`, `length`,
                `temperature`, `beam`, `seed` ...), where the task reads them; and `threshold`, the probability
                from which a label is given, in place of the run's; or `score=True`, which measures given texts, or
                pairs of a text and its translation, in place of writing some.

        Returns:
            One dictionary an input, in order; its keys depend on the task.

        Raises:
            InputError: if an input has the wrong form, or a file cannot be read.
        """
        if errors not in ("raise", "null"):
            raise InputError(f'predict(errors=...) must be "raise" or "null"; got {errors!r}.')
        own, model, head = self._load()
        threshold, score = options.pop("threshold", None), options.pop("score", False)
        require_read(own.name, [*(() if threshold is None else ("threshold",)), *(("score",) if score else ())])
        task = _answerer(own, threshold, score=score)
        named = {name: options.pop(name) for name in FOR_FILES if name in options}
        asked = answer_options(task.name, options, score=score)
        source = to_answer(inputs, vars(self.recipe.data), named)
        if isinstance(source, list):
            if errors == "raise":
                return require_finite(task.predict(model, head, source, asked))
            return answers_to(task, (model, head), list(map(Question, source)), asked)
        answers: list[dict[str, Any]] = []
        for batch in batches(self.questions(source, named, options.get("length"), task)[0]):
            answers += answers_to(task, (model, head), batch, asked, first=len(answers))
            if errors == "raise":
                refuse(source.name, batch, answers[-len(batch) :])
        return answers

    def questions(
        self,
        source: AbstractSource,
        named: Mapping[str, Any],
        length: int | None = None,
        answerer: AbstractAnswering | None = None,
    ) -> tuple[Iterator[Question], tuple[str, ...]]:
        """Return the questions that the rows of a file are, one for each, and notes about its columns.

        Args:
            source: the file, opened with `skip_bad_rows`.
            named: its columns, where they are called otherwise than in training: `text_column`, `other_column`,
                `columns` (see `thalweg.training.folder.columns`).
            length: how long answers are asked for; None: as usual.
            answerer: what is asked; None: the task.
        """
        task = answerer or self.task
        found = find_columns(task.name, self.data["columns"], source, named, task.inputs or ("text",))
        numbers = with_numbers(source, task.name, found.columns)
        questions = task.questions_of(numbers, found.columns, length, plain=found.plain)
        if not has_series(task.name):
            return questions, found.notes
        asked = list(questions)  # series, whose rows are read together
        told = dict.fromkeys(note for question in asked for note in question.notes)
        return iter(asked), (*found.notes, *told, *skipped_rows(numbers))

    def evaluate(
        self,
        data: Any,
        *,
        skip_bad_rows: bool = False,
        threshold: float | None = None,
        beam: int | None = None,
        length_penalty: float | None = None,
        bleu_tokenizer: str | None = None,
        references: Sequence[str | Path] = (),
        stride: int | None = None,
        report: str | Path | None = None,
        **named: Any,
    ) -> Evaluation:
        """Measure loss and metrics, with their intervals, on a file (or data in memory, see `train`) with its columns.

        Args:
            data: the file, several as a list (two of texts line by line), or the data.
            skip_bad_rows: leave out rows with values that the task cannot use, and any number of unreadable ones.
            threshold: the probability from which a label is given, in place of the run's own.
            beam: of translations, 4 unless given (as in `predict`).
            length_penalty: of translations, 1.0 unless given.
            bleu_tokenizer: of BLEU, that of the training unless given (see `thalweg.names.BLEU_TOKENIZERS`).
            references: files with further references of translations: a line for each row of the data.
            stride: tokens between the sliding windows in which a language model reads, as in training unless given.
            report: the HTML file that a page about these data is written to.
            **named: options that say how the file is read (`text_column`, `label_column`, `other_column`, `columns`,
                `time_column`, `id_column`, `kind`, `header`, `decimal`).

        Raises:
            InputError: if a file cannot be read, lacks a column, or holds labels that training has not seen.
        """
        from thalweg.report.page import write_report
        from thalweg.training.folder.evaluating import evaluate_rows, open_for, report_on, scoring_of
        from thalweg.training.steps.device import choose_device, choose_precision

        check_reading("evaluate", named)
        task, model, head = self._load()
        task = task if threshold is None else task.with_threshold(threshold)
        task = task.with_scoring(scoring_of(beam, length_penalty, bleu_tokenizer, references, stride))
        _, autocast = choose_precision(self.recipe.run.precision, choose_device("cpu"))
        own = vars(self.recipe.data)
        data = named_source(data, task.name) or data
        source, columns = open_for(task, self.data["columns"], data, named, own, skip_bad_rows=skip_bad_rows)
        found, examples = evaluate_rows(task, (model, head), source, columns, skipped_rows, autocast=autocast)
        if report is not None:
            name = f"{self.folder.name} on {short_name(source.name)}"
            write_report(report, report_on(name, task, (model, head), examples, found, self.recipe.run.seed))
        return found

    def has_learned_from(self, path: str | Path) -> bool:
        """Return whether a file is, byte for byte, one that the weights were trained on or chosen by.

        Of an archive, a folder or several files it is whether any of the files that are read is.
        """
        return not set(checksums_of(str(path)).values()).isdisjoint(self.data["files"].values())

    def add_words(self, words: dict[str, Any]) -> list[int]:
        """Give a run of language or translate, with continuous outputs and words as tokens, new words to write.

        They are in this object, not in the folder.

        Args:
            words: each with its vector, as wide as the run's targets (see `thalweg.tasks.writing.grow.add_words`).

        Returns:
            Their ids.

        Raises:
            InputError: if the run cannot take new words, or a word or vector is none.
        """
        from thalweg.tasks.writing.grow import add_words, vectors_of

        task: Any = self._load()[0]
        is_folders = self._versions == _versions(self.model, self.head)
        try:
            ids = add_words(task, self.model, self.head, list(words), vectors_of(words))
        except ValueError as error:
            raise InputError(f"These words cannot be added: {error}") from None
        self._words = {**self._words, **dict(zip(words, vectors_of(words).tolist(), strict=True))}
        self._versions = _versions(self.model, self.head) if is_folders else []
        return ids

    def _load(self) -> tuple[AbstractTask, nn.Module, AbstractHead]:
        from thalweg.training.steps.device import one_thread_after_fork

        one_thread_after_fork()
        if self._parts is None:
            with _loading[0]:
                if self._parts is None:  # no other thread has done it meanwhile
                    self._parts = self._loaded()
        return self._parts

    def _loaded(self) -> tuple[AbstractTask, nn.Module, AbstractHead]:
        from thalweg.tasks.writing.grow import add_words, vectors_of
        from thalweg.training.folder import build

        task, (model, head) = self._at_one_moment(lambda task: self._networks(task, WEIGHTS))
        if self._words:
            add_words(task, model, head, list(self._words), vectors_of(self._words))
        self._versions = _versions(model, head)
        if self._changed:
            build.put_weights(model, head, self._changed, f"what was sent with {self!r}")
        return task, model, head

    def _at_one_moment(self, load: Callable[[Any], T]) -> tuple[Any, T]:
        """Return the task, and what is loaded for it, as both were at one moment, whatever another process does."""
        for _ in range(_TRIES):
            before = self.basis
            if before.get(RECIPE) != self._opened.get(RECIPE):
                raise InputError(f"{self.folder} has another recipe by now than when it was opened; open it again.")
            ledger, self._data = self.ledger, None
            self.verify(weights=False)  # which are compared when they are read
            if not ledger.is_complete:
                self._complete()
            self.require_weights()
            settings = settings_of(self.recipe, self.data["columns"])
            task = names.task_class(self.recipe.run.task).load(self.folder, settings)
            loaded = load(task)
            if self.basis == before:
                return task, loaded
        raise InputError(f"{self.folder} is being changed by another process all the time; repeat the command.")

    def answering(self, threshold: float | None = None, *, score: bool = False) -> tuple[AbstractAnswering, Predict]:
        """Return what is asked, the task, and what answers with the weights that were kept.

        Before anything else has loaded the networks, a linear model of bags of words answers without PyTorch, whose
        import takes longer than all of the rest; its numbers are then the same but for rounding.

        Args:
            threshold: see `predict`.
            score: whether given texts are measured.
        """
        if self._parts is None and not self._words and not self._changed and self._reads_bags:
            own, weights = self._at_one_moment(lambda _: self._weights_as_arrays())
            task = own if threshold is None else own.with_threshold(threshold)
            predict = None if score else task.predictor(weights)
            if predict is not None:
                self._task = own
                return task, predict
        own, model, head = self._load()
        asked = _answerer(own, threshold, score=score)
        return asked, partial(asked.predict, model, head)

    @property
    def _reads_bags(self) -> bool:
        model = self.recipe.model
        return names.model_spec(self.recipe.run.task, model.model, freeze=model.freeze).layout in BAGS

    def _weights_as_arrays(self) -> dict[str, np.ndarray]:
        """Return the weights in the type that the networks have; none where numpy can't read them."""
        kind = "float64" if self.recipe.run.precision == "float64" else "float32"
        return read_weights(self.ledger.path(WEIGHTS), kind)

    def _networks(self, task: AbstractTask, name: str) -> tuple[nn.Module, AbstractHead]:
        """Return model and head with the weights of a file."""
        from thalweg.training.folder import build, tensor_files

        weights = tensor_files.load_tensors(self.ledger.path(name))
        counts = build.counts_behind(weights)
        model, head = build.build_networks(self.recipe, task, fresh=False, counts=counts, weights=weights)
        build.put_weights(model, head, weights, self.folder / name)
        model.eval()
        head.eval()
        return model, head


def _answerer(task: AbstractTask, threshold: float | None, *, score: bool) -> AbstractAnswering:
    """Return what answers: the task, with another threshold, or what measures given texts by it."""
    if score:
        return task.scorer()
    return task if threshold is None else task.with_threshold(threshold)


def _versions(*networks: nn.Module) -> list[int]:
    """Return how often each weight was written in place, as far as PyTorch counts it."""
    return [parameter._version for network in networks for parameter in network.parameters()]


def load(folder: str | Path) -> Run:
    """Open the run in a folder.

    Example:
        >>> load("runs/no-such-run")
        Traceback (most recent call last):
            ...
        thalweg.errors.InputError: There is no run folder runs/no-such-run; expected one that `thalweg train` made.
    """
    return Run(folder)
