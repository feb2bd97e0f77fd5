"""Target vectors: unit length, frozen or learned or following, special ones apart, a vocabulary that grows."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.heads.dispersion import Sliced
from thalweg.heads.target_tables import combined_table, completed_table, hypercube_table, random_table
from thalweg.heads.targets import Targets, apart, grow_embedding

SPECIAL = (0, 1, 2, 3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def embedding(num=20, width=8):
    return nn.Embedding.from_pretrained(torch.randn(num, width, generator=generator()), freeze=False, padding_idx=0)


def make(kind, num=20, width=8, **options):
    table = torch.randn(num, width, generator=generator())
    if kind == "frozen":
        return Targets(table, **options)
    if kind == "trained":
        return Targets(table, trainable=True, **options)
    if kind == "shared":
        return Targets(embedding(num, width), trainable=True, **options)
    return Targets(embedding(num, width), stop_gradient=True, average=0.9 if kind == "slow" else 0.0, **options)


KINDS = ["frozen", "trained", "shared", "following", "slow"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_unit_vectors_and_the_same_ones_by_id_by_block_and_at_once(kind):
    targets = make(kind)
    table = targets.table()
    assert (targets.num, targets.width, table.shape) == (20, 8, (20, 8))
    assert torch.allclose(table.norm(dim=1), torch.ones(20))
    ids = torch.tensor([[3, 0], [19, 3]])
    assert torch.equal(targets(ids), table[ids])
    assert torch.equal(torch.cat([targets.block(0, 7), targets.block(7, 20)]), table)


@pytest.mark.parametrize(
    ("kind", "learns"), [("frozen", 0), ("trained", 1), ("shared", 1), ("following", 0), ("slow", 0)]
)
def test_only_learned_targets_have_a_gradient_and_only_along_the_sphere(kind, learns):
    targets = make(kind)
    assert targets.learns == bool(learns)
    vectors = targets(torch.tensor([5, 6]))
    assert vectors.requires_grad == bool(learns)
    if learns:
        (vectors * torch.randn(2, 8, generator=generator(1))).sum().backward()
        gradient, weight = targets.embedding.weight.grad, targets.embedding.weight.detach()
        assert gradient[5].norm() > 0
        assert not gradient[7:].any()
        assert (gradient * weight).sum(1).abs().max() < 1e-6  # the length of a vector has no say


def test_slow_targets_follow_the_embedding_by_a_share_of_the_way():
    targets = make("slow")
    before = targets.slow.clone()
    with torch.no_grad():
        targets.embedding.weight += 1.0
    assert torch.equal(targets.slow, before)
    targets.after_step()
    assert torch.allclose(targets.slow, before + 0.1)
    targets = make("following")
    with torch.no_grad():
        targets.embedding.weight += 1.0
    assert torch.equal(targets.table(), F.normalize(targets.embedding.weight.detach(), dim=-1))


@pytest.mark.parametrize("kind", ["frozen", "trained"])
def test_special_words_are_at_right_angles_to_all_others(kind):
    cosines = make(kind, special=SPECIAL).table()
    cosines = (cosines @ cosines.T).detach()
    assert (cosines[:4] - torch.eye(20)[:4]).abs().max() < 1e-6
    assert cosines[4:, 4:].fill_diagonal_(0.0).abs().max() > 0.1


def test_words_in_the_directions_of_special_ones_get_another_direction():
    table = torch.eye(6)[torch.tensor([0, 1, 1, 2])].double()
    drawn = torch.linalg.qr(torch.randn(6, 1, generator=generator(), dtype=torch.float64))[0]
    table[3] = drawn[:, 0]
    found = apart(table, [0], generator())
    assert torch.allclose(found.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert (found[1:] @ found[0]).abs().max() < 1e-9


def test_the_prior_is_the_smoothed_share_of_each_word():
    counts = torch.tensor([0.0, 3.0, 7.0])
    targets = Targets(torch.eye(3), counts=counts)
    assert torch.allclose(targets.log_prior.exp(), (counts + 0.5) / 11.5)
    assert Targets(torch.eye(3)).log_prior is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_grows(kind):
    targets = make(kind, counts=torch.arange(20))
    before, rarest = targets.table().detach().clone(), targets.log_prior.min().exp()
    vector = torch.tensor([[0.0, 3.0] + [0.0] * 6])
    assert targets.add(vector).tolist() == [20]
    assert targets.num == 21
    assert torch.allclose(targets.table()[:20], before)
    assert torch.allclose(targets(torch.tensor([20])), vector / 3)
    assert torch.allclose(targets.log_prior.exp().sum(), torch.tensor(1.0))
    assert torch.allclose(targets.log_prior.exp()[20], rarest / (1 + rarest))
    assert targets.add(vector, torch.tensor([0.25])).tolist() == [21]
    assert torch.allclose(targets.log_prior.exp()[21], torch.tensor(0.2))
    if kind == "trained":
        assert targets.embedding.weight.requires_grad


def test_words_are_what_training_has_seen_without_the_special_ones():
    counts = torch.tensor([0.0, 5.0, 2.0, 0.0, 1.0, 7.0])
    targets = Targets(torch.eye(6), special=(0, 1), counts=counts)
    assert targets.words().tolist() == [2, 4, 5]
    targets.add(torch.ones(1, 6))
    assert targets.words().tolist() == [2, 4, 5, 6]
    assert Targets(torch.eye(6), special=(0, 1)).words().tolist() == [2, 3, 4, 5]
    assert Targets(torch.eye(6), special=(0, 1), counts=torch.zeros(6)).words().tolist() == [2, 3, 4, 5]


def test_who_shares_an_embedding_shares_its_new_rows():
    table = embedding()
    targets = Targets(table, trainable=True)
    targets.add(torch.ones(2, 8))
    assert table.num_embeddings == targets.num == 22
    assert table(torch.tensor([21])).shape == (1, 8)


def test_the_dispersion_penalty_moves_learned_vectors_in_training_only():
    targets = make("trained", dispersion=Sliced(), dispersion_weight=3.0)
    value = targets.penalty()
    assert value > 0
    value.backward()
    assert targets.embedding.weight.grad.norm() > 0
    torch.manual_seed(0)
    once = targets.penalty()
    torch.manual_seed(0)
    assert torch.equal(once, 3.0 * Sliced()(targets.table()))
    assert make("trained", dispersion=Sliced(), dispersion_rows=5).penalty().isfinite()
    assert targets.eval().penalty() is None
    assert make("frozen", dispersion=Sliced()).penalty() is None
    assert make("trained", dispersion=Sliced(), dispersion_weight=0.0).penalty() is None


def test_random_tables_are_uniform_and_repeatable():
    table = random_table(4000, 16, generator())
    assert torch.equal(table, random_table(4000, 16, generator()))
    assert table.mean(0).norm() < 4 / 4000**0.5
    assert torch.allclose(table.T @ table / 4000, torch.eye(16) / 16, atol=0.01)


def test_corners_of_a_hypercube_are_different_even_where_there_are_hardly_enough():
    table = hypercube_table(60, 6, generator())
    assert torch.allclose(table.abs(), torch.tensor(6**-0.5))
    assert len(torch.unique(table, dim=0)) == 60
    cosines = (table @ table.T).fill_diagonal_(-1)
    assert cosines.max() <= 1 - 2 / 6 + 1e-6


def test_combined_vectors_lie_between_the_two():
    one, other = random_table(5, 8, generator(1)), random_table(5, 8, generator(2))
    assert torch.allclose(combined_table(3 * one, other, 1.0), one)
    assert torch.allclose(combined_table(one, 2 * other, 0.0), other)
    middle = combined_table(one, other)
    assert torch.allclose((middle * one).sum(1), (middle * other).sum(1), atol=1e-6)


def test_missing_words_are_drawn_like_the_others():
    center = F.normalize(torch.ones(16), dim=0)
    given = F.normalize(center + 0.1 * torch.randn(300, 16, generator=generator()), dim=-1)
    rows = torch.cat([given, torch.full((300, 16), math.nan)])
    table = completed_table(rows, torch.arange(600) < 300, generator())
    assert torch.allclose(table[:300], given)
    known, drawn = (part @ center for part in (table[:300], table[300:]))
    assert abs(known.mean() - drawn.mean()) < 0.02
    assert abs(known.std() - drawn.std()) < 0.02
    alone = completed_table(torch.eye(16)[:2], torch.tensor([True, False]), generator())
    assert torch.allclose(alone.norm(dim=1), torch.ones(2))


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Targets(torch.zeros(3)), r"must be a matrix of real numbers \[num, width >= 2\]; got .* shape \[3\]"),
        (lambda: Targets(torch.ones(3, 2, dtype=torch.long)), "must be a matrix of real numbers"),
        (lambda: Targets(torch.tensor([[1.0, 2.0], [0.0, 0.0]])), r"row 1 holds only zeros \(1 of 2 rows"),
        (lambda: Targets(torch.tensor([[1.0, NAN], [INF, 0.0]])), r"row 0 holds a non-finite number \(2"),
        (lambda: Targets(torch.eye(3), counts=torch.ones(2)), r"one count for each row, \[3\]; got \[2\]"),
        (lambda: Targets(torch.eye(3), counts=-torch.ones(3)), "must be finite and not negative"),
        (lambda: Targets(torch.eye(3), special=(3,)), r"must lie in \[0, 3\); got \[3\]"),
        (lambda: Targets(torch.eye(3), special=(0, 1, 2)), "3 special rows leave no direction for others in 3"),
        (lambda: Targets(torch.eye(3), stop_gradient=True), "need the model's nn.Embedding as table"),
        (lambda: Targets(embedding(), average=0.5), "average needs stop_gradient"),
        (lambda: Targets(embedding(), stop_gradient=True, average=1.0), r"must lie in \[0, 1\); got 1.0"),
        (lambda: Targets(torch.eye(3), dispersion_weight=-1.0), "must not be negative; got -1.0"),
        (lambda: Targets(torch.eye(3)).add(torch.ones(1, 4)), "must have vectors of width 3; got width 4"),
        (lambda: Targets(torch.eye(3)).add(torch.zeros(1, 3)), "row 0 holds only zeros"),
        (
            lambda: Targets(torch.eye(3), counts=torch.ones(3)).add(torch.ones(1, 3), torch.ones(2)),
            r"must have the shape \[1\]; got \[2\]",
        ),
        (lambda: grow_embedding(nn.Embedding(2, 3), torch.ones(1, 2)), r"expected rows of width 3; got shape \[1, 2\]"),
        (lambda: random_table(0, 8), "at least 1 row and a width of at least 2; got 0 and 8"),
        (lambda: hypercube_table(5, 2), "2 dimensions have 4 corners, fewer than num=5"),
        (lambda: combined_table(torch.eye(2), torch.eye(3)), r"two tables of one shape; got \[2, 2\] and \[3, 3\]"),
        (lambda: combined_table(torch.eye(2), torch.eye(2), 1.5), r"must lie in \[0, 1\]; got 1.5"),
    ],
)  # fmt: skip
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("look", [lambda t: t(torch.arange(5)), lambda t: t.table(), lambda t: t.block(0, 5)])
def test_the_padding_row_of_a_shared_embedding_has_no_gradient(look):
    # It is zero: the gradient of its direction would be as large as numbers go, and clipping would drop the rest.
    embedding = nn.Embedding(5, 3, padding_idx=0)
    vectors = look(Targets(embedding, trainable=True))
    assert not vectors[0].any()
    (vectors * torch.randn(5, 3)).sum().backward()
    assert not embedding.weight.grad[0].any()
    assert 0.0 < float(embedding.weight.grad[1:].norm()) < 100.0
