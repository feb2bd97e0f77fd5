"""Kronecker factors against Gauss-Newton matrices written out, where the products are exact, and against curvlinops."""

import warnings

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature.diagonal import penalty_diagonal
from thalweg.curvature.eigenbasis import Eigenbasis, KroneckerInverse, second_moments
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.kronecker import Block, Sharing, kronecker_factors, matrix_of, parts_of
from thalweg.curvature.layers import layer_uses
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.crf import CRF
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.heads.targets import Targets
from thalweg.heads.vmf import VonMisesFisher
from thalweg.objective import Objective

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, when it is imported
    import curvlinops

# All of their parameters are in layers with factors, and each example has one target, so that no sign leaves noise.
ONE_TARGET = (
    "linear", "tanh", "relu", "layer norm", "bag", "torch bag, sum", "torch bag, sparse mean", "torch bag, padded",
    "checkpointed", "compiled", "layer norm, softmax", "layer norm, squared", "bag, uneven",
)  # fmt: skip


def full(side):
    return torch.diag(side) if side.dim() == 1 else side


def dense(block):
    return torch.kron(full(block.left), full(block.right))


def gauss_newton_of(objective, parameters, block):
    """The Gauss-Newton matrix of a block's parameters, without the penalty, in the order of the block's matrix."""
    chosen = [parameters[i] for i in block.members]
    penalties = torch.diag(penalty_diagonal(objective, chosen))
    matrix = GaussNewton(objective, chosen, check=False).dense() - penalties
    places = torch.arange(len(matrix)).split([tensor.numel() for tensor in chosen])
    order = matrix_of(block.shape, [p.reshape(t.shape) for p, t in zip(places, chosen, strict=True)]).reshape(-1)
    return matrix[order][:, order]


def matrices(objective, parameters=None, **options):
    """Each block's product, and the matrix that it stands for."""
    parameters = objective.parameters if parameters is None else parameters
    blocks = kronecker_factors(objective, parameters, **options)
    return [(dense(block), gauss_newton_of(objective, parameters, block)) for block in blocks]


@pytest.mark.parametrize("num_samples", [None, 2])
@pytest.mark.parametrize("sharing", Sharing, ids=lambda sharing: sharing.name)
def test_every_parameter_of_every_model_is_in_one_block(objective, sharing, num_samples):
    blocks = kronecker_factors(objective, objective.parameters, num_samples=num_samples, sharing=sharing)
    members = [i for block in blocks for i in block.members]
    assert sorted(members) == list(range(len(objective.parameters)))
    for block in blocks:
        own = [objective.parameters[i].detach() for i in block.members]
        matrix = matrix_of(block.shape, own)
        assert all(torch.equal(*pair) for pair in zip(parts_of(matrix, own), own, strict=True))
        for side in (block.left, block.right):
            values = torch.linalg.eigvalsh(side) if side.dim() == 2 else side
            assert values.min() >= -1e-12 * (1.0 + values.max())


@pytest.mark.parametrize("case", ONE_TARGET)
def test_moments_have_the_trace_of_the_matrix_where_each_example_has_one_target(case, build):
    objective = build(case)
    blocks = kronecker_factors(objective, objective.parameters)
    moments = second_moments(objective, objective.parameters, [Eigenbasis.of(block) for block in blocks])
    for block, found in zip(blocks, moments, strict=True):
        expected = gauss_newton_of(objective, objective.parameters, block).trace()
        torch.testing.assert_close(found.sum(), expected, rtol=1e-9, atol=1e-12)


