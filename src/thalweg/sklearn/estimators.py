"""A classifier and a regressor of texts as scikit-learn has them: `fit`, `predict`, and whatever it makes of these."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, Self, final

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as missing:
    raise ImportError(
        "thalweg.sklearn needs scikit-learn; install it with: pip install 'thalweg[sklearn]'"
    ) from missing

from thalweg import names
from thalweg.errors import InputError, counted, shown
from thalweg.sklearn.labels import NO_LABEL, Targets
from thalweg.sklearn.stored import Folder, contents_of, unpacked
from thalweg.sklearn.texts import columns_of
from thalweg.status import Status
from thalweg.tasks.questions import AnswerOptions
from thalweg.training.recipe.option import Option
from thalweg.training.recipe.options import OPTIONS

BATCH: Final = 256  # texts that are answered at once
FEW: Final = 5  # validation examples that a regressor has at least, where that is less than half of all
TRAIN: Final = "thalweg.training.session.api:train"
_FILES, _RUN, _FOLDER = "_files", "run_", "_folder"


def _is_for_texts(option: Option) -> bool:
    """Whether an option is about a run on labels or numbers of texts, and not about files or outputs that write."""
    if option.section == "data":
        is_column = option.name.endswith("_column")
        return option.name == "valid_share" or (option.trait in ("text", "tokens", "bigrams") and not is_column)
    if option.section == "run":
        return option.name not in ("task", "name")
    return not option.continuous and option.name not in ("head", "tie", "shard", "checkpoint_every", "keep")


_OPTIONS: Final = tuple(name for name, option in OPTIONS.items() if _is_for_texts(option))
_LABELS: Final = frozenset(name for name, option in OPTIONS.items() if option.trait in ("classes", "labels"))


def _signed(options: tuple[str, ...]) -> Callable[[type], type]:
    """Give a class the signature that scikit-learn reads its parameters from."""

    def sign(kind: type) -> type:
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        defaults = {"folder": None, "verbose": False, **dict.fromkeys(options)}
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=d) for name, d in defaults.items()
        ]

        def initialize(self: Any, **given: Any) -> None:
            if unknown := sorted(given.keys() - defaults.keys()):
                raise TypeError(
                    f"{kind.__name__}() got an unexpected keyword argument {unknown[0]!r}; "
                    f"{kind.__name__}().get_params() lists what there is."
                )
            for name, default in defaults.items():
                setattr(self, name, given.get(name, default))

        initialize.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
        kind.__init__ = initialize  # type: ignore[misc]
        return kind

    return sign


class _TextEstimator(BaseEstimator):
    """What both have in common: the run, where it is, and how it travels."""

    _task: ClassVar[str]

    def _fit(self, data: dict[str, Any], defaults: dict[str, Any], **columns: str) -> Self:
        asked: dict[str, Any] = self.get_params(deep=False)
        named, verbose = asked.pop("folder"), asked.pop("verbose")
        given = defaults | {name: value for name, value in asked.items() if value is not None}
        folder = Folder(named)
        name = type(self).__name__.lower()
        run = names.load(TRAIN)(data, out=folder.path, task=self._task, name=name, **columns, **given, **_told(verbose))
        if run.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        self.run_, self._folder = run, folder
        return self

    def _batches(self, columns: list[list[str]]) -> Iterator[list[Any]]:
        """Yield the inputs of the run, a number of them at a time."""
        for start in range(0, len(columns[0]), BATCH):
            parts = [column[start : start + BATCH] for column in columns]
            yield parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the files of the run in place of its folder."""
        state: dict[str, Any] = {**super().__getstate__()}  # type: ignore[dict-item]
        state.pop(_FOLDER, None)
        if (run := state.pop(_RUN, None)) is not None:
            state[_FILES] = contents_of(run)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state, and write the files of the run into a folder that is removed with this object."""
        files = state.pop(_FILES, None)
        super().__setstate__(state)
        if files is not None:
            self._folder = Folder(None)
            self.run_ = unpacked(files, self._folder)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, _RUN)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


@final
@_signed(_OPTIONS)
class Classifier(ClassifierMixin, _TextEstimator):
    """A classifier of texts that works wherever scikit-learn takes one: in pipelines, searches and cross-validation.

    `fit` trains a run as `thalweg.train` does, with the same defaults; the run is the attribute `run_`. Pickled or
    copied, the classifier takes the files of its run along.

    Args:
        folder: the folder that runs are put into, each fit a new one; None: a temporary one, which is removed with the
            classifier.
        verbose: whether training prints what it does.
        **options: those of `thalweg train`, under the names of the command line with underscores (`model`, `optimizer`,
            `lr`, `epochs`, `time`, `l2`, `seed`, `threshold` ...); None is the default. `get_params()` lists them.

    Raises:
        TypeError: for an option that there is not.

    Example:
        >>> texts = ["good film", "fine film", "good cast", "bad film", "poor film", "bad cast"] * 4
        >>> model = Classifier(model="linear", l2=0.01).fit(texts, ["pos", "pos", "pos", "neg", "neg", "neg"] * 4)
        >>> model.predict(["a good plot", "a bad plot"]).tolist()
        ['pos', 'neg']

    Not for numbers or features that are no texts, and not for data larger than memory: `thalweg.train` reads these from
    files.
    """

    _task = "classify"

    def fit(self, X: Any, y: Any) -> Self:
        """Train on texts and their labels.

        Args:
            X: a list, an array or a series of texts, `[examples]`.
            y: a label for each (texts, numbers, True and False, at least two different ones); or several for each, as
                an indicator matrix `[examples, classes]` or a list of lists.

        Returns:
            The classifier, with `classes_` (the different labels in order, `[classes]`) and `run_`.

        Raises:
            InputError: which is a ValueError, for texts or labels that cannot be used.
        """
        (texts,), targets = columns_of(X), Targets.of(y)
        _require_alike(len(texts), len(targets.labels))
        labels, order = targets.column()
        if len(set(map(str, labels))) < 2:
            raise InputError(
                f"The classifier needs texts of two classes or more; got 1 class, {shown(targets.classes.tolist()[0])}."
            )
        data = {"text": [texts[place] for place in order.tolist()], "label": labels}
        self._fit(data, {}, text_column="text", label_column="label")
        self.classes_, self._names, self._form = targets.classes, targets.names, targets.form
        return self

    def predict(self, X: Any) -> Any:
        """Return the label of each text, `[examples]`, or its labels in the form that y had in `fit`.

        Raises:
            InputError: which is a ValueError, for inputs that are no texts.
        """
        given, _ = self._answers(X)
        if self._form == "single":
            return self.classes_[given.argmax(1)]
        if self._form == "matrix":
            return given.astype(np.int64)
        return [self.classes_[row].tolist() for row in given]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each label of `classes_`, float64 `[examples, classes]`.

        Those of a text add up to 1 where it has one label; where it may have several, each stands by itself.

        Raises:
            InputError: which is a ValueError, for inputs that are no texts.
        """
        return self._answers(X)[1]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the share of texts whose label, or all of whose labels, are predicted.

        Args:
            X: texts, `[examples]`.
            y: their labels, in the form that y had in `fit`.
            sample_weight: how much each text counts, `[examples]`; None: all the same.

        Raises:
            InputError: which is a ValueError, for inputs that are no texts.
        """
        if getattr(self, "_form", "") != "lists":
            return float(super().score(X, y, sample_weight))
        answers = list(map(set, self.predict(X)))
        _require_alike(len(answers), len(y))
        right = [answer == set(labels) for answer, labels in zip(answers, y, strict=True)]
        return float(np.average(right, weights=sample_weight))

    def _answers(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return which labels are given and how probable each is, bool and float64 `[examples, classes]`."""
        check_is_fitted(self)
        columns = columns_of(X)
        task, model, head = self.run_.task, self.run_.model, self.run_.head
        found = [task.scores(model, head, texts) for texts in self._batches(columns)]  # type: ignore[attr-defined]
        known: tuple[str, ...] = task.labels  # type: ignore[attr-defined]
        places = {name: place for place, name in enumerate(self._names)}
        given = np.zeros((len(columns[0]), len(self.classes_)), dtype=bool)
        chances = np.zeros(given.shape)
        for place, name in enumerate(known):
            if name != NO_LABEL:
                for table, part in ((given, 0), (chances, 1)):
                    table[:, places[name]] = np.concatenate([one[part][:, place] for one in found])
        return given, chances

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@final
@_signed(tuple(name for name in _OPTIONS if name not in _LABELS))
class Regressor(RegressorMixin, _TextEstimator):
    """A regressor from texts, or from pairs of texts, to numbers, for wherever scikit-learn takes one.

    `fit` trains a run of the task `score`, with its defaults; the run is the attribute `run_`. Predictions stay within
    the numbers that it was fitted on. Of fewer than fifty examples, five or more of small and large numbers are held
    out for validation (half of them, if there are fewer than ten), unless `valid_share` says otherwise.

    Args:
        folder: as for `Classifier`.
        verbose: as for `Classifier`.
        **options: as for `Classifier`, without those that are about labels.

    Raises:
        TypeError: for an option that there is not.

    Example:
        >>> texts = ["good film", "fine film", "good cast", "bad film", "poor film", "bad cast"] * 4
        >>> model = Regressor(l2=0.01).fit(texts, [4.5, 4.0, 5.0, 1.5, 2.0, 1.0] * 4)
        >>> good, bad = model.predict(["a good plot", "a bad plot"])
        >>> bool(good > bad)
        True

    Not for several numbers at once, and not for series, which `thalweg.train` forecasts.
    """

    _task = "score"

    def fit(self, X: Any, y: Any) -> Self:
        """Train on texts, or pairs of texts, and their numbers.

        Args:
            X: texts, `[examples]`, or pairs of them, `[examples, 2]`.
            y: a finite number for each, in any unit, `[examples]`.

        Returns:
            The regressor, with `run_`.

        Raises:
            InputError: which is a ValueError, for texts or numbers that cannot be used.
        """
        columns, numbers = columns_of(X, pairs=True), _numbers(y)
        _require_alike(len(columns[0]), len(numbers))
        if len(numbers) < 2 or min(numbers) == max(numbers):
            what = "1 sample" if len(numbers) == 1 else f"{numbers[0]:g} for all {len(numbers):,}"
            raise InputError(f"The regressor needs texts with different numbers; got {what}.")
        roles = ("text", "other")[: len(columns)]
        data = dict(zip(roles, columns, strict=True)) | {"number": numbers}
        held_out = _held_out(numbers) if self.valid_share is None else []  # type: ignore[attr-defined]
        valid = {"valid": _rows(data, held_out)} if held_out else {}
        data = _rows(data, sorted(set(range(len(numbers))) - set(held_out)))
        read = {"text_column": "text", "other_column": "other" if len(columns) == 2 else "none"}
        return self._fit(data, valid, label_column="number", **read)

    def predict(self, X: Any) -> np.ndarray:
        """Return the number of each text, or pair of texts, float64 `[examples]`.

        Raises:
            InputError: which is a ValueError, for inputs that are no texts, or no pairs where it was fitted on pairs.
        """
        check_is_fitted(self)
        task, model, head = self.run_.task, self.run_.model, self.run_.head
        found: list[float] = []
        for inputs in self._batches(columns_of(X, pairs=True)):
            found += [answer["score"] for answer in task.predict(model, head, inputs, AnswerOptions())]
        return np.array(found)


