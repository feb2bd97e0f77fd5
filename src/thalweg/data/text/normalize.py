"""Text normalization in steps that are saved with the run, so that new texts are read as the training texts were."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Literal, final

from thalweg.errors import InputError

DEFAULT_STEPS: Final = ("nfc", "lower", "spaces")

_ASCII_DIGITS = str.maketrans("123456789", "000000000")
_DIGIT = re.compile(r"\d")
# Of the control characters, tab, line feed and carriage return are white space that texts need.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def _digits(text: str) -> str:
    return text.translate(_ASCII_DIGITS) if text.isascii() else _DIGIT.sub("0", text)


def _accents(text: str) -> str:
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join([c for c in decomposed if unicodedata.category(c) != "Mn"]))


def _form(name: Literal["NFC", "NFKC"], text: str) -> str:
    return text if text.isascii() else unicodedata.normalize(name, text)


def _spaces(text: str) -> str:
    return " ".join(text.split())


def _controls(text: str) -> str:
    return _CONTROLS.sub("", text)


# No closures: whatever holds such a function can be sent to another process.
STEPS: Final[dict[str, Callable[[str], str]]] = {
    "nfc": partial(_form, "NFC"),
    "nfkc": partial(_form, "NFKC"),
    "lower": str.lower,
    "casefold": str.casefold,
    "spaces": _spaces,
    "digits": _digits,
    "accents": _accents,
    "controls": _controls,
}


@final
class Normalizer:
    r"""Steps that unify different ways of writing the same text.

    | step | what it does |
    | --- | --- |
    | nfc | Unicode form C: one code for a letter with its accent, however it was typed |
    | nfkc | Unicode form KC: also wide letters, ligatures, superscripts and the like become plain ones |
    | lower | lower case |
    | casefold | lower case, and whatever else differs only in case (German ß becomes ss) |
    | spaces | any white space becomes one space; none at the ends |
    | digits | every decimal digit of any script becomes 0, so that numbers of the same length are one word |
    | accents | letters lose their accents (and vowel signs: not for Hindi, Hebrew or Arabic) |
    | controls | control characters and other invisible characters are removed, except tabs and line breaks |

    Args:
        steps: names of steps, done in this order.

    Raises:
        InputError: for an unknown step.

    Example:
        >>> Normalizer(("nfc", "lower", "spaces"))("  A  Fine\tFilm ")
        'a fine film'
        >>> Normalizer(("accents", "digits"))("Café 1969")
        'Cafe 0000'

    Source: The Unicode Consortium, Unicode Standard Annex 15 (normalization forms).
    When not to use it: where the text itself must be restored, as for generating text; use no steps there.
    """

    def __init__(self, steps: Iterable[str] = DEFAULT_STEPS) -> None:
        self.steps = tuple(steps)
        for step in self.steps:
            if step not in STEPS:
                raise InputError(f"Expected steps of text normalization among {', '.join(STEPS)}; got {step!r}.")
        self._functions = [STEPS[step] for step in self.steps]

    def __call__(self, text: str) -> str:
        """Return the normalized text."""
        for function in self._functions:
            text = function(text)
        return text

    def many(self, texts: Iterable[str]) -> list[str]:
        """Return the normalized texts: faster than one by one."""
        result = list(texts)
        if not self._functions:
            return result
        # An ASCII text is in every Unicode form already; one check of all texts spares a call for each of them.
        is_ascii = all(map(str.isascii, result))
        for step, function in zip(self.steps, self._functions, strict=True):
            if is_ascii and step in ("nfc", "nfkc", "accents"):
                continue
            result = [" ".join(text.split()) for text in result] if step == "spaces" else list(map(function, result))
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, as plain JSON values."""
        return {"steps": list(self.steps)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Normalizer":
        """Return the normalizer that `to_dict` was called on.

        Raises:
            InputError: if something is missing or unknown.
        """
        steps = saved.get("steps")
        if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
            raise InputError(f"Expected a list of steps of text normalization under 'steps'; got {steps!r}.")
        return cls(steps)
