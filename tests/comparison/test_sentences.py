import math

import pytest
from scipy import stats

from thalweg.comparison.sentences import difference_sentence, time_sentence
from thalweg.comparison.statistics import paired, time_ratio

LOW, HIGH = [1.0, 1.2, 1.1], [1.5, 1.6, 1.7]

DIFFERENCES = {
    "a clear difference": (
        (LOW, HIGH),
        {},
        "On d a's validation loss is lower than b's by 0.50 (95 % interval 0.25 to 0.75; 3 seeds).",
    ),
    "the other way round": (
        (HIGH, LOW),
        {},
        "On d a's validation loss is higher than b's by 0.50 (95 % interval 0.25 to 0.75; 3 seeds).",
    ),
    "with another quantity and a unit": (
        ([100.0, 120.0], [400.0, 421.0]),
        {"quantity": "memory", "unit": "MB"},
        "On d a's memory is lower than b's by 300 MB (95 % interval 294 to 307 MB; 2 seeds).",
    ),
    "noise": (
        (LOW, [1.1, 1.0, 1.2]),
        {},
        "No difference beyond noise between a and b in validation loss on d (95 % interval of the difference -0.43 to "
        "0.43; 3 seeds).",
    ),
    "clear alone, not among five comparisons": (
        (LOW, HIGH),
        {"p_value": 0.067, "num_comparisons": 5},
        "No difference beyond noise between a and b in validation loss on d (95 % interval of the difference -0.75 to "
        "-0.25; 3 seeds; alone that would be a difference, but p = 0.067 after Holm's correction for 5 comparisons).",
    ),
    "clear among five comparisons": (
        ([1.0, 1.01, 1.02], [1.5, 1.51, 1.53]),
        {"p_value": 0.0002, "num_comparisons": 5},
        "On d a's validation loss is lower than b's by 0.503 (95 % interval 0.489 to 0.518; 3 seeds; p = 0.0002 after "
        "Holm's correction for 5 comparisons).",
    ),
    "an end that would be rounded to nothing": (
        ([0.0, 1.0, 2.0], [1.0, 2.0, 6.0]),
        {},
        "No difference beyond noise between a and b in validation loss on d (95 % interval of the difference -6.3 to "
        "2.3; 3 seeds).",
    ),
    "one seed": (
        ([1.0], [3.0]),
        {},
        "On d a's validation loss is lower than b's by 2 in the one seed that was run; one seed says nothing about "
        "noise, so there is no interval.",
    ),
    "one seed, the same": (
        ([1.0], [1.0]),
        {},
        "On d a and b have the same validation loss in the one seed that was run; one seed says nothing about noise, "
        "so there is no interval.",
    ),
    "one seed, diverged": (
        ([None], [1.0]),
        {},
        "On d a diverged in the one seed that was run; one seed says nothing about noise, so there is no interval.",
    ),
    "one seed, both diverged": (
        ([None], [math.nan]),
        {},
        "On d a and b both diverged in the one seed that was run; one seed says nothing about noise, so there is no "
        "interval.",
    ),
    "the same in every seed": ((LOW, LOW), {}, "On d a and b have the same validation loss in each of 3 seeds."),
    "the same difference in every seed": (
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]),
        {},
        "On d a's validation loss is lower than b's in 3 of 3 seeds, higher in 0; it differs by the same amount in "
        "every seed, and 3 seeds without spread give no interval, sign test p = 0.25.",
    ),
    "diverged": (
        ([1.0, None, None], [2.0, 3.0, None]),
        {},
        "On d a's validation loss is lower than b's in 1 of 3 seeds, higher in 1 and equal in 1; with diverged runs (a "
        "diverged in 2 and b diverged in 1) 3 seeds give no interval, sign test p = 1.",
    ),
    "diverged in enough seeds to tell": (
        ([1.0, 2.0, 3.0, 1.0, 2.0, 3.0], [2.0, 3.5, 4.0, 2.5, None, None]),
        {},
        "On d a's validation loss is lower than b's by 1.5 (95 % interval from 1.0 up; 6 seeds; b diverged in 2).",
    ),
}


