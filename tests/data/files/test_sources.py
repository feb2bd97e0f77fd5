"""Files and streams -> rows: what is read right, and every kind of broken file told in a sentence."""

import bz2
import gzip
import lzma
import os
import threading
import tracemalloc
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from thalweg.data.files.base import BadRow, Row
from thalweg.data.files.sources import KINDS, open_source
from thalweg.errors import InputError


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(source):
    return [row.values for row in source.rows()]


# name of the file, its content, kind, columns, rows
GOOD = {
    "plain csv": ("a.csv", "text,label\nfine,1\nbad,0\n", "csv", ("text", "label"), [("fine", "1"), ("bad", "0")]),
    "no line end at the end": (
        "a.csv",
        "text,label\nfine,1\nbad,0",
        "csv",
        ("text", "label"),
        [("fine", "1"), ("bad", "0")],
    ),
    "quotes": ("a.csv", 'text,label\n"a, b ""c""",1\n', "csv", ("text", "label"), [('a, b "c"', "1")]),
    "line end in quotes": (
        "a.csv",
        'text,label\n"a\nb",1\nc,0\n',
        "csv",
        ("text", "label"),
        [("a\nb", "1"), ("c", "0")],
    ),
    "windows line ends": ("a.csv", 'text,label\r\n"a\r\nb",1\r\n', "csv", ("text", "label"), [("a\nb", "1")]),
    "old mac line ends": ("a.csv", "text,label\rfine,1\r", "csv", ("text", "label"), [("fine", "1")]),
    "empty lines": ("a.csv", "\n\ntext,label\n\nfine,1\n\n", "csv", ("text", "label"), [("fine", "1")]),
    "semicolons": ("a.csv", "text;label\na, b;1\nc, d;0\n", "csv", ("text", "label"), [("a, b", "1"), ("c, d", "0")]),
    "bars": ("a.csv", "text|label\na, b|1\nc|0\n", "csv", ("text", "label"), [("a, b", "1"), ("c", "0")]),
    "tabs in csv": ("a.csv", 'text\tlabel\n"a\t1\n', "tsv", ("text", "label"), [('"a', "1")]),
    "numbers": ("a.csv", "year,value\n1700,5\n1701,11\n", "csv", ("year", "value"), [("1700", "5"), ("1701", "11")]),
    "one column": ("a.csv", "text\nfine\nbad\n", "csv", ("text",), [("fine",), ("bad",)]),
    "empty values": ("a.csv", "text,label\n,\n", "csv", ("text", "label"), [("", "")]),
    "unnamed column": ("a.csv", ",text\n0,fine\n", "csv", ("column1", "text"), [("0", "fine")]),
    "byte-order mark": ("a.csv", b"\xef\xbb\xbftext,label\nfine,1\n", "csv", ("text", "label"), [("fine", "1")]),
    "utf-16": ("a.csv", "text,label\ngrün,1\n".encode("utf-16"), "csv", ("text", "label"), [("grün", "1")]),
    "utf-16 without mark": (
        "a.csv",
        "text,label\nfine,1\n".encode("utf-16-le"),
        "csv",
        ("text", "label"),
        [("fine", "1")],
    ),
    **{
        f"{encoding} of few Latin letters": (
            "a.csv",
            ("text,label\n" + "\u4e2d\u6587\u5f88\u597d\u4e00\u4e0a,\u662f\n" * 2).encode(encoding),
            "csv",
            ("text", "label"),
            [("\u4e2d\u6587\u5f88\u597d\u4e00\u4e0a", "\u662f")] * 2,
        )
        for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
    },
    "text that begins as a format does": (
        "a.txt",
        b"ORC and elf\nGIF8 or not\n",
        "text",
        ("text",),
        [("ORC and elf",), ("GIF8 or not",)],
    ),
    "CSV called JSON Lines": (
        "a.jsonl",
        b"text,label\nfine,1\nbad,0\n",
        "csv",
        ("text", "label"),
        [("fine", "1"), ("bad", "0")],
    ),
    "utf-16 without mark, big end": (
        "a.txt",
        "gr\u00fcn\nrot\n".encode("utf-16-be"),
        "text",
        ("text",),
        [("gr\u00fcn",), ("rot",)],
    ),
    "utf-16 big end": (
        "a.csv",
        b"\xfe\xff" + "text,label\n😀,1\n".encode("utf-16-be"),
        "csv",
        ("text", "label"),
        [("😀", "1")],
    ),
    "utf-32": ("a.csv", "text,label\ngrün,1\n".encode("utf-32"), "csv", ("text", "label"), [("grün", "1")]),
    "tsv with header": ("a.tsv", 'text\tlabel\n"fine\t1\n', "tsv", ("text", "label"), [('"fine', "1")]),
    "tsv without header": (
        "a.tsv",
        "one long string\t0\na good film\t1\n",
        "tsv",
        ("column1", "column2"),
        [("one long string", "0"), ("a good film", "1")],
    ),
    "tsv whose first label comes again": (
        "a.tsv",
        "ham\tok then\nspam\twin\nham\tno\n",
        "tsv",
        ("column1", "column2"),
        [("ham", "ok then"), ("spam", "win"), ("ham", "no")],
    ),
    "tsv of sentences": (
        "a.tsv",
        "Hi.\tHallo!\nRun!\tLauf!\n",
        "tsv",
        ("column1", "column2"),
        [("Hi.", "Hallo!"), ("Run!", "Lauf!")],
    ),
    "separators of unicode are text": (
        "a.tsv",
        "text\tlabel\na\u2028b\x0bc\t1\n",
        "tsv",
        ("text", "label"),
        [("a\u2028b\x0bc", "1")],
    ),
    "jsonl": (
        "a.jsonl",
        '{"text":"fine","n":1}\n\n{"text":"bad"}\n',
        "jsonl",
        ("text", "n"),
        [("fine", 1), ("bad", None)],
    ),
    "jsonl with lists": (
        "a.ndjson",
        '{"tokens":["a","b"],"tags":["X","Y"]}\n',
        "jsonl",
        ("tokens", "tags"),
        [(["a", "b"], ["X", "Y"])],
    ),
    "json lines in .json": ("a.json", '{"text":"fine"}\n', "jsonl", ("text",), [("fine",)]),
    "half a surrogate pair": ("a.jsonl", '{"text":"a\\ud800b"}\n', "jsonl", ("text",), [("a\ufffdb",)]),
    "a whole surrogate pair": ("a.jsonl", '{"text":"\\ud83d\\ude00"}\n', "jsonl", ("text",), [("😀",)]),
    "conll": (
        "a.conll",
        "I\tO\nran\tB-x\n\nHe\tO\n",
        "conll",
        ("tokens", "tags"),
        [(["I", "ran"], ["O", "B-x"]), (["He"], ["O"])],
    ),
    "conll with spaces": (
        "a.conll",
        "-DOCSTART- X X O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n",
        "conll",
        ("tokens", "pos", "chunk", "tags"),
        [(["EU", "rejects"], ["NNP", "VBZ"], ["B-NP", "B-VP"], ["B-ORG", "O"])],
    ),
    "conll with hashes": (
        "a.conll",
        "# a comment\n#tag\tO\n#\tO\n\t\nx\tB\n",
        "conll",
        ("tokens", "tags"),
        [(["#tag", "#"], ["O", "O"]), (["x"], ["B"])],
    ),
    "conll with facts": (
        "a.conll",
        "# intent = Play\nplay\tO\nit\tO\n\n# intent = Stop\nstop\tO\n",
        "conll",
        ("tokens", "tags", "intent", "text"),
        [(["play", "it"], ["O", "O"], "Play", "play it"), (["stop"], ["O"], "Stop", "stop")],
    ),
    "text": ("a.txt", "one\n\ntwo", "text", ("text",), [("one",), ("",), ("two",)]),
    "tsv by content": (
        "data",
        "ham\tok then\nspam\twin\nham\tno\n",
        "tsv",
        ("column1", "column2"),
        [("ham", "ok then"), ("spam", "win"), ("ham", "no")],
    ),
    "jsonl by content": ("data", '{"text":"fine"}\n{"text":"bad"}\n', "jsonl", ("text",), [("fine",), ("bad",)]),
    "conll by content": (
        "data.annotated",
        "I\tO\nran\tB-x\n\nHe\tO\nhid\tO\n\n",
        "conll",
        ("tokens", "tags"),
        [(["I", "ran"], ["O", "B-x"]), (["He", "hid"], ["O", "O"])],
    ),
    "text by content": ("README", "one\n\ntwo, three\n", "text", ("text",), [("one",), ("",), ("two, three",)]),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_file_gives_its_rows(tmp_path, case):
    name, content, kind, columns, rows = GOOD[case]
    source = open_source(write(tmp_path, name, content))
    assert (source.kind, source.columns) == (kind, columns)
    assert values(source) == rows
    assert values(source) == rows, "a source can be read again"
    assert source.num_bad_rows == 0


@pytest.mark.parametrize(
    ("case", "ending", "compress"),
    [("plain csv", ".gz", gzip.compress), ("jsonl", ".bz2", bz2.compress), ("conll", ".xz", lzma.compress)],
)
def test_a_compressed_file_gives_the_same_rows(tmp_path, case, ending, compress):
    name, content, kind, columns, rows = GOOD[case]
    source = open_source(write(tmp_path, name + ending, compress(content.encode())))
    assert (source.kind, source.columns, values(source)) == (kind, columns, rows)


def test_conllu_leaves_out_ranges_and_empty_words(tmp_path):
    content = (
        "# sent_id = 1\n# text = Don't go\n"
        "1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_\n"
        "1\tDo\tdo\tAUX\tVB\t_\t3\taux\t_\t_\n2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_\n"
        "2.1\tx\t_\t_\t_\t_\t_\t_\t_\t_\n3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_\n\n"
    )
    source = open_source(write(tmp_path, "a.conllu", content))
    assert source.columns[:4] == ("tokens", "lemma", "upos", "xpos")
    assert source.columns[-2:] == ("sent_id", "text")
    row = source.head(1)[0]
    assert row.line == 4
    assert row.values[0] == ["Do", "n't", "go"]
    assert row.values[2] == ["AUX", "PART", "VERB"]
    assert row.values[-2:] == ("1", "Don't go")


# name of the file, its content, pattern of the message
BAD = {
    "empty": ("a.csv", "", "a.csv: expected rows of data, got an empty file"),
    "only line ends": ("a.csv", "\n\n\n", "got an empty file"),
    "empty gz": ("a.csv.gz", gzip.compress(b""), "got an empty file"),
    "header only": ("a.csv", "text,label\n", "expected rows after the header on line 1, got none"),
    "header only in tsv": ("a.tsv", "text\tlabel\n", "expected rows after the header"),
    "latin-1": (
        "a.csv",
        "text,label\nfine,1\ngrün,1\n".encode("latin-1"),
        r"line 3: expected UTF-8 text, got the byte 0xfc at position 20 of the file, which is 'ü' in Windows-1252;",
    ),
    "cut utf-8": ("a.csv", "text,label\nfine,ü".encode()[:-1], "line 2: expected UTF-8 text, got the byte 0xc3"),
    "odd utf-16": ("a.csv", "text,label\nfine,1\n".encode("utf-16") + b"x", "line 3: expected UTF-16 text"),
    "nul": ("a.csv", "text,label\nfine,1\na\0b,1\n", "line 3: found a NUL byte"),
    "zero bytes": ("a.csv", b"text,label\nfine,1\nbad\0,2\n", "line 3: found a NUL byte"),
    "bytes of no text": ("a.csv", bytes(range(200)), "line 3: expected UTF-8 text"),
    "a picture": ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"got a picture \(PNG\)"),
    "an ORC file": ("a.txt", b"ORC\x11\0\0\x0a", "got an ORC file; save the rows as CSV"),
    "ARFF as a table": (
        "a.csv",
        b"@relation x\n@attribute t string\n@data\n'a',b\n",
        "got an ARFF file; save it as CSV",
    ),
    "a page as a table": ("a.csv", b"<!DOCTYPE html><html>\n<td>a, b</td>\n", "got a web page; .* --kind csv reads it"),
    "ragged": (
        "a.csv",
        "text,label\nfine,1\nbad\nfine,1,2\n",
        r"2 of 3 rows can't be read \(line 3: expected 2 columns, got 1; line 4: expected 2 columns, got 3\)",
    ),
    "ragged tsv": ("a.tsv", "text\tlabel\nfine\t1\nbad\n", "1 of 2 rows can't be read"),
    "open quote": (
        "a.csv",
        'text,label\nfine,1\n"bad,0\nfine,1\n',
        "line 3: this row opens a quotation mark that is never closed",
    ),
    "no json": ("a.jsonl", '{"a":1}\n{"a":\n', r"line 2: not valid JSON \(Expecting value at column 6\)"),
    "json list lines": ("a.jsonl", '{"a":1}\n[1]\n', "line 2: expected a JSON object, got a list"),
    "spread json that is cut": ("a.json", '{\n "a": 1,\n', r"line \d: not valid JSON \(Expecting"),
    "list of numbers": ("a.json", "[1, 2]\n", "expected JSON objects with keys, .*got a number"),
    "list of lists": (
        "a.json",
        "[[1, 2], [3, 4]]\n",
        "expected JSON objects with keys, .*got a list; give each list as",
    ),
    "json without keys": ("a.jsonl", "{}\n", "got only empty ones"),
    "deep json": ("a.jsonl", '{"a":1}\n' + "[" * 100_000 + "\n", "line 2: the JSON is nested too deeply"),
    "huge number": ("a.jsonl", '{"a":1}\n{"a":' + "1" * 10_000 + "}\n", "line 2: not readable JSON"),
    "ragged conll": ("a.conll", "a\tO\nb\n\nc\tO\n", "line 1: expected 2 columns on line 2, got 1"),
    "cut gz": (
        "a.csv.gz",
        gzip.compress(b"text,label\n" + os.urandom(9999))[:-2000],
        "the compressed file is damaged or truncated",
    ),
    "cut xz": (
        "a.csv.xz",
        lzma.compress(b"text,label\n" + os.urandom(9999))[:-2000],
        "the compressed file is damaged or truncated",
    ),
    "broken bz2": ("a.csv.bz2", bz2.compress(b"text,label\na,b\n" * 99)[:20] + b"x" * 99, "can't be read|damaged"),
    "zip": ("a.csv", b"PK\x03\x04" + b"x" * 99, "the archive is damaged or can't be read"),
    "parquet": ("a.csv", b"PAR1" + b"x" * 99, "the file is damaged"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_told_in_a_sentence(tmp_path, case):
    name, content, message = BAD[case]
    path = write(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as caught:
        values(open_source(path))
    assert str(path) in str(caught.value)


def test_missing_files_and_folders_are_told(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.csv: there is no such file"):
        open_source(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match="expected a folder with one set of data, got an empty one"):
        open_source(tmp_path)
    with pytest.raises(InputError, match="can't be opened"):
        open_source(tmp_path / "a\0b")
    with pytest.raises(InputError, match="standard input can be read only once"):
        open_source("-")
    with pytest.raises(ValueError, match=r"open_source\(kind=...\) must be one of csv, .*; got 'excel'"):
        open_source(tmp_path / "a.csv", kind="excel")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="expected a regular file"):
        open_source(tmp_path / "pipe")


def test_few_bad_rows_are_left_out_counted_and_listed(tmp_path):
    rows = [f"text {i},{i % 2}" for i in range(1000)]
    rows[500] = "only one"
    rows[700] = "one,two,three"
    source = open_source(write(tmp_path, "a.csv", "text,label\n" + "\n".join(rows) + "\n"))
    found = list(source.rows())
    assert len(found) == 998
    assert source.num_bad_rows == 2
    assert source.bad_rows == [(502, "expected 2 columns, got 1"), (702, "expected 2 columns, got 3")]
    assert found[500].line == 503
    assert found[500].values == ("text 501", "1")


def test_more_than_one_percent_of_bad_rows_end_the_reading_unless_skipped(tmp_path):
    rows = [f"text {i},{i % 2}" if i % 50 else "bad" for i in range(1000)]
    path = write(tmp_path, "a.csv", "text,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(
        InputError, match=r"20 of 1,000 rows can't be read .* which is more than 1 %; .*--skip-bad-rows"
    ):
        values(open_source(path))
    source = open_source(path, skip_bad_rows=True)
    assert len(values(source)) == 980
    assert source.num_bad_rows == 20
    assert len(source.bad_rows) == 20


def test_a_hopeless_file_ends_before_its_end(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\n" + "fine\t1\n" * 6000 + "bad\n" * 200_000)
    with pytest.raises(InputError, match="more than 1 %") as caught:
        values(open_source(path))
    assert "206,000" not in str(caught.value)


def test_skipping_bad_rows_skips_nul_bytes_and_open_quotes(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\nfine,1\na\0b,0\n"open,1\n')
    source = open_source(path, skip_bad_rows=True)
    assert values(source) == [("fine", "1")]
    assert source.bad_rows == [(3, "the line has a NUL byte"), (4, "a quotation mark is never closed")]


MIXED = {
    "csv": ("a.csv", 'text,label\nfine,1\na,b,1\n"x\ny",0\nalone\nbad,0\nz\n', [2, -3, 4, -6, 7, -8]),
    "bad row first": ("a.csv", "text,label\nalone\nfine,1\n", [-2, 3]),
    "json": ("a.jsonl", '{"text": "a"}\n'.replace("}", "") + '{"text": "b"}\n[1]\n"x"\n', [-1, 2, -3, -4]),
    "nul byte": ("a.csv", "text,label\nfine,1\nb\0,0\nok,1\n", [2, -3, 4]),
    "sentences": ("a.conll", "a X\nb X\n\nc\n\nd X\ne X\n\nf\n", [1, -4, 6, -9]),
    "open quote": ("a.csv", 'text,label\nfine,1\n"b,0\nok,1\n', [2, -3]),
}


@pytest.mark.parametrize("case", MIXED)
def test_bad_rows_stand_among_the_others_in_their_order(tmp_path, case):
    name, content, lines = MIXED[case]
    source = open_source(write(tmp_path, name, content), skip_bad_rows=True)
    for _ in range(2):
        rows = list(source.all_rows())
        assert [row.line if isinstance(row, Row) else -row.line for row in rows] == lines
    assert source.num_bad_rows == sum(line < 0 for line in lines)


def test_all_bad_rows_are_given_however_many_across_chunks(tmp_path):
    body = "".join(f"{k},1\n" if k % 3 else f"{k}\n" for k in range(20_000))
    rows = list(open_source(write(tmp_path, "a.csv", "text,label\n" + body), skip_bad_rows=True).all_rows())
    assert [row.line for row in rows] == list(range(2, 20_002))
    assert [isinstance(row, BadRow) for row in rows] == [k % 3 == 0 for k in range(20_000)]


def test_a_file_of_bad_rows_alone_gives_them_all(tmp_path):
    source = open_source(write(tmp_path, "a.csv", "text,label\nalone\nalone\n"), skip_bad_rows=True)
    assert [row.line for row in source.all_rows()] == [2, 3]
    with pytest.raises(InputError, match="got none that can be read"):
        values(source)


def test_what_was_read_before_a_file_breaks_off_is_given_first(tmp_path):
    path = write(tmp_path, "a.csv", b"text,label\n" + b"fine,1\n" * 400_000 + b"alone\nb\xff,1\n")
    source = open_source(path, skip_bad_rows=True)
    found = []
    with pytest.raises(InputError, match=r"line 400003: expected UTF-8 text"):
        found.extend(source.all_rows())
    assert len(found) > 100_000


def test_nothing_left_is_an_error_even_when_skipping(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\n1\n2\n")
    with pytest.raises(InputError, match="got none that can be read"):
        values(open_source(path, skip_bad_rows=True))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_chunks_have_lines_and_columns_of_any_size(tmp_path, size):
    path = write(tmp_path, "a.csv", 'text,label\na,1\n"b\nb",2\n\nc,3\nd,4\n"e\n\ne",5\nf,6\n')
    source = open_source(path)
    chunks = list(source.chunks(size))
    assert all(1 <= len(chunk) <= size for chunk in chunks)
    assert [line for chunk in chunks for line in chunk.lines] == [2, 3, 6, 7, 8, 11]
    assert [value for chunk in chunks for value in chunk.column("label")] == list("123456")


def test_an_overlong_line_is_a_bad_row_and_the_others_keep_their_lines(tmp_path):
    rows = [f"text {i}\t{i % 2}\n" for i in range(500)]
    rows[100] = "x" * 5000 + "\t1\n"
    rows[300] = "y" * 999 + "\t1\n"
    source = open_source(write(tmp_path, "a.tsv", "text\tlabel\n" + "".join(rows)), max_line_length=1000)
    found = list(source.rows())
    assert source.bad_rows == [
        (102, "the line is longer than 1,000 characters"),
        (302, "the line is longer than 1,000 characters"),
    ]
    assert len(found) == 498
    assert all(row.values[0] == f"text {row.line - 2}" for row in found)


def test_a_line_without_end_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.data.files.lines._LONGEST", 3_000_000)
    path = write(tmp_path, "a.csv", "text,label\nfine,1\n" + "x" * 5_000_000)
    with pytest.raises(InputError, match="line 3: expected text with line ends, got more than 3,000,000 characters"):
        values(open_source(path, max_line_length=1000))


PIPED = {
    "rows": (b"text,label\nfine,1\n", 1 << 40, None),
    "a line without end": (b"text,label\n" + b"x" * 2000, 1 << 40, "line 2: expected text with line ends, got more"),
    "more than the disk holds": (b"text,label\nfine,1\n", 0, r"has given 0 bytes, and there is no room for more in"),
}


@pytest.mark.parametrize("case", PIPED)
def test_a_pipe_is_copied_as_far_as_there_is_room(tmp_path, monkeypatch, case):
    content, free, message = PIPED[case]
    monkeypatch.setattr("thalweg.data.files.lines._LONGEST", 1000)
    monkeypatch.setattr("os.fstatvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=1))
    os.mkfifo(path := tmp_path / "pipe")
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    with nullcontext() if message is None else pytest.raises(InputError, match=message):
        assert values(open_source(path, kind="csv", once=True)) == [("fine", "1")]
    writer.join()
    with pytest.raises(InputError, match="expected a regular file, got a pipe, which can be read only once"):
        open_source(path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.conll"])
def test_a_line_of_many_megabytes_is_refused_with_little_memory(tmp_path, name):
    path = write(tmp_path, name, "x" * 40_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"line 1: the line is longer than 1,000,000 characters, and"):
            values(open_source(path, max_line_length=1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_a_quote_left_open_does_not_fill_the_memory(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\nfine,1\n"bad,0\n' + "fine,1\n" * 2_000_000)
    with pytest.raises(
        InputError, match=r"line \d+: a row .*quotation mark that is never closed|line 3: this row opens"
    ):
        values(open_source(path, max_line_length=1_000_000))


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for num_rows in (40_000, 120_000):
        path = write(tmp_path, "a.csv", "text,label\n" + "some words of a text of middle length,yes\n" * num_rows)
        tracemalloc.start()
        assert sum(len(chunk) for chunk in open_source(path).chunks()) == num_rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_the_header_can_be_declared(tmp_path):
    path = write(tmp_path, "a.csv", "1,2\n3,4\n")
    assert open_source(path, header=True).columns == ("1", "2")
    source = open_source(path, header=False)
    assert source.columns == ("column1", "column2")
    assert values(source) == [("1", "2"), ("3", "4")]
    assert "named column1, column2" in source.notes[0]


def test_notes_tell_the_choices(tmp_path):
    notes = open_source(write(tmp_path, "a.csv", "text;label\na;1\n")).notes
    assert notes == ["The columns are separated by a semicolon."]
    notes = open_source(write(tmp_path, "a.tsv", "a text\t0\nb text\t1\n")).notes
    assert notes == [
        "The first row looks like data ('0' is a number), so the columns are named column1, column2.",
    ]
    notes = open_source(write(tmp_path, "a.jsonl", '{"a":1}\n{"b":1}\n')).notes
    assert notes == ["Some objects lack 'a', 'b'; what is missing is read as null."]


def test_extra_fields_of_a_headerless_tsv_are_dropped(tmp_path):
    path = write(tmp_path, "a.tsv", "a text\t0\nb text\t1\tsource\nc text\t1\n")
    source = open_source(path)
    assert values(source) == [("a text", "0"), ("b text", "1"), ("c text", "1")]
    assert source.remarks == [f"{path}: fields after the last column are ignored (1 row, line 2)."]
    source = open_source(write(tmp_path, "b.tsv", "a text\t0\nb text\t1\t\nc text\t1\n"))  # an empty field is none
    assert len(values(source)) == 3
    assert source.remarks == []


def test_lines_split_anywhere_by_the_blocks_are_whole(tmp_path):
    text = "text\tlabel\r\n" + "".join(f"grün {i} 😀\t{i}\r\n" for i in range(300))
    path = write(tmp_path, "a.tsv", text)
    for max_line_length in (24, 25, 26, 27, 31, 64, 101):
        source = open_source(path, max_line_length=max_line_length)
        assert values(source) == [(f"grün {i} 😀", str(i)) for i in range(300)]
        assert source.num_bad_rows == 0


def test_utf_16_without_its_mark_is_told(tmp_path):
    note = "Its zero bytes show that the file is UTF-16 without a byte-order mark."
    assert note in open_source(write(tmp_path, "a.csv", "text,label\nfine,1\n".encode("utf-16-le"))).notes
    assert note not in open_source(write(tmp_path, "b.csv", "text,label\nfine,1\n".encode("utf-16"))).notes


def test_empty_lines_of_a_table_with_one_column_are_told(tmp_path):
    source = open_source(write(tmp_path, "a.csv", "text\none\n\ntwo\n\n"))
    assert [row.values for row in source.rows()] == [("one",), ("two",)]
    assert source.remarks == [
        f"{source.name}: an empty line in a table of one column is left out (2 rows, lines 3, 5)."
    ]


def test_every_kind_can_be_forced(tmp_path):
    path = write(tmp_path, "data", '{"a": 1}\n{"a": 2}\n')
    assert open_source(path, kind="text").kind == "text"
    assert open_source(path, kind="jsonl").columns == ("a",)
    assert open_source(path, kind="json").kind == "json"
    assert set(KINDS) == {"csv", "tsv", "jsonl", "json", "conll", "conllu", "text", "fasttext", "tmx"}


def test_more_columns_than_any_table_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.data.files.delimited.MAX_COLUMNS", 3)
    (tmp_path / "a.csv").write_text("text,label\na,b\na,b,c,d\n")
    with pytest.raises(InputError, match=r"a.csv, line 3: expected at most 3 columns, got 4; select those to read"):
        open_source(tmp_path / "a.csv")
