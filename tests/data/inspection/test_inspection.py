"""What `thalweg data FILE` finds in a file."""

import json
import math
import re
import statistics

import pytest

from thalweg import names
from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.columns.choice import choose_columns
from thalweg.data.files.sources import open_source
from thalweg.data.inspection.inspection import inspect
from thalweg.data.inspection.tallies import LengthTally, NumberTally
from thalweg.data.text.normalize import Normalizer
from thalweg.errors import InputError

TASK_OF = {names.task_spec(task).sample: task for task in names.TASKS}


def write(folder, name, lines):
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return open_source(path)


def look(source, task, overrides=None, **options):
    columns = names.task_columns(task)
    return inspect(source, columns, choose_columns(source, columns, overrides), **options)


LINES = [
    "text,label",
    "a fine film to see,good",  # 2
    "what a bad film,bad",
    "a fine film to see,good",  # 4: again
    "a fine film to see,bad",  # 5: again, and contradicts
    ",good",  # 6: empty
    "   ,bad",
    "so so,good",
    "so so,bad",  # 9: contradicts
    "one two three four five six seven eight nine,good",
]


def test_a_table_of_texts_and_labels_is_described(tmp_path):
    found = look(write(tmp_path, "a.csv", LINES), "classify", max_length=8)
    assert (found.kind, found.task, found.columns) == ("csv", "classify", ("text", "label"))
    assert (found.num_rows, found.num_bad_rows, found.bad_rows) == (9, 0, [])
    assert (found.labels, found.rare_labels) == ({"good": 5, "bad": 4}, ["good", "bad"])
    (length,) = found.lengths
    words = sorted([5, 4, 5, 5, 2, 2, 9])
    assert (length.count, length.minimum, length.maximum) == (7, 2, 9)
    assert length.mean == pytest.approx(statistics.mean(words))
    assert length.quantiles["0.5"] == 5
    assert (length.num_empty, length.empty_lines) == (2, [6, 7])
    assert (length.num_too_long, length.too_long_lines) == (1, [10])
    assert found.num_duplicates == 3
    assert found.duplicates == [(4, 2, "a fine film to see"), (5, 2, "a fine film to see"), (9, 8, "so so")]
    assert (found.num_conflicts, found.num_conflict_rows, found.conflict_errors) == (2, 5, 2)
    costs = [3 * math.log(3) - 2 * math.log(2), 2 * math.log(2)]
    assert found.conflict_nats == pytest.approx(sum(costs))
    assert [(one.text, one.labels, one.counts, one.lines, one.errors) for one in found.conflicts] == [
        ("a fine film to see", ("good", "bad"), (2, 1), ((2, 4), (5,)), 1),
        ("so so", ("good", "bad"), (1, 1), ((8,), (9,)), 1),
    ]
    assert [one.nats for one in found.conflicts] == pytest.approx(costs)
    assert found.preview[0] == {"text": "a fine film to see", "label": "good"}
    assert len(found.preview) == 5


def test_texts_are_the_same_once_normalized_and_rows_without_a_label_contradict_nobody(tmp_path):
    lines = ["text,label", "So  so,", "so so,good", "so SO,good", "SO so,bad", "other,", "other,bad"]
    source = write(tmp_path, "a.csv", lines)
    assert look(source, "classify").num_conflicts == 0
    found = look(source, "classify", normalize=Normalizer())
    assert (found.num_conflicts, found.num_conflict_rows, found.conflict_errors) == (1, 3, 1)
    assert found.conflicts[0].lines == ((3, 4), (5,))
    assert found.duplicates == [(3, 2, "so so"), (4, 3, "so SO"), (5, 3, "SO so"), (7, 6, "other")]


def test_lines_of_a_running_text_may_come_again_or_be_empty(tmp_path):
    source = write(tmp_path, "a.txt", ["", "the river", "", "the river", "finds the long way to the sea"])
    found = look(source, "language", max_length=3, is_running=True)
    (length,) = found.lengths
    assert (found.num_rows, found.num_duplicates, length.count, length.num_empty, length.num_too_long) == (
        5,
        0,
        3,
        0,
        0,
    )
    assert found.looked_for == ["rows that can't be read or used"]
    found = look(source, "language", max_length=3)  # what is not told of it
    assert (found.num_duplicates, found.lengths[0].num_empty, found.lengths[0].num_too_long) == (1, 2, 1)
    assert found.looked_for[1:] == ["repeated texts", "empty texts", "texts longer than --max-length"]


def test_long_lists_of_labels_and_lines_are_cut_and_counted(tmp_path):
    rows = [f"so so,{k % 7}" for k in range(70)] + ["so so,6"]
    found = look(write(tmp_path, "a.csv", ["text,label", *rows]), "classify", num_examples=3)
    (one,) = found.conflicts
    assert (one.num_rows, one.num_labels, one.errors) == (71, 7, 60)
    assert (one.labels, one.counts) == (("6", "0", "1", "2", "3"), (11, 10, 10, 10, 10))
    assert one.lines[0] == (8, 15, 22, 29, 36)


