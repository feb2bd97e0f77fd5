"""Losses, answers and output layers of networks whose answers are known."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from probe_cases import subject_of
from torch import nn
from torch.nn import functional as F

from thalweg.batch import Batch
from thalweg.diagnosis.probes.answers import capacity, examples, predictions
from thalweg.diagnosis.subject import Facts, Subject
from thalweg.heads import Softmax

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 1.0]])
TARGETS = torch.tensor([0, 1, 1, 2])


def known(logits=LOGITS, targets=TARGETS) -> Subject:
    batches = [Batch({"input": a}, b) for a, b in zip(logits.split(2), targets.split(2), strict=True)]
    return Subject(model=nn.Identity(), head=Softmax(None, None), train=batches, facts=Facts(num_classes=3))


def test_losses_of_examples_are_ordered():
    found = examples(known())["train"]
    each = F.cross_entropy(LOGITS, TARGETS, reduction="none")
    order = each.argsort(descending=True).tolist()
    assert [place["index"] for place in found["hardest"]] == order
    assert [place["loss"] for place in found["hardest"]] == pytest.approx(each[order].tolist())
    first = found["hardest"][0]
    assert [first[key] for key in ("batch", "row", "target", "prediction")] == [0, 1, 1, 0]
    assert found["hard_share"] == pytest.approx(float(each.max() / each.sum()))
    assert found["mean"] == pytest.approx(float(each.mean()))


def test_hardest_examples_are_found_in_their_batches():
    subject = subject_of("lstm")
    found = examples(subject)["train"]["hardest"]
    subject.model.eval()
    with torch.no_grad():
        logits = [subject.head(subject.model(**batch.inputs)) for batch in subject.train]
    for place in found:
        batch, row = place["batch"], place["row"]
        assert place["index"] == 8 * batch + row
        target = subject.train[batch].targets[row]
        assert place["target"] == target.item()
        assert place["loss"] == pytest.approx(float(F.cross_entropy(logits[batch][row], target)), rel=1e-4)


def test_sure_mistakes_are_those_above_nine_tenths():
    found = examples(known())["train"]
    assert found["num_sure_mistakes"] == 1
    assert found["sure_mistakes"][0]["index"] == 1
    assert found["sure_mistakes"][0]["probability"] == pytest.approx(float(LOGITS[1].softmax(0)[0]))


def test_losses_of_texts_are_means_over_their_tokens():
    subject = subject_of("decoder", num_batches=1)
    found = examples(subject)
    batch = subject.train[0]
    subject.model.eval()
    with torch.no_grad():
        logits = subject.head(subject.model(**batch.inputs))
    each = F.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none") * batch.mask
    expected = (each.sum(1) / batch.mask.sum(1)).sort(descending=True).values
    assert [place["loss"] for place in found["train"]["hardest"]] == pytest.approx(expected.tolist(), rel=1e-5)
    assert "prediction" not in found["train"]["hardest"][0]
    assert found["valid"]["examples"] == 8


def test_predictions_are_counted():
    found = predictions(known())
    assert found["accuracy"] == 0.5
    assert found["accuracy_over_majority"] == 0.0
    assert found["by_class"] == [
        {"class": 0, "labels": 1, "predicted": 3, "right": 1},
        {"class": 1, "labels": 2, "predicted": 1, "right": 1},
        {"class": 2, "labels": 1, "predicted": 0, "right": 0},
    ]
    assert found["never_predicted"] == [[2, 1]]
    assert found["prediction_entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert found["label_entropy"] == pytest.approx(1.5 * math.log(2.0))
    assert (found["top_prediction"], found["top_prediction_share"]) == (0, 0.75)


def test_predictions_are_of_validation_data_where_there_are_some():
    subject = dataclasses.replace(known(), valid=[Batch({"input": LOGITS[:1]}, TARGETS[:1])])
    assert (predictions(subject)["of"], predictions(subject)["answers"]) == ("valid", 1)


def test_ignored_and_masked_targets_do_not_count():
    logits = torch.randn(2, 4, 3)
    targets = torch.tensor([[0, 1, -100, 2], [0, 1, 2, 0]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    subject = Subject(model=nn.Identity(), head=Softmax(None, None), train=[Batch({"input": logits}, targets, mask)])
    found = predictions(subject)
    assert found["answers"] == 4
    best = logits.argmax(-1)
    right = [best[0, 0] == 0, best[0, 1] == 1, best[1, 0] == 0, best[1, 1] == 1]
    assert found["accuracy"] == pytest.approx(float(torch.stack(right).float().mean()))


def test_answers_that_are_numbers():
    subject = subject_of("sequential")
    found = predictions(subject)
    batches = subject.valid or subject.train
    subject.model.eval()
    targets = np.concatenate([batch.targets.reshape(-1).numpy() for batch in batches]).astype(float)
    with torch.no_grad():
        answers = np.concatenate([subject.objective().prediction(b).reshape(-1).numpy() for b in batches]).astype(float)
    expected = {
        "answers": len(targets), "target_mean": targets.mean(), "target_std": targets.std(),
        "answer_mean": answers.mean(), "answer_std": answers.std(),
        "explained": 1.0 - ((targets - answers) ** 2).mean() / targets.var(),
    }  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-6)


def states(number: int = 400) -> Subject:
    """Hidden states that tell the class, under an output layer that is as it was drawn."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(number, 6, generator=generator)
    targets = x[:, :3].argmax(1)
    head = Softmax(6, 3)
    batches = [Batch({"input": a}, b) for a, b in zip(x.split(50), targets.split(50), strict=True)]
    return Subject(model=nn.Identity(), head=head, train=batches, facts=Facts(family="linear"))


