"""Forms: what each takes and what it says of anything else; JSON of strangers."""

import json

import pytest

from thalweg.errors import InputError
from thalweg.storage import forms

TAKEN = {
    "text": (forms.text(), "é"),
    "choice": (forms.choice("a", "b"), "b"),
    "truth": (forms.truth(), False),
    "whole": (forms.whole(0, 7), 7),
    "number": (forms.number(0.0), 3),
    "null": (forms.perhaps(forms.number()), None),
    "either": (forms.either("a name", forms.text(), forms.many(forms.text())), ["a"]),
    "many": (forms.many(forms.whole(), least=1), [1, 2]),
    "distinct": (forms.distinct_texts(), ["a", "b"]),
    "table": (forms.table(forms.truth()), {"a": True}),
    "record": (forms.record({"b": forms.text()}, a=forms.whole()), {"a": 1, "other": [None]}),
    "anything": (forms.anything(), [{"a": None}]),
}

REFUSED = {
    "another kind": (forms.text(), 7, "expected a text, got 7"),
    "half a character": (forms.text(), "a\ud800", "without half characters"),
    "a long text": (forms.text(most=3), "abcd", "expected a text"),
    "another choice": (forms.choice("a", "b"), "c", 'expected one of a, b, got "c"'),
    "1 for true": (forms.truth(), 1, "expected true or false, got 1"),
    "true for 1": (forms.whole(), True, "expected a whole number"),
    "a float for 1": (forms.whole(), 1.0, "expected a whole number"),
    "out of range": (forms.whole(0, 7), 8, "from 0 to 7, got 8"),
    "too large": (forms.number(), 10**400, "expected a number, got 1000"),
    "below": (forms.number(0.0, 1.0), -0.5, "a number from 0 to 1, got -0.5"),
    "null": (forms.number(), None, "expected a number, got null"),
    "neither": (forms.either("a name", forms.text(), forms.truth()), 1, "expected a name, got 1"),
    "too few": (forms.many(forms.text(), least=2), ["a"], "a list of 2 or more"),
    "one of a list": (forms.many(forms.text()), ["a", None], r"expected a text at \[1\], got null"),
    "twice": (forms.distinct_texts(), ["a", "a"], "one of them twice"),
    "deep inside": (
        forms.record(a=forms.table(forms.many(forms.whole()))),
        {"a": {"b": [1, "x"]}},
        r'a whole number .* at a.b\[1\], got "x"',
    ),
    "missing": (forms.record(a=forms.record(b=forms.text())), {"a": {}}, "expected 'b' in a, which is missing"),
    "no object": (forms.record(a=forms.text()), [], r"expected an object, got \[\]"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_form_takes_its_values(case):
    form, value = TAKEN[case]
    assert form(value, "") == value


@pytest.mark.parametrize("case", REFUSED)
def test_a_form_says_what_it_expected_and_where(case):
    form, value, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        form(value, "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1, "a": 2}', "a name comes twice"),
        (b"\xff", "codec can't decode"),
        (b"9" * 5000, "thousands of digits"),
        (b"{", "Expecting"),
        (b"[" + b"[],[]," * 2**20 + b"[]]", "more than 4,194,304 values"),
    ],
)
def test_what_is_no_json_is_told(data, message):
    with pytest.raises(ValueError, match=message):
        forms.parse_json(data, forms.anything())


def test_a_file_that_is_too_long_is_told(monkeypatch):
    monkeypatch.setattr(forms, "MAX_BYTES", 9)
    with pytest.raises(ValueError, match="it is longer than 9 bytes"):
        forms.parse_json(b" " * 9 + b"1", forms.anything())


def test_a_file_is_named(tmp_path):
    path = tmp_path / "labels.json"
    with pytest.raises(InputError, match=r"labels.json is missing; restore it or train the run again\."):
        forms.read_json(path, forms.anything())
    path.write_text(json.dumps({"labels": 3}))
    with pytest.raises(InputError, match=r"labels.json is damaged \(expected a list at labels, got 3\); restore it"):
        forms.read_json(path, forms.record(labels=forms.many(forms.text())))
    with pytest.raises(InputError, match="is damaged"):
        forms.read_json(tmp_path, forms.anything())
