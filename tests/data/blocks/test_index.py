"""Where the blocks of a file begin: kept beside it, and found anew when it changes."""

import gzip
import os

import pytest

from thalweg.data.blocks import index as module
from thalweg.data.blocks.index import index_of, places_of
from thalweg.data.containers.places import checksum_of
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

ROWS = [f'{{"text": "row {number} {"word " * (number % 9)}", "label": "{number % 2}"}}\n' for number in range(900)]
TEXT = "".join(ROWS)


def made(path, **options):
    source = open_source(path, **options)
    return index_of(source.lines, source.kind, source.table)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "rows.jsonl").write_text(TEXT)
    return tmp_path


def test_blocks_end_with_lines_and_are_all_of_the_file(folder):
    index, data = made(folder / "rows.jsonl"), TEXT.encode()
    pieces = [data[start : start + size] for start, size in zip(index.starts(), index.num_bytes, strict=True)]
    assert b"".join(pieces) == data
    assert len(pieces) > 5
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [piece.count(b"\n") for piece in pieces] == index.num_lines
    assert index.first_lines()[1] == index.num_lines[0] + 1


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_index_is_kept_and_read_again(folder, name, monkeypatch):
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(TEXT.encode(), mtime=0))
    first = made(folder / name)
    assert places_of(folder / name, name)[0].is_file()
    monkeypatch.setattr(module, "_cut", None)  # which would be called
    assert made(folder / name) == first


def test_checksum_of_a_folder_is_not_about_indexes_in_it(folder):
    before = checksum_of(str(folder))
    made(folder / "rows.jsonl")
    assert checksum_of(str(folder)) == before


def test_packed_file_is_cut_like_the_unpacked_one(folder):
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(TEXT.encode()))
    packed, plain = made(folder / "rows.jsonl.gz"), made(folder / "rows.jsonl")
    assert sum(packed.num_bytes) == sum(plain.num_bytes) == len(TEXT)
    assert packed.sha256 != plain.sha256


@pytest.mark.parametrize("what", ["size", "time", "damaged", "truncated", "foreign", "other rule", "a pickle"])
def test_index_of_another_file_is_found_anew(folder, what):
    path = folder / "rows.jsonl"
    before, kept = made(path), places_of(path, str(path))[0]
    if what == "size":
        path.write_text(TEXT + ROWS[0])
    elif what == "time":
        path.write_text(TEXT.replace("row 4", "ROW 4"))
        os.utime(path, ns=(0, int(before.mtime_ns) + 10**9))
    elif what == "damaged":
        kept.write_bytes(kept.read_bytes().replace(b"num_lines", b"num_limes"))
    elif what == "truncated":
        kept.write_bytes(kept.read_bytes()[:-9])
    elif what == "foreign":
        (folder / "other.jsonl").write_text(TEXT[: len(TEXT) // 2])
        made(folder / "other.jsonl")
        kept.write_bytes(places_of(folder / "other.jsonl", "other.jsonl")[0].read_bytes())
    elif what == "other rule":
        made(path, kind="text")  # takes the place
    else:
        kept.write_bytes(b"\x80\x04N.")
    after = made(path)
    assert sum(after.num_bytes) == path.stat().st_size
    assert (after == before) is (what not in ("size", "time"))


def test_folder_that_cannot_be_written_to_has_its_index_in_the_cache(folder, monkeypatch):
    path = folder / "rows.jsonl"
    beside, cache = places_of(path, str(path))
    write = module.write_file

    def refuse(place, data):
        if place == beside:
            raise PermissionError(13, "Permission denied", str(place))
        return write(place, data)

    monkeypatch.setattr(module, "write_file", refuse)
    first = made(path)
    assert not beside.exists()
    assert cache.is_file()
    monkeypatch.setattr(module, "_cut", None)
    assert made(path) == first


@pytest.mark.parametrize("stray", [False, True])
def test_rows_with_line_ends_inside_of_quotation_marks_stay_whole(folder, stray):
    rows = [f'"a text\nof {number % 7} lines\n, or so",{number % 3}\n' for number in range(900)]
    if stray:
        rows[5] = 'a board of 5" or so,1\n'
    (folder / "rows.csv").write_text("text,label\n" + "".join(rows))
    index = made(folder / "rows.csv")
    data = (folder / "rows.csv").read_bytes()
    starts = index.starts()[1:]
    assert len(starts) > 3
    assert all(data[start:].startswith(b'"a text') for start in starts)
    assert index.first_lines()[1] == data[: starts[0]].count(b"\n") + 1


def test_carriage_returns_before_a_line_feed_tear_no_row(folder):
    (folder / "rows.csv").write_text("text,label\n" + 'one,a\r"two\nlines",b\n' * 900, newline="")
    index = made(folder / "rows.csv")
    data, starts = (folder / "rows.csv").read_bytes(), index.starts()[1:]
    assert len(starts) > 3
    assert all(data[start:].startswith(b"one,a") for start in starts)
    assert sum(index.num_rows) == 1801  # with the header
    assert sum(index.num_lines) == 2701


@pytest.mark.parametrize("cut", [30, 2000])
def test_damaged_packed_file_is_told(folder, cut):
    content = gzip.compress(os.urandom(20000).hex().encode().replace(b"f", b"\n"))
    (folder / "rows.txt.gz").write_bytes(content)
    source = open_source(folder / "rows.txt.gz")
    (folder / "rows.txt.gz").write_bytes(content[:-cut])
    with pytest.raises(InputError, match=r"rows\.txt\.gz: the compressed file is damaged or truncated"):
        index_of(source.lines, source.kind, source.table)