HEADS = {
    "softmax": (lambda: Softmax(3, 4, label_smoothing=0.1), lambda: torch.tensor([2])),
    "cross-entropy with weights": (
        lambda: nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 1.0])),
        lambda: torch.tensor([1]),
    ),
    "squared": (lambda: Squared(3, 2), lambda: torch.randn(1, 2)),
    "mean squared error": (nn.MSELoss, lambda: torch.randn(1, 3)),
    "bernoulli": (lambda: Bernoulli(3, 2), lambda: torch.tensor([[1.0, 0.0]])),
    "logits": (nn.BCEWithLogitsLoss, lambda: torch.tensor([[1.0, 0.0, 1.0]])),
    "von Mises-Fisher": (
        lambda: VonMisesFisher(3, Targets(nn.functional.normalize(torch.randn(5, 4)))),
        lambda: torch.tensor([3]),
    ),
    "chain": (lambda: CRF(3, 2), lambda: torch.tensor([[1]])),
}


@pytest.mark.parametrize("name", HEADS)
def test_one_example_makes_the_product_exact_for_every_head(name, float64):
    torch.manual_seed(1)
    make, target = HEADS[name]
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    x = torch.randn(1, 5) if name != "chain" else torch.randn(1, 1, 5)
    objective = Objective(model, make(), x, target(), l2=0.1)
    layers = [tensor for key, tensor in objective.named_parameters() if "transitions" not in key]
    found = matrices(objective, layers)
    assert len(found) == len(layers) // 2  # weight and bias together
    for product, expected in found:
        torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-12)
        assert expected.norm() > 1e-4


