"""Lines of standard input as they arrive."""

import io
import os

import pytest
from tests.endless import endless

from thalweg.data.files.arriving import arriving_lines
from thalweg.data.files.base import Row
from thalweg.errors import InputError

CASES = {
    "blank lines": (b"lovely\n\n \nawful\n", ["lovely", "", " ", "awful"]),
    "no line end at the end": (b"a\nb", ["a", "b"]),
    "windows line ends": (b"a\r\n\r\nb\r\n", ["a", "", "b"]),
    "byte-order mark": (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
    "not utf-8": (b"a\n\xff\nb\n", ["a", "expected UTF-8 text, got the byte 0xff", "b"]),
    "nul byte": (b"a\nb\0\nc\n", ["a", "the line has a NUL byte", "c"]),
    "too long": (b"a\n" + b"x" * 30 + b"\nb\n", ["a", "the line is longer than 20 bytes", "b"]),
    "nothing": (b"", []),
}


def texts(found):
    return [row.values[0] if isinstance(row, Row) else row.reason for row in found if row is not None]


@pytest.mark.parametrize("case", CASES)
def test_each_line_is_a_row_or_a_bad_one(case):
    content, expected = CASES[case]
    found = list(arriving_lines(io.BytesIO(content), max_length=20))
    assert texts(found) == expected
    assert [row.line for row in found if row is not None] == list(range(1, len(expected) + 1))


def test_a_line_without_end_is_told_with_bounded_memory(monkeypatch):
    monkeypatch.setattr("thalweg.data.files.lines._LONGEST", 1000)
    with pytest.raises(InputError, match=r"standard input, line 2: expected text with line ends, got more than 1,000"):
        list(arriving_lines(endless(b"a\n", b"x"), max_length=20))


def test_lines_are_whole_whatever_the_blocks(monkeypatch):
    monkeypatch.setattr("thalweg.data.files.arriving._BLOCK", 3)
    content = "one\nzwölf\n\nlast"
    assert texts(arriving_lines(io.BytesIO(content.encode()))) == content.split("\n")
    assert texts(arriving_lines(io.StringIO(content))) == content.split("\n")


def test_what_has_come_is_given_before_more_comes():
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "wb", buffering=0) as writer:
        rows = arriving_lines(reader)
        writer.write(b"one\ntwo\nthr")
        assert texts([next(rows), next(rows)]) == ["one", "two"]
        assert next(rows) is None, "nothing more is there, and nobody waits for it"
        writer.write(b"ee\n")
        assert texts([next(rows)]) == ["three"]
