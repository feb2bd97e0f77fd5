"""What validation has chosen is read only where every value is one that a selection writes."""

import pytest

from thalweg.training.folder.choice import chosen

POINT = {"model": "linear", "l2": 0.1, "loss": 0.5, "loss_error": 0.01, "accuracy": 0.9, "accuracy_error": 0.02}
OTHER = {"model": "bag", "l2": 0.01, "loss": None, "loss_error": None, "accuracy": 0.8, "accuracy_error": 0.02}
WHOLE = {"model": "linear", "l2": 0.1, "judged_on": "9 examples", "points": [POINT, OTHER], "left_out": {"bag": "no"}}
WHERE = "among the points, with a loss"
DAMAGED = {
    "a list": ([], "expected an object, got"),
    "nothing": ({}, "expected 'model', which is missing"),
    "no points": (WHOLE | {"points": []}, "expected a list of 1 or more at points"),
    "a number of points": (WHOLE | {"points": 2}, "expected a list of 1 or more at points, got 2"),
    "points that are numbers": (WHOLE | {"points": [1, 2]}, r"expected an object at points\[0\], got 1"),
    "points without values": (WHOLE | {"points": [{}, {}]}, r"expected 'model' in points\[0\]"),
    "a loss in words": (WHOLE | {"points": [POINT | {"loss": "small"}]}, r"expected a number at points\[0\].loss"),
    "an accuracy of some": (WHOLE | {"points": [POINT, OTHER | {"accuracy": None}]}, "of every point, or of none"),
    "a negative penalty": (WHOLE | {"l2": -1, "points": [POINT | {"l2": -1}]}, "expected a number from 0 to inf at l2"),
    "a penalty in words": (WHOLE | {"l2": "0.1"}, "expected a number from 0 to inf at l2"),
    "a penalty that was not tried": (WHOLE | {"l2": 5.0}, WHERE),
    "a model that was not tried": (WHOLE | {"model": "mlp"}, WHERE),
    "the chosen one without a loss": (WHOLE | {"points": [POINT | {"loss": None}, OTHER]}, WHERE),
    "a list of models": (WHOLE | {"model": ["linear"]}, "expected a text at model"),
    "a control character": (WHOLE | {"judged_on": "9 \x1b[31mexamples"}, "without control characters"),
    "reasons without models": (WHOLE | {"left_out": ["bag"]}, "expected an object at left_out"),
    "a reason in numbers": (WHOLE | {"left_out": {"bag": 1}}, "expected a text at left_out.bag, got 1"),
}


@pytest.mark.parametrize("choice", [WHOLE, WHOLE | {"points": [POINT | {"accuracy": None}]}])
def test_a_choice_is_taken(choice):
    assert chosen(choice, "") == choice


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_choice_is_told(case):
    choice, message = DAMAGED[case]
    with pytest.raises(ValueError, match=message):
        chosen(choice, "")
