import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective

pytestmark = pytest.mark.usefixtures("float64")


class Body(nn.Module):
    """A small network on keyword inputs, with dropout."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.dropout = nn.Dropout(dropout)
        self.width = 4

    def forward(self, x):
        return self.dropout(torch.tanh(self.linear(x)))


def uneven_batches():
    """Micro-batches with 5, 2 and 4 real targets: a mean of means would be wrong."""
    sizes, reals = (5, 4, 4), (5, 2, 4)
    return [
        Batch({"x": torch.randn(n, 3)}, torch.randint(3, (n,)), torch.arange(n) < real)
        for n, real in zip(sizes, reals, strict=True)
    ]


def joined(batches):
    parts = [(b.inputs["x"][b.mask], b.targets[b.mask]) for b in batches]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def reference(model, head, batches, l2=0.0):
    """The same loss and gradient by plain PyTorch on the real targets joined."""
    x, y = joined(batches)
    loss = nn.functional.cross_entropy(head(model(x)), y)
    parameters = [*model.parameters(), *head.parameters()]
    if l2:
        loss = loss + 0.5 * l2 * sum(p.square().sum() for p in parameters if p.dim() >= 2)
    return loss.detach(), torch.autograd.grad(loss, parameters)


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_uneven_micro_batches_equal_one_joined_batch(l2):
    model, head, batches = Body(), Softmax(4, 3), uneven_batches()
    loss, gradient = reference(model, head, batches, l2)
    objective = Objective(model, head, batches, l2=l2)
    torch.testing.assert_close(objective.value(), loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(objective(), loss, rtol=1e-12, atol=0)
    for parameter, expected in zip([*model.parameters(), *head.parameters()], gradient, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-10, atol=1e-14)


def test_one_batch_takes_the_same_value_as_many():
    model, head, batches = Body(), Softmax(4, 3), uneven_batches()
    x, y = joined(batches)
    one = Objective(model, head, Batch({"x": x}, y))
    torch.testing.assert_close(one(), Objective(model, head, batches)(), rtol=1e-12, atol=0)


def test_the_gradient_is_that_of_the_value_by_finite_differences():
    model, head, batches = Body(), Softmax(4, 3), uneven_batches()
    objective = Objective(model, head, batches, l2=0.1)
    _, gradient = objective.value_and_gradient()
    weight, step = model.linear.weight, 1e-6
    for place in [(0, 0), (3, 2)]:
        with torch.no_grad():
            weight[place] += step
            up = objective.value()
            weight[place] -= 2 * step
            down = objective.value()
            weight[place] += step
        slope = (up - down) / (2 * step)
        torch.testing.assert_close(gradient[0][place], slope, rtol=1e-6, atol=1e-9)


def test_value_and_gradient_leaves_the_gradients_alone():
    model, head, batches = Body(), Softmax(4, 3), uneven_batches()
    objective = Objective(model, head, batches)
    held = torch.full_like(model.linear.weight, 7.0)
    model.linear.weight.grad = held
    loss, gradient = objective.value_and_gradient()
    assert model.linear.weight.grad is held
    assert not torch.equal(gradient[0], held)
    torch.testing.assert_close(loss, objective.value())


def test_dropout_draws_the_same_masks_at_every_evaluation_of_one_objective():
    model, head, batches = Body(dropout=0.5).train(), Softmax(4, 3), uneven_batches()
    objective = Objective(model, head, batches)
    first = objective()
    torch.rand(100)  # whatever happens to the random state in between
    assert torch.equal(objective.value(), first)
    assert not torch.equal(Objective(model, head, batches).value(), first)


def test_evaluations_are_counted():
    objective = Objective(Body(), Softmax(4, 3), uneven_batches())
    objective.value()
    objective()
    objective.value_and_gradient()
    assert (objective.num_values, objective.num_gradients) == (1, 2)


def test_the_same_function_on_other_batches_counts_anew():
    model, head, batches = Body(dropout=0.5).train(), Softmax(4, 3), uneven_batches()
    objective = Objective(model, head, batches[:1], l2=0.3)
    objective()
    other = objective.on(batches[1:])
    torch.manual_seed(0)
    expected = Objective(model, head, batches[1:], l2=0.3).value()
    torch.manual_seed(0)
    torch.testing.assert_close(other.value(), expected, rtol=1e-12, atol=0)
    assert (other.num_values, other.num_gradients) == (1, 0)
    assert (objective.num_values, objective.num_gradients) == (0, 1)
    assert len(objective.batches) == 1


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.LBFGS])
def test_it_is_the_closure_of_any_torch_optimizer(optimizer):
    x = torch.randn(20, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    model = nn.Linear(3, 1)
    objective = Objective(model, nn.MSELoss(), x, y)
    start = float(objective.value())
    stepper = optimizer(model.parameters(), lr=0.1)
    for _ in range(60):
        stepper.step(objective)
    assert float(objective.value()) < 0.05 * start


def test_closure_optimizer_matches_a_handwritten_closure_bit_for_bit():
    x, y = torch.randn(16, 3), torch.randn(16, 1)
    ours, theirs = nn.Linear(3, 1), nn.Linear(3, 1)
    theirs.load_state_dict(ours.state_dict())
    first = torch.optim.LBFGS(ours.parameters(), line_search_fn="strong_wolfe")
    second = torch.optim.LBFGS(theirs.parameters(), line_search_fn="strong_wolfe")

    def closure():
        second.zero_grad()
        loss = nn.functional.mse_loss(theirs(x), y, reduction="sum") / len(x)
        loss.backward()
        return loss

    objective = Objective(ours, nn.MSELoss(), x, y)
    for _ in range(3):
        first.step(objective)
        second.step(closure)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-9, atol=0)


def test_parameters_without_gradient_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    model[0].requires_grad_(False)
    Objective(model, nn.MSELoss(), torch.randn(5, 3), torch.randn(5, 1), l2=0.5)()
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None


def test_the_l2_penalty_leaves_biases_free():
    model, head = Body(), Squared(4, 1)
    batch = Batch({"x": torch.zeros(2, 3)}, torch.zeros(2, 1))
    plain, penalized = Objective(model, head, batch), Objective(model, head, batch, l2=2.0)
    _, without = plain.value_and_gradient()
    _, with_penalty = penalized.value_and_gradient()
    by_name = dict(
        zip([n for n, _ in [*model.named_parameters()]], zip(without, with_penalty, strict=False), strict=False)
    )
    torch.testing.assert_close(
        by_name["linear.weight"][1] - by_name["linear.weight"][0], 2.0 * model.linear.weight.detach()
    )
    assert torch.equal(*by_name["linear.bias"])


CASES = {
    "negative l2": (
        lambda: Objective(nn.Linear(1, 1), nn.MSELoss(), torch.ones(1, 1), torch.ones(1, 1), l2=-1.0),
        r"l2=.* got -1.0",
    ),
    "no targets": (lambda: Objective(nn.Linear(1, 1), nn.MSELoss(), torch.ones(1, 1)), "needs targets"),
    "targets twice": (
        lambda: Objective(nn.Linear(1, 1), nn.MSELoss(), Batch({}, torch.ones(1)), torch.ones(1)),
        "holds its own targets",
    ),
    "no batch": (lambda: Objective(nn.Linear(1, 1), nn.MSELoss(), []), "needs at least one batch"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_is_refused(case):
    make, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_tensors_are_chosen_in_the_order_given_and_modules_in_the_objectives():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    objective = Objective(model, nn.MSELoss(), torch.zeros(1, 2), torch.zeros(1, 1), l2=0.5)
    weight, bias, last, _ = objective.parameters
    assert [id(t) for t in objective.choose([last, weight, last])] == [id(last), id(weight)]
    assert [id(t) for t in objective.choose(model[0])] == [id(weight), id(bias)]
    assert objective.penalties([bias, last]) == [0.0, 0.5]
