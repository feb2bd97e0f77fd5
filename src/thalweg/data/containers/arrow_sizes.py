"""To how many bytes the packed batches of an Arrow file unpack, read from the file before one of them is unpacked."""

import struct
from collections.abc import Iterator
from typing import Any, Final

_CONTINUES: Final = b"\xff\xff\xff\xff"
_END: Final = 10  # bytes: length of the footer, and ARROW1
_DICTIONARY, _BATCH = 2, 3  # kinds of messages
_BLOCK, _BUFFER = 24, 16  # bytes of a structure


def unpacked_size(file: Any, *, is_stream: bool) -> int:
    """Return how many bytes the packed buffers of all batches say that they unpack to, which pyarrow takes for each.

    Args:
        file: has `seek` and `read`.
        is_stream: whether it is a stream of messages; else its footer tells where they are.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        return sum(_unpacked(file, *place) for place in (_messages(file) if is_stream else _blocks(file)))
    except (struct.error, IndexError) as error:
        raise ValueError(f"its messages cannot be followed: {error}") from None


def _messages(file: Any) -> Iterator[tuple[bytes, int]]:
    """The metadata of each message of a stream, and where its body begins."""
    place = 0
    while len(head := _read(file, place, 8)) >= 4:
        metadata, body = _metadata(file, place, head)
        if not metadata:
            return
        yield metadata, body
        (length,) = _number(metadata, _table(metadata, 0), 3, "<q") or (0,)
        if length < 0:
            raise ValueError("a message has a negative length")
        place = body + length


def _blocks(file: Any) -> Iterator[tuple[bytes, int]]:
    """The same of a file, for each block that its footer names."""
    end = file.seek(0, 2)
    (length,) = struct.unpack_from("<i", _read(file, end - _END, 4))
    if not 0 < length <= end - _END:
        raise ValueError("its footer is longer than the file")
    footer = _read(file, end - _END - length, length)
    for number in (2, 3):
        for block in _vector(footer, _table(footer, 0), number, _BLOCK):
            place, long = struct.unpack_from("<qi", footer, block)
            metadata, _ = _metadata(file, place, _read(file, place, 8))
            yield metadata, place + long


def _metadata(file: Any, place: int, head: bytes) -> tuple[bytes, int]:
    """Return the metadata of the message at a place, which begins so, and where they end."""
    begin = 8 if head.startswith(_CONTINUES) else 4  # older ones have no mark
    (length,) = struct.unpack_from("<i", head, begin - 4)
    if length < 0:
        raise ValueError("a message has a negative length")
    return _read(file, place + begin, length), place + begin + length


def _unpacked(file: Any, metadata: bytes, body: int) -> int:
    """Return how many bytes the buffers of a message say that they unpack to; 0 where they are not packed."""
    message = _table(metadata, 0)
    (kind,) = _number(metadata, message, 1, "<B") or (0,)
    place = _field(metadata, message, 2)
    if kind not in (_DICTIONARY, _BATCH) or not place:
        return 0
    batch = _table(metadata, place)
    if kind == _DICTIONARY:
        place = _field(metadata, batch, 1)
        if not place:
            return 0
        batch = _table(metadata, place)
    if not _field(metadata, batch, 3):  # how it is packed
        return 0
    total = 0
    for buffer in _vector(metadata, batch, 2, _BUFFER):
        start, length = struct.unpack_from("<qq", metadata, buffer)
        if length >= 8:
            (size,) = struct.unpack_from("<q", _read(file, body + start, 8))
            total += max(size, 0)  # -1: not packed
    return total


def _read(file: Any, place: int, size: int) -> bytes:
    if place < 0:
        raise ValueError("a place lies before the file")
    file.seek(place)
    return file.read(size)


def _table(data: bytes, place: int) -> int:
    """Return where the table lies that an offset at a place leads to."""
    return place + struct.unpack_from("<I", data, place)[0]


def _field(data: bytes, table: int, number: int) -> int:
    """Return where a field of a table lies; 0 where the table has none."""
    known = table - struct.unpack_from("<i", data, table)[0]
    if known < 0:
        raise ValueError("a table lies before the file")
    if 4 + 2 * number >= struct.unpack_from("<H", data, known)[0]:
        return 0
    offset = struct.unpack_from("<H", data, known + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _number(data: bytes, table: int, number: int, form: str) -> tuple[int] | None:
    place = _field(data, table, number)
    return struct.unpack_from(form, data, place) if place else None


def _vector(data: bytes, table: int, number: int, size: int) -> range:
    """Return the places of the structures in a vector."""
    place = _field(data, table, number)
    if not place:
        return range(0)
    begin = _table(data, place)
    (length,) = struct.unpack_from("<I", data, begin)
    if length * size > len(data):
        raise ValueError("a list is longer than what holds it")
    return range(begin + 4, begin + 4 + length * size, size)
