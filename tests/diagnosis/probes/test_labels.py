"""Doubtful labels among plain tokens: those that were flipped are found, and a clean set has none."""

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.diagnosis.probes.labels import labels
from thalweg.diagnosis.subject import Facts, Subject
from thalweg.heads.softmax import Softmax


def subject_of(answers: np.ndarray, tokens: torch.Tensor) -> Subject:
    batch = Batch({"tokens": tokens, "mask": torch.ones_like(tokens, dtype=torch.bool)}, torch.as_tensor(answers))
    facts = Facts(num_classes=2, num_train=len(answers), steps_per_epoch=1)
    return Subject(model=nn.Identity(), head=Softmax(2, 2), train=[batch], facts=facts, in_order=lambda _: [batch])


@pytest.mark.parametrize(("flipped", "low", "high"), [(0, 0.0, 0.02), (300, 0.15, 0.25)])
def test_share_of_flipped_labels(flipped, low, high):
    draw = np.random.default_rng(0)
    answers = draw.integers(0, 2, 1500)
    words = torch.as_tensor(10 * answers[:, None] + draw.integers(0, 8, (1500, 6)))  # other words for each class
    answers[:flipped] = 1 - answers[:flipped]
    found = labels(subject_of(answers, words))
    assert low <= found["noise_share"] <= high


@pytest.mark.parametrize(("number", "kinds"), [(1499, 2), (1500, 16)])
def test_few_examples_say_nothing_of_their_labels(number, kinds):
    answers = np.arange(number) % kinds
    assert labels(subject_of(answers, torch.as_tensor(answers[:, None]))) == {}


def test_numbers_have_no_labels():
    batch = Batch({"features": torch.ones(4, 2)}, torch.ones(4, 1))
    subject = Subject(model=nn.Identity(), head=Softmax(2, 2), train=[batch])
    assert labels(subject) == {}