def _told(verbose: Any) -> dict[str, Any]:
    return {"say": lambda sentence: print(sentence, flush=True)} if verbose else {}  # noqa: T201


def _numbers(y: Any) -> list[float]:
    if y is None:
        raise InputError("This regressor requires y to be passed, but the target y is None.")
    try:
        numbers = column_or_1d(y, dtype=np.float64, warn=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"Expected a number for each text as y ({error}).") from None
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise InputError(f"Expected finite numbers as y, got {numbers[place]} for example {place + 1}; leave it out.")
    return numbers.tolist()


def _held_out(numbers: list[float]) -> list[int]:
    """Return some examples to validate on where there are few, of small and large numbers; none where there are many.

    A share of few examples, drawn by chance, might be one, or have one number only.
    """
    if len(numbers) >= 10 * FEW:
        return []
    order, step = sorted(range(len(numbers)), key=numbers.__getitem__), max(2, len(numbers) // FEW)
    for start in range(step):
        chosen = order[start::step]
        parts = [{numbers[place] for place in part} for part in (chosen, set(order) - set(chosen))]
        if all(len(part) > 1 for part in parts):
            return sorted(chosen)
    return []


def _rows(data: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
    return {name: [values[row] for row in rows] for name, values in data.items()}


def _require_alike(num_texts: int, num_targets: int) -> None:
    if num_texts != num_targets:
        raise InputError(
            f"Expected as many targets as examples; X has {counted(num_texts, 'example')}, and y "
            f"{counted(num_targets, 'target')}."
        )
