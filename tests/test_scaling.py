"""The figures on paper of `benchmarks/scaling.py` against sums by hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from scaling_model import MOST_LOGITS, Decoder, Network, memory, messages

SOFTMAX = Decoder(width=2, hidden=3, layers=1, vocabulary=5, length=4, sequences=1)
CONTINUOUS = Decoder(width=2, hidden=3, layers=1, vocabulary=5, length=4, sequences=1, target_width=3)


def test_numbers_are_those_counted_by_hand():
    assert SOFTMAX.matrices() == [(2, 2)] * 4 + [(3, 2), (2, 3)]
    assert SOFTMAX.parameters() == 10 + 28 + (21 + 4) + 15  # embedding, matrices, biases and scales, output
    assert (CONTINUOUS.parameters(), CONTINUOUS.fixed()) == (10 + 28 + 25 + 9, 15)
    assert [SOFTMAX.state(name) for name in ("sgd", "adamw", "muon")] == [0, 156, 128]
    assert SOFTMAX.products() == 6 * 4 * (28 + 10 + 16)
    assert CONTINUOUS.products() == 6 * 4 * (28 + 6 + 16 + 15)
    assert (SOFTMAX.logits(), CONTINUOUS.logits()) == (20, 20)
    assert SOFTMAX.kept() == 4 * (1 * (16 + 6) + 4) + 20
    assert CONTINUOUS.kept() == 4 * (1 * (16 + 6) + 4) + 4 * (12 + 6)
    large = Decoder(8, 8, 1, 50_000, 2048, 4)
    assert large.logits() == MOST_LOGITS
    assert large.kept() == 8192 * (64 + 16 + 16) + 8192 * 8 + 50_000 * 9


def test_memory_and_messages_are_those_counted_by_hand():
    assert memory(SOFTMAX, "adamw") == {"weights": 312, "gradients": 312, "state": 624, "kept": 4 * 124}
    divided = memory(SOFTMAX, "adamw", 4)
    assert divided == {"weights": 302, "gradients": 302, "state": 156, "kept": 4 * 124}
    network = Network(ranks=4, bandwidth=100.0, latency=0.5)
    assert (network.sum(800), network.share(800)) == (15.0, 7.5)
    assert messages(SOFTMAX, network) == pytest.approx(7.68)
    assert messages(SOFTMAX, network, divided=True) == pytest.approx(11.52)
    assert Network(1, 100.0, 0.5).sum(800) == 0.0
