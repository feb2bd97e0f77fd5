"""Gauss-Newton and Fisher matrices against the Jacobian and the output curvature written out."""

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature.gauss_newton import EmpiricalFisher, Fisher, GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.root import gauss_newton_root
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective


def test_gauss_newton_is_the_jacobian_around_the_heads_curvature(objective, references):
    matrix = GaussNewton(objective)
    expected = references.gauss_newton(objective)
    torch.testing.assert_close(matrix.dense(), expected, rtol=1e-8, atol=1e-11)
    columns = torch.randn(matrix.size, 3)
    torch.testing.assert_close(matrix @ columns, expected @ columns, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(matrix @ columns[:, 1], expected @ columns[:, 1], rtol=1e-8, atol=1e-11)
    listed = [torch.randn_like(parameter) for parameter in objective.parameters]
    product = torch.cat([part.reshape(-1) for part in matrix @ listed])
    flat = torch.cat([part.reshape(-1) for part in listed])
    torch.testing.assert_close(product, expected @ flat, rtol=1e-8, atol=1e-11)


def test_exact_fisher_is_gauss_newton(build):
    objective = build("layer norm, softmax")
    torch.testing.assert_close(Fisher(objective).dense(), GaussNewton(objective).dense(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "name", ["layer norm, softmax", "layer norm, squared", "layer norm, bernoulli", "tied language model"]
)
def test_sampled_fisher_tends_to_the_exact_one(build, name):
    objective = build(name)
    exact = Fisher(objective).dense()
    errors = []
    for num_samples in (2, 200):
        sampled = Fisher(objective, num_samples=num_samples).dense()
        assert torch.linalg.eigvalsh(sampled).min() > -1e-12
        errors.append(float((sampled - exact).norm() / exact.norm()))
    # A hundred times the samples, a tenth of the error, within what one draw may differ.
    assert 0.03 < errors[1] / errors[0] < 0.3
    assert errors[1] < 0.15


def test_sampled_fisher_is_one_matrix_and_depends_on_its_seed(build):
    objective = build("layer norm, softmax")
    first = Fisher(objective, num_samples=2)
    vector = torch.randn(first.size)
    assert torch.equal(first @ vector, first @ vector)
    assert torch.equal(first @ vector, Fisher(objective, num_samples=2) @ vector)
    assert not torch.allclose(first @ vector, Fisher(objective, num_samples=2, seed=1) @ vector)


@pytest.mark.parametrize(
    "name", ["layer norm, softmax", "layer norm, squared", "transformer, uneven", "lstm", "tied language model"]
)
def test_empirical_fisher_is_the_sum_over_single_targets(build, references, name):
    """One backward pass for each target by its own."""
    objective = build(name)
    total, count = 0.0, 0.0
    for batch in objective.batches:
        shape = batch.targets.shape if not batch.targets.is_floating_point() else batch.targets.shape[:-1]
        real = torch.ones(shape, dtype=torch.bool) if batch.mask is None else batch.mask.expand(shape)
        for place in real.nonzero():
            single = torch.zeros(shape, dtype=torch.bool)
            single[tuple(place)] = True
            prediction = objective.prediction(batch)
            loss = objective.head.loss(prediction, batch.targets, single)[0]
            parts = torch.autograd.grad(loss, objective.parameters, materialize_grads=True)
            gradient = torch.cat([part.reshape(-1) for part in parts])
            weight = 1.0 if batch.weights is None else batch.weights[tuple(place)[: batch.weights.dim()]]
            total = total + weight * torch.outer(gradient, gradient)
        prediction = objective.prediction(batch).detach()
        count = count + objective.head.loss(prediction, batch.targets, batch.mask, batch.weights)[1]
    expected = total / count + references.penalty(objective)
    torch.testing.assert_close(EmpiricalFisher(objective).dense(), expected, rtol=1e-8, atol=1e-11)


def test_gauss_newton_is_the_hessian_of_a_linear_model(build):
    objective = build("linear")
    torch.testing.assert_close(GaussNewton(objective).dense(), Hessian(objective).dense())


def test_blocks_of_gauss_newton(build):
    objective = build("transformer")
    dense = GaussNewton(objective).dense()
    rows = torch.cat([torch.arange(p.numel()) for p in objective.parameters[:2]])
    block = GaussNewton(objective).block(objective.parameters[:2])
    torch.testing.assert_close(block.dense(), dense[: len(rows), : len(rows)])
    torch.testing.assert_close(GaussNewton(objective, objective.head).dense(), dense[-15:, -15:])


def test_a_large_vocabulary_needs_no_square_of_it(float64):
    """30,000 classes: their curvature would be a matrix of 7 GB for each target."""
    torch.set_default_dtype(torch.float32)
    model = nn.Embedding(50, 4)
    batch = Batch({"input": torch.randint(50, (6,))}, torch.randint(30_000, (6,)))
    objective = Objective(model, Softmax(4, 30_000), batch)
    matrix = GaussNewton(objective)
    vector = torch.randn(matrix.size)
    assert float(vector @ (matrix @ vector)) > 0.0


ROOTS = [
    "layer norm",
    "transformer",
    "hugging face",
    "compiled",
    "layer norm, softmax",
    "layer norm, squared",
    "tied language model",
]


@pytest.mark.parametrize("name", [*ROOTS, "bag", "batch norm in training", "lstm", "layer norm, bernoulli"])
def test_root_squares_to_gauss_newton(build, references, name):
    objective = build(name)
    root = gauss_newton_root(objective)
    expected = GaussNewton(objective).dense() - references.penalty(objective)
    torch.testing.assert_close(root.matrix.T @ root.matrix, expected, rtol=1e-8, atol=1e-11)
    assert root.per_example == (name not in {"bag", "batch norm in training", "lstm"})
    again = gauss_newton_root(objective, per_example=root.per_example)
    torch.testing.assert_close(again.matrix, root.matrix)


def test_root_of_some_parameters(build):
    objective = build("layer norm")
    torch.testing.assert_close(
        gauss_newton_root(objective, "*.bias").matrix,
        gauss_newton_root(objective).matrix[:, [*range(15, 20), *range(25, 30), *range(45, 48)]],
    )


def test_root_that_is_too_large_is_refused_with_its_size(build):
    with pytest.raises(InputError, match=r"dense matrix of 27 x 48, which takes 10\.4 kB here; at most 1 kB"):
        gauss_newton_root(build("layer norm"), max_bytes=1000)


def test_levenberg_marquardt_system_in_residual_space(float64):
    objective = Objective(
        nn.Sequential(nn.Linear(3, 30), nn.Tanh()),
        Squared(30, 1),
        Batch({"input": torch.randn(5, 3)}, torch.randn(5, 1)),
    )
    a, g, damping = gauss_newton_root(objective).matrix, torch.randn(151), 0.01
    dual = (g - a.T @ torch.linalg.solve(a @ a.T + damping * torch.eye(5), a @ g)) / damping
    expected = torch.linalg.solve(GaussNewton(objective).damped(damping).dense(), g)
    torch.testing.assert_close(dual, expected)


def test_no_samples_are_refused(build):
    with pytest.raises(ValueError, match=r"num_samples=.*at least 1, or None for the exact one; got 0"):
        Fisher(build("linear"), num_samples=0)


class Padded(nn.Module):
    """Tokens one by one through a table whose padding row is no zero."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, padding_idx=0)
        nn.init.normal_(self.table.weight)
        self.layer = nn.Linear(4, 3)

    def forward(self, tokens):
        return self.layer(torch.tanh(self.table(tokens)))


@pytest.mark.parametrize("told_by", ["mask", "ignored targets"])
def test_predictions_of_padding_that_nobody_looks_at_are_no_reason_to_refuse(told_by):
    torch.manual_seed(0)
    tokens, targets = torch.tensor([[1, 2, 0], [3, 0, 0]]), torch.tensor([[1, 0, 2], [2, 1, 1]])
    real = tokens != 0
    mask = real if told_by == "mask" else None
    targets = targets if told_by == "mask" else targets.masked_fill(~real, -100)
    objective = Objective(Padded(), Softmax(None, 3), Batch({"tokens": tokens}, targets, mask))
    rows = Objective(
        objective.model, Softmax(None, 3), Batch({"tokens": tokens[real].unsqueeze(1)}, targets[real].unsqueeze(1))
    )
    torch.testing.assert_close(GaussNewton(objective).dense(), GaussNewton(rows, check=False).dense())
