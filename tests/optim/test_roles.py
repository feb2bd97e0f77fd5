"""What each parameter is, and how it is cut into matrices."""

import pytest
import torch
from torch import nn

from thalweg.errors import InputError
from thalweg.models.transformer import Decoder
from thalweg.optim.layout import Layout
from thalweg.optim.roles import parameter_groups, roles_of

LAYOUTS = {
    "one matrix": (Layout((4, 6)), (1, 4, 6)),
    "gates": (Layout((12, 5), pieces=4), (4, 3, 5)),
    "a convolution": (Layout((4, 3, 2, 2)), (1, 4, 12)),
    "a grouped one": (Layout((4, 3, 2), pieces=2), (2, 2, 6)),
    "transposed": (Layout((4, 6), transposed=True), (1, 6, 4)),
    "blocks": (Layout((8, 6), block_size=4), (4, 4, 3)),
    "blocks that do not fit": (Layout((7, 5), block_size=4), (4, 4, 3)),
    "a divisor nearby": (Layout((12, 2), block_size=5), (3, 4, 2)),
    "a long axis": (Layout((9, 4), block_size=2, largest_axis=8), (2, 9, 2)),
    "blocks of transposed gates": (Layout((5, 12), pieces=3, transposed=True, block_size=3), (12, 2, 3)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_parameter_is_cut_and_put_together_again(name):
    layout, stacked = LAYOUTS[name]
    tensor = torch.arange(1.0, 1.0 + torch.Size(layout.shape).numel()).view(*layout.shape)
    stack = layout.split(tensor)
    assert tuple(stack.shape) == layout.stacked == stacked
    assert torch.equal(layout.merge(stack), tensor)
    assert sorted(stack[stack != 0].tolist()) == tensor.flatten().tolist()


def test_gates_are_below_each_other_and_blocks_beside_each_other():
    weight = torch.arange(24.0).view(6, 4)
    assert torch.equal(Layout((6, 4), pieces=3).split(weight)[1], weight[2:4])
    assert torch.equal(Layout((6, 4), block_size=3).split(weight)[1], weight[:3, 2:])
    assert torch.equal(
        Layout((4, 6), transposed=True, pieces=2).split(weight.view(4, 6))[1], weight.view(4, 6)[:, 3:].T
    )


def names(model: nn.Module, parameters) -> set[str]:
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return {known[id(parameter)] for parameter in parameters}


def test_roles_come_from_the_types_of_the_owners():
    model = nn.ModuleDict({
        "lstm": nn.LSTM(3, 5, proj_size=2), "gru": nn.GRUCell(3, 5), "conv": nn.Conv1d(4, 6, 3, groups=2),
        "attention": nn.MultiheadAttention(4, 2), "apart": nn.MultiheadAttention(4, 2, kdim=3),
        "norm": nn.LayerNorm((2, 3)), "batch": nn.BatchNorm1d(4), "table": nn.Embedding(9, 4),
    })  # fmt: skip
    roles = roles_of(model)
    pieces = {name: roles.pieces.get(id(parameter), 1) for name, parameter in model.named_parameters()}
    assert {name: count for name, count in pieces.items() if count > 1} == {
        "lstm.weight_ih_l0": 4, "lstm.weight_hh_l0": 4, "attention.in_proj_weight": 3, "conv.weight": 2,
        "gru.weight_ih": 3, "gru.weight_hh": 3,
    }  # fmt: skip
    assert names(model, roles.embeddings) == {"table.weight"}
    assert names(model, roles.norms) == {"norm.weight", "norm.bias", "batch.weight", "batch.bias"}
    assert {"lstm.weight_hr_l0", "apart.q_proj_weight", "attention.out_proj.weight"} <= names(model, roles.matrices)
    assert all(parameter.dim() == 1 for parameter in roles.biases)
    assert sorted(map(id, roles.all())) == sorted(map(id, model.parameters()))


def test_positions_are_a_table_and_tied_weights_too():
    from thalweg.models.transformer import LearnedPositions

    model = Decoder(9, 4, positions=LearnedPositions, max_length=8, hidden=8, heads=2, layers=1)
    head = nn.Linear(4, 9, bias=False)
    head.weight = model.embedding.weight
    roles = roles_of(model, head)
    assert names(model, roles.embeddings) == {"embedding.weight", "inputs.positions.table"}
    assert roles.output == []


def test_groups_decay_matrices_only_and_take_narrow_weights_for_no_matrices():
    model = nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 1), nn.Linear(4, 4), nn.Conv1d(4, 4, 3, groups=4))
    head = nn.Linear(4, 2)
    groups = parameter_groups(model, head, weight_decay=0.3, companion_lr=0.5)
    shapes = [
        (
            group["matrix"],
            group["weight_decay"],
            group.get("lr"),
            [tuple(p.shape) for p in group["params"] if p.dim() > 1],
        )
        for group in groups
    ]
    assert shapes == [
        (True, 0.3, None, [(4, 4)]),
        (False, 0.3, 0.5, [(4, 4), (4, 1), (4, 1, 3), (2, 4)]),
        (False, 0.0, 0.5, [(9, 4)]),
    ]
    with_output = parameter_groups(model, head, takes_output=True)
    assert [len(group["params"]) for group in with_output if group["matrix"]] == [2]
    unnamed = parameter_groups(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5000, bias=False)))
    assert [(group["matrix"], [tuple(p.shape) for p in group["params"]]) for group in unnamed] == [
        (True, [(4, 4)]), (False, [(5000, 4)]), (False, [(4,)]),
    ]  # fmt: skip
    alone = parameter_groups(nn.Embedding(9, 4), nn.Linear(4, 2000))
    assert [group["matrix"] for group in alone] == [True, False]
    with pytest.raises(InputError, match="There is nothing to train"):
        parameter_groups(nn.Identity())
