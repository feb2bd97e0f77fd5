"""What validation has chosen is read only where every value is one that a selection writes."""

from pathlib import Path

import pytest

from thalweg.errors import InputError
from thalweg.training.folder.choice import checked_choice

POINT = {"model": "linear", "l2": 0.1, "loss": 0.5, "loss_error": 0.01, "accuracy": 0.9, "accuracy_error": 0.02}
OTHER = {"model": "bag", "l2": 0.01, "loss": None, "loss_error": None, "accuracy": 0.8, "accuracy_error": 0.02}
WHOLE = {"model": "linear", "l2": 0.1, "judged_on": "9 examples", "points": [POINT, OTHER], "left_out": {"bag": "no"}}
DAMAGED = {
    "a list": [],
    "nothing": {},
    "no points": WHOLE | {"points": []},
    "a number of points": WHOLE | {"points": 2},
    "points that are numbers": WHOLE | {"points": [1, 2]},
    "points without values": WHOLE | {"points": [{}, {}]},
    "a loss in words": WHOLE | {"points": [POINT | {"loss": "small"}]},
    "an accuracy of some": WHOLE | {"points": [POINT, OTHER | {"accuracy": None}]},
    "a negative penalty": WHOLE | {"l2": -1, "points": [POINT | {"l2": -1}]},
    "a penalty in words": WHOLE | {"l2": "0.1"},
    "a penalty that was not tried": WHOLE | {"l2": 5.0},
    "a model that was not tried": WHOLE | {"model": ["linear"]},
    "a control character": WHOLE | {"judged_on": "9 \x1b[31mexamples"},
    "reasons without models": WHOLE | {"left_out": ["bag"]},
    "a reason in numbers": WHOLE | {"left_out": {"bag": 1}},
}


@pytest.mark.parametrize("choice", [WHOLE, WHOLE | {"points": [POINT | {"accuracy": None}]}])
def test_a_choice_is_taken(choice):
    assert checked_choice(choice, Path("selection.json")) == choice


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_choice_is_named(case):
    with pytest.raises(InputError, match=r"selection\.json is damaged \(expected the chosen model"):
        checked_choice(DAMAGED[case], Path("selection.json"))
