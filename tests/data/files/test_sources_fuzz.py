"""Whatever is in a file, it gives rows or a sentence, never another exception."""

import csv
import gzip
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

BYTES = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet='ab,;|\t\n\r"{}[]:#1.\0é\ud7ff😀 ', max_size=200).map(lambda text: text.encode("utf-8")),
    st.text(alphabet='ab,;\t\n"\r', max_size=200).map(lambda text: text.encode("utf-16")),
    st.lists(
        st.one_of(
            st.dictionaries(
                st.sampled_from("abc"), st.one_of(st.none(), st.text(), st.floats(), st.lists(st.integers()))
            ).map(json.dumps),
            st.text(max_size=20),
        ),
        max_size=10,
    ).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")),
    st.binary(max_size=200).map(gzip.compress).flatmap(lambda data: st.integers(0, len(data)).map(lambda n: data[:n])),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=BYTES,
    ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".conll", ".conllu", ".txt", "", ".csv.gz"]),
    skip=st.booleans(),
    header=st.sampled_from([None, True, False]),
    max_line_length=st.sampled_from([8, 50, 10_000_000]),
)
def test_any_bytes_give_rows_or_an_input_error(tmp_path, content, ending, skip, header, max_line_length):
    path = tmp_path / ("fuzz" + ending)
    path.write_bytes(content)
    try:
        source = open_source(path, skip_bad_rows=skip, header=header, max_line_length=max_line_length)
        rows = list(source.rows())
    except InputError:
        return
    assert rows
    assert all(len(row.values) == len(source.columns) for row in rows)
    assert [row.line for row in rows] == sorted({row.line for row in rows})
    num_lines = content.count(b"\n") + content.count(b"\r") + 1
    is_packed_or_json = ending.endswith("gz") or content.lstrip()[:1] in (b"{", b"[")  # whose rows are counted
    assert rows[-1].line <= num_lines or is_packed_or_json


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(*[st.text(alphabet='ab,;"\n x', min_size=1, max_size=12).filter(str.strip)] * 2),
        min_size=1,
        max_size=20,
    )
)
def test_what_the_csv_module_writes_is_read_back(tmp_path, rows):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    assert [row.values for row in open_source(tmp_path / "a.csv").rows()] == rows
