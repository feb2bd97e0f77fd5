"""Token tables: their scale, and padding."""

import pytest
import torch

from thalweg.models.embedding import ScaledEmbedding, reset_token_table, token_table, token_tables


def test_token_vectors_have_length_one_and_entries_of_size_one_when_scaled():
    torch.manual_seed(0)
    table = token_table(2000, 64)
    assert table.weight[1:].norm(dim=1).mean().item() == pytest.approx(1.0, abs=0.02)
    vectors = ScaledEmbedding(table)(torch.arange(1, 2000))
    assert vectors.std().item() == pytest.approx(1.0, abs=0.02)


def test_padding_has_the_zero_vector_and_no_gradient():
    table = token_table(5, 8)
    vectors = ScaledEmbedding(table)(torch.tensor([[0, 3]]))
    assert torch.count_nonzero(vectors[0, 0]) == 0
    vectors.sum().backward()
    assert torch.count_nonzero(table.weight.grad[0]) == 0
    assert torch.count_nonzero(table.weight.grad[3]) == 8


def test_reset_draws_anew_with_the_scale_asked_for():
    torch.manual_seed(0)
    table = token_table(2000, 64)
    reset_token_table(table, 0.5)
    assert table.weight[1:].norm(dim=1).mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.count_nonzero(table.weight[0]) == 0


def test_token_table_refuses_nothing_to_hold():
    with pytest.raises(ValueError, match="at least 1; got 0, 4"):
        token_table(0, 4)


def test_two_sides_share_a_table_where_their_vocabulary_is_one():
    source, target = token_tables(7, 7, 4, True)
    assert source is target
    source, target = token_tables(7, 9, 4, False)
    assert (source.num_embeddings, target.num_embeddings) == (7, 9)
    with pytest.raises(ValueError, match="takes one vocabulary; got 7 and 9"):
        token_tables(7, 9, 4, True)
