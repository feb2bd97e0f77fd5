"""Objectives of one's own: what is told about them, and what is refused."""

import copy
import math
import time

import numpy as np
import pytest
import torch
from torch import nn

import thalweg
from thalweg.batch import Batch
from thalweg.certificates import levels as levels_module
from thalweg.certificates.certificate.ladder import ladder_section, prospects, sentence
from thalweg.certificates.checker.check import Refused, check
from thalweg.certificates.levels import ERRORS, hash_of_data, hash_of_weights
from thalweg.certificates.losses import softplus
from thalweg.errors import InputError
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.models.bag import Bag
from thalweg.models.mlp import MLP
from thalweg.models.recurrent import Recurrent
from thalweg.objective import Objective


def floor_of(objective, quantity="training loss"):
    interval = thalweg.certify(objective, seconds=1.0)
    (found,) = [level for level in interval.levels if level.name == "floor" and level.quantity == quantity]
    return found


X = torch.tensor([[0.0], [0.0], [1.0], [1.0]])


def test_duplicates_of_a_classifier():
    objective = Objective(nn.Linear(1, 3), nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]))
    assert math.isclose(floor_of(objective).bound, math.log(2) / 2, rel_tol=1e-12)
    assert math.isclose(floor_of(objective, ERRORS).bound, 0.25)


def test_duplicates_of_a_regression():
    objective = Objective(nn.Linear(1, 1), nn.MSELoss(), X, torch.tensor([[0.0], [2.0], [5.0], [5.0]]))
    assert math.isclose(floor_of(objective).bound, 0.5, rel_tol=1e-12)


def test_duplicates_of_independent_answers():
    answers = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    model = nn.Linear(1, 3)
    objective = Objective(model, Bernoulli(3, 2), X, answers)
    assert math.isclose(floor_of(objective).bound, 2 * math.log(2) / 8, rel_tol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_and_weights_of_examples(smoothing):
    """The floor is what a free table of logits, one row for each kind of input, can reach."""
    weights, classes = torch.tensor([1.0, 2.0, 0.5, 1.0]), torch.tensor([1.0, 3.0, 0.5])
    table = nn.Embedding(2, 3)
    head = Softmax(None, 3, class_weights=classes, label_smoothing=smoothing)
    inputs = X[:, 0].long()
    objective = Objective(table, head, inputs, torch.tensor([0, 1, 2, 1]), weights=weights).copied(torch.float64)
    optimizer = torch.optim.LBFGS(objective.parameters, max_iter=200, line_search_fn="strong_wolfe")
    optimizer.step(objective)
    found = floor_of(objective)
    assert found.bound <= float(objective.value()) + 1e-12
    assert math.isclose(found.bound, float(objective.value()), rel_tol=1e-5)


def test_where_and_how_it_is_called_changes_no_level():
    """In inference mode the neighborhood was left out as a mistake; so it was for tensors made in it."""

    def made():
        torch.manual_seed(0)
        model, x = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(9, 2)
        return Objective(model, nn.CrossEntropyLoss(), x, torch.arange(9) % 2, l2=1e-2)

    plain = thalweg.certify(made())
    found = []
    with torch.inference_mode():
        found += [thalweg.certify(made())]
    with torch.no_grad():
        found += [thalweg.certify(made())]
    with torch.autocast("cpu", torch.bfloat16):
        found += [thalweg.certify(made())]
    for interval in found:
        assert [level.name for level in interval.levels] == [level.name for level in plain.levels]
        assert interval.loss == plain.loss
        assert not interval.left_out


@pytest.mark.parametrize("size", [1e18, 1e20, 1e40, 1e55])
def test_features_beyond_single_precision_have_a_head_level(size):
    """Their squares are infinite in float32, in which polishing solves its equations: it failed as a mistake."""
    torch.manual_seed(0)
    x = size * torch.randn(20, 3, dtype=torch.float64)
    objective = Objective(nn.Linear(3, 2).double(), nn.CrossEntropyLoss(), x, torch.arange(20) % 2, l2=1e-4)
    interval = thalweg.certify(objective)
    (head,) = [level for level in interval.levels if level.name == "head"]
    assert 0.0 <= head.bound <= math.log(2)


def test_distributions_beside_classes_leave_levels_out_with_a_sentence():
    soft = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    batches = [Batch({"input": X[:2]}, torch.tensor([0, 1])), Batch({"input": X[2:]}, soft)]
    interval = thalweg.certify(Objective(nn.Linear(1, 2), nn.CrossEntropyLoss(), batches))
    assert math.isfinite(interval.loss)
    assert "Some batches have classes as targets and others distributions" in interval.left_out["floor"]


def test_bags_and_masked_places():
    bags = Batch({"tokens": torch.tensor([1, 2, 1, 2, 1]), "offsets": torch.tensor([0, 2, 4])}, torch.tensor([0, 1, 1]))
    found = floor_of(Objective(Bag(3, 4), Softmax(4, 2), bags))
    assert math.isclose(found.bound, 2 * math.log(2) / 3, rel_tol=1e-12)
    tokens, mask = torch.tensor([[1, 2], [1, 2], [1, 0]]), torch.tensor([[True, True], [True, True], [True, False]])
    targets = torch.tensor([[0, 1], [1, 1], [0, 0]])
    model = nn.Sequential(nn.Embedding(3, 4), nn.Tanh())
    found = floor_of(Objective(model, Softmax(4, 2), tokens, targets, mask=mask))
    assert math.isclose(found.bound, 2 * math.log(2) / 5, rel_tol=1e-12)


def test_dropout_is_labeled_and_left_out():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    objective = Objective(model, nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]))
    interval = thalweg.certify(objective)
    assert "without dropout" in interval.notes[0]
    assert model.training
    assert thalweg.certify(objective).loss == interval.loss


