"""Packed data from strangers: what a few bytes grow to is refused before it fills memory or disk."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile

import pytest

from thalweg.data.containers.opening import open_any
from thalweg.data.files import archive
from thalweg.errors import InputError

ROWS = b"text,label\nfine,a\nbad,b\n"
SAME = ROWS + (b"x" * 20_000 + b",a\n") * 200  # 4 MB


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(archive, "RATIO_FROM", 100_000)
    monkeypatch.setattr(archive, "PIECE", 10_000)


def tar(mode, head=0):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as made:
        if head:
            entry = tarfile.TarInfo("head")
            entry.type, entry.size = tarfile.XHDTYPE, head
            made.addfile(entry, io.BytesIO(bytes(head)))
        for name, content in (("big.bin", SAME), ("a.csv", ROWS)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def zipped(content, method=zipfile.ZIP_DEFLATED, claimed=None, name="a.csv"):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", method) as made:
        made.writestr(name, content)
    data = bytearray(raw.getvalue())
    if claimed is not None:
        place = data.rindex(struct.pack("<L", len(content)))
        data[place : place + 4] = struct.pack("<L", claimed)
    return bytes(data)


def entries(count):
    """A zip file whose table of contents names one file again and again."""
    line = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, *[0] * 8, 2000, *[0] * 6) + b"x" * 2000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(line) * count, 30, 0)
    return b"PK\x03\x04" + bytes(26) + line * count + end


GROWS = "it would grow from .* bytes or more, which no data does .*; unpack it yourself if you trust it"
BOMBS = {
    "gz": ("a.csv.gz", lambda: gzip.compress(SAME), GROWS),
    "bz2": ("a.csv.bz2", lambda: bz2.compress(SAME), GROWS),
    "xz": ("a.csv.xz", lambda: lzma.compress(SAME), GROWS),
    "behind the wrong ending": ("a.csv", lambda: lzma.compress(SAME), GROWS),
    "zip": ("a.zip", lambda: zipped(SAME), GROWS),
    "bzip2 in a zip": ("a.zip", lambda: zipped(SAME, zipfile.ZIP_BZIP2), GROWS),
    "gz in a zip": ("a.zip", lambda: zipped(gzip.compress(SAME), name="a.csv.gz"), GROWS),
    "gz of gz": ("a.gz", lambda: gzip.compress(gzip.compress(SAME * 9)), "expected|grow"),
    "a large file in front, tar.gz": ("a.tar.gz#a.csv", lambda: tar("w:gz"), GROWS),
    "a large file in front, tar.xz": ("a.tar.xz", lambda: tar("w:xz"), GROWS),
    "a large head": ("a.tgz", lambda: tar("w:gz", archive.MAX_TABLE + 1), "an entry has a head of 10,000,|grow"),
    "many entries": ("a.zip", lambda: entries(6000), "its table of contents has 12,276,000 bytes"),
    "the size is a lie": ("a.zip", lambda: zipped(SAME, zipfile.ZIP_BZIP2, 90_000), "damaged"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused(tmp_path, case):
    name, make, message = BOMBS[case]
    (tmp_path / name.partition("#")[0]).write_bytes(make())
    with pytest.raises(InputError, match=message):
        list(open_any(tmp_path / name).rows())


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_log_of_a_hundred_to_one_is_read(tmp_path, pack):
    """Lines that differ in a number here and there, as machines write them."""
    row = b"2026-01-01 00:%02d:%02d host-a app[4711]: GET /index.html HTTP/1.1 200 %d Mozilla (compatible),ok\n"
    lines = b"".join(row % (i // 6000, i // 100 % 60, i // 10 * 7919 % 9973) for i in range(10_000))
    data = pack(b"text,label\n" + lines)
    assert 100 * len(data) < len(lines) < 300 * len(data)
    (tmp_path / "log.csv.gz").write_bytes(data)
    assert sum(1 for _ in open_any(tmp_path / "log.csv.gz").rows()) == 10_000


def test_a_refused_file_is_closed_and_nothing_is_written(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(SAME))
    for _ in range(2):
        with pytest.raises(InputError, match=GROWS):
            list(open_any(tmp_path / "a.csv.gz").rows())
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv.gz"]
