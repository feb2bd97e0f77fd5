"""Rows from a stream: one at a time, as they come."""

import gzip
import io
import json
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.endless import endless

from thalweg.data.files.incoming import open_stream
from thalweg.errors import InputError

BYTES = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet='ab,;|\t\n\r"{}[]:#1.\0é😀 ', max_size=200).map(lambda text: text.encode()),
)


@settings(max_examples=150, deadline=None)
@given(content=BYTES, kind=st.sampled_from([None, "csv", "tsv", "jsonl"]))
def test_any_bytes_in_a_stream_give_rows_or_an_input_error(content, kind):
    try:
        stream = open_stream(io.BytesIO(content), kind)
        rows = list(stream.rows())
    except InputError:
        return
    assert all(len(row.values) <= len(stream.columns) for row in rows)


def test_rows_come_one_by_one():
    stream = open_stream(io.BytesIO(b'text,label\nfine,1\n\n"a\nb",0\nbad\n'))
    assert stream.kind == "csv"
    assert stream.columns == ("text", "label")
    assert [row.values for row in stream.head()] == [("fine", "1")], "one row ahead, no more"
    assert [(row.line, row.values) for row in stream.rows()] == [(2, ("fine", "1")), (4, ("a\nb", "0"))]
    assert stream.bad_rows == [(6, "expected 2 columns, got 1")]


def test_text_streams_and_tabs_without_header():
    stream = open_stream(io.StringIO('a good film\t1\na "bad one\t0\n'))
    assert stream.columns == ("column1", "column2")
    assert [row.values for row in stream.rows()] == [("a good film", "1"), ('a "bad one', "0")]


def test_json_objects_have_the_keys_that_they_have():
    stream = open_stream(io.BytesIO(b'{"a":1}\n\n{"a":2,"b":3}\n{"c":1}\nno\n\xff\n\0\n{}\n{"b":4}'))
    chunks = [(chunk.columns, chunk.values) for chunk in stream.chunks()]
    assert chunks == [(("a",), ([1],)), (("a", "b"), ([2], [3])), (("c",), ([1],)), (("b",), ([4],))]
    assert stream.columns == ("a", "b", "c")
    assert [row.line for row in stream.bad_rows] == [5, 6, 7, 8]


def test_objects_inside_of_rows_are_read_as_in_files():
    content = b'{"t":{"en":"a","x":{"y":1}},"l":1}\n{"t":{"en":"b"},"spans":[{"start":0}],"l":2,"tags":["p","q"]}\n'
    stream = open_stream(io.BytesIO(content))
    assert [dict(zip(one.columns, (v[0] for v in one.values), strict=True)) for one in stream.chunks()] == [
        {"t.en": "a", "t.x.y": 1, "l": 1},
        {"t.en": "b", "l": 2, "tags": ["p", "q"]},
    ]
    assert stream.remarks == ["standard input: lists of objects inside of a row are left out (1 row, line 2)."]


def test_a_first_object_that_cannot_be_read_is_a_bad_row():
    stream = open_stream(io.BytesIO(b'{broken\n{"a":1}\n'))
    assert [row.values for row in stream.rows()] == [(1,)]
    assert [row.line for row in stream.bad_rows] == [1]


HEADERLESS = {
    "a label that comes again": (b"good soup,pos\nbad soup,neg\nfair soup,pos\n", ("column1", "column2")),
    "a number": (b"12,yes\n13,no\n", ("column1", "column2")),
    "a long text": (b"a long text of seven or more words,1\n", ("column1", "column2")),
    "a sentence": (b"It was good.\tyes\n", ("column1", "column2")),
    "names of one's own": (b"remark,verdict\nfine,ok\nbad,no\n", ("remark", "verdict")),
}


@pytest.mark.parametrize("case", HEADERLESS)
def test_a_table_may_come_without_a_header(case):
    content, columns = HEADERLESS[case]
    stream = open_stream(io.BytesIO(content))
    assert stream.columns == columns
    assert len(list(stream.rows())) == content.count(b"\n") - (columns[0] == "remark")
    assert stream.notes


