"""Evaluation of wide predictions: few at a time, with the same figures."""

import dataclasses

import numpy as np
import pytest
import torch

from thalweg.data.builtin.catalog import SAMPLES
from thalweg.heads.softmax import Softmax
from thalweg.models.presets import ModelOptions, causal_lstm
from thalweg.tasks.language.report import token_losses
from thalweg.tasks.language.task import Language
from thalweg.tasks.settings import Settings
from thalweg.training.steps.evaluate import evaluate


@pytest.fixture(scope="module")
def language():
    settings = Settings(
        columns={"text": "text"}, valid_share=0.1, normalize=(), tokenizer="byte", vocabulary_size=300, bigrams=0,
        max_length=16, lags=0, scaling="none", layout="causal",
    )  # fmt: skip
    source = SAMPLES["manual"]
    settings = dataclasses.replace(settings, columns={"text": source.columns[0]})
    task, prepared = Language.prepare(source, None, settings)
    torch.manual_seed(0)
    return task, prepared.valid.take(np.arange(20)), causal_lstm(task.shape(), ModelOptions(width=8, hidden=8))


@pytest.mark.parametrize("intervals", [False, True])
def test_predictions_are_made_for_few_rows_at_a_time(language, intervals):
    task, valid, model = language
    head, sizes = Softmax(8, task.tokenizer.vocabulary_size), []
    whole = evaluate(task, model, head, valid, intervals=intervals)
    head.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[:-1].numel()))
    head.chunk = 40  # two rows of 16 targets
    found = evaluate(task, model, head, valid, intervals=intervals)
    assert max(sizes) == 32
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    assert found.metrics == pytest.approx(whole.metrics, rel=1e-6)
    assert found.intervals.keys() == whole.intervals.keys()
    for name, (low, high) in whole.intervals.items():
        assert found.intervals[name] == pytest.approx((low, high), rel=1e-5)


def test_probabilities_from_hidden_states_are_made_for_few_rows_at_a_time(language):
    task, valid, model = language
    head = Softmax(8, task.tokenizer.vocabulary_size)
    expected = token_losses(task, model, head, valid)
    head.chunk = 40
    for found, wanted in zip(token_losses(task, model, head, valid), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    hidden, targets = torch.randn(7, 5, 8), torch.randint(0, 9, (7, 5))
    torch.testing.assert_close(
        head.log_probability_from_hidden(hidden, targets), head.log_probability(head(hidden), targets)
    )