def test_a_head_that_is_no_convex_loss_is_told():
    class Odd(Squared):  # type: ignore[misc]
        def linear_form(self, hidden, targets, mask=None, weights=None):
            return None

    interval = thalweg.certify(Objective(nn.Linear(1, 1), Odd(), X, torch.zeros(4, 1)))
    assert "not a convex loss (softmax, logistic, squared) of a linear layer" in interval.left_out["floor"]


@pytest.mark.parametrize("what", ["inputs", "targets", "weights"])
def test_numbers_that_are_none_are_refused(what):
    model, inputs, targets = nn.Linear(1, 1), X.clone(), torch.zeros(4, 1)
    for tensor in {"inputs": [inputs], "targets": [targets], "weights": [model.weight.data]}[what]:
        tensor[0] = torch.nan
    with pytest.raises(InputError, match="loss is nan"):
        thalweg.certify(Objective(model, nn.MSELoss(), inputs, targets))


def test_no_time_for_the_neighborhood():
    objective = Objective(nn.Linear(1, 3), nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]))
    assert "allow more time" in thalweg.certify(objective, seconds=1e-9).left_out["local"]


def level_of(interval, name):
    (found,) = [level for level in interval.levels if level.name == name]
    return found


def test_the_head_of_a_plain_model_is_polished(tmp_path):
    torch.manual_seed(0)
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
    body = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    layer = nn.Linear(6, 3)
    objective = Objective(nn.Sequential(body, layer), nn.CrossEntropyLoss(), x, y, l2=1e-2)
    interval = thalweg.certify(objective, seconds=2.0)
    head = level_of(interval, "head")
    exact = objective.copied(torch.float64)
    last = exact.model[1]
    optimizer = torch.optim.LBFGS(
        last.parameters(), max_iter=500, tolerance_grad=1e-10, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )
    optimizer.step(exact)  # all gradients are computed, and the layer alone moves
    best = float(exact.value())
    assert head.bound <= best <= head.reached + 1e-9
    assert math.isclose(head.bound, best, rel_tol=1e-6)
    assert math.isclose(head.reached, best, rel_tol=1e-6)
    assert interval.bound < head.bound  # it says nothing about the whole
    assert interval.best_reached == head.reached
    interval.save(tmp_path / "c.json")
    assert check(tmp_path / "c.json").refused == []


