"""Lines of standard input as they arrive: all that are there, without waiting for more."""

import codecs
from collections.abc import Iterator
from typing import IO, Any, Final

from thalweg.data.files.base import BadRow, Row
from thalweg.data.files.lines import MAX_LINE_LENGTH, require_end

_BLOCK: Final = 1 << 16  # bytes


def arriving_lines(file: IO[Any], max_length: int = MAX_LINE_LENGTH) -> Iterator[Row | BadRow | None]:
    """Yield each line of an open stream, without its line end, as a row of one text; UTF-8, best ``sys.stdin.buffer``.

    None says that nothing more is there yet, so that what has come can be used before the next line does. A line of
    more than `max_length` bytes, one that is not UTF-8, or has a NUL byte, is a bad row; an empty one is a row.
    """
    number, carry, length = 0, b"", 0  # of a line that is too long, and so is not kept
    for block in _blocks(file):
        *lines, rest = block.split(b"\n")
        for line in lines:
            number += 1
            yield _row(number, carry + line, max_length, is_long=bool(length))
            carry, length = b"", 0
        carry += rest
        if length or len(carry) > max_length:
            carry, length = b"", length + len(carry)
            require_end("standard input", number + 1, length)
        yield None
    if carry or length:
        yield _row(number + 1, carry, max_length, is_long=bool(length))


def _blocks(file: IO[Any]) -> Iterator[bytes]:
    read = getattr(getattr(file, "buffer", file), "read1", None)
    if read is None:  # such as io.StringIO
        yield from (line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line for line in file)
        return
    while block := read(_BLOCK):
        yield block


def _row(number: int, line: bytes, max_length: int, *, is_long: bool) -> Row | BadRow:
    if is_long or len(line) > max_length:
        return BadRow(number, f"the line is longer than {max_length:,} bytes")
    if b"\0" in line:
        return BadRow(number, "the line has a NUL byte")
    line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    try:
        return Row(number, (line.removesuffix(b"\r").decode(),))
    except UnicodeDecodeError as error:
        return BadRow(number, f"expected UTF-8 text, got the byte 0x{line[error.start]:02x}")
