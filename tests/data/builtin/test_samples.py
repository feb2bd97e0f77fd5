"""The built-in data: sizes, known values, the same at each call."""

import ast
import re
from collections import Counter

import pytest

from thalweg import names
from thalweg.data.builtin import code as samples_code
from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.builtin.code import docstrings, manual, tagged_lines, tokens
from thalweg.data.builtin.generated import english_number, german_number, numbers, phrases
from thalweg.data.builtin.series import sunspots
from thalweg.errors import InputError


def test_there_is_one_set_for_each_task():
    assert {names.task_spec(task).sample for task in names.TASKS} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_set_is_read_like_a_file(name):
    sample = SAMPLES[name]
    rows = list(sample.rows())
    assert [row.line for row in rows] == list(range(1, len(rows) + 1))
    assert all(len(row.values) == len(sample.columns) for row in rows)
    assert sum(map(len, sample.chunks(1000))) == len(rows)
    assert sample.head(3) == rows[:3]
    assert (sample.name, sample.kind, sample.bad_rows, sample.num_bad_rows) == (name, "sample", [], 0)
    assert sample.description.endswith(".")


@pytest.mark.parametrize("make", [docstrings, manual, numbers, tokens, sunspots, phrases])
def test_a_set_is_the_same_each_time(make):
    assert make() == [row.values for row in SAMPLES[make.__name__].rows()]


def test_docstrings_have_about_fifteen_labels_of_a_hundred_texts_or_more():
    rows = [row.values for row in SAMPLES["docstrings"].rows()]
    counts = Counter(label for _, label in rows)
    assert 3000 < len(rows) < 8000
    assert 10 <= len(counts) <= 25
    assert min(counts.values()) >= 100
    assert {"asyncio", "email", "logging", "tkinter"} <= counts.keys()
    assert len({text for text, _ in rows}) == len(rows)
    assert len({label for _, label in rows[:50]}) > 5, "labels are mixed"


def test_docstrings_are_those_of_the_modules():
    import logging

    assert logging.getLogger.__doc__ is not None
    rows = [row.values for row in SAMPLES["docstrings"].rows()]
    expected = re.sub(r"\s+", " ", logging.getLogger.__doc__).strip()
    assert (expected, "logging") in {(re.sub(r"\s+", " ", text), label) for text, label in rows}


NESTED = '''"""The module is here."""
if True:
    class A:
        """The class is here."""
        async def f(self):
            """The method is here."""
    try:
        pass
    except ValueError:
        def g():
            """The function is here."""
            return 1
'''


def test_nested_definitions_are_found():
    source = NESTED
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    expected = {ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)}
    assert set(samples_code._docstrings_of(source.encode())) == expected
    assert len(expected) == 4


def test_a_library_without_sources_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(samples_code.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match="the source files of Python's standard library are missing"):
        docstrings()
    with pytest.raises(InputError, match="the source files of Python's standard library are missing"):
        tokens()


def test_the_manual_is_long_english_text():
    lines = [line for (line,) in manual()]
    text = "\n".join(lines)
    assert len(text) > 300_000
    assert text.lower().count(" the ") > 2000
    assert "\n" not in "".join(lines)


# The German names follow Duden: one word up to 999,999.
NUMBERS = {
    0: ("zero", "null"),
    1: ("one", "eins"),
    6: ("six", "sechs"),
    7: ("seven", "sieben"),
    10: ("ten", "zehn"),
    11: ("eleven", "elf"),
    12: ("twelve", "zwölf"),
    13: ("thirteen", "dreizehn"),
    16: ("sixteen", "sechzehn"),
    17: ("seventeen", "siebzehn"),
    20: ("twenty", "zwanzig"),
    21: ("twenty-one", "einundzwanzig"),
    30: ("thirty", "dreißig"),
    32: ("thirty-two", "zweiunddreißig"),
    40: ("forty", "vierzig"),
    66: ("sixty-six", "sechsundsechzig"),
    77: ("seventy-seven", "siebenundsiebzig"),
    99: ("ninety-nine", "neunundneunzig"),
    100: ("one hundred", "einhundert"),
    101: ("one hundred one", "einhunderteins"),
    111: ("one hundred eleven", "einhundertelf"),
    121: ("one hundred twenty-one", "einhunderteinundzwanzig"),
    201: ("two hundred one", "zweihunderteins"),
    616: ("six hundred sixteen", "sechshundertsechzehn"),
    999: ("nine hundred ninety-nine", "neunhundertneunundneunzig"),
    1000: ("one thousand", "eintausend"),
    1001: ("one thousand one", "eintausendeins"),
    1100: ("one thousand one hundred", "eintausendeinhundert"),
    2024: ("two thousand twenty-four", "zweitausendvierundzwanzig"),
    10_000: ("ten thousand", "zehntausend"),
    21_000: ("twenty-one thousand", "einundzwanzigtausend"),
    100_000: ("one hundred thousand", "einhunderttausend"),
    101_000: ("one hundred one thousand", "einhunderteintausend"),
    101_101: ("one hundred one thousand one hundred one", "einhunderteintausendeinhunderteins"),
    999_999: (
        "nine hundred ninety-nine thousand nine hundred ninety-nine",
        "neunhundertneunundneunzigtausendneunhundertneunundneunzig",
    ),
}


def test_number_names_are_right():
    assert {n: (english_number(n), german_number(n)) for n in NUMBERS} == NUMBERS


