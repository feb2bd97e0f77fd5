"""Classification: a text, and one label or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from typing_extensions import override

from thalweg.data.arrays.batches import KEYS, Examples
from thalweg.data.arrays.equal import View, WholeExamples, same_rows
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.split import text_keys
from thalweg.data.columns.problems import all_once, label_sentences, one_label
from thalweg.data.columns.reading import ReadSource
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.features import BagFeatures
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.errors import InputError
from thalweg.models.bag_scores import BagScores
from thalweg.models.shape import ModelShape
from thalweg.storage.forms import distinct_texts, record
from thalweg.tasks.answering import answering, candidate_lines, sigmoid, softmax
from thalweg.tasks.base import AbstractMeter, AbstractTask, HeadOptions, Prepared, Settings
from thalweg.tasks.classify.decision import DECISION, Decision, decision_of
from thalweg.tasks.classify.distilling import label_comparison, mixed_labels
from thalweg.tasks.classify.notes import label_notes, missing_labels, require_same
from thalweg.tasks.growing import Growth, grown
from thalweg.tasks.questions import AnswerOptions, Predict, flat, joined, text_problem
from thalweg.tasks.reading.draft import TextDraft
from thalweg.tasks.reading.labels import LabelReader, Labels, counts_of, split_texts
from thalweg.tasks.reading.saved import json_bytes, reading
from thalweg.tasks.reading.taught import GIVEN, TARGETS, AbstractPupil, Lessons, labels_known, taught_batch
from thalweg.tasks.reading.text_column import TextColumn, check_columns
from thalweg.tasks.reading.text_reader import MAX_RAW, TextReader, scores_of
from thalweg.tasks.sections import F1
from thalweg.tasks.verdict import Seen, main_figure, short

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thalweg.batch import Batch
    from thalweg.heads.base import AbstractHead

LABELS = "labels.json"


@final
class Classify(AbstractTask, AbstractPupil):
    """A text in, a label out (or every label that fits, when examples may have several)."""

    name: ClassVar[str] = "classify"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    role: ClassVar[str] = "label"

    def __init__(
        self, reader: TextReader, labels: tuple[str, ...], decision: Decision, *, weights: Tensor | None = None
    ) -> None:
        self.reader = reader
        self.labels = labels
        self.decision = decision
        self.multilabel = decision.multilabel
        self.weights = weights  # of the labels in the training loss (see `classify.weights`); None: all one

    @property
    @override
    def vocabulary(self) -> AnyTokenizer:
        return self.reader.tokenizer

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple[Classify, Prepared]:
        from thalweg.tasks.classify.weights import balanced

        columns = settings.columns
        multilabel, known = bool(columns.get("multilabel")), labels_known(source)
        label_reader = LabelReader(multilabel=multilabel, separator=columns.get("separator"), known=known)
        texts, draft = TextColumn(source, columns["text"], settings.normalizer()), TextDraft(settings)
        labels = label_reader.read(source, columns["label"], texts.read(draft.add))
        notes = list(labels.notes)
        if len(labels.names) < 2:
            raise InputError(f"{source.name}: {one_label(labels.names, columns['label'])}")
        counts = labels.take(labels.present).counts()
        if once := all_once(counts.tolist(), columns["label"]):
            raise InputError(f"{source.name}: {once}")
        if known is None:
            notes += label_sentences(dict(zip(labels.names, counts.tolist(), strict=True)), columns["label"])
        if (start := settings.started_as(cls)) is not None:
            require_same(several=label_reader.multilabel, before=start.multilabel)
            notes += missing_labels(start.labels, labels.names)
            labels = labels.after(start.labels)
        in_valid, keys = np.zeros(len(labels), dtype=bool), draft.keys()
        if valid is None:
            in_valid = split_texts(keys, labels, settings.valid_share, source.name)
        in_train = labels.present & ~in_valid
        reader = draft.reader(texts, in_train)
        train_ids = draft.ids(reader, texts, in_train)
        reader.fit_features(train_ids, settings)
        ids, counts = labels.take(in_train).ids, labels.take(in_train).counts()
        weights = balanced(ids, len(labels.names)) if settings.class_weights != "none" else None
        decision = decision_of(settings.threshold, labels.names, counts, multilabel=label_reader.multilabel)
        task = cls(reader, labels.names, decision, weights=weights)
        train, cut = task._examples(train_ids, labels.take(in_train), keys[in_train], None)
        notes += cut
        if valid is None:
            chosen = labels.present & in_valid
            ids = draft.ids(reader, texts, chosen)
            held_out, _ = task._examples(ids, labels.take(chosen), keys[chosen], texts.kept(chosen, MAX_RAW))
        else:
            held_out, more = task.examples(valid, columns)
            notes += more
        own_lines = labels.lines[labels.present & in_valid] if valid is None else None
        return task, Prepared(train, held_out, notes, labels.lines[in_train], own_lines)

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        check_columns(source, (columns["text"], columns["label"]))
        if isinstance(source, ReadSource):
            source.know(self.labels)
        texts = TextColumn(source, columns["text"], self.reader.normalizer)
        label_reader = LabelReader(multilabel=self.multilabel, separator=columns.get("separator"), known=self.labels)
        keys = [np.zeros(0, dtype=np.uint64)]
        labels = label_reader.read(source, columns["label"], texts.read(lambda part: keys.append(text_keys(part))))
        ids, rows = self.reader.encode(texts.chosen(labels.present)), labels.present
        examples, cut = self._examples(ids, labels.take(rows), np.concatenate(keys)[rows], texts.kept(rows, MAX_RAW))
        return examples, [*labels.notes, *cut]

    def _examples(
        self, ids: Ragged, labels: Labels, keys: np.ndarray, raw: list[str] | None
    ) -> tuple[Examples, list[str]]:
        columns, notes = self.reader.columns(ids)
        columns |= {KEYS: keys}
        sort_by = () if self.reader.features is not None else ("tokens",)
        columns |= {} if labels.lessons is None else labels.lessons.columns()
        return Examples(columns | {"labels": labels.ids}, raw=raw, sort_by=sort_by), notes

    @override
    def growth(self, old: AbstractTask) -> list[Growth]:
        assert isinstance(old, Classify)
        return [self.reader.growth(old.reader), grown("label", len(old.labels), len(self.labels))]

    @override
    def about(self) -> dict[str, str]:
        known = self.reader.about()
        weighted = " (weighted so that rare labels count as much as frequent ones)" if self.weights is not None else ""
        return known | {"examples": known["examples"] + weighted}

    @override
    def view(self, examples: Examples) -> View:
        return WholeExamples(same_rows(*self.reader.view_columns(examples)), self.reader.describes())

    @override
    def answer_name(self, target: np.ndarray) -> str:
        if self.multilabel:
            return ", ".join(self.labels[place] for place in np.flatnonzero(target).tolist()) or "(none)"
        return self.labels[int(target)]

    @override
    def words_of(self, examples: Examples) -> tuple[Ragged, Ragged, int] | None:
        return None if self.multilabel else self.reader.words_of(examples)

    @override
    def files(self) -> dict[str, bytes]:
        return self.reader.files() | self._label_file()

    def _label_file(self) -> dict[str, bytes]:
        return {LABELS: json_bytes({"labels": self.labels, "decision": self.decision.to_json()})}

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> Classify:
        with reading(folder / LABELS, record(labels=distinct_texts(least=2), decision=DECISION)) as saved:
            labels = tuple(saved["labels"])
            decision = Decision.of_json(saved["decision"], len(labels))
            if decision.multilabel != bool(settings.columns.get("multilabel")):
                raise ValueError("whether a text has several labels is said otherwise by the columns in data.json")
        return cls(TextReader.load(folder, settings), labels, decision)

    @property
    @override
    def is_tuned(self) -> bool:
        return self.decision.auto

    @override
    def with_threshold(self, probability: float) -> Classify:
        decision = self.decision.at(probability, self.labels)
        return Classify(self.reader, self.labels, decision, weights=self.weights)

    @override
    def settle(self, model: nn.Module, head: AbstractHead, prepared: Prepared) -> tuple[list[str], dict[str, bytes]]:
        train = counts_of(prepared.train.columns["labels"], len(self.labels))
        if TARGETS in prepared.train.columns:  # learned from probabilities, also where no text has it
            train = train + (np.asarray(prepared.train.columns[TARGETS]) > 0.0).sum(0)
        valid = given = np.zeros_like(train)
        if len(prepared.valid):
            prediction, target = self.predictions(model, head, prepared.valid)
            self.decision = self.decision.chosen(prediction, target)
            valid = counts_of(prepared.valid.columns["labels"], len(self.labels))
            labels = self.decision.given(prediction).numpy()
            given = labels.sum(0) if self.multilabel else np.bincount(labels, minlength=len(self.labels))
        notes = label_notes(self.labels, train=train, valid=valid, given=given, multilabel=self.multilabel)
        said = [sentence for sentence in (self.decision.sentence(self.labels), *notes) if sentence]
        return said, self._label_file() if len(prepared.valid) else {}

    @override
    def shape(self) -> ModelShape:
        return replace(self.reader.shape(), num_outputs=len(self.labels))

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a softmax over the labels, or an independent coin for each where a text may have several.

        The hidden states of a linear model are the scores of the labels already.
        """
        from thalweg.heads.bernoulli import Bernoulli
        from thalweg.heads.softmax import Softmax
        from thalweg.models.bag import LinearBag

        width: int | None = None if isinstance(model, LinearBag) else model.width  # type: ignore[assignment]
        if self.multilabel:
            return Bernoulli(width, len(self.labels), label_smoothing=options.label_smoothing)
        return Softmax(width, len(self.labels), label_smoothing=options.label_smoothing)

    @override
    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        import torch

        from thalweg.batch import Batch

        labels = examples.columns["labels"]
        if isinstance(labels, Ragged):
            targets = torch.zeros(len(indices), len(self.labels))
            for row, index in enumerate(indices):
                targets[row, labels[int(index)].tolist()] = 1.0
        else:
            targets = torch.from_numpy(labels[indices].astype(np.int64))
        return Batch(self.reader.inputs(examples, indices), targets)

    @override
    def training_batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        from thalweg.tasks.classify.weights import of_targets

        batch = taught_batch(self.batch(examples, indices), examples, indices)
        return batch if self.weights is None else replace(batch, weights=of_targets(self.weights, batch.targets))

    @override
    def meter(self) -> AbstractMeter:
        from thalweg.tasks.classify.meter import LabelMeter

        return LabelMeter(len(self.labels), self.decision, self.labels)

    @override
    def verdict(self, metrics: Mapping[str, float], seen: Seen) -> str:
        if not self.multilabel:
            said = main_figure(metrics, "accuracy", seen, "texts")
            return said + self._baseline("; always answering {} gives {}", seen)
        said = main_figure(metrics, "macro_f1", seen, "texts", "macro F1")
        said += f"; all labels right for {short(metrics['accuracy'])} of them"
        return said + self._baseline(", always answering {} for {}", seen)

    def _baseline(self, words: str, seen: Seen) -> str:
        """Return what always giving the most frequent answer scores, in words with two gaps; "" where nobody knows."""
        if seen.examples is None or "accuracy" not in seen.baselines:
            return ""
        labels = seen.examples.columns["labels"]
        if isinstance(labels, Ragged):
            sets = Counter(frozenset(labels[row].tolist()) for row in range(len(seen.examples)))
            most = ", ".join(self.labels[label] for label in sorted(sets.most_common(1)[0][0])) or "(none)"
        else:
            most = self.labels[int(np.bincount(labels.astype(np.int64)).argmax())]
        return words.format(repr(most), short(seen.baselines["accuracy"]))

    @property
    @override
    def selects_by(self) -> tuple[str, str]:
        return ("macro_f1", "higher") if self.multilabel else ("accuracy", "higher")

    @property
    @override
    def explanations(self) -> dict[str, tuple[str, str]]:
        exact = "Fraction of validation texts with the correct label."
        if self.multilabel:
            exact = "Fraction of validation texts with exactly the correct set of labels."
        return {
            "accuracy": ("higher", exact),
            "macro_f1": ("higher", f"{F1}, macro-averaged over labels."),
            "micro_f1": ("higher", "Micro-averaged F1."),
            "ece": (
                "lower",
                "Expected calibration error: how far the probability of the given label is from the share of right "
                "ones, in 15 bins.",
            ),
        }

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        del options
        return text_problem(value)

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return ("text", "labels", "top") if self.multilabel else ("text", "label", "probability", "top")

    @override
    def table_columns(self, top: int) -> tuple[str, ...]:
        ranked = range(1, min(top, len(self.labels)) + 1)
        return (*self.answer_keys[:-1], *(f"{name}_{place}" for place in ranked for name in ("label", "probability")))

    @override
    def table_rows(self, answer: Mapping[str, Any], top: int) -> list[dict[str, Any]]:
        row = {key: answer[key] for key in self.answer_keys[:-1]}
        if self.multilabel:
            row["labels"] = joined(answer["labels"], self.labels)
        return [row | flat(answer["top"][:top], ("label", "probability"))]

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Return for each text its `label` (or `labels`), the `probability`, and the `top` candidates."""
        return self._answers(inputs, options, lambda texts: self._scores(model, head, texts))

    @override
    def predictor(self, weights: Mapping[str, np.ndarray]) -> Predict | None:
        if not isinstance(self.reader.features, BagFeatures):
            return None
        bag = BagScores.of(weights, self.reader.vocabulary_size, len(self.labels))
        if bag is None:
            return None
        return lambda inputs, options: self._answers(inputs, options, lambda texts: scores_of(bag, self._read(texts)))

    def scores(self, model: nn.Module, head: AbstractHead, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return which labels are given to texts and how probable each is, bool and float64 `[texts, labels]`.

        The probabilities of a text add up to 1 where it has one label; where it may have several, each stands by
        itself.
        """
        scores = self._scores(model, head, texts)
        given = self.decision.given(scores)
        if self.multilabel:
            return given, sigmoid(scores.astype(np.float64))
        return given[:, None] == np.arange(len(self.labels)), softmax(scores.astype(np.float64))

    @property
    @override
    def taught_labels(self) -> tuple[str, ...]:
        return self.labels

    @override
    def stand_in(self, row: int) -> Any:
        first, second = (self.labels[(row + step) % len(self.labels)] for step in (0, 1))
        return [first, second][: 1 + row % 2] if self.multilabel else first

    @override
    def lessons(self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any]) -> Lessons:
        given, chances = self.scores(model, head, inputs)
        return Lessons(chances.astype(np.float32), given if self.multilabel else given.argmax(1))

    @override
    def answers_as_values(self, given: np.ndarray) -> list[Any]:
        if self.multilabel:
            return [[self.labels[place] for place in np.flatnonzero(row).tolist()] for row in given]
        return [self.labels[place] for place in given.tolist()]

    @override
    def mixed(self, lessons: Lessons, values: Sequence[Any], weight: float) -> np.ndarray:
        return mixed_labels(lessons, values, self.labels, weight, several=self.multilabel)

    @override
    def beside(self, examples: Examples, metrics: Mapping[str, float], *, is_teachers: bool) -> str:
        right = self.batch(examples, np.arange(len(examples))).targets.numpy() == examples.columns[GIVEN]
        teachers = float((right.all(1) if self.multilabel else right).mean())
        return label_comparison(teachers, metrics["accuracy"], len(examples), is_teachers=is_teachers)

    def _read(self, texts: Sequence[str]) -> Examples:
        return Examples(self.reader.read(list(texts)), raw=None)

    def _scores(self, model: nn.Module, head: AbstractHead, texts: Sequence[str]) -> np.ndarray:
        """Return the scores of the labels, `[texts, labels]`."""
        import torch

        from thalweg.batch import Batch
        from thalweg.heads.base import upcast

        batch = Batch(self.reader.inputs(self._read(texts), np.arange(len(texts))), torch.zeros(len(texts)))
        with answering(model, head) as parameter:
            return upcast(head(model(**batch.to(parameter.device, parameter.dtype).inputs))).cpu().numpy()

    def _answers(
        self, inputs: Sequence[Any], options: AnswerOptions, scores: Callable[[Sequence[str]], np.ndarray]
    ) -> list[dict[str, Any]]:
        """Return the answers to texts; `scores` gives those of the labels, `[texts, labels]`."""
        self.check(inputs, options)
        texts = list(inputs)
        found = scores(texts)
        given = self.decision.given(found)
        chances = sigmoid(found.astype(np.float64)) if self.multilabel else softmax(found)
        order = np.argsort(-found, axis=-1, kind="stable")[:, : options.top]
        answers = []
        for text, answer, row, places in zip(texts, given.tolist(), chances.tolist(), order.tolist(), strict=True):
            top = [{"label": self.labels[place], "probability": row[place]} for place in places]
            if self.multilabel:
                chosen = [name for name, is_given in zip(self.labels, answer, strict=True) if is_given]
                answers.append({"text": text, "labels": chosen, "top": top})
            else:
                best = {"label": self.labels[answer], "probability": row[answer]}
                answers.append({"text": text, **best, "top": top})
        return answers

    @override
    def lines_of(self, answer: Mapping[str, Any], top: int = 0) -> list[str]:
        return candidate_lines(answer, top)

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return the confusion matrix, the labels' F1 and the worst mistakes."""
        from thalweg.tasks.classify.report import several_labels_sections, single_label_sections

        del seed
        valid = prepared.valid
        predictions, targets = self.predictions(model, head, valid)
        sections = several_labels_sections if self.multilabel else single_label_sections
        guess = self.decision.crossed(predictions, targets)
        return sections(self.labels, predictions.float(), guess, targets, valid.raw or [])

    @override
    def describe(self, prepared: Prepared) -> str:
        return f"{prepared.num_train:,} texts with {len(self.labels):,} labels"
