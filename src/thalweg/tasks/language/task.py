"""Language model: the next token of a text, from the tokens before it."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from torch import Tensor, nn
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.equal import Prefixes, View, same_rows
from thalweg.data.arrays.ragged import flat_positions
from thalweg.data.files.base import AbstractSource
from thalweg.data.text.pretrained_tokenizer import PretrainedTokenizer
from thalweg.data.text.tokenizer import EOS, UNK
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.models.shape import ModelShape
from thalweg.storage.forms import number, record
from thalweg.tasks.base import AbstractMeter, Prepared, Settings
from thalweg.tasks.language import report as language_report
from thalweg.tasks.language.chunks import BEFORE, SEEN, TOKENS, Cut, batch_of, num_before, num_targets, targets
from thalweg.tasks.language.continuing import continued, streamed
from thalweg.tasks.language.scored import ScoredTexts
from thalweg.tasks.questions import AnswerOptions, text_problem
from thalweg.tasks.reading.saved import json_bytes, reading
from thalweg.tasks.reading.text_column import TextColumn, check_columns
from thalweg.tasks.verdict import Seen, main_figure, short
from thalweg.tasks.writing.base import AbstractWritingTask
from thalweg.tasks.writing.token_head import token_counts
from thalweg.tasks.writing.token_sums import TokenMeter, perplexity
from thalweg.tasks.written import Scoring

FILE = "language.json"


@final
@dataclasses.dataclass(eq=False, repr=False)
class Language(AbstractWritingTask):
    r"""A text as one long line of tokens, cut into chunks; every token is predicted from those before it in its chunk.

    With `carry` a chunk begins with the state after the chunks before it (truncated back-propagation through time).
    What stands before a chunk is a part of it, so chunks come in any order, and a step depends on its number alone.

    The rows of the source, each with a line end, are the text. Its first token is predicted from the id `<bos>`, so
    every token is a target exactly once. The validation part is the end of the text, and the vocabulary comes from the
    part before; subwords ("bpe") are joined only where they meet at least 50 times.

    Args:
        normalizer: steps before tokenizing.
        tokenizer: text -> ids.
        max_length: tokens of a chunk.
        carry: chunks before each one whose tokens a recurrent network reads first, without gradient.
        stride: tokens between the windows of a text to measure on; 0: chunks one after the other.
        bytes_per_token: of the text that metrics are for.
        unknown_per_token: bytes that the vocabulary has no token for, of that text.
        spill: where arrays of ids go that are too large for memory.
    """

    name: ClassVar[str] = "language"
    inputs: ClassVar[tuple[str, ...]] = ()
    streams: ClassVar[bool] = True
    row_is_example: ClassVar[bool] = False
    target: ClassVar[str] = "tokens"
    min_pair_count: ClassVar[int] = 50  # each token must come often enough to learn what follows it

    _: dataclasses.KW_ONLY
    carry: int = 0
    stride: int = 0
    bytes_per_token: float = 1.0
    unknown_per_token: float = 0.0

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple["Language", Prepared]:
        texts = TextColumn(source, settings.columns["text"], settings.normalizer())
        size = sum(sum(map(len, part)) + len(part) for _, part in texts.chunks())
        cut = size if valid is not None else size - round(size * settings.valid_share)
        known = cls.learn_vocabulary((line for part in text_lines(texts, 0, cut) for line in part), settings)
        task = cls(settings.normalizer(), spill=settings.spill, **cls._lengths(settings), **known)
        _ = task._windows  # which a number out of its range has not
        train = task._encode(text_lines(texts, 0, cut), task._chunks)
        num_tokens = num_targets(train)
        if num_tokens < settings.max_length:
            needed = math.ceil(size * settings.max_length / max(1, num_tokens))
            raise InputError(
                f"{source.name}: expected a training part of at least {settings.max_length} tokens (--max-length), got "
                f"{num_tokens}; that takes a text of about {needed:,} characters instead of {size:,}, or a smaller "
                "--max-length."
            )
        if valid is not None:
            held_out, notes = task.examples(valid, settings.columns)
            return task, Prepared(train, held_out, [*task.of_vocabulary(settings), *notes])
        held_out, notes = task._measured(text_lines(texts, cut, size))
        if not len(held_out):
            raise InputError(
                f"{source.name}: --valid-share {settings.valid_share:g} of {size:,} characters leaves no token to "
                "validate on; give a larger fraction, or more text."
            )
        share = f"Validation is the last {settings.valid_share:.0%} of the text, {num_targets(held_out):,} tokens."
        return task, Prepared(train, held_out, [*task.of_vocabulary(settings), share, *notes])

    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        """Read another text; from then on bits per byte are those of this text."""
        check_columns(source, (columns["text"],))
        examples, notes = self._measured(text_lines(TextColumn(source, columns["text"], self.normalizer)))
        if not len(examples):
            raise InputError(f"{source.name}: expected a text of at least one token, got none.")
        return examples, notes

    @override
    def training_examples(self, source: AbstractSource, columns: dict[str, Any]) -> Examples:
        return self._encode(text_lines(TextColumn(source, columns["text"], self.normalizer)), self._chunks)

    def _measured(self, lines: Iterable[list[str]]) -> tuple[Examples, list[str]]:
        """Return the chunks of a text, note how many bytes its tokens stand for, and say what has no token."""
        num_tokens = num_bytes = num_unknown = num_unknown_bytes = 0

        def measure(part: list[str], values: np.ndarray) -> None:
            nonlocal num_tokens, num_bytes, num_unknown, num_unknown_bytes
            num_tokens += len(values)
            num_bytes += sum(map(_num_bytes, part))
            if isinstance(self.tokenizer, PretrainedTokenizer):
                return
            num_lost = int((values == UNK).sum())
            if num_lost:
                num_unknown += num_lost
                num_unknown_bytes += self.tokenizer.unknown_bytes(part)

        examples = self._encode(lines, self._windows, measure)
        self.bytes_per_token = num_bytes / max(1, num_tokens)
        self.unknown_per_token = num_unknown_bytes / max(1, num_tokens)
        notes = []
        if self.stride:
            most = self._windows.context
            notes.append(f"Sliding windows: each token is predicted from {most} tokens before it, or more (--stride).")
        if num_unknown:
            notes.append(
                f"{num_unknown:,} of {num_tokens:,} validation tokens ({num_unknown / num_tokens:.2%}) are not in the "
                "vocabulary; bits per byte charge 8 bits for each byte of them."
            )
        return examples, notes

    def _encode(
        self, lines: Iterable[list[str]], cut: Cut, visit: Callable[[list[str], np.ndarray], None] | None = None
    ) -> Examples:
        """Return the chunks of a text; `visit` gets its lines and their tokens."""

        def parts() -> Iterator[np.ndarray]:
            yield np.array([self.tokenizer.begin], dtype=np.int32)
            for part in lines:
                values = self._ids(part)
                if visit is not None:
                    visit(part, values)
                yield values

        return cut.examples(parts(), self.spill)

    @property
    def _chunks(self) -> Cut:
        """How a text to learn from is cut."""
        context = self.carry * self.max_length
        return Cut(self.max_length, context, BEFORE if context else "")

    @property
    def _windows(self) -> Cut:
        """How a text to measure on is cut: as one to learn from, or into sliding windows."""
        longest = (1 + self.carry) * self.max_length
        if not self.stride:
            return self._chunks
        if not 1 <= self.stride <= longest:
            of = " of so many tokens, and of the chunks before it (--carry)" if self.carry else ""
            raise InputError(
                f"--stride must lie between 1 and {longest} (--max-length {self.max_length}{of}), or be 0, for chunks "
                f"one after the other; got {self.stride}."
            )
        return Cut(self.stride, longest - self.stride, SEEN)

    def _ids(self, lines: list[str]) -> np.ndarray:
        """Return the ids of some lines; `<eos>` stands for a line end where the tokenizer knows none."""
        values, lengths = self.tokenizer.encode_many(lines)
        if self.tokenizer.knows_lines:
            return values
        ends = np.array([line.endswith("\n") for line in lines], dtype=bool)
        return np.insert(values, np.cumsum(lengths)[ends], EOS)

    @override
    def text(self, ids: list[int]) -> str:
        if self.tokenizer.knows_lines:
            return self.tokenizer.decode(ids)
        ends = [-1, *(place for place, token in enumerate(ids) if token == EOS), len(ids)]
        return "\n".join(self.tokenizer.decode(ids[a + 1 : b]) for a, b in itertools.pairwise(ends))

    @override
    def about(self) -> dict[str, str]:
        return {"examples": "training tokens"}

    def view(self, examples: Examples) -> View:
        """Return the targets, each predicted from the tokens before it in its chunk, and the state it begins with."""
        chunks, before = examples.ragged(TOKENS), num_before(examples)
        firsts, alone = chunks.offsets[:-1], not self.carry
        sees = (
            f"the tokens before the next one in its chunk, at most {self.max_length:,}"
            f"{'' if alone else f', and the {self.carry * self.max_length:,} before these'} (fixed: the normalization, "
            f"the vocabulary of {self.tokenizer.vocabulary_size:,} tokens, the chunks of the text)"
        )
        given = chunks.values[firsts]
        if not alone:  # what a chunk begins with: its first token, and those before it
            known = chunks.values[flat_positions(firsts, before + 1)]
            given = same_rows((known, before.astype(np.int64) + 1))
        lengths = chunks.lengths - 1 - before
        return Prefixes(targets(examples), lengths, given, sees, first_is_symbol=alone)

    @override
    def files(self) -> dict[str, bytes]:
        sizes = {"bytes_per_token": self.bytes_per_token, "unknown_per_token": self.unknown_per_token}
        return self.vocabulary_files() | {FILE: json_bytes(sizes)}

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> "Language":
        with reading(folder / FILE, record(bytes_per_token=number(0.0), unknown_per_token=number(0.0))) as saved:
            sizes = {name: saved[name] for name in ("bytes_per_token", "unknown_per_token")}
        known = cls.read_vocabulary(folder, settings) | sizes
        return cls(settings.normalizer(), spill=settings.spill, **cls._lengths(settings), **known)

    @staticmethod
    def _lengths(settings: Settings) -> dict[str, int]:
        return {"max_length": settings.max_length, "carry": settings.carry, "stride": settings.stride}

    @override
    def with_scoring(self, scoring: Scoring) -> "Language":
        """Return the task with other windows for an evaluation."""
        super().with_scoring(dataclasses.replace(scoring, stride=None))  # refuses the rest
        return self if scoring.stride is None else dataclasses.replace(self, stride=scoring.stride)

    @override
    def token_counts(self, examples: Examples) -> Tensor:
        return token_counts(targets(examples), self.tokenizer.vocabulary_size)

    @override
    def shape(self) -> ModelShape:
        return self.vocabulary_shape

    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        """Return tokens `[batch, time]`, and as targets the token after each."""
        return batch_of(examples, indices, self.max_length)

    @override
    def meter(self) -> AbstractMeter:
        return TokenMeter(self.figures, "chunks of text")

    def figures(self, nats: np.ndarray, accuracy: np.ndarray) -> dict[str, np.ndarray]:
        r"""Return perplexity and bits per byte.

        With the mean loss $\ell$ in nats per token (without label smoothing), $b$ bytes of UTF-8 per token and, where
        the vocabulary has no name for a stretch of text, $u$ bytes per token that `<unk>` stands for,

        $$\text{perplexity} = e^\ell, \quad \text{bits per byte} = \frac{\ell / \ln 2 + 8 u}{b} .$$

        The bytes behind `<unk>` are charged in full, so that a vocabulary gains nothing by not knowing a word, and
        figures can be compared between tokenizers.
        """
        del accuracy
        bits = nats / math.log(2) + 8 * self.unknown_per_token
        return {"perplexity": perplexity(nats), "bits_per_byte": bits / self.bytes_per_token}

    @override
    def verdict(self, metrics: Mapping[str, float], seen: Seen) -> str:
        said = main_figure(metrics, "perplexity", seen, "chunks of text")
        return f"{said}; {short(metrics['bits_per_byte'])} bits per byte, where no compression at all gives 8"

    @property
    @override
    def explanations(self) -> dict[str, tuple[str, str]]:
        return {
            "loss": ("lower", "Nats per token: how surprising the next token of the validation text is."),
            "perplexity": ("lower", "exp(loss): the effective number of equally likely next tokens."),
            "bits_per_byte": (
                "lower",
                "Bits that a byte of the validation text costs when it is compressed with the model (8: not at all); "
                "the one figure here that can be compared between tokenizers.",
            ),
        }

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        del options
        return text_problem(value, "a prompt (it may be empty)")

    @override
    def check_options(self, options: AnswerOptions) -> None:
        if options.min_length and not options.stop:
            raise InputError(
                f"--min-length {options.min_length} is for texts that end at --stop; without it a continuation has "
                "--length tokens."
            )
        if options.min_length > options.length:
            raise InputError(
                f"--min-length must be at most --length; got {options.min_length:,} and {options.length:,}."
            )

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return "prompt", "text", "score", "log_probability", "tokens", "log_probabilities"

    @override
    def table_columns(self, top: int) -> tuple[str, ...]:
        return "prompt", "text", "score", "log_probability", "note"

    @override
    def table_rows(self, answer: Mapping[str, Any], top: int) -> list[dict[str, Any]]:
        return [{**answer, **one} for one in answer.get("samples", [answer])]

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Write on from each prompt (a text, maybe empty).

        Returns:
            `{"prompt", "text", "score", "log_probability", "tokens", "log_probabilities"}`: the text without the
            prompt, the mean of the log-probabilities of its tokens in the model, their sum, and each; with `samples`
            also `"samples"`, a list of all texts, the first among them. A prompt of which only the end was read has a
            "note".
        """
        self.check_options(options)
        self.check(inputs, options)
        return continued(self, model, head, list(inputs), options)

    @override
    def stream(self, model: nn.Module, head: AbstractHead, value: Any, options: AnswerOptions) -> Iterator[str]:
        """Yield the prompt, and what `predict` writes after it as it is written, in whole characters."""
        self.check_options(options)
        self.check([value], options)
        return itertools.chain([value], streamed(self, model, head, value, options))

    @override
    def scorer(self) -> ScoredTexts:
        return ScoredTexts(self)

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a prompt; an empty one is the beginning of a line."""
        *full, last = text.split("\n")
        lines = [self.normalizer(line) + "\n" for line in full] + [self.normalizer(last)]
        return self._ids([line for line in lines if line]).tolist() or self._ids(["\n"]).tolist()

    def added(self, before: list[int], after: list[int]) -> str:
        """Return what the ids `after` add to the text of the ids `before`, broken characters included."""
        begin, whole = self.text(before), self.text(before + after)
        return whole[len(begin) :] if whole.startswith(begin) else self.text(after)

    def continuation(self, before: list[int], after: list[int]) -> str:
        """Return what the ids `after` add to the text of the ids `before`, up to its last whole character."""
        return self.added(before, after).rstrip("\ufffd")

    @override
    def lines_of(self, answer: Mapping[str, Any], top: int = 0) -> list[str]:
        return [answer["prompt"] + one["text"] for one in answer.get("samples", [answer])]

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return written texts, where the loss comes from, and the loss by place in a chunk."""
        return language_report.sections(self, model, head, prepared.valid, seed)

    @override
    def describe(self, prepared: Prepared) -> str:
        num_tokens = prepared.in_all(num_targets(prepared.train))
        return f"{num_tokens:,} tokens of text with a vocabulary of {self.tokenizer.vocabulary_size:,}"


def text_lines(texts: TextColumn, begin: int = 0, end: int | None = None) -> Iterator[list[str]]:
    """Yield the lines of a text in blocks, each with its line end; a row may hold several lines.

    Wanted are the characters from `begin` to `end` (not included; None: all that follow), line ends counted.
    """
    place = 0
    for _, rows in texts.chunks():
        lines = [line + "\n" for row in rows for line in (row.split("\n") if "\n" in row else (row,))]
        size = sum(map(len, lines))
        if place < begin or (end is not None and place + size > end):
            starts = np.cumsum([place, *map(len, lines)]).tolist()
            stop = math.inf if end is None else end
            lines = [
                line[max(0, begin - start) : int(min(len(line), stop - start))]
                for start, line in zip(starts, lines, strict=False)
                if start < stop and start + len(line) > begin
            ]
        if lines:
            yield lines
        place += size


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
