"""Columns against NumPy; tokens and mixing of labels by hand; inputs that do not matter."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from probe_cases import bag_batch, subject_of, text_batch
from torch import nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.inputs import inputs, of_columns, order
from thalweg.diagnosis.subject import Facts, Subject
from thalweg.heads import Softmax


def test_columns_are_those_of_numpy():
    rows = np.random.default_rng(0).gamma(2.0, size=(200, 3)) * [1.0, 50.0, 0.01]
    found = of_columns(torch.from_numpy(rows))
    for i, column in enumerate(found["columns"]):
        values = rows[:, i]
        assert [column[key] for key in ("mean", "std", "min", "max")] == pytest.approx(
            [values.mean(), values.std(), values.min(), values.max()]
        )
        assert column["skew"] == pytest.approx(scipy.stats.skew(values))
        assert column["offset"] == pytest.approx(abs(values.mean()) / values.std())
    deviations = rows.std(0)
    assert found["scale_range"] == pytest.approx(deviations.max() / deviations.min())
    assert found["condition"] == pytest.approx(np.linalg.cond(np.corrcoef(rows.T)))


def test_constant_and_missing_numbers_are_told():
    rows = torch.randn(50, 3)
    rows[:, 1] = 1e6
    rows[0, 0] = float("nan")
    found = of_columns(rows)
    assert found["constant"] == [1]
    assert found["non_finite"] == pytest.approx(1 / 150)
    assert found["columns"][0]["mean"] == pytest.approx(float(rows[1:, 0].mean()), rel=1e-5)
    assert found["scale_range"] < 2.0


def test_columns_that_repeat_each_other_are_ill_conditioned():
    x = torch.randn(100, 1, dtype=torch.float64)
    assert of_columns(torch.cat([x, 2.0 * x + 1.0], 1))["condition"] > 1e10


def test_tokens_are_counted():
    tokens = torch.tensor([[5, 1, 0, 0], [5, 7, 7, 7], [5, 1, 0, 0]])
    batch = Batch({"tokens": tokens, "mask": tokens != 0}, torch.tensor([0, 1, 1]))
    subject = dataclasses.replace(subject_of("lstm", task="classify"), train=[batch])
    found = inputs(subject)["tokens"]["tokens"]
    assert found == {
        "padding_share": pytest.approx(4 / 12),
        "unknown_share": pytest.approx(2 / 8),
        "distinct": 3,
        "distinct_share": pytest.approx(2 / 3),
        "longest": 4,
        "mean_length": pytest.approx(8 / 3),
        "empty_share": 0.0,
        "most_frequent_share": pytest.approx(3 / 8),
    }


def test_bags_are_counted():
    batch = Batch({"tokens": torch.tensor([4, 4, 9]), "offsets": torch.tensor([0, 2, 3])}, torch.tensor([0, 1, 1]))
    found = inputs(dataclasses.replace(subject_of("mlp"), train=[batch]))["tokens"]["tokens"]
    assert (found["distinct"], found["longest"], found["empty_share"]) == (2, 2, pytest.approx(1 / 3))


def test_inputs_that_do_not_matter_leave_the_loss_as_it_is():
    class Blind(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    batch = Batch({"x": torch.randn(20, 4)}, torch.arange(20) % 2)
    found = inputs(Subject(model=Blind(), head=Softmax(4, 2), train=[batch]))
    assert found["shuffled_difference"] == 0.0


@pytest.mark.parametrize("batch", [text_batch, bag_batch])
def test_inputs_that_matter_change_the_loss(batch):
    class First(nn.Module):
        """Knows the answer: the first token."""

        def forward(self, tokens, mask=None, offsets=None):
            first = tokens[:, 0] if offsets is None else tokens[offsets]
            return 9.0 * nn.functional.one_hot(first % 3, 3).float()

    head = Softmax(None, None)
    found = inputs(Subject(model=First(), head=head, train=[batch(16, seed) for seed in range(4)]))
    assert found["loss"] < 0.01
    assert found["shuffled_difference"] > 3.0 * found["shuffled_error"]


def mixed(targets, steps=10):
    parts = targets.chunk(steps)
    batches = [Batch({"x": torch.zeros(len(part), 1)}, part) for part in parts]
    facts = Facts(steps=steps)
    return order(
        Subject(
            model=nn.Identity(), head=Softmax(1, 2), train=batches, facts=facts, in_order=lambda step: [batches[step]]
        )
    )


def test_labels_in_order_clump():
    targets = torch.arange(200) % 4
    shuffled = targets[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    found, clumped = mixed(shuffled), mixed(targets.sort().values)
    table = np.stack([np.bincount(part, minlength=4) for part in shuffled.numpy().reshape(10, 20)])
    shares = (table.sum(0) + 0.5) / (table.sum(0) + 0.5).sum()
    expected = sum(scipy.stats.chisquare(row, 20 * shares).statistic for row in table) / (10 * 3)
    assert found["label_clumping"] == pytest.approx(expected)
    assert found["label_clumping"] < 2.0
    assert clumped["label_clumping"] > 10.0
    assert clumped["one_label_share"] > 0.5


def test_steps_that_see_one_label_only():
    """The others may come later; what is drawn at random knows of them."""
    first, rest = torch.zeros(40, dtype=torch.long), torch.ones(40, dtype=torch.long)
    batches = [Batch({"x": torch.zeros(20, 1)}, part) for part in torch.cat([first, rest]).chunk(4)]
    subject = Subject(model=nn.Identity(), head=Softmax(1, 2), train=batches, facts=Facts(steps=2),
                      in_order=lambda step: [batches[step]])  # fmt: skip
    found = order(subject)
    assert found["one_label_share"] == 1.0
    assert found["label_clumping"] > 10.0


def test_order_is_of_classes_and_of_known_batches():
    assert order(subject_of("sequential")) == {}
    assert order(dataclasses.replace(subject_of("mlp"), in_order=None)) == {}
