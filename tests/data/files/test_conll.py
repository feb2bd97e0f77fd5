"""CoNLL as it is found: numbered words, comments, documents, spaces inside of words, layers, what is not given."""

import pytest

from thalweg.data.files.conll import fields_of
from thalweg.data.files.sources import open_source

TAGGED = "Anna B-PER\nran O\n"

# its content, columns, the first row's values, what a note says
FILES = {
    "numbered words": (
        "1\tAnna\tB-PER\n2\tran\tO\n\n1\tOslo\tB-LOC\n\n",
        ("tokens", "tags"),
        (["Anna", "ran"], ["B-PER", "O"]),
        "The first column numbers the words",
    ),
    "numbered from zero": (
        "0 Anna B-PER\n1 ran O\n\n",
        ("tokens", "tags"),
        (["Anna", "ran"], ["B-PER", "O"]),
        "numbers",
    ),
    "two layers of tags and comments": (
        "#\thttp://example.org\n1\tAnna\tB-PER\tO\n2\tran\tO\tO\n\n",
        ("tokens", "tags", "tags2"),
        (["Anna", "ran"], ["B-PER", "O"], ["O", "O"]),
        "tokens, tags, tags2",
    ),
    "numbers that are words": (
        "1 B-NUM\n2 B-NUM\n\n3 B-NUM\n7 O\n\n",
        ("tokens", "tags"),
        (["1", "2"], ["B-NUM", "B-NUM"]),
        "tokens, tags",
    ),
    "no-break space in a word": (
        "1\u00a0200 B-NUM\neuros O\n\n",
        ("tokens", "tags"),
        (["1\u00a0200", "euros"], ["B-NUM", "O"]),
        "",
    ),
    "space in a word between tabs": (
        "New York\tB-LOC\nis\tO\n\n",
        ("tokens", "tags"),
        (["New York", "is"], ["B-LOC", "O"]),
        "",
    ),
    "document without an empty line": (
        "-DOCSTART- O\n" + TAGGED,
        ("tokens", "tags"),
        (["Anna", "ran"], ["B-PER", "O"]),
        "",
    ),
    "document alone on its line": (
        "-DOCSTART-\n\n" + TAGGED,
        ("tokens", "tags"),
        (["Anna", "ran"], ["B-PER", "O"]),
        "",
    ),
    "comment of two words": ("# sentence7\n" + TAGGED, ("tokens", "tags"), (["Anna", "ran"], ["B-PER", "O"]), ""),
    "hash that is a word": ("# O\n" + TAGGED, ("tokens", "tags"), (["#", "Anna", "ran"], ["O", "B-PER", "O"]), ""),
    "names in the first line": (
        "token\tner\nAnna\tB-PER\nran\tO\n\n",
        ("token", "ner"),
        (["Anna", "ran"], ["B-PER", "O"]),
        "token, ner",
    ),
    "tags before words": (
        "B-PER\tAnna\nO\tran\n\nO\tits\nO\tway\n\n",
        ("tags", "tokens"),
        (["B-PER", "O"], ["Anna", "ran"]),
        "tags, tokens",
    ),
    "words alone that look like tags": ("O O\nB-1 O\n\n", ("tokens", "tags"), (["O", "B-1"], ["O", "O"]), ""),
    "windows line ends": (TAGGED.replace("\n", "\r\n"), ("tokens", "tags"), (["Anna", "ran"], ["B-PER", "O"]), ""),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_gives_its_words_and_tags(tmp_path, case):
    content, columns, first, note = FILES[case]
    path = tmp_path / "a.conll"
    path.write_bytes(content.encode())
    source = open_source(path)
    assert source.columns == columns
    assert source.head(1)[0].values == first
    assert source.num_bad_rows == 0
    assert note in " ".join(source.notes)


def test_the_columns_of_conll_2009_and_2012_have_their_names(tmp_path):
    first = "1 Anna a a NN NN _ _ 2 2 SBJ SBJ _ _ A0\n"
    second = "2 ran r r VB VB _ _ 0 0 ROOT ROOT Y r.1 _\n\n"
    (tmp_path / "a.conll").write_text((first + second).replace(" ", "\t"))
    columns = open_source(tmp_path / "a.conll").columns
    assert (columns[0], columns[3], columns[9], columns[-1]) == ("tokens", "pos", "deprel", "argument1")
    (tmp_path / "b.conll").write_text(
        "bc/x 0 0 Anna NN (S* - - - me (PERSON) * (1)\nbc/x 0 1 ran VB *) - - - me * (V*) -\n\n"
    )
    source = open_source(tmp_path / "b.conll")
    values = dict(zip(source.columns, source.head(1)[0].values, strict=True))
    assert values["tokens"] == ["Anna", "ran"]
    assert (values["pos"], values["entities"], values["coreference"]) == (["NN", "VB"], ["(PERSON)", "*"], ["(1)", "-"])


def test_the_underscore_of_conllu_is_no_tag(tmp_path):
    path = tmp_path / "a.conllu"
    path.write_text("1\t_\t_\t_\t_\t_\t_\t_\t_\t_\n2\truns\trun\tVERB\t_\t_\t_\t_\t_\t_\n\n")
    values = dict(zip(open_source(path).columns, open_source(path).head(1)[0].values, strict=True))
    assert values["tokens"] == ["_", "runs"], "a form may be spelled so"
    assert values["upos"] == [None, "VERB"]


@pytest.mark.parametrize("content", ["#\tO\n", "# one\tNN\tO\n", "#a\n", "# \n#"])
def test_lines_that_all_begin_as_comments_do_have_as_many_columns_as_values(tmp_path, content):
    path = tmp_path / "a.conll"
    path.write_text(content)
    source = open_source(path)
    assert [len(row.values) for row in source.rows()] == [len(source.columns)]


def test_fields_are_separated_by_spaces_and_tabs_only():
    assert fields_of("a\u2003b \t c", None) == ["a\u2003b", "c"]
    assert fields_of(" \t", "\t") == []


TABLES = {
    "id in the first row": "Sentence #,Word,POS,Tag\nSent: 1,Anna,NNP,B-PER\n,ran,VBD,O\nSent: 2,Oslo,NNP,B-LOC\n",
    "id in all rows": "sentence_id,word,pos,tag\n1,Anna,NNP,B-PER\n1,ran,VBD,O\n2,Oslo,NNP,B-LOC\n",
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_of_words_gives_sentences(tmp_path, case):
    path = tmp_path / "a.csv"
    path.write_text(TABLES[case])
    source = open_source(path)
    for size in (1, 2, 4096):
        rows = [row for chunk in source.chunks(size) for row in zip(*chunk.values, strict=True)]
        assert [row[1:] for row in rows] == [
            (["Anna", "ran"], ["NNP", "VBD"], ["B-PER", "O"]),
            (["Oslo"], ["NNP"], ["B-LOC"]),
        ]
    assert [row.line for row in source.rows()] == [2, 4]
    assert "Each row is a word" in " ".join(source.notes)


def test_a_table_of_sentences_is_none_of_words(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sentence,word,label\nAnna ran,ran,1\nRio is far,far,0\n")
    assert open_source(path).head(1)[0].values == ("Anna ran", "ran", "1")
