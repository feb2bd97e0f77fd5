"""What rows hold, and models that no floor holds for: their rows see each other, they draw, or they keep a state."""

import math
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thalweg
from thalweg.batch import Batch
from thalweg.certificates.floors.rows import columns_of, require_own_rows, some_rows
from thalweg.certificates.floors.targets import collect_targets, conflicting, groups_by_input
from thalweg.certificates.levels import ERRORS, LOSS
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.models.bag import Bag
from thalweg.objective import Objective


class Plain(nn.Module):
    """A linear layer on what `see` makes of its input."""

    def __init__(self, see=lambda self, x: x, width=1, outputs=2):
        super().__init__()
        self.see = see
        self.output = nn.Linear(width, outputs)
        self.gate = nn.Parameter(torch.zeros(()))
        self.calls = 0

    def forward(self, **inputs):
        self.calls += 1
        seen = self.see(self, *inputs.values())
        return cast("torch.Tensor", self.output(seen.to(self.output.weight.dtype)))


def floors(objective):
    """Bounds of the floors by quantity, and why they were left out."""
    interval = thalweg.certify(objective, seconds=2.0)
    found = {level.quantity: level.bound for level in interval.levels if level.name == "floor"}
    return found, interval.left_out.get("floor", "")


def of_batches(see, *batches, width=1):
    """The floor of the loss for pairs of inputs and targets."""
    torch.manual_seed(0)
    made = [Batch(inputs, torch.tensor(targets)) for inputs, targets in batches]
    return floors(Objective(Plain(see, width), nn.CrossEntropyLoss(), made))


def mean(self, *tokens):
    return sum((i + 1) * part.double().mean(1, keepdim=True) for i, part in enumerate(tokens))


T = torch.tensor
DIFFERENT = {
    "where a sequence ends": (
        ({"a": T([[1, 2]]), "b": T([[3]])}, [0]),
        ({"a": T([[1]]), "b": T([[2, 3]])}, [1]),
    ),
    "which input it is": (({"a": T([[1]]), "b": T([[2]])}, [0]), ({"a": T([[2]]), "b": T([[1]])}, [1])),
    "the shape": (({"a": T([[[1, 2]]])}, [0]), ({"a": T([[[1], [2]]])}, [1])),
    "the type": (({"a": T([[1]])}, [0]), ({"a": T([[1]], dtype=torch.int32)}, [1])),
    "padding": (({"a": T([[1, 2]])}, [0]), ({"a": T([[1, 2, 0]])}, [1])),
    "whole numbers above 2^53": (({"a": T([[2**53]])}, [0]), ({"a": T([[2**53 + 1]])}, [1])),
    "the sign of zero": (({"a": T([[0.0]])}, [0]), ({"a": T([[-0.0]])}, [1])),
    "a mask": (
        ({"a": T([[1, 2]]), "mask": T([[True, True]])}, [0]),
        ({"a": T([[1, 2]]), "mask": T([[True, False]])}, [1]),
    ),
}


