"""What a word is: the one definition, as ranges of characters, for every reader of text.

A word is a run of letters, digits, underscores and vowel signs; every other mark is a word by itself, and so is every
ideograph or kana, for Chinese and Japanese are written without spaces. White space and invisible characters separate
words. The ranges are spelled out because Python, `tokenizers` and numpy differ in what they call a letter or a space.
"""

import re
from collections.abc import Iterable
from typing import Final

# White space, control characters, marks of direction, variation selectors, tags.
UNSEEN: Final = (
    (0x00, 0x20), (0x7F, 0xA0), (0xAD, 0xAD), (0x1680, 0x1680), (0x2000, 0x200B), (0x200E, 0x200F), (0x2028, 0x202F),
    (0x205F, 0x206F), (0x3000, 0x3000), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xE0000, 0xE0FFF),
)  # fmt: skip
IDEOGRAPHS: Final = (
    (0x3005, 0x3007),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
MARKS: Final = (
    (0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x5E), (0x60, 0x60), (0x7B, 0x7E),  # ASCII but for the underscore
    (0xA1, 0xA9), (0xAB, 0xAC), (0xAE, 0xB1), (0xB4, 0xB4), (0xB6, 0xB8), (0xBB, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7),
    (0x37E, 0x37E), (0x387, 0x387), (0x55A, 0x55F), (0x589, 0x58A), (0x5BE, 0x5BE), (0x5C0, 0x5C0), (0x5C3, 0x5C3),
    (0x5C6, 0x5C6), (0x5F3, 0x5F4), (0x609, 0x60D), (0x61B, 0x61B), (0x61D, 0x61F), (0x66A, 0x66D), (0x6D4, 0x6D4),
    (0x964, 0x965), (0xE4F, 0xE4F), (0xE5A, 0xE5B), (0x104A, 0x104F), (0x1360, 0x1368), (0x17D4, 0x17DA),
    # Dashes, currency, arrows, symbols; marks of wide scripts; pictures.
    (0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20CF), (0x2190, 0x2BFF), (0x2E00, 0x2E7F),
    (0x3001, 0x3004), (0x3008, 0x3020), (0x3030, 0x3030), (0xFE10, 0xFE19), (0xFE30, 0xFE6B), (0xFF01, 0xFF0F),
    (0xFF1A, 0xFF20), (0xFF3B, 0xFF3E), (0xFF40, 0xFF40), (0xFF5B, 0xFF65), (0xFFE0, 0xFFEE), (0xFFFC, 0xFFFD),
    (0x1F000, 0x1FAFF),
)  # fmt: skip
SURROGATES: Final = ((0xD800, 0xDFFF),)  # half characters, which can stand in a Python string only


UNKNOWN: Final = "<unk>"  # stands for a word, though it begins with a mark
MANY_IDEOGRAPHS: Final = 8  # names are shorter, sentences are longer


def _ranges(code: str, *tables: tuple[tuple[int, int], ...]) -> str:
    return "".join(f"{code % first}-{code % last}" for table in tables for first, last in table)


def _pattern(code: str, extra: tuple[tuple[int, int], ...] = ()) -> str:
    return f"[^{_ranges(code, UNSEEN, extra, MARKS, IDEOGRAPHS)}]+|[^{_ranges(code, UNSEEN, extra)}]"


def _spaced(code: str) -> str:
    letter = f"[^{_ranges(code, UNSEEN, MARKS, IDEOGRAPHS)}]"
    rest = tuple(part for part in UNSEEN if part[0] > 0x20)
    other = _ranges(code, ((0x00, 0x1F),), rest)
    runs = "| {16}| {8}| {4}| {2}"
    return f"{letter}+| ?[{_ranges(code, MARKS, IDEOGRAPHS)}] ?|[{other}]{runs}| (?!{letter})|(?<!{letter}) "


PATTERN: Final = _pattern(r"\x{%X}")
"""The words of a text, as a regular expression of `tokenizers` (Oniguruma's syntax)."""

SPACED: Final = _spaced(r"\x{%X}")
"""The pieces of `split_spaced`, as a regular expression of `tokenizers`."""

_PYTHON: Final = _pattern(r"\U%08X", SURROGATES)
_LETTERS: Final = _PYTHON.partition("|")[0]
_IDEOGRAPHS: Final = re.compile(f"[{_ranges(chr(92) + 'U%08X', IDEOGRAPHS)}]")

split_words: Final = re.compile(_PYTHON).findall
"""Return the words of a text, in order: `split_words("It's 3 pm.")` is `["It", "'", "s", "3", "pm", "."]`."""

split_spaced: Final = re.compile(_spaced(r"\U%08X")).findall
"""Return the pieces of a text, from which `join_spaced` makes the same text again.

A word is a piece by itself. Every other mark and every ideograph is one together with the space before and the space
behind it, if there are such. Between two words stands one space, which is no piece. All other white space and
invisible characters are pieces of one character each, or of 16, 8, 4 or 2 spaces: `split_spaced("It's 3.5 (pm).")` is
`["It", "'", "s", "3", ".", "5", " (", "pm", ")", "."]`.
"""

_is_word: Final = re.compile(_LETTERS).match


def join_spaced(pieces: Iterable[str]) -> str:
    """Return the text of pieces: they stand side by side, and one space is between two words.

    Example:
        >>> join_spaced(["l", "'", "eau", ", ", "c", "'", "est", "bien"])
        "l'eau, c'est bien"
    """
    parts, after_word = [], False
    for piece in pieces:
        is_word = _is_word(piece) is not None or piece == UNKNOWN
        parts += [" ", piece] if is_word and after_word else [piece]
        after_word = is_word
    return "".join(parts)


split_tokens: Final = re.compile(rf"\d+(?:[.,]\d+)+|{_LETTERS}(?:['’-]{_LETTERS})*|{_PYTHON}").findall
"""Return words as taggers take them: an apostrophe or hyphen inside a word, and a point or comma inside a number, part
of it: `split_tokens("It's 3.5 pm.")` is `["It's", "3.5", "pm", "."]`."""


def is_running_text(value: str) -> bool:
    """Return whether a value is a text and not a name: white space inside it, or many ideographs."""
    if len(value.split(None, 2)) > 1:
        return True
    return len(value) >= MANY_IDEOGRAPHS and not value.isascii() and len(_IDEOGRAPHS.findall(value)) >= MANY_IDEOGRAPHS
