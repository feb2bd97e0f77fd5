"""Questions put to a network: what values are, and which text is in a cell."""

import pytest

from thalweg.errors import InputError
from thalweg.tasks.questions import AnswerOptions, Question, flat, joined, kind_of, text_problem, texts_in

CELLS = {
    "texts": (["a", ""], ["a", ""], ""),
    "numbers are texts as in training": ([5, 2.5], ["5", "2.5"], ""),
    "words": ([["a", "b"]], ["a b"], ""),
    "null": (["a", None], ["a", ""], "expected a text, got null"),
    "not a number": ([float("nan")], ["nan"], "expected a text, got null"),
    "object": ([{"a": 1}], ["{'a': 1}"], "expected a text, got an object"),
}


@pytest.mark.parametrize("case", CELLS)
def test_texts_of_cells(case):
    cells, texts, problem = CELLS[case]
    assert texts_in(cells) == (texts, problem)


def test_what_a_value_is_is_said_in_words():
    values = [None, True, 1, 1.5, "a", [1], (1,), {}, float("nan"), b"a"]
    assert [kind_of(value) for value in values] == [
        "null", "true or false", "a number", "a number", "a text", "a list", "a list", "an object", "null", "bytes",
    ]  # fmt: skip
    assert text_problem("a") == ""
    assert text_problem(3, "a prompt") == "expected a prompt, got a number"
    assert (Question("a").where, Question("a", 3).where) == ("", "line 3: ")


def test_labels_are_joined_by_a_character_that_none_has():
    assert joined([], ["a"]) == ""
    assert joined(["a", "b"], ["a", "b"]) == "a;b"
    assert joined(["a", "b"], ["a", "b", ";", "|"]) == "a,b"
    assert joined(["a"], ["a", ";|,"]) == ["a"]
    assert flat([{"x": 1}, {"x": 2}], ["x"]) == {"x_1": 1, "x_2": 2}


ODD = {
    "top": [0, 1001, 10**20, 10**5000, 1.5, True, float("nan"), "3", None],
    "length": [-1, 10**12, 2**63, 1e3, None],
    "beam": [0, 100_000, 10**5000, 4.0],
    "seed": [-1, 2**63, 0.5],
    "temperature": [-1.0, 1e-320, 1e-30, 1e308, float("inf"), float("nan"), "hot", 10**5000],
    "length_penalty": [-0.1, 10.1, float("nan"), "x", 10**5000],
    "min_length": [-1, 10**6, 0.5],
    "samples": [0, 1001, None],
    "top_k": [0, -1, 10**8, 2.0],
    "no_repeat": [-1, 1001, 1.5],
    "repetition_penalty": [0.0, -1.0, 101, float("nan"), "x"],
    "stop": ["", ["a", ""], 3, [None]],
    "prefix": [None, 7, ["a"]],
    "top_p": [0.0, 1.1, -1.0, float("nan"), float("inf"), "x", 10**5000],
}


@pytest.mark.parametrize("name", ODD)
def test_absurd_wishes_are_refused_before_anything_is_computed(name):
    for value in ODD[name]:
        with pytest.raises(InputError, match=rf"^--{name.replace('_', '-')} must be .*; got .{{1,80}}\.$"):
            AnswerOptions(**{name: value})


def test_the_largest_wishes_are_taken():
    assert AnswerOptions(top=1000, length=100_000, beam=1000, seed=2**63 - 1).beam == 1000
    assert AnswerOptions(samples=1000, top_k=10**7, no_repeat=1000, temperature=1e-6, top_p=1e-9).samples == 1000
    assert AnswerOptions(temperature=0.0).temperature == 0.0


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"temperature": 0.0, "samples": 2}, "--samples is for drawn texts, and --temperature 0 draws none"),
        ({"temperature": 0.0, "top_k": 5}, "--top-k is for drawn texts"),
        ({"temperature": 0.0, "top_p": 0.5}, "--top-p is for drawn texts"),
        ({"beam": 4, "samples": 3}, "--beam 4 searches for the best texts, and --samples draws some; leave one"),
        ({"beam": 2, "temperature": 0.5}, "--beam 2 searches for the best texts, and --temperature draws some"),
    ],
)
def test_wishes_that_contradict_each_other_are_refused(wishes, message):
    with pytest.raises(InputError, match=message):
        AnswerOptions(**wishes)


def test_one_text_to_stop_at_is_a_list_of_one():
    assert AnswerOptions(stop="\n").stop == ("\n",)
    assert AnswerOptions(stop=["a", "b"]).stop == ("a", "b")
    assert hash(AnswerOptions(stop=["a"])) == hash(AnswerOptions(stop="a"))


def test_texts_are_drawn_where_that_was_asked_for():
    assert not AnswerOptions().is_drawn
    assert not AnswerOptions(temperature=0.0, beam=3).is_drawn
    assert all(
        AnswerOptions(**one).is_drawn for one in ({"samples": 2}, {"top_k": 9}, {"top_p": 0.9}, {"temperature": 1.0})
    )
