"""Steps of text normalization, each by examples and against definitions in unicodedata."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.text.normalize import DEFAULT_STEPS, STEPS, Normalizer
from thalweg.errors import InputError

CASES = [
    ("nfc", "cafe\u0301 \ufb01", "café \ufb01"),
    ("nfkc", "cafe\u0301 \ufb01 \uff21² ½", "café fi A2 1\u20442"),
    ("lower", "Straße İSTANBUL Ω", "straße i̇stanbul ω"),
    ("casefold", "Straße", "strasse"),
    ("spaces", "\t a \u00a0\n b\u3000", "a b"),
    ("digits", "12.5 and ٣ and ५", "00.0 and 0 and 0"),
    ("accents", "Café Ångström naïve Łódź", "Cafe Angstrom naive Łodz"),
    ("controls", "a\x00b\u200b\u202ec\tde\r\n\ufeff", "abc\tde\r\n"),
]


def test_each_step_does_what_it_says():
    for step, text, expected in CASES:
        assert Normalizer([step])(text) == expected
        assert Normalizer([step]).many([text, "plain"]) == [expected, "plain"]


def test_every_step_has_a_case():
    assert {case[0] for case in CASES} == set(STEPS)


@given(st.lists(st.text(), max_size=5), st.lists(st.sampled_from(sorted(STEPS)), max_size=4))
def test_many_texts_are_normalized_as_one_by_one(texts, steps):
    normalizer = Normalizer(steps)
    assert normalizer.many(texts) == [normalizer(text) for text in texts]


@given(st.text(st.characters(max_codepoint=127)), st.lists(st.sampled_from(sorted(STEPS)), max_size=4))
def test_the_short_cut_for_ascii_changes_nothing(text, steps):
    normalizer = Normalizer(steps)
    assert normalizer.many([text]) == normalizer.many([text, "é"])[:1]


@given(st.text())
def test_the_unicode_forms_are_those_of_the_standard(text):
    assert Normalizer(["nfc"])(text) == unicodedata.normalize("NFC", text)
    assert Normalizer(["nfkc"])(text) == unicodedata.normalize("NFKC", text)


@given(st.text(), st.sampled_from(sorted(set(STEPS) - {"lower", "casefold"})))
def test_a_step_done_twice_is_the_step_done_once(text, step):
    once = Normalizer([step])(text)
    assert Normalizer([step])(once) == once


def test_steps_are_done_in_their_order():
    assert Normalizer(["digits", "nfkc"])("²") == "2"
    assert Normalizer(["nfkc", "digits"])("²") == "0"


def test_steps_come_back_from_their_saved_form():
    normalizer = Normalizer(["accents", "lower"])
    assert Normalizer.from_dict(normalizer.to_dict()).steps == ("accents", "lower")
    assert Normalizer().steps == DEFAULT_STEPS == ("nfc", "lower", "spaces")
    assert Normalizer(())("  As Is ") == "  As Is "


def test_an_unknown_step_is_refused_with_the_list_of_steps():
    with pytest.raises(InputError, match=r"among nfc, nfkc, lower, casefold, spaces.*got 'upper'"):
        Normalizer(["nfc", "upper"])


@pytest.mark.parametrize("saved", [{}, {"steps": "nfc"}, {"steps": [1]}])
def test_a_damaged_saved_form_is_refused(saved):
    with pytest.raises(InputError, match="Expected a list of steps"):
        Normalizer.from_dict(saved)
