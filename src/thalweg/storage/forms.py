"""What a JSON file may hold: a form, by which it is read, so that nothing else of a file of a stranger goes further.

A form takes a value and where it stands, and returns the value in its type, or raises a ValueError that says what was
expected there.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from thalweg.errors import InputError

Form = Callable[[Any, str], Any]

MAX_BYTES: Final = 2**27  # of a file
MAX_VALUES: Final = 2**22  # in a file; in Python each takes many times the two or three bytes that spell it
MOST: Final = 2**53  # the largest whole number that every reader of JSON keeps exactly

AGAIN: Final = "restore it or train the run again"


def read_json(path: Path, form: Form, *, otherwise: str = AGAIN) -> Any:
    """Read a JSON file by its form.

    Args:
        path: the file.
        form: of its value.
        otherwise: what to do where it is missing or damaged, as the end of a sentence.

    Raises:
        InputError: if the file is missing, is not JSON, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES or not path.is_file():
            raise ValueError("it is no file of this size that a run has")
        return parse_json(path.read_bytes(), form)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {otherwise}.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} is damaged ({reason}); {otherwise}.") from None


def parsed(data: bytes, form: Form, path: Path, *, otherwise: str = AGAIN) -> Any:
    """Return the value in the content of a JSON file, in its form; an InputError says that the file is damaged."""
    try:
        return parse_json(data, form)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); {otherwise}.") from None


def parse_json(data: bytes, form: Form) -> Any:
    """Return the value that JSON spells, in its form.

    Raises:
        ValueError: if it is not JSON (numbers that are not finite, and a key that comes twice, are not), or holds
            something else.

    Example:
        >>> parse_json(b'{"labels": ["a", "b"]}', record(labels=many(text())))
        {'labels': ['a', 'b']}
        >>> parse_json(b'{"labels": ["a", 7]}', record(labels=many(text())))
        Traceback (most recent call last):
            ...
        ValueError: expected a text at labels[1], got 7
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES:,} bytes")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    try:
        value = json.loads(data.decode(), parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not valid JSON: {error}") from None
    except ValueError as error:
        if "set_int_max_str_digits" in str(error):
            raise ValueError("a number has thousands of digits") from None
        raise
    return form(value, "")


def text(*, most: int = 2**20) -> Form:
    """A text of at most so many characters, which UTF-8 can hold."""

    def check(value: Any, where: str) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise _other("a text", value, where)
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise _other("a text without half characters", value, where)
        return value

    return check


def choice(*values: str) -> Form:
    """One of some texts."""

    def check(value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in values:
            raise _other(f"one of {', '.join(values)}", value, where)
        return value

    return check


def truth() -> Form:
    """True or false."""

    def check(value: Any, where: str) -> bool:
        if not isinstance(value, bool):
            raise _other("true or false", value, where)
        return value

    return check


def whole(least: int = -MOST, most: int = MOST) -> Form:
    """A whole number in a range."""

    def check(value: Any, where: str) -> int:
        if type(value) is not int or not least <= value <= most:
            raise _other(f"a whole number from {least} to {most}", value, where)
        return value

    return check


def number(least: float = -math.inf, most: float = math.inf) -> Form:
    """A finite number in a range, as a float."""

    def check(value: Any, where: str) -> float:
        if type(value) is int and abs(value) > MOST:
            raise _other("a number", value, where)
        if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
            within = "" if least == -math.inf and most == math.inf else f" from {least:g} to {most:g}"
            raise _other(f"a number{within}", value, where)
        return float(value)

    return check


def perhaps(form: Form) -> Form:
    """A value of a form, or null."""
    return lambda value, where: None if value is None else form(value, where)


def either(what: str, *forms: Form) -> Form:
    """A value of the first of some forms that takes it; `what` says in a message what was expected."""

    def check(value: Any, where: str) -> Any:
        for form in forms:
            try:
                return form(value, where)
            except ValueError:
                continue
        raise _other(what, value, where)

    return check


def many(form: Form, *, least: int = 0, most: int = 2**31) -> Form:
    """A list of values of one form."""

    def check(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            size = f" of {least} or more" if least else ""
            raise _other(f"a list{size if least < most else f' of {least}'}", value, where)
        return [form(one, f"{where}[{place}]") for place, one in enumerate(value)]

    return check


def distinct_texts(*, least: int = 0) -> Form:
    """A list of texts, none of which comes twice."""
    listed = many(text(), least=least)

    def check(value: Any, where: str) -> list[str]:
        found = listed(value, where)
        if len(set(found)) < len(found):
            raise ValueError(f"expected different texts{f' at {where}' if where else ''}, got one of them twice")
        return found

    return check


def table(form: Form) -> Form:
    """An object of any names with values of one form."""

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _other("an object", value, where)
        name_of = text()
        return {name_of(name, where): form(one, f"{where}.{name[:40]}".lstrip(".")) for name, one in value.items()}

    return check


def record(optional: Mapping[str, Form] | None = None, /, **required: Form) -> Form:
    """An object with values of these names, each in its form; others are left as they are."""
    known = {**(optional or {}), **required}

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _other("an object", value, where)
        for name in required:
            if name not in value:
                raise ValueError(f"expected '{name}'{f' in {where}' if where else ''}, which is missing")
        return value | {
            name: form(value[name], f"{where}.{name}".lstrip(".")) for name, form in known.items() if name in value
        }

    return check


def anything() -> Form:
    """Whatever stands there."""
    return lambda value, where: value  # noqa: ARG005


def _other(expected: str, value: Any, where: str) -> ValueError:
    try:
        shown = json.dumps(value)
    except (ValueError, RecursionError):
        shown = "something else"
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ValueError(f"expected {expected}{f' at {where}' if where else ''}, got {shown}")


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number in JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; refuse a name that comes twice, of which every reader would take another value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found
