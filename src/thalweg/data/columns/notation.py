"""How the numbers of a column are written: decimal comma, thousands marks, units, fractions, stars."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, Final, final

from thalweg.errors import InputError

DECIMALS: Final = (".", ",", "٫")
THOUSANDS: Final = ("", ",", ".", "'", " ", "٬")
MAGNITUDES: Final = {
    **dict.fromkeys(("k", "K", "tsd", "Tsd", "Tsd."), 1e3),
    **dict.fromkeys(("M", "mn", "Mn", "mio", "Mio", "Mio."), 1e6),
    **dict.fromkeys(("B", "bn", "Bn", "G", "mrd", "Mrd", "Mrd."), 1e9),
}
STARS: Final = "★⭐🌟"
EMPTY_STARS: Final = "☆✩"
MAX_SHORT_UNIT: Final = 3  # letters; of a longer one the last may be the s of a plural
MAX_LENGTH: Final = 100  # characters; whatever is longer is no number in words or units
# Variants of one character: minus signs, spaces between thousands, apostrophes, wide characters.
_VARIANTS: Final = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00a0\u202f\u2007\u2009\u2008\u200a\u2005\u2006\u3000\t", " "),
        **dict.fromkeys("\u2019\u2018\u02bc\u00b4`\uff07", "'"),
        **dict.fromkeys("\u200e\u200f\u061c\u2066\u2067\u2068\u2069\ufeff\ufe0f", None),
        "\uff0e": ".", "\uff0c": ",", "\uff05": "%", "\u066a": "%", "\uff04": "$", "\uffe5": "¥", "\uffe1": "£",
        "\uff0b": "+", "\ufe62": "+", "\uff08": "(", "\uff09": ")", "\uff0f": "/", "\u2044": "/", "\u2215": "/",
    }
)  # fmt: skip


def number_of(value: object) -> float | None:
    """The finite number that a value is or spells; None for anything else, also for True and "1_000"."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str) and "_" in value:
        return None  # Python would take it
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def canonical(text: str) -> str:
    """A text in which each sign, space, apostrophe and digit has one form: "-1 234" for "−１ 234"."""
    text = _AROUND_SLASH.sub("/", text.translate(_VARIANTS).strip())
    if not text.isascii():
        text = "".join(str(int(one)) if one.isdecimal() else one for one in text)
    return text


@final
@dataclasses.dataclass(frozen=True)
class Notation:
    """How the numbers of a column are written, in all its rows.

    Numbers that are numbers already (of JSON, of a table of numbers) are read in every notation. A unit is left out:
    "85 %" is 85, and "4/5" is 4 where all are out of 5. A minus may stand before or
    behind; parentheses are one, too.

    Args:
        decimal: the mark before the decimals, one of `DECIMALS`.
        thousands: the mark between thousands, one of `THOUSANDS`; "" for none.
        indian: whether the marks stand as in 12,34,567.
        before: what stands before each number, such as "$" or "EUR".
        after: what stands behind each number, such as "%", "kg", "stars" or "/5".
        form: "plain" for what Python reads as a float; "number"; "magnitude" with k, M or B behind it; "fraction" such
            as 7/10, read as 0.7; "stars", counted.

    Example:
        >>> german = Notation(decimal=",", thousands=".", after="€")
        >>> german.number("1.234,50 €"), german.number("1,234.50 €"), german.name
        (1234.5, None, '1.234.567,5 €')
        >>> Notation.named("1.234.567,5 €") == german
        True
    """

    decimal: str = "."
    thousands: str = ""
    indian: bool = False
    before: str = ""
    after: str = ""
    form: str = "number"

    @property
    def name(self) -> str:
        """How it writes the number 1234567.5; "plain", "1/2" and "★★★" for the other forms."""
        if self.form in _FORMS:
            return _FORMS[self.form]
        core = _core_name(self)
        before = f"{self.before} " if self.before[-1:].isalpha() else self.before
        return f"{before}{core}{self.after if self.after[:1] in ('', '/') else f' {self.after}'}"

    @property
    def words(self) -> str:
        """How the numbers are written, as the end of a phrase: "with decimal commas in '€'"."""
        if self.form in _TOLD:
            return _TOLD[self.form]
        parts = ["decimal commas"] if self.decimal == "," else []
        if self.thousands:
            parts.append(f"{_MARKS[self.thousands]} between thousands")
        if self.form == "magnitude":
            parts.append("k, M or B for thousands, millions or billions")
        units = [f"in {unit!r}" for unit in (self.before, self.after) if unit]
        return " ".join([*(["with " + " and ".join(parts)] if parts else []), *units]) or "with signs of another kind"

    @property
    def has_plural(self) -> bool:
        """Whether the unit is a word in its plural, such as "stars"; "star" is read, too."""
        return len(self.after) > MAX_SHORT_UNIT and self.after.isalpha() and self.after.endswith("s")

    @classmethod
    def named(cls, name: str) -> "Notation":
        """Return the notation that has this name; any other name is an InputError."""
        for form, known in _FORMS.items():
            if name == known:
                return cls(form=form)
        for core, notation in _CORES.items():
            before, found, after = name.partition(core) if isinstance(name, str) else ("", "", "")
            if found and not any(map(str.isdecimal, before)):
                made = dataclasses.replace(notation, before=before.strip(), after=after.strip())
                if made.name == name:
                    return made
        raise InputError(f"Expected the name of a notation of numbers, such as '1.234.567,5 €'; got {name!r}.")

    def number(self, value: object) -> float | None:
        """The finite number that a value is, or spells in this notation; None for anything else."""
        if self.form == "plain" or not isinstance(value, str):
            return number_of(value)
        if len(value) > MAX_LENGTH:
            return None
        text = canonical(value)
        if self.form == "stars":
            stars = text.replace(" ", "").rstrip(EMPTY_STARS)
            return float(len(stars)) if stars and all(one in STARS for one in stars) else None
        if self.form == "fraction":
            return _fraction(text)
        match = _pattern(self).fullmatch(text)
        if match is not None:
            return self._value(match)
        return 0.0 if (self.before or self.after) and number_of(text) == 0.0 else None  # nothing needs no unit

    def _value(self, match: re.Match[str]) -> float | None:
        parts = match.groupdict()
        signs = [parts[name].strip() for name in ("first", "second", "last") if parts[name]]
        is_closed = parts["open"] is not None
        if len(signs) > 1 or is_closed is not (parts["close"] is not None) or (is_closed and signs):
            return None
        whole, rest = re.sub(r"\D", "", parts["whole"]) or "0", re.sub(r"\D", "", parts["rest"] or "") or "0"
        number = float(f"{whole}.{rest}e{parts['power'] or 0}") * MAGNITUDES.get(parts.get("size") or "", 1.0)
        number = -number if is_closed or "-" in signs else number
        return number if math.isfinite(number) else None


