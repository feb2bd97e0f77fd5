"""Tagging: a tag for each word of a sentence."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples, f1, of_sums
from thalweg.data.arrays.batches import Examples, pad
from thalweg.data.arrays.equal import View, WholeExamples, same_rows
from thalweg.data.arrays.ragged import IN_MEMORY, Ragged, RaggedBuilder
from thalweg.data.arrays.split import text_key, validation_rows
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.models.presets import ModelShape
from thalweg.tasks.base import AbstractMeter, AbstractTask, AnswerOptions, HeadOptions, Prepared, Settings
from thalweg.tasks.reading.labels import unseen
from thalweg.tasks.reading.saved import reading, write_json
from thalweg.tasks.reading.text_reader import MAX_RAW
from thalweg.tasks.reading.words import Sentence, WordReader, pieces, read_sentences
from thalweg.tasks.sections import F1
from thalweg.tasks.tag import report as tag_report
from thalweg.tasks.tag.spans import SpanScore, is_bio, spans_of, split_tag
from thalweg.tasks.verdict import Seen, main_figure, short

LABELS = "labels.json"


@final
class TagMeter(AbstractMeter):
    """Accuracy and macro F1 over words; with BIO tags also precision, recall and F1 of spans."""

    def __init__(self, tags: Sequence[str]) -> None:  # in the order of their ids
        self.num_tags = len(tags)
        self.spans = SpanScore(tags) if is_bio(tags) else None
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._spans: list[Tensor] = []

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        guess, target, mask = prediction.argmax(-1), batch.targets, batch.mask
        assert mask is not None
        if self.spans is not None:
            self.spans.to(guess.device)
            self.spans.update(guess, target, mask)
            self._spans.append(self.spans.counts(guess, target, mask))
        # Padding is marked and left out at the end: to leave it out here would mean to wait for the device.
        self._parts.append((guess.to(torch.int32), target.masked_fill(~mask, -1).to(torch.int32)))

    @override
    def compute(self) -> dict[str, float]:
        guess, target = (torch.cat([t.flatten() for t in parts]).long() for parts in zip(*self._parts, strict=True))
        guess, target = guess[target >= 0], target[target >= 0]
        num = max(2, self.num_tags)
        metrics = {
            "accuracy": float(multiclass_accuracy(guess, target, num, average="micro", validate_args=False)),
            "macro_f1": float(multiclass_f1_score(guess, target, num, average="macro", validate_args=False)),
        }
        return metrics if self.spans is None else metrics | self.spans.compute()

    @override
    def samples(self) -> Samples:
        """Return what each sentence adds: right, given and true words by tag, and spans by type."""
        rows, num_tags = [], self.num_tags
        for guess, target in self._parts:
            real = (target >= 0).cpu().numpy()
            sentences, g, t = np.nonzero(real)[0], guess.cpu().numpy()[real], target.cpu().numpy()[real]
            keys = (t[g == t], sentences[g == t]), (g, sentences), (t, sentences)
            flat = [np.bincount(s * num_tags + tags, minlength=len(real) * num_tags) for tags, s in keys]
            rows.append(np.stack([counts.reshape(-1, num_tags) for counts in flat], 1).astype(np.float32))
        words = np.concatenate(rows)
        sums = words.reshape(len(words), -1)
        if self.spans is not None:
            spans = torch.cat(self._spans).cpu().numpy().astype(np.float32)
            sums = np.concatenate([sums, spans.reshape(len(spans), -1)], 1)
        most = words[:, 2].sum(0)

        def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
            right, given, true = sums[:, : 3 * num_tags].reshape(-1, 3, num_tags).transpose(1, 0, 2)
            found = {
                "accuracy": right.sum(1) / true.sum(1),
                "macro_f1": f1(right, given, true).sum(1) / ((given + true) > 0.0).sum(1),
            }
            if self.spans is not None:
                found |= self.spans.scores(sums[:, 3 * num_tags :].reshape(len(sums), 3, -1))
            return found

        missing = int((most == 0.0).sum())
        present = int((words[:, 1:].sum((0, 1)) > 0.0).sum())
        return of_sums(
            sums,
            figures,
            unit="sentences",
            baselines={"accuracy": float(most.max() / most.sum())},
            unseen={"macro_f1": (present, num_tags, missing)} if missing else {},
        )


@final
class Tag(AbstractTask):
    """A sentence of words in, a tag for each word out.

    Words that training saw at least twice have their own ids; the others share the ids of their spelling (see
    `thalweg.tasks.reading.spelling`). Sentences longer than the model takes are read in pieces. With BIO tags (`B-X`,
    `I-X`, `O`) the spans count: they are measured, and they pick the best weights.

    Args:
        reader: from words to ids.
        tags: names of the tags; ids are places in it.
        max_length: longest piece in words.
    """

    name: ClassVar[str] = "tag"
    inputs: ClassVar[tuple[str, ...]] = ("tokens",)

    def __init__(self, reader: WordReader, tags: Sequence[str], max_length: int) -> None:
        self.reader = reader
        self.tags = tuple(tags)
        self.max_length = max_length
        self.has_spans = is_bio(self.tags)
        self._tag_ids = {tag: i for i, tag in enumerate(self.tags)}

    @property
    @override
    def vocabulary(self) -> Tokenizer:
        return self.reader.tokenizer

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple["Tag", Prepared]:
        columns = settings.columns
        chosen = None if valid is not None else _validation_sentences(source, columns, settings.valid_share)
        counts: Counter[str] = Counter()
        names: set[str] = set()
        for sentence in _sentences(source, columns, chosen, wanted=False):
            counts.update(sentence.words)
            names.update(sentence.tags)
        if len(names) < 2:
            only = f"only {min(names)!r}" if names else "none"
            raise InputError(
                f"{source.name}: expected at least two different tags in column {columns['tags']!r}, got {only}; is it "
                "the right column (--label-column)?"
            )
        task = cls(WordReader.fit(counts, settings), sorted(names), settings.max_length)
        lines: list[int] = []
        sentences = task._noted(_sentences(source, columns, chosen, wanted=False), lines)
        train, notes = task._read(source, sentences, settings, keep=0)
        if valid is None:
            held_out, _ = task._read(source, _sentences(source, columns, chosen, wanted=True), settings, keep=MAX_RAW)
        else:
            held_out, more = task._read(valid, _sentences(valid, columns), settings, keep=MAX_RAW)
            notes += more
        return task, Prepared(train, held_out, notes, np.array(lines, dtype=np.int64))

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        return self._read(source, _sentences(source, columns), None, keep=MAX_RAW)

    def _read(
        self, source: AbstractSource, sentences: Iterator[Sentence], settings: Settings | None, *, keep: int
    ) -> tuple[Examples, list[str]]:
        """Encode sentences in pieces; keep the words of the first `keep` pieces as they are."""
        spill = settings.spill if settings else IN_MEMORY
        tokens, tags = RaggedBuilder(np.int32, spill), RaggedBuilder(np.int32, spill)
        raw: list[str] = []
        num_long = 0
        for sentence in sentences:
            ids = self._ids(sentence, source.name)
            num_long += len(ids) > self.max_length
            tokens.extend(pieces(self.reader.encode(sentence.words), self.max_length))
            tags.extend(pieces(ids, self.max_length))
            if keep:
                raw += [
                    tag_report.DIVIDER.join(part) if len(raw) < keep else ""
                    for part in pieces(sentence.words, self.max_length)
                ]
        if not len(tokens):
            raise InputError(f"{source.name}: expected sentences of words with tags, got none.")
        note = f"{source.name}: {num_long:,} sentences of more than {self.max_length} words are read in pieces."
        columns: dict[str, Ragged | np.ndarray] = {"tokens": tokens.finish(), "tags": tags.finish()}
        return Examples(columns, raw if keep else None, sort_by=("tokens",)), [note] if num_long else []

    def _noted(self, sentences: Iterator[Sentence], lines: list[int]) -> Iterator[Sentence]:
        """Yield sentences, and note the line of each piece."""
        for sentence in sentences:
            lines.extend(sentence.line for _ in pieces(sentence.words, self.max_length))
            yield sentence

    def _ids(self, sentence: Sentence, name: str) -> list[int]:
        try:
            return [self._tag_ids[tag] for tag in sentence.tags]
        except KeyError as error:
            raise unseen("tag", error.args[0], "in this sentence", self.tags, name, sentence.line) from None

    @override
    def about(self) -> dict[str, str]:
        return {"examples": "training words"}

    @override
    def view(self, examples: Examples) -> View:
        tokens = examples.ragged("tokens")
        sees = (
            "all words of a sentence, rare ones by their spelling, and the place of the one to tag (fixed: the "
            f"normalization, the vocabulary of {self.vocabulary.vocabulary_size:,} words and spellings, the maximum "
            f"length of {self.max_length:,} words)"
        )
        same = same_rows((tokens.values[: int(tokens.offsets[-1])], tokens.lengths))
        return WholeExamples(same, sees, tokens.lengths)

    @override
    def answer_name(self, target: np.ndarray) -> str:
        return self.tags[int(target)]

    @override
    def save(self, folder: Path) -> None:
        self.reader.save(folder)
        write_json(folder / LABELS, {"tags": self.tags, "max_length": self.max_length})

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> "Tag":
        with reading(folder / LABELS) as saved:
            tags, max_length = [str(tag) for tag in saved["tags"]], int(saved["max_length"])
        return cls(WordReader.load(folder, settings), tags, max_length)

    @override
    def shape(self) -> ModelShape:
        return ModelShape(vocabulary_size=self.reader.tokenizer.vocabulary_size, max_length=self.max_length)

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a softmax over the tags."""
        width: int = model.width  # type: ignore[assignment]
        return Softmax(width, len(self.tags), label_smoothing=options.label_smoothing)

    @override
    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        padded, mask = pad(examples.ragged("tokens"), indices)
        return Batch({"tokens": padded, "mask": mask}, pad(examples.ragged("tags"), indices)[0], mask)

    @override
    def meter(self) -> AbstractMeter:
        return TagMeter(self.tags)

    @override
    def verdict(self, metrics: Mapping[str, float], seen: Seen) -> str:
        if self.has_spans:
            return main_figure(metrics, "span_f1", seen, "sentences", "span F1")
        said = main_figure(metrics, "accuracy", seen, "sentences", "accuracy of words")
        if seen.examples is None or "accuracy" not in seen.baselines:
            return said
        most = int(np.bincount(seen.examples.ragged("tags").values).argmax())
        return f"{said}; always answering {self.tags[most]!r} gives {short(seen.baselines['accuracy'])}"

    @property
    @override
    def selects_by(self) -> tuple[str, str]:
        return ("span_f1", "higher") if self.has_spans else ("accuracy", "higher")

    @property
    @override
    def explanations(self) -> dict[str, tuple[str, str]]:
        texts = {
            "accuracy": ("higher", "Fraction of validation words with the correct tag."),
            "macro_f1": ("higher", f"{F1}, macro-averaged over tags."),
        }
        if self.has_spans:
            texts |= {
                "span_f1": ("higher", "F1 over spans: one counts when its start, end and type are all right."),
                "span_precision": ("higher", "Fraction of the predicted spans that are right."),
                "span_recall": ("higher", "Fraction of the true spans that are found."),
            }
            kinds = sorted({split_tag(tag)[1] for tag in self.tags} - {""})
            texts |= {f"span_f1 {kind}": ("higher", f"F1 over spans of type {kind}.") for kind in kinds}
        return texts

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Tag each input: a list of words, or a text, which is split into words (see `WordReader.split`).

        Returns:
            For each input `{"tokens": [...], "tags": [...], "spans": [{"type", "start", "end", "text"}]}`; start and
            end (not included) count words, and without BIO tags there are no spans.

        Raises:
            InputError: if an input is neither a text nor a list of words.
        """
        del options
        sentences = [self._words(value, place) for place, value in enumerate(inputs, start=1)]
        parts = [list(pieces(words, self.max_length)) for words in sentences]
        ids = [self.reader.encode(part) for words in parts for part in words]
        found = iter(self._answers(model, head, ids))
        answers = []
        for words, split in zip(sentences, parts, strict=True):
            tags = [self.tags[i] for _ in split for i in next(found)]
            spans = spans_of(tags) if self.has_spans else []
            shown = [{**dataclasses.asdict(s), "text": " ".join(words[s.start : s.end])} for s in spans]
            answers.append({"tokens": words, "tags": tags, "spans": shown})
        return answers

    def _words(self, value: Any, place: int) -> list[str]:
        if isinstance(value, str):
            return self.reader.split(value)
        if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
            return list(value)
        raise InputError(f"Input {place} must be a text or a list of words; got {type(value).__name__}.")

    def _answers(self, model: nn.Module, head: AbstractHead, ids: list[list[int]]) -> list[list[int]]:
        """Return the best tag of each word, in batches of sentences of like length."""
        found: list[list[int]] = [[] for _ in ids]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for batch in pieces(order, tag_report.BATCH_SIZE):
            tokens, mask = pad(Ragged.from_lists([ids[i] for i in batch]), np.arange(len(batch)))
            best = tag_report.best_tags(model, head, {"tokens": tokens, "mask": mask})
            for i, row in zip(batch, best.tolist(), strict=True):
                found[i] = row[: len(ids[i])]
        return found

    @override
    def lines_of(self, answer: Mapping[str, Any]) -> list[str]:
        return ["  ".join(f"{word}/{tag}" for word, tag in zip(answer["tokens"], answer["tags"], strict=True))]

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return the confusion of tags, F1 by tag and by type of span, and the sentences with the most errors."""
        del seed
        batches = (
            self.batch(prepared.valid, np.arange(start, min(start + tag_report.BATCH_SIZE, len(prepared.valid))))
            for start in range(0, len(prepared.valid), tag_report.BATCH_SIZE)
        )
        return tag_report.sections(self.tags, model, head, batches, prepared.valid.raw or [])

    @override
    def describe(self, prepared: Prepared) -> str:
        num_words = int(prepared.train.ragged("tokens").lengths.sum())
        kinds = len({split_tag(tag)[1] for tag in self.tags if tag != "O"})
        what = f"{kinds} types of spans" if self.has_spans else f"{len(self.tags)} tags"
        return f"{len(prepared.train):,} sentences ({num_words:,} words) with {what}"


