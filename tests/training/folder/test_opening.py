"""Data by name, their columns read as a run says."""

import pytest

from thalweg.data.containers.opening import reading_like
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.training.folder.opening import open_as, skipped_rows, with_numbers


def test_rows_that_cannot_be_used_are_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,score\na,1\nb,high\nc,\nd,2\n")
    columns = {"text": "text", "number": "score"}
    with pytest.raises(InputError, match=r"a\.csv, line 3: expected a number in column 'score', got 'high'; correct"):
        list(open_as(str(path), "score", columns).rows())
    source = open_as(str(path), "score", columns, skip_bad_rows=True)
    assert [row.values for row in source.rows()] == [("a", 1.0), ("d", 2.0)]
    assert skipped_rows(source, None) == [
        f"{path}: 2 rows cannot be used, left out (line 3: expected a number in column 'score', got 'high'; line 4: "
        "expected a number in column 'score', got an empty value ('')).",
    ]


def test_another_file_is_read_as_the_training_data_were_unless_options_say_otherwise():
    trained = {"source": "a.dat", "kind": "csv", "header": "no", "skip_bad_rows": True, "lags": 3}
    assert reading_like(trained, "b.dat.gz", {}) == {"kind": "csv", "header": "no"}
    assert reading_like(trained, "b.jsonl", {"text_column": "x"}) == {"text_column": "x", "header": "no"}
    assert reading_like(trained, "b.dat", {"kind": "tsv", "header": "yes"}) == {"kind": "tsv", "header": "yes"}
    assert reading_like(trained, [{"text": "a"}], {}) == {}


def test_a_forecast_reads_numbers_as_its_training_data_wrote_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("day;sales\n1;1.052,58\n2;3,5\n")
    source = open_source(path)
    columns = {"series": ["sales"], "notations": {"sales": "1.234.567,5"}}
    assert [row.values for row in with_numbers(source, "forecast", columns).rows()] == [("1", 1052.58), ("2", 3.5)]
    assert with_numbers(source, "forecast", {"series": ["sales"]}) is source
    assert with_numbers(source, "classify", {"text": "day", "label": "sales"}) is source
    path.write_text("day;sales\n1;1.052,58\n2;3.5\n")
    with pytest.raises(InputError, match=r"a\.csv, line 3: expected a number in column 'sales', got '3\.5'"):
        list(with_numbers(open_source(path), "forecast", columns).rows())
