"""Delimited files as programs and people write them: dialects, lines that are no data, headers and their absence."""

import csv

import pytest

from thalweg.data.files.sources import open_source
from thalweg.data.files.table.dialect import FIELDS, choose_dialect, separator_line
from thalweg.data.files.table.header import has_names
from thalweg.errors import InputError


def opened(folder, name, content):
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    source = open_source(path)
    return source, [row.values for row in source.rows()]


PAIRS = "".join(f"{a}\t{b}\n" for a, b in [("hund", "chien"), ("katze", "chat"), ("haus", "maison"), ("buch", "livre")])
MANY = "".join(f"text number {i} of them;{'good' if i % 2 else 'bad'}\n" for i in range(40))

# name of the file, its content, columns, the first row, number of rows, what a note says
TABLES = {
    "separator line": ("a.csv", "sep=;\ntext;label\na, b;good\nc;bad\n", ("text", "label"), ("a, b", "good"), 2, "';'"),
    "quoted separator line": (
        "a.csv",
        '"sep=,"\r\ntext,label\r\n"a;b",good\r\n',
        ("text", "label"),
        ("a;b", "good"),
        1,
        "','",
    ),
    "decimal commas without header": (
        "a.csv",
        "2022-01-01;3,5\n2022-01-02;4,5\n2022-01-03;6,5\n",
        ("column1", "column2"),
        ("2022-01-01", "3,5"),
        3,
        "semicolon",
    ),
    "a table as MySQL draws it": (
        "a.txt",
        "+------+-------+\n| text | label |\n+------+-------+\n| fine | a     |\n|      | b     |\n| bad  | NULL  |\n"
        "+------+-------+\n3 rows in set (0.00 sec)\n",
        ("text", "label"),
        ("fine", "a"),
        3,
        "The lines drawn around the columns are left out.",
    ),
    "a table as PostgreSQL draws it": (
        "a.csv",
        " text | label \n------+-------\n      | a\n bad  | b\n(2 rows)\n\n",
        ("text", "label"),
        ("", "a"),
        2,
        "The lines drawn",
    ),
    "a table in Markdown": (
        "a.md",
        "# Films\n\n| text | label |\n|:-----|------:|\n| fine \\| so | a |\n| bad |  |\n",
        ("text", "label"),
        ("fine | so", "a"),
        2,
        "The file holds a table, and is read as one; --kind text",
    ),
    "dashes below the names": (
        "a.csv",
        "text,label\n----,-----\nfine,a\nbad,b\n",
        ("text", "label"),
        ("fine", "a"),
        2,
        "Line 2 ('---- -----'), below the columns' names, left out.",
    ),
    "tabs with quotation marks around line ends": (
        "a.tsv",
        'text\tlabel\n"a ""fine""\nfilm"\tgood\nso so\tbad\n',
        ("text", "label"),
        ('a "fine"\nfilm', "good"),
        2,
        "Quotation marks enclose values",
    ),
    "tabs with quotation marks around all values": (
        "a.tsv",
        '"text"\t"label"\n"a film"\t"good"\n"so so"\t"bad"\n',
        ("text", "label"),
        ("a film", "good"),
        2,
        "Quotation marks enclose values",
    ),
    "tabs with quotation marks that are text": (
        "a.tsv",
        'text\tlabel\n"Yes\tgood\nNo", she said\tbad\n"so" ""so""\tbad\n',
        ("text", "label"),
        ('"Yes', "good"),
        3,
        "",
    ),
    "one column of decimal commas": ("a.csv", "sales\n3,5\n4\n6,25\n", ("sales",), ("3,5",), 3, ""),
    "two columns below a title are no decimals": (
        "a.csv",
        "Sales of 2024\nday,sales\n1,5\n2,7\n",
        ("day", "sales"),
        ("1", "5"),
        2,
        "Line 1 ('Sales of 2024')",
    ),
    "separator line without header": (
        "a.csv",
        "sep=|\n1|2\n3|4\n",
        ("column1", "column2"),
        ("1", "2"),
        2,
        "first line",
    ),
    "title": (
        "a.csv",
        "Report 2024\n\ntext,label\nfine,1\nbad,0\n",
        ("text", "label"),
        ("fine", "1"),
        2,
        "Line 1 ('Report 2024')",
    ),
    "title with a comma": (
        "a.csv",
        "Report, all of it, 2024\ntext,label\nfine,1\nbad,0\nso,1\nla,0\n",
        ("text", "label"),
        ("fine", "1"),
        4,
        "above",
    ),
    "title of semicolons": (
        "a.csv",
        "My report\n" + "text;label\n" + MANY,
        ("text", "label"),
        ("text number 0 of them", "bad"),
        40,
        "Line 1",
    ),
    "padded title": (
        "a.csv",
        "Report 2024,,\ntext,label,n\nfine,good,1\nbad,bad,2\n",
        ("text", "label", "n"),
        ("fine", "good", "1"),
        2,
        "Line 1",
    ),
    "comments": (
        "a.csv",
        "# made by a tool, twice\n# on Monday\ntext,label\nfine,1\nbad,0\n",
        ("text", "label"),
        ("fine", "1"),
        2,
        "Lines 1 to 2",
    ),
    "hash before the header": ("a.tsv", "# text\tlabel\nfine\t1\nbad\t0\n", ("text", "label"), ("fine", "1"), 2, ""),
    "row names of R": (
        "a.csv",
        'text,label\n"1",fine day,good\n"2",bad day,bad\n',
        ("column1", "text", "label"),
        ("1", "fine day", "good"),
        2,
        "one name less",
    ),
    "empty last column": ("a.csv", "text,label,\nfine,1,\nbad,0,\n", ("text", "label"), ("fine", "1"), 2, ""),
    "empty last column in the rows": (
        "a.csv",
        "text,label\nfine,1,\nbad,0,\n",
        ("text", "label"),
        ("fine", "1"),
        2,
        "",
    ),
    "empty last column in the header": (
        "a.csv",
        "text,label,\nfine,1\nbad,0\n",
        ("text", "label"),
        ("fine", "1"),
        2,
        "",
    ),
    "last delimiter in some rows": ("a.csv", "text,label\nfine,1\nbad,0,\n", ("text", "label"), ("fine", "1"), 2, ""),
    "spaces before quotation marks": (
        "a.csv",
        'id, text, label\n0, "lovely, warm", "good"\n1, "cold", "bad"\n',
        ("id", "text", "label"),
        ("0", "lovely, warm", "good"),
        2,
        "Spaces",
    ),
    "backslashes": (
        "a.csv",
        'text,label\n"he said \\"no\\", twice",1\n"a \\\\ b",0\n',
        ("text", "label"),
        ('he said "no", twice', "1"),
        2,
        "backslash",
    ),
    "a path is no escape": (
        "a.csv",
        'text,label\n"C:\\dir\\",1\n"D:\\",0\n',
        ("text", "label"),
        ("C:\\dir\\", "1"),
        2,
        "",
    ),
    "single quotation marks": (
        "a.csv",
        "text,label\n'a film, good',1\n'bad',0\n'it''s so',1\n",
        ("text", "label"),
        ("a film, good", "1"),
        3,
        "Single",
    ),
    "apostrophes": (
        "a.csv",
        "text,label\n'tis so,1\nrock 'n' roll,0\n'twas,1\n",
        ("text", "label"),
        ("'tis so", "1"),
        3,
        "",
    ),
    "quotes in quotes": ("a.csv", 'text,label\n"a ""b"" c",1\n', ("text", "label"), ('a "b" c', "1"), 1, ""),
    "invisible characters in the header": (
        "a.csv",
        "\ufefftext\u00a0,\u200blabel\nfine,1\n",
        ("text", "label"),
        ("fine", "1"),
        1,
        "",
    ),
    "csv without a header": (
        "a.csv",
        "one long text here,1\nanother,0\n",
        ("column1", "column2"),
        ("one long text here", "1"),
        2,
        "column1, column2",
    ),
    "tsv of pairs": ("p.tsv", PAIRS, ("column1", "column2"), ("hund", "chien"), 4, "--header yes"),
    "tsv of numbered pairs": (
        "p.tsv",
        "".join(f"one {i}\tun {i}\n" for i in range(9)),
        ("column1", "column2"),
        ("one 0", "un 0"),
        9,
        "'one 0' is written like",
    ),
    "csv of pairs": ("p.csv", PAIRS.replace("\t", ","), ("hund", "chien"), ("katze", "chat"), 3, "--header no"),
    "names of another language above labels": (
        "a.tsv",
        "satz\tart\n" + MANY.replace(";", "\t"),
        ("satz", "art"),
        ("text number 0 of them", "bad"),
        40,
        "",
    ),
    "names above texts": (
        "a.tsv",
        "satz\tphrase1\nder hund\tle chien\nein haus\tune maison\n",
        ("satz", "phrase1"),
        ("der hund", "le chien"),
        2,
        "",
    ),
    "names above numbers": ("a.tsv", "ort\tpreis\nBonn\t1,5\nKiel\t2,25\n", ("ort", "preis"), ("Bonn", "1,5"), 2, ""),
    "years as names": (
        "a.csv",
        "country,1990,1991\nChad,1.5,2.5\nPeru,2.5,3\n",
        ("country", "1990", "1991"),
        ("Chad", "1.5", "2.5"),
        2,
        "",
    ),
    "questions as names": (
        "a.csv",
        "Date,How do you rate the service of our house?\n2024-05-01,good\n2024-05-02,bad\n",
        ("Date", "How do you rate the service of our house?"),
        ("2024-05-01", "good"),
        2,
        "",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_is_read_as_it_was_meant(tmp_path, case):
    name, content, columns, first, num_rows, note = TABLES[case]
    source, rows = opened(tmp_path, name, content)
    assert source.columns == columns
    assert rows[0] == first
    assert len(rows) == num_rows
    assert note in " ".join(source.notes)
    assert bool(note) == bool([one for one in source.notes if "separated by" not in one])


def test_a_header_that_comes_again_is_left_out_and_counted(tmp_path):
    content = "text,label\n" + "fine,1\nbad,0\n" * 30 + "text,label\n" + "fine,1\n" * 3 + "text,label\nbad,0\n"
    source, rows = opened(tmp_path, "a.csv", content)
    assert len(rows) == 64
    assert ("text", "label") not in rows
    assert source.num_bad_rows == 0
    assert source.remarks == [f"{source.name}: the header comes again, left out (2 rows, lines 62, 66)."]


def test_a_file_that_was_put_behind_another_brings_no_header(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"a fine day {i},good\na bad day {i},bad\n" for i in range(30))
    path.write_text(f"text,label\n{rows}\ufeffText,LABEL\n{rows}", encoding="utf-8")
    source = open_source(path)
    assert {row.values[1] for row in source.rows()} == {"good", "bad"}
    assert source.remarks == [f"{path}: the header comes again, left out (1 row, line 62)."]


def test_a_value_in_an_unnamed_last_column_is_a_bad_row(tmp_path):
    content = "text,label,\n" + "fine,1,\n" * 6000 + "bad,0,x\nso,1,\n"
    source, rows = opened(tmp_path, "a.csv", content)
    assert len(rows) == 6001
    assert source.bad_rows == [(6002, "expected 2 columns, got 3")]


@pytest.mark.parametrize(
    ("names", "columns", "note"),
    [
        ("text,text", ("text", "text.2"), "2 columns are called 'text'; the second is called text.2."),
        ("a,b,a,a", ("a", "b", "a.2", "a.3"), "3 columns are called 'a'; the others are called a.2, a.3."),
        ("a,a.2,a", ("a", "a.2", "a.3"), "2 columns are called 'a'; the second is called a.3."),
    ],
)
def test_columns_of_one_name_are_numbered(tmp_path, names, columns, note):
    row = ",".join("x y" for _ in columns)
    source, rows = opened(tmp_path, "a.csv", f"A title\n{names}\n{row}\n{row}\n")
    assert source.columns == columns
    assert note in source.notes
    assert len(rows) == 2


def test_a_ragged_file_is_not_read_as_a_title(tmp_path):
    with pytest.raises(InputError, match=r"line 3: expected 2 columns, got 1"):
        opened(tmp_path, "a.csv", "text,label\nfine,1\nbad\nfine,1,2\n")


def test_the_parts_say_what_they_found():
    assert separator_line("sep=\\t\na\tb\n") == "\t"
    assert separator_line("text\n") is None
    dialect, notes = choose_dialect('a, "b"\nc, "d, e"\n', is_tsv=False)
    assert dialect.skips_spaces
    assert notes == ["Spaces before a quotation mark are left out."]
    assert has_names([["text", "label"], ["a", "b"]], is_tsv=True) == (True, "")
    assert not has_names([["hund", "chien"], ["haus", "maison"]], is_tsv=True)[0]


def test_the_limit_of_the_csv_module_is_given_back(tmp_path):
    before = csv.field_size_limit()
    path = tmp_path / "a.csv"
    path.write_text(f"text,label\n{'x' * (before + 1)},a\n")
    source = open_source(path)
    rows = source.rows()
    assert len(next(rows).values[0]) == before + 1
    assert csv.field_size_limit() == before
    with FIELDS.up_to(before + 5):
        with FIELDS.up_to(before + 9):
            assert csv.field_size_limit() == before + 9
        assert csv.field_size_limit() >= before + 5
    assert csv.field_size_limit() == before


SALES = "date,sales\n" + "".join(f"2024-01-{i + 1:02},{90 + 7 * i % 13}\n" for i in range(20))
LABELED = "text,label\n" + "".join(f"text number {i},{'good' if i % 2 else 'bad'}\n" for i in range(20))
SCORED = "text;score\n" + "".join(f"text number {i};{i % 5},5\n" for i in range(20))
FOOTERS = {
    "a total": (SALES, "Total,1910\n"),
    "a total of another country": (SALES, "Summe:,1910\n"),
    "a total and a source": (SALES, 'Total,"1,910"\n\nSource: Ministry of Trade, Industry, Labor\n'),
    "a source": (SALES, "Source: Ministry of Trade\n"),
    "a source with a comma": (SALES, "\nQuelle: Amt für Statistik, Bonn, 2024\n"),
    "any words below a gap": (SALES, "\n\nRevised figures from 2023 on\n"),
    "a total of labels": (LABELED, "Total,20\n"),
    "a note beside labels": (LABELED, "\nNote: our own survey,\n"),
    "a sum without a word": (SALES, f",{sum(90 + 7 * i % 13 for i in range(20))}\n"),
    "a mean": (SCORED, "Total;50\nDurchschnitt;2,5\n"),
}
NO_FOOTERS = {
    "a text": (LABELED, "Total,good\n", 21),
    "a text with a colon": (LABELED, "Note: it is good,good\n", 21),
    "a score like the others": (SCORED, "average;2,5\n".replace("2,5", "3,5"), 21),
    "a figure without a day": (SALES, ",97\n", 21),
    "a total in the middle": (SALES, "Total,1910\n2024-01-21,97\n", 22),
    "texts alone": ("text\n" + "a fine text\n" * 20, "total\n", 21),
}


@pytest.mark.parametrize("case", FOOTERS)
def test_rows_below_a_table_are_no_data(tmp_path, case):
    table, below = FOOTERS[case]
    source, rows = opened(tmp_path, "a.csv", table + below)
    assert len(rows) == 20
    assert source.num_bad_rows == 0
    assert "totals, sources and notes below the table are left out" in source.remarks[0]
    for size in (1, 3, 15, 19, 20):
        assert sum(map(len, source.chunks(size))) == 20


@pytest.mark.parametrize("case", NO_FOOTERS)
def test_rows_of_a_table_are_not_taken_for_what_stands_below(tmp_path, case):
    table, more, number = NO_FOOTERS[case]
    source, rows = opened(tmp_path, "a.csv", table + more)
    assert (len(rows), source.remarks) == (number, [])


def test_rows_that_do_not_fit_are_bad_where_the_table_goes_on(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(SALES + "\nSource: a ministry\n2024-01-21,97\n")
    source = open_source(path, skip_bad_rows=True)
    assert len(list(source.rows())) == 21
    assert source.bad_rows == [(23, "expected 2 columns, got 1")]
    path.write_text(SALES + "2024-01-2")  # a file that breaks off
    source = open_source(path, skip_bad_rows=True)
    assert (len(list(source.rows())), source.num_bad_rows) == (20, 1)


SURVEY = "".join(f"{11000 + i},2024-01-{i + 1:02},{('good', 'bad')[i % 3 > 1]},text number {i}\n" for i in range(20))
EXPLAINED = {
    "one row": "id,date,How was it?,Why?\n,,Response,Open-Ended Response\n",
    "two rows": "id,date,mood,why\nResponse ID,Start Date,How was it?,Why?\n"
    '"{""ImportId"":""a""}","{""b"":""c""}",d,e\n',
}


@pytest.mark.parametrize("case", EXPLAINED)
def test_rows_that_explain_the_names_are_no_data(tmp_path, case):
    source, rows = opened(tmp_path, "a.csv", EXPLAINED[case] + SURVEY)
    assert (len(rows), rows[0][:3]) == (20, ("11000", "2024-01-01", "good"))
    assert "below the columns' names, left out." in source.notes[0]


@pytest.mark.parametrize("first", ["11000,2024-01-01,good,a text\n", "NA,NA,good,a text\n", "10999,,bad,a text\n"])
def test_first_rows_with_missing_numbers_are_data(tmp_path, first):
    assert len(opened(tmp_path, "a.csv", "id,date,mood,why\n" + first + SURVEY)[1]) == 21


def test_a_first_text_without_its_numbers_is_data(tmp_path):
    rows = "".join(f"text number {i},{i % 5},{i % 7}\n" for i in range(20))
    assert len(opened(tmp_path, "a.csv", "text,price,stars\na text,,\n" + rows)[1]) == 21


def test_a_long_value_whose_quotation_mark_is_not_closed_is_told_in_linear_time():
    sample = 'text\tlabel\n"' + "x\n" * 300_000 + "\ta\n"
    assert choose_dialect(sample, is_tsv=True)[0].has_quotes is False


def test_a_long_line_of_spaces_is_no_line_of_a_drawn_table_in_linear_time():
    assert choose_dialect(f"a,b\n{' ' * 200_000}|--x\n1,2\n", is_tsv=False)[0].delimiter == ","
