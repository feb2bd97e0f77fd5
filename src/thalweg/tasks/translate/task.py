"""Translation: a text in, a text out, learned from pairs."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.collate import pad
from thalweg.data.arrays.equal import View
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.split import validation_rows
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError, counted
from thalweg.heads.base import AbstractHead
from thalweg.models.shape import ModelShape
from thalweg.tasks.base import AbstractMeter, AbstractTask, Prepared, Settings
from thalweg.tasks.growing import Growth, grown
from thalweg.tasks.questions import AnswerOptions, flat, text_problem
from thalweg.tasks.reading.text_column import TextColumn
from thalweg.tasks.translate import report as translate_report
from thalweg.tasks.translate import scores
from thalweg.tasks.translate.decoding import BEAM, DECODED_TOGETHER, Translation, answer_of, prefix_places, translated
from thalweg.tasks.translate.pairs import Pairs, Reading, Redrawn, as_bytes, tokens_of, view_of
from thalweg.tasks.translate.scored import ScoredPairs
from thalweg.tasks.verdict import Seen, main_figure
from thalweg.tasks.writing.base import AbstractWritingTask
from thalweg.tasks.writing.token_sums import TokenMeter, perplexity
from thalweg.tasks.written import AS_PREDICTED, Generated, Scoring

SOURCE_TOKENIZER = "source_tokenizer.json"
NUM_JUDGED = 200  # validation texts that each evaluation during training translates, where these pick the weights
GREEDY = AnswerOptions(beam=1)
NAMED = f"{', '.join(scores.NAMES.values())} and exact match"


@final
@dataclasses.dataclass(eq=False, repr=False)
class Translate(AbstractWritingTask):
    """A source text in, a target text out.

    Source and target share one vocabulary, which suits languages that have names, numbers and word stems in common, or
    each has its own, which suits languages of different scripts.
    Subwords ("bpe") are joined only where they meet at least 20 times, so that small data get a small vocabulary. Each
    text ends in the id `<eos>`, unless it was cut; the decoder begins with `<bos>`.

    Args:
        normalizer: steps before tokenizing, for both sides.
        tokenizer: text -> ids, of the targets, and of the sources where they have none of their own.
        max_length: longest text in tokens, its end included.
        spill: where arrays of ids go that are too large for memory.
        source_tokenizer: that of the sources; None: there is one for both.
        long: what becomes of longer training pairs: "drop" or "cut" (see `thalweg.tasks.translate.pairs.Reading`).
        max_ratio: how many times as many tokens one side of a training pair may have as the other; 0: any number.
        bpe_dropout: see `thalweg.data.text.subwords.dropout.Dropout`; both sides of training batches are drawn.
        bleu_tokenizer: see `thalweg.tasks.translate.scores.score`.
        select: the metric of written texts that picks the best weights, "bleu" or "chrf"; "": the loss does.
        scoring: how an evaluation writes and measures texts.
    """

    name: ClassVar[str] = "translate"
    inputs: ClassVar[tuple[str, ...]] = ("source",)
    target: ClassVar[str] = "target"
    min_pair_count: ClassVar[int] = 20  # what is rarer stays in parts, which says more about unseen words

    _: dataclasses.KW_ONLY
    source_tokenizer: AnyTokenizer | None = None
    long: str = "drop"
    max_ratio: float = 0.0
    bpe_dropout: float = 0.0
    bleu_tokenizer: str = "13a"
    select: str = ""
    scoring: Scoring = AS_PREDICTED
    _measured: tuple[Examples | None, dict[int, str]] = dataclasses.field(default=(None, {}), init=False)

    @classmethod
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple["Translate", Prepared]:
        """Read the pairs; the same source text is never in both the training and the validation part."""
        if settings.max_length < 2:
            raise InputError(f"--max-length must be at least 2, for a token and the end; got {settings.max_length}.")
        scores.require_tokenizer(settings.bleu_tokenizer)
        pairs = Pairs(source, settings.columns, settings.normalizer())
        keep, notes = pairs.complete()
        in_valid = np.zeros(len(keep), dtype=bool)
        if valid is None:
            in_valid[keep] = validation_rows(pairs.sources.keys()[keep], settings.valid_share, name=source.name)
        chosen = keep & ~in_valid
        task = cls._of(cls._learned(pairs, chosen, settings), settings)
        train, left_out = task._reading.training(pairs, chosen)
        if not len(train):
            raise InputError(" ".join([f"{source.name}: no pair is left to train on.", *left_out]))
        if valid is None:
            held_out, cut = task._reading.held_out(pairs, keep & in_valid)
        else:
            held_out, cut = task.examples(valid, settings.columns)
        notes += left_out + [f"Validation: {note}" for note in cut]
        return task, Prepared(train, held_out, [*task.of_vocabulary(settings), *notes, *task._said(held_out)])

    @classmethod
    def _of(cls, known: Mapping[str, Any], settings: Settings) -> "Translate":
        same = {
            name: getattr(settings, name)
            for name in ("bleu_tokenizer", "select", "long", "max_ratio", "bpe_dropout", "spill")
        }
        return cls(settings.normalizer(), max_length=settings.max_length, **same, **known)

    @classmethod
    def _learned(cls, pairs: Pairs, rows: np.ndarray, settings: Settings) -> dict[str, Any]:
        """Return the arguments about the vocabulary, or both of them, of the pairs that are trained on."""

        def texts(*sides: TextColumn) -> Iterable[str]:
            return (text for side in sides for part in side.chosen(rows) for text in part)

        if settings.vocabularies == "joint" or settings.pretrained:
            return cls.learn_vocabulary(texts(pairs.sources, pairs.targets), settings)
        known = cls.learn_vocabulary(texts(pairs.targets), settings)
        old = None if settings.start is None else settings.start.source_tokenizer
        return known | {"source_tokenizer": cls.learn_tokenizer(texts(pairs.sources), settings, old)}

    def _said(self, held_out: Examples) -> list[str]:
        """Return what has to be known of the figures on these examples before training."""
        references = translate_report.references_of(held_out, translate_report.evenly_spaced(len(held_out), NUM_JUDGED))
        found = scores.notes(references, self.bleu_tokenizer)
        if self.select:
            found.append(
                f"The weights are picked by {scores.NAMES[self.select]} of greedy translations (beam 1) of "
                f"{counted(len(references[0]), 'validation text')}."
            )
        return found

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        pairs = Pairs(source, columns, self.normalizer)
        keep, notes = pairs.complete()
        examples, cut = self._reading.held_out(pairs, keep)
        for number, (name, texts) in enumerate(self.scoring.references.items(), start=2):
            if len(texts) != len(keep) or source.num_bad_rows:
                unread = f" (and {counted(source.num_bad_rows, 'unreadable row')})" if source.num_bad_rows else ""
                raise InputError(
                    f"--references {name}: expected one line for each row of {source.name}; got "
                    f"{counted(len(texts), 'line')} for {counted(len(keep), 'row')}{unread}."
                )
            wanted = [texts[row] for row in np.flatnonzero(keep).tolist()]
            column = as_bytes([self.normalizer.many(wanted)], self.spill)
            examples.columns[f"{translate_report.FURTHER}{number}_text"] = column
        return examples, notes + cut

    @override
    def with_scoring(self, scoring: Scoring) -> "Translate":
        super().with_scoring(Scoring(stride=scoring.stride))  # refuses it
        if scoring.bleu_tokenizer is not None:
            scores.require_tokenizer(scoring.bleu_tokenizer)
        task = dataclasses.replace(self, scoring=scoring, bleu_tokenizer=scoring.bleu_tokenizer or self.bleu_tokenizer)
        task._as_asked()  # checks the numbers
        return task

    def _as_asked(self) -> AnswerOptions:
        """Return how an evaluation translates: as `predict` does, unless it was told otherwise."""
        beam, power = self.scoring.beam, self.scoring.length_penalty
        return AnswerOptions(
            beam=BEAM if beam is None else beam, length_penalty=AnswerOptions.length_penalty if power is None else power
        )

    @override
    def training_examples(self, source: AbstractSource, columns: dict[str, Any]) -> Examples:
        """Read some pairs to train on; none may be left."""
        pairs = Pairs(source, columns, self.normalizer)
        return self._reading.training(pairs, pairs.complete()[0])[0]

    @property
    def _reading(self) -> Reading:
        sides = self.source_vocabulary, self.tokenizer
        return Reading(*sides, self.max_length, self.spill, long=self.long, max_ratio=self.max_ratio)

    @property
    def source_vocabulary(self) -> AnyTokenizer:
        """The tokenizer of the sources."""
        return self.tokenizer if self.source_tokenizer is None else self.source_tokenizer

    @override
    def about(self) -> dict[str, str]:
        return {"examples": "training tokens"}

    def view(self, examples: Examples) -> View:
        """Return the target tokens, each predicted from the source text and the target tokens before it."""
        return view_of(
            examples, f"{self.tokenizer.vocabulary_size:,} tokens, the maximum length of {self.max_length:,}"
        )

    @override
    def files(self) -> dict[str, bytes]:
        own = {} if self.source_tokenizer is None else {SOURCE_TOKENIZER: self.source_tokenizer.to_bytes()}
        return self.vocabulary_files() | own

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> "Translate":
        known = cls.read_vocabulary(folder, settings)
        if settings.vocabularies == "separate" and not settings.pretrained:
            known["source_tokenizer"] = cls.read_tokenizer(folder / SOURCE_TOKENIZER, settings)
        return cls._of(known, settings)

    @override
    def shape(self) -> ModelShape:
        sizes = self.source_vocabulary.vocabulary_size, self.tokenizer.vocabulary_size
        return dataclasses.replace(self.vocabulary_shape, vocabulary_size=sizes[0], target_vocabulary_size=sizes[1])

    @override
    def growth(self, old: AbstractTask) -> list[Growth]:
        before, after = old.shape(), self.shape()
        sides = [grown("word", before.target_vocabulary_size, after.target_vocabulary_size)]
        if self.source_tokenizer is not None:
            sides.append(grown("source word", before.vocabulary_size, after.vocabulary_size))
        return sides

    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        """Return source tokens with their mask, the target behind `<bos>` as decoder tokens, and the target."""
        tokens, mask = pad(examples.ragged("source"), indices, padding=self.source_vocabulary.pad)
        targets, target_mask = pad(examples.ragged("target"), indices)
        decoder_tokens = torch.cat([torch.full((len(targets), 1), self.tokenizer.begin), targets[:, :-1]], 1)
        return Batch({"tokens": tokens, "mask": mask, "decoder_tokens": decoder_tokens}, targets, target_mask)

    @property
    @override
    def drawn_batch(self) -> Callable[[Examples, np.ndarray, np.ndarray, int], Batch] | None:
        if not self.bpe_dropout:
            return None
        draw = Redrawn(self.source_vocabulary, self.tokenizer, self.bpe_dropout, self.max_length)
        return lambda *asked: self.batch(*draw(*asked))

    @override
    def meter(self) -> AbstractMeter:
        return TokenMeter(lambda nats, accuracy: {"token_accuracy": accuracy, "perplexity": perplexity(nats)}, "texts")

    @override
    def verdict(self, metrics: Mapping[str, float], seen: Seen) -> str:
        measured = dataclasses.replace(seen, num_examples=seen.num_written or seen.num_examples)
        for name in ("bleu", "chrf"):
            # Where no run of four words can be found, chrF is what says something.
            if name in metrics and (name == "chrf" or self._counts_runs(seen)):
                return main_figure(metrics, name, measured, "texts", scores.NAMES[name])
        return main_figure(metrics, "perplexity", seen, "texts")

    def _counts_runs(self, seen: Seen) -> bool:
        if seen.examples is None:
            return True
        rows = translate_report.evenly_spaced(len(seen.examples), 10 * NUM_JUDGED)
        return scores.has_runs_of_four(translate_report.references_of(seen.examples, rows), self.bleu_tokenizer)

    @property
    @override
    def explanations(self) -> dict[str, tuple[str, str]]:
        return scores.EXPLANATIONS

    @property
    @override
    def selects_by(self) -> tuple[str, str]:
        return (self.select, "higher") if self.select else ("loss", "lower")

    @property
    @override
    def num_judged(self) -> int:
        return NUM_JUDGED if self.select else 0

    @override
    def generated_metrics(
        self, model: nn.Module, head: AbstractHead, examples: Examples, limit: int, *, quick: bool = False
    ) -> Generated:
        """Return sacreBLEU's figures of translations made as `predict` makes them.

        `quick` leaves out those that take long, and takes the most probable token each time.
        """
        indices = translate_report.evenly_spaced(len(examples), limit)
        options = GREEDY if quick else self._as_asked()
        found = self._evaluated(model, head, examples, indices, options)
        self._measured = (None, {}) if quick else (examples, dict(zip(indices.tolist(), found, strict=True)))
        references = translate_report.references_of(examples, indices)
        wanted = scores.QUICK if quick else tuple(scores.NAMES)
        scored = scores.score(found, references, tokenizer=self.bleu_tokenizer, metrics=wanted)
        notes = [] if quick else self._notes(options, len(indices), len(examples))
        notes += [*scored.notes, *scores.notes(references, self.bleu_tokenizer)] if notes else []
        return Generated(scored.values, scored.samples, len(indices), scored.signatures, notes)

    def _evaluated(
        self, model: nn.Module, head: AbstractHead, examples: Examples, rows: np.ndarray, options: AnswerOptions
    ) -> list[str]:
        beam, power = options.beam or BEAM, options.length_penalty
        return self.translations(model, head, examples, rows, beam=beam, length_power=power)

    def _notes(self, options: AnswerOptions, num: int, num_all: int) -> list[str]:
        """Return how texts are translated for the figures, and what their references are."""
        part = f" of {num_all:,} texts, evenly spread" if num < num_all else ""
        told = [f"{NAMED} are of {counted(num, 'translation')}{part}, {_how(options)}."]
        if steps := [step for step in self.normalizer.steps if step != "nfc"]:
            told.append(f"The references are normalized as the training data were (--normalize {','.join(steps)}).")
        return told

    def translations(
        self,
        model: nn.Module,
        head: AbstractHead,
        examples: Examples,
        indices: np.ndarray,
        *,
        beam: int = 1,
        length_power: float = 1.0,
        together: int = DECODED_TOGETHER,
    ) -> list[str]:
        """Return the translation of each of these examples.

        Args:
            model: writes.
            head: ranks the tokens.
            examples: hold the sources.
            indices: which of them.
            beam: beginnings that are kept; 1 takes the most probable token each time.
            length_power: see `beam_search`.
            together: texts times `beam` that are decoded at once; a GPU wants thousands.
        """
        texts = translate_report.texts_of(examples, "source", indices) if "source_text" in examples.columns else []
        options, source = AnswerOptions(beam=beam, length_penalty=length_power), examples.ragged("source")
        found = self._translate((model, head), source, indices, texts, options, together)
        return [self._written(best.tokens, best.words) for best, *_ in found]

    def _translate(
        self,
        networks: tuple[nn.Module, AbstractHead],
        source: Ragged,
        indices: np.ndarray,
        normalized: Sequence[str],
        options: AnswerOptions,
        together: int = DECODED_TOGETHER,
    ) -> list[list[Translation]]:
        sizes: dict[str, int] = {"max_length": self.max_length, "together": together}
        sides = self.source_vocabulary, self.tokenizer
        prefix = prefix_places(self.tokenizer, self.normalizer(options.prefix), self.max_length)
        return translated(sides, networks, source, indices, normalized, options, prefix=prefix, **sizes)

    @override
    def text(self, ids: list[int]) -> str:
        return self._written(ids, ())

    def _written(self, ids: list[int], words: Sequence[str]) -> str:
        """Return the text of ids up to the end, with words in place of what is unknown."""
        ids = ids[: ids.index(self.tokenizer.end)] if self.tokenizer.end in ids else ids
        if isinstance(self.tokenizer, Tokenizer) and self.tokenizer.has_words:
            return self.tokenizer.decode_with(ids, words)
        special = {self.tokenizer.pad, self.tokenizer.unknown, self.tokenizer.begin}
        return self.tokenizer.decode([token for token in ids if token not in special])

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        del options
        return text_problem(value, "a text to translate")

    @override
    def check_options(self, options: AnswerOptions) -> None:
        if options.min_length >= self.max_length:
            raise InputError(
                f"--min-length must be at most {self.max_length - 1:,}, the tokens of this run's translations; got "
                f"{options.min_length:,}."
            )
        prefix_places(self.tokenizer, self.normalizer(options.prefix), self.max_length)

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return "source", "text", "score", "log_probability", "candidates"

    @override
    def table_columns(self, top: int) -> tuple[str, ...]:
        own = ("source", "text", "score", "log_probability")
        return (*own, *(f"{name}_{i}" for i in range(1, top + 1) for name in ("text", "score")), "note")

    @override
    def table_rows(self, answer: Mapping[str, Any], top: int) -> list[dict[str, Any]]:
        row = {name: value for name, value in answer.items() if name != "candidates"}
        if "samples" in answer:
            return [row | one for one in answer["samples"]]
        return [row | flat(answer["candidates"][:top], ("text", "score"))]

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Translate texts.

        Returns:
            `{"source", "text", "score", "log_probability", "candidates": [{"text", "score", "log_probability",
            "tokens", "log_probabilities"}]}`: the best translation, the sum of the log-probabilities of its tokens in
            the model (the end included) and the score, which is this sum over the number of tokens to the power of
            `length_penalty`, so their mean; and the `top` best of all found. Drawn ones (`samples`) are in
            `"samples"`, in the order in which they were drawn, and the first is the "text". A text that was cut has a
            "note".
        """
        self.check_options(options)
        self.check(inputs, options)
        texts, power = list(inputs), options.length_penalty
        normalized = self.normalizer.many(texts)
        source = tokens_of(self.source_vocabulary, normalized, self.max_length)
        found = self._translate((model, head), source.ids, np.arange(len(texts)), normalized, options)
        answers = []
        for text, is_cut, translations in zip(texts, source.is_cut.tolist(), found, strict=True):
            each = [
                {"text": self._written(one.tokens, one.words), **one.told(self.tokenizer, power)}
                for one in (translations if text.strip() else ())
            ]
            note = {"note": f"truncated to {self.max_length} tokens"} if is_cut else {}
            answers.append({"source": text, **answer_of(each, options), **note})
        return answers

    @override
    def lines_of(self, answer: Mapping[str, Any], top: int = 0) -> list[str]:
        if "samples" in answer:
            return [one["text"] for one in answer["samples"]] or [""]
        others = [f"    {entry['text']}  ({entry['score']:.3g})" for entry in answer["candidates"][1:top]]
        return [answer["text"], *others]

    @override
    def scorer(self) -> ScoredPairs:
        return ScoredPairs(self)

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return translations, the worst ones among them, and scores by length."""
        valid, options, (of, known) = prepared.valid, self._as_asked(), self._measured
        if of is not valid:  # not the texts whose figures were just computed
            rows = translate_report.evenly_spaced(len(valid), translate_report.MAX_TRANSLATED)
            known = dict(zip(rows.tolist(), self._evaluated(model, head, valid, rows, options), strict=True))
        return translate_report.sections(known, valid, seed, how=_how(options), tokenizer=self.bleu_tokenizer)

    @override
    def describe(self, prepared: Prepared) -> str:
        of, own = self.source_tokenizer, f"{self.tokenizer.vocabulary_size:,}"
        sizes = f"a joint vocabulary of {own}" if of is None else f"vocabularies of {of.vocabulary_size:,} and {own}"
        return f"{prepared.num_train:,} pairs of texts with {sizes}"


def _how(options: AnswerOptions) -> str:
    """Return how texts are translated, in a few words."""
    beam = options.beam or BEAM
    return f"beam {beam}, length penalty {options.length_penalty:g}" if beam > 1 else "beam 1, greedy"
