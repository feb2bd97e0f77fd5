"""Several files as one source, archives, and how such data is named."""

import gzip
import io
import tarfile
import zipfile

import pytest

from thalweg.data.containers.opening import open_any
from thalweg.data.containers.places import checksums_of, joined, several_of, short_name, sides_of
from thalweg.data.files.base import Row
from thalweg.errors import InputError

A = "text,label\nfine,1\nbad,0\n"
B = "label,text\n1,good\n\n0,poor\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {"a.csv": A, "b.csv": B, "c.csv": "text,verdict\nfine,1\n"}.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def zipped(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return path


# names -> the place that stands for them
JOINED = {
    ("a.csv",): "a.csv",
    ("a.csv", "b.csv"): "a.csv + b.csv",
    ("a.csv", "b.csv", "c.csv"): "a.csv + b.csv + c.csv",
    ("train.en", "train.de"): "train.en | train.de",
    ("train.en.gz", "train.de.gz"): "train.en.gz | train.de.gz",
    ("corpus/en.txt", "corpus/de.txt"): "corpus/en.txt | corpus/de.txt",
    ("train.src", "train.tgt"): "train.src | train.tgt",
    ("old.txt", "new.txt"): "old.txt + new.txt",
    ("train.en.csv", "train.de.csv"): "train.en.csv + train.de.csv",
    ("train.en", "train.de", "train.fr"): "train.en + train.de + train.fr",
}


@pytest.mark.parametrize("names", JOINED)
def test_the_names_of_several_files_say_how_they_are_read(names):
    assert joined(names) == JOINED[names]


def test_any_two_texts_are_read_line_by_line_for_a_translation():
    assert joined(["old.txt", "new.txt"], pairs_lines=True) == "old.txt | new.txt"
    assert joined(["a.tsv", "b.tsv"], pairs_lines=True) == "a.tsv + b.tsv"
    with pytest.raises(InputError, match=r"a \+ b.csv: several files can't be read where a name holds ' \+ '"):
        joined(["a + b.csv", "c.csv"])


def test_sides_are_languages_or_sides():
    assert sides_of("x/train.en", "y/train.de") == ("en", "de")
    assert sides_of("train.csv", "test.csv") is None
    assert sides_of("a.old", "a.new") is None


# place -> what its run is called
SHORT = {
    "data/a.csv": "a.csv",
    "a.csv + data/b.csv": "a+b",
    "a.csv + b.csv + c.csv + d.csv": "a+3-more",
    "x/train.en | x/train.de": "train.en-de",
    "old.txt | new.txt": "old+new",
    "data/*.csv": "data",
    "data/train-*.csv": "train",
    "python:DataFrame": "DataFrame",
}


@pytest.mark.parametrize("place", SHORT)
def test_a_run_has_a_sensible_name(place):
    assert short_name(place) == SHORT[place]


@pytest.mark.parametrize("place", ["a.csv + b.csv", "[ab].csv", "{}/a.csv + b.csv"])
def test_files_with_the_same_columns_are_read_one_after_another(folder, place):
    source = open_any(place.format(folder))
    assert (source.kind, source.columns) == ("csv", ("text", "label"))
    rows = list(source.rows())
    assert [row.values for row in rows] == [("fine", "1"), ("bad", "0"), ("good", "1"), ("poor", "0")]
    places = [f"line {row.line}".replace(f"{folder}/", "") for row in rows]
    assert places == ["line 2 of a.csv", "line 3 of a.csv", "line 2 of b.csv", "line 4 of b.csv"]
    assert sorted({row.line for row in rows}) == [row.line for row in rows]
    assert "2 files are read one after another" in source.notes[0]
    assert list(source.rows()) == rows


def test_numbers_in_names_are_counted_and_a_pattern_may_fit_one_file(folder):
    for number in (10, 9):
        (folder / f"part{number}.csv").write_text(f"text\n{number}\n")
    assert [row.values for row in open_any("part*.csv").rows()] == [("9",), ("10",)]
    assert open_any("part1*.csv").name == "part10.csv"
    with pytest.raises(InputError, match=r"d\*.csv: there is no file whose name fits this pattern"):
        open_any("d*.csv")


def test_a_file_whose_own_name_looks_like_several_is_read(folder):
    (folder / "a + b.csv").write_text(A)
    (folder / "x[1].csv").write_text(A)
    assert several_of("a + b.csv") is None
    assert open_any("x[1].csv").name == "x[1].csv"


def test_other_columns_are_refused_by_name(folder):
    with pytest.raises(InputError, match=r"a.csv alone has 'label' and c.csv alone has 'verdict'"):
        open_any("a.csv + c.csv")
    with pytest.raises(InputError, match=r"^d.csv: there is no such file"):
        open_any("a.csv + d.csv")


def test_keys_that_some_json_files_lack_are_null(folder):
    (folder / "a.jsonl").write_text('{"text": "a"}\n')
    (folder / "b.jsonl").write_text('{"label": 1, "text": "b"}\n')
    assert [row.values for row in open_any("a.jsonl + b.jsonl").rows()] == [("a", None), ("b", 1)]


def test_bad_rows_are_counted_with_their_file(folder):
    (folder / "d.csv").write_text("text,label\n" + "fine,1\n" * 3 + "alone\n")
    source = open_any("a.csv + d.csv", skip_bad_rows=True)
    assert len(list(source.rows())) == 5
    assert [f"{row.line}: {row.reason}" for row in source.bad_rows] == ["5 of d.csv: expected 2 columns, got 1"]
    shown = [str(row.line) for row in source.all_rows() if not isinstance(row, Row)]
    assert (source.num_bad_rows, shown) == (1, ["5 of d.csv"])
    with pytest.raises(InputError, match=r"d.csv: 1 of 4 rows can't be read \(line 5: expected 2"):
        list(open_any("a.csv + d.csv").rows())


