"""Parts of batches: examples of every layout, masks of every name, losses of single examples."""

import pytest
import torch
from probe_cases import NETWORKS, bag_batch, next_token_batch, number_batch, subject_of, text_batch

from thalweg.batch import Batch
from thalweg.diagnosis.probes.parts import (
    affordable,
    divided,
    losses_by_example,
    mean_loss,
    real_tokens,
    require_part,
    some_of,
    token_names,
)
from thalweg.errors import InputError


@pytest.mark.parametrize("kind", NETWORKS)
def test_parts_are_answered_like_the_whole(kind):
    subject = subject_of(kind)
    subject.model.eval()
    objective, batch = subject.objective(), subject.train[0]
    part = some_of(batch, [6, 1, 3])
    with torch.no_grad():
        torch.testing.assert_close(objective.prediction(part), objective.prediction(batch)[[6, 1, 3]])


def test_two_bags_of_a_pair_are_cut_together():
    one, other = bag_batch(4, 0), bag_batch(4, 1)
    both = Batch(one.inputs | {f"other_{name}": tensor for name, tensor in other.inputs.items()}, one.targets)
    part = some_of(both, [2])
    begin, end = other.inputs["offsets"][2:4].tolist()
    assert part.inputs["other_tokens"].tolist() == other.inputs["tokens"][begin:end].tolist()
    assert part.inputs["other_offsets"].tolist() == [0]


def test_inputs_that_are_shared_cannot_be_cut():
    batch = Batch({"x": torch.zeros(4, 2), "table": torch.zeros(7)}, torch.zeros(4))
    assert some_of(batch, [0]) is None
    with pytest.raises(InputError, match=r"one row for each of the 4 examples.*table \[7\]"):
        require_part(batch, [0])


def test_batches_are_divided_into_halves():
    subject = subject_of("mlp", num_batches=2)
    parts = divided(subject.train, smallest=2, most=6)
    assert sorted(part.num_examples for part in parts) == [2, 2, 2, 2, 4, 4]
    assert len(divided(subject.train, smallest=8, most=6)) == 2


def test_affordable_parts_hold_so_many_examples():
    batches = [number_batch(8), number_batch(8), number_batch(8)]
    counts = [[part.num_examples for part in affordable(batches, number)] for number in (3, 16, 23, 99)]
    assert counts == [[3], [8, 8], [8, 8, 7], [8, 8, 8]]


def test_texts_are_regrouped_by_length_without_needless_padding():
    batch, subject = text_batch(64), subject_of("lstm")
    parts = affordable([batch], 64)
    assert [part.num_examples for part in parts] == [8] * 8
    widths = [part.inputs["tokens"].shape[1] for part in parts]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1] == 7
    subject.model.eval()
    objective = subject.objective()
    assert mean_loss(objective, parts) == pytest.approx(mean_loss(objective, [batch]), rel=1e-5)
    assert sum(part.inputs["tokens"].numel() for part in affordable([batch], 64, tokens=150)) <= 150


def test_targets_of_every_token_are_limited():
    many = Batch({"tokens": torch.ones(100, 256, dtype=torch.int64)}, torch.ones(100, 256, dtype=torch.int64))
    assert sum(part.inputs["tokens"].numel() for part in affordable([many, many], 200)) <= 8192
    whole = Batch(many.inputs, many.targets[:, 0])
    assert sum(part.num_examples for part in affordable([whole, whole], 200)) == 200


@pytest.mark.parametrize("name", ["mask", "attention_mask"])
def test_masks_of_inputs_say_where_padding_is(name):
    batch = text_batch()
    given = Batch({"tokens": batch.inputs["tokens"], name: batch.inputs["mask"].long()}, batch.targets)
    assert token_names(given) == ["tokens"]
    assert torch.equal(real_tokens(given, "tokens", subject_of("mlp")), batch.inputs["mask"])


def test_padding_is_known_without_a_mask():
    batch, subject = text_batch(), subject_of("lstm")
    alone = Batch({"tokens": batch.inputs["tokens"]}, batch.targets)
    assert torch.equal(real_tokens(alone, "tokens", subject), batch.inputs["mask"])
    full = Batch({"tokens": batch.inputs["tokens"].clamp(min=1)}, batch.targets)
    assert real_tokens(full, "tokens", subject) is None


def test_targets_say_where_the_padding_of_their_tokens_is():
    batch = next_token_batch()
    assert real_tokens(batch, "tokens", subject_of("decoder")) is batch.mask


@pytest.mark.parametrize("kind", NETWORKS)
def test_losses_of_examples_add_up(kind):
    subject = subject_of(kind)
    subject.model.eval()
    objective = subject.objective()
    sums, counts, _ = losses_by_example(objective, subject.train[0])
    with torch.no_grad():
        total, count = objective.sum_and_count(subject.train[0])
    assert float(sums.sum()) == pytest.approx(float(total), rel=1e-5)
    assert float(counts.sum()) == pytest.approx(float(count))
    assert mean_loss(objective, [subject.train[0]]) == pytest.approx(float(total / count), rel=1e-5)
