"""What moves in a training: saved, put back, compared."""

import pytest
import torch
from torch import nn

from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.optim.clipping import ClipRunning
from thalweg.training.folder import checkpoint
from thalweg.training.integrity.parts import Parts


def parts(seed=0, width=3):
    torch.manual_seed(seed)
    model, head = nn.Linear(2, width), Softmax(width, 2)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    return Parts(model, head, optimizer, schedule, ClipRunning(2.0))


def step(one):
    loss, _ = one.head.loss_from_hidden(one.model(torch.ones(1, 2)), torch.tensor([1]))
    loss.backward()
    one.clip([parameter for _, parameter in one.parameters()])
    one.optimizer.step()
    one.schedule.step()


def test_what_is_put_back_goes_on_as_the_original(tmp_path):
    one, other = parts(0), parts(1)
    step(one)
    place = checkpoint.save(tmp_path, 1, one.state(gradient=True))
    other.put(checkpoint.load(place), place, weights_only=False)
    assert one.fingerprint() == other.fingerprint()
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(mine.grad, yours.grad) for (_, mine), (_, yours) in pairs)
    for each in (one, other):
        step(each)
    assert one.fingerprint() == other.fingerprint() != parts(0).fingerprint()


def test_the_gradient_is_kept_where_it_is_wanted(tmp_path):
    one = parts()
    step(one)
    assert len(one.state(gradient=True)["gradient"]) == 4
    assert one.state(gradient=False)["gradient"] == {}


def test_those_of_another_model_are_refused(tmp_path):
    place = checkpoint.save(tmp_path, 1, parts(width=4).state(gradient=False))
    with pytest.raises(InputError, match="from another model or optimizer"):
        parts(width=3).put(checkpoint.load(place), place, weights_only=False)


def test_weights_that_are_not_finite_are_not_sound():
    one = parts()
    assert one.is_sound()
    assert one.divided is None
    with torch.no_grad():
        one.model.bias[0] = torch.inf
    assert not one.is_sound()