def test_a_validation_file_is_compared(tmp_path):
    source = write(tmp_path, "a.csv", LINES)
    valid = write(tmp_path, "b.csv", ["text,label", "so so,good", "new text,ugly", "what a bad film,ugly", "other,odd"])
    found = look(source, "classify", valid_source=valid)
    assert (found.num_valid_rows, found.num_shared, found.shared_lines) == (4, 2, [2, 4])
    assert found.unseen_labels == {"ugly": 2, "odd": 1}
    other = write(tmp_path, "c.csv", ["text,category", "so so,good"])
    with pytest.raises(
        InputError, match=r"c\.csv: expected the column 'label', as in the training data; got 'text', 'cat"
    ):
        look(source, "classify", valid_source=other)


def test_bad_rows_are_counted(tmp_path):
    lines = ["text,label", *[f"text {i},{i % 2}" for i in range(300)]]
    lines[100] = "one,two,three"
    found = look(write(tmp_path, "a.csv", lines), "classify")
    assert (found.num_rows, found.num_bad_rows) == (299, 1)
    assert found.to_json()["bad_rows"] == [{"line": 101, "reason": "expected 2 columns, got 3"}]


def test_labels_of_rows_with_several_are_counted_one_by_one(tmp_path):
    rows = [f"text number {i} here,{('a;b', 'b', 'a;c', 'c')[i % 4]}" for i in range(40)]
    found = look(write(tmp_path, "a.csv", ["text,topics", *rows]), "classify")
    assert found.labels == {"a": 20, "b": 20, "c": 20}
    same = ["one text,a;b", "one text,b; a", "one text,b"]
    found = look(write(tmp_path, "b.csv", ["text,topics", *rows, *same]), "classify")
    assert (found.num_conflicts, found.conflict_errors, found.conflict_nats) == (1, 1, None)
    assert found.conflicts[0].labels == ("a, b", "b")


LABELS = [
    (["pos", "pos ", "neg"], {"pos": 2, "neg": 1}, 0, []),
    (["a", "", "b", " "], {"a": 1, "b": 1}, 2, []),
    (
        ["a", "a"],
        {"a": 2},
        0,
        [r"Expected at least two different labels in column 'label', got only one label \('a'\)"],
    ),
    (["Spam", "spam", "spam", "ham"], {"spam": 2, "Spam": 1, "ham": 1}, 0, [r"written: 'spam' \(2\), 'Spam' \(1\)\."]),
    (["1", "1.0", "2"], {"1": 1, "1.0": 1, "2": 1}, 0, [r"written: '1' \(1\), '1\.0' \(1\)\."]),
    (
        ["none", "x", "NA"],
        {"none": 1, "x": 1, "NA": 1},
        0,
        [r"'none' \(1 row\), 'NA' \(1 row\) are labels, no miss"],
    ),
    ([f"n{i}" for i in range(30)], dict.fromkeys((f"n{i}" for i in range(30)), 1), 0, [r"All 30 labels .* come once"]),
]


@pytest.mark.parametrize(("values", "labels", "num_unlabeled", "sentences"), LABELS)
def test_labels_are_read_as_training_reads_them(tmp_path, values, labels, num_unlabeled, sentences):
    rows = [f'text number {i},"{value}"' for i, value in enumerate(values)]
    named = {"text": "text", "label": "label"}
    found = look(write(tmp_path, "a.csv", ["text,label", *rows]), "classify", named)
    assert (found.labels, found.num_unlabeled) == (labels, num_unlabeled)
    assert len(found.label_problems) == len(sentences)
    for pattern, sentence in zip(sentences, found.label_problems, strict=True):
        assert re.search(pattern, sentence), sentence


def test_what_was_looked_for_is_told(tmp_path):
    source = write(tmp_path, "a.csv", LINES)
    found = look(source, "classify")
    assert "labels written in several ways" in found.looked_for
    assert "texts longer than --max-length" not in found.looked_for
    found = look(source, "classify", max_length=8, valid_source=source)
    assert found.looked_for[-2:] == ["validation texts that are trained on", "validation labels that training lacks"]
    assert "texts longer than --max-length" in found.looked_for


def test_rows_of_a_validation_file_that_cannot_be_used_are_listed(tmp_path):
    source = write(tmp_path, "a.csv", ["text,score", "a b,1", "c d,2.5"])
    valid = write(tmp_path, "b.csv", ["text,score", "a b,1", "c d,high"])
    found = look(source, "score", valid_source=valid)
    assert (found.num_valid_rows, found.num_valid_unusable) == (1, 1)
    assert found.to_json()["valid_unusable_rows"][0]["line"] == 3