def test_without_a_penalty_a_separable_problem_has_an_infimum_that_nothing_attains():
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model.bias.copy_(torch.tensor([0.5, -0.5]))
    objective = Objective(model, nn.CrossEntropyLoss(), X, torch.tensor([0, 0, 1, 1]))
    head = level_of(thalweg.certify(objective, seconds=2.0), "head")
    assert "no layer attains it" in head.assumptions[-1]
    assert "norm up to" in head.scope
    model.weight.data.neg_()
    head = level_of(thalweg.certify(objective, seconds=2.0), "head")
    assert not any("attains" in sentence for sentence in head.assumptions)


def test_a_batch_whose_examples_weigh_nothing_is_no_obstacle():
    weights = torch.tensor([0.0, 0.0, 1.0, 2.0])
    y = torch.tensor([0, 1, 0, 1])
    parts = [Batch({"input": X[part]}, y[part], None, weights[part]) for part in (slice(0, 2), slice(2, 4))]
    torch.manual_seed(0)
    model = nn.Linear(1, 2)
    apart, together = (
        level_of(thalweg.certify(Objective(model, nn.CrossEntropyLoss(), *data, l2=0.1, **more), seconds=1.0), "head")
        for data, more in (((parts,), {}), ((X, y), {"weights": weights}))
    )
    assert apart.bound == pytest.approx(together.bound, rel=1e-9)


