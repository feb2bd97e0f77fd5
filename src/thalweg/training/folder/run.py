"""A run: a folder that a person can read, and what can be asked of it."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

from torch import Tensor, nn

from thalweg import names
from thalweg.data.containers.places import checksums_of, short_name
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.report.page import write_report
from thalweg.status import Status
from thalweg.storage.files import Sum
from thalweg.storage.ledger import Ledger
from thalweg.storage.lock import HeldError
from thalweg.tasks.base import AbstractTask
from thalweg.tasks.questions import Question
from thalweg.tasks.writing.grow import add_words, vectors_of
from thalweg.training.folder import build, checkpoint, tensor_files
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
from thalweg.training.folder.evaluating import evaluate_rows, open_for, report_on
from thalweg.training.folder.opening import has_series, skipped_rows, with_numbers
from thalweg.training.integrity.claim import Claim
from thalweg.training.integrity.contents import read_data, read_metrics
from thalweg.training.integrity.history import damage, damaged_line, finite, read_history
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.recipe.rules import read_own_recipe
from thalweg.training.steps.device import choose_device, choose_precision, one_thread_after_fork
from thalweg.training.steps.evaluate import Evaluation

RECIPE, HISTORY, METRICS, DATA = "recipe.toml", "history.jsonl", "metrics.json", "data.json"
CERTIFICATE, CERTIFICATE_ARRAYS = "certificate.json", "certificate.npz"
BEFORE_POLISH = "model.before-polish.safetensors"
WEIGHTS, REPORT = "model.safetensors", "report.html"
SELECTION, HELD_OUT, START = "selection.json", "held-out.safetensors", "start.safetensors"
DIAGNOSIS, DIAGNOSIS_PAGE = "diagnosis.json", "diagnosis.html"
# What answering does not read: each of these is compared with its checksum by what reads it.
_BESIDE: Final = {HISTORY, REPORT, METRICS, CERTIFICATE, CERTIFICATE_ARRAYS, BEFORE_POLISH, DIAGNOSIS, DIAGNOSIS_PAGE}

_TRIES: Final = 5  # to read files that another process is changing

_loading = [threading.RLock()]  # of networks, by one thread at a time


def _new_lock() -> None:
    _loading[0] = threading.RLock()  # the thread that held it is not in the forked process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


@final
class Run:
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
            if checkpoint.latest(self.folder) is not None:  # a stream's model is nothing but its checkpoints
                raise InputError(
                    f"{self.folder} has learned from a stream: use thalweg predict (the score it "
                    "printed is on rows it had not seen); to evaluate files, train a run (without --online)."
                )
            raise InputError(
                f"{self.folder} is not a run folder: it has no {RECIPE}; give a folder that `thalweg train` made."
            )
        self._opened = self.basis
        self.recipe: Recipe = read_own_recipe(self.ledger, RECIPE)
        self._begin({}, {})

    def _begin(self, words: dict[str, Any], changed: dict[str, Tensor]) -> None:
        self.objects: dict[str, AbstractSource] = {}  # the data that training was given in Python, by name
        self._words, self._changed = words, changed  # what is put over the folder's task and weights
        self._parts: tuple[AbstractTask, nn.Module, AbstractHead] | None = None
        self._measured: tuple[nn.Module, AbstractHead] | None = None
        self._data: dict[str, Any] | None = None
        self._versions: list[int] = []  # of the weights as they were loaded

    def __getstate__(self) -> dict[str, Any]:
        changed = self._changed
        if self._parts is not None and self._versions != _versions(*self._parts[1:]):
            weights = build.get_weights(*self._parts[1:])
            changed = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        state = {"folder": self.folder.absolute(), "recipe": self.recipe, "opened": self._opened}
        return state | {"words": self._words, "changed": changed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Nothing is read yet: an error here would end a worker of a process pool without a word.
        self._set_folder(state["folder"])
        self.recipe, self._opened = state["recipe"], state["opened"]
        self._begin(state["words"], state["changed"])

    def _set_folder(self, folder: Path) -> None:
        self._folder, self._opened_in = folder, "" if folder.is_absolute() else os.getcwd()

    @property
    def folder(self) -> Path:
        """The run's folder as it was given; with its whole path where the working directory is another one now."""
        is_elsewhere = self._opened_in and self._opened_in != os.getcwd()
        return Path(self._opened_in, self._folder) if is_elsewhere else self._folder

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def ledger(self) -> Ledger:
        """What belongs to the folder, with the checksums of what was written, as it is on the disk."""
        return Ledger(self.folder)

    @property
    def basis(self) -> dict[str, Sum]:
        """The checksums of what its answers and figures come from, as the ledger has them now."""
        return {name: found for name, found in self.ledger.sums.items() if name not in _BESIDE}

    @contextlib.contextmanager
    def changing(self, work: str) -> Iterator[Ledger]:
        """The right to write what was found out about the run, and its ledger; `work` is what another process is told.

        An InputError says that another process has the right, or that the run is no longer what it was when it was
        opened.
        """
        with Claim(self.folder, work):
            if self.basis != self._opened:
                raise InputError(f"{self.folder} has been changed by another process meanwhile; repeat the command.")
            yield self.ledger
            self._opened = self.basis

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics on the validation data, of the weights that were kept; empty before the end."""
        return self.result.get("metrics", {})

    @property
    def result(self) -> dict[str, Any]:
        """What `metrics.json` says: status, metrics, best step, seconds ...; empty before the end."""
        ledger = self.ledger
        return read_metrics(ledger, METRICS) if METRICS in ledger else {}

    @property
    def status(self) -> Status:
        """How the run ended, or that it has not."""
        return Status[self.result.get("status", "RUNNING")]

    @property
    def finished(self) -> bool:
        """Whether the run ended by itself, so that there is nothing to resume."""
        return self.status not in {Status.RUNNING, Status.INTERRUPTED}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The entries of `history.jsonl`, in order; an InputError says that a finished run's is damaged, and where."""
        if how := self.history_damage():
            raise InputError(f"{self.folder / HISTORY} {how}; restore it or train the run again.")
        return read_history(self.folder / HISTORY)

    def history_damage(self) -> str:
        """Return how the history of a finished run differs from what was written, or is damaged; "" where neither."""
        path, expected = self.folder / HISTORY, self.ledger.sums.get(HISTORY)
        if expected is None:
            return ""
        is_longer = path.is_file() and path.stat().st_size > expected.num_bytes
        if how := damage(path, expected) or (
            "has changed (there are more lines than were written)" if is_longer else ""
        ):
            return how
        line = damaged_line(path)  # with a checksum that fits it
        return "" if line is None else f"is damaged in line {line:,}"

    @property
    def data(self) -> dict[str, Any]:
        """What was read: source, checksum, columns, counts, notes."""
        if self._data is None:
            self._data = read_data(self.ledger, DATA, self.recipe.run.task)
        return self._data

    @property
    def task(self) -> AbstractTask:
        """The task, which reads new input as the training data were read."""
        return self._load()[0]

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
                `id_column`, `kind`, `header`, `decimal`); those of `thalweg.tasks.base.AnswerOptions` (`top`, `length`,
                `temperature`, `top_p`, `beam`, `seed`), where the task reads them; and `threshold`, the probability
                from which a label is given, in place of the run's.

        Returns:
            One dictionary an input, in order; its keys depend on the task.

        Raises:
            InputError: if an input has the wrong form, or a file cannot be read.
        """
        if errors not in ("raise", "null"):
            raise InputError(f'predict(errors=...) must be "raise" or "null"; got {errors!r}.')
        task, model, head = self._load()
        threshold = options.pop("threshold", None)
        require_read(task.name, () if threshold is None else ("threshold",))
        task = task if threshold is None else task.with_threshold(threshold)
        named = {name: options.pop(name) for name in FOR_FILES if name in options}
        asked = answer_options(task.name, options)
        source = to_answer(inputs, vars(self.recipe.data), named)
        if isinstance(source, list):
            if errors == "raise":
                return require_finite(task.predict(model, head, source, asked))
            return answers_to(task, (model, head), list(map(Question, source)), asked)
        answers: list[dict[str, Any]] = []
        for batch in batches(self.questions(source, named, options.get("length"))[0]):
            answers += answers_to(task, (model, head), batch, asked)
            if errors == "raise":
                refuse(source.name, batch, answers[-len(batch) :])
        return answers

    def questions(
        self, source: AbstractSource, named: Mapping[str, Any], length: int | None = None
    ) -> tuple[Iterator[Question], tuple[str, ...]]:
        """Return the questions that the rows of a file are, one for each, and notes about its columns.

        Args:
            source: the file, opened with `skip_bad_rows`.
            named: its columns, where they are called otherwise than in training: `text_column`, `other_column`,
                `columns` (see `thalweg.training.folder.columns`).
            length: how long answers are asked for; None: as usual.
        """
        task = self.task
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
        report: str | Path | None = None,
        **named: Any,
    ) -> Evaluation:
        """Measure loss and metrics, with their intervals, on a file (or data in memory, see `train`) with its columns.

        `threshold` is the probability from which a label is given, in place of the run's own; `report` the HTML file
        that a page about these data is written to; `named` are options that say how the file is read (`text_column`,
        `label_column`, `other_column`, `columns`, `time_column`, `id_column`, `kind`, `header`, `decimal`).

        Raises:
            InputError: if the file cannot be read, lacks a column, or holds labels that training has not seen.
        """
        check_reading("evaluate", named)
        task, model, head = self._load()
        task = task if threshold is None else task.with_threshold(threshold)
        _, autocast = choose_precision(self.recipe.run.precision, choose_device("cpu"))
        own = vars(self.recipe.data)
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
        task: Any = self.task
        is_folders = self._versions == _versions(self.model, self.head)
        try:
            ids = add_words(task, self.model, self.head, list(words), vectors_of(words))
        except ValueError as error:
            raise InputError(f"These words cannot be added: {error}") from None
        self._words = {**self._words, **dict(zip(words, vectors_of(words).tolist(), strict=True))}
        self._versions = _versions(self.model, self.head) if is_folders else []
        return ids

    def _load(self) -> tuple[AbstractTask, nn.Module, AbstractHead]:
        one_thread_after_fork()
        if self._parts is None:
            with _loading[0]:
                if self._parts is None:  # no other thread has done it meanwhile
                    self._parts = self._loaded()
        return self._parts

    def _loaded(self) -> tuple[AbstractTask, nn.Module, AbstractHead]:
        """Return everything as it was at one moment, whatever another process does meanwhile."""
        for _ in range(_TRIES):
            before = self.basis
            if before.get(RECIPE) != self._opened.get(RECIPE):
                raise InputError(f"{self.folder} has another recipe by now than when it was opened; open it again.")
            parts = self._loaded_once()
            if self.basis == before:
                return parts
        raise InputError(f"{self.folder} is being changed by another process all the time; repeat the command.")

    def _loaded_once(self) -> tuple[AbstractTask, nn.Module, AbstractHead]:
        ledger, self._data = self.ledger, None
        self.verify(weights=False)  # which are compared when they are read
        if not ledger.is_complete:
            self._complete()
        self.require_weights()
        settings = build.settings_of(self.recipe, self.data["columns"])
        task: Any = names.task_class(self.recipe.run.task).load(self.folder, settings)
        model, head = self._networks(task, WEIGHTS)
        if self._words:
            add_words(task, model, head, list(self._words), vectors_of(self._words))
        self._versions = _versions(model, head)
        if self._changed:
            build.put_weights(model, head, self._changed, f"what was sent with {self!r}")
        return task, model, head

    def require_weights(self) -> None:
        """Raise an InputError where the run has no weights, not yet or because none were finite."""
        if WEIGHTS in self.ledger:
            return
        if self.finished:
            raise InputError(f"{self.folder} has no weights. {self.status.value}")
        raise InputError(f"{self.folder} has no weights yet; repeat its `thalweg train` command.")

    def verify(self, *, weights: bool = True) -> None:
        """Compare what answering reads with its checksums; an InputError names a file that is missing or damaged.

        A run that goes on has its weights from a checkpoint, so without `weights` those are not compared.
        """
        ledger = self.ledger
        ledger.verify(set(ledger.sums) - _BESIDE - (set() if weights else {WEIGHTS}))

    def _complete(self) -> None:
        """Finish a change of several files that a crash has interrupted; a process that is at it does so itself."""
        try:
            with contextlib.suppress(HeldError), Claim(self.folder, "read"):
                self.ledger.complete()
        except OSError as error:
            raise InputError(
                f"{self.folder} was interrupted while its files were changed, and that cannot be completed here "
                f"({error.strerror}); run thalweg verify {self.folder} where it can be written."
            ) from None

    def _networks(self, task: AbstractTask, name: str) -> tuple[nn.Module, AbstractHead]:
        """Return model and head with the weights of a file."""
        weights = tensor_files.load_tensors(self.ledger.path(name))
        counts = build.counts_behind(weights)
        model, head = build.build_networks(self.recipe, task, fresh=False, counts=counts, weights=weights)
        build.put_weights(model, head, weights, self.folder / name)
        model.eval()
        head.eval()
        return model, head


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


def json_bytes(value: Any) -> bytes:
    """Return a value as the content of a JSON file; numbers that are not finite become null."""
    return (json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="replace")
