"""Leaks of padding, of other examples and of the future: models that have them, and models that do not."""

import dataclasses

import pytest
import torch
from probe_cases import NETWORKS, VOCABULARY, next_token_batch, subject_of, text_batch, tokens_of
from torch import nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.consistency import modes, padding
from thalweg.diagnosis.subject import Subject
from thalweg.heads import Softmax

ROUNDING = 1e-5


class Averaged(nn.Module):
    """Mean of vectors, over real tokens or over all, perhaps minus the mean of the whole batch."""

    def __init__(self, *, masks: bool = True, mixes: bool = False) -> None:
        super().__init__()
        self.table, self.masks, self.mixes = nn.Embedding(VOCABULARY, 6), masks, mixes

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mask = mask if self.masks else torch.ones_like(mask)
        vectors = self.table(tokens) * mask.unsqueeze(-1)
        mean = vectors.sum(1) / mask.sum(1, keepdim=True)
        return mean - mean.mean(0) if self.mixes else mean


class Unmasked(nn.Module):
    """Mean of vectors; nobody tells it about padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 6)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table(tokens).mean(1)


class Looking(nn.Module):
    """One vector a token, made of the tokens up to it, or of all."""

    def __init__(self, *, ahead: bool) -> None:
        super().__init__()
        self.table, self.ahead = nn.Embedding(VOCABULARY, 6), ahead

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        vectors = self.table(tokens)
        return vectors + vectors.mean(1, keepdim=True) if self.ahead else vectors.cumsum(1)


def of(model, batch):
    return padding(Subject(model=model, head=Softmax(6, VOCABULARY), train=[batch]))


def test_padding_leaks_where_the_mask_is_not_used():
    assert of(Averaged(), text_batch())["padding_leak"] < ROUNDING
    found = of(Averaged(masks=False), text_batch())
    assert found["padding_values"] > 0.1
    assert found["padding_columns"] > 0.1


def test_padding_leaks_where_there_is_no_mask():
    tokens, _ = tokens_of(8)
    found = of(Unmasked(), Batch({"tokens": tokens}, tokens[:, 0]))
    assert found["padding_values"] is None  # nobody says that these ids are not to be read
    assert found["padding_columns"] > 0.1


def test_examples_leak_where_the_batch_is_mixed():
    assert of(Averaged(), text_batch())["batch_leak"] < ROUNDING
    assert of(Averaged(mixes=True), text_batch())["batch_leak"] > 0.1


def test_the_future_leaks_where_it_is_not_masked():
    assert of(Looking(ahead=False), next_token_batch())["future_leak"] < ROUNDING
    found = of(Looking(ahead=True), next_token_batch())
    assert found["is_next_token"]
    assert found["future_leak"] > 0.05


def test_other_targets_have_no_future():
    batch = next_token_batch()
    tagged = Batch(batch.inputs, batch.targets * 7 % VOCABULARY, batch.mask)
    assert of(Looking(ahead=True), tagged)["future_leak"] is None


@pytest.mark.parametrize("kind", NETWORKS)
def test_own_networks_leak_nothing(kind):
    found = padding(subject_of(kind))
    leaks = [found.get(name) for name in ("padding_leak", "batch_leak", "future_leak")]
    assert all(leak is None or leak < ROUNDING for leak in leaks)
    if kind in ("lstm", "gru", "transformer"):
        assert None not in leaks[:2]
    assert (leaks[2] is not None) == (kind == "decoder")


def test_longest_input_is_no_trouble():
    subject = subject_of("transformer")
    subject.model.inputs.max_length = 7
    assert padding(subject)["padding_columns"] is None


def test_randomness_in_evaluation_is_measured():
    class Noisy(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5)

    batch = Batch({"x": torch.ones(8, 6)}, torch.zeros(8, dtype=torch.int64))
    found = modes(Subject(model=Noisy(), head=Softmax(6, 2), train=[batch]))
    assert found["random_in_evaluation"] > 0.1
    assert modes(subject_of("mlp"))["random_in_evaluation"] == 0.0


def test_losses_of_both_modes():
    subject = subject_of("sequential")
    found = modes(subject)
    objective = dataclasses.replace(subject, facts=dataclasses.replace(subject.facts, l2=0.0)).objective()
    subject.model.eval()
    assert found["eval_loss"] == pytest.approx(float(objective.value()), rel=1e-6)
    assert found["train_mode_loss"] != pytest.approx(found["eval_loss"], rel=1e-3)
    assert (found["batch_norms"], found["dropouts"]) == (["1"], {"3": 0.2})


def test_batch_norm_of_one_example_has_no_loss_in_training():
    subject = subject_of("sequential")
    one = NETWORKS["sequential"][1](1)
    assert modes(dataclasses.replace(subject, train=[one]))["train_mode_loss"] is None
