"""Formats of other programs: fastText's lines, and files that are refused by name."""

import pytest

from thalweg.data.files.formats.fasttext import labels_and_text
from thalweg.data.files.formats.foreign import refuse_by_ending
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_fasttext_with_one_label_a_line(tmp_path):
    lines = [f"__label__{'good' if i % 2 else 'bad'} text {i} with __label__x inside\n" for i in range(20)]
    source = open_source(write(tmp_path, "a.txt", "".join(lines)))
    assert source.kind == "fasttext"
    assert source.columns == ("text", "label")
    assert source.head(2)[1].values == ("text 1 with __label__x inside", "good")
    assert "Its content is fasttext in spite of the ending .txt" in source.notes[0]


def test_fasttext_with_several_labels_gives_lists(tmp_path):
    source = open_source(write(tmp_path, "a.train", "__label__a __label__b one two\n\n__label__c three\n"))
    assert [row.values for row in source.rows()] == [("one two", ["a", "b"]), ("three", ["c"])]
    assert [row.line for row in source.rows()] == [1, 3]


def test_fasttext_lines_that_do_not_fit_are_bad_rows(tmp_path):
    content = "__label__a x\n" * 6000 + "no label\n__label__a __label__b y\n"
    source = open_source(write(tmp_path, "a.txt", content))
    assert len(list(source.rows())) == 6000
    assert [row.reason for row in source.bad_rows] == [
        "expected a line that begins or ends with __label__",
        "expected one label, as in the lines before, got 2",
    ]
    with pytest.raises(InputError, match=r"line 1: expected lines that begin or end with __label__ .*, got none"):
        open_source(write(tmp_path, "b.txt", "a text\n"), kind="fasttext")


@pytest.mark.parametrize(
    ("line", "labels", "text"),
    [
        ("__label__a\ttext here", ["a"], "text here"),
        ("__label__a __label__b\ttext here", ["a", "b"], "text here"),
        ("  __label__a", ["a"], ""),
        ("text __label__a", ["a"], "text"),
        ("text __label__a __label__b", ["a", "b"], "text"),
        ("text __label__a text", [], "text __label__a text"),
        ("__label__a text __label__b", ["a"], "text __label__b"),
    ],
)
def test_labels_are_those_at_the_beginning(line, labels, text):
    assert labels_and_text(line) == (labels, text)


# name of the file, its content, what the sentence says
FOREIGN = {
    "libsvm with empty rows": ("a.txt", "1 3:0.5 7:1\n-1\n-1 2:0.25 9:3\n+1 1:1e-3\n", r"numeric features \(a LIBSVM"),
    "libsvm": ("a.txt", "1 3:0.5 7:1\n-1 2:0.25 9:3\n+1 1:1e-3\n", r"numeric features \(a LIBSVM .*give the texts"),
    "libsvm ending": ("a.svm", "x", "numeric features"),
    "arff": ("a", "% c\n@relation r\n@attribute a numeric\n@data\n1\n", "an ARFF file; save it as CSV"),
    "xml": ("a.txt", '<?xml version="1.0"?>\n<a/>\n', "got XML; convert .* --kind text reads it as plain text"),
    "html": ("a.txt", "<!doctype html>\n<html></html>\n", "got a web page"),
    "yaml": ("a.yaml", "- text: x\n", "got YAML; convert it to JSON"),
    "yaml by content": ("a", "---\n- text: x\n", "got YAML"),
    "sql": ("a.sql", "INSERT INTO t VALUES (1);\n", "an SQL dump; load it"),
    "sql by content": ("dump", "-- MySQL dump 10.13\nCREATE TABLE a (b int);\n", "an SQL dump"),
    "word": ("a.docx", b"PK\x03\x04", "a word processor's document; save it as plain text"),
    "rtf": ("a.txt", "{\\rtf1\\ansi x}\n", "a word processor's document .RTF."),
    "notebook": ("a.ipynb", '{"cells": []}\n', "got a notebook"),
    "pickle": ("a.pkl", b"\x80\x04\x95", "a Python pickle, which can run any code"),
    "pickle by content": ("a.bin", b"\x80\x04\x95\x00\x01", "a Python pickle"),
    "arrays": ("a.npy", b"\x93NUMPY", "arrays of numbers"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_file_is_refused_by_name(tmp_path, case):
    name, content, message = FOREIGN[case]
    path = write(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as caught:
        open_source(path)
    assert str(path) in str(caught.value)


def test_markup_is_text_where_the_user_says_so(tmp_path):
    path = write(tmp_path, "a.html", "<html>\n")
    with pytest.raises(InputError, match="got a web page"):
        refuse_by_ending(path)
    assert open_source(path, kind="text").head(1)[0].values == ("<html>",)


def test_labels_at_the_ends_of_lines_are_fasttext_too(tmp_path):
    content = "".join(f"a film of kind {i} __label__{'good' if i % 2 else 'bad'}\n" for i in range(20))
    source = open_source(write(tmp_path, "a.txt", content))
    assert source.kind == "fasttext"
    assert source.head(2)[1].values == ("a film of kind 1", "good")
