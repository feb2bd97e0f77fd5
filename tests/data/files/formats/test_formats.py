"""Formats of other programs: fastText's lines, and files that are refused by name."""

import pytest

from thalweg.data.columns.guess import doubt_about_text
from thalweg.data.files.formats.annotated import annotation_in
from thalweg.data.files.formats.fasttext import labels_and_text
from thalweg.data.files.formats.foreign import refuse_by_ending
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.reading import open_data


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
    "subtitles": ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\na\n", "subtitles with their times"),
    "messages": ("a.po", 'msgid "a"\nmsgstr "b"\n', r"messages of gettext; convert them to TMX"),
    "labeled series": ("a.ts", "#c\n@problemName a\n@classLabel true 1 2\n@data\n1,2:1\n", "labeled series of numbers"),
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


def lines(make, number=60):
    return [make(i) for i in range(number)]


SAID = ("a fine film", "it was bad", "the end came late", "no plot, no end")
ANNOTATED = {
    "tilde": (
        lines(lambda i: f"{SAID[i % 4]} {i} ~ {'good' if i % 3 else 'bad'}"),
        "end in '~' and one of 2 labels ('bad', 'good')",
    ),
    "colons": (lines(lambda i: f"{SAID[i % 4]} {i}::{'good' if i % 3 else 'bad'}"), "end in '::'"),
    "commas": (lines(lambda i: f"{SAID[i % 4]}, {i}, {'good' if i % 3 else 'bad'}"), "end in ','"),
    "fine labels": (
        lines(lambda i: f"{('LOC:city', 'NUM:dist')[i % 3 > 1]} What is {i} ?"),
        "begin with one of 2 labels",
    ),
    "known words": (lines(lambda i: f"{('pos', 'neg')[i % 3 > 1]}: {SAID[i % 4]} {i}"), "begin with one of 2 labels"),
    "digits": (lines(lambda i: f"{i % 3 % 2} {SAID[i % 4]} {i}"), "begin with one of 2 labels ('0', '1')"),
    "last digits": (lines(lambda i: f"{SAID[i % 4]} number {i * 100} {i % 3 % 2}"), "end in one of 2 labels"),
    "brackets": (lines(lambda i: f"[{('art', 'film', 'war')[i % 3]}] {SAID[i % 4]} {i}"), "in brackets [...]"),
    "tags": (lines(lambda i: f"The/at film/nn is/bez number{i}/cd ./."), "one of 5 tags behind them (The/at)"),
    "aligned numbers": (
        ["YEAR MON TEMP", *lines(lambda i: f"{1990 + i // 12} {i % 12 + 1:3} {i % 7 + 0.5:5.1f}")],
        "are 3 values between spaces",
    ),
    "rows of LaTeX": (
        ["text & label \\\\ \\hline", *lines(lambda i: f"{SAID[i % 4]} {i} & {i % 2} \\\\")],
        "nearly all lines are rows of a LaTeX table",
    ),
    "columns of fixed width": (
        ["text                          label", f"{'-' * 28}  -----", *lines(lambda i: f"{SAID[i % 4]:<30}{i % 2}")],
        "rows of a drawn table",
    ),
    "a drawn box": (["┌───┬───┐", *lines(lambda i: f"│ {SAID[i % 4]} {i} │ {i % 2} │")], "rows of a drawn table"),
    "rows of R": (
        ['"text" "label"', *lines(lambda i: f'"{i}" "{SAID[i % 4]}" {i % 2}')],
        "are rows of 3 values between spaces, with quotation marks around them",
    ),
    "a number a line": (lines(lambda i: f"{i % 7 + 0.5}"), "are a value, mostly numbers"),
    "underscores": (lines(lambda i: f"The_DT film_NN is_VBZ number{i}_CD ._."), "tags behind them"),
}
NOT_ANNOTATED = {
    "prose": lines(lambda i: f"The river, it seems, finds valley {i}; the valley keeps it."),
    "a play": lines(lambda i: f"{('FIRST', 'SECOND')[i % 2]} CITIZEN: {SAID[i % 4]} {i}"),
    "a chat": lines(lambda i: f"{('Ann', 'Bob')[i % 3 > 1]}: {SAID[i % 4]} {i}"),
    "questions and answers": lines(lambda i: f"{('Yes', 'No')[i % 2]}, {SAID[i % 4]} {i}"),
    "code": lines(lambda i: f"    value_{i} = read(value_{i - 1}, {i});"),
    "speech": lines(lambda i: f'"{SAID[i % 4]} {i}," she said'),
    "names between marks": lines(lambda i: f"Smith & Sons {i} and {SAID[i % 4]}"),
    "a log": lines(lambda i: f"2024-01-01 12:00:{i:02} {SAID[i % 4]} -> {('ok', 'failed')[i % 3 > 1]}"),
    "a log of levels": lines(
        lambda i: f"{('INFO', 'ERROR')[i % 3 > 1]}: {SAID[i % 4]} {i} :: {('ok', 'failed')[i % 3 > 1]}"
    ),
    "verses": lines(lambda i: f"{i % 9 + 1} {SAID[i % 4]} {i}"),
    "addresses": lines(lambda i: f"https://example.org/{i}/{('a', 'b')[i % 3 > 1]}"),
    "dates": lines(lambda i: f"1/{i + 1} 2/{i + 1} 3/{i + 1}"),
    "few lines": lines(lambda i: f"{SAID[i % 4]} {i} ~ {'good' if i % 3 else 'bad'}", 8),
}


@pytest.mark.parametrize("case", ANNOTATED)
def test_lines_with_labels_and_words_with_tags_are_told(tmp_path, case):
    text, told = ANNOTATED[case]
    assert told in annotation_in(text)
    (tmp_path / "a.txt").write_text("\n".join(text))
    source = open_source(tmp_path / "a.txt", kind="text")
    assert doubt_about_text(source).endswith("or choose --task language.")


@pytest.mark.parametrize("case", NOT_ANNOTATED)
def test_other_texts_are_texts(case):
    assert annotation_in(NOT_ANNOTATED[case]) == ""


def test_long_lines_of_entities_are_texts_in_linear_time():
    assert annotation_in(["&amp; " * 120_000] * 12) == ""


def test_labeled_lines_are_trained_on_only_where_the_task_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n".join(ANNOTATED["tilde"][0]))
    with pytest.raises(InputError, match="a language model would learn as part of the text; save labels and texts as"):
        open_data(Options({"source": str(path)}), print)
    assert open_data(Options({"source": str(path)}), print, to_look=True).choice.unclear
    for given in ({"task": "language"}, {"kind": "text"}):
        assert open_data(Options({"source": str(path), **given}), print).choice.task == "language"