def test_a_penalty_on_other_weights_is_part_of_the_infimum_of_the_layer():
    """A penalty of 0.45 on the body, and "losses arbitrarily close to 0"."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.fill_(3.0)
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model[1].bias.copy_(torch.tensor([1.5, -1.5]))
    x, y = torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1])
    objective = Objective(model, nn.CrossEntropyLoss(), x, y, l2=0.1, penalized=[model[0].weight])
    head = level_of(thalweg.certify(objective, seconds=1e-9), "head")
    assert head.bound > 0.45
    said = f"arbitrarily close to {0.05 * 9.0!r}, the penalty on the weights that stay as they are"
    assert said in head.assumptions[-1]


def test_features_of_bounded_length_give_a_floor_of_every_depth():
    torch.manual_seed(0)
    x, y = torch.randn(40, 4), torch.arange(40) % 4
    model = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 4))
    objective = Objective(model, nn.CrossEntropyLoss(), x, y, l2=1e-2)
    found = level_of(thalweg.certify(objective, seconds=2.0, radius=3.0), "norm_floor")
    assert 0.0 < found.bound < found.loss
    assert "given, not checked" in found.assumptions[0]
    free = Objective(model, nn.CrossEntropyLoss(), x, y)
    assert "with an L2 penalty" in thalweg.certify(free, seconds=2.0, radius=3.0).left_out["norm_floor"]


def test_a_tied_head_is_refused():
    embedding = nn.Embedding(5, 3)
    objective = Objective(embedding, Softmax(3, 5, tied=embedding), torch.tensor([0, 1]), torch.tensor([1, 2]), l2=0.1)
    assert "tied" in thalweg.certify(objective, seconds=2.0).left_out["head"]


def test_more_classes_than_examples():
    objective = Objective(nn.Linear(1, 9), nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]), l2=0.1)
    interval = thalweg.certify(objective, seconds=2.0)
    assert level_of(interval, "head").bound <= interval.loss
    assert math.isclose(floor_of(objective).bound, math.log(2) / 2, rel_tol=1e-12)


def test_hashes_tell_data_and_weights_apart():
    model, targets = nn.Linear(1, 3), torch.tensor([0, 1, 2, 2])
    objective = Objective(model, nn.CrossEntropyLoss(), X, targets)
    data, weights = hash_of_data(objective), hash_of_weights(objective)
    other = Objective(model, nn.CrossEntropyLoss(), X, targets.flip(0))
    assert hash_of_data(other) != data
    assert hash_of_weights(other) == weights
    with torch.no_grad():
        model.bias[0] += 1e-3
    assert hash_of_weights(objective) != weights


def test_the_copy_leaves_the_original_alone():
    embedding = nn.Embedding(5, 3)
    head = Softmax(3, 5, tied=embedding)
    objective = Objective(embedding, head, torch.tensor([0, 1]), torch.tensor([1, 2]), l2=0.1)
    other = objective.copied(torch.float64)
    assert other.model.weight is other.head.output.weight
    assert math.isclose(float(other.value()), float(objective.value()), rel_tol=1e-6)
    with torch.no_grad():
        other.model.weight.zero_()
    assert bool(embedding.weight.any())
    assert (embedding.weight.dtype, embedding.training) == (torch.float32, True)
    assert not other.penalized[0].any()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_model_with_a_compiled_part_has_all_levels():
    """A deep copy of what TorchScript compiled is no leaf: the model was refused, and before had no neighborhood."""
    torch.manual_seed(0)
    compiled = torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.Tanh()))
    model = nn.Sequential(compiled, nn.Linear(3, 2))
    compiled[0].bias.requires_grad_(False)
    objective = Objective(model, nn.CrossEntropyLoss(), torch.ones(4, 2), torch.tensor([0, 1, 1, 1]), l2=1e-2)
    interval = thalweg.certify(objective, seconds=20.0)
    assert {level.name for level in interval.levels} == {"floor", "head", "local"}
    assert [tensor.requires_grad for tensor in model.parameters()] == [True, False, True, True]
    copied = list(objective.copied(torch.float64).model.parameters())
    assert [(tensor.is_leaf, tensor.requires_grad) for tensor in copied] == [
        (True, True), (True, False), (True, True), (True, True),
    ]  # fmt: skip


def test_an_objectives_interval_can_be_saved_and_checked(tmp_path):
    objective = Objective(nn.Linear(1, 3), nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]))
    interval = thalweg.certify(objective)
    interval.save(tmp_path / "c.json")
    assert check(tmp_path / "c.json").bound_verified
    text = (tmp_path / "c.json").read_text()
    (tmp_path / "c.json").write_text(text.replace('"bound"', '"bund"'))
    with pytest.raises(Refused, match="cannot be read as a certificate"):
        check(tmp_path / "c.json")


# Levels that fail


@pytest.mark.parametrize("error", [
    ValueError("odd"), RuntimeError("odd"), np.linalg.LinAlgError("odd"), AssertionError("odd"), TypeError("odd"),
    KeyError("odd"), OverflowError("odd"), ZeroDivisionError("odd"),
])  # fmt: skip
def test_a_level_that_fails_leaves_itself_out_and_is_seen_by_developers(monkeypatch, error):
    def fail(*arguments, **keywords):
        raise error

    monkeypatch.setattr(levels_module, "head_level", fail)
    objective = Objective(nn.Linear(1, 3), nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]), l2=0.1)
    with pytest.warns(RuntimeWarning, match="The level 'head' of a certificate failed"):
        interval = thalweg.certify(objective)
    assert f"It failed ({type(error).__name__}: " in interval.left_out["head"]
    assert {"floor", "local"} <= {level.name for level in interval.levels}
    with pytest.raises(
        RuntimeWarning, match="odd"
    ):  # the suite takes warnings for errors, so that no mistake is hidden
        thalweg.certify(objective)


def test_a_lack_of_memory_leaves_a_level_out_without_a_warning(monkeypatch):
    def fail(*arguments, **keywords):
        raise MemoryError

    monkeypatch.setattr(levels_module, "head_level", fail)
    objective = Objective(nn.Linear(1, 3), nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]), l2=0.1)
    assert thalweg.certify(objective).left_out["head"] == "There is not enough memory for it."


def test_a_level_about_another_loss_is_left_out(monkeypatch):
    def other(objective, rows, **keywords):
        wrong = copy.copy(objective)
        wrong.l2 = 0.2
        return head_level(wrong, None, **keywords)

    head_level = levels_module.head_level
    monkeypatch.setattr(levels_module, "head_level", other)
    objective = Objective(nn.Linear(1, 3), nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]), l2=0.1)
    assert "so it is about another function" in thalweg.certify(objective).left_out["head"]


@pytest.mark.parametrize("size", [700.0, 710.0, 1e3, 1e5, 1e12])
@pytest.mark.parametrize("l2", [0.0, 1e-9])
def test_logits_of_any_size(size, l2):
    """One example of four is wrong by the size of its logit."""
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(size)
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [1.0], [0.0], [1.0]], dtype=torch.float64)
    interval = thalweg.certify(Objective(model, nn.BCEWithLogitsLoss(), x, y, l2=l2), seconds=1.0)
    expected = size / 4 + 0.5 * l2 * size**2
    assert math.isclose(interval.loss, expected, rel_tol=1e-12)
    assert math.isclose(floor_of_interval(interval).bound, 2 * math.log(2) / 4, rel_tol=1e-9)
    assert interval.bound <= interval.loss


def floor_of_interval(interval):
    return next(level for level in interval.levels if level.name == "floor")


@pytest.mark.parametrize("z", [-1e308, -800.0, -1.0, 0.0, 1.0, 709.0, 710.0, 1e4, 1e308])
def test_softplus_is_finite_and_exact(z):
    exact = max(z, 0.0) + math.log1p(math.exp(-abs(z)))
    assert float(softplus(torch.tensor(z, dtype=torch.float64))) == pytest.approx(exact, rel=4e-16, abs=0.0)
    assert math.isfinite(exact)


class Rough(nn.Module):
    """Draws random numbers even in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.layer(nn.functional.dropout(inputs, 0.5, training=True))


