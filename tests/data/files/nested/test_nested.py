"""JSON with objects inside of rows, and JSON that is one value: its columns and rows, or why there are none."""

import io
import json

import pytest

from thalweg import names
from thalweg.data.columns.guess import guess_task
from thalweg.data.files.incoming import open_stream
from thalweg.data.files.nested.annotations import asks_one_label, is_answer
from thalweg.data.files.nested.documents import is_document, open_document
from thalweg.data.files.nested.records import flattened, layout_of
from thalweg.data.files.nested.spans import Span, are_spans, span_of, tags_of, words_of
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

ROWS = [{"text": f"text {i}", "label": "good" if i % 2 else "bad"} for i in range(30)]
VALUES = [(row["text"], row["label"]) for row in ROWS]
TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho"},
]


def opened(folder, name, value):
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return open_source(path)


def lines_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


DOCUMENTS = {
    "list": ROWS,
    "list over lines": json.dumps(ROWS, indent=2),
    "list of lines": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "columns as lists": {"text": [row["text"] for row in ROWS], "label": [row["label"] for row in ROWS]},
    "columns of pandas": {key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ("text", "label")},
    "index of pandas": {str(i): row for i, row in enumerate(ROWS)},
    "split of pandas": {"columns": ["text", "label"], "index": [1], "data": [list(row.values()) for row in ROWS]},
    "below a key": {"version": 2, "data": ROWS},
    "below two keys": {"response": {"items": ROWS}},
    "one after another": "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "lines": lines_of(ROWS),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_document_gives_its_rows(tmp_path, case):
    source = opened(tmp_path, "a.json", DOCUMENTS[case])
    assert source.columns == ("text", "label")
    for _ in range(2):
        assert [row.values for row in source.rows()] == VALUES
    lines = [row.line for row in source.rows()]
    assert lines == sorted(set(lines))


def test_lines_of_a_document_are_those_of_the_file_where_rows_have_their_own(tmp_path):
    assert [row.line for row in opened(tmp_path, "a.json", DOCUMENTS["list over lines"]).head(2)] == [2, 6]
    source = opened(tmp_path, "b.json", DOCUMENTS["list"])
    assert [row.line for row in source.head(2)] == [1, 2]
    assert "the number of the row is meant" in source.notes[0]


def test_a_document_on_one_very_long_line_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "x" * 500, "label": "a"}] * 50))
    assert sum(1 for _ in open_source(path, max_line_length=1000).rows()) == 50


def test_a_document_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.data.files.sources.MAX_DOCUMENT", 100)
    with pytest.raises(InputError, match=r"read as a whole, up to 100 characters, .*convert it to JSON Lines"):
        opened(tmp_path, "a.json", ROWS)


