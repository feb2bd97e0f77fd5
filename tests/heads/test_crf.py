"""CRF against the sum over all paths, written out: loss, marginals, best path, gradients, curvature, masks, weights."""

import itertools

import pytest
import torch
from torch import Tensor

from thalweg.heads import chain
from thalweg.heads.crf import CRF, NOT_GIVEN, RULED_OUT

WIDTH, TAGS, TIME = 3, 3, 4
LENGTHS = (4, 2, 1, 3)
MASK = torch.arange(TIME) < torch.tensor(LENGTHS).unsqueeze(1)
ALLOWED = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)  # row 0: the first place
ENDS = torch.tensor([True, False, True])


def make(*, constrained: bool = False, width: int | None = WIDTH) -> CRF:
    torch.manual_seed(4)
    head = CRF(width, TAGS, allowed=ALLOWED if constrained else None, ends=ENDS if constrained else None).double()
    torch.nn.init.normal_(head.transitions, std=1.5)
    return head


def hidden_states() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(LENGTHS), TIME, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()


def targets() -> Tensor:
    """Paths that the constraints allow; -100 at padding."""
    rows = torch.tensor([[0, 1, 2, 2], [1, 0, -100, -100], [0, -100, -100, -100], [1, 2, 2, -100]])
    assert bool((rows[MASK] >= 0).all())
    return rows


def paths(head: CRF, hidden: Tensor, row: int) -> dict[tuple[int, ...], Tensor]:
    """Every path of a sequence with its score, by the definition."""
    length = LENGTHS[row]
    scores = head.output(hidden)[row]
    found = {}
    for path in itertools.product(range(TAGS), repeat=length):
        steps = [scores[t, tag] for t, tag in enumerate(path)]
        steps += [head.transitions[a, b] for a, b in itertools.pairwise(path)]
        ruled_out = [head.forbidden[0, path[0]], head.forbidden_ends[path[-1]]]
        ruled_out += [head.forbidden[1 + a, b] for a, b in itertools.pairwise(path)]
        if not any(bool(entry) for entry in ruled_out):
            found[path] = torch.stack(steps).sum()
    return found


def loss_by_hand(head: CRF, hidden: Tensor) -> Tensor:
    each = []
    for row, length in enumerate(LENGTHS):
        found = paths(head, hidden, row)
        total = torch.logsumexp(torch.stack(list(found.values())), 0)
        each.append(total - found[tuple(targets()[row, :length].tolist())])
    return torch.stack(each)


@pytest.mark.parametrize("constrained", [False, True])
def test_loss_and_gradients_are_those_of_the_sum_over_all_paths(constrained):
    head, hidden = make(constrained=constrained), hidden_states()
    reference = loss_by_hand(head, hidden)
    leaves = [hidden, *head.parameters()]
    slopes = torch.autograd.grad(reference.sum(), leaves, retain_graph=True)
    weights = torch.tensor([0.5, 2.0, 0.0, 1.5], dtype=torch.float64)
    for find in (
        lambda weights: head.loss(head(hidden), targets(), MASK, weights),
        lambda weights: head.loss_from_hidden(hidden, targets(), MASK, weights),
    ):
        total, count = find(None)
        torch.testing.assert_close(total, reference.sum(), rtol=1e-12, atol=0)
        assert count == sum(LENGTHS)
        torch.testing.assert_close(torch.autograd.grad(total, leaves), slopes, rtol=1e-9, atol=1e-11)
        total, count = find(weights)
        torch.testing.assert_close(total, (weights * reference).sum(), rtol=1e-12, atol=0)
        assert count == float((weights * torch.tensor(LENGTHS)).sum())


