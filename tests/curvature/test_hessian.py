"""The Hessian against double backward row by row, against differences of gradients, and against itself."""

import copy

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature.culprit import CurvatureError
from thalweg.curvature.hessian import Hessian, Scheme
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective

# What forward differentiation cannot do: it must refuse, with the way out.
NO_FORWARD = ("checkpointed", "chunked")


def test_dense_equals_differences_of_gradients(objective, references):
    rows, expected = references.rows_by_differences(objective)
    assert (Hessian(objective).dense()[rows] - expected).norm() <= 3e-6 * expected.norm()


def test_dense_equals_double_backward_row_by_row(twice_differentiated, references):
    rows, expected = references.rows_by_double_backward(twice_differentiated)
    torch.testing.assert_close(Hessian(twice_differentiated).dense()[rows], expected, rtol=1e-9, atol=1e-11)


# One case for each way through the graph: plain layers, replaced functions, shared and padded tables, micro-batches.
some_cases = pytest.mark.parametrize(
    "case",
    [
        "linear",
        "layer norm",
        "batch norm, uneven",
        "bag, uneven",
        "sparse embedding",
        "weight norm",
        "gru",
        "transformer",
        "checkpointed",
        "compiled",
        "layer norm, chunked softmax",
        "tied language model",
    ],
    indirect=True,
)


@some_cases
def test_products_of_lists_vectors_and_columns_are_those_of_the_dense_matrix(objective):
    hessian = Hessian(objective)
    dense = hessian.dense()
    columns = torch.randn(hessian.size, 3)
    torch.testing.assert_close(hessian @ columns, dense @ columns, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(hessian @ columns[:, 0], dense @ columns[:, 0], rtol=1e-9, atol=1e-11)
    listed = [torch.randn_like(parameter) for parameter in objective.parameters]
    product = hessian @ listed
    assert [part.shape for part in product] == [parameter.shape for parameter in objective.parameters]
    flat = torch.cat([part.reshape(-1) for part in listed])
    torch.testing.assert_close(torch.cat([part.reshape(-1) for part in product]), dense @ flat, rtol=1e-9, atol=1e-11)


@some_cases
def test_a_graph_made_anew_gives_the_same(objective):
    kept, rebuilt = Hessian(objective), Hessian(objective, scheme=Scheme.REBUILT_GRAPH)
    columns = torch.randn(kept.size, 2)
    torch.testing.assert_close(rebuilt @ columns, kept @ columns, rtol=1e-8, atol=1e-11)


@some_cases
def test_forward_over_reverse_gives_the_same_or_refuses(case, objective):
    kept, forward = Hessian(objective), Hessian(objective, scheme=Scheme.FORWARD_OVER_REVERSE)
    columns = torch.randn(kept.size, 2)
    if any(part in case for part in NO_FORWARD):
        with pytest.raises(CurvatureError, match=r"Leave scheme at its default, Scheme\.KEPT_GRAPH"):
            forward @ columns
    else:
        torch.testing.assert_close(forward @ columns, kept @ columns, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["layer norm, softmax", "transformer", "lstm, uneven", "tied language model"])
def test_blocks_are_blocks(build, name):
    objective = build(name)
    dense = Hessian(objective).dense()
    sizes = [parameter.numel() for parameter in objective.parameters]
    for positions in ([1], [2, 0], list(range(0, len(sizes), 2))):
        positions = sorted(positions)
        chosen = [objective.parameters[i] for i in positions]
        rows = torch.cat([torch.arange(sizes[i]) + sum(sizes[:i]) for i in positions])
        expected = dense[rows][:, rows]
        of_whole, own = Hessian(objective).block(chosen), Hessian(objective, chosen)
        vector = torch.randn(len(rows))
        for block in (of_whole, own):
            torch.testing.assert_close(block.dense(), expected, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(block @ vector, expected @ vector, rtol=1e-9, atol=1e-12)
    inner = Hessian(objective).restricted([0, 2, 1]).restricted([1])
    torch.testing.assert_close(inner.dense(), Hessian(objective, [objective.parameters[1]]).dense())


def test_blocks_are_chosen_by_name_and_by_layer(build):
    objective = build("layer norm, softmax")
    hessian = Hessian(objective)
    assert [tuple(t.shape) for t in hessian.block("body.0.*").like] == [(5, 3), (5,)]
    assert [tuple(t.shape) for t in hessian.block("*.bias").like] == [(5,), (5,), (3,)]
    assert [tuple(t.shape) for t in hessian.block(objective.head).like] == [(3, 5), (3,)]
    with pytest.raises(
        ValueError, match=r"fits no trainable parameter; there are: body\.0\.weight, .*head\.output\.bias"
    ):
        hessian.block("layers.*")
    with pytest.raises(ValueError, match="1 of 1 tensors given are none"):
        hessian.block([nn.Parameter(torch.ones(1))])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_func_hessian_is_wrong_with_layer_norm_and_ours_is_not(float64, references):
    """PyTorch's batched reverse mode takes the saved mean and deviation of a layer norm for constants.

    Should the first assertion fail one day, PyTorch has mended it, and the documentation may say so.
    """
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3))
    inputs, targets = torch.randn(20, 4), torch.randint(3, (20,))
    objective = Objective(model, nn.CrossEntropyLoss(), inputs, targets)
    rows, expected = references.rows_by_differences(objective, most=1000)
    expected = expected[rows.argsort()]

    def loss(parameters):
        return nn.functional.cross_entropy(torch.func.functional_call(model, parameters, (inputs,)), targets)

    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    blocks = torch.func.hessian(loss)(parameters)
    theirs = torch.cat(
        [torch.cat([blocks[a][b].reshape(parameters[a].numel(), -1) for b in parameters], dim=1) for a in parameters]
    )
    assert (theirs - expected).norm() > 1e-3 * expected.norm()
    assert (theirs - theirs.T).norm() > 1e-3 * expected.norm()
    ours = Hessian(objective).dense()
    assert (ours - expected).norm() < 1e-7 * expected.norm()


