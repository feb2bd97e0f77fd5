"""A certificate proves itself with numpy alone; one that was tampered with is refused."""

import json

import numpy as np
import pytest

from thalweg.certify.check import Refused, check
from thalweg.certify.interval import Certificate, Interval, Proof


def head_level(rng, n=40, d=5, k=3, l2=0.05):
    x, y = rng.normal(size=(n, d)), rng.integers(0, k, n)
    w = 0.1 * rng.normal(size=(d, k))

    def probabilities(w):
        z = x @ w
        p = np.exp(z - z.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)

    target = np.eye(k)[y]
    for _ in range(20):
        w -= 0.5 * (x.T @ (probabilities(w) - target) / n + l2 * w)
    p = probabilities(w)
    loss = -np.log(p[np.arange(n), y]).mean() + 0.5 * l2 * (w**2).sum()
    g = x.T @ (target - p) / n
    bound = -(p * np.log(p)).sum(1).mean() - (g**2).sum() / (2 * l2)
    evidence = {"rule": "head", "X": x, "T": y, "loss": "softmax", "W": w, "dual": p, "regularizer": "l2", "l2": l2}
    return Certificate(
        name="head", quantity="training loss", unit="nats", loss=loss, bound=bound, scope="No head is better.",
        proof=Proof.PROOF, seconds=0.0, evidence=evidence,
    )  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    level = head_level(np.random.default_rng(0))
    path = tmp_path / "certificate.json"
    Interval(loss=level.loss, levels=(level,)).save(path)
    return path


def test_an_honest_certificate_is_verified(saved):
    (sentence,) = check(saved)
    assert "is proved" in sentence
    assert "and the weights have the loss" in sentence


def test_a_raised_bound_is_refused(saved):
    content = json.loads(saved.read_text())
    content["bound"] = content["levels"][0]["bound"] = content["loss"]
    saved.write_text(json.dumps(content))
    with pytest.raises(Refused, match="proves"):
        check(saved)
