"""XLSX: the sheet that is read, its header, the values of its cells, and documents that are no workbook."""

import datetime as dt
import sys
import zipfile

import pytest

from thalweg.data.containers import spreadsheet
from thalweg.data.containers.opening import open_any
from thalweg.errors import InputError

openpyxl = pytest.importorskip("openpyxl")


def write(path, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


TABLE = [["text", "label"], ["fine", "a"], ["bad", "b"]]


def read(place):
    source = open_any(place)
    return source.columns, [(row.line, *row.values) for row in source.rows()]


def test_values_have_their_types_and_rows_their_numbers(tmp_path):
    rows = [
        ["text", "day", "moment", "n", "x", "ok", "gone"],
        ["a", dt.datetime(2024, 5, 31), dt.datetime(2024, 5, 31, 12, 30), 1, 0.5, True, "#N/A"],
        [],
        ["b", dt.date(2024, 6, 1), dt.datetime(2024, 6, 1), 2, None, False, "x"],
    ]
    columns, found = read(write(tmp_path / "a.xlsx", Sheet1=rows))
    assert columns == tuple(rows[0])
    assert found == [
        (2, "a", "2024-05-31", "2024-05-31T12:30:00", 1, 0.5, True, None),
        (4, "b", "2024-06-01", "2024-06-01T00:00:00", 2, None, False, "x"),
    ]


def test_the_first_sheet_with_data_is_read_and_another_can_be_named(tmp_path):
    path = write(tmp_path / "a.xlsx", Notes=[["about this"]], Data=TABLE, More=[["n"], [1], [2]])
    source = open_any(path)
    assert source.columns == ("text", "label")
    assert source.notes[0].startswith("Sheet 'Data' is read, the first with data of 'Notes', 'Data', 'More'; ")
    assert read(f"{path}#More") == (("n",), [(2, 1), (3, 2)])
    with pytest.raises(InputError, match="there is no sheet 'Less'; the sheets are 'Notes', 'Data', 'More'"):
        open_any(f"{path}#Less")
    with pytest.raises(InputError, match="found none in the sheet 'Notes'"):
        open_any(f"{path}#Notes")


def test_titles_empty_rows_and_empty_columns_are_no_data(tmp_path):
    rows = [["Report of May"], [], [None, *TABLE[0]], *([None, *row] for row in TABLE[1:]), []]
    path = write(tmp_path / "a.xlsx", Sheet=rows)
    assert read(path) == (("text", "label"), [(4, "fine", "a"), (5, "bad", "b")])
    assert "Row 1 ('Report of May') stands above the header and is left out." in open_any(path).notes


def test_a_hidden_sheet_is_read_only_by_name(tmp_path):
    book = openpyxl.load_workbook(write(tmp_path / "a.xlsx", Old=[["n"], [1], [2]], Data=TABLE))
    book["Old"].sheet_state = "hidden"
    book.save(tmp_path / "a.xlsx")
    assert read(tmp_path / "a.xlsx")[0] == ("text", "label")
    assert read(f"{tmp_path / 'a.xlsx'}#Old")[0] == ("n",)


def test_formulas_without_values_are_told(tmp_path):
    path = write(tmp_path / "a.xlsx", Sheet=[["text", "sum"], ["a", "=1+1"], ["b", "=2+2"]])
    assert "Column 'sum' has no values; if it holds formulas" in open_any(path).notes[0]


def zipped(path, *names):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"x" * 110_000_000 if name.endswith("bomb.xml") else "x")
    return path


BROKEN = {
    "old": ("a.xls", lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 99), "before 2007"),
    "ods": ("a.ods", lambda path: zipped(path, "content.xml", "META-INF/manifest.xml"), "an OpenDocument file"),
    "docx": ("a.xyz", lambda path: zipped(path, "word/document.xml"), "a Word document"),
    "pptx": ("b.xyz", lambda path: zipped(path, "ppt/presentation.xml"), "a presentation"),
    "epub": ("a.epub", lambda path: zipped(path, "META-INF/container.xml"), "an e-book"),
    "xlsb": ("a.xlsb", lambda path: zipped(path, "xl/workbook.bin"), "a binary Excel workbook"),
    "damaged": ("a.xlsx", lambda path: zipped(path, "xl/workbook.xml"), "the workbook is damaged"),
    "bomb": ("a.xlsx", lambda path: zipped(path, "xl/workbook.xml", "bomb.xml"), "which no data does"),
    "empty": ("a.xlsx", lambda path: write(path, Sheet=[]), "found none in any of the sheets 'Sheet'"),
    "header alone": ("a.xlsx", lambda path: write(path, Sheet=TABLE[:1]), "found none in any of the sheets"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_other_documents_and_broken_ones_are_told_in_a_sentence(tmp_path, case):
    name, make, message = BROKEN[case]
    make(tmp_path / name)
    with pytest.raises(InputError, match=message):
        open_any(tmp_path / name)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.xlsx", Sheet=TABLE)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"needs openpyxl; install it with pip install 'thalweg\[files\]'"):
        open_any(path)


def test_a_sheet_of_a_workbook_in_a_zip_is_read(tmp_path):
    write(tmp_path / "a.xlsx", Data=TABLE, More=[["n"], [1], [2]])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.xlsx", "a.xlsx")
    assert read(tmp_path / "a.zip")[0] == ("text", "label")
    assert read(f"{tmp_path / 'a.zip'}#a.xlsx#More")[0] == ("n",)


def reshaped(path, change):
    """Write a workbook whose sheet is changed by hand."""
    write(path, A=TABLE)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, change(content) if name == "xl/worksheets/sheet1.xml" else content)
    return path


def with_row(row):
    return lambda content: content.replace(b"</sheetData>", row + b"</sheetData>")


def test_a_row_that_claims_to_be_far_down_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(spreadsheet, "MAX_ROWS", 1000)
    far = reshaped(tmp_path / "a.xlsx", with_row(b'<row r="999999999999"><c r="A1"><v>1</v></c></row>'))
    assert [line for line, *_ in read(far)[1]] == [2, 3]


def test_values_far_to_the_right_of_all_others_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(spreadsheet, "MAX_EMPTY", 50_000)
    rows = b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (line, line) for line in range(4, 9))
    with pytest.raises(InputError, match=r"a.xlsx, line 7: nearly all cells are empty; delete what stands far"):
        open_any(reshaped(tmp_path / "a.xlsx", with_row(rows)))


def test_entities_are_not_expanded_and_no_file_is_read(tmp_path):
    (tmp_path / "secret").write_text("secret")
    nested = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    for number, entity in enumerate((f'<!ENTITY e0 "lol">{nested}', f'<!ENTITY e9 SYSTEM "file://{tmp_path}/secret">')):
        declared = f'<?xml version="1.0"?><!DOCTYPE a [{entity}]>'.encode()
        row = with_row(b'<row r="4"><c r="A4" t="str"><v>&e9;</v></c></row>')
        path = reshaped(
            tmp_path / f"{number}.xlsx",
            lambda content, declared=declared, row=row: declared + row(content).removeprefix(b"<?xml version='1.0'?>"),
        )
        with pytest.raises(InputError, match="the workbook is damaged or can't be read"):
            open_any(path)
