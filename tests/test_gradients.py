"""Sums of gradients over processes: which messages there are, when they begin, and that one process sends none."""

import pytest
import torch
from ranks import together
from torch import nn
from torch.utils.checkpoint import checkpoint

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.errors import InputError
from thalweg.gradients import Reduction
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective

SIZES = (4, 3, 5, 2)
MARK = 1.5  # of 12 examples one has a larger number


@pytest.fixture
def sent(monkeypatch):
    """The messages, each answered as by another process with the same."""
    messages = []

    def begin_sum(flat):
        messages.append(flat.tolist())
        return lambda: flat.mul_(2)

    monkeypatch.setattr(distributed, "begin_sum", begin_sum)
    return messages


def tensors(*sizes):
    return [nn.Parameter(torch.full((size,), float(place))) for place, size in enumerate(sizes)]


def test_messages_are_filled_from_the_last_parameter_on_and_begin_as_they_are_full(sent):
    parameters = tensors(*SIZES)
    reduction = Reduction(parameters, torch.tensor([7.0, 8.0]), size=16)
    loss = sum((place + 1) * parameter.sum() for place, parameter in enumerate(parameters))
    seen = []
    parameters[2].register_hook(lambda gradient: seen.append(len(sent)))
    with reduction.during():
        loss.backward()
    numbers, flats = reduction.finish()
    assert sent == [[7.0, 8.0, 4.0, 4.0], [3.0] * 5, [2.0] * 3, [1.0] * 4]  # one that is too large goes by itself
    assert numbers.tolist() == [14.0, 16.0]
    assert [parameter.grad.tolist() for parameter in parameters] == [[2.0] * 4, [4.0] * 3, [6.0] * 5, [8.0] * 2]
    torch._foreach_div_(flats, 2.0)
    assert parameters[0].grad.tolist() == [1.0] * 4


@pytest.mark.parametrize("early", [True, False])
def test_the_order_is_that_of_the_parameters_whichever_are_used(sent, early):
    first, second, third = parameters = tensors(1, 1, 1)
    first.grad = torch.ones(1)  # of a micro-batch before
    reduction = Reduction(parameters, torch.tensor([1.0]), early=early, size=1)
    with reduction.during():
        (3.0 * second).sum().backward()
        assert len(sent) == (1 if early else 0)  # the numbers: the gradient of the third parameter is still awaited
    reduction.finish()
    assert sent == [[1.0], [0.0], [3.0], [1.0]]
    assert (third.grad.item(), second.grad.item(), first.grad.item()) == (0.0, 6.0, 2.0)


def test_types_are_not_mixed_in_a_message(sent):
    parameters = [nn.Parameter(torch.ones(2, dtype=torch.float64)), *tensors(3)]
    reduction = Reduction(parameters, torch.tensor([1.0]))
    reduction.finish()
    assert [len(message) for message in sent] == [4, 2]
    assert [parameter.grad.dtype for parameter in parameters] == [torch.float64, torch.float32]


def twice(weight, x):
    """Use a weight twice, in two passes of its own: its gradient comes in two parts."""
    return checkpoint(lambda x: x * weight, checkpoint(lambda x: x * weight, x, use_reentrant=True), use_reentrant=True)


def test_a_gradient_in_two_parts_is_seen_and_refused_once_the_first_is_sent(sent):
    (weight,) = tensors(1)
    x = torch.ones(1, requires_grad=True)
    with torch.no_grad():
        weight.fill_(3.0)
    reduction = Reduction([weight], torch.tensor([1.0]), early=False)
    with reduction.during():
        twice(weight, x).sum().backward()
    reduction.finish()
    assert reduction.is_repeated
    assert weight.grad.item() == 2 * 6.0
    weight.grad = None
    reduction = Reduction([weight], torch.tensor([1.0]))
    with pytest.raises(InputError, match=r"came in two parts.*use_reentrant=False"), reduction.during():
        twice(weight, x).sum().backward()


def batch_of(rank, num, rows=12):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(4, (rows,), generator=generator)
    return [Batch({"x": x[part::2][rank::num]}, ids[part::2][rank::num]) for part in range(2)]


class Twice(nn.Module):
    """A layer used twice, checkpointed or plain; a parameter of one example only, and one of none."""

    def __init__(self, reentrant):
        super().__init__()
        self.first, self.layer = nn.Linear(3, 3), nn.Linear(3, 3)
        self.some, self.none = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        self.reentrant = reentrant

    def forward(self, x):
        y = self.first(x)
        if (marked := x[:, :1] > MARK).any():
            y = torch.where(marked, y * self.some, y)
        for _ in range(2):
            y = checkpoint(self.layer, y, use_reentrant=True) if self.reentrant else self.layer(y)
        return y


def gradients(reentrant):
    """Return the losses and gradients of two evaluations, and how many messages were begun in each."""
    begun, begin = [], distributed.begin_sum
    distributed.begin_sum = lambda flat: begun.append(flat.numel()) or begin(flat)
    torch.manual_seed(0)
    model = Twice(reentrant).double()
    head = Softmax(3, 4).double()
    rank, num = distributed.rank(), distributed.world_size()
    objective, found = Objective(model, head, batch_of(rank, num)), []
    for _ in range(2):
        before = len(begun)
        loss = objective()
        grads = [None if p.grad is None else p.grad.flatten().tolist() for p in objective.parameters]
        found.append([loss.item(), grads, len(begun) - before])
        objective = objective.on(batch_of(rank, num, rows=11))
    return found


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one_in_one_message(tmp_path):
    both = together(all_gradients, folder=tmp_path)
    assert both[0] == both[1]
    for found, expected in zip(both[0], all_gradients(), strict=True):
        for (loss, grads, num), (own_loss, own_grads, own_num) in zip(found, expected, strict=True):
            assert (num, own_num) == (1, 0)
            assert loss == pytest.approx(own_loss)
            for grad, own in zip(grads, own_grads, strict=True):
                assert grad == pytest.approx([0.0] * 3 if own is None else own)


def all_gradients():
    """Return the gradients of both models."""
    return [gradients(reentrant) for reentrant in (False, True)]


def test_one_process_sends_nothing_and_hooks_nothing(monkeypatch):
    calls = []
    for owner, name in (
        (torch.distributed, "all_reduce"), (torch.distributed, "all_gather"), (torch.distributed, "broadcast"),
        (torch.Tensor, "register_hook"), (torch.Tensor, "register_post_accumulate_grad_hook"),
    ):  # fmt: skip
        own = getattr(owner, name)
        counted = lambda *given, own=own, name=name, **more: calls.append(name) or own(*given, **more)  # noqa: E731
        monkeypatch.setattr(owner, name, counted)
    objective = Objective(nn.Linear(3, 4), Softmax(None, 4), torch.ones(5, 3), torch.arange(5) % 4)
    optimizer = torch.optim.AdamW(objective.parameters)
    for _ in range(3):
        optimizer.step(objective)
    objective.value()
    objective.value_and_gradient()
    assert calls == []
    tensor = torch.ones(1, requires_grad=True)
    tensor.register_hook(lambda gradient: None)
    assert calls == ["register_hook"]
