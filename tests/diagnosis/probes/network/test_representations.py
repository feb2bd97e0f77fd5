"""Ranks and cosines by hand and by pairs; vectors that never moved."""

import math

import pytest
import torch
from probe_cases import subject_of
from torch.nn import functional as F

from thalweg.diagnosis.probes.network.representations import mean_cosine, representations, spread, states_of


def test_effective_rank_is_that_of_the_singular_values():
    # Rows around zero with singular values 2 and 1: p = (2/3, 1/3).
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]]) * math.sqrt(2.0)
    found = spread(rows + torch.tensor([3.0, -7.0]))
    assert found["effective_rank"] == pytest.approx(math.exp(-2 / 3 * math.log(2 / 3) - 1 / 3 * math.log(1 / 3)))
    assert found["participation"] == pytest.approx((4.0 + 1.0) ** 2 / (16.0 + 1.0))
    assert found["first_share"] == pytest.approx(0.8)


def test_equal_rows_have_no_direction():
    found = spread(torch.full((5, 3), 0.7))
    assert found["effective_rank"] == 0.0
    assert found["cosine"] == pytest.approx(1.0)


def test_mean_cosine_is_that_of_all_pairs():
    rows = torch.randn(7, 4, dtype=torch.float64)
    pairs = F.cosine_similarity(rows.unsqueeze(0), rows.unsqueeze(1), dim=-1)
    expected = float((pairs.sum() - pairs.diagonal().sum()) / 42)
    assert mean_cosine(torch.cat([rows, torch.zeros(2, 4)])) == pytest.approx(expected)


def test_states_are_what_the_head_reads_at_real_targets():
    subject = subject_of("decoder")
    batch = subject.train[0]
    rows, _ = states_of(subject.objective(), batch)
    assert len(rows) == int(batch.mask.sum())


def test_states_of_a_loss_without_a_layer_are_before_the_last_linear_layer():
    subject = subject_of("sequential")
    found = representations(subject)
    assert (found["of"], found["states"]["dimension"]) == ("the input of '4'", 6)
    assert found["embeddings"] == {}


def test_vectors_in_use_are_compared_with_the_start():
    subject = subject_of("lstm")
    found = representations(subject)["embeddings"]["embedding"]
    tokens = torch.cat([batch.inputs["tokens"].flatten() for batch in subject.train])
    used = tokens[tokens != 0].unique()
    start = subject.initial()[0].embedding.weight.detach()
    same = (subject.model.embedding.weight.detach()[used] == start[used]).all(1)
    assert found["used"] == len(used)
    assert found["unmoved_share"] == pytest.approx(float(same.float().mean()))
    assert 0.0 < found["unmoved_share"] < 1.0


def test_long_vectors_are_named():
    subject = subject_of("lstm")
    subject.model.embedding.weight.data[5] *= 100.0
    found = representations(subject)["embeddings"]["embedding"]
    assert found["outliers"] == [5]