PLAIN: Final = Notation(form="plain")
_TOLD: Final = {"plain": "as plain numbers", "fraction": "as fractions", "stars": "as stars"}
_MARKS: Final = {",": "commas", ".": "points", "'": "apostrophes", " ": "spaces", "٬": "marks"}
_FORMS: Final = {"plain": "plain", "fraction": "1/2", "stars": "★★★"}


def _core_name(notation: Notation) -> str:
    groups = ("12", "34", "567") if notation.indian else ("1", "234", "567")
    size = "k" if notation.form == "magnitude" else ""
    return f"{notation.thousands.join(groups)}{notation.decimal}5{size}"


# What stands in a name -> the notation, longer ones first: "1234567.5k" begins with "1234567.5".
_CORES: Final[dict[str, Notation]] = {
    _core_name(one): one
    for form in ("magnitude", "number")
    for decimal in DECIMALS
    for thousands in THOUSANDS
    for indian in (False, True)
    if decimal != thousands and (thousands or not indian)
    for one in (Notation(decimal, thousands, indian, form=form),)
}
_AROUND_SLASH: Final = re.compile(" ?/ ?")
_PART: Final = r"\d+(?:[.,]\d+)?"
_FRACTION: Final = re.compile(rf"(?P<sign>[-+])? ?(?:(?P<ones>\d+) )?(?P<top>{_PART})/(?P<bottom>{_PART})")


def _fraction(text: str) -> float | None:
    """The number that "7/10", "1 1/2" or "3" is."""
    match = _FRACTION.fullmatch(text)
    if match is None:
        return number_of(text)
    top, bottom = (float(match[name].replace(",", ".")) for name in ("top", "bottom"))
    if not bottom:
        return None
    number = int(match["ones"] or 0) + top / bottom
    return -number if match["sign"] == "-" else number


@functools.lru_cache(maxsize=256)
def _pattern(notation: Notation) -> re.Pattern[str]:
    """What a number looks like in a notation, once it is `canonical`."""
    decimal, mark = re.escape(notation.decimal), re.escape(notation.thousands)
    first = r"[1-9]\d{0,2}"
    if notation.indian:
        groups = rf"[1-9]\d?(?:{mark}\d\d)*{mark}\d{{3}}"
    elif mark:
        groups = rf"{first}(?:{mark}\d{{3}})+"
    else:  # other marks stand between thousands where no doubt is left: before decimals, or several times
        others = "".join(one for one in ".,' " if one != notation.decimal)
        groups = rf"{first}(?P<a>[{others}])\d{{3}}(?:(?P=a)\d{{3}})*(?={decimal}\d)"
        groups += rf"|{first}(?P<b>[{others}])\d{{3}}(?:(?P=b)\d{{3}})+"
    whole = rf"(?P<whole>{groups}|\d+|(?={decimal}\d))"
    rest = rf"(?P<rest>{decimal}(?:\d+|--?)?)?"  # also "5,-", a price without cents
    power = r"(?:[eE](?P<power>[-+]?\d{1,3}))?"
    sizes = "|".join(map(re.escape, sorted(MAGNITUDES, key=len, reverse=True)))
    size = rf"(?: ?(?P<size>{sizes}))?" if notation.form == "magnitude" else ""
    before = rf"{re.escape(notation.before)} ?" if notation.before else ""
    after = rf" ?{re.escape(notation.after)}" if notation.after else ""
    after += "?" if notation.has_plural else ""  # "1 star"
    return re.compile(
        rf"(?P<open>\( ?)?(?P<first>[-+] ?)?{before}(?P<second>[-+] ?)?{whole}{rest}{power}{size}(?P<last> ?-)?{after}"
        r"(?P<close> ?\))?"
    )


def notations_of(columns: Mapping[str, Any]) -> dict[str, Notation]:
    """The notations among the columns of a run (`Choice.plain()`), by column; all others are `PLAIN`.

    Example:
        >>> notations_of({"series": ["sales"], "notations": {"sales": "1234567,5"}})["sales"].number("52,58")
        52.58
    """
    return {column: Notation.named(name) for column, name in columns.get("notations", {}).items()}
