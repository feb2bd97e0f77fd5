"""Classification: a text, and one label or several."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MultilabelExactMatch, MultilabelF1Score
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples, f1, of_sums, ratio, sums_by
from thalweg.data.arrays.batches import KEYS, Examples
from thalweg.data.arrays.equal import View, WholeExamples, same_rows
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.split import text_keys
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.models.bag import LinearBag
from thalweg.models.presets import ModelShape
from thalweg.tasks.answering import answering, candidate_lines
from thalweg.tasks.base import AbstractMeter, AbstractTask, AnswerOptions, HeadOptions, Prepared, Settings
from thalweg.tasks.classify.report import several_labels_sections, single_label_sections
from thalweg.tasks.reading.draft import TextDraft
from thalweg.tasks.reading.labels import LabelReader, Labels, split_texts
from thalweg.tasks.reading.saved import reading, write_json
from thalweg.tasks.reading.text_column import TextColumn, check_columns
from thalweg.tasks.reading.text_reader import MAX_RAW, TextReader, check_texts
from thalweg.tasks.sections import F1
from thalweg.tasks.verdict import Seen, main_figure, short

LABELS = "labels.json"


@final
class LabelMeter(AbstractMeter):
    """Accuracy and macro F1 of labels that exclude one another; exact match, macro and micro F1 where they may not."""

    def __init__(self, num_labels: int, *, multilabel: bool) -> None:
        self.multilabel = multilabel
        if multilabel:
            metrics = {
                "accuracy": MultilabelExactMatch(num_labels, validate_args=False),
                "macro_f1": MultilabelF1Score(num_labels, average="macro", validate_args=False),
                "micro_f1": MultilabelF1Score(num_labels, average="micro", validate_args=False),
            }
        else:
            metrics = {
                "accuracy": MulticlassAccuracy(num_labels, average="micro", validate_args=False),
                "macro_f1": MulticlassF1Score(num_labels, average="macro", validate_args=False),
            }
        self.num_labels = num_labels
        self._metrics = MetricCollection(dict(metrics))
        self._parts: list[tuple[Tensor, Tensor]] = []

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        self._metrics.to(prediction.device)
        kept = torch.bool if self.multilabel else torch.int32
        guess = prediction > 0 if self.multilabel else prediction.argmax(-1)
        self._metrics.update(guess.to(torch.int64), batch.targets.to(torch.int64))
        self._parts.append((guess.to(kept), batch.targets.to(kept)))

    @override
    def compute(self) -> dict[str, float]:
        return {name: float(value) for name, value in self._metrics.compute().items()}

    @override
    def samples(self) -> Samples:
        guess, target = (torch.cat(parts).cpu().numpy() for parts in zip(*self._parts, strict=True))
        return label_sets(guess, target) if self.multilabel else label_pairs(guess, target, self.num_labels)


def label_pairs(guess: np.ndarray, target: np.ndarray, num_labels: int) -> Samples:
    """Return the samples of one label an example, `[examples]` each; a unit is a pair of true and given label."""
    pairs, counts = np.unique(target.astype(np.int64) * num_labels + guess, return_counts=True)
    true, given = np.divmod(pairs, num_labels)
    right = true == given

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        hits = sums_by(weights * right, true, num_labels)
        both = sums_by(weights, true, num_labels) + sums_by(weights, given, num_labels)
        present = both > 0.0  # as in torchmetrics, what neither is nor is given does not count
        macro = (2.0 * np.nan_to_num(ratio(hits, both))).sum(1) / present.sum(1)
        return {"accuracy": weights[:, right].sum(1) / weights.sum(1), "macro_f1": macro}

    most = int(np.bincount(target).max())
    shares = {"accuracy": (int(counts[right].sum()), len(target))}
    present, missing = len(np.union1d(true, given)), num_labels - len(np.unique(true))
    unseen = {"macro_f1": (present, num_labels, missing)} if missing else {}
    return Samples(counts, figures, shares, {"accuracy": most / len(target)}, right=right, unseen=unseen)


def label_sets(guess: np.ndarray, target: np.ndarray) -> Samples:
    """Return the samples of any number of labels an example, bool `[examples, labels]` each."""
    exact = (guess == target).all(1)
    sets, places = np.unique(np.packbits(target, axis=1), axis=0, return_inverse=True)
    most = int(np.bincount(places.ravel(), minlength=len(sets)).max())

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        right, given, true = np.split(sums, 3, axis=1)
        micro = f1(right.sum(1), given.sum(1), true.sum(1))
        return {"macro_f1": f1(right, given, true).mean(1), "micro_f1": micro}

    missing = int((~target.any(0)).sum())

    return of_sums(
        np.concatenate([guess & target, guess, target], axis=1),
        figures,
        shares={"accuracy": (int(exact.sum()), len(exact))},
        baselines={"accuracy": most / len(exact)},
        unseen={"macro_f1": (target.shape[1], target.shape[1], missing)} if missing else {},
    )


@final
class Classify(AbstractTask):
    """A text in, a label out (or every label that fits, when examples may have several)."""

    name: ClassVar[str] = "classify"
    inputs: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, reader: TextReader, labels: tuple[str, ...], *, multilabel: bool) -> None:
        self.reader = reader
        self.labels = labels
        self.multilabel = multilabel

    @property
    @override
    def vocabulary(self) -> Tokenizer:
        return self.reader.tokenizer

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple["Classify", Prepared]:
        columns = settings.columns
        label_reader = LabelReader(multilabel=bool(columns.get("multilabel")), separator=columns.get("separator"))
        texts, draft = TextColumn(source, columns["text"], settings.normalizer()), TextDraft(settings)
        labels = label_reader.read(source, columns["label"], texts.read(draft.add))
        notes = list(labels.notes)
        if len(labels.names) < 2:
            only = f"only one label ({labels.names[0]!r})" if labels.names else "no labels"
            raise InputError(
                f"{source.name}: expected at least two different labels in column '{columns['label']}', got {only}; "
                "a classifier has nothing to learn here. Is it the right column (--label-column)?"
            )
        in_valid, keys = np.zeros(len(labels), dtype=bool), draft.keys()
        if valid is None:
            in_valid = split_texts(keys, labels, settings.valid_share, source.name)
        in_train = labels.present & ~in_valid
        reader = draft.reader(texts, in_train)
        train_ids = draft.ids(reader, texts, in_train)
        reader.fit_features(train_ids, settings)
        task = cls(reader, labels.names, multilabel=label_reader.multilabel)
        train, cut = task._examples(train_ids, labels.take(in_train), keys[in_train], None)
        notes += cut
        if valid is None:
            chosen = labels.present & in_valid
            ids = draft.ids(reader, texts, chosen)
            held_out, _ = task._examples(ids, labels.take(chosen), keys[chosen], texts.kept(chosen, MAX_RAW))
        else:
            held_out, more = task.examples(valid, columns)
            notes += more
        return task, Prepared(train, held_out, notes, labels.lines[in_train])

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        check_columns(source, (columns["text"], columns["label"]))
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
        return Examples(columns | {"labels": labels.ids}, raw=raw, sort_by=sort_by), notes

    @override
    def about(self) -> dict[str, str]:
        return self.reader.about()

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
    def save(self, folder: Path) -> None:
        self.reader.save(folder)
        write_json(folder / LABELS, {"labels": self.labels, "multilabel": self.multilabel})

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> "Classify":
        with reading(folder / LABELS) as saved:
            labels, multilabel = tuple(map(str, saved["labels"])), bool(saved["multilabel"])
        return cls(TextReader.load(folder, settings), labels, multilabel=multilabel)

    @override
    def shape(self) -> ModelShape:
        return ModelShape(
            vocabulary_size=self.reader.vocabulary_size,
            num_outputs=len(self.labels),
            max_length=self.reader.max_length,
        )

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a softmax over the labels, or an independent coin for each where a text may have several.

        The hidden states of a linear model are the scores of the labels already.
        """
        width: int | None = None if isinstance(model, LinearBag) else model.width  # type: ignore[assignment]
        if self.multilabel:
            return Bernoulli(width, len(self.labels), label_smoothing=options.label_smoothing)
        return Softmax(width, len(self.labels), label_smoothing=options.label_smoothing)

    @override
    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        labels = examples.columns["labels"]
        if isinstance(labels, Ragged):
            targets = torch.zeros(len(indices), len(self.labels))
            for row, index in enumerate(indices):
                targets[row, labels[int(index)].tolist()] = 1.0
        else:
            targets = torch.from_numpy(labels[indices].astype(np.int64))
        return Batch(self.reader.inputs(examples, indices), targets)

    @override
    def meter(self) -> AbstractMeter:
        return LabelMeter(len(self.labels), multilabel=self.multilabel)

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
        }

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Return for each text its `label` (or `labels`), the `probability`, and the `top` candidates."""
        texts = check_texts(inputs, "a text")
        examples = Examples(self.reader.read(texts), raw=None)
        batch = Batch(self.reader.inputs(examples, np.arange(len(texts))), torch.zeros(len(texts)))
        with answering(model, head) as parameter:
            prediction = head(model(**batch.to(parameter.device, parameter.dtype).inputs))
        if self.multilabel:
            return self._several(texts, prediction, options)
        ids, log_probabilities = head.decode(prediction, min(options.top, len(self.labels)))
        answers = []
        for text, row, scores in zip(texts, ids.tolist(), log_probabilities.exp().tolist(), strict=True):
            top = [{"label": self.labels[i], "probability": p} for i, p in zip(row, scores, strict=True)]
            answers.append({"text": text, **top[0], "top": top})
        return answers

    def _several(self, texts: list[str], prediction: Tensor, options: AnswerOptions) -> list[dict[str, Any]]:
        answers = []
        for text, row in zip(texts, prediction.double().sigmoid(), strict=True):
            order = row.argsort(descending=True)[: options.top].tolist()
            top = [{"label": self.labels[i], "probability": float(row[i])} for i in order]
            chosen = [self.labels[i] for i in (row >= 0.5).nonzero().flatten().tolist()]
            answers.append({"text": text, "labels": chosen, "top": top})
        return answers

    @override
    def lines_of(self, answer: Mapping[str, Any]) -> list[str]:
        return candidate_lines(answer)

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return the confusion matrix, the labels' F1 and the worst mistakes."""
        del seed
        valid = prepared.valid
        predictions, targets = self.predictions(model, head, valid)
        sections = several_labels_sections if self.multilabel else single_label_sections
        return sections(self.labels, predictions.float(), targets, valid.raw or [])

    @override
    def describe(self, prepared: Prepared) -> str:
        return f"{len(prepared.train):,} texts with {len(self.labels):,} labels"
