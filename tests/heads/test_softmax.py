"""Softmax: the layer, tied weights, large vocabularies in chunks, answers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.heads.softmax import Softmax

WIDTH, CLASSES = 5, 7


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states [3, 4, WIDTH], class ids, mask and weights [3, 4]."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(3, 4, WIDTH, generator=generator, dtype=dtype).requires_grad_()
    ids = torch.randint(CLASSES, (3, 4), generator=generator)
    ids[0, 0] = -100
    mask = torch.rand(3, 4, generator=generator) < 0.7
    weights = torch.rand(3, 4, generator=generator, dtype=dtype)
    return hidden, ids, mask, weights


def make(chunk: int | None, label_smoothing: float = 0.0, bias: bool = True, class_weights: bool = False) -> Softmax:
    torch.manual_seed(5)
    u = torch.linspace(0.5, 2.0, CLASSES, dtype=torch.float64) if class_weights else None
    return Softmax(WIDTH, CLASSES, chunk=chunk, label_smoothing=label_smoothing, bias=bias, class_weights=u).double()


@pytest.mark.parametrize("chunk", [1, 5, 12])
@pytest.mark.parametrize(
    ("smoothing", "bias", "class_weights", "masked", "weighted"),
    [
        (0.0, True, False, False, False),
        (0.0, True, False, True, True),
        (0.0, True, True, False, True),
        (0.2, True, False, True, False),
        (0.2, True, True, False, False),
        (0.2, False, True, True, True),
    ],
)
def test_chunks_give_the_same_loss_count_and_gradients(chunk, smoothing, bias, class_weights, masked, weighted):
    hidden, ids, mask, weights = batch()
    mask, weights = mask if masked else None, weights if weighted else None
    whole, cut = (make(c, smoothing, bias, class_weights) for c in (1000, chunk))
    expected = whole.loss(whole(hidden), ids, mask, weights)
    got = cut.loss_from_hidden(hidden, ids, mask, weights)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    for (total, _), head in ((expected, whole), (got, cut)):
        assert total.requires_grad
        head.slopes = torch.autograd.grad(3.0 * total, [hidden, *head.parameters()])
    torch.testing.assert_close(cut.slopes, whole.slopes, rtol=1e-11, atol=1e-13)


def test_chunks_under_no_grad_give_the_value_alone():
    hidden, ids, mask, weights = batch()
    with torch.no_grad():
        total, _ = make(2).loss_from_hidden(hidden, ids, mask, weights)
    assert not total.requires_grad
    torch.testing.assert_close(total, make(100).loss_from_hidden(hidden, ids, mask, weights)[0].detach())


@pytest.mark.parametrize("class_weights", [False, True])
def test_chunks_can_be_differentiated_twice(class_weights):
    hidden, ids, _, weights = batch()
    head = make(2, 0.1, class_weights=class_weights)
    layer = head.output
    assert isinstance(layer, nn.Linear)

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        parameters = {"output.weight": weight, "output.bias": bias}
        call = torch.func.functional_call
        return call(_FromHidden(head), {f"head.{k}": v for k, v in parameters.items()}, (hidden, ids, None, weights))

    at = [hidden[:1, :3], layer.weight, layer.bias]
    ids, weights = ids[:1, :3], weights[:1, :3]
    at = [x.detach().clone().requires_grad_() for x in at]
    assert torch.autograd.gradcheck(loss, at)
    assert torch.autograd.gradgradcheck(loss, at)


class _FromHidden(nn.Module):
    def __init__(self, head: Softmax) -> None:
        super().__init__()
        self.head = head

    def forward(self, *arguments) -> Tensor:
        return self.head.loss_from_hidden(*arguments)[0]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch's own
def test_chunks_refuse_forward_mode_rather_than_be_wrong():
    hidden, ids, _, _ = batch()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(hidden.detach(), torch.ones_like(hidden))
        with pytest.raises((NotImplementedError, RuntimeError), match="forward"):
            make(2).loss_from_hidden(dual, ids)


@pytest.mark.parametrize("chunk", [2, 1000])
def test_loss_from_hidden_masks_exactly(chunk):
    hidden, ids, mask, weights = batch()
    head = make(chunk)
    dirty = torch.where(mask.unsqueeze(-1), hidden.detach(), float("nan")).requires_grad_()
    total, count = head.loss_from_hidden(dirty, ids, mask, weights)
    torch.testing.assert_close((total, count), head.loss_from_hidden(hidden, ids, mask, weights), rtol=1e-12, atol=0)
    total.backward()
    assert dirty.grad is not None
    assert (dirty.grad[~mask] == 0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("chunk", [3, 1000])
def test_a_batch_without_real_targets_has_sum_and_count_zero(chunk):
    hidden, ids, _, _ = batch()
    total, count = make(chunk).loss_from_hidden(hidden, ids, torch.zeros(3, 4, dtype=torch.bool))
    assert (total.item(), count.item()) == (0.0, 0.0)
    total.backward()
    assert hidden.grad is not None
    assert (hidden.grad == 0).all()


@pytest.mark.parametrize("chunk", [2, 1000])
def test_autocast_in_bfloat16_stays_close_to_float32(chunk):
    hidden, ids, mask, _ = batch(torch.float32)
    head = make(chunk, 0.1).float()
    exact = head.loss_from_hidden(hidden, ids, mask)[0]
    slopes = torch.autograd.grad(exact, [hidden, *head.parameters()])
    with torch.autocast("cpu", torch.bfloat16):
        total, count = head.loss_from_hidden(hidden, ids, mask)
    assert total.dtype == count.dtype == torch.float32
    torch.testing.assert_close(total, exact, rtol=2e-2, atol=0)
    low = torch.autograd.grad(total, [hidden, *head.parameters()])
    torch.testing.assert_close(low, slopes, rtol=5e-2, atol=5e-2)


def test_tied_weights_are_one_parameter():
    embedding = nn.Embedding(CLASSES, WIDTH)
    for tied in (embedding, embedding.weight):
        head = Softmax(WIDTH, CLASSES, tied=tied)
        assert isinstance(head.output, nn.Linear)
        assert head.output.weight is embedding.weight
    hidden = torch.randn(2, WIDTH)
    bare = Softmax(WIDTH, CLASSES, tied=embedding, bias=False)
    torch.testing.assert_close(bare(hidden), hidden @ embedding.weight.T)
    with pytest.raises(ValueError, match=r"tied=.*\[7, 4\]; got \[7, 5\]"):
        Softmax(4, CLASSES, tied=embedding)
    with pytest.raises(ValueError, match=r"tied=.*needs a width"):
        Softmax(None, CLASSES, tied=embedding)


def test_decode_returns_sorted_normalized_log_probabilities():
    logits = torch.randn(3, 2, CLASSES, dtype=torch.float64)
    head = Softmax(None, CLASSES)
    ids, log_p = head.decode(logits, CLASSES)
    assert ids.dtype == torch.int64
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3, 2, dtype=torch.float64))
    assert (log_p.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(log_p, F.log_softmax(logits, -1).gather(-1, ids))
    top, _ = head.decode(logits, 1)
    assert (top.squeeze(-1) == logits.argmax(-1)).all()
    assert head.decode(logits, 99)[0].shape == (3, 2, CLASSES)
    with pytest.raises(ValueError, match=r"k=.*at least 1; got 0"):
        head.decode(logits, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 3, "num_classes": 0}, r"num_classes=.*at least 1; got 0"),
        ({"width": 3, "num_classes": None}, r"num_classes=.*must be given"),
        ({"width": 3, "num_classes": 2, "label_smoothing": 1.0}, r"label_smoothing=.*\[0, 1\); got 1.0"),
        ({"width": 3, "num_classes": 2, "chunk": 0}, r"chunk=.*at least 1; got 0"),
    ],
)
def test_softmax_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Softmax(**arguments)


def test_softmax_targets_that_do_not_fit_are_refused():
    head = Softmax(None, 3)
    with pytest.raises(ValueError, match=r"expected 3 logits .* got 4"):
        head.loss(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="class ids must be integers"):
        head.loss(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"class ids must have the shape \[2\]; got \[2, 1\]"):
        head.loss_from_hidden(torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.int64))