def test_two_texts_are_read_line_by_line(folder):
    count = 10_000
    (folder / "t.en").write_text("".join(f"line {i}\n" for i in range(count)))
    (folder / "t.de").write_text("\n".join(f"Zeile, {i}" for i in range(count)))
    source = open_any("t.en | t.de")
    assert (source.kind, source.columns) == ("parallel", ("en", "de"))
    for size in (7, 4096):
        rows = [row for chunk in source.chunks(size) for row in zip(*chunk.values, strict=True)]
        assert rows == [(f"line {i}", f"Zeile, {i}") for i in range(count)]
    (folder / "t.de").write_text("eins\nzwei\n")
    with pytest.raises(InputError, match=r"t.en has 10,000 lines and t.de has 2; line by line they must have as many"):
        list(open_any("t.en | t.de").rows())
    with pytest.raises(InputError, match=r"t.de has 2 lines and t.en has 10,000"):
        list(open_any("t.de | t.en").rows())


def test_checksums_are_those_of_every_file(folder):
    sums = checksums_of("a.csv + b.csv")
    assert sums == checksums_of("[ab].csv")
    assert list(sums) == ["a.csv", "b.csv"]
    zipped("d.zip", a__csv=A)
    assert checksums_of("d.zip#a.csv") == {"d.zip#a.csv": sums["a.csv"]}
    before = checksums_of(".")["."]
    (folder / "a.csv").write_text(A + "more,1\n")
    assert checksums_of(".")["."] != before
    assert checksums_of("no-such.csv") == {}


def test_the_one_file_of_a_zip_is_read(folder):
    zipped("d.zip", a__csv=A, README__md="about", **{"__MACOSX/._a": "x"})
    source = open_any("d.zip")
    assert source.notes == ["The archive holds one file of data, a.csv."]
    assert [row.values for row in source.rows()] == [("fine", "1"), ("bad", "0")]
    assert [row.line for row in source.rows()] == [2, 3]


def test_a_zip_of_several_files_is_refused_unless_they_are_two_languages(folder):
    zipped("d.zip", a__csv=A, b__csv=B)
    with pytest.raises(InputError, match=r"holds 2 files \(a.csv, b.csv\); name the one to be read, such as 'd.zip#a"):
        open_any("d.zip")
    assert open_any("d.zip#b.csv").columns == ("label", "text")
    zipped("two.zip", **{"a.de-en.de": "eins\nzwei\n", "a.de-en.en": "one\ntwo\n", "a.de-en.xml": "<x/>"})
    for place in ("two.zip", joined(["two.zip#a.de-en.de", "two.zip#a.de-en.en"])):
        assert (open_any(place).columns, open_any(place).head(1)[0].values) == (("de", "en"), ("eins", "one"))
    with pytest.raises(InputError, match=r"no file 'x.csv' in this archive; it holds a.csv, b.csv"):
        open_any("d.zip#x.csv")
    assert len(list(open_any("d.zip#a.csv + d.zip#b.csv").rows())) == 4


def test_compressed_files_inside_an_archive_are_read(folder):
    zipped("d.zip", **{"a.csv.gz": gzip.compress(A.encode())})
    assert len(list(open_any("d.zip").rows())) == 2


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz", "tar.xz"])
def test_tar_archives_are_read_in_place(folder, ending):
    with tarfile.open(f"d.{ending}", "w" if ending == "tar" else f"w:{ending[-2:]}") as archive:
        for name, content in (("../../a.csv", A), ("./README", "x")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    assert [row.values for row in open_any(f"d.{ending}").rows()] == [("fine", "1"), ("bad", "0")]
    assert not (folder.parent.parent / "a.csv").exists()


BROKEN = {
    "nothing": (lambda path: zipped(path), "got one that holds none"),
    "no archive": (lambda path: path.write_bytes(b"PK\x03\x04" + b"x" * 100), "the archive is damaged"),
    "a bomb": (
        lambda path: zipped(path, a__csv=b"x" * 110_000_000),
        "to 110,000,000 bytes or more, which no data does",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_archives_are_told_in_a_sentence(folder, case):
    make, message = BROKEN[case]
    make(folder / "d.zip")
    with pytest.raises(InputError, match=message):
        open_any("d.zip")


def test_a_damaged_file_in_an_archive_is_told(folder):
    zipped("d.zip", a__csv=A)
    content = bytearray((folder / "d.zip").read_bytes())
    content[38] ^= 0xFF
    (folder / "d.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"a.csv: the compressed file is damaged"):
        open_any("d.zip")


def test_zstd_is_read_with_pyarrow(folder):
    pa = pytest.importorskip("pyarrow")
    with pa.CompressedOutputStream("a.csv.zst", "zstd") as out:
        out.write(A.encode())
    assert open_any("a.csv.zst").kind == "csv"
    (folder / "a.csv.zst").write_bytes((folder / "a.csv.zst").read_bytes()[:-6])
    with pytest.raises(InputError, match=r"the compressed file is damaged|can't be read"):
        open_any("a.csv.zst")


def test_built_in_sets_and_sources_are_opened(folder):
    source = open_any("sunspots")
    assert open_any(source) is source
    with pytest.raises(InputError, match=r"there is no such file.*The built-in sets are"):
        open_any("sunspot")