@pytest.mark.parametrize("batches", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_inputs_that_differ_in_this_make_no_floor(batches):
    found, _ = of_batches(lambda self, *parts: mean(self, *(part.flatten(1) for part in parts)), *batches)
    assert found[LOSS] == 0.0


def test_inputs_of_one_name_that_are_equal_in_several_batches_make_one():
    found, _ = of_batches(mean, ({"a": T([[1, 2], [5, 5]])}, [0, 1]), ({"a": T([[1, 2]])}, [1]))
    assert found == {LOSS: pytest.approx(2 * math.log(2) / 3), ERRORS: pytest.approx(1 / 3)}


X, Y = T([[1.0], [1.0], [2.0], [1.0]]), T([0, 1, 1, 1])
SEES_OTHERS = {
    "a sum over the rows before": lambda self, x: x.cumsum(0),
    "one that a weight of zero hides": lambda self, x: x + self.gate * x.cumsum(0),
    "statistics of the batch": lambda self, x: F.batch_norm(x, None, None, training=True),
    "attention across rows": lambda self, x: torch.softmax(x @ x.T, 1) @ x,
    "the place in the batch": lambda self, x: x + torch.arange(len(x))[:, None],
}


@pytest.mark.parametrize("see", SEES_OTHERS.values(), ids=SEES_OTHERS.keys())
def test_a_model_whose_rows_see_each_other_has_no_floor(see):
    torch.manual_seed(0)
    found, reason = floors(Objective(Plain(see), nn.CrossEntropyLoss(), {"x": X}, Y))
    assert not found
    assert "depends on the other examples of its batch" in reason


class Packed(nn.Module):
    """Its rows see each other in batches of one kind only, or in those after the first ones."""

    def __init__(self, gate, kind):
        super().__init__()
        self.below, self.out = nn.Linear(2, 3), nn.Linear(3, 2)
        self.gate, self.kind = nn.Parameter(torch.tensor(gate)), kind

    def forward(self, x, packed=None):
        hidden = torch.tanh(self.below(x))
        mixed = packed is not None if self.kind == "another input" else len(x) == 20
        return self.out(hidden * (1.0 + self.gate * hidden.cumsum(0)) if mixed else hidden)


@pytest.mark.parametrize(("gate", "kind"), [(1.0, "another input"), (0.0, "another input"), (1.0, "more rows")])
def test_rows_that_see_each_other_in_few_batches_are_seen(gate, kind):
    """Three batches were tried before, and a floor of log 2 was proved that training goes below."""
    torch.manual_seed(0)
    batches = [Batch({"x": torch.randn(1, 2).repeat(2, 1)}, T([0, 1])) for _ in range(60)]
    inputs = {"x": torch.ones(20, 2), **({"packed": torch.ones(20)} if kind == "another input" else {})}
    found, reason = floors(Objective(Packed(gate, kind), nn.CrossEntropyLoss(), [*batches, Batch(inputs, Y.repeat(5))]))
    assert not found
    assert "so no floor is proved for it" in reason or "equal inputs may get different answers" in reason
    found, _ = floors(Objective(Packed(gate, kind), nn.CrossEntropyLoss(), batches))
    assert found[LOSS] == pytest.approx(math.log(2))


@pytest.mark.parametrize("first", [[], [({"x": torch.zeros(2, 1)}, [0, 1])]])
@pytest.mark.parametrize("rows", [2, 20])
def test_a_large_column_does_not_hide_one_that_sees_other_rows(rows, first):
    """Beside a column of 1e11 the place in the batch was lost in a tolerance that held for all columns."""

    def see(self, x):
        place = torch.arange(len(x))[:, None] * (len(x) == rows)
        return torch.cat([1e11 * x.double(), place], 1)

    batches = [({"x": torch.ones(2, 1)}, [0, 1])] * 60
    found, reason = of_batches(see, *first, *batches, ({"x": torch.ones(20, 1)}, [0, 1] * 10), width=2)
    assert not found
    assert "no floor is proved for it" in reason


def test_a_column_that_rounding_alone_fills_does_not_cost_a_floor():
    def see(self, x):
        thirds = x.double() / 3.0
        return torch.cat([thirds, (thirds @ torch.ones(1, 1).double() * 0.1 * 30.0 - x) * 1e-3], 1)

    found, _ = of_batches(see, *[({"x": torch.rand(1, 1).repeat(6, 1)}, [0, 1, 1] * 2) for _ in range(9)], width=2)
    assert found[LOSS] > 0.6


def test_running_statistics_are_those_of_no_batch():
    model = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    found, _ = floors(Objective(model, nn.CrossEntropyLoss(), X, Y))
    assert found[LOSS] == pytest.approx((3 * math.log(3) - 2 * math.log(2)) / 4)


def test_a_model_that_takes_no_part_of_a_batch_is_left_out():
    inputs = {"x": X, "weights_of_rows": torch.ones(4, 4)}
    _, reason = floors(Objective(Plain(lambda self, x, a: a @ x), nn.CrossEntropyLoss(), inputs, Y))
    assert "on some rows of a batch alone (RuntimeError" in reason


@pytest.mark.parametrize("see", [lambda self, x: x + self.calls, lambda self, x: F.dropout(x, 0.5, training=True)])
def test_a_model_that_keeps_a_state_or_draws_has_no_floor(see):
    objective = Objective(Plain(see), nn.CrossEntropyLoss(), {"x": X}, Y).copied(torch.float64)
    targets = collect_targets(objective)
    groups = groups_by_input(objective.batches, targets)
    with pytest.raises(InputError, match="Two evaluations of the model on the same inputs differ"):
        require_own_rows(objective, targets.positions, groups, conflicting(targets, groups))
    assert not floors(objective)[0]


def test_what_has_no_row_for_each_example_is_left_out():
    _, reason = floors(
        Objective(Plain(lambda self, x, t: x * t), nn.CrossEntropyLoss(), {"x": X, "t": torch.tensor(2.0)}, Y)
    )
    assert "no row for each example" in reason


def test_everything_is_put_back():
    model = Plain(lambda self, x: x + self.gate * x**2)
    objective = Objective(model, nn.CrossEntropyLoss(), {"x": X}, Y).copied(torch.float64)
    before = [tensor.clone() for tensor in objective.parameters]
    state = torch.get_rng_state()
    value = float(objective.value())
    thalweg.certify(objective, seconds=2.0)
    assert all(map(torch.equal, before, objective.parameters))
    assert torch.equal(state, torch.get_rng_state())
    assert float(objective.value()) == value


BAGS = Batch(
    {"tokens": T([4, 5, 6, 4, 5]), "offsets": T([0, 2, 3]), "weights": T([1.0, 2.0, 3.0, 1.0, 2.0])}, T([0, 1, 1])
)


def test_bags_are_cut_into_rows():
    kind, columns = columns_of(BAGS)
    assert len(columns) == 2  # tokens and their weights
    part = some_rows(BAGS, np.array([2, 1]))
    assert part.inputs["tokens"].tolist() == [4, 5, 6]
    assert part.inputs["offsets"].tolist() == [0, 2]
    assert part.inputs["weights"].tolist() == [1.0, 2.0, 3.0]
    assert part.targets.tolist() == [1, 1]
    assert columns_of(part)[0] == kind
    found, _ = floors(Objective(Bag(8, 4), Softmax(4, 2), BAGS))
    assert found[LOSS] == pytest.approx(2 * math.log(2) / 3)
    wide = Batch({**BAGS.inputs, "more": T([[1], [2], [3]])}, BAGS.targets)
    assert len(columns_of(wide)[1]) == 3


def test_offsets_that_are_no_bags_are_inputs_like_others():
    batch = Batch({"tokens": T([4, 5, 6]), "offsets": T([2, 0, 1])}, T([0, 1, 1]))
    assert len(columns_of(batch)[1]) == 2
    with pytest.raises(InputError, match="no row for each example"):
        columns_of(Batch({"tokens": T([4, 5, 6, 7]), "offsets": T([2, 0, 1])}, T([0, 1, 1])))
