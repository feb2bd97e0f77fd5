"""Sentences that inspecting a file and diagnosing a run have in common."""

import math

import pytest
import torch

from thalweg.cli.main import run
from thalweg.data.columns.problems import (
    FEW_EXAMPLES,
    StandIns,
    alike,
    all_once,
    constant_columns,
    few_examples,
    label_sentences,
    one_label,
    smallest_difference,
)
from thalweg.diagnosis.symptoms.limits import limit


@pytest.mark.parametrize(("number", "share"), [(50, 0.5), (400, 0.8)])
def test_smallest_difference_is_rarely_exceeded_by_chance(number, share):
    """Two samples of one accuracy differ by more in about one case of twenty."""
    drawn = torch.distributions.Binomial(number, torch.tensor(share)).sample((20_000, 2)) / number
    exceeded = ((drawn[:, 0] - drawn[:, 1]).abs() > smallest_difference(number, share) / 100.0).double().mean()
    assert float(exceeded) == pytest.approx(0.05, abs=0.015)


def test_smallest_difference_falls_with_the_root_of_the_number():
    assert smallest_difference(100) == pytest.approx(2.0 * smallest_difference(400))
    assert smallest_difference(2, 1.0) == 0.0
    assert smallest_difference(1) == pytest.approx(196.0 * math.sqrt(0.5))


def test_sentences_count():
    assert few_examples(1).startswith("On 1 validation example, ")
    assert few_examples(50) == "On 50 validation examples, differences of accuracy below 20 points may be chance."
    assert constant_columns([*"abcdefg"]) == "7 numeric input columns never change: a; b; c; d; e and 2 more."


def test_sentences_about_labels():
    groups = [[f"l{i}", f"L{i}"] for i in range(7)]
    assert alike(name for group in groups for name in group) == groups
    assert alike(["cafe\u0301", "caf\u00e9", "a\u200bb", "ab", "0.5", ".5", "x"]) == [
        ["cafe\u0301", "caf\u00e9"],
        ["a\u200bb", "ab"],
        ["0.5", ".5"],
    ]
    counts = {name: 2 for group in groups for name in group}
    (sentence,) = label_sentences(counts, "kind", "tag")
    assert sentence.startswith("Tags in column 'kind' differ only in how they are written: 'l0' (2), 'L0' (2); 'l1'")
    assert "; and 2 more. They are different tags" in sentence
    assert label_sentences({"NA": 3, "x": 1}, "kind", "tag") == [], "a tag may be called NA"
    (sentence,) = label_sentences({str(k): 2 for k in range(30)}, "price")
    assert sentence.startswith("The 30 labels in column 'price' are all numbers; --task score")
    assert "got no labels;" in one_label([], "kind")
    assert all_once([1] * 19, "id") == ""


def test_both_commands_draw_the_line_at_the_same_number():
    assert limit("few valid") == FEW_EXAMPLES


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        run(["data", *map(str, arguments)])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_data_tells_of_few_examples_of_shared_texts_and_of_constant_columns(tmp_path, capsys):
    rows = [f"thing {k} {k % 7},{'good' if k % 2 else 'bad'}" for k in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "b.csv").write_text("\n".join(["text,label", *rows[:2], "new,good", "newer,bad"]) + "\n")
    out = printed(capsys, tmp_path / "a.csv")
    assert few_examples(6) in out
    out = printed(capsys, tmp_path / "a.csv", "--valid", tmp_path / "b.csv")
    assert "50.0% of the validation texts are trained on: 2 rows (lines 2, 3)." in out
    assert few_examples(4) in out
    (tmp_path / "c.csv").write_text("\n".join(["x,y", *(f"{k},3" for k in range(40))]) + "\n")
    assert "1 numeric input column never changes: 'y'." in printed(capsys, tmp_path / "c.csv", "--task", "forecast")


@pytest.mark.parametrize(
    ("number", "count", "found"),
    [(-999.0, 2, True), (99.0, 3, True), (-32768.0, 2, True), (-999.0, 1, False), (9.0, 5, False), (5.5, 4, False)],
)
def test_numbers_that_stand_for_missing_ones(number, count, found):
    tally = StandIns("load")
    for one in [3.0, 4.5, 5.0, 4.0, 3.5, math.nan, *[number] * count]:
        tally.add(one)
    assert bool(tally.sentence) is found
    assert not found or tally.sentence.startswith(
        f"{count} values of 'load' are {number:g}, far outside the others (3 to 5)"
    )


def test_nines_among_large_numbers_are_numbers():
    tally = StandIns("price")
    for one in [10.0, 250.0, 999.0, 999.0, 480.0, 700.0, 830.0]:
        tally.add(one)
    assert tally.sentence == ""
