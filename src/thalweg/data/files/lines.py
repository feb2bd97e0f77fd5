"""Bytes in a file -> blocks of whole lines of text: decompression, encodings, and every way a file can be broken."""

import codecs
import contextlib
import gzip
import io
import lzma
import os
import stat
import tempfile
import unicodedata
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import IO, BinaryIO, Final, NoReturn, cast, final
from zipfile import BadZipFile

from thalweg.data.files.archive import GZIP, XZ, ZSTD, open_part, part_of, unpacked
from thalweg.data.files.base import BadRows
from thalweg.errors import InputError
from thalweg.storage.regular import require_regular

MAX_LINE_LENGTH: Final = 10_000_000  # characters
_LONGEST: Final = 250_000_000  # characters; where a line has not ended by then, the data are no text
_OPEN_FILES: Final = Path("/proc/self/fd")
_LEFT_FREE: Final = 1 << 30  # bytes that a pipe's copy leaves on the disk
BLOCK_SIZE: Final = 1 << 20  # bytes

_MIN_UNMARKED: Final = 8  # bytes by which UTF-16 is known without its mark
_NUM_UNMARKED: Final = 1 << 16  # that are looked at
_MIN_ZEROS: Final = 0.2  # of the bytes, where characters of Latin-1 are frequent

type_of_decoder = Callable[[bytes, str, bool], tuple[str, int]]

# The longer byte-order marks first: that of UTF-32 begins with that of UTF-16.
_DECODERS: Final[list[tuple[bytes, str, type_of_decoder]]] = [
    (codecs.BOM_UTF32_LE, "UTF-32", codecs.utf_32_le_decode),
    (codecs.BOM_UTF32_BE, "UTF-32", codecs.utf_32_be_decode),
    (codecs.BOM_UTF8, "UTF-8", codecs.utf_8_decode),
    (codecs.BOM_UTF16_LE, "UTF-16", codecs.utf_16_le_decode),
    (codecs.BOM_UTF16_BE, "UTF-16", codecs.utf_16_be_decode),
]
_UNMARKED: Final[dict[str, type_of_decoder]] = {
    "utf-16-le": codecs.utf_16_le_decode,
    "utf-16-be": codecs.utf_16_be_decode,
    "utf-32-le": codecs.utf_32_le_decode,
    "utf-32-be": codecs.utf_32_be_decode,
}
NUM_START: Final = 64  # bytes that show what a file is
COMPRESSIONS: Final = (XZ, GZIP, ZSTD, b"BZh91AY&SY")
_CONTROLS: Final = frozenset({*range(9), *range(14, 32)})
_PROTOCOLS: Final = (b"\x02", b"\x03", b"\x04\x95", b"\x05\x95")  # of pickles
# Files that are not text at all, by their first bytes.
_FOREIGN: Final = [
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"PAR1", "a Parquet file; unpack it"),
    (b"%PDF-", "a PDF document; save its text as a .txt file"),
    (b"\x89PNG", "a picture (PNG); give the text that it shows"),
    (b"\xff\xd8\xff", "a picture (JPEG); give the text that it shows"),
    (b"GIF8", "a picture (GIF); give the text that it shows"),
    (b"RIFF", "sound, video or a picture (RIFF); give the text of it"),
    (b"ID3", "sound (MP3); give the text of it"),
    (b"OggS", "sound (Ogg); give the text of it"),
    (b"fLaC", "sound (FLAC); give the text of it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it"),
    (b"ORC", "an ORC file; save the rows as CSV or Parquet"),
    (b"Obj\x01", "an Avro file; save the rows as JSON Lines"),
    (b"\x7fELF", "a program; name the file of data"),
    (b"MZ\x90", "a program; name the file of data"),
    (b"bplist00", "a property list; save the rows as JSON Lines"),
    (b"RDX", "data of R; write it with write.csv(x, file, row.names = FALSE)"),
    *((b"\x80" + version, "a Python pickle, which can run any code; save the rows as CSV") for version in _PROTOCOLS),
    (b"\x93NUMPY", "an array of numpy; save the rows as CSV"),
    (b"\x89HDF", "an HDF5 file; save the rows as CSV"),
    (b"\xd0\xcf\x11\xe0", "a document of an old Word or Excel; save it as plain text or CSV"),
    (b"{\\rtf", "a word processor's document (RTF); save it as plain text"),
    (b"SQLite format 3\x00", "an SQLite database; export the table as CSV"),
]


