"""The weights before the first step are known in a loop of one's own, and what only they tell is found."""

import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis.loops.start import Start
from thalweg.diagnosis.loops.watch import Watch


def train(model, steps=40, labels=lambda x: (x[:, 0] > 0).long()):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    watch = Watch(model, optimizer)
    for step in range(steps):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        y = labels(x) if callable(labels) else labels[step]
        loss = F.cross_entropy(model(x), y)
        watch.loss(loss, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return watch


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def test_the_start_is_that_before_the_first_step():
    watch, fresh = train(network()), network()
    model, _ = watch.subject().initial()
    assert all(map(torch.equal, model.state_dict().values(), fresh.state_dict().values()))
    assert not any(map(torch.equal, model.state_dict().values(), watch.model.state_dict().values()))


def test_units_that_start_alike_are_found_and_a_last_layer_at_zero_is_not():
    same = network()
    nn.init.constant_(same[0].weight, 0.1)
    nn.init.constant_(same[2].weight, 0.1)
    found = train(same).diagnose()
    assert found.named("symmetric-initialization") is not None
    zero = network()
    nn.init.zeros_(zero[2].weight)
    assert train(zero).diagnose().named("symmetric-initialization") is None


def test_what_cannot_be_copied_has_no_start():
    model = network()
    start = Start(model)
    model[0].kept = model[0].weight * 2.0  # of a graph
    assert start.network(model) is None
    other = nn.Linear(2, 2)
    assert start.network(other) is None


def test_labels_that_come_in_order_are_found():
    labels = [torch.full((16,), int(step >= 20)) for step in range(40)]
    labels = [labels[(step * 2) % 40] for step in range(40)]
    found = train(network(), labels=labels).diagnose()
    assert found.probes["order"]["one_label_share"] == 1.0
    assert found.named("not-shuffled") is not None
