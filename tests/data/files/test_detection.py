"""Which kind of file it is: the ending, the content where it clearly says something else, and what is in doubt."""

import pytest

from thalweg.data.files.detection import kind_of, looks_like_json, suffix_of
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

CONLL = "Anna B-PER\nvisited O\nOslo B-LOC\n. O\n\n" * 20
TABLE = "text\tlabel\n" + "".join(f"some words {i}\t{i % 2}\n" for i in range(20))
COMMAS = "text,label\n" + "".join(f"some words {i},{i % 2}\n" for i in range(20))
PROSE = "It was late, and the river was low.\nNobody came.\n\nThen, one day, a boat.\n" * 10

# name of the file, its content, kind, whether a sentence is said about it
FILES = {
    "conll in txt": ("train.txt", CONLL, "conll", True),
    "conll in tsv": ("train.tsv", CONLL.replace(" ", "\t"), "conll", True),
    "conll without an ending": ("train", CONLL, "conll", True),
    "conll in conll": ("train.conll", CONLL, "conll", False),
    "tabs in txt": ("a.txt", TABLE, "tsv", True),
    "commas in txt": ("a.txt", COMMAS, "csv", True),
    "semicolons in txt": ("a.txt", COMMAS.replace(",", ";"), "csv", True),
    "commas in tsv": ("a.tsv", COMMAS, "csv", True),
    "objects in txt": ("a.txt", '{"a": 1}\n{"a": 2}\n', "jsonl", True),
    "objects in csv": ("a.csv", '{"a": 1}\n{"a": 2}\n', "jsonl", True),
    "objects in json": ("a.json", '{"a": 1}\n{"a": 2}\n', "jsonl", False),
    "rows with an empty line between them": ("a.txt", TABLE.replace("\n", "\n\n"), "tsv", True),
    "figures below comments": ("a.txt", "# HELP all\n# TYPE all\n" + 'all{a="b"} 5 17\n' * 20, "text", False),
    "prose": ("a.txt", PROSE, "text", False),
    "two lines of prose": ("a.txt", "one, two\nthree, four\n", "text", False),
    "lists in markdown": ("a.md", TABLE, "text", False),
    "poem": ("a.txt", "O Rose,\nthou art sick,\nthe worm,\nthat flies,\n" * 2, "text", False),
    "indented": ("a.txt", "def f():\n\treturn 1\n\ndef g():\n\treturn 2\n" * 5, "text", False),
}


@pytest.mark.parametrize("case", FILES)
def test_the_kind_is_that_of_the_content_where_it_is_clear(tmp_path, case):
    name, content, kind, is_said = FILES[case]
    found, notes = kind_of(tmp_path / name, content)
    assert found == kind
    assert [kind in note and "--kind" in note for note in notes] == [True] * is_said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_an_encoded_table_in_txt_is_a_table(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(TABLE.replace("words", "Wörter").encode(encoding))
    source = open_source(path)
    assert (source.kind, source.columns) == ("tsv", ("text", "label"))
    assert source.head(1)[0].values == ("some Wörter 0", "0")


def test_a_doubtful_file_is_refused_and_the_option_is_named(tmp_path):
    content = "".join(f"word {i}, another one\n" for i in range(30))
    with pytest.raises(InputError, match=r"a\.txt: nearly all lines have 2 parts .*--kind csv or --kind text decides"):
        kind_of(tmp_path / "a.txt", content)
    path = tmp_path / "a.txt"
    path.write_text(content)
    assert open_source(path, kind="text").columns == ("text",)
    assert open_source(path, kind="csv").kind == "csv"


def test_endings_of_compression_are_looked_through(tmp_path):
    assert suffix_of(tmp_path / "a.b.CSV.gz") == ".csv"
    assert suffix_of(tmp_path / "a") == ""
    assert looks_like_json(['{"a": 1}'])
    assert not looks_like_json(["[1]"])


@pytest.mark.parametrize("content", [b"\t", b"\n\t\n", b"   \t"])
def test_a_table_of_nothing_but_tabs_is_refused(content, tmp_path):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tsv"):
        list(open_source(tmp_path / "a.tsv").rows())
