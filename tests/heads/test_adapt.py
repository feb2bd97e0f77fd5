"""Squared error, independent labels, and PyTorch's losses as heads: what the common table does not show."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.heads.adapt import as_head
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared


@pytest.mark.parametrize("head", [Squared(3, 1), Bernoulli(3, 1)], ids=["Squared", "Bernoulli"])
def test_one_output_takes_targets_with_and_without_the_last_dimension(head):
    prediction = head(torch.randn(4, 3))
    targets = torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert prediction.shape == (4, 1)
    torch.testing.assert_close(head.loss(prediction, targets), head.loss(prediction, targets.unsqueeze(-1)))
    assert head.loss(prediction, targets)[1].item() == 4.0
    with pytest.raises(ValueError, match=r"\[4, 1\] \(without the last 1\); got \[1, 4\]"):
        head.loss(prediction, targets.unsqueeze(0))
    with pytest.raises(ValueError, match=r"shape of the prediction, \[4\]; got \[4, 1\]"):
        head.loss(prediction.squeeze(-1), targets.unsqueeze(-1))


@pytest.mark.parametrize("head", [Squared(None, 2), Bernoulli(None, 2)], ids=["Squared", "Bernoulli"])
def test_single_numbers_can_be_masked_and_weighted(head):
    prediction, targets = torch.randn(3, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    total, count = head.loss(prediction, targets, mask)
    pieces = [head.loss(prediction[i, j].reshape(1, 1), targets[i, j].reshape(1))[0] for i, j in mask.nonzero()]
    torch.testing.assert_close(total, sum(pieces, torch.zeros(())))
    assert count.item() == 3.0
    weighted, weight = head.loss(prediction, targets, None, 2.0 * mask)
    torch.testing.assert_close((weighted, weight), (2 * total, 2 * count))


def test_squared_by_hand_and_its_layer():
    head = Squared(2, 1, bias=False)
    with torch.no_grad():
        head.output.weight.copy_(torch.tensor([[1.0, -2.0]]))
    prediction = head(torch.tensor([[3.0, 1.0]]))
    total, count = head.loss(prediction, torch.tensor([4.0]))
    assert (total.item(), count.item()) == (4.5, 1.0)


def test_squared_decodes_to_the_number_itself():
    prediction = torch.randn(3, 2)
    numbers, log_p = Squared().decode(prediction, 1)
    assert numbers is prediction
    assert (log_p == 0).all()
    with pytest.raises(ValueError, match=r"Squared.decode\(k=...\) must be 1.*got 2"):
        Squared().decode(prediction, 2)


def test_bernoulli_decodes_classes_by_their_own_probability():
    logits = torch.tensor([[0.0, 3.0, -1.0]])
    ids, log_p = Bernoulli(None, 3).decode(logits, 2)
    assert ids.tolist() == [[1, 0]]
    torch.testing.assert_close(log_p, F.logsigmoid(torch.tensor([[3.0, 0.0]])))


def test_positive_weight_counts_positive_answers_more():
    head = Bernoulli(None, 1, pos_weight=torch.tensor([3.0]))
    total, count = head.loss(torch.zeros(2, 1), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(total, 4.0 * torch.log(torch.tensor(2.0)))
    assert count.item() == 2.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Squared(3, 0), r"Squared\(outputs=...\) must be at least 1; got 0"),
        (lambda: Squared(3, factor=0.0), r"Squared\(factor=...\) must be positive; got 0.0"),
        (lambda: Bernoulli(3, 0), r"Bernoulli\(num_classes=...\) must be at least 1; got 0"),
        (lambda: Bernoulli(3, 2, label_smoothing=-0.1), r"Bernoulli\(label_smoothing=...\) must lie in \[0, 1\)"),
    ],
)
def test_arguments_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_settings_that_are_not_learned_stay_out_of_the_weights():
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.ones(2), weight=torch.ones(2))
    assert not as_head(loss).state_dict()
    assert not as_head(nn.CrossEntropyLoss(weight=torch.ones(2))).state_dict()


def test_a_head_is_its_own_adapter():
    head = Softmax(3, 2)
    assert as_head(head) is head


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss])
def test_a_reduction_to_no_number_is_refused(loss):
    with pytest.raises(ValueError, match=rf"nn.{loss.__name__}\(reduction=...\) must be 'mean' or 'sum'.*got 'none'"):
        as_head(loss(reduction="none"))


# What PyTorch refuses, or computes with a warning that it is likely wrong.
@pytest.mark.parametrize(
    ("loss", "output", "targets", "message"),
    [
        (nn.MSELoss(), (4, 1), (4,), r"would repeat the prediction, \[4, 1\], over targets \[4\]"),
        (nn.MSELoss(), (3,), (3, 1), r"would repeat the prediction, \[3\], over targets \[3, 1\]"),
        (nn.MSELoss(), (3, 2), (3, 3), r"nn.MSELoss would repeat the prediction"),
        (nn.BCEWithLogitsLoss(), (3, 2), (2,), r"shape of the prediction, \[3, 2\]; got \[2\]"),
        (nn.BCEWithLogitsLoss(torch.ones(3)), (3, 1), (3, 1), r"factor=...\) must have a shape.*\[3, 1\]; got \[3\]"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), (4, 2), (4, 2), r"pos_weight=...\) must have a shape.*\[3\]"),
        (nn.CrossEntropyLoss(), (4, 3, 5), (4, 3), r"\[4, 5\]; got \[4, 3\]; outputs are \[batch, classes, ...\]"),
        (
            nn.CrossEntropyLoss(torch.ones(3)),
            (4, 2),
            (4,),
            r"one class weight for each of 2 classes; got the shape \[3\]",
        ),
        (nn.CrossEntropyLoss(), (), (), r"a dimension of classes is expected; got a single number"),
    ],
)
def test_shapes_that_pytorch_refuses_are_refused(loss, output, targets, message):
    targets = torch.zeros(targets)
    head = as_head(loss)
    with pytest.raises(ValueError, match=message):
        head.loss_from_hidden(torch.zeros(output), targets.long() if isinstance(loss, nn.CrossEntropyLoss) else targets)


class _OwnLoss(nn.MSELoss):
    pass


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (nn.NLLLoss(), "NLLLoss. It is nn.CrossEntropyLoss of what the model has before its log_softmax"),
        (nn.BCELoss(), "BCELoss. It is nn.BCEWithLogitsLoss of what the model has before its sigmoid"),
        (nn.L1Loss(), "L1Loss"),
        (_OwnLoss(), "_OwnLoss"),
        (nn.MSELoss, "MSELoss"),
        (F.mse_loss, "function"),
    ],
)
def test_other_losses_are_refused_with_the_way_to_write_a_head(loss, name):
    with pytest.raises(ValueError, match=rf"got {name}.*subclass thalweg.AbstractHead"):
        as_head(loss)
