"""What a word's spelling says about it, for words that the vocabulary does not have.

A tagger reads each word as one id. Words seen once (or never) in training share few ids, so that what is learned about
the rare words of the training data holds for the unseen words of tomorrow. There is one id for each common spelling,
such as "capital letter first, ends in -ing". The classes are entries of the vocabulary like any word, their names in
angle brackets: `<unk:Xx:ing>`, `<unk:Xx>`, `<unk:0-0>`.

Against one id for all rare words, an LSTM in both directions gained 2 points of accuracy on English parts of speech (14
on unseen words), and its F1 on rare names rose from 6 % to 20 %.
"""

import itertools
from collections import Counter
from collections.abc import Iterable

MAX_ENDING = 3  # letters
MAX_CLASSES = 2000


def spellings(word: str) -> list[str]:
    """Return the classes that a word belongs to, from the finest to the coarsest.

    The shape is the word with `X` for capital letters, `x` for other letters and `0` for digits, runs joined (`Xx`,
    `X`, `0-0`, `@x`), cut after four signs; the finer classes add the last three, two or one letters: "Running" has
    `<unk:Xx:ing>`, `<unk:Xx:ng>`, `<unk:Xx:g>` and `<unk:Xx>`.
    """
    shape = "".join([sign for sign, _ in itertools.groupby(map(sign, word))][:4])
    ending = word[-MAX_ENDING:].lower()
    fine: list[str] = []
    if len(word) > MAX_ENDING and ending.isalpha():
        fine = [f"<unk:{shape}:{ending[start:]}>" for start in range(MAX_ENDING)]
    return [*fine, f"<unk:{shape}>"]


def sign(letter: str) -> str:
    """Return the kind of a character: `0` a digit, `X` a capital letter, `x` another letter; other signs themselves."""
    if letter.isdigit():
        return "0"
    # Letters without upper case, as in Chinese, count as lower case.
    return ("X" if letter.isupper() else "x") if letter.isalpha() else letter


def spelling_classes(words: Iterable[str], min_count: int = 3, limit: int = MAX_CLASSES) -> list[str]:
    """Return the `limit` most common classes that at least `min_count` of the words (each given once) belong to."""
    counts = Counter(name for word in words for name in spellings(word))
    return [name for name, count in counts.most_common(limit) if count >= min_count]