# name of the file, its content, columns, the first row, what a note says
NESTED = {
    "translation": (
        [{"translation": {"en": "a b", "fr": "c d"}}],
        ("translation.en", "translation.fr"),
        ("a b", "c d"),
        "translation.en, translation.fr",
    ),
    "two levels": ([{"id": 1, "a": {"b": {"c": "x"}}}], ("id", "a.b.c"), (1, "x"), "dots"),
    "label scores": (
        [{"text": "x y", "cats": {"GOOD": 1.0, "BAD": 0.0}}, {"text": "z", "cats": {"GOOD": 0.0, "BAD": 1.0}}],
        ("text", "cats"),
        ("x y", "GOOD"),
        "score of at least 0.5",
    ),
    "several labels with scores": (
        [{"text": "x y", "cats": {"A": 1, "B": 1}}, {"text": "z", "cats": {"A": 0, "B": 0}}],
        ("text", "cats"),
        ("x y", ["A", "B"]),
        "scores of at least 0.5",
    ),
    "spans as lists": (
        [{"text": "Anna is in Rio.", "entities": [[0, 4, "PER"], [11, 14, "LOC"]]}],
        ("text", "tokens", "tags"),
        ("Anna is in Rio.", ["Anna", "is", "in", "Rio", "."], ["B-PER", "O", "O", "B-LOC", "O"]),
        "words and BIO tags of 'text'",
    ),
    "spans as objects": (
        [{"id": 7, "text": "New York", "label": [{"start_offset": 0, "end_offset": 8, "label": "LOC"}]}],
        ("id", "text", "tokens", "tags"),
        (7, "New York", ["New", "York"], ["B-LOC", "I-LOC"]),
        "BIO",
    ),
    "spans with words": (
        [
            {
                "text": "it's Rio",
                "spans": [{"start": 5, "end": 8, "label": "LOC"}],
                "tokens": [{"text": "it", "start": 0, "end": 2}, {"start": 2, "end": 4}, {"start": 5, "end": 8}],
            }
        ],
        ("text", "tokens", "tags"),
        ("it's Rio", ["it", "'s", "Rio"], ["O", "O", "B-LOC"]),
        "BIO",
    ),
    "chat": ([{"messages": TURNS}], ("source", "target"), ("Hi", "Ho"), "messages of the system are left out"),
    "chat by sender": (
        [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}],
        ("source", "target"),
        ("Hi", "Ho"),
        "the user's",
    ),
    "labels of a tool": (
        [
            {
                "id": 1,
                "data": {"text": "fine"},
                "annotations": [{"result": [{"from_name": "mood", "value": {"choices": ["good"]}}]}],
            }
        ],
        ("id", "data.text", "mood"),
        (1, "fine", ["good"]),
        "data.text",
    ),
    "an answer that was cancelled": (
        [
            {
                "data": {"text": "fine"},
                "annotations": [
                    {"was_cancelled": True, "result": [{"from_name": "mood", "value": {"choices": ["bad"]}}]},
                    {"result": [{"from_name": "mood", "value": {"choices": ["good"]}}]},
                ],
            }
        ],
        ("data.text", "mood"),
        ("fine", ["good"]),
        "data.text",
    ),
    "a text that was typed": (
        [{"data": {"text": "fine"}, "annotations": [{"result": [{"from_name": "fr", "value": {"text": ["fin"]}}]}]}],
        ("data.text", "fr"),
        ("fine", "fin"),
        "data.text",
    ),
    "labels as objects": (
        [{"title": "it stops", "labels": [{"id": 7, "name": "bug"}, {"id": 8, "name": "new"}]}],
        ("title", "labels"),
        ("it stops", ["bug", "new"]),
        "Of the objects in 'labels', their 'name' are read.",
    ),
    "a choice": (
        [{"text": "fine", "options": [{"id": "GOOD"}], "accept": ["GOOD"], "answer": "accept"}],
        ("text", "label"),
        ("fine", ["GOOD"]),
        "",
    ),
    "spans of a tool": (
        [
            {
                "data": {"text": "Rio"},
                "annotations": [{"result": [{"value": {"start": 0, "end": 3, "labels": ["LOC"]}}]}],
            }
        ],
        ("data.text", "tokens", "tags"),
        ("Rio", ["Rio"], ["B-LOC"]),
        "BIO",
    ),
    "lists of objects beside columns": (
        [{"text": "x", "label": "a", "meta": [{"b": 1}]}],
        ("text", "label"),
        ("x", "a"),
        "Left out, because they hold lists of objects: meta",
    ),
    "pairs of text and object": (
        "[" + json.dumps(["Rio is far", {"entities": [[0, 3, "LOC"]]}]) + "]",
        ("text", "tokens", "tags"),
        ("Rio is far", ["Rio", "is", "far"], ["B-LOC", "O", "O"]),
        "BIO",
    ),
}


@pytest.mark.parametrize("case", NESTED)
def test_objects_inside_of_rows_become_columns(tmp_path, case):
    rows, columns, first, note = NESTED[case]
    source = opened(
        tmp_path, "a.json" if isinstance(rows, str) else "a.jsonl", rows if isinstance(rows, str) else lines_of(rows)
    )
    assert source.columns == columns
    assert source.head(1)[0].values == first
    assert note in " ".join(source.notes)