def test_the_matrix_belongs_to_its_point(build):
    objective = build("tanh")
    hessian = Hessian(objective)
    vector = torch.randn(hessian.size)
    before = hessian @ vector
    with torch.no_grad():
        objective.parameters[0].add_(1.0)
    with pytest.raises(RuntimeError, match="The parameters have changed since this curvature matrix was made"):
        hessian @ vector
    assert not torch.allclose(Hessian(objective) @ vector, before)


@pytest.mark.parametrize("name", ["batch norm, uneven", "hugging face", "tied language model", "lstm"])
def test_nothing_is_left_changed(build, name):
    """Parameters, buffers, gradients, modules and random numbers are what they were."""
    objective = build(name)
    before = copy.deepcopy((objective.model.state_dict(), objective.head.state_dict()))
    owners = [id(parameter) for parameter in objective.parameters]
    held = [torch.full_like(parameter, 7.0) for parameter in objective.parameters]
    for parameter, gradient in zip(objective.parameters, held, strict=True):
        parameter.grad = gradient
    state = torch.get_rng_state()
    Hessian(objective) @ torch.randn(sum(p.numel() for p in objective.parameters), generator=torch.Generator())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is gradient for p, gradient in zip(objective.parameters, held, strict=True))
    after = objective.model.state_dict(), objective.head.state_dict()
    for old, new in zip(before, after, strict=True):
        assert all(torch.equal(old[key], new[key]) for key in old)
    assert {id(p) for p in [*objective.model.parameters(), *objective.head.parameters()]} == set(owners)
    assert torch.backends.mkldnn.enabled
    assert torch.backends.mha.get_fastpath_enabled()


def test_products_are_counted(build):
    objective = build("tanh")
    hessian = Hessian(objective, check=False)
    hessian @ torch.randn(hessian.size)
    assert objective.num_products == 1
    Hessian(objective, check=False, scheme=Scheme.REBUILT_GRAPH) @ torch.randn(hessian.size, 3)
    assert objective.num_products == 4
    # Before batched columns are believed, one of them is multiplied alone.
    checked = Hessian(objective)
    checked @ torch.randn(hessian.size)
    before = objective.num_products
    checked @ torch.randn(hessian.size, 3)
    checked @ torch.randn(hessian.size, 3)
    assert objective.num_products == before + 3 + 1 + 3


def test_float32_relu_network_passes_its_own_check():
    """In float32 a difference of gradients would step over thousands of kinks; the check takes it in float64."""
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
    objective = Objective(model, nn.CrossEntropyLoss(), torch.randn(500, 20), torch.randint(5, (500,)))
    vector = [torch.randn_like(parameter) for parameter in objective.parameters]
    product = torch.cat([part.reshape(-1) for part in Hessian(objective) @ vector])
    double = copy.deepcopy(model).double()
    (batch,) = objective.batches
    exact = Objective(double, nn.CrossEntropyLoss(), batch.inputs["inputs"].double(), batch.targets)
    expected = torch.cat([part.reshape(-1) for part in Hessian(exact) @ [part.double() for part in vector]])
    assert (product - expected).norm() <= 1e-5 * expected.norm()


def test_autocast_is_checked_with_the_tolerance_of_its_type():
    objective = Objective(
        nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)),
        nn.CrossEntropyLoss(),
        torch.randn(64, 8),
        torch.randint(3, (64,)),
        autocast=torch.bfloat16,
    )
    vector = [torch.randn_like(parameter) for parameter in objective.parameters]
    product = torch.cat([part.reshape(-1) for part in Hessian(objective) @ vector])
    (batch,) = objective.batches
    plain = Objective(objective.model, nn.CrossEntropyLoss(), batch.inputs["inputs"], batch.targets)
    expected = torch.cat([part.reshape(-1) for part in Hessian(plain) @ vector])
    assert 0.0 < (product - expected).norm() < 0.05 * expected.norm()


def test_frozen_parameters_are_left_out(build):
    objective = build("layer norm, softmax")
    whole = Hessian(objective).dense()
    first, *_ = objective.model.parameters()
    first.requires_grad_(False)
    fewer = Objective(objective.model, objective.head, objective.batches, l2=objective.l2)
    torch.testing.assert_close(Hessian(fewer).dense(), whole[15:, 15:])


def test_a_quadratic_has_its_matrix(float64):
    inputs = torch.randn(7, 4)
    model = nn.Linear(4, 1, bias=False)
    objective = Objective(model, nn.MSELoss(), inputs, torch.randn(7, 1), l2=0.5)
    torch.testing.assert_close(Hessian(objective).dense(), 2.0 * inputs.T @ inputs / 7 + 0.5 * torch.eye(4))


def test_unused_parameters_have_no_curvature(float64):
    model = nn.ModuleDict({"used": nn.Linear(2, 3), "unused": nn.Linear(2, 2)})
    model.forward = lambda x: model["used"](x)
    batch = Batch({"x": torch.randn(5, 2)}, torch.randint(3, (5,)))
    hessian = Hessian(Objective(model, Softmax(None, None), batch))
    dense = hessian.dense()
    assert dense[:9, :9].abs().max() > 0
    assert not dense[9:].any()
    assert not (hessian @ torch.ones(hessian.size))[9:].any()
