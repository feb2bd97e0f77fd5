"""Scoring: a number for a text, or for a pair of texts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from typing_extensions import override

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.equal import View, WholeExamples, same_rows
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.split import validation_rows
from thalweg.data.arrays.standardize import Standardizer
from thalweg.data.columns.facts import kind_of
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.features import BagFeatures
from thalweg.data.text.overlap import Overlap, Pairs
from thalweg.data.text.pairs import PairFeatures
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.errors import InputError
from thalweg.models.bag_scores import BagScores
from thalweg.models.shape import ModelShape
from thalweg.storage.forms import AGAIN, many, number, perhaps, record, truth
from thalweg.tasks.base import AbstractMeter, AbstractTask, HeadOptions, Prepared, Settings
from thalweg.tasks.growing import Growth, grown
from thalweg.tasks.questions import AnswerOptions, Predict
from thalweg.tasks.reading.numeric import scaled_by, stand_ins
from thalweg.tasks.reading.saved import json_bytes, reading
from thalweg.tasks.reading.taught import Lessons, lessons_of, taken, taught_batch
from thalweg.tasks.reading.text_column import TextColumn
from thalweg.tasks.reading.text_reader import TextReader, scores_of
from thalweg.tasks.score import report as score_report
from thalweg.tasks.score.distilling import NumberPupil
from thalweg.tasks.score.joint import bags_of, joint_columns, overlap_numbers
from thalweg.tasks.score.rows import ROLES, check_variation, joined, joint_keys, pairs_of, raw_texts, read_targets
from thalweg.tasks.score.together import KINDS, NUM_PARTS, crossed_columns, encoded_columns, is_crossed
from thalweg.tasks.verdict import Seen, main_figure, short

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thalweg.batch import Batch
    from thalweg.heads.base import AbstractHead

FILE, PAIRS = "score.json", "pairs.safetensors"
FEATURES = "features of each pair (how much the texts share, and which words, as this run measures and weights them)"
NMSE = "Mean squared error over the variance of the true numbers"
Numbers = tuple[np.ndarray, Lessons | None]  # those that are true, and what a teacher says
PREFIX = {"text": "", "other": "other_"}  # of the model's keywords


@final
class Score(NumberPupil, AbstractTask):
    """A text in, or a pair of texts, and a number out.

    The network learns standardized numbers (mean 0, variance 1 over the training part), so that its loss is about half
    the NMSE whatever the unit; answers are given in the original unit, and stay between the smallest and the largest
    number of the training part.

    Args:
        reader: from texts to what the model takes; both texts of a pair share it.
        scaling: of the numbers.
        is_pair: whether there are two texts.
        span: smallest and largest training number; None: answers may lie anywhere (runs of earlier versions).
        pairs: from pairs to one bag of features each, for the layout "joint"; None: each text is read by itself.
        is_crossed: whether a pretrained model reads both texts of a pair in one sequence.
    """

    name: ClassVar[str] = "score"
    inputs: ClassVar[tuple[str, ...]] = ("text", "other")

    def __init__(
        self,
        reader: TextReader,
        scaling: Standardizer,
        *,
        is_pair: bool,
        span: tuple[float, float] | None = None,
        pairs: PairFeatures | None = None,
        is_crossed: bool = False,
    ) -> None:
        self.reader = reader
        self.scaling = scaling
        self.is_pair = is_pair
        self.span = span
        self.pairs = pairs
        self.is_crossed = is_crossed
        self.text_roles = ROLES if is_pair else ROLES[:1]

    @property
    @override
    def reads_pairs(self) -> bool:
        return self.is_pair

    @property
    @override
    def vocabulary(self) -> AnyTokenizer:
        return self.reader.tokenizer

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple[Score, Prepared]:
        columns = settings.columns
        text_roles = [role for role in ROLES if role in columns]
        numbers, lines = read_targets(source, columns)
        lessons = lessons_of(source)
        learned = numbers if lessons is None else lessons.targets[:, 0]
        texts = [TextColumn(source, columns[role], settings.normalizer()) for role in text_roles]
        in_valid = np.zeros(len(numbers), dtype=bool)
        if valid is None:
            in_valid = validation_rows(joint_keys(texts), settings.valid_share, name=source.name)
        check_variation(learned[~in_valid], columns["number"], f"The training part of {source.name}")
        start = settings.started_as(cls)
        if start is not None and start.is_pair != (len(text_roles) == 2):
            raise InputError(
                f"The run to start from scores {'pairs of texts' if start.is_pair else 'single texts'}, and these are "
                f"{'single texts' if start.is_pair else 'pairs'}; train without --start-from."
            )
        if settings.word_vectors and settings.layout == "joint" and len(text_roles) == 2:
            raise InputError("--word-vectors is not for pairs of texts with --model linear; give --model bag or lstm.")
        if start is not None and start.pairs is not None:  # what two texts share is counted over a fixed vocabulary
            settings = dataclasses.replace(settings, vocabulary_size=0, bigrams=0)
        reader = TextReader.fit((part for column in texts for part in column.chosen(~in_valid)), settings)
        crossed = is_crossed(settings, reader, is_pair=len(text_roles) == 2)
        ids = [] if crossed else [reader.encode(column.chosen(~in_valid)) for column in texts]
        if ids:
            reader.fit_features(joined(ids), settings)
        scaling = Standardizer.fit(learned[~in_valid][:, None], "standard")
        span = float(learned[~in_valid].min()), float(learned[~in_valid].max())
        if start is not None:
            scaling, (low, high) = start.scaling, start.span or span
            span = min(span[0], low), max(span[1], high)
        task = cls(reader, scaling, is_pair=len(text_roles) == 2, span=span, is_crossed=crossed)
        shared: np.ndarray | None = None
        if settings.layout == "joint" and task.is_pair:
            kept = None if start is None else start.pairs
            overlap = Overlap.fit(pairs_of(texts, ~in_valid)) if kept is None else kept.overlap
            shared = overlap_numbers(overlap, pairs_of(texts, ~in_valid))
            task.pairs = kept or PairFeatures.fit(overlap, shared, bags_of(reader, ids), reader.vocabulary_size)
        both = pairs_of(texts, ~in_valid) if crossed else ()
        train, notes = task._examples(ids, shared, (numbers[~in_valid], taken(lessons, ~in_valid)), None, both)
        notes += stand_ins([columns["number"]], numbers[:, None])
        if start is not None:
            notes.insert(0, f"Numbers are scaled as before (mean {scaling.shift[0]:.4g}), so that the weights fit.")
        if valid is None:
            held_out, _ = task._read(texts, in_valid, (numbers[in_valid], taken(lessons, in_valid)))
            check_variation(numbers[in_valid], columns["number"], f"The validation part of {source.name}")
        else:
            held_out, more = task.examples(valid, columns)
            check_variation(
                task.scaling.inverse(np.asarray(held_out.columns["targets"]))[:, 0], columns["number"], valid.name
            )
            notes += more
        return task, Prepared(train, held_out, notes, lines[~in_valid])

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        numbers, _ = read_targets(source, columns)
        texts = [TextColumn(source, columns[role], self.reader.normalizer) for role in self.text_roles]
        examples, notes = self._read(texts, np.ones(len(numbers), dtype=bool), (numbers, lessons_of(source)))
        if len(numbers) and numbers.min() == numbers.max():
            notes.append(f"All numbers are {numbers[0]:g}, so NMSE and the correlations are not defined.")
        return examples, notes

    def _read(self, texts: Sequence[TextColumn], rows: np.ndarray, numbers: Numbers) -> tuple[Examples, list[str]]:
        """Return the rows that are True as examples, whose texts are kept to be shown."""
        both = pairs_of(texts, rows) if self.is_crossed else ()
        ids = [] if self.is_crossed else [self.reader.encode(column.chosen(rows)) for column in texts]
        shared = None if self.pairs is None else overlap_numbers(self.pairs.overlap, pairs_of(texts, rows))
        return self._examples(ids, shared, numbers, raw_texts(texts, rows), both)

    def _examples(
        self,
        ids: Sequence[Ragged],
        shared: np.ndarray | None,
        numbers: Numbers,
        raw: list[str] | None,
        both: Iterable[Pairs] = (),
    ) -> tuple[Examples, list[str]]:
        columns, notes = self._columns(ids, shared, both)
        own, lessons = numbers
        columns["targets"] = scaled_by(self.scaling, own[:, None], "The numbers to predict")
        if lessons is not None:
            targets = scaled_by(self.scaling, lessons.targets, "The teacher's numbers")
            columns |= dataclasses.replace(lessons, targets=targets).columns()
        return Examples(columns, raw, self._sort_by()), notes

    def _columns(
        self, ids: Sequence[Ragged], shared: np.ndarray | None, both: Iterable[Pairs] = ()
    ) -> tuple[dict[str, Ragged | np.ndarray], list[str]]:
        """Return what the model reads, from word ids and, for pairs as one bag, how much their texts share.

        A pretrained model that reads `both` texts of a pair in one sequence has them as texts.
        """
        if self.is_crossed:
            return crossed_columns(self.reader, both)
        if self.is_joined:
            return encoded_columns(self.reader, ids)
        if self.pairs is not None and shared is not None:
            return joint_columns(self.reader, self.pairs, bags_of(self.reader, ids), shared), []
        columns: dict[str, Ragged | np.ndarray] = {}
        notes: list[str] = []
        for role, part in zip(self.text_roles, ids, strict=True):
            more, cut = self.reader.columns(part, PREFIX[role])
            columns |= more
            notes += cut
        return columns, notes

    @property
    def is_joined(self) -> bool:
        """Whether what a frozen model says of both texts of a pair is one bag of features."""
        return self.is_pair and self.reader.is_encoded

    def _sort_by(self) -> tuple[str, ...]:
        return tuple(f"{prefix}tokens" for prefix in self._prefixes) if self.reader.features is None else ()

    @property
    def _prefixes(self) -> tuple[str, ...]:
        """Of the model's keywords: one for each bag or text that it reads."""
        joined = self.pairs is not None or self.is_crossed or self.is_joined
        return ("",) if joined else tuple(PREFIX[role] for role in self.text_roles)

    @override
    def growth(self, old: AbstractTask) -> list[Growth]:
        assert isinstance(old, Score)
        if self.pairs is not None or self.is_joined:
            size = self.shape().vocabulary_size
            return [grown("feature", size, size)]
        return [self.reader.growth(old.reader)]

    @override
    def about(self) -> dict[str, str]:
        about = self.reader.about()
        if self.is_joined:
            more = "of both texts, their differences and their products"
            return {"examples": "training pairs", "features": f"{about['features']}, {more}"}
        return about if self.pairs is None else {"examples": "training pairs", "features": FEATURES}

    @override
    def view(self, examples: Examples) -> View:
        columns = [column for prefix in self._prefixes for column in self.reader.view_columns(examples, prefix)]
        if self.pairs is not None:
            return WholeExamples(same_rows(*columns), f"the {FEATURES}")
        sees = self.reader.describes("both texts of a pair" if self.is_pair else "a text")
        return WholeExamples(same_rows(*columns), sees)

    @override
    def answer_name(self, target: np.ndarray) -> str:
        value, larger = self.scaling.inverse(np.array([[target.item()], [target.item() + 1.0]]))[:, 0].tolist()
        digits = 5 - math.floor(math.log10(larger - value))  # the targets are float32 in units of the deviation
        return f"{round(value, digits) + 0.0:.15g}"

    @override
    def files(self) -> dict[str, bytes]:
        kept = {
            "is_pair": self.is_pair,
            "is_crossed": self.is_crossed,
            "scaling": self.scaling.to_dict(),
            "span": self.span,
        }
        pairs = {} if self.pairs is None else {PAIRS: self.pairs.to_bytes()}
        return self.reader.files() | pairs | {FILE: json_bytes(kept)}

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> Score:
        one = many(number(), least=1, most=1)
        span = perhaps(many(number(), least=2, most=2))
        form = record({"span": span, "is_crossed": truth()}, is_pair=truth(), scaling=record(shift=one, scale=one))
        with reading(folder / FILE, form) as saved:
            scaling, is_pair = Standardizer.from_dict(saved["scaling"]), saved["is_pair"]
            low, high = saved.get("span") or (-math.inf, math.inf)
            if low > high:
                raise ValueError("the smallest number is above the largest")
            if is_pair != ("other" in settings.columns):
                raise ValueError("whether there are two texts is said otherwise by the columns in data.json")
        reader = TextReader.load(folder, settings)
        pairs = PairFeatures.load(folder / PAIRS) if is_pair and settings.layout == "joint" else None
        if pairs is not None and pairs.num_words != reader.vocabulary_size:
            raise InputError(f"{folder / PAIRS} is damaged (it is about another vocabulary); {AGAIN}.")
        crossed = is_pair and saved.get("is_crossed", False)
        return cls(reader, scaling, is_pair=is_pair, span=(low, high), pairs=pairs, is_crossed=crossed)

    @override
    def shape(self) -> ModelShape:
        shape = dataclasses.replace(self.reader.shape(), num_outputs=1, is_crossed=self.is_crossed)
        if self.is_joined:
            return dataclasses.replace(shape, vocabulary_size=NUM_PARTS * shape.vocabulary_size)
        size = shape.vocabulary_size if self.pairs is None else self.pairs.num_features
        return dataclasses.replace(shape, vocabulary_size=size)

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a squared-error head with one output, without a layer where the hidden state is the number already."""
        from thalweg.heads.squared import Squared
        from thalweg.models.bag import LinearBag

        del options
        width: int | None = None if isinstance(model, LinearBag) else model.width  # type: ignore[assignment]
        return Squared(width, 1)

    @override
    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        import torch

        from thalweg.batch import Batch
        from thalweg.data.arrays.collate import pad

        inputs: dict[str, Tensor] = {}
        for prefix in self._prefixes:
            inputs |= self.reader.inputs(examples, indices, prefix)
        if KINDS in examples.columns:
            inputs[KINDS] = pad(examples.ragged(KINDS), indices)[0]
        targets = examples.columns["targets"]
        assert isinstance(targets, np.ndarray)
        return Batch(inputs, torch.from_numpy(targets[indices]))

    @override
    def training_batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        return taught_batch(self.batch(examples, indices), examples, indices)

    @override
    def meter(self) -> AbstractMeter:

        from thalweg.tasks.score.meter import ScoreMeter

        return ScoreMeter(self.scaling, self.span)

    @override
    def verdict(self, metrics: Mapping[str, float], seen: Seen) -> str:
        unit = "pairs" if self.is_pair else "texts"
        if math.isnan(metrics["nmse"]):
            return main_figure(metrics, "mae", seen, unit, "mean absolute error")
        said = main_figure(metrics, "pearson", seen, unit, "Pearson correlation")
        return f"{said}; the squared error is {short(metrics['nmse'])} of that of always answering the mean"

    @property
    @override
    def selects_by(self) -> tuple[str, str]:
        return "nmse", "lower"

    @property
    @override
    def explanations(self) -> dict[str, tuple[str, str]]:
        return {
            "nmse": ("lower", f"{NMSE}: 0 is exact, 1 is what their mean gives."),
            "pearson": ("higher", "Correlation of predicted and true numbers: 1 if they lie on a rising line."),
            "spearman": ("higher", "Rank correlation: 1 if they are in the same order."),
            "mae": ("lower", "Mean absolute error, in the numbers' own unit."),
        }

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Score each input: a text, or for pairs a tuple of two texts.

        Returns:
            For each input `{"text": ..., "score": ...}`, with "other" for pairs; the score is in the original unit.

        Raises:
            InputError: if an input is not text (no pair of texts).
        """
        return self._answers(inputs, options, lambda examples: self.predictions(model, head, examples)[0].numpy())

    @override
    def predictor(self, weights: Mapping[str, np.ndarray]) -> Predict | None:
        if not isinstance(self.reader.features, BagFeatures) or len(self._prefixes) > 1:
            return None
        bag = BagScores.of(weights, self.shape().vocabulary_size, 1)
        if bag is None:
            return None
        return lambda inputs, options: self._answers(inputs, options, lambda examples: scores_of(bag, examples))

    def _answers(
        self, inputs: Sequence[Any], options: AnswerOptions, predictions: Callable[[Examples], np.ndarray]
    ) -> list[dict[str, Any]]:
        """Return the answers to texts, or pairs; `predictions` gives the network's numbers, `[examples, 1]`."""
        self.check(inputs, options)
        rows = [(value,) if isinstance(value, str) else tuple(value) for value in inputs]
        if not rows:
            return []
        scores = self._in_unit(predictions(self._examples_of(rows)))
        texts = [dict(zip(self.text_roles, row, strict=True)) for row in rows]
        return [{**inputs, "score": score} for inputs, score in zip(texts, scores.tolist(), strict=True)]

    def inputs_of(self, rows: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
        """Return what the model reads of new texts, or pairs of texts, each as a tuple; at least one."""
        return dict(self.batch(self._examples_of(rows), np.arange(len(rows))).inputs)

    def _examples_of(self, rows: Sequence[tuple[str, ...]]) -> Examples:
        given = [self.reader.normalizer.many(list(texts)) for texts in zip(*rows, strict=True)]
        ids = [] if self.is_crossed else [self.reader.encode([texts]) for texts in given]
        shared = None if self.pairs is None else self.pairs.overlap.numbers(*given)
        columns, _ = self._columns(ids, shared, [(given[0], given[-1])])
        columns["targets"] = np.zeros((len(rows), 1), dtype=np.float32)
        return Examples(columns, None, self._sort_by())

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        del options
        texts = (value,) if isinstance(value, str) else value
        fits = isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts)
        if fits and len(texts) == len(self.text_roles):
            return ""
        got = "null" if kind_of(value) == "null" else repr(str(value)[:60])
        return f"expected {'a pair of texts' if self.is_pair else 'a text'}, got {got}"

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return *self.text_roles, "score"

    def _in_unit(self, predictions: np.ndarray) -> np.ndarray:
        """Return numbers `[examples, 1]` in their original unit, within those of the training part, `[examples]`."""
        found = self.scaling.inverse(predictions.astype(np.float64))[:, 0]
        return found if self.span is None else found.clip(*self.span)

    def parse_input(self, text: str, length: int | None) -> Any:
        """Return a text, or the two texts around a tab."""
        del length
        return tuple(text.split("\t", 1)) if "\t" in text and self.is_pair else text

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return predicted against true numbers, their distributions, and the worst examples."""
        del seed
        targets = prepared.valid.columns["targets"]
        assert isinstance(targets, np.ndarray)
        true = self.scaling.inverse(targets.astype(np.float64))[:, 0]
        predicted = self._in_unit(self.predictions(model, head, prepared.valid)[0].numpy())
        return score_report.sections(true, predicted, prepared.valid.raw or [])

    @override
    def describe(self, prepared: Prepared) -> str:
        return f"{prepared.num_train:,} {'pairs of texts' if self.is_pair else 'texts'} with a number"