@pytest.mark.parametrize("case", DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_difference_in_words(case):
    values, settings, expected = case
    assert difference_sentence("a", "b", paired(*values), data="d", **settings) == expected


TIMES = {
    "a clear ratio": (
        ([20.0, 22.0, 24.0], [10.0, 12.0, 11.0]),
        {},
        "On d b reaches the target 2.00 times as fast as a (95 % interval 1.61 to 2.48; 3 seeds).",
    ),
    "the other way round": (
        ([10.0, 12.0, 11.0], [20.0, 22.0, 24.0]),
        {},
        "On d a reaches the target 2.00 times as fast as b (95 % interval 1.61 to 2.48; 3 seeds).",
    ),
    "steps": (
        ([20.0, 22.0, 24.0], [10.0, 12.0, 11.0]),
        {"quantity": "steps"},
        "On d b reaches the target with 2.00 times fewer steps than a (95 % interval 1.61 to 2.48; 3 seeds).",
    ),
    "noise": (
        ([20.0, 12.0, 24.0], [10.0, 22.0, 21.0]),
        {},
        "No difference beyond noise between a and b in the time to the target on d (95 % interval of the ratio a / b "
        "0.2 to 5.4; 3 seeds).",
    ),
    "clear alone, not among others": (
        ([20.0, 22.0, 24.0], [10.0, 12.0, 11.0]),
        {"p_value": 0.06, "num_comparisons": 10},
        "No difference beyond noise between a and b in the time to the target on d (95 % interval of the ratio a / b "
        "1.61 to 2.48; 3 seeds; alone that would be a difference, but p = 0.06 after Holm's correction for 10 "
        "comparisons).",
    ),
    "an end that would be rounded to 1": (
        ([10.0 * math.exp(0.3 + 0.11956 * part) for part in (-1.0, 0.0, 1.0)], [10.0, 10.0, 10.0]),
        {},
        "On d b reaches the target 1.35 times as fast as a (95 % interval 1.003 to 1.817; 3 seeds).",
    ),
    "at least": (
        ([40.0, None, 44.0], [10.0, 12.0, 11.0]),
        {},
        "On d b reaches the target at least 4.3 times as fast as a, which reaches it within 60 s in 2 of 3 seeds only "
        "(95 % interval from 3.1 up).",
    ),
    "at most": (
        ([10.0, 12.0, 11.0], [None, None, None]),
        {},
        "On d a reaches the target at least 5.5 times as fast as b, which does not within 60 s in any seed (95 % "
        "interval from 4.4 up; 3 seeds).",
    ),
    "at least, and nothing shown": (
        ([1.0, 1.1, None], [10.0, 11.0, 59.0]),
        {},
        "No difference beyond noise between a and b in the time to the target on d (95 % interval of the ratio b / a "
        "up to 129; a reaches the target within 60 s in 2 of 3 seeds, b in 3).",
    ),
    "runs of both never end": (
        ([10.0, None], [None, 10.0]),
        {},
        "On d a reaches the target within 60 s in 1 of 2 seeds, b in 1: too few to compare their times.",
    ),
    "no run ends": (
        ([None, None], [None, None]),
        {},
        "On d neither a nor b reaches the target within 60 s in any of 2 seeds; no time to compare.",
    ),
    "one seed": (
        ([20.0], [10.0]),
        {},
        "On d b reaches the target 2 times as fast as a in the one seed that was run; one seed says nothing about "
        "noise, so there is no interval.",
    ),
    "one seed, one ends": (
        ([None], [10.0]),
        {},
        "On d b reaches the target and a does not within 60 s in the one seed that was run; one seed says nothing "
        "about noise, so there is no interval.",
    ),
    "one seed, the same": (
        ([10.0], [10.0]),
        {"quantity": "steps"},
        "On d a and b need the same steps to the target in the one seed that was run; one seed says nothing about "
        "noise, so there is no interval.",
    ),
    "one seed, none ends": (
        ([None], [None]),
        {},
        "On d neither a nor b reaches the target within 60 s in the one seed; no time to compare.",
    ),
    "no spread": (
        ([20.0, 40.0], [10.0, 20.0]),
        {},
        "On d a reaches the target within 60 s in 2 of 2 seeds, b in 2; their times have no spread over the seeds, or "
        "too few seeds, to give the ratio an interval.",
    ),
    "the same times": (
        ([20.0, 40.0], [20.0, 40.0]),
        {},
        "On d a and b need the same time to the target in each of 2 seeds.",
    ),
}


@pytest.mark.parametrize("case", TIMES.values(), ids=TIMES.keys())
def test_times_in_words(case):
    values, settings, expected = case
    assert time_sentence("a", "b", time_ratio(*values, 60.0), "d", "60 s", **settings) == expected


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1.0, 1e5])
@pytest.mark.parametrize("p_value", [0.04999, 0.05001])
def test_no_difference_is_claimed_whose_interval_holds_none(scale, p_value):
    """An end next to 0 keeps the decimals that show its side; a claim is made exactly where both ends are on one."""
    shift = stats.t.isf(p_value / 2, 2) * math.sqrt(1 / 3)  # of differences with a standard deviation of 1
    values = [scale * (shift + part) for part in (-1.0, 0.0, 1.0)]
    said = difference_sentence("a", "b", paired(values, [0.0] * 3))
    assert said.startswith("No difference beyond noise") == (p_value > 0.05)
    low = said.split("interval ")[1].removeprefix("of the difference ").split(" to ")[0]
    assert float(low) != 0.0
    assert (float(low) < 0.0) == (p_value > 0.05)


def test_names_stand_as_they_are_and_no_data_set_leaves_no_gap():
    said = difference_sentence("<b>x</b>", "%s {y}", paired(LOW, HIGH))
    assert said == "<b>x</b>'s validation loss is lower than %s {y}'s by 0.50 (95 % interval 0.25 to 0.75; 3 seeds)."