@pytest.mark.parametrize("name", [english_number, german_number])
def test_every_number_has_a_name_of_its_own(name):
    assert len({name(n) for n in range(20_000)}) == 20_000
    assert len({name(n) for n in range(0, 1_000_000, 37)}) == len(range(0, 1_000_000, 37))
    for n in (-1, 1_000_000):
        with pytest.raises(ValueError, match=rf"must lie in \[0, 999999\]; got {n}"):
            name(n)


def test_a_german_name_can_be_read_back():
    """An independent reading of the German word gives the number again."""
    names = (
        "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
        "siebzehn achtzehn neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"
    )
    small = names.split()
    tens = dict(zip(small[20:], range(20, 100, 10), strict=True))

    def read(word):
        if "tausend" in word:
            left, right = word.split("tausend")
            return 1000 * read(left) + read(right)
        if "hundert" in word:
            left, right = word.split("hundert")
            return 100 * read(left) + read(right)
        if word in tens:
            return tens[word]
        if "und" in word:
            left, right = word.split("und")
            return small.index(left) + tens[right]
        return small.index(word.removesuffix("s") if word == "eins" else word) if word else 0

    assert all(read(german_number(n)) == n for n in [*range(1, 3000), *range(3000, 1_000_000, 997)])


def test_all_small_numbers_are_in():
    pairs = numbers()
    assert len(pairs) == 6001
    assert len({english for english, _ in pairs}) == len(pairs)
    assert {english_number(n) for n in range(1001)} <= {english for english, _ in pairs}
    assert [english for english, _ in pairs[:4]] != [english_number(n) for n in range(4)], "in mixed order"


def test_sunspots_are_the_published_figures():
    rows = sunspots()
    years, figures = zip(*rows, strict=True)
    assert years == tuple(range(1700, 2009))
    assert figures[:5] == (5.0, 11.0, 16.0, 23.0, 36.0)
    assert figures[-3:] == (15.2, 7.5, 2.9)
    assert max(rows, key=lambda row: row[1]) == (1957, 190.2)
    assert [year for year, figure in rows if figure == 0] == [1711, 1712, 1810]
    assert sum(figures) == pytest.approx(15373.4)


def test_phrases_are_as_alike_as_the_grammar_says():
    rows = phrases()
    likeness = {(first, second): score for first, second, score in rows}
    assert len(likeness) == len(rows) == 6000
    assert all(0 <= score <= 1 for score in likeness.values())
    for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.01)):
        assert sum(low <= score < high for score in likeness.values()) > 500
    same = [pair for pair, score in likeness.items() if score == 1]
    assert any(first != second for first, second in same), "other words may mean the same"
    assert phrases(10) == rows[:10]


def test_the_likeness_of_a_pair_can_be_counted_by_hand():
    groups = {"woman": 1, "lady": 1, "dog": 2, "hound": 2, "cat": 3, "kitty": 3}
    subjects = {(first, second): score for first, second, score in phrases(6000)}
    for (first, second), score in subjects.items():
        one, other = (next((w for w in groups if f"the {w} " in text), None) for text in (first, second))
        if one and other and groups[one] == groups[other]:
            assert score >= 0.35
        elif one and other and {groups[one], groups[other]} == {2, 3}:
            assert 0.4 * 0.35 <= score + 1e-9 <= 0.65 + 0.4 * 0.35 + 2e-3


def test_lines_of_code_are_tagged():
    source = '''import os.path
@cache
def area(width, *, height=2) -> int:
    """The area."""
    return self.scale(width * height, unit="m")  # in meters
class Shape(Base):
    pass
'''
    lines = [dict(zip(words, tags, strict=True)) for words, tags in tagged_lines(source)]
    assert lines[0] == {"import": "B-keyword", "os": "B-import", ".": "I-import", "path": "I-import"}
    assert lines[1] == {"@": "O", "cache": "B-decorator"}
    assert lines[2]["area"] == "B-function"
    assert (lines[2]["width"], lines[2]["height"], lines[2]["int"]) == ("B-parameter", "B-parameter", "B-name")
    assert list(lines[3].values()) == ["B-string", "I-string", "I-string", "I-string"]
    assert (lines[4]["scale"], lines[4]["unit"], lines[4]["self"]) == ("B-call", "B-argument", "B-name")
    assert (lines[4]["#"], lines[4]["meters"]) == ("B-comment", "I-comment")
    assert (lines[5]["Shape"], lines[5]["Base"]) == ("B-class", "B-name")


def test_an_f_string_is_one_string_on_every_python():
    words, tags = next(tagged_lines('x = f"a {b + 1} c"\n'))
    assert words == ["x", "=", "f", '"', "a", "{", "b", "+", "1", "}", "c", '"']
    assert tags == ["B-name", "O", "B-string", *["I-string"] * 9]


def test_tags_are_spans():
    rows = [row.values for row in SAMPLES["tokens"].rows()]
    assert len(rows) > 5000
    for words, tags in rows:
        assert len(words) == len(tags)
        assert 3 <= len(words) <= 60
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
    counts = Counter(tag for _, tags in rows for tag in tags)
    assert {"B-keyword", "B-number", "B-string", "B-comment", "B-function", "B-class", "B-parameter"} <= counts.keys()
    assert {"B-call", "B-attribute", "B-argument", "B-import", "B-decorator", "B-name", "O"} <= counts.keys()
