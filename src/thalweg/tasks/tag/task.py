"""Tagging: a tag for each word of a sentence."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.collate import pad
from thalweg.data.arrays.equal import View, WholeExamples, same_rows
from thalweg.data.arrays.ragged import IN_MEMORY, Ragged, RaggedBuilder
from thalweg.data.columns.facts import kind_of
from thalweg.data.columns.problems import one_label
from thalweg.data.columns.reading import ReadSource
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.crf import CRF, NOT_GIVEN
from thalweg.heads.softmax import Softmax
from thalweg.models.shape import ModelShape
from thalweg.storage.forms import distinct_texts, record, truth, whole
from thalweg.tasks.base import AbstractMeter, AbstractTask, HeadOptions, Prepared, Settings
from thalweg.tasks.growing import Growth, grown, names_from
from thalweg.tasks.questions import AnswerOptions, text_problem
from thalweg.tasks.reading.labels import unseen
from thalweg.tasks.reading.saved import json_bytes, reading
from thalweg.tasks.reading.subwords import SubwordReader
from thalweg.tasks.reading.text_reader import MAX_RAW
from thalweg.tasks.reading.words import Sentence, WordReader, pieces
from thalweg.tasks.sections import F1
from thalweg.tasks.tag import report as tag_report
from thalweg.tasks.tag.features import FEATURES, WordFeatures
from thalweg.tasks.tag.inputs import inputs_of, inputs_of_words, reader_of
from thalweg.tasks.tag.meter import TagMeter
from thalweg.tasks.tag.preference import choose_preference
from thalweg.tasks.tag.scheme import allowed_steps, num_broken
from thalweg.tasks.tag.sentences import chosen_sentences, validation_sentences
from thalweg.tasks.tag.spans import is_bio, spans_of, split_tag
from thalweg.tasks.tag.splitting import SPLITTER, Splitter
from thalweg.tasks.verdict import Seen, main_figure, short

LABELS = "labels.json"
MAX_TEXTS = 50_000  # sentences from whose text it is learned how texts are split into words


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
        features: what a linear model reads of words; None for networks, which read the ids of words.
        constrained: whether a tag only follows those that the scheme of the spans lets it follow.
    """

    name: ClassVar[str] = "tag"
    inputs: ClassVar[tuple[str, ...]] = ("tokens",)
    row_is_example: ClassVar[bool] = False

    def __init__(
        self,
        reader: WordReader | SubwordReader,
        tags: Sequence[str],
        max_length: int,
        features: WordFeatures | None = None,
        *,
        constrained: bool = False,
    ) -> None:
        self.reader = reader
        self.features = features
        self.constrained = constrained
        self.splitter: Splitter | None = None
        self.tags = tuple(tags)
        self.max_length = max_length
        self.has_spans = is_bio(self.tags)
        self._tag_ids = {tag: i for i, tag in enumerate(self.tags)}

    @property
    @override
    def vocabulary(self) -> AnyTokenizer | None:
        return self.reader.tokenizer if self.features is None else None

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple["Tag", Prepared]:
        columns = settings.columns
        chosen = None if valid is not None else validation_sentences(source, columns, settings.valid_share)
        counts: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        names: set[str] = set()
        texts: list[tuple[str, list[str]]] = []
        is_linear = settings.layout == "features"
        for sentence in chosen_sentences(source, columns, chosen, wanted=False):
            counts.update(sentence.words)
            names.update(tag for tag in sentence.tags if tag is not None)
            if sentence.text is not None and len(texts) < MAX_TEXTS:
                texts.append((sentence.text, sentence.words))
            if is_linear:
                pairs.update(itertools.pairwise(sentence.words))
        if len(names) < 2:
            raise InputError(f"{source.name}: {one_label(sorted(names), columns['tags'], 'tag')}")
        start = settings.started_as(cls)
        old = (None, None, None) if start is None else (start.reader, start.features, start.tags)
        features = WordFeatures.fit(counts, pairs, old[1]) if is_linear else None
        tags = names_from(old[2], tuple(sorted(names)))
        task = cls(reader_of(counts, settings, old[0]), tags, settings.max_length, features)
        task.splitter = Splitter.fit(texts)
        if start is not None:
            task.splitter = task.splitter or start.splitter
        lines: list[int] = []
        sentences = task._noted(chosen_sentences(source, columns, chosen, wanted=False), lines)
        train, notes = task._read(source, sentences, settings, keep=0)
        if valid is None:
            held_out, _ = task._read(
                source, chosen_sentences(source, columns, chosen, wanted=True), settings, keep=MAX_RAW
            )
        else:
            task._known_to(valid)
            held_out, more = task._read(valid, chosen_sentences(valid, columns), settings, keep=MAX_RAW)
            notes += more
        notes += task._constrain(train.ragged("tags"), held_out.ragged("tags"))
        task.constrained = task.constrained and (start is None or start.constrained)
        return task, Prepared(train, held_out, notes, np.array(lines, dtype=np.int64))

    def _constrain(self, *parts: Ragged) -> list[str]:
        """Rule out steps that the scheme of the spans does not have, unless the data take them; return what to say."""
        if not self.has_spans:
            return []
        broken = sum(num_broken(*allowed_steps(self.tags), sentences) for sentences in parts)
        self.constrained = broken == 0
        return (
            [
                f"{broken:,} sentences have tags that the scheme of their spans (BIO or BIOES) does not allow, such as "
                "an I without its B, so any tag may follow any other."
            ]
            if broken
            else []
        )

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        self._known_to(source)
        return self._read(source, chosen_sentences(source, columns), None, keep=MAX_RAW)

    def _known_to(self, source: AbstractSource) -> None:
        if isinstance(source, ReadSource):
            source.know(self.tags)

    def _read(
        self, source: AbstractSource, sentences: Iterator[Sentence], settings: Settings | None, *, keep: int
    ) -> tuple[Examples, list[str]]:
        """Encode sentences in pieces; keep the words of the first `keep` pieces as they are."""
        spill = settings.spill if settings else IN_MEMORY
        tokens, tags, features, counts, starts = (RaggedBuilder(np.int32, spill) for _ in range(5))
        raw: list[str] = []
        num_long = 0
        for sentence in sentences:
            ids, bounds = self._ids(sentence, source.name), list(self._bounds(sentence.words))
            num_long += len(bounds) > 1
            for start, stop in bounds:
                part = sentence.words[start:stop]
                tokens.append(self.reader.encode(part))
                tags.append(ids[start:stop])
                if isinstance(self.reader, SubwordReader):
                    starts.append(self.reader.places(part))
                if self.features is not None:
                    found, numbers = self.features.encode(part)
                    features.append(np.frombuffer(found, dtype=np.int32))
                    counts.append(numbers)
                if keep:
                    raw.append(tag_report.DIVIDER.join(part) if len(raw) < keep else "")
        if not len(tokens):
            raise InputError(f"{source.name}: expected sentences of words with tags, got none.")
        unit = "tokens" if isinstance(self.reader, SubwordReader) else "words"
        note = f"{source.name}: {num_long:,} sentences of more than {self.max_length} {unit} are read in pieces."
        columns: dict[str, Ragged | np.ndarray] = {"tokens": tokens.finish(), "tags": tags.finish()}
        if isinstance(self.reader, SubwordReader):
            columns["places"] = starts.finish()
        if self.features is not None:
            columns |= {"features": features.finish(), "counts": counts.finish()}
        return Examples(columns, raw if keep else None, sort_by=("tokens",)), [note] if num_long else []

    def _noted(self, sentences: Iterator[Sentence], lines: list[int]) -> Iterator[Sentence]:
        """Yield sentences, and note the line of each piece."""
        for sentence in sentences:
            lines.extend(sentence.line for _ in self._bounds(sentence.words))
            yield sentence

    def _bounds(self, words: Sequence[str]) -> Iterable[tuple[int, int]]:
        """Return where the pieces of a sentence begin and end, in words."""
        if isinstance(self.reader, SubwordReader):
            return self.reader.bounds(words)
        length = self.max_length
        return ((start, min(start + length, len(words))) for start in range(0, len(words), length))

    def _ids(self, sentence: Sentence, name: str) -> list[int]:
        try:
            return [NOT_GIVEN if tag is None else self._tag_ids[tag] for tag in sentence.tags]
        except KeyError as error:
            raise unseen("tag", error.args[0], "in this sentence", self.tags, name, sentence.line) from None

    @override
    def growth(self, old: AbstractTask) -> list[Growth]:
        before, after = old.shape(), self.shape()
        what = "word" if self.features is None else "feature"
        words = grown(what, before.vocabulary_size, after.vocabulary_size)
        return [words, grown("tag", before.num_outputs, after.num_outputs)]

    @override
    def about(self) -> dict[str, str]:
        return {"examples": "training words"}

    @override
    def view(self, examples: Examples) -> View:
        if isinstance(self.reader, SubwordReader):
            sees = f"all subwords of a sentence, at most {self.max_length:,}, and the place of the word to tag"
            sees += " (fixed: the tokenizer of the pretrained model, the maximum length)"
            names: tuple[str, ...] = ("tokens", "places")
        elif self.features is None:
            sees = (
                "all words of a sentence, rare ones by their spelling, and the place of the one to tag (fixed: the "
                f"normalization, the vocabulary of {self.reader.tokenizer.vocabulary_size:,} words and spellings, the "
                f"maximum length of {self.max_length:,} words)"
            )
            names = ("tokens",)
        else:
            sees = (
                f"the {len(self.features):,} features of a sentence's words, and the place of the one to tag (fixed: "
                f"the features, the maximum length of {self.max_length:,} words)"
            )
            names = ("features", "counts")
        columns = [examples.ragged(name) for name in names]
        same = same_rows(*((one.values[: int(one.offsets[-1])], one.lengths) for one in columns))
        tags = examples.ragged("tags")
        given = tags.values[: int(tags.offsets[-1])] != NOT_GIVEN
        return WholeExamples(same, sees, tags.lengths, None if given.all() else given)

    @override
    def answer_name(self, target: np.ndarray) -> str:
        return self.tags[int(target)]

    @override
    def files(self) -> dict[str, bytes]:
        saved = {"tags": self.tags, "max_length": self.max_length, "constrained": self.constrained}
        found = self.reader.files() | {LABELS: json_bytes(saved)}
        if self.features is not None:
            found[FEATURES] = self.features.to_bytes()
        if self.splitter is not None:
            found[SPLITTER] = self.splitter.to_bytes()
        return found

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> "Tag":
        form = record({"constrained": truth()}, tags=distinct_texts(least=2), max_length=whole(1, 2**31))
        with reading(folder / LABELS, form) as saved:
            tags, max_length, constrained = saved["tags"], saved["max_length"], saved.get("constrained", False)
        features = WordFeatures.load(folder) if settings.layout == "features" else None
        reader = (SubwordReader if settings.pretrained else WordReader).load(folder, settings)
        task = cls(reader, tags, max_length, features, constrained=constrained)
        task.splitter = Splitter.load(folder)
        return task

    @override
    def shape(self) -> ModelShape:
        size = self.reader.tokenizer.vocabulary_size if self.features is None else len(self.features)
        config = self.reader.pretrained.config if isinstance(self.reader, SubwordReader) else None
        return ModelShape(size, max_length=self.max_length, num_outputs=len(self.tags), config=config)

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a CRF over the tags of a sentence, or a softmax over those of each word."""
        width: int | None = None if self.features is not None else model.width  # type: ignore[assignment]
        if options.chain:
            steps = allowed_steps(self.tags) if self.constrained else (None, None)
            allowed, ends = (None if rule is None else torch.from_numpy(rule) for rule in steps)
            return CRF(width, len(self.tags), allowed=allowed, ends=ends)
        return Softmax(width, len(self.tags), label_smoothing=options.label_smoothing)

    @override
    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        tags, mask = pad(examples.ragged("tags"), indices)
        unknown = tags == NOT_GIVEN
        given = mask & ~unknown if bool(unknown.any()) else mask
        inputs = inputs_of(examples.take(indices).columns, self.reader, self.features)
        return Batch(inputs if "places" in inputs else inputs | {"mask": mask}, tags, given)

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
        ids = seen.examples.ragged("tags").values
        most = int(np.bincount(ids[ids >= 0]).argmax())
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
        """Tag each input: a list of words, or a text, which is split into words as the training data were.

        How is learned from the texts in CoNLL-U's comments (see `Splitter`); else `WordReader.split` is the rule.

        Returns:
            For each input `{"tokens": [...], "tags": [...], "probabilities": [...], "spans": [{"type", "start", "end",
            "text"}]}`: the probability of each tag, over all tags of the other words; start and end (not included)
            count words, and without BIO tags there are no spans.

        Raises:
            InputError: if an input is neither a text nor a list of words.
        """
        self.check(inputs, options)
        sentences = [self._words(value) for value in inputs]
        parts = [[words[start:stop] for start, stop in self._bounds(words)] for words in sentences]
        found = iter(self._answers(model, head, [list(part) for words in parts for part in words]))
        answers = []
        for words, split in zip(sentences, parts, strict=True):
            best = [pair for _ in split for pair in next(found)]
            tags = [self.tags[i] for i, _ in best]
            spans = spans_of(tags) if self.has_spans else []
            shown = [{**dataclasses.asdict(s), "text": " ".join(words[s.start : s.end])} for s in spans]
            probabilities = [probability for _, probability in best]
            answers.append({"tokens": words, "tags": tags, "probabilities": probabilities, "spans": shown})
        return answers

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        del options
        if isinstance(value, list | tuple):
            other = [word for word in value if not isinstance(word, str)]
            return f"expected a list of words, got one with {kind_of(other[0])} in it" if other else ""
        return text_problem(value, "a text or a list of words")

    def _words(self, value: str | Sequence[str]) -> list[str]:
        return (self.splitter or self.reader).split(value) if isinstance(value, str) else list(value)

    @override
    def input_of(self, cells: Sequence[Any], *, plain: bool) -> tuple[Any, str]:
        """Return words as training reads them: a list, or a text with spaces between them; of plain text, the text."""
        (value,) = cells
        if isinstance(value, str) and not plain:
            return value.split(), ""
        if isinstance(value, list) and all(isinstance(word, str | int | float) for word in value):
            return list(map(str, value)), ""
        return value, ""  # `problem` tells what is wrong with it

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return "tokens", "tags", "probabilities", "spans"

    @override
    def table_columns(self, top: int) -> tuple[str, ...]:
        return ("tokens", "tags", *(("spans",) if self.has_spans else ()))

    @override
    def table_rows(self, answer: Mapping[str, Any], top: int) -> list[dict[str, Any]]:
        """Return one row, with spaces between words and tags; as lists where a word has a space itself."""
        is_plain = not any(len(word.split()) != 1 for word in answer["tokens"])
        row = {key: " ".join(answer[key]) if is_plain else answer[key] for key in ("tokens", "tags")}
        return [row | {"spans": answer["spans"]}]

    def _answers(
        self, model: nn.Module, head: AbstractHead, sentences: list[list[str]]
    ) -> list[list[tuple[int, float]]]:
        """Return the best tag of each word and its probability, in batches of sentences of like length."""
        found: list[list[tuple[int, float]]] = [[] for _ in sentences]
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        for batch in pieces(order, tag_report.BATCH_SIZE):
            inputs = self.read_words([sentences[i] for i in batch])
            best, probabilities = tag_report.best_tags(model, head, inputs)
            for i, *rows in zip(batch, best.tolist(), probabilities.tolist(), strict=True):
                found[i] = list(zip(*rows, strict=True))[: len(sentences[i])]
        return found

    def read_words(self, sentences: list[list[str]]) -> dict[str, Tensor]:
        """Return what the model reads of sentences of words, each of at most `max_length`."""
        return inputs_of_words(sentences, self.reader, self.features)

    @override
    def lines_of(self, answer: Mapping[str, Any], top: int = 0) -> list[str]:
        return ["  ".join(f"{word}/{tag}" for word, tag in zip(answer["tokens"], answer["tags"], strict=True))]

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return the confusion of tags, F1 by tag and by type of span, and the sentences with the most errors."""
        del seed
        batches = self._batches(prepared.valid)
        return tag_report.sections(self.tags, model, head, batches, prepared.valid.raw or [])

    def _batches(self, examples: Examples) -> Iterator[Batch]:
        places = range(len(examples))
        return (self.batch(examples, np.array(part)) for part in pieces(places, tag_report.BATCH_SIZE))

    @override
    def tune(self, model: nn.Module, head: AbstractHead, examples: Examples) -> bool:
        return self.has_spans and choose_preference(self.tags, model, head, self._batches(examples))

    @override
    def describe(self, prepared: Prepared) -> str:
        num_words = prepared.in_all(int(prepared.train.ragged("tags").lengths.sum()))
        kinds = len({split_tag(tag)[1] for tag in self.tags if tag != "O"})
        what = f"{kinds} types of spans" if self.has_spans else f"{len(self.tags)} tags"
        return f"{prepared.num_train:,} sentences ({num_words:,} words) with {what}"
