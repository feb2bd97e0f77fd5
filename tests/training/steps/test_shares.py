"""What several processes have in common in a step: as many parts, and figures of the whole."""

import numpy as np
import pytest
import torch
from ranks import together
from torch import nn

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import Ragged
from thalweg.heads.softmax import Softmax
from thalweg.training.steps.feed import Feed
from thalweg.training.steps.fit import FitOptions, fit

LENGTHS = [400, 1] * 270 + [1, 400, 900, 1] * 15  # most of one process are long, of the other one short
ALIKE = [1] * 7


def numbers(examples, indices):
    x = torch.from_numpy(examples.columns["x"][indices])
    return Batch({"input": x}, torch.from_numpy(indices) % 3)


def examples_of(lengths):
    tokens = Ragged.from_lists([[1] * length for length in lengths])
    rows = np.random.default_rng(0).standard_normal((len(lengths), 4))
    return Examples({"tokens": tokens, "x": rows}, sort_by=("tokens",))


def shared(lengths):
    """Return the sizes of this process's parts of all data, its examples, the loss, and what came back to each site."""
    feed = Feed(examples_of(lengths), numbers, batch_size=0, dtype=torch.float64)
    sizes = [batch.num_examples for batch in feed(0)]
    keys = torch.cat([batch.keys for batch in feed(0)]).tolist()
    torch.manual_seed(0)
    model, head = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double(), Softmax(4, 3).double()
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)
    options = FitOptions(sites=lambda step: True)
    (record,) = fit(model, head, optimizer, feed, steps=1, options=options)
    return [sizes, keys, record.loss.item(), [site["flow"] for site in record.watched.sites]]


def both(*lengths):
    return [shared(one) for one in lengths]


@pytest.mark.slow
def test_processes_have_as_many_parts_of_all_data_and_figures_divided_by_the_whole(tmp_path):
    first, second = together(both, LENGTHS, ALIKE, folder=tmp_path)
    own = both(LENGTHS, ALIKE)
    assert len(own[0][0]) > 1
    assert len(first[0][0]) == len(second[0][0]) > 1
    for (_, keys, loss, _), *others in zip(own, first, second, strict=True):
        assert sorted(keys) == sorted(others[0][1] + others[1][1]) == list(range(len(keys)))
        assert others[0][2] == others[1][2] == pytest.approx(loss)
    # Where there is one part, what comes back to one process and to the other are rows of what comes back to all.
    flow, one, other = (found[1][3] for found in (own, first, second))
    assert np.hypot(one, other) == pytest.approx(flow)


def test_few_examples_are_in_as_many_parts_as_all_processes_can_have(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "most", lambda values: [3.0])
    feed = Feed(examples_of([90_000, 1, 80_000, 1, 70_000]), numbers, batch_size=0, dtype=torch.float64)
    assert [batch.num_examples for batch in feed(0)] == [2, 1]