def _sentences(
    source: AbstractSource, columns: dict[str, Any], chosen: np.ndarray | None = None, *, wanted: bool = True
) -> Iterator[Sentence]:
    """Yield the sentences for which `chosen` is `wanted`; all of them where nothing is chosen."""
    place = 0
    for rows in read_sentences(source, columns):
        for sentence in rows:
            if chosen is None or bool(chosen[place]) == wanted:
                yield sentence
            place += 1


def _validation_sentences(source: AbstractSource, columns: dict[str, Any], share: float) -> np.ndarray:
    """Return which sentences are for validation: chosen by their words, and no tag is only among them."""
    keys: list[int] = []
    tag_ids: dict[str, int] = {}
    tags = RaggedBuilder(np.int32)
    for sentence in _sentences(source, columns):
        keys.append(text_key(" ".join(sentence.words)))
        tags.append(sorted({tag_ids.setdefault(tag, len(tag_ids)) for tag in sentence.tags}))
    if not keys:
        raise InputError(f"{source.name}: expected sentences of words with tags, got none.")
    per_sentence = tags.finish()
    has_tag = np.zeros((len(keys), len(tag_ids)), dtype=bool)
    has_tag[np.repeat(np.arange(len(keys)), per_sentence.lengths), per_sentence.values] = True
    return validation_rows(np.array(keys, dtype=np.uint64), share, has_tag, source.name)
