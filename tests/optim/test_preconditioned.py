"""SOAP, Shampoo, Muon and NorMuon: against formulas in double precision, and what everybody expects of an optimizer."""

import copy
import functools
import io
import json
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.optim import decompositions
from thalweg.optim.muon import NorMuon, PolarMuon
from thalweg.optim.polar import Exact, Polynomial
from thalweg.optim.roles import parameter_groups
from thalweg.optim.shampoo import Shampoo
from thalweg.optim.soap import SOAP

OPTIMIZERS = {
    "soap": SOAP,
    "soap in blocks": lambda params, **given: SOAP(params, **({"block_size": 3, "frequency": 3} | given)),
    "shampoo": lambda params, **given: Shampoo(params, **({"frequency": 2} | given)),
    "polar-muon": PolarMuon,
    "polar-muon by polynomials": lambda params, **given: PolarMuon(params, polar=Polynomial(half=False), **given),
    "normuon": NorMuon,
}
every = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
SHAPES = [(), (5,), (4, 6), (6, 4), (1, 5), (3, 1), (2, 3, 2), (4, 2, 3, 3), (0, 3)]


def weights(shapes=SHAPES, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def pull(parameters: list[nn.Parameter], step: int) -> None:
    """Put gradients that depend on the weights and the step."""
    generator = torch.Generator().manual_seed(step)
    for p in parameters:
        p.grad = p.detach() + torch.randn(p.shape, generator=generator).to(p.dtype)


def run(optimizer, parameters: list[nn.Parameter], steps: range) -> list[Tensor]:
    for step in steps:
        pull(parameters, step)
        optimizer.step()
    return [p.detach().clone() for p in parameters]


def test_soap_is_adam_in_the_eigenbasis():
    """Every step by hand: the same bases, first moments turned, second moments kept in their order."""
    w = nn.Parameter(torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    optimizer = SOAP([w], lr=0.1, betas=(0.8, 0.9), shampoo_beta=0.7, weight_decay=0.1, frequency=2)
    x, left, right = w.detach().clone(), torch.zeros(4, 4).double(), torch.zeros(3, 3).double()
    bases = [torch.eye(4).double(), torch.eye(3).double()]
    m, v = torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    for t in range(1, 9):
        pull([w], t)
        g = w.grad.clone()
        optimizer.step()
        h = bases[0].T @ g @ bases[1]
        m, v = 0.8 * m + 0.2 * h, 0.9 * v + 0.1 * h**2
        u = (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-8)
        x = x * (1 - 0.1 * 0.1) - 0.1 * bases[0] @ u @ bases[1].T
        torch.testing.assert_close(w.detach(), x)
        left, right = 0.7 * left + 0.3 * g @ g.T, 0.7 * right + 0.3 * g.T @ g
        if t == 1 or t % 2 == 0:
            new = []
            for factor, basis in zip((left, right), bases, strict=True):
                if t == 1:
                    new.append(torch.linalg.eigh(factor)[1].flip(-1))
                else:
                    order = (basis.T @ factor @ basis).diagonal().argsort(descending=True)
                    new.append(torch.linalg.qr(factor @ basis[:, order])[0][:, order.argsort()])
            m = new[0].T @ bases[0] @ m @ bases[1].T @ new[1]
            v = (m / 0.2) ** 2 * 0.1 if t == 1 else v
            bases = new


def test_shampoo_is_momentum_between_roots_with_the_norm_of_adams_step():
    w = nn.Parameter(torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    optimizer = Shampoo([w], lr=0.1, betas=(0.8, 0.9), shampoo_beta=0.7, weight_decay=0.0, frequency=3, floor=1e-3)
    x, left, right, roots = w.detach().clone(), torch.zeros(4, 4).double(), torch.zeros(3, 3).double(), None
    m, v = torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    for t in range(1, 9):
        pull([w], t)
        g = w.grad.clone()
        optimizer.step()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        u = (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-8)
        if roots is not None:
            inner = roots[0] @ m @ roots[1]
            u = inner * u.norm() / inner.norm()
        x = x - 0.1 * u
        torch.testing.assert_close(w.detach(), x)
        left, right = 0.7 * left + 0.3 * g @ g.T, 0.7 * right + 0.3 * g.T @ g
        if t % 3 == 0:
            roots = []
            for factor in (left, right):
                values, vectors = torch.linalg.eigh(factor)
                roots.append(vectors @ torch.diag((values + 1e-3 * values.max()) ** -0.25) @ vectors.T)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (3, 5)])
@pytest.mark.parametrize("normalized", [True, False])
def test_muon_is_the_polar_factor_of_the_momentum(nesterov, shape, normalized):
    w = nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    more = {"beta2": 0.7} if normalized else {}
    kind = NorMuon if normalized else PolarMuon
    optimizer = kind([w], lr=0.1, momentum=0.9, weight_decay=0.2, nesterov=nesterov, polar=Exact(1e-9), **more)
    x, m, squares = w.detach().clone(), torch.zeros(shape).double(), torch.zeros(shape[0], 1).double()
    for t in range(1, 6):
        pull([w], t)
        m = 0.9 * m + 0.1 * w.grad
        u, _, vh = torch.linalg.svd(0.9 * m + 0.1 * w.grad if nesterov else m, full_matrices=False)
        o = u @ vh * max(shape) ** 0.5
        if normalized:
            squares = 0.7 * squares + 0.3 * (u @ vh).square().mean(1, keepdim=True)
            o = u @ vh / squares.sqrt()
            o = o / o.norm() * o.numel() ** 0.5
        x = x * (1 - 0.1 * 0.2) - 0.1 * 0.2 * o
        optimizer.step()
        torch.testing.assert_close(w.detach(), x)


def test_torchs_muon_is_the_same_but_for_rounding_to_half_precision():
    w, other = weights([(6, 9)]), weights([(6, 9)])
    ours = PolarMuon(w, lr=0.1, weight_decay=0.1, polar=Polynomial(half=True))
    theirs = torch.optim.Muon(other, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        pull(w, step)
        pull(other, step)
        ours.step()
        theirs.step()
    torch.testing.assert_close(w[0], other[0], atol=3e-3, rtol=0.0)


@every
def test_vectors_and_whatever_is_no_matrix_take_adamws_steps(make):
    w = weights([(5,), (1, 4), ()])
    other = copy.deepcopy(w)
    ours = make([{"params": w, "betas": (0.9, 0.95), "adam_betas": (0.9, 0.95)}], lr=0.05, weight_decay=0.2)
    plain = torch.optim.AdamW(other, lr=0.05, weight_decay=0.2, betas=(0.9, 0.95), fused=True)
    for left, right in zip(run(ours, w, range(4)), run(plain, other, range(4)), strict=True):
        assert torch.equal(left, right)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_shape_and_type_goes_on_bit_for_bit_from_a_saved_state(make, dtype):
    w = weights(dtype=dtype)
    optimizer = make(w, lr=0.01)
    saved = run(optimizer, w, range(5))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    json.dumps(optimizer.state_dict()["param_groups"])
    ended = run(optimizer, w, range(5, 12))
    file.seek(0)
    again = [nn.Parameter(value) for value in saved]
    resumed = make(again, lr=0.5)
    state = torch.load(file, weights_only=True)
    kept = copy.deepcopy(state)
    resumed.load_state_dict(state)
    for left, right in zip(run(resumed, again, range(5, 12)), ended, strict=True):
        assert torch.equal(left, right)
        assert left.isfinite().all()
    wide = torch.promote_types(dtype, torch.float32)
    for number, entry in state["state"].items():
        for key, value in entry.items():
            assert not isinstance(value, Tensor) or value.dtype == wide
            assert not isinstance(value, Tensor) or torch.equal(value, kept["state"][number][key])  # not stepped, too


@every
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_goes_on_like_the_original(make, copied):
    w = weights()
    optimizer = make(w, lr=0.01)
    run(optimizer, w, range(4))
    again, resumed = copied((w, optimizer))
    for left, right in zip(run(resumed, again, range(4, 9)), run(optimizer, w, range(4, 9)), strict=True):
        assert torch.equal(left, right)


@every
def test_groups_may_come_later_and_gradients_may_be_missing_or_zero(make):
    w = weights([(4, 3), (3, 4), (5,), (4, 4)])
    w[3].requires_grad_(False)
    optimizer = make([{"params": w[:1]}, {"params": [w[3]], "lr": 1.0}], lr=0.1)
    before = [p.detach().clone() for p in w]
    pull(w[:1], 0)
    optimizer.step()
    optimizer.add_param_group({"params": w[1:3], "weight_decay": 0.0, "lr": 0.3})
    w[0].grad, w[1].grad, w[2].grad = None, torch.zeros(3, 4), torch.zeros(5)
    first = w[0].detach().clone()
    for _ in range(12):
        optimizer.step()
    assert torch.equal(w[0], first)
    assert not torch.equal(first, before[0])
    assert all(torch.equal(p, old) for p, old in zip(w[1:], before[1:], strict=True))


@every
def test_a_gradient_that_is_not_finite_counts_as_zero_and_spoils_nothing(make):
    w, other = weights([(4, 3), (5,)]), weights([(4, 3), (5,)])
    ours, plain = make(w, lr=0.1), make(other, lr=0.1)
    for step in range(9):
        pull(w, step)
        pull(other, step)
        if step in (0, 5):
            w[0].grad[1, 1], w[1].grad[2] = torch.nan, torch.inf
            other[0].grad.zero_()
            other[1].grad.zero_()
        ours.step()
        plain.step()
    assert all(torch.equal(left, right) and left.isfinite().all() for left, right in zip(w, other, strict=True))


@every
def test_maximize_goes_the_other_way(make):
    w, other = weights([(4, 3), (5,)]), weights([(4, 3), (5,)])
    up, down = make(w, lr=0.1, weight_decay=0.0, maximize=True), make(other, lr=0.1, weight_decay=0.0)
    before = [p.detach().clone() for p in w]
    pull(w, 0)
    pull(other, 0)
    up.step()
    down.step()
    for old, left, right in zip(before, w, other, strict=True):
        torch.testing.assert_close(left.detach() - old, old - right.detach())


@every
def test_a_network_learns_and_a_closure_is_called_once(make):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    x = torch.randn(64, 4)
    y, calls = x[:, :2] * x[:, 2:], []
    optimizer = make(parameter_groups(model), lr=0.05, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        calls.append(float(loss.detach()))
        return loss

    for step in range(100):
        assert float(optimizer.step(closure).detach()) == calls[-1]
        assert len(calls) == step + 1
        schedule.step()
    assert calls[-1] < 0.2 * calls[0]


@every
def test_hooks_run_and_a_table_with_a_vocabulary_is_left_alone(make):
    table, seen = nn.Parameter(torch.randn(5000, 3)), []
    optimizer = make([table], lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    for _ in range(3):
        table.grad = torch.ones_like(table)
        optimizer.step()
    assert seen == ["before", "after"] * 3
    numbers = sum(value.numel() for value in optimizer.state[table].values() if isinstance(value, Tensor))
    assert numbers <= 2 * table.numel() + 18  # Adam's moments, and the side with three columns


def test_soap_has_one_decomposition_a_step_for_each_tenth_of_the_work(monkeypatch):
    """Of 20 equal matrices two are refreshed at every step, none at two steps in ten."""
    w = weights([(3, 3)] * 20)
    optimizer, counts = SOAP(w, frequency=10), []
    found = SOAP._refresh
    monkeypatch.setattr(SOAP, "_refresh", lambda self, due: (counts.append(len(due)), found(self, due)))
    run(optimizer, w, range(30))
    assert counts == [8, 6 + 2, 6 + 2, *([2] * 27)]
    mixed = weights([(8, 8)] * 2 + [(4, 4)] * 16)
    optimizer = SOAP(mixed, frequency=4)
    turns = {optimizer._turn(p, optimizer.param_groups[0]) for p in mixed[:2]}
    assert len(turns) == 2  # the two heavy ones at different steps
    assert {optimizer._turn(p, optimizer.param_groups[0]) for p in mixed[2:]} == {0, 1, 2, 3} - turns


def test_a_decomposition_that_fails_leaves_adam(monkeypatch):
    def fails(_: Tensor):
        raise torch.linalg.LinAlgError("no")

    monkeypatch.setattr(decompositions.torch.linalg, "eigh", fails)
    for kind in (SOAP, Shampoo):
        w, other = weights([(4, 3)]), weights([(4, 3)])
        ours = kind(w, betas=(0.9, 0.99), frequency=1, lr=0.1)
        plain = torch.optim.AdamW(other, lr=0.1, betas=(0.9, 0.99))
        run(ours, w, range(1))
        run(plain, other, range(1))
        torch.testing.assert_close(w[0], other[0])
        assert run(ours, w, range(1, 4))[0].isfinite().all()


def test_gates_are_stepped_each_by_itself():
    """An LSTM's weight steps like its four matrices in four parameters."""
    whole = weights([(12, 3)], torch.float64)
    parts = [nn.Parameter(piece.clone()) for piece in whole[0].detach().chunk(4)]
    for make in (lambda p: SOAP(p, frequency=1), NorMuon, lambda p: Shampoo(p, frequency=1)):
        together = make([{"params": whole, "pieces": 4, "matrix": True}])
        apart = make(parts)
        for step in range(4):
            pull(whole, step)
            for part, gradient in zip(parts, whole[0].grad.chunk(4), strict=True):
                part.grad = gradient.clone()
            together.step()
            apart.step()
        torch.testing.assert_close(whole[0], torch.cat([p.detach() for p in parts]), check_layout=False)


@every
@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("lies", ["parameter", "gradient", "both"])
def test_how_numbers_lie_in_memory_changes_nothing(make, matrix, lies):
    """Fused kernels go through the memory: a transposed parameter once got the steps of other entries."""
    w = weights([(4, 6), (4, 3, 2, 2)])
    other = [nn.Parameter(_turned(p.detach()) if lies != "gradient" else p.detach().clone()) for p in w]
    ours, turned = make([{"params": w, "matrix": matrix}], lr=0.1), make([{"params": other, "matrix": matrix}], lr=0.1)
    for step in range(12):
        pull(w, step)
        for p, q in zip(w, other, strict=True):
            q.grad = _turned(p.grad) if lies != "parameter" else p.grad.clone()
        ours.step()
        turned.step()
    for p, q in zip(w, other, strict=True):
        torch.testing.assert_close(p.detach(), q.detach().contiguous(), atol=1e-4, rtol=0.0)


def _turned(tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous().mT if tensor.dim() == 2 else tensor.to(memory_format=torch.channels_last, copy=True)


@every
def test_a_weight_that_has_its_inputs_first_steps_like_its_transpose(make):
    """As those of Hugging Face's Conv1D."""
    w = weights([(4, 6)])
    other = [nn.Parameter(w[0].detach().T.contiguous())]
    ours, turned = make(w, lr=0.1), make([{"params": other, "matrix": True, "transposed": True}], lr=0.1)
    for step in range(12):
        pull(w, step)
        other[0].grad = w[0].grad.T.contiguous()
        ours.step()
        turned.step()
    torch.testing.assert_close(w[0].detach(), other[0].detach().T.contiguous(), atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("kind", [SOAP, Shampoo])
def test_another_frequency_in_a_group_takes_effect_and_is_resumed(kind):
    w = weights([(3, 3)] * 12)
    optimizer = kind(w, lr=0.01)
    run(optimizer, w, range(12))
    optimizer.param_groups[0]["frequency"] = 3
    key = "left_basis" if kind is SOAP else "left_root"
    before = [optimizer.state[p][key].clone() for p in w]
    saved = run(optimizer, w, range(12, 15))
    assert not any(torch.equal(optimizer.state[p][key], old) for p, old in zip(w, before, strict=True))
    again = [nn.Parameter(value) for value in saved]
    resumed = kind(again)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for left, right in zip(run(resumed, again, range(15, 22)), run(optimizer, w, range(15, 22)), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("size", [1e-10, 1e-17, 1e-20, 1e-25])
def test_shampoos_step_has_the_length_of_adams_however_small_the_gradient(size):
    w = [nn.Parameter(torch.zeros(4, 3))]
    other = copy.deepcopy(w)
    ours, plain = Shampoo(w, lr=1.0, weight_decay=0.0, frequency=1), torch.optim.AdamW(other, lr=1.0, weight_decay=0.0)
    plain.param_groups[0]["betas"] = ours.param_groups[0]["betas"]
    for step in range(3):
        start = w[0].detach().double(), other[0].detach().double()
        w[0].grad = torch.randn(4, 3, generator=torch.Generator().manual_seed(step)) * size
        other[0].grad = w[0].grad.clone()
        ours.step()
        plain.step()
        lengths = [(p[0].detach().double() - old).norm() for p, old in zip((w, other), start, strict=True)]
        torch.testing.assert_close(lengths[0], lengths[1], rtol=1e-2, atol=0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": -1.0}, r"SOAP\(lr=...\) must be finite and not negative; got -1.0"),
        ({"lr": float("nan")}, r"SOAP\(lr=...\) must be finite and not negative; got nan"),
        ({"betas": (0.9, 1.0)}, r"SOAP\(betas=...\) must be two numbers in \[0, 1\)"),
        ({"shampoo_beta": 1.5}, r"SOAP\(shampoo_beta=...\) must lie in \[0, 1\)"),
        ({"eps": 0.0}, r"SOAP\(eps=...\) must be above 0"),
        ({"weight_decay": -0.1}, r"SOAP\(weight_decay=...\) must not be negative"),
        ({"frequency": 0}, r"SOAP\(frequency=...\) must be a whole number, at least 1"),
        ({"block_size": 1}, r"SOAP\(block_size=...\) must be 0 or a whole number from 2"),
        ({"largest_axis": 0}, r"SOAP\(largest_axis=...\) must be a whole number, at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        SOAP(weights(), **given)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (
            {"params": [nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))]},
            "takes real parameters; got one of .*comp",
        ),
        ({"params": [nn.Parameter(torch.ones(2))], "matrix": True}, r"matrix=True has a parameter of shape \[2\]"),
        (
            {"params": [nn.Parameter(torch.ones(3, 2))], "pieces": 2},
            r"pieces=2\) must divide the outputs of .*\[3, 2\]",
        ),
        (
            {"params": [nn.Parameter(torch.ones(3, 2))], "momentum": 1.0},
            r"momentum=...\) must lie in \[0, 1\); got 1.0",
        ),
    ],
    ids=["complex", "vector", "pieces", "momentum"],
)
def test_a_group_that_cannot_be_is_refused_and_not_added(group, message):
    optimizer = PolarMuon(weights())
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1
    run(optimizer, optimizer.param_groups[0]["params"], range(2))


def test_divided_matrices_are_refused():
    w = weights([(3, 2)])
    w[0].placements = ("as a DTensor has them",)
    with pytest.raises(ValueError, match=r"NorMuon takes whole matrices, and FSDP .* \[3, 2\]; use data parallelism"):
        NorMuon(w)


def test_sparse_gradients_are_refused_in_a_sentence():
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = SOAP(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"SOAP takes dense gradients.*\[5, 3\].*sparse=False"):
        optimizer.step()


def test_a_basis_is_decided_by_its_matrix_and_not_by_rounding():
    """With fewer gradients than rows most of the eigenvectors belong to the eigenvalue zero."""
    generator = torch.Generator().manual_seed(0)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    gradient, noise = draw(1, 12, 3), draw(1, 12, 12)
    first = gradient @ gradient.mT
    second = first + 1e-16 * first.abs().max() * (noise + noise.mT)
    one, other = (decompositions.basis(matrix, None) for matrix in (first, second))
    torch.testing.assert_close(one.abs(), other.abs(), rtol=0.0, atol=1e-5)
    one, other = decompositions.basis(first, one), decompositions.basis(second, other)
    torch.testing.assert_close(one.abs(), other.abs(), rtol=0.0, atol=1e-5)
