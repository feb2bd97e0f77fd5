"""The networks before their first step: figures of a start that is known, and the way from there."""

import dataclasses
import math

import pytest
import torch
from probe_cases import NETWORKS, subject_of
from torch import nn

from thalweg.diagnosis.probes.network.start import start


@pytest.mark.parametrize("kind", NETWORKS)
def test_start_is_the_one_that_is_known(kind):
    subject = subject_of(kind)
    found = start(subject)
    model, head = subject.initial()
    fresh = dataclasses.replace(
        subject, model=model.eval(), head=head.eval(), facts=dataclasses.replace(subject.facts, l2=0.0)
    )
    with torch.no_grad():
        assert found["loss"] == pytest.approx(float(fresh.objective().value()), rel=1e-5)
    assert {"std_slope", "std_range", "flow_slope", "flow_range"} <= set(found)
    assert max(found["symmetric"].values()) == 0.0
    assert all(0.1 < scale < 3.0 for scale in found["scale"].values())


def test_guesses_are_entropies():
    subject = subject_of("mlp")
    found = start(subject)
    targets = torch.cat([batch.targets for batch in subject.train])
    share = torch.bincount(targets).double() / len(targets)
    assert found["log_classes"] == pytest.approx(math.log(3))
    assert found["prior_entropy"] == pytest.approx(float(-(share * share.log()).sum()))
    assert start(subject_of("sequential"))["prior_entropy"] is None


def test_distances_are_by_layer_and_whole():
    subject = subject_of("sequential")
    model, _ = subject.initial()
    pairs = dict(zip(subject.model.named_parameters(), model.parameters(), strict=True))
    with torch.no_grad():
        change = math.sqrt(sum(float((now - then).square().sum()) for (_, now), then in pairs.items()))
        size = math.sqrt(sum(float(then.square().sum()) for then in pairs.values()))
    found = start(subject)
    assert found["moved"] == pytest.approx(change / size, rel=1e-5)
    now, then = subject.model[0], model[0]
    with torch.no_grad():
        change = math.hypot(float((now.weight - then.weight).norm()), float((now.bias - then.bias).norm()))
        size = math.hypot(float(then.weight.norm()), float(then.bias.norm()))
    assert found["moved_by"]["0"] == pytest.approx(change / size, rel=1e-5)


def test_symmetric_and_wrongly_scaled_starts_are_told():
    def built():
        model, head = subject_of("sequential").initial()
        nn.init.constant_(model[0].weight, 0.3)
        nn.init.normal_(model[4].weight, std=100.0)
        return model, head

    found = start(dataclasses.replace(subject_of("sequential"), initial=built))
    assert found["symmetric"]["0.weight"] == 1.0
    assert found["scale"]["4.weight"] > 50.0


def test_unknown_start_is_left_out():
    assert start(dataclasses.replace(subject_of("mlp"), initial=None)) == {}