REFUSED = {
    "list of numbers": ("[1, 2, 3]", "expected JSON objects with keys, one for each row, got a number"),
    "empty list": ("[]", "got an empty list"),
    "broken": ('[{"a": 1},\n {"a": }]', r"line 2: not valid JSON \(Expecting value at column 8\)"),
    "several lists": ({"train": ROWS, "test": ROWS}, "got 2 of them under 'train', 'test'; save .* jq '.train'"),
    "only objects in lists": (
        [{"title": "x", "parts": [{"a": 1}]}] * 3,
        r"'parts' holds a list of objects .*jq -c '.parts\[\]'",
    ),
    "long chats": ([{"messages": TURNS[1:] * 2}] * 3, r"got 4 messages in one row \(3 of 3 rows\); split each"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_shape_without_rows_is_refused_with_what_to_do(tmp_path, case):
    value, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        list(opened(tmp_path, "a.json", value).rows())


def test_an_object_where_values_were_is_a_bad_row(tmp_path):
    rows = [{"text": "x", "label": "a"}] * 2000 + [{"text": {"a": 1}, "label": "a"}, {"text": "y", "label": [{"b": 1}]}]
    source = opened(tmp_path, "a.jsonl", lines_of(rows))
    assert len(list(source.rows())) == 2000 + 1, "what is flattened is missing; a list of objects can't be"
    assert [row.line for row in source.bad_rows] == [2002]
    assert "holds objects, and plain values in the rows before" in source.bad_rows[0].reason


def test_spans_that_do_not_fit_words_are_counted(tmp_path):
    rows = [{"text": "Anna ran", "spans": [[0, 3, "PER"], [0, 4, "ORG"]]}, {"text": "Rio", "spans": []}] * 3
    source = opened(tmp_path, "a.jsonl", lines_of(rows))
    assert [row.values[2] for row in source.rows()][:2] == [["B-PER", "O"], ["O"]]
    assert source.remarks == [
        f"{source.name}: spans that cut a word, extended to the whole word (3 rows, lines 1, 3, 5).",
        f"{source.name}: spans that overlap an earlier one, left out (3 rows, lines 1, 3, 5).",
    ]


def test_the_parts_say_what_they_found():
    assert flattened({"a": {"b": {}}, "c": 1}) == {"c": 1}
    assert span_of([0, 1, "A"]) == Span(0, 1, "A")
    assert span_of([0, True, "A"]) is None
    assert are_spans([])
    assert not are_spans(["a"])
    assert tags_of(words_of("a b"), [Span(1, 2, "X")]) == (["O", "O"], ["spans without a word, left out"])
    assert is_document({"a": [1, 2], "b": [3, 4]})
    assert not is_document({"tokens": ["a", "b"], "tags": ["X", "Y"]})
    assert layout_of("a", [{"x": 1}])[0].columns == ("x",)
    assert open_document("a", '{"x": 1} {"x": 2}')[0].records == [{"x": 1}, {"x": 2}]


ANSWERS = [
    {"text": "one", "label": "A", "answer": "accept"},
    {"text": "two", "label": "B", "answer": "reject"},
    {"text": "three", "label": "B", "answer": "ignore"},
    {"text": "four", "label": "B", "answer": "accept"},
]


def test_what_an_annotator_rejected_is_no_row(tmp_path):
    source = opened(tmp_path, "a.jsonl", lines_of(ANSWERS))
    assert [row.values for row in source.rows()] == [("one", "A"), ("four", "B")]
    assert source.remarks[0].endswith("is left out (2 rows, lines 2, 3).")
    stream = open_stream(io.BytesIO(lines_of(ANSWERS).encode()))
    assert [row.line for row in stream.rows()] == [1, 4]


def test_what_is_not_the_only_label_is_its_opposite(tmp_path):
    source = opened(tmp_path, "a.jsonl", lines_of(row | {"label": "A"} for row in ANSWERS))
    assert [row.values for row in source.rows()] == [("one", "A"), ("two", "not A"), ("four", "A")]
    assert asks_one_label(ANSWERS) is False


def test_answers_of_other_files_are_values_like_any_other(tmp_path):
    rows = [{"question": "May I?", "answer": "reject"}, {"question": "Why?", "answer": "accept"}]
    assert len(opened(tmp_path, "a.jsonl", lines_of(rows)).head()) == 2
    assert not is_answer(rows[0])


def test_the_first_task_is_not_guessed_where_the_answers_are_left_out(tmp_path):
    rows = [{"id": i, "text": f"a text that is number {i}", "marks": [{"x": 1}, {"x": 2}]} for i in range(30)]
    source = opened(tmp_path, "a.jsonl", lines_of(rows))
    assert source.left_out == ("marks",)
    with pytest.raises(InputError, match="nothing says what is to be learned from the texts, and 'marks' is left out"):
        guess_task(source, names.all_task_columns())
    assert guess_task(source, names.all_task_columns(), {"text": "text"})[0].task == "language"
