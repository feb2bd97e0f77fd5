"""Texts and labels in one pass over the file, against the same read in several passes."""

import csv

import numpy as np
import pytest

from thalweg.data.arrays.ragged import Spill
from thalweg.data.files.base import AbstractSource, Chunk
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.tasks.base import Settings
from thalweg.tasks.classify.task import Classify
from thalweg.tasks.reading.draft import TextDraft
from thalweg.tasks.reading.labels import LabelReader
from thalweg.tasks.reading.numeric import numbers_in
from thalweg.tasks.reading.text_column import TextColumn
from thalweg.tasks.reading.text_reader import TextReader

COLUMNS = {"text": "text", "label": "label"}


class Rows(AbstractSource):
    """Rows in chunks of two, that counts how often it is read."""

    kind, name, notes = "csv", "rows.csv", []

    def __init__(self, labels, texts=None):
        self.columns = ("text", "label")
        self.values = (texts or [f"text {i}" for i in range(len(labels))], labels)
        self.num_passes = 0

    def chunks(self, size=2):
        self.num_passes += 1
        for start in range(0, len(self.values[0]), size):
            part = tuple(column[start : start + size] for column in self.values)
            yield Chunk(self.columns, range(start + 2, start + 2 + len(part[0])), part)


def settings(folder=None, **options):
    values = {
        "columns": COLUMNS, "valid_share": 0.3, "normalize": ("lower", "spaces"), "tokenizer": "word",
        "vocabulary_size": 40, "bigrams": 0, "max_length": 9, "lags": 0, "scaling": "none", "layout": "padded",
        "spill": Spill(folder),
    }  # fmt: skip
    return Settings(**{**values, **options})


def made_up(num_rows=300, seed=0):
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(60)]
    texts = [
        " ".join(rng.choice(words, p=np.arange(60, 0, -1) / 1830, size=rng.integers(0, 9))) for _ in range(num_rows)
    ]
    return Rows([f"l{rng.integers(3)}" for _ in range(num_rows)], texts)


@pytest.mark.parametrize("tokenizer", ["word", "char", "bpe"])
@pytest.mark.parametrize("spill_bytes", [2**28, 1])
def test_a_draft_gives_the_ids_of_a_reader_that_reads_twice(tokenizer, spill_bytes, tmp_path):
    source, spill = made_up(), Spill(tmp_path, spill_bytes)
    size = 40 if tokenizer == "word" else 300
    options = settings(tmp_path, tokenizer=tokenizer, spill=spill, vocabulary_size=size)
    texts, draft = TextColumn(source, "text", options.normalizer()), TextDraft(options)
    for _ in texts.read(draft.add):
        pass
    train = np.arange(300) % 3 > 0
    reader = draft.reader(texts, train)
    other = TextReader.fit(texts.chosen(train), options)
    # Of equally frequent words another one may be the last in the vocabulary; all are words of the training texts.
    counted = {word for text in np.array(source.values[0])[train] for word in text.split()}
    for rows in (train, ~train):
        ids = draft.ids(reader, texts, rows)
        chosen = [text for part in texts.chosen(rows) for text in part]
        assert [row.tolist() for row in ids] == [reader.tokenizer.encode(text) for text in chosen]
    assert reader.tokenizer.vocabulary_size == other.tokenizer.vocabulary_size
    if tokenizer == "word":
        assert {reader.tokenizer.token(i) for i in range(4, reader.tokenizer.vocabulary_size)} <= counted
    assert np.array_equal(draft.keys(), texts.keys())
    assert source.num_passes == 1


def test_a_vocabulary_without_room_is_refused_before_anything_is_read():
    with pytest.raises(InputError, match="at least 4 entries"):
        TextDraft(settings(vocabulary_size=3))


def test_one_pass_reads_texts_and_labels():
    source = made_up()
    _, prepared = Classify.prepare(source, None, settings())
    assert source.num_passes == 1
    assert len(prepared.train) + len(prepared.valid) == 300
    assert prepared.valid.raw is not None
    assert all(text in source.values[0] for text in prepared.valid.raw)


def test_texts_that_are_too_many_to_keep_are_read_again_with_the_same_result():
    source = made_up()
    kept, read_again = (
        TextColumn(source, "text", settings().normalizer(), max_characters=size) for size in (10**6, 50)
    )
    rows = np.arange(300) % 2 == 0
    for texts in (kept, read_again):
        assert list(texts.read(lambda _: None))
    assert source.num_passes == 2
    assert list(kept.chosen(rows)) == list(read_again.chosen(rows))
    assert source.num_passes == 3


def read(values, known=None, **options):
    return LabelReader(known=known, **options).read(Rows(values), "label")


def test_single_labels_of_every_type_that_a_file_may_hold():
    labels = read(["b", " a ", None, True, 1, 1.0, "", "b", "true", "10", 9])
    assert labels.names == ("1", "9", "10", "a", "b", "true")
    assert labels.present.tolist() == [True, True, False, True, True, True, False, True, True, True, True]
    found = [labels.names[i] for i in labels.ids[labels.present].tolist()]
    assert found == ["b", "a", "true", "1", "1", "b", "true", "10", "9"]
    assert labels.notes == ("rows.csv: 2 rows have no label and were left out (lines 4, 8).",)


def test_several_labels_in_a_field_or_a_list():
    labels = read(["b;a", "", "a; b;a", ["c", "a"], []], multilabel=True, separator=";")
    assert labels.names == ("a", "b", "c")
    assert [sorted(row.tolist()) for row in labels.ids] == [[0, 1], [], [0, 1], [0, 2], []]
    assert labels.present.all()


@pytest.mark.parametrize("value", ["c", ["c"], "a,c"])
def test_an_unseen_label_is_refused_with_its_line(value):
    values = ["a", "b", "a", "a", value, "c"]
    with pytest.raises(InputError, match=r"rows.csv, line 6: label 'c'"):
        read(values, known=("a", "b"), multilabel=value != "c", separator=",")


def test_labels_remembered_by_field_are_few(monkeypatch):
    monkeypatch.setattr("thalweg.tasks.reading.labels.MAX_FIELDS", 3)
    values = [f"l{i % 7}" for i in range(50)]
    labels = read(values)
    assert [labels.names[i] for i in labels.ids.tolist()] == values


def test_a_csv_file_is_prepared_alike_whatever_stays_in_memory(tmp_path):
    path = tmp_path / "data.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*made_up().values, strict=True)])
    results = []
    for spill_bytes in (2**28, 1):
        for layout, bigrams in (("padded", 0), ("bag", 20)):
            options = settings(tmp_path, layout=layout, bigrams=bigrams, spill=Spill(tmp_path, spill_bytes))
            results.append(Classify.prepare(open_source(path), None, options)[1])
    for whole, spilled in (results[::2], results[1::2]):
        assert whole.valid.raw == spilled.valid.raw
        for name, column in whole.train.columns.items():
            other = spilled.train.columns[name]
            pairs = zip(column, other, strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("text", ["52,58 53,10", "1 2,5 3", "-1,5 -2,5"])
def test_commas_that_may_stand_before_decimals_are_refused(text):
    with pytest.raises(InputError, match="a comma may stand before decimals or between numbers"):
        numbers_in(text)


def test_commas_between_numbers_are_read():
    assert numbers_in("1,2,3") == numbers_in("1, 2, 3") == numbers_in("1 2 3") == [[1, 2, 3]]