def test_whether_there_is_a_header_can_be_said():
    for header, columns, rows in ((True, ("12", "yes"), 1), (False, ("column1", "column2"), 2)):
        stream = open_stream(io.BytesIO(b"12,yes\n13,no\n"), header=header)
        assert (stream.columns, len(list(stream.rows()))) == (columns, rows)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize(
    "text", ['{"text": "schön", "label": "a"}\r\n{"text": "é", "label": "b"}', "text,label\nschön,a\né,b\n"]
)
def test_a_mark_or_zero_bytes_tell_the_encoding(encoding, text):
    for file in (io.BytesIO(text.encode(encoding)), io.TextIOWrapper(io.BytesIO(text.encode(encoding)))):
        stream = open_stream(file)
        assert stream.columns in ((), ("text", "label"))
        assert [row.values for row in stream.rows()] == [("schön", "a"), ("é", "b")]


def test_bytes_that_are_not_of_the_encoding_are_bad_rows():
    stream = open_stream(
        io.BytesIO("text,label\nfine,a\n".encode("utf-16") + b"\x00\xd8\n\x00" + "ok,b\n".encode("utf-16-le"))
    )
    assert [row.values for row in stream.rows()] == [("fine", "a"), ("ok", "b")]
    assert "expected UTF-16 text" in stream.bad_rows[0].reason


def test_a_bad_stream_is_told():
    for content, message in [
        (b"", "got an empty stream"),
        (b"\n\n", "got an empty stream"),
        (b"text,label\n", "got none that can be read"),
        (b'[\n{"a": 1},\n{"a": 2}]\n', "line 1: expected one JSON object on each line, got a JSON list"),
        (b'[{"a": 1}]', "got a JSON list; take it apart before"),
        (gzip.compress(b"text,label\nfine,a\n"), "got compressed bytes; unpack them before the pipe"),
        (b"%PDF-1.4\n", "got a PDF document"),
        (b"{}\n", "the JSON object is empty"),
    ]:
        with pytest.raises(InputError, match=message):
            list(open_stream(io.BytesIO(content), name="standard input").rows())


def test_an_overlong_line_is_left_out():
    stream = open_stream(io.BytesIO(b"text,label\n" + b"x" * 500 + b",1\nfine,1\n"), max_line_length=100)
    assert [(row.line, row.values) for row in stream.rows()] == [(3, ("fine", "1"))]
    assert stream.num_bad_rows == 1


NEVER = {
    "a line without end": (
        b"text,label\nfine,1\n",
        b"x",
        "line 3: expected text with line ends, got more than 100,000",
    ),
    "zeros": (b"", b"\0", "line 1: expected text with line ends, got more than 100,000"),
    "UTF-16": ("text,label\n".encode("utf-16"), b"x\0", "line 2: expected text with line ends, got more than 100,000"),
    "a text that is not closed": (b'text,label\nfine,1\n"', b"x\n", r"line \d+: the row can't be read \(field larger"),
    "bad rows": (b'{"text": "a"}\n', b'{"text": \n', r"1,001 of 1,002 rows can't be read"),
    "rows of another table": (b"text,label\nfine,1\n", b"x,y,z\n", r"1,001 of 1,002 rows can't be read"),
}


@pytest.mark.parametrize("case", NEVER)
def test_what_never_gives_a_row_ends_in_a_sentence_with_little_memory(monkeypatch, case):
    first, then, message = NEVER[case]
    monkeypatch.setattr("thalweg.data.files.lines._LONGEST", 100_000)
    monkeypatch.setattr("thalweg.data.files.incoming.MAX_LINE_LENGTH", 1000)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message):
            list(open_stream(endless(first, then), max_line_length=10_000).rows())
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_row_is_given_before_the_next_line_is_written():
    program = (
        "import sys\nfrom thalweg.data.files.incoming import open_stream\n"
        "for row in open_stream(sys.stdin).rows():\n    print(row.values[0], flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for text in ("one", "two", "three"):
            process.stdin.write(json.dumps({"text": text}) + "\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == text
        process.stdin.close()
    assert process.returncode == 0


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="standard input: a stream is csv, tsv or jsonl; got --kind conll"):
        open_stream(io.BytesIO(b"a"), "conll")