def test_a_random_loss_has_no_levels():
    torch.manual_seed(0)
    interval = thalweg.certify(Objective(Rough(), nn.CrossEntropyLoss(), torch.randn(20, 4), torch.arange(20) % 3))
    assert interval.levels == ()
    assert interval.bound == -math.inf
    assert {"floor", "head", "local"} <= interval.left_out.keys()
    assert all("functional dropout" in reason for reason in interval.left_out.values())


def test_soft_targets_of_float32_have_the_loss_that_training_has():
    """Their rows add up to one only nearly; divided by their sums they would be another loss, by 1e-8 of it."""
    torch.manual_seed(0)
    x, targets = torch.randn(40, 6), torch.softmax(torch.randn(40, 3), 1)
    assert bool((targets.double().sum(1) != 1.0).any())
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)):
        interval = thalweg.certify(Objective(nn.Linear(6, 3), loss, x, targets, l2=1e-2))
        head = level_of(interval, "head")
        assert head.relative_gap < 1.0
        assert head.bound <= head.reached <= interval.loss


def test_a_tied_bag_is_refused_by_name():
    bag = Bag(6, 3)
    batch = Batch({"tokens": torch.tensor([1, 2, 3, 4]), "offsets": torch.tensor([0, 2])}, torch.tensor([0, 1]))
    interval = thalweg.certify(Objective(bag, Softmax(3, 6, tied=bag.embedding.weight), batch, l2=0.1))
    assert "tied" in interval.left_out["factored"]
    assert "tied" in interval.left_out["head"]


# What is said


def gru():
    return Recurrent(9, 4, cell=nn.GRU, hidden=4), Softmax(4, 3)


def deep_bag():
    return Bag(9, 4, body=MLP([4, 5, 4], activation=nn.Tanh, output_activation=nn.Tanh)), Softmax(4, 3)


KINDS = {
    "gru": (gru, {"tokens": torch.arange(8).reshape(4, 2)}, torch.arange(8).reshape(4, 2) % 3),
    "mlp on a bag": (deep_bag, {"tokens": torch.arange(8), "offsets": torch.arange(0, 8, 2)}, torch.arange(4) % 3),
}


@pytest.mark.parametrize("l2", [0.0, 1e-3])
@pytest.mark.parametrize("kind", KINDS)
def test_only_levels_for_this_kind_of_model_are_said_to_be_left_out(kind, l2):
    make, inputs, targets = KINDS[kind]
    model, head = make()
    interval = thalweg.certify(Objective(model, head, Batch(inputs, targets), l2=l2))
    assert "factored" not in interval.left_out
    assert "norm_floor" not in interval.left_out
    assert ("separable" in {*interval.left_out, *(level.name for level in interval.levels)}) == (l2 == 0.0)
    assert not any("--model" in reason for reason in interval.left_out.values())


