"""What a word's spelling says about it, for words that the vocabulary does not have.

A tagger reads each word as one id. Words seen once (or never) in training share few ids, so that what is learned about
the rare words of the training data holds for the unseen words of tomorrow. There is one id for each common spelling,
such as "capital letter first, ends in -ing". The classes are entries of the vocabulary like any word, their names in
angle brackets: `<unk:Xx:ing>`, `<unk:Xx>`, `<unk:0-0>`.

Against one id for all rare words, an LSTM in both directions gained 2 points of accuracy on English parts of speech (14
on unseen words), and its F1 on rare names rose from 6 % to 20 %.
"""

from collections import Counter
from collections.abc import Iterable

MAX_ENDING = 3  # letters
MAX_CLASSES = 2000


def spellings(word: str) -> list[str]:
    """Return the classes that a word belongs to, from the finest to the coarsest.

    The shape is the word with `X` for capital letters, `x` for other letters and `0` for digits, runs joined (`Xx`,
    `X`, `0-0`, `@x`), cut after four signs; the finer classes add the last three, two or one letters.

    Example:
        >>> spellings("Running")
        ['<unk:Xx:ing>', '<unk:Xx:ng>', '<unk:Xx:g>', '<unk:Xx>']
        >>> spellings("2:0")
        ['<unk:0:0>']
    """
    signs: list[str] = []
    for letter in word:
        if letter.isdigit():
            sign = "0"
        elif letter.isalpha():
            # Letters without capitals, as in Chinese, are as good as small ones.
            sign = "X" if letter.isupper() else "x"
        else:
            sign = letter
        if not signs or signs[-1] != sign:
            signs.append(sign)
    shape = "".join(signs[:4])
    ending = word[-MAX_ENDING:].lower()
    fine: list[str] = []
    if len(word) > MAX_ENDING and ending.isalpha():
        fine = [f"<unk:{shape}:{ending[start:]}>" for start in range(MAX_ENDING)]
    return [*fine, f"<unk:{shape}>"]


def spelling_classes(words: Iterable[str], min_count: int = 3, limit: int = MAX_CLASSES) -> list[str]:
    """Return the classes worth an id: those that at least `min_count` of the words belong to, common ones first.

    Args:
        words: the rare words of the training data, each once.
        min_count: words of a class.
        limit: most classes.

    Example:
        >>> spelling_classes(["making", "taking", "Paris"], min_count=2)
        ['<unk:x:ing>', '<unk:x:ng>', '<unk:x:g>', '<unk:x>']
    """
    counts = Counter(name for word in words for name in spellings(word))
    return [name for name, count in counts.most_common(limit) if count >= min_count]
