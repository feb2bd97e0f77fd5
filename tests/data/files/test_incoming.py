"""Rows from a stream: one at a time, as they come."""

import io
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    assert all(len(row.values) == len(stream.columns) for row in rows)


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


def test_json_lines_keep_the_columns_of_the_first_object():
    stream = open_stream(io.BytesIO(b'{"a":1}\n\n{"a":2,"b":3}\n{"b":1}\nno\n\xff\n\0\n'))
    assert [row.values for row in stream.rows()] == [(1,), (2,), (None,)]
    assert [row.line for row in stream.bad_rows] == [5, 6, 7]


def test_a_bad_stream_is_told():
    for content, message in [
        (b"", "got an empty stream"),
        (b"\n\n", "got an empty stream"),
        (b"text,label\n", "got none that can be read"),
        (b"a,a\n1,2\n", "expected a different name for each column"),
        (b"{}\n", "got an empty one"),
    ]:
        with pytest.raises(InputError, match=message):
            list(open_stream(io.BytesIO(content), name="standard input").rows())


def test_an_overlong_line_is_left_out():
    stream = open_stream(io.BytesIO(b"text,label\n" + b"x" * 500 + b",1\nfine,1\n"), max_line_length=100)
    assert [(row.line, row.values) for row in stream.rows()] == [(3, ("fine", "1"))]
    assert stream.num_bad_rows == 1


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
    with pytest.raises(ValueError, match=r"open_stream\(kind=...\) must be one of csv, tsv, jsonl; got 'conll'"):
        open_stream(io.BytesIO(b"a"), "conll")
