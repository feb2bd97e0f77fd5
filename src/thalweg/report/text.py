"""Words and numbers for people, and text that stays text inside a page, a script or a figure."""

import json
import math
import numbers
import re
from collections.abc import Sequence
from typing import Any

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# What nobody sees and what steers: C0 but for tab and line feed, DEL, C1, the marks, overrides and isolates of
# direction, the separators of lines and paragraphs, and halves of surrogate pairs.
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SCRIPT_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_PLOTLY_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "%": "&#37;"}


def number(value: object) -> float | None:
    """Return a finite number as a float and everything else (None, NaN, infinity, text, truth values) as None."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        as_float = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return as_float if math.isfinite(as_float) else None


def format_value(value: object) -> str:
    """Return a value as a person writes it: four significant digits, thousands separators, no computer notation.

    Whole numbers keep all their digits, 0.0000321 is "3.21 × 10⁻⁵", True is "yes", None is a dash, texts are unchanged.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}".replace("-", "−")
    if not isinstance(value, numbers.Real):
        return str(value)
    as_float = float(value)
    if math.isnan(as_float):
        return "not a number"
    if math.isinf(as_float):
        return "∞" if as_float > 0 else "−∞"
    size = abs(as_float)
    if size and (size < 1e-4 or size >= 1e15):
        digits, exponent = f"{as_float:.3e}".split("e")
        shown = f"{float(digits):g} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
        return shown.replace("-", "−")
    return (f"{as_float:,.0f}" if size >= 999.95 else f"{as_float:.4g}").replace("-", "−")


def common_decimals(values: Sequence[object]) -> int | None:
    """Return how many decimals give a column of numbers four significant digits at its largest.

    None where they would not suit every value: all are whole, one is as large as a thousand, or one is so small that
    nothing of it would be left.
    """
    sizes = [abs(value) for value in map(number, values) if value is not None]
    fractional = any(not isinstance(value, numbers.Integral) and number(value) is not None for value in values)
    if not fractional or max(sizes) >= 999.95:
        return None
    largest = max(sizes)
    decimals = 4 if largest <= 1 else 3 if largest < 10 else 2 if largest < 100 else 1
    return decimals if min((size for size in sizes if size), default=1.0) >= 10**-decimals else None


def format_percentage(part: float, whole: float) -> str:
    """Return a part of a whole as a percentage with three significant digits; "0%" of nothing."""
    return f"{100 * part / whole:.3g}%" if whole else "0%"


def visible(text: object) -> str:
    r"""Return a text whose characters that steer a terminal, or turn the direction of what follows, are shown.

    C0 and DEL are their symbols, the others their code; a byte of a file's name that is no UTF-8 is its number. Line
    feeds and tabs stay.

    Example:
        >>> visible("\x1b[31m"), visible("\x9b"), visible("a\u202eb")
        ('␛[31m', '\\x9b', 'a\\u202eb')
    """
    return STEERING.sub(_symbol, str(text).replace("\r\n", "\n"))


def one_line(text: object, width: int = 200) -> str:
    r"""Return a text as a cell of a table or a part of a sentence shows it: visible, on one line, and not too long.

    Example:
        >>> one_line("two\nlines\tand a tab")
        'two␊lines␉and a tab'
    """
    return clip(visible(text).replace("\n", "␊").replace("\t", "␉"), width)


def _symbol(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20 or code == 0x7F:
        return chr(0x2400 + code) if code < 0x20 else "␡"
    if 0xDC80 <= code <= 0xDCFF:  # how Python writes the bytes 0x80 to 0xff of a name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def clip(text: str, width: int) -> str:
    """Return a text of at most `width` characters, the middle replaced by an ellipsis where it is longer.

    The end is kept because the names of layers and files differ there.
    """
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - tail - 1]}…{text[len(text) - tail :]}"


def short_names(names: Sequence[str], width: int) -> list[str]:
    """Return dotted names without the parts with which all of them begin or end, clipped to a width.

    A number alone says nothing; there the part before it stays: "0.up" and "1.down".
    """
    parts = [name.split(".") for name in names]
    shortest = min((len(part) for part in parts), default=1)
    start = next((i for i in range(shortest - 1) if len({part[i] for part in parts}) > 1), max(0, shortest - 1))
    ends = range(1, max(1, shortest - start))
    end = next((i for i in ends if len({part[-i] for part in parts}) > 1), max(1, shortest - start)) - 1
    if start and any(".".join(part[start : len(part) - end]).isdigit() for part in parts):
        start -= 1
    return [clip(".".join(part[start : len(part) - end]), width) for part in parts]


def figure_text(text: object, width: int = 300) -> str:
    """Return a text that a plotly figure shows as it is.

    Plotly reads a subset of HTML (``<b>``, ``<a href>``, ``<br>``, entities) and ``%{...}`` in every label, so those
    characters become entities; line breaks become spaces. The middle of a text longer than `width` is left out.
    """
    flat = clip(" ".join(visible(text).split()), width)
    return "".join(_PLOTLY_ESCAPES.get(letter, letter) for letter in flat)


def script_json(value: Any) -> str:
    r"""Return JSON that can stand inside a script element: nothing in it can close the element or end a line."""
    as_json = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return as_json.translate(_SCRIPT_ESCAPES).encode("utf-8", "replace").decode("utf-8")
