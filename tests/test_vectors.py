import pytest
import torch

from thalweg import vectors


def shapes():
    return [
        torch.randn(3, 2, dtype=torch.float64),
        torch.randn(4, dtype=torch.float64),
        torch.randn((), dtype=torch.float64),
    ]


def test_dot_and_norm_are_those_of_the_flat_vector():
    x, y = shapes(), shapes()
    flat_x, flat_y = vectors.flatten(x), vectors.flatten(y)
    assert torch.isclose(vectors.dot(x, y), flat_x @ flat_y, rtol=1e-14)
    assert torch.isclose(vectors.norm(x), flat_x.norm(), rtol=1e-14)


def test_split_undoes_flatten_and_gives_views():
    x = shapes()
    flat = vectors.flatten(x)
    parts = vectors.split(flat, x)
    assert all(torch.equal(part, tensor) for part, tensor in zip(parts, x, strict=True))
    flat.zero_()
    assert all(float(part.abs().sum()) == 0.0 for part in parts)


def test_split_refuses_a_wrong_length():
    with pytest.raises(ValueError, match="needs 11 numbers for these shapes; got 5"):
        vectors.split(torch.zeros(5), shapes())


def test_rows_are_flat_vectors_one_below_the_other():
    vector = shapes()
    stacks = vectors.split_rows(torch.stack([vectors.flatten(vector), torch.zeros(11)]), vector)
    assert [tuple(stack.shape) for stack in stacks] == [(2, *tensor.shape) for tensor in vector]
    assert all(torch.equal(stack[0], tensor) for stack, tensor in zip(stacks, vector, strict=True))
    torch.testing.assert_close(vectors.flatten_rows(stacks)[0], vectors.flatten(vector))


def test_add_and_copy_change_in_place():
    x, y = shapes(), shapes()
    before = vectors.clone(x)
    vectors.add_(x, y, scale=-2.0)
    for now, old, other in zip(x, before, y, strict=True):
        torch.testing.assert_close(now, old - 2 * other)
    vectors.copy_(x, before)
    assert all(torch.equal(now, old) for now, old in zip(x, before, strict=True))


def test_empty_lists_are_zero_vectors():
    assert float(vectors.norm([])) == 0.0
    assert float(vectors.dot([], [])) == 0.0
    vectors.add_([], [])
    assert len(vectors.flatten([])) == 0


def test_trainable_leaves_out_frozen_and_repeated_parameters():
    a, b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    assert vectors.trainable([a, b, a]) == [a]