def test_where_nothing_bounds_the_whole_the_parts_are_told():
    torch.manual_seed(0)
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
    model = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3))
    interval = thalweg.certify(Objective(model, nn.CrossEntropyLoss(), x, y, l2=1e-2))
    assert interval.bound == 0.0
    said = sentence(interval)
    assert "could memorize the training data, so its best training loss may be as low as 0" in said
    assert "%" not in said
    assert "at least" not in said
    (head, local) = sorted(prospects(interval), key=lambda text: text.startswith("A step"))
    places = f"{level_of(interval, 'head').reached:.4f}"
    assert head.startswith("Fitting the output layer again")
    assert places in head
    assert local.startswith("A step along")
    section = ladder_section(interval)
    assert "100" not in section["text"]
    assert section["rows"][0][0] == "best head on these features"  # a floor of 0 says nothing and has no row


def test_a_layer_without_a_penalty_is_compared_with_layers_of_no_larger_norm():
    """A larger one gets below what is said of those."""
    torch.manual_seed(0)
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
    model = nn.Sequential(nn.Linear(4, 40), nn.Tanh(), nn.Linear(40, 3))
    objective = Objective(model, nn.CrossEntropyLoss(), x, y)
    interval = thalweg.certify(objective)
    (said,) = [text for text in prospects(interval) if text.startswith("Fitting")]
    assert "with a norm no larger than now, cannot bring it below" in said
    optimizer = torch.optim.LBFGS(model[2].parameters(), max_iter=200, line_search_fn="strong_wolfe")
    optimizer.step(objective)
    assert float(objective.value()) < level_of(interval, "head").bound


def test_frozen_weights_are_named():
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    interval = thalweg.certify(Objective(model, nn.CrossEntropyLoss(), X, torch.tensor([0, 1, 2, 2]), l2=0.1))
    assert any("8 of 23 weights are frozen" in note for note in interval.notes)
    assert level_of(interval, "head").bound <= interval.loss


def test_time_is_for_everything():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 600), nn.Tanh(), nn.Linear(600, 30))
    x, y = torch.randn(3000, 300), torch.randint(0, 30, (3000,))
    objective = Objective(model, nn.CrossEntropyLoss(), x, y, l2=1e-6)
    start = time.process_time()
    interval = thalweg.certify(objective, seconds=2.0)
    assert time.process_time() - start < 15.0  # of 2, on a machine with much other work
    assert "head" in {level.name for level in interval.levels}


@pytest.mark.parametrize("kind", ["weights", "answers", "shares"])
def test_a_loss_without_a_lower_bound_is_no_mistake_of_thalweg(kind):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    model, loss, targets = nn.Linear(3, 3), nn.CrossEntropyLoss(), torch.arange(20) % 3
    if kind == "weights":
        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, -1.0, 4.0]))
    elif kind == "answers":
        loss, targets = nn.BCEWithLogitsLoss(), torch.full((20, 3), 1.5)
    else:
        targets = torch.tensor([1.5, -0.5, 0.0]).repeat(20, 1)
    interval = thalweg.certify(Objective(model, loss, x, targets, l2=0.1), seconds=2.0)
    assert interval.best is None
    assert all("no loss is bounded below" in interval.left_out[name] for name in ("floor", "head"))


def test_inputs_and_weights_of_every_kind_have_a_hash():
    x, y = torch.eye(6), torch.arange(6) % 3
    hashes = set()
    for inputs in (x.to_sparse(), (2 * x).to_sparse(), x.bfloat16(), x):
        kind = torch.bfloat16 if inputs.dtype is torch.bfloat16 else torch.float32
        torch.manual_seed(0)
        interval = thalweg.certify(Objective(nn.Linear(6, 3).to(kind), nn.CrossEntropyLoss(), inputs, y), seconds=1.0)
        hashes.add(interval.hashes["data"])
        if inputs.layout is not torch.strided:
            assert "a sparse tensor" in interval.left_out["head"]
    assert len(hashes) == 3  # what is stored counts, not how; bfloat16 has the same numbers as float32