def test_output_layer_that_was_not_trained_is_far_from_the_fitted_one():
    subject = states()
    found = capacity(subject)
    x = torch.cat([batch.inputs["input"] for batch in subject.train])[1::2]
    y = torch.cat([batch.targets for batch in subject.train])[1::2]
    with torch.no_grad():
        assert found["present_head_loss"] == pytest.approx(float(F.cross_entropy(subject.head(x), y)), rel=1e-5)
    assert found["refitted_head_loss"] < 0.3 * found["present_head_loss"]


def test_output_layer_at_its_optimum_stays_there():
    subject = states()
    optimizer = torch.optim.LBFGS(subject.head.parameters(), max_iter=60, line_search_fn="strong_wolfe")
    objective = dataclasses.replace(subject, facts=Facts(l2=1e-3)).objective()
    optimizer.step(objective)
    found = capacity(subject)
    assert found["refitted_head_loss"] > 0.7 * found["present_head_loss"]


def test_layer_inside_the_model_is_fitted_too():
    subject = states()
    model = nn.Sequential(nn.Linear(6, 3))
    model[0].load_state_dict(subject.head.output.state_dict())
    inside = dataclasses.replace(subject, model=model, head=Softmax(None, None))
    one, other = capacity(subject), capacity(inside)
    assert other["refitted_head_loss"] == pytest.approx(one["refitted_head_loss"], rel=1e-3)
    assert other["narrowest"] is None


def test_few_states_fit_no_layer():
    assert "refitted_head_loss" not in capacity(states(20))


def test_losses_of_both_sides_and_widths():
    subject = subject_of("mlp")
    found = capacity(subject)
    subject.model.eval()
    with torch.no_grad():
        total, count = subject.objective().sum_and_count(subject.valid[0])
    assert found["valid_loss"] == pytest.approx(float(total / count), rel=1e-5)
    assert 0.0 <= found["train_accuracy"] <= 1.0
    assert (found["width"], found["narrowest"]) == (8, 8)
    assert capacity(subject_of("sequential"))["narrowest"] == 6
    assert capacity(subject_of("lstm"))["narrowest"] == 4