def test_pairs_with_numbers_are_described(tmp_path):
    rows = ["one two,three four,5.00", "one two,three four,5", "one two,other words,1.5", "x y,z z,high", "u v,w w,"]
    found = look(write(tmp_path, "a.csv", ["sentence1,sentence2,score", *rows]), "score", {"number": "score"})
    assert [one.column for one in found.lengths] == ["sentence1", "sentence2"]
    (number,) = found.numbers
    assert (number.count, number.minimum, number.maximum) == (3, 1.5, 5)
    assert number.mean == pytest.approx(11.5 / 3)
    assert number.deviation == pytest.approx(statistics.pstdev([5, 5, 1.5]))
    assert (number.num_missing, number.missing_lines) == (1, [6])
    assert (number.num_unreadable, number.unreadable) == (1, [(5, "high")])
    assert (found.num_duplicates, found.num_conflicts) == (1, 0), "5 and 5.00 are the same number"
    assert found.labels == {}


def test_tags_are_counted_and_must_be_as_many_as_the_words(tmp_path):
    rows = [
        {"tokens": ["a", "b"], "tags": ["O", "B"]},
        {"tokens": ["a"], "tags": ["O", "B"]},
        {"tokens": ["a", "b"], "tags": ["O", "O"]},
        {"tokens": [], "tags": []},
    ]
    found = look(write(tmp_path, "a.jsonl", map(json.dumps, rows)), "tag")
    assert (found.labels, found.rare_labels) == ({"O": 3, "B": 1}, []), "a row that can't be used is left out"
    assert (found.num_unequal, found.unequal_lines) == (1, [2])
    assert (found.num_rows, found.num_unusable) == (4, 1)
    assert found.unusable_rows == [(2, "expected a tag for each word, got 1 words and 2 tags")]
    assert (found.lengths[0].maximum, found.lengths[0].num_empty) == (2, 1)
    assert (found.num_conflicts, found.conflicts[0].labels) == (1, ("O B", "O O"))


def test_series_have_statistics_and_no_duplicates(tmp_path):
    found = look(
        write(tmp_path, "a.csv", ["year,a,b", "1700,5,x", "1701,7,2.5", "1702,,2.5"]), "forecast", {"series": "a,b"}
    )
    assert [(one.column, one.count, one.num_missing, one.num_unreadable) for one in found.numbers] == [
        ("a", 1, 1, 0),  # the row with x is left out
        ("b", 2, 0, 1),
    ]
    assert (found.lengths, found.num_duplicates) == ([], 0)


def test_translations_of_one_text_do_not_conflict(tmp_path):
    found = look(write(tmp_path, "a.csv", ["english,german", "hi,hallo", "hi,tag", "hi,tag"]), "translate")
    assert (found.num_duplicates, found.num_conflicts) == (1, 0)
    assert found.duplicates == [(4, 3, "hi")]


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "docstrings"])
def test_built_in_sets_are_in_order(name):
    sample = SAMPLES[name]
    found = look(sample, TASK_OF[name])
    assert found.num_rows == sum(map(len, sample.chunks()))
    assert (found.num_unequal, found.num_bad_rows) == (0, 0)
    assert json.loads(json.dumps(found.to_json()))["name"] == name
    assert found.num_conflicts == 0


def test_the_examples_are_few_and_the_texts_short(tmp_path):
    rows = [f"{'word ' * 100},{i}" for i in range(50)]
    found = look(
        write(tmp_path, "a.csv", ["text,label", *rows]), "classify", {"label": "label"}, num_examples=3, num_preview=2
    )
    assert (found.num_duplicates, len(found.duplicates), len(found.preview)) == (49, 3, 2)
    assert all(len(text) <= 200 for _, _, text in found.duplicates)
    assert (found.num_conflicts, len(found.conflicts)) == (1, 1)


def test_quantiles_are_those_of_the_sorted_lengths():
    tally = LengthTally("text", num_examples=3, limit=None)
    lengths = [(i * 37) % 101 + 1 for i in range(1000)]
    for i, length in enumerate(lengths):
        tally.add(i, length)
    quantiles = tally.result().quantiles
    for share in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99):
        within = quantiles[str(share)]
        assert sum(length <= within for length in lengths) >= share * 1000
        assert sum(length < within for length in lengths) < share * 1000


def test_numbers_are_summed_without_loss():
    tally = NumberTally("x", num_examples=1)
    numbers = [1e9 + (i % 7) for i in range(5000)]
    for i, number in enumerate(numbers):
        tally.add(i, str(number))
    assert tally.result().deviation == pytest.approx(statistics.pstdev(numbers), rel=1e-9)
    assert NumberTally("x", 1).result().minimum == 0
