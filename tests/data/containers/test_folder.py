"""Folders: one file, train/valid/test, shards, folders of texts, data sets saved by `datasets`, and what is neither."""

import json

import pytest

from thalweg.data.containers.folder import splits_of
from thalweg.data.containers.opening import open_any
from thalweg.data.containers.places import checksums_of
from thalweg.errors import InputError

TABLE = "text,label\nfine,1\nbad,0\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TABLE if path.suffix == ".csv" else f"text of {name}\nsecond line\n")


# files -> the places of training, validation and test
SPLITS = {
    "usual": (["d/train.csv", "d/valid.csv", "d/test.csv", "d/README.md"], "d/train.csv d/valid.csv d/test.csv"),
    "other names": (["d/training.csv", "d/dev.csv"], "d/training.csv d/dev.csv -"),
    "train alone": (["d/train.csv"], "d/train.csv - -"),
    "shards": (["d/train-0-of-2.csv", "d/train-1-of-2.csv", "d/test-0-of-1.csv"], "d/train-*.csv - d/test-0-of-1.csv"),
    "shards in data": (["d/data/train-0.csv", "d/data/train-1.csv"], "d/data/train-*.csv - -"),
    "shards of two kinds": (["d/train-0.csv", "d/train-1.csv", "d/train-x.txt"],
                            "d/train-0.csv + d/train-1.csv + d/train-x.txt - -"),
    "two languages": (["d/train.de", "d/train.en", "d/val.de", "d/val.en", "d/LICENSE"],
                      "d/train.de | d/train.en d/val.de | d/val.en -"),
    "names before": (["d/de_gsd-ud-train.conllu", "d/de_gsd-ud-train.txt", "d/de_gsd-ud-dev.conllu",
                      "d/news-bydate.csv"],
                     "d/de_gsd-ud-train.conllu d/de_gsd-ud-dev.conllu -"),
    "texts beside a list": (["d/train/pos/1.txt", "d/train/neg/1.txt", "d/words.txt"], "d/train - -"),
    "texts": (["d/train/pos/1.txt", "d/train/neg/1.txt", "d/test/pos/1.txt", "d/vocab"], "d/train - d/test"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLITS)
def test_files_called_train_valid_and_test_are_told_apart(folder, case):
    names, expected = SPLITS[case]
    write(folder, *names)
    found = splits_of("d")
    assert " ".join([found.train, found.valid or "-", found.test or "-"]) == expected
    assert any("thalweg evaluate RUN" in note for note in found.notes) == (found.test is not None)
    with pytest.raises(InputError, match=r"expected one set of data, got a folder with several; name one of them: d/"):
        open_any("d")


def test_a_folder_of_one_file_is_that_file(folder):
    write(folder, "d/x.csv", "d/README.md", "d/.hidden")
    assert splits_of("d") is None
    source = open_any("d")
    assert (source.columns, source.notes[0]) == (("text", "label"), "The folder holds one file of data, x.csv.")


def test_a_folder_of_texts_for_each_label(folder):
    write(folder, *(f"d/{label}/{i}.txt" for label in ("pos", "neg") for i in (2, 10)), "d/unsup/1.txt", "d/x.feat")
    source = open_any("d")
    assert (source.kind, source.columns) == ("folder", ("text", "label"))
    assert [(row.line, *row.values) for row in source.rows()] == [
        (1, "text of d/neg/2.txt\nsecond line", "neg"),
        (2, "text of d/pos/2.txt\nsecond line", "pos"),
        (3, "text of d/neg/10.txt\nsecond line", "neg"),
        (4, "text of d/pos/10.txt\nsecond line", "pos"),
    ]
    assert "The folder unsup has no label by its name and is left out." in source.notes
    before = checksums_of("d")
    (folder / "d/pos/2.txt").write_bytes(b"\xff")
    assert checksums_of("d") != before
    with pytest.raises(InputError, match=r"line 2: pos/2.txt: expected UTF-8 text, got the byte 0xff"):
        list(open_any("d").rows())
    assert len(list(open_any("d", skip_bad_rows=True).rows())) == 3


REFUSED = {
    "several": (["d/a.csv", "d/b.csv"], r"got a.csv, b.csv; name one of them, or all with 'd/\*.csv'"),
    "folders": (["d/a/x.csv", "d/b/x.csv"], "got a/, b/; name a file inside it"),
    "one class": (["d/pos/x.txt"], "got pos/"),
    "nothing": (["d/.hidden"], "got an empty one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_of_anything_else_is_refused_with_what_is_there(folder, case):
    names, message = REFUSED[case]
    write(folder, *names)
    with pytest.raises(InputError, match=message):
        open_any("d")


@pytest.fixture
def saved(folder):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    label = datasets.ClassLabel(names=["neg", "pos"])
    rows = {"text": ["a", "b", "c"], "label": [0, 1, -1]}
    data = datasets.Dataset.from_dict(
        rows, features=datasets.Features({"text": datasets.Value("string"), "label": label})
    )
    data.save_to_disk("one", num_shards=2)
    datasets.DatasetDict({"train": data, "validation": data, "test": data.select([1])}).save_to_disk("several")
    return folder


def test_data_sets_that_were_saved_are_read_with_the_names_of_their_classes(saved):
    assert [row.values for row in open_any("one").rows()] == [("a", "neg"), ("b", "pos"), ("c", None)]
    assert [row.values for row in open_any("several#test").rows()] == [("b", "pos")]
    found = splits_of("several")
    assert (found.train, found.valid, found.test) == ("several#train", "several#validation", "several#test")
    with pytest.raises(InputError, match="no part 'x' in this data set; name one of them: several#train"):
        open_any("several#x")
    with pytest.raises(InputError, match="expected one set of data, got a folder with several"):
        open_any("several")
    assert checksums_of("several#train") != checksums_of("several#test")


BROKEN = {
    "state": ("state.json", "{", "the file is damaged"),
    "a path": (
        "state.json",
        json.dumps({"_data_files": [{"filename": "../x.arrow"}]}),
        "expected the names of the Arrow",
    ),
    "no file": (
        "state.json",
        json.dumps({"_data_files": [{"filename": "x.arrow"}]}),
        "incomplete, there is no x.arrow",
    ),
    "features": ("dataset_info.json", "[]", "the file is damaged"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_data_set_is_told(saved, case):
    name, content, message = BROKEN[case]
    (saved / "one" / name).write_text(content)
    with pytest.raises(InputError, match=message):
        open_any("one")


def test_shards_whose_names_differ_in_numbers_are_one_set(folder):
    write(folder, "d/part-2.csv", "d/part-10.csv", "d/part-1.csv", "d/README.md")
    (folder / "d" / ".part-1.csv.thalweg-index").write_text("kept")
    source = open_any("d")
    assert source.name == "d/part-1.csv + d/part-2.csv + d/part-10.csv"
    assert len(list(source.rows())) == 6
    write(folder, "d/other.csv")
    with pytest.raises(InputError, match="expected a folder with one set of data"):
        open_any("d")