@final
class LineReader:
    r"""The regular file `path` as blocks of whole lines, from the beginning as often as wanted.

    Compressed files (xz, gzip, bzip2, zstd) are recognized by their content; `path` may be a file inside an archive,
    such as `data.zip#train.csv`. The text is UTF-8, or UTF-16 or UTF-32 with a byte-order mark or without one, where
    its zero bytes show it. Every line end becomes ``"\n"``. A line of more than `max_line_length` characters is never
    held in memory as a whole: it is counted as bad and an empty line stands in its place, so that line numbers
    stay right; with `skip_bad_rows` the same goes for a line with a NUL byte, which is an error otherwise. Raises
    `InputError` when the file is missing, a folder, unreadable, or no text.

    With `once` the path may also be a pipe, such as `/dev/stdin`: all of it is copied to a temporary file at once.
    """

    def __init__(
        self, path: Path, *, max_line_length: int = MAX_LINE_LENGTH, skip_bad_rows: bool = False, once: bool = False
    ) -> None:
        self.path = path
        self.max_line_length = max_line_length
        self.skip_bad_rows = skip_bad_rows
        self.unmarked = ""  # UTF-16 or UTF-32, where its first block shows that it has no byte-order mark
        self._piece: bytes | None = None  # what is read in place of the file, such as some lines of it
        self._first, self._position = 1, 0  # the line and the byte of the file that it begins with
        self._file, self._part = part_of(path)
        try:
            mode = self._file.stat().st_mode
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise InputError(f"{path}: there is no such file; check the name and the folder.") from None
            raise InputError(f"{path}: the file can't be opened ({_why(error)}).") from None
        if once and (stat.S_ISFIFO(mode) or _is_terminal(path)):
            kept, self._file = copied(path)
            weakref.finalize(self, kept.close)  # it is there as long as this object is
        else:
            require_regular(path, mode)

    def on(self, piece: bytes, line: int, position: int) -> "LineReader":
        """Return a reader of a piece of the unpacked file, which begins with this line (from 1) at this byte."""
        other = copy(self)
        other._piece, other._first, other._position = piece, line, position
        return other

    def opened(self) -> BinaryIO:
        """The bytes of the file, unpacked; they may be damaged, see `told`."""
        return self._open()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what goes wrong while bytes are read into an `InputError` that names the file."""
        try:
            yield
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, BadZipFile, MemoryError) as error:
            raise InputError(f"{self.path}: the compressed file is damaged or truncated ({_why(error)}).") from None
        except OSError as error:
            raise InputError(f"{self.path}: the file can't be read ({_why(error)}).") from None

    @property
    def is_packed(self) -> bool:
        """Whether the file is compressed, or a part of an archive, so that it can only be read from its beginning."""
        with self.told(), self._packed() as file:
            return self._part is not None or file.read(NUM_START).startswith(COMPRESSIONS)

    @property
    def is_wide(self) -> bool:
        """Whether the file begins with the byte-order mark of UTF-16 or UTF-32."""
        with self.told(), self._open() as file:
            start = file.read(4)
        return any(start.startswith(mark) for mark, name, _ in _DECODERS if name != "UTF-8")

    @property
    def file(self) -> Path:
        """The file on the disk."""
        return self._file

    def blocks(self, bad: BadRows) -> Iterator[tuple[int, str]]:
        """Yield (line number of the first line, text of whole lines that ends in a line end); bad lines go to `bad`."""
        line, carry, skipped = self._first, "", 0  # characters of a line that is too long
        for text in self._text():
            if skipped:
                end = text.find("\n")
                if end < 0:
                    skipped += len(text)
                    require_end(self.path, line, skipped)
                    continue
                text, skipped = text[end:], 0
            text = carry + text
            end = text.rfind("\n") + 1
            text, carry = text[:end], text[end:]
            num_lines = text.count("\n")
            if text.find("\n") > self.max_line_length:
                bad.add(line, self._too_long())
                text = text[text.find("\n") :]
            if len(carry) > self.max_line_length:
                bad.add(line + num_lines, self._too_long())
                carry, skipped = "", len(carry)
            if text:
                yield line, self._without_nul(text, line, bad)
            line += num_lines
        if carry:
            yield line, self._without_nul(carry + "\n", line, bad)

    def texts(self) -> Iterator[str]:
        """Yield the text in pieces as they come, whatever their length; every line end is a line feed."""
        yield from self._text()

    def beginning(self, num_characters: int = 1000) -> str:
        """The first characters of the text, or a few more."""
        return next(self._text(), "")[:num_characters]

    def whole(self, limit: int, instead: str) -> str:
        """The whole text; an `InputError` above the limit, in characters, names the format to take instead."""
        texts, length = [], 0
        for text in self._text():
            texts.append(text)
            length += len(text)
            if length > limit:
                raise InputError(
                    f"{self.path}: a file of this kind is read as a whole, up to {limit:,} characters, and this one is "
                    f"larger; convert it to {instead}."
                )
        return "".join(texts)

    def _too_long(self) -> str:
        return f"the line is longer than {self.max_line_length:,} characters"

    def _without_nul(self, text: str, line: int, bad: BadRows) -> str:
        if "\0" not in text:
            return text
        lines = text.split("\n")
        for i, one in enumerate(lines):
            if "\0" in one:
                if not self.skip_bad_rows:
                    raise InputError(
                        f"{self.path}, line {line + i}: found a NUL byte, so this is not plain text (or UTF-16 without "
                        "a byte-order mark); save the file as UTF-8."
                    )
                bad.add(line + i, "the line has a NUL byte")
                lines[i] = ""
        return "\n".join(lines)

    def _text(self) -> Iterator[str]:
        """The decoded text in blocks, with every line end as a line feed."""
        name, decode = "UTF-8", codecs.utf_8_decode
        position, num_lines, pending, held = self._position, self._first - 1, b"", ""
        # With lines shorter than a block only the first line of a block can be too long, which is quick to check.
        for number, block in enumerate(self._bytes(min(BLOCK_SIZE, self.max_line_length))):
            if number == 0 and not position:
                for mark, mark_name, mark_decode in _DECODERS:
                    if block.startswith(mark):
                        name, decode, block, position = mark_name, mark_decode, block[len(mark) :], len(mark)
                        break
                else:
                    if encoding := unmarked(block):
                        name, decode = encoding[:6].upper(), _UNMARKED[encoding]
                        self.unmarked = name
            data = pending + block
            try:
                text, used = decode(data, "strict", not block)
            except UnicodeDecodeError as error:
                self._undecodable(name, decode, data, error.start, position, num_lines)
            position, pending = position + used, data[used:]
            text = held + text
            held = "\r" if text.endswith("\r") and block else ""
            if held:
                text = text[:-1]
            if "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            num_lines += text.count("\n")
            if text:
                yield text

    def _undecodable(
        self, name: str, decode: type_of_decoder, data: bytes, start: int, position: int, num_lines: int
    ) -> NoReturn:
        before = decode(data[:start], "ignore", True)[0].replace("\r\n", "\n").replace("\r", "\n")
        code = data[start : start + 1]
        guess = code.decode("cp1252", "ignore") if name == "UTF-8" else ""
        hint = f", which is {guess!r} in Windows-1252" if guess.isprintable() and guess else ""
        raise InputError(
            f"{self.path}, line {num_lines + before.count(chr(10)) + 1}: expected {name} text, got the byte "
            f"0x{code.hex()} at position {position + start:,} of the file{hint}; save the file as UTF-8."
        ) from None

    def _bytes(self, size: int) -> Iterator[bytes]:
        """The decompressed bytes in blocks of at least four (a byte-order mark); the last block is empty."""
        with self.told(), self._open() if self._piece is None else io.BytesIO(self._piece) as file:
            while True:
                block = file.read(max(size, 4))
                yield block
                if not block:
                    return

    def _open(self) -> BinaryIO:
        with self._packed() as file:
            start = file.read(NUM_START)
        refuse_foreign(str(self.path), start)
        file = self._packed()
        try:
            return unpacked(file, start, str(self.path)) or file
        except BaseException:
            file.close()
            raise

    def _packed(self) -> BinaryIO:
        """The bytes as they are stored."""
        return self._file.open("rb") if self._part is None else cast(BinaryIO, open_part(self._file, self._part))


def copied(path: Path) -> tuple[IO[bytes], Path]:
    """Return a temporary file with all that comes through a pipe, and its path; it is gone when it is closed."""
    # One without a name is gone also when the process is killed.
    make = tempfile.TemporaryFile if _OPEN_FILES.is_dir() else tempfile.NamedTemporaryFile
    copy = make()
    try:
        with path.open("rb") as pipe:
            _copy(pipe, copy, path)
        copy.flush()
    except BaseException as error:
        copy.close()
        if isinstance(error, OSError):
            raise InputError(f"{path}: the pipe can't be read ({_why(error)}).") from None
        raise
    return copy, _OPEN_FILES / str(copy.fileno()) if make is tempfile.TemporaryFile else Path(copy.name)


def _copy(pipe: BinaryIO, copy: IO[bytes], path: Path) -> None:
    line, length = 1, 0
    while block := pipe.read(BLOCK_SIZE):
        end = block.rfind(b"\n") + 1
        line += block.count(b"\n")
        length = len(block) - end if end else length + len(block)
        require_end(path, line, length)
        disk = os.fstatvfs(copy.fileno())
        if disk.f_bavail * disk.f_frsize < _LEFT_FREE:
            raise InputError(
                f"{path}: the pipe has given {copy.tell():,} bytes, and there is no room for more in "
                f"{tempfile.gettempdir()}, where all of it is copied; give less at a time."
            )
        copy.write(block)


def require_end(path: str | Path, line: int, length: int) -> None:
    """Raise an `InputError` for a line of so many characters that it is none, and may never end."""
    if length > _LONGEST:
        raise InputError(
            f"{path}, line {line}: expected text with line ends, got more than {_LONGEST:,} characters without one."
        )


def _is_terminal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.isatty()
    except OSError:
        return False


def refuse_foreign(name: str, start: bytes) -> None:
    """Raise an InputError for what is no text by its first bytes, and say what to do."""
    for mark, what in _FOREIGN:
        if start.startswith(mark) and not (mark.isalnum() and _is_text(start)):
            raise InputError(f"{name}: expected a text file, got {what}.")


def _is_text(start: bytes) -> bool:
    """Whether first bytes are those of a text, which may begin with the letters that mark another format."""
    try:
        return not _CONTROLS.intersection(start) and bool(codecs.utf_8_decode(start, "strict", False)[0])
    except UnicodeDecodeError:
        return False


def unmarked(block: bytes) -> str:
    r"""The encoding of a text in UTF-16 or UTF-32 without a byte-order mark, judged by its beginning; "" for others.

    Its zero bytes stand on one side of the characters, and read so there are line ends and no control characters.

    Example:
        >>> unmarked("text,label\n".encode("utf-16-le")), unmarked(b"text,label\n")
        ('utf-16-le', '')
    """
    block = block[: min(len(block), _NUM_UNMARKED) // 4 * 4]
    num_zeros = block.count(0)
    if len(block) < _MIN_UNMARKED or not num_zeros:
        return ""
    zeros = [block[place::4].count(0) for place in range(4)]
    before, behind = zeros[0] + zeros[2], zeros[1] + zeros[3]  # in the first and the second byte of two
    names = ["utf-32-le", "utf-32-be", "utf-16-le" if behind > before else "utf-16-be"]
    return next((name for name in names if _reads(name, block, num_zeros)), "")


def _reads(name: str, block: bytes, num_zeros: int) -> bool:
    """Whether a block is a text in this encoding, and not one in UTF-8 with a few zero bytes."""
    try:
        text = _UNMARKED[name](block, "strict", False)[0]
    except UnicodeDecodeError:
        return False
    categories = Counter(map(unicodedata.category, text))
    has_controls = categories["Cc"] > sum(map(text.count, "\t\n\r"))
    if has_controls or any(categories[one] for one in ("Cn", "Co", "Cs")):
        return False
    if num_zeros >= _MIN_ZEROS * len(block):
        return True
    try:
        codecs.utf_8_decode(block, "strict", False)
    except UnicodeDecodeError:
        return "\n" in text
    return False


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
