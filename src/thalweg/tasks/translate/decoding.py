"""Translations as they are searched for or drawn, each with its tokens and their probabilities."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
from torch import nn

from thalweg.data.arrays.collate import pad
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.phases import steps_of
from thalweg.tasks.answering import answering
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.writing.asked import rules_of, sampling_of
from thalweg.tasks.writing.beam import beam_search, greedy, sampled
from thalweg.tasks.writing.sampling import stream_seed
from thalweg.tasks.writing.scoring import told
from thalweg.tasks.writing.unknown import UnknownWords

DECODED_TOGETHER: Final = 128  # texts, times the width of the beam or the number of samples
BEAM: Final = 4  # where nothing else is asked for
DRAWN_AT: Final = 1.0  # temperature of drawn translations


@final
@dataclasses.dataclass(frozen=True)
class Translation:
    """One translation: ids up to the end, the log-probability of each, the score, and what stands for `<unk>`."""

    tokens: list[int]
    log_probabilities: list[float]
    score: float
    words: list[str]

    def told(self, tokenizer: AnyTokenizer, length_power: float) -> dict[str, Any]:
        """Return what an answer tells of it, beside its text."""
        return told(tokenizer, self.tokens, self.log_probabilities, length_power)


def translated(
    sides: tuple[AnyTokenizer, AnyTokenizer],
    networks: tuple[nn.Module, AbstractHead],
    source: Ragged,
    indices: np.ndarray,
    normalized: Sequence[str],
    options: AnswerOptions,
    *,
    max_length: int,
    prefix: Sequence[tuple[int, ...]] = (),
    together: int = DECODED_TOGETHER,
) -> list[list[Translation]]:
    """Return the translations of some sources: found by beam search, best first, or drawn, in the order of the samples.

    Args:
        sides: the tokenizers of the sources and of the translations.
        networks: model and head.
        source: ids of all sources.
        indices: which of them.
        normalized: their texts, whose words may be copied (see `UnknownWords`); none: they are not known.
        options: how to write.
        max_length: tokens of a translation, its end included.
        prefix: for each of the first places, the ids that may stand there.
        together: texts that are written at once, times those that are written for each.
    """
    model, head = networks
    reader, tokenizer = sides
    first, end = tokenizer.begin, tokenizer.end
    unknown = UnknownWords(reader, tokenizer, normalized)
    never = (tokenizer.unknown,) if unknown.is_idle else ()
    forbidden = tuple({tokenizer.pad, first, *never} - {end})
    beam = options.beam or (1 if options.is_drawn else max(BEAM, options.top))
    places = options.places_of(len(indices))
    how: dict[str, Any] = {"first": first, "end": end, "length": max_length, "length_power": options.length_penalty}
    how["rules"] = rules_of(options, forbidden, prefix, options.min_length)
    order = np.argsort(source.lengths[indices], kind="stable")
    found: list[list[Translation]] = [[] for _ in order]
    size = max(1, together // (options.samples if options.is_drawn else beam))
    writer: Any = model
    with answering(model, head) as parameter:
        for part in steps_of("translating", [order[i : i + size] for i in range(0, len(order), size)], len):
            tokens, mask = (tensor.to(parameter.device) for tensor in pad(source, indices[part], padding=reader.pad))
            state = writer.start(tokens, mask)
            if options.is_drawn:
                samples = range(options.samples)
                seeds = [
                    [stream_seed(options.seed, places[row], sample) for sample in samples] for row in part.tolist()
                ]
                sampling = sampling_of(options, DRAWN_AT)
                texts = sampled(writer, head, state, sampling=sampling, seeds=seeds, **how)
            elif beam == 1:
                texts = greedy(writer, head, state, **how)
            else:
                texts = beam_search(writer, head, state, width=beam, **how)
            words = unknown.find(model, tokens, mask, texts.tokens, part.tolist())
            columns = (texts.tokens.tolist(), texts.log_probabilities.tolist(), texts.scores.tolist(), words)
            for place, *each in zip(part.tolist(), *columns, strict=True):
                every = (_until(end, *one) for one in zip(*each, strict=True))
                found[place] = [one for one in every if one.score > -math.inf]
    return found


def answer_of(found: Sequence[dict[str, Any]], options: AnswerOptions) -> dict[str, Any]:
    """Return what an answer says of some translations, each with what is told of it: the best, and samples."""
    # Two sequences of tokens may be one text.
    different = {one["text"]: one for one in reversed(found)}
    best = [one for one in found if different[one["text"]] is one]
    first = found[0] if found else {"text": "", "score": None, "log_probability": None}
    answer = {key: first[key] for key in ("text", "score", "log_probability")}
    answer["candidates"] = best[: options.top]
    return answer | ({"samples": list(found)} if options.samples > 1 else {})


def _until(end: int, tokens: list[int], gains: list[float], score: float, words: list[str]) -> Translation:
    size = tokens.index(end) + 1 if end in tokens else len(tokens)
    return Translation(tokens[:size], gains[:size], score, words)


def prefix_places(tokenizer: AnyTokenizer, text: str, max_length: int) -> list[tuple[int, ...]]:
    """Return for each place of a prefix the ids that may stand there.

    Where entries are runs of bytes ("bpe"), the last place may also hold entries that go on where the prefix ends, so
    that it may end within a word.

    Raises:
        InputError: if it has a word that the vocabulary has not, or is longer than a translation may be.
    """
    ids: list[int] = tokenizer.encode_many([text])[0].tolist() if text else []
    if tokenizer.unknown in ids:
        raise InputError(f"--prefix {text!r} has a word that is not in the vocabulary, so that no translation has it.")
    if len(ids) >= max_length:
        raise InputError(
            f"--prefix has {len(ids):,} tokens, and a translation at most {max_length - 1:,} (--max-length of the "
            "training); give a shorter one."
        )
    places: list[tuple[int, ...]] = [(token,) for token in ids]
    if places and tokenizer.kind == "bpe":
        last = tokenizer.token(ids[-1])
        entries = range(tokenizer.vocabulary_size)
        special = {tokenizer.pad, tokenizer.unknown, tokenizer.begin, tokenizer.end}
        places[-1] = tuple(one for one in entries if one not in special and tokenizer.token(one).startswith(last))
    return places