@pytest.mark.parametrize("constrained", [False, True])
def test_marginals_and_best_paths_are_those_of_all_paths(constrained):
    head, hidden = make(constrained=constrained), hidden_states().detach()
    prediction = head(hidden)
    probabilities = head.probabilities(prediction, MASK)
    ids, logs = head.decode(prediction, TAGS, MASK)
    torch.testing.assert_close(probabilities.gather(-1, ids), logs.exp(), rtol=1e-10, atol=1e-14)
    best, log_probability = head.best_path(prediction, MASK)
    assert torch.equal(head.best_ids(prediction, MASK), best)
    for row, length in enumerate(LENGTHS):
        found = paths(head, hidden, row)
        weights = torch.softmax(torch.stack(list(found.values())), 0)
        expected = torch.zeros(length, TAGS, dtype=torch.float64)
        for path, weight in zip(found, weights, strict=True):
            for t, tag in enumerate(path):
                expected[t, tag] += weight
        torch.testing.assert_close(probabilities[row, :length], expected, rtol=1e-10, atol=1e-12)
        top = max(found, key=lambda path: found[path])
        assert best[row, :length].tolist() == list(top)
        torch.testing.assert_close(log_probability[row], weights.max().log(), rtol=1e-10, atol=1e-12)


def test_what_is_ruled_out_has_probability_zero_and_is_never_answered():
    head = make(constrained=True)
    hidden = 50.0 * hidden_states().detach()
    found = chain.marginals(*head._chain(head(hidden), MASK)).pairs
    assert bool((found[:, 0, 0][:, ~ALLOWED[0]] == 0.0).all())
    assert bool((found[:, 1:, 1:][:, :, ~ALLOWED[1:]] == 0.0).all())
    best = head.best_ids(head(hidden), MASK)
    for row, length in enumerate(LENGTHS):
        path = best[row, :length].tolist()
        assert ALLOWED[0, path[0]]
        assert all(ALLOWED[1 + a, b] for a, b in itertools.pairwise(path))
        assert ENDS[path[-1]]


def test_a_target_that_is_ruled_out_has_a_large_finite_loss():
    head, hidden = make(constrained=True), hidden_states()
    broken = torch.tensor([[2, 0, 0, 0]])
    for total, _ in (head.loss(head(hidden[:1]), broken), head.loss_from_hidden(hidden[:1], broken)):
        assert 0.9 * -2 * RULED_OUT < total.item() < 1.1 * -2 * RULED_OUT
        (slope,) = torch.autograd.grad(total, hidden)
        assert bool(slope.isfinite().all())


def test_a_preference_moves_the_best_path_and_no_probability():
    head, prediction = make(), make()(hidden_states().detach())
    before = head.probabilities(prediction, MASK)
    head.preference[1] = 1e3
    assert bool((head.best_ids(prediction, MASK)[MASK] == 1).all())
    assert torch.equal(head.probabilities(prediction, MASK), before)
    path, log_probability = head.best_path(prediction, MASK)
    psi, mask = head._chain(prediction, MASK)
    torch.testing.assert_close(log_probability, chain.path_scores(psi, path, mask) - chain.log_partition(psi, mask))


@pytest.mark.parametrize("constrained", [False, True])
def test_gradients_pass_finite_differences(constrained):
    head, hidden = make(constrained=constrained), hidden_states()
    head.transitions.requires_grad_(True)

    def direct(hidden: Tensor, transitions: Tensor) -> Tensor:
        del transitions
        return head.loss_from_hidden(hidden, targets(), MASK)[0]

    assert torch.autograd.gradcheck(direct, (hidden, head.transitions))
    assert torch.autograd.gradgradcheck(direct, (hidden, head.transitions))


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_curvature_is_the_hessian_and_its_root_squares_to_it(constrained, weighted):
    head = make(constrained=constrained)
    prediction = head(hidden_states().detach())
    weights = torch.tensor([0.5, 2.0, 0.0, 1.5], dtype=torch.float64) if weighted else None
    size = prediction.numel()
    reference = torch.autograd.functional.hessian(
        lambda z: head.loss(z.view_as(prediction), targets(), MASK, weights)[0], prediction.flatten()
    )
    units = torch.eye(size, dtype=torch.float64).view(size, *prediction.shape)
    product = head.curvature_product(prediction, targets(), MASK, units, weights).reshape(size, size)
    torch.testing.assert_close(product, reference, rtol=1e-8, atol=1e-12)
    root = head.curvature_root(prediction, targets(), MASK, units, weights).reshape(size, size).T  # columns: S e_i
    torch.testing.assert_close(root @ root.T, reference, rtol=1e-8, atol=1e-12)


