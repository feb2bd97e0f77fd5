import json
import math

import numpy as np
import pytest

from thalweg.report.text import (
    clip,
    common_decimals,
    figure_text,
    format_percentage,
    format_value,
    number,
    one_line,
    script_json,
    short_names,
    visible,
)


def test_format_value_writes_numbers_as_people_do():
    for value, text in [
        (0, "0"),
        (0.0, "0"),
        (7, "7"),
        (1234567, "1,234,567"),
        (-1234, "−1,234"),
        (0.85, "0.85"),
        (0.123456, "0.1235"),
        (-0.5, "−0.5"),
        (12.3456, "12.35"),
        (999.94, "999.9"),
        (999.96, "1,000"),
        (1234.5678, "1,235"),
        (0.00012346, "0.0001235"),
        (0.0000321, "3.21 × 10⁻⁵"),
        (-2.5e20, "−2.5 × 10²⁰"),
        (math.nan, "not a number"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (None, "–"),
        (True, "yes"),
        (np.float32(0.25), "0.25"),
        (np.int64(4000), "4,000"),
        ("AdamW", "AdamW"),
    ]:
        assert format_value(value) == text


def test_number_is_none_for_everything_but_a_finite_number():
    for value in [None, "7", math.nan, math.inf, -math.inf, True, [1.0], np.float32("nan")]:
        assert number(value) is None


def test_number_takes_numpy_scalars():
    assert number(np.int64(3)) == 3.0
    assert number(np.float32(0.5)) == 0.5


def test_common_decimals_of_a_column():
    for values, decimals in [
        ([0.5, 0.25], 4),
        ([1.0, 0.0], 4),
        ([9.5, 1], 3),
        ([99.5, 1.0], 2),
        ([100.5], 1),
        ([1000.5], None),
        ([1, 2], None),
        ([0.5, 1e-6], None),
        ([None, 0.5, "text"], 4),
        ([], None),
        ([None], None),
    ]:
        assert common_decimals(values) == decimals


def test_format_percentage_of_a_part_and_of_nothing():
    assert format_percentage(1, 3) == "33.3%"
    assert format_percentage(0, 0) == "0%"


def test_clip_keeps_both_ends_and_the_width():
    assert clip("short", 5) == "short"
    assert clip("abcdefghij", 5) == "ab…ij"
    assert all(len(clip("x" * 100, width)) == width for width in range(2, 30))


def test_short_names_drop_what_all_names_share():
    for names, short in [
        (["a.x.w", "a.y.w"], ["x", "y"]),
        (["a.w", "a.b"], ["w", "b"]),
        (["net.layers.0.w", "net.layers.1.w"], ["layers.0", "layers.1"]),
        (["0", "1"], ["0", "1"]),
        (["weight"], ["weight"]),
        (["model.0.weight", "model.0.bias"], ["weight", "bias"]),
        (["a", "a.b"], ["a", "a.b"]),
        (["same.name", "same.name"], ["name", "name"]),
        ([], []),
    ]:
        assert short_names(names, 30) == short


def test_figure_text_has_nothing_that_plotly_would_interpret():
    for text, safe in [
        ("<b>bold</b>", "&lt;b&gt;bold&lt;/b&gt;"),
        ("R&D", "R&amp;D"),
        ("&lt;", "&amp;lt;"),
        ("%{y} %{meta[0]}", "&#37;{y} &#37;{meta[0]}"),
        ("two\nlines\t here", "two lines here"),
        ("\x00\x1b[31m\ud800", "␀␛[31m\\ud800"),
    ]:
        assert figure_text(text) == safe


def test_figure_text_clips_before_it_escapes():
    assert figure_text("<" * 100, 3) == "&lt;…&lt;"


def test_what_steers_a_terminal_is_shown_and_line_breaks_stay():
    assert visible("a\r\nb\tc\x07\x7f\rd\x85") == "a\nb\tc␇␡␍d\\x85"
    assert visible("\u202egood\u2069 \u200f\u061c") == r"\u202egood\u2069 \u200f\u061c"
    assert visible("name-\udcff \ud83d \u2028") == r"name-\xff \ud83d \u2028"
    assert visible("Ünïcode ☃ \U0001f469\u200d\U0001f4bb שלום") == "Ünïcode ☃ \U0001f469\u200d\U0001f4bb שלום"


def test_one_line_has_no_line_break_and_an_end():
    assert one_line("a\n\tb\r\nc") == "a␊␉b␊c"
    assert one_line("x" * 1000, 21) == f"{'x' * 10}…{'x' * 10}"


def test_script_json_comes_back_equal_and_cannot_leave_its_element():
    for text in ["</script>", "<!-- <script>", "a\u2028b\u2029c", "&amp;", "Ünïcode ☃", '"quotes" \\']:
        written = script_json({"text": text})
        assert not set(written) & set("<>&\u2028\u2029")
        assert json.loads(written) == {"text": text}


def test_script_json_survives_a_broken_surrogate():
    assert json.loads(script_json(["a\ud800b"]).encode("utf-8")) == ["a?b"]


def test_script_json_refuses_what_json_has_not():
    with pytest.raises(ValueError, match="Out of range float values"):
        script_json([math.nan])
