"""BPE-dropout: other subwords of the same words in each step of training, as a function of step and example."""

import random
from collections.abc import Sequence
from typing import Final, final

import numpy as np

from thalweg.data.arrays.ragged import Ragged
from thalweg.data.text.tokenizer import SPECIALS, Tokenizer

NUM_WAYS: Final = 16  # to cut a word, of which each occurrence draws one
MOST_LETTERS: Final = 100  # bytes; longer words are cut as always
MOST_KEPT: Final = 2**20  # words with a way to cut them that are remembered

Pair = tuple[str, str]


def cut(word: str, ranks: dict[Pair, int], probability: float, draw: random.Random) -> list[str]:
    r"""Return a word as subwords, each merge left out with a probability at each step.

    Of the neighbors that have a merge those drop out, each for itself, with the probability p; the first merge of the
    vocabulary among the others is done, the leftmost one of several; and so on until none is left. p = 0 is BPE.

    Args:
        word: in the letters of the vocabulary.
        ranks: place of each merge in the vocabulary.
        probability: p, in [0, 1].
        draw: random numbers.

    Example:
        >>> ranks = {("l", "o"): 0, ("lo", "w"): 1}
        >>> cut("low", ranks, 0.0, random.Random(0)), cut("low", ranks, 1.0, random.Random(0))
        (['low'], ['l', 'o', 'w'])

    Source: Provilkov, Emelianenko and Voita (2020), BPE-Dropout: Simple and Effective Subword Regularization.
    """
    parts = list(word)
    while True:
        found = [
            (rank, place)
            for place in range(len(parts) - 1)
            if (rank := ranks.get((parts[place], parts[place + 1]))) is not None and draw.random() >= probability
        ]
        if not found:
            return parts
        _, place = min(found)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


@final
class Dropout:
    """Draws the subwords of texts anew.

    For each word there are 16 ways to cut it, drawn once by `cut` and the same in every run; each occurrence of a word
    in a step takes one of them. So a step costs what looking up costs, and what a step sees is a function of the step
    and the example alone, whatever was read before.

    Args:
        tokenizer: of the kind "bpe".
        probability: with which a merge is left out, in [0, 1).

    Raises:
        ValueError: for another kind of tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer, probability: float) -> None:
        if tokenizer.kind != "bpe":
            raise ValueError(f"Dropout(tokenizer=...) must be of the kind 'bpe'; got {tokenizer.kind!r}.")
        self.tokenizer, self.probability = tokenizer, probability
        self._ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
        self._ids = {name: place for place, name in enumerate(tokenizer.entries, start=len(SPECIALS))}
        self._ways: dict[tuple[str, int], list[int]] = {}

    def drawn(self, ids: Sequence[np.ndarray], keys: np.ndarray, number: int, longest: int) -> Ragged:
        """Return other ids for the same texts.

        Args:
            ids: of each text, its end included; one without an end was cut, and stays as it is.
            keys: a number for each text, int64 `[texts]`.
            number: of the step; with the key it decides what is drawn.
            longest: most ids of a text; where more were drawn, the text stays as it is.
        """
        import torch

        from thalweg import noise

        words = [self.tokenizer.words(row[:-1]) if self._is_whole(row) else [] for row in ids]
        most = max(map(len, words), default=0)
        bits = noise.bits_of(torch.from_numpy(keys), (len(words), most), number).numpy() % NUM_WAYS
        rows = []
        for row, own, ways in zip(ids, words, bits.tolist(), strict=True):
            new = [index for word, way in zip(own, ways, strict=False) for index in self._way(word, way)]
            rows.append(np.array([*new, row[-1]], dtype=np.int32) if 0 < len(new) < longest else row)
        return Ragged.from_lists(rows)

    def _is_whole(self, row: np.ndarray) -> bool:
        return len(row) > 1 and int(row[-1]) == self.tokenizer.end

    def _way(self, word: str, way: int) -> list[int]:
        found = self._ways.get((word, way))
        if found is None:
            if len(self._ways) >= MOST_KEPT:
                self._ways.clear()
            probability = self.probability if len(word) <= MOST_LETTERS else 0.0
            parts = cut(word, self._ranks, probability, random.Random(f"{way} {word}"))
            found = self._ways[word, way] = [self._ids[part] for part in parts]
        return found