def test_padding_adds_nothing_whatever_it_holds():
    head, hidden = make(), hidden_states().detach()
    leaves = [hidden.clone().requires_grad_(), hidden.masked_fill(~MASK.unsqueeze(-1), torch.nan).requires_grad_()]
    for find in (
        lambda leaf: head.loss_from_hidden(leaf, targets(), MASK)[0],
        lambda leaf: head.loss(head(leaf).masked_fill(~MASK.unsqueeze(-1), torch.nan), targets(), MASK)[0],
    ):
        losses = [find(leaf) for leaf in leaves]
        assert losses[0] == losses[1]
    found = [
        torch.autograd.grad(head.loss_from_hidden(leaf, targets(), MASK)[0], [leaf, *head.parameters()])
        for leaf in leaves
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert bool((found[0][0][~MASK] == 0.0).all())


def test_long_sequences_and_extreme_scores_stay_finite():
    head = CRF(None, TAGS)
    hidden = 60.0 * torch.randn(2, 300, TAGS, generator=torch.Generator().manual_seed(2))
    ids = torch.zeros(2, 300, dtype=torch.long)
    slow, fast = head.loss(head(hidden), ids)[0], head.loss_from_hidden(hidden, ids)[0]
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=0)
    assert bool(slow.isfinite())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda head, x: CRF(2, 0), r"CRF\(num_tags=...\) must be at least 1"),
        (lambda head, x: CRF(2, 3, allowed=torch.ones(3, 3)), r"expected a mask of shape \[4, 3\]; got \[3, 3\]"),
        (lambda head, x: head.loss(x, torch.zeros(1, 2).long()), r"expected a prediction \[..., time, 12\]"),
        (
            lambda head, x: head.loss(head(x), torch.zeros(1, 2).long(), torch.tensor([[False, True]])),
            "it has a hole",
        ),
        (
            lambda head, x: head.loss(head(x), torch.zeros(1, 2).long(), None, torch.tensor([[1.0, 2.0]])),
            "weights of one sequence must be equal",
        ),
        (
            lambda head, x: head.loss(head(x), torch.zeros(1, 2).long(), None, torch.ones(3)),
            r"one weight for each of 1 sequences; got the shape \[3\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(CRF(WIDTH, TAGS), torch.zeros(1, 2, WIDTH))


def test_tags_that_are_not_given_are_marginalized_as_by_listing_all_paths():
    torch.manual_seed(0)
    head = CRF(None, 3, ends=torch.tensor([True, True, False])).double()
    with torch.no_grad():
        head.transitions.normal_()
    hidden = torch.randn(4, 4, 3, dtype=torch.float64, requires_grad=True)
    none = NOT_GIVEN
    targets = torch.tensor([[0, none, 1, 0], [none, 2, none, none], [1, 0, none, 0], [none, 0, 1, 1]])
    mask = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1]]).bool()
    lengths = [4, 4, 3, 4]
    prediction = head(hidden)
    psi = prediction.reshape(4, 4, 4, 3)
    expected = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(lengths):
        scores, fits = [], []
        for path in itertools.product(range(3), repeat=length):
            before = [0, *(1 + tag for tag in path[:-1])]
            score = sum(psi[row, t, before[t], path[t]] for t in range(length))
            scores.append(score + head.forbidden_ends[path[-1]])
            fits.append(all(int(targets[row, t]) in (none, path[t]) for t in range(length)))
        scores, fits = torch.stack(scores), torch.tensor(fits)
        expected = expected + torch.logsumexp(scores, 0) - torch.logsumexp(scores[fits], 0)
    (wanted,) = torch.autograd.grad(expected, hidden, retain_graph=True)
    for total, count in (head.loss(prediction, targets, mask), head.loss_from_hidden(hidden, targets, mask)):
        assert count.item() == int(mask.sum())
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(torch.autograd.grad(total, hidden, retain_graph=True)[0], wanted)


def test_a_sequence_without_any_given_tag_adds_nothing():
    head = CRF(None, 2)
    total, count = head.loss(
        head(torch.randn(1, 3, 2)), torch.full((1, 3), NOT_GIVEN), torch.zeros(1, 3, dtype=torch.bool)
    )
    assert total.item() == pytest.approx(0.0, abs=1e-6)
    assert count.item() == 0.0
