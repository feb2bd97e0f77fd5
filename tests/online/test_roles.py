"""The columns of a stream are chosen by the first rows that show them, and a file goes on behind the rows seen."""

import itertools

import numpy as np
import pytest

from thalweg.errors import InputError
from thalweg.online import OnlineClassifier, OnlineRegressor, learn_online, load_online
from thalweg.online.roles import UNDECIDED_ROWS, RowsSeen, rows_behind

TEXTS = [("good", "fine and clear"), ("bad", "dull and grey")]
MANY = [TEXTS[i % 2] for i in range(60)]


def learned(rows, model=None, **options):
    said = []
    model = OnlineClassifier() if model is None else model
    *_, record = learn_online(rows, model, say=said.append, **options)
    return model, record, said


CHOICES = {
    "the usual name": ([{"text": t, "label": y} for y, t in MANY], "label", 60),
    "it comes later": (
        [{"text": "x", "user": "u1"}, *({"text": t, "user": "u", "label": y} for y, t in MANY)], "label", 60,
    ),
    "a less usual name comes first": (
        [*({"text": t, "type": "a"} for _, t in MANY[:5]), *({"text": t, "type": "a", "label": y} for y, t in MANY)],
        "label", 60,
    ),
    "a less usual name alone": ([{"text": t, "rating": y} for y, t in MANY], "rating", 60),
    "no usual name": ([{"msg": t, "id": i, "verdict": y} for i, (y, t) in enumerate(MANY)], "verdict", 60),
    "the label first": ([{"verdict": y, "msg": t} for y, t in MANY], "verdict", 60),
    "after the rows that are held": (
        [*({"text": t} for _, t in MANY[:UNDECIDED_ROWS + 5]), *({"text": t, "label": y} for y, t in MANY)],
        "label", 60,
    ),
    "fewer rows than are held": ([{"msg": t, "verdict": y} for y, t in MANY[:6]], "verdict", 6),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOICES)
def test_the_label_column_is_that_of_the_rows_that_show_it(case):
    rows, column, num_learned = CHOICES[case]
    model, record, said = learned(rows)
    assert model.label_column == column
    assert (record.num_rows, record.num_scored) == (len(rows), num_learned)
    assert record.num_unlabeled == len(rows) - num_learned
    assert any(f"Label column '{column}' (of " in sentence for sentence in said)


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": t} for _, t in MANY],
        [{"text": t, "id": f"row{i}"} for i, (_, t) in enumerate(MANY)],  # no two alike: no label
        [{"text": t, "other": t} for _, t in MANY],
    ],
)
def test_where_no_column_may_be_a_label_none_is_taken(rows):
    model, record, said = learned(rows)
    assert model.label_column is None
    assert (record.num_scored, record.num_unlabeled) == (0, 60)
    assert any("have no column that may be the label ('text'" in sentence for sentence in said)


def test_a_number_is_no_name():
    rows = [{"day": ("Sun", "Mon")[i % 2], "watts": 3.0 * (i % 2), "kind": "ab"[i % 2]} for i in range(60)]
    model, _, _ = learned(rows, OnlineRegressor())
    assert model.label_column == "watts"


def test_a_label_column_that_was_named_is_that_of_every_row():
    rows = [{"text": "x", "user": "u1"}, *({"text": t, "user": "u", "gold": y} for y, t in MANY)]
    model, record, said = learned(rows, label_column="gold")
    assert (model.label_column, record.num_scored, record.num_unlabeled) == ("gold", 60, 1)
    assert said == ["Reads 'text' (text), 'user' (category)."]


def test_a_label_column_that_never_comes_is_told():
    _, record, said = learned([{"text": t, "label": y} for y, t in MANY], label_column="lable")
    assert record.num_scored == 0
    assert said[0].startswith("None of the first 20 rows has the label column 'lable' (they have 'text', 'label')")


def test_rows_that_were_held_are_predicted_and_learned_in_their_order():
    rows = [{"msg": t, "verdict": y} for y, t in MANY]
    held, outcomes = [], []
    model, _, _ = learned(rows, on_row=lambda row, outcome: (held.append(row), outcomes.append(outcome)))
    assert held == rows
    named, _, _ = learned(rows, label_column="verdict", on_row=lambda _, outcome: outcomes.append(outcome))
    assert outcomes[:60] == outcomes[60:]
    for one, other in zip(*(m._linear.table.arrays().values() for m in (model, named)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_held_rows_are_kept_when_the_stream_breaks_off(tmp_path):
    def rows():
        yield from ({"msg": t, "verdict": y} for y, t in MANY[:6])
        raise OSError

    with pytest.raises(OSError, match=r"^$"):
        learned(rows(), save_folder=tmp_path / "s")
    assert load_online(tmp_path / "s").progress.num_learned == 6


def test_keys_that_come_later_are_read():
    rows = [{"text": "x", "label": "good"}, *({"text": "thing", "label": y, "hint": f"is {y}"} for y, _ in MANY)]
    model, record, said = learned(rows)
    assert model.kinds == {"text": "text", "hint": "text"}
    assert record.score > 0.8
    assert "Also reads 'hint' (text)." in said


def test_a_file_goes_on_behind_the_rows_that_were_seen(tmp_path):
    rows = [{"text": t, "label": y} for y, t in MANY]
    whole, _, _ = learned(rows)
    for end in (0, 25, 60, 60):  # the file grows
        model = load_online(tmp_path / "s") if (tmp_path / "s").exists() else OnlineClassifier()
        new, seen = rows_behind(rows[:end], "file", model.progress.seen.get("file"))
        learned(new, model, seen=seen, save_folder=tmp_path / "s")
    model = load_online(tmp_path / "s")
    assert model.progress.num_rows == model.progress.seen["file"]["rows"] == 60
    for one, other in zip(*(m._linear.table.arrays().values() for m in (model, whole)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", ["a value", "a row less", "a name", "the order"])
def test_a_file_that_has_changed_before_its_place_is_refused(change):
    rows = [{"text": t, "label": y} for y, t in MANY]
    seen = RowsSeen("f.csv")
    for row in rows[:30]:
        seen.add(row)
    changed = {
        "a value": [{"text": "x", "label": "good"}, *rows[1:]],
        "a row less": rows[:29],
        "a name": [{"txt": row["text"], "label": row["label"]} for row in rows],
        "the order": rows[::-1],
    }[change]
    with pytest.raises(InputError, match=r"f\.csv has changed in the first 30 rows, .* start over with --overwrite"):
        rows_behind(changed, "f.csv", seen.to_dict())
    rest, _ = rows_behind([*rows[:30], *changed], "f.csv", seen.to_dict())
    assert list(itertools.islice(rest, 2)) == changed[:2]
