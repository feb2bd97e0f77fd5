"""Translation memories: languages, inline marks, and XML that is damaged or dangerous."""

import gzip
import tracemalloc
import zipfile

import pytest

from thalweg import names
from thalweg.data.columns.choice import choose_columns
from thalweg.data.columns.guess import guess_task
from thalweg.data.files.formats.tmx import looks_like_tmx, units_of
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'


def unit(*, lang="xml:lang", **texts):
    parts = "".join(f'<tuv {lang}="{code.replace("_", "-")}"><seg>{text}</seg></tuv>' for code, text in texts.items())
    return f"<tu>{parts}</tu>\n"


def memory(*units, srclang="en"):
    header = f'<header srclang="{srclang}" segtype="sentence"/>'
    return f'{HEADER}<tmx version="1.4">\n{header}\n<body>\n{"".join(units)}</body></tmx>\n'


def write(folder, content, name="memory.tmx"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(path, **options):
    return [row.values for row in open_source(path, **options).rows()]


def test_each_unit_is_a_row_with_its_line_and_a_column_for_each_language(tmp_path):
    path = write(tmp_path, memory(unit(en="a dog", de="ein Hund"), unit(en="a &lt;cat&gt;", de="eine Katze")))
    source = open_source(path)
    assert source.kind == "tmx"
    assert source.columns == ("en", "de")
    assert [row.values for row in source.rows()] == [("a dog", "ein Hund"), ("a <cat>", "eine Katze")]
    assert [row.line for row in source.rows()] == [6, 7]
    assert source.notes == ["Each translation unit is a row; its languages are 'en' (2), 'de' (2), the source first."]


def test_the_task_is_translate_even_where_texts_are_short_and_repeat(tmp_path):
    source = open_source(write(tmp_path, memory(*[unit(de="Datei", en="File")] * 30)))
    task, sentence = guess_task(source, names.all_task_columns())
    assert task.task == "translate"
    assert sentence.startswith("Task translate: the file is a translation memory")
    assert choose_columns(source, task).columns == {"source": "en", "target": "de"}


def test_the_header_says_which_language_is_the_source_and_the_most_frequent_other_is_the_target(tmp_path):
    units = [unit(fr="un", en="one"), unit(fr="deux", en="two", de="zwei"), unit(en="three", de="drei")]
    source = open_source(write(tmp_path, memory(*units, unit(en="four", de="vier"), srclang="de-DE")))
    assert source.columns == ("de", "en", "fr")
    assert [row.values[2] for row in source.rows()] == ["un", "deux", None, None]
    assert "Source and target are 'de' and the most frequent of the others, 'en'." in source.notes
    task = names.task_columns("translate")
    assert choose_columns(source, task).columns == {"source": "de", "target": "en"}
    assert choose_columns(source, task, {"label": "fr"}).columns == {"source": "de", "target": "fr"}
    assert choose_columns(source, task, {"text": "en"}).columns == {"source": "en", "target": "de"}


# the codes of two units, and the columns
CODES = {
    "a region for each": ((("en-US", "de-DE"), ("EN_us", "de-de")), ("en", "de")),
    "with and without a region": ((("en-US", "de"), ("en", "de-DE")), ("en", "de")),
    "two regions": ((("en-US", "pt_br"), ("en-US", "pt-PT")), ("en", "pt-BR", "pt-PT")),
    "scripts": ((("en", "zh-hant"), ("en", "zh-Hans")), ("en", "zh-Hant", "zh-Hans")),
}


@pytest.mark.parametrize("name", CODES)
def test_codes_are_compared_without_case_and_regions_are_kept_where_there_are_several(name, tmp_path):
    pairs, columns = CODES[name]
    units = [unit(**{first: "a", second: "b"}) for first, second in pairs]
    source = open_source(write(tmp_path, memory(*units, srclang="*all*")))
    assert source.columns == columns
    assert all(row.values[0] == "a" for row in source.rows())


def test_the_attribute_of_old_memories_names_the_language_too(tmp_path):
    assert rows_of(write(tmp_path, memory(unit(lang="lang", EN="a", FR="b")))) == [("a", "b")]


# what is inside of a segment, and the text
SEGMENTS = {
    "codes": ('Press <bpt i="1">&lt;b&gt;</bpt>OK<ept i="1">&lt;/b&gt;</ept>.', "Press OK."),
    "placeholder": ('<ph x="1">{0}</ph> files <it pos="begin">x</it><ut>y</ut>left', "files left"),
    "sub-flow inside of a code": ("a<ph>{<sub>note</sub>}</ph> b", "a b"),
    "highlighted": ('a <hi type="x">big <hi>old</hi></hi> dog', "a big old dog"),
    "a line break as a code": ('one<ph type="lb"/>two', "one two"),
    "CDATA": ("<![CDATA[a < b]]>", "a < b"),
    "indentation": ("\n      a long\n      text\n    ", "a long text"),
    "characters by number": ("caf&#233; &#x4E2D;", "caf\u00e9 \u4e2d"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_marks_inside_of_segments_are_left_out_by_the_standard(name, tmp_path):
    content, text = SEGMENTS[name]
    source = open_source(write(tmp_path, memory(unit(en=content, de="x"))))
    assert [row.values for row in source.rows()] == [(text, "x")]
    told = any(note.startswith("Marks of formatting") for note in source.notes)
    assert told == any(f"<{tag}" in content for tag in ("bpt", "ph", "it", "ut"))


def test_notes_and_properties_are_no_text(tmp_path):
    content = '<tu tuid="1"><note>n</note><prop type="x">p</prop><tuv xml:lang="en"><prop>q</prop><seg>a</seg></tuv>'
    assert rows_of(write(tmp_path, memory(f'{content}<tuv xml:lang="de"><seg>b</seg></tuv></tu>'))) == [("a", "b")]


def test_units_without_texts_and_undefined_entities_are_bad_rows_and_repeats_are_told(tmp_path):
    good = unit(en="a", de="b")
    twice = good.replace("</tu>", '<tuv xml:lang="de"><seg>c</seg></tuv></tu>')
    path = write(tmp_path, memory(good, "<tu/>\n", unit(en="x&nbsp;y", de="z"), twice))
    source = open_source(path, skip_bad_rows=True)
    assert [row.values for row in source.rows()] == [("a", "b"), ("a", "b")]
    assert source.bad_rows == [(7, "the unit has no text"), (8, "the entity &nbsp; is not defined in XML")]
    assert "of several texts of one unit in one language the first is read (1 row, line 9)" in source.remarks[0]
    with pytest.raises(InputError, match=r"2 of 4 rows can't be read .*--skip-bad-rows"):
        rows_of(path)


def test_memories_are_read_from_archives_and_compressed_files_in_any_encoding_that_tells_itself(tmp_path):
    text = memory(unit(en="a", de="\u00fc"))
    expected = [("a", "\u00fc")]
    assert rows_of(write(tmp_path, gzip.compress(text.encode()), "a.tmx.gz")) == expected
    assert rows_of(write(tmp_path, text.replace("UTF-8", "UTF-16").encode("utf-16"), "b.tmx")) == expected
    assert rows_of(write(tmp_path, text.replace("\n", "\r\n"), "c.dat")) == expected
    assert rows_of(write(tmp_path, text, "d.xml"), kind="tmx") == expected
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("inner/memory.tmx", text)
    assert rows_of(tmp_path / "e.zip") == expected


LAUGHS = HEADER.replace('SYSTEM "tmx14.dtd"', '[<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]')
REFUSED = {
    "a tag that is not closed": (memory("<tu>\n"), r"line 7: the XML is damaged \(mismatched tag, at column"),
    "cut off": (memory(unit(en="a", de="b"))[:-20], r"line 6: the XML is damaged \(no element found"),
    "a lone ampersand": (memory(unit(en="a & b", de="c")), r"line 6: the XML is damaged \(not well-formed"),
    "entities": (LAUGHS + memory(unit(en="&b;", de="c"))[len(HEADER) :], r"line 2: .* declares an entity \(a\)"),
    "external entities": (
        '<!DOCTYPE tmx [<!ENTITY x SYSTEM "file:///etc/passwd">]><tmx><tu/></tmx>',
        r"line 1: .* declares an entity \(x\)",
    ),
    "other XML": ("<?xml version='1.0'?><xliff><file/></xliff>", r"line 1: expected a translation memory .* <xliff>"),
    "one language": (memory(unit(en="a")), r"texts in two languages, got only 'en'"),
    "one language in two spellings": (memory(unit(**{"en": "a", "en-US": "b"})), r"got en and en-us, which are one"),
    "no units": (memory(), r"texts in two languages, got no texts"),
    "deep": ("<tmx>" + "<a>" * 200, r"line 1: more than 100 elements inside of each other"),
    "empty": ("", r"line 1: the XML is damaged \(no element found"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_refused_with_its_line(name, tmp_path):
    content, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        rows_of(write(tmp_path, content))


def test_a_long_memory_in_one_line_is_read_in_little_memory(tmp_path):
    path = write(tmp_path, memory(*[unit(en="a dog " * 20, de="ein Hund " * 20)] * 40_000).replace("\n", " "))
    assert path.stat().st_size > 12_000_000
    tracemalloc.start()
    assert sum(len(chunk) for chunk in open_source(path).chunks()) == 40_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


def test_a_tag_without_end_is_not_held(tmp_path):
    with pytest.raises(InputError, match=r"line 1: a tag or a comment is longer than any"):
        rows_of(write(tmp_path, '<tmx><tu x="' + "a" * 30_000_000))


def test_a_unit_that_is_too_long_is_a_bad_row(tmp_path):
    path = write(tmp_path, memory(unit(en="a" * 2000, de="b"), unit(en="a", de="b")))
    source = open_source(path, skip_bad_rows=True, max_line_length=1000)
    assert [row.values for row in source.rows()] == [("a", "b")]
    assert source.bad_rows == [(6, "the texts are longer than 1,000 characters")]


def test_memories_are_known_by_their_beginning():
    assert looks_like_tmx(memory())
    assert looks_like_tmx("\n<!-- made by -->\n<tmx>")
    assert not looks_like_tmx("a text about <tmx> files")
    assert not looks_like_tmx("<?xml?><tmxx>")
    assert [one.line for one in units_of("x", iter(["<tmx>\n<tu/>", "\n<tu/></tmx>"]), 100)] == [2, 3]