def deep_linear(*, pooled):
    """A linear network of three layers on positions, with a loss for each of them or for their mean."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    if pooled:
        model.append(Mean())
    targets = torch.randn(6, 2) if pooled else torch.randn(6, 4, 2)
    return Objective(model, Squared(), torch.randn(6, 4, 3), targets)


class Mean(nn.Module):
    def forward(self, inputs):
        return inputs.mean(1)


@pytest.mark.parametrize(
    ("pooled", "sharing"), [(False, Sharing.EXPAND), (True, Sharing.REDUCE)], ids=["expand", "reduce"]
)
def test_the_products_are_exact_for_deep_linear_networks(pooled, sharing, float64):
    for product, expected in matrices(deep_linear(pooled=pooled), sharing=sharing):
        torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-12)


def test_the_other_way_of_sharing_is_not_exact(float64):
    product, expected = matrices(deep_linear(pooled=True), sharing=Sharing.EXPAND)[0]
    assert (product - expected).norm() > 0.1 * expected.norm()


def two_layers():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


LOSSES = {
    "softmax": (nn.CrossEntropyLoss(), lambda: torch.randint(3, (8,))),
    "squared": (nn.MSELoss(), lambda: torch.randn(8, 3)),
}


@pytest.mark.parametrize("corrected", [False, True], ids=["factors", "corrected"])
@pytest.mark.parametrize("name", LOSSES)
def test_curvlinops_has_the_same_blocks(name, corrected, float64):
    model, (loss, targets) = two_layers(), LOSSES[name]
    x, y = torch.randn(8, 4), targets()
    objective = Objective(model, loss, x, y)
    operator = curvlinops.EKFACLinearOperator if corrected else curvlinops.KFACLinearOperator
    theirs = operator(model, loss, objective.parameters, [(x, y)], fisher_type="type-2", separate_weight_and_bias=False)
    theirs = theirs @ torch.eye(theirs.shape[1], dtype=torch.float64)
    blocks, start = kronecker_factors(objective, objective.parameters), 0
    moments = second_moments(objective, objective.parameters, [Eigenbasis.of(block) for block in blocks])
    for block, moment in zip(blocks, moments, strict=True):
        sizes = [objective.parameters[i].numel() for i in block.members]
        places = torch.arange(start, start + sum(sizes)).split(sizes)
        like = [objective.parameters[i] for i in block.members]
        order = matrix_of(block.shape, [p.reshape(t.shape) for p, t in zip(places, like, strict=True)]).reshape(-1)
        ours = dense(block)
        if corrected:
            basis = Eigenbasis.of(block)
            turn = torch.kron(basis.left_vectors, basis.right_vectors)
            ours = turn @ torch.diag(moment.reshape(-1)) @ turn.T
        torch.testing.assert_close(ours, theirs[order][:, order], rtol=1e-8, atol=1e-10)
        start += sum(sizes)


def test_moments_are_the_diagonal_in_the_eigenvectors_and_never_farther_from_the_matrix(float64):
    model = two_layers()
    objective = Objective(model, nn.CrossEntropyLoss(), torch.randn(8, 4), torch.randint(3, (8,)))
    blocks = kronecker_factors(objective, objective.parameters)
    bases = [Eigenbasis.of(block) for block in blocks]
    for block, basis, found in zip(blocks, bases, second_moments(objective, objective.parameters, bases), strict=True):
        matrix = gauss_newton_of(objective, objective.parameters, block)
        turn = torch.kron(basis.left_vectors, basis.right_vectors)
        torch.testing.assert_close(found.reshape(-1), (turn.T @ matrix @ turn).diagonal(), rtol=1e-9, atol=1e-12)
        corrected = turn @ torch.diag(found.reshape(-1)) @ turn.T
        assert (corrected - matrix).norm() < (dense(block) - matrix).norm()


def test_positions_count_in_the_moments_as_one_example(float64):
    """The gradient of an example is the sum over its positions, whatever the factors make of them."""
    objective = deep_linear(pooled=True)
    blocks = kronecker_factors(objective, objective.parameters)
    moments = second_moments(objective, objective.parameters, [Eigenbasis.of(block) for block in blocks])
    for block, found in zip(blocks, moments, strict=True):
        expected = gauss_newton_of(objective, objective.parameters, block).trace()
        torch.testing.assert_close(found.sum(), expected, rtol=1e-9, atol=1e-12)


def test_samples_agree_with_the_columns_on_average(float64):
    model = two_layers()
    objective = Objective(model, nn.CrossEntropyLoss(), torch.randn(8, 4), torch.randint(3, (8,)))
    exact = kronecker_factors(objective, objective.parameters)
    sampled = kronecker_factors(objective, objective.parameters, num_samples=2000)
    for one, other in zip(exact, sampled, strict=True):
        assert (one.left - other.left).norm() < 0.1 * one.left.norm()
        torch.testing.assert_close(one.right, other.right)


class Tokens(nn.Module):
    """A table and a layer, token by token; the loss of each is its own."""

    def __init__(self, head=None):
        super().__init__()
        self.table, self.layer = nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 4)

    def forward(self, tokens):
        return self.layer(torch.tanh(self.table(tokens)))


@pytest.mark.parametrize("sharing", Sharing, ids=lambda sharing: sharing.name)
def test_padding_does_not_count(sharing, float64):
    torch.manual_seed(5)
    model = Tokens()
    head = Softmax(4, 3)
    texts = [torch.randint(1, 7, (1, time)) for time in (5, 3)]
    targets = [torch.randint(3, text.shape) for text in texts]
    apart = [Batch({"tokens": text}, target) for text, target in zip(texts, targets, strict=True)]
    padded = Batch(
        {"tokens": torch.cat([nn.functional.pad(text, (0, 6 - text.shape[1])) for text in texts])},
        torch.cat([nn.functional.pad(target, (0, 6 - target.shape[1])) for target in targets]),
        torch.arange(6) < torch.tensor([[5], [3]]),
    )
    found = []
    for batches in (apart, padded):
        objective = Objective(model, head, batches)
        found.append(kronecker_factors(objective, objective.parameters, sharing=sharing))
    table = found[0][0]
    torch.testing.assert_close(table.left.sum(), torch.tensor(1.0))  # frequencies of the tokens
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.right, other.right)
        if sharing is Sharing.EXPAND:  # else the signs between an example's targets leave noise
            torch.testing.assert_close(one.left, other.left)


def test_micro_batches_add_up_to_the_batch(float64):
    torch.manual_seed(6)
    model = two_layers()
    x, y, weights = torch.randn(8, 4), torch.randint(3, (8,)), torch.rand(8)
    parts = [Batch({"input": x[some]}, y[some], None, weights[some]) for some in (slice(5), slice(5, 8))]
    whole = Objective(model, Softmax(None, 3), Batch({"input": x}, y, None, weights))
    split = whole.on(parts)
    for one, other in zip(*(kronecker_factors(o, o.parameters) for o in (whole, split)), strict=True):
        torch.testing.assert_close(one.left, other.left)
        torch.testing.assert_close(one.right, other.right)


def test_tied_parameters_keep_the_partial_traces_of_both_layers(build):
    objective = build("tied language model")
    table = objective.model.embedding.weight
    twin = objective.head.output.weight
    assert twin is table
    (block,) = kronecker_factors(objective, [table], num_samples=3)
    objective.head.output.weight = nn.Parameter(table.detach().clone())
    as_table, as_layer = kronecker_factors(objective, [table, objective.head.output.weight], num_samples=3)
    # The table's rows are a diagonal, so the sum's are.
    left = as_table.left * as_table.right.trace() + as_layer.left.diagonal() * as_layer.right.trace()
    right = as_table.right * as_table.left.sum() + as_layer.right * as_layer.left.trace()
    torch.testing.assert_close(block.left * block.right.trace(), left)
    torch.testing.assert_close(block.right * block.left.sum(), right)


def test_a_long_side_is_a_diagonal(float64):
    model = two_layers()
    objective = Objective(model, nn.CrossEntropyLoss(), torch.randn(8, 4), torch.randint(3, (8,)))
    full_blocks = kronecker_factors(objective, objective.parameters)
    for one, other in zip(full_blocks, kronecker_factors(objective, objective.parameters, max_side=4), strict=True):
        for side, cut in ((one.left, other.left), (one.right, other.right)):
            torch.testing.assert_close(cut, side if len(side) <= 4 else side.diagonal())


def test_layers_are_found_whoever_changes_their_output_in_place():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    plain = nn.Sequential(model[0], nn.ReLU(), model[2])
    x, y = torch.randn(9, 3), torch.randn(9, 2)
    found = [Objective(network, nn.MSELoss(), x, y) for network in (model, plain)]
    for one, other in zip(*(kronecker_factors(o, o.parameters) for o in found), strict=True):
        assert torch.equal(one.left, other.left)
        assert torch.equal(one.right, other.right)


def test_only_what_has_a_wanted_parameter_is_noted():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    with layer_uses({id(model[1].bias): 0, id(model[2].weight): 1}) as uses:
        model(torch.randn(5, 3))
    assert [(use.members, use.outputs, use.inputs) for use in uses] == [((0,), 4, 1), ((1,), 2, 4)]


def test_the_damped_inverse(float64):
    """Added where the diagonal was measured; split over the factors where it is a product."""
    torch.manual_seed(7)
    left, right = (torch.randn(n, 9) for n in (3, 4))
    block = Block((0, 1), left @ left.T, right @ right.T)
    like, damping = [torch.randn(3, 3), torch.randn(3)], 0.7
    flat = torch.cat([tensor.reshape(-1) for tensor in like])
    vector = matrix_of(block.shape, like).reshape(-1)
    basis = Eigenbasis.of(block)
    ratio = (block.left.trace() / 3 / (block.right.trace() / 4)).sqrt()
    split = torch.kron(
        block.left + ratio * damping**0.5 * torch.eye(3), block.right + damping**0.5 / ratio * torch.eye(4)
    )
    moments = torch.rand(3, 4)
    turn = torch.kron(basis.left_vectors, basis.right_vectors)
    added = turn @ torch.diag(moments.reshape(-1)) @ turn.T + damping * torch.eye(12)
    corrected = Eigenbasis.unpacked({**basis.packed(), "moments": moments})
    for each, matrix in ((basis, split), (corrected, added)):
        inverse = KroneckerInverse([each], like, [damping, damping])
        expected = parts_of(torch.linalg.solve(matrix, vector).reshape(3, 4), like)
        torch.testing.assert_close(inverse @ flat, torch.cat([part.reshape(-1) for part in expected]))
