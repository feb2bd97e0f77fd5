"""Each clip against its formula, written out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from thalweg.optim.clipping import ClipAdaptive, ClipNorm, ClipRunning, ClipSequence, ClipUpdate, ClipValue, NoClip


def parameters(scale: float = 1.0, bad: float | None = None) -> list[nn.Parameter]:
    """A tensor of four shapes each, with gradients, and one without a gradient."""
    generator = torch.Generator().manual_seed(2)
    made = []
    for shape in [(3, 4), (5,), (), (2, 3, 2)]:
        parameter = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        parameter.grad = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        made.append(parameter)
    if bad is not None:
        made[0].grad[1, 2] = bad
    return [*made, nn.Parameter(torch.ones(2, dtype=torch.float64))]


def gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad.clone() for p in parameters if p.grad is not None]


def whole_norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(x) ** 2 for tensor in tensors for x in tensor.reshape(-1)))


EVERY_CLIP = [NoClip(), ClipValue(0.5), ClipNorm(0.5), ClipAdaptive(0.1), ClipSequence((ClipValue(0.5), ClipNorm(0.1)))]
every_clip = pytest.mark.parametrize("clip", EVERY_CLIP, ids=lambda clip: type(clip).__name__)


@every_clip
def test_the_norm_is_the_one_before_clipping(clip):
    made = parameters()
    expected = whole_norm(gradients(made))
    norm, was_clipped = clip(made)
    assert float(norm) == pytest.approx(expected, rel=1e-12)
    assert norm.shape == was_clipped.shape == ()
    assert was_clipped.dtype == torch.bool
    assert bool(was_clipped) == (not isinstance(clip, NoClip))


@every_clip
def test_small_gradients_stay_as_they_are(clip):
    made = parameters(scale=1e-6)
    before = gradients(made)
    assert not bool(clip(made).was_clipped)
    assert all(torch.equal(new, old) for new, old in zip(gradients(made), before, strict=True))


@every_clip
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_that_are_not_finite_stay_as_they_are(clip, bad):
    made = parameters(bad=bad)
    before = gradients(made)
    norm, was_clipped = clip(made)
    assert not bool(norm.isfinite())
    assert not bool(was_clipped)
    for new, old in zip(gradients(made), before, strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0, equal_nan=True)


@every_clip
def test_without_gradients_the_norm_is_zero(clip):
    result = clip(iter([nn.Parameter(torch.ones(2))]))
    assert (float(result.norm), bool(result.was_clipped)) == (0.0, False)


def test_clip_value_limits_each_entry():
    made = parameters()
    before = gradients(made)
    ClipValue(0.5)(made)
    for new, old in zip(gradients(made), before, strict=True):
        assert new.reshape(-1).tolist() == [min(max(x, -0.5), 0.5) for x in old.reshape(-1).tolist()]


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_clip_norm_equals_pytorchs(limit):
    ours, theirs = parameters(), parameters()
    norm = ClipNorm(limit)(ours).norm
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs, limit), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-12, atol=0)


def test_clip_adaptive_limits_each_unit_in_proportion_to_its_weights():
    made, ratio, eps = parameters(), 1.0, 0.9
    made[0].data[0] *= 1e-3  # a unit whose weights are below eps
    before = gradients(made)
    ClipAdaptive(ratio, eps)(made)
    num_clipped = num_free = 0
    for parameter, old in zip(made, before, strict=False):
        units = len(parameter) if parameter.dim() >= 2 else 1
        pairs = zip(parameter.detach().reshape(units, -1), old.reshape(units, -1), strict=True)
        for (w, g), new in zip(pairs, parameter.grad.reshape(units, -1), strict=True):
            largest = ratio * max(whole_norm([w]), eps)
            factor = largest / whole_norm([g]) if whole_norm([g]) > largest else 1.0
            num_clipped, num_free = num_clipped + (factor < 1), num_free + (factor == 1)
            torch.testing.assert_close(new, factor * g, rtol=1e-12, atol=0)
    assert num_clipped > 0
    assert num_free > 0


def test_clip_adaptive_leaves_out_the_parameters_it_is_told():
    made = parameters(scale=100.0)
    before = gradients(made)
    ClipAdaptive(leave_out=(made[0],))(made)
    after = gradients(made)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_a_sequence_clips_in_its_order():
    made, by_hand = parameters(), parameters()
    result = ClipSequence((ClipValue(0.5), ClipNorm(0.1)))(iter(made))
    ClipValue(0.5)(by_hand)
    ClipNorm(0.1)(by_hand)
    assert bool(result.was_clipped)
    torch.testing.assert_close(gradients(made), gradients(by_hand), rtol=0, atol=0)


@pytest.mark.parametrize(
    "make", [lambda p: torch.optim.SGD(p, lr=0.3), lambda p: torch.optim.AdamW(p, lr=0.1)], ids=["SGD", "AdamW"]
)
def test_clip_update_limits_what_any_optimizer_does(make):
    free, limited = parameters(), parameters()
    limit = 0.0999 if "AdamW" in str(make(free)) else 0.2
    start = [p.detach().clone() for p in free]
    make(free).step()
    clip = ClipUpdate(limit)
    clip.before(limited)
    make(limited).step()
    norm, was_clipped = clip.after(limited)
    updates = [p.detach() - old for p, old in zip(free, start, strict=True)]
    assert float(norm) == pytest.approx(whole_norm(updates), rel=1e-12)
    assert bool(was_clipped)
    for p, old, update, unlimited in zip(limited, start, updates, free, strict=True):
        torch.testing.assert_close(p.detach(), old + update.clamp(-limit, limit), rtol=1e-14, atol=1e-16)
        within = update.abs() < limit
        assert torch.equal(p.detach()[within], unlimited.detach()[within])


def test_clip_update_leaves_small_and_broken_updates_alone():
    for bad in (1e-3, math.nan, math.inf):
        w = nn.Parameter(torch.zeros(3))
        clip = ClipUpdate(0.1)
        clip.before([w])
        with torch.no_grad():
            w.copy_(torch.tensor([0.05, bad, -0.05]))
        moved = w.detach().clone()
        norm, was_clipped = clip.after([w])
        assert not bool(was_clipped)
        assert bool(norm.isfinite()) == math.isfinite(bad)
        torch.testing.assert_close(w.detach(), moved, rtol=0, atol=0, equal_nan=True)


def test_clip_update_needs_the_parameters_before_the_step():
    clip = ClipUpdate(0.1)
    with pytest.raises(ValueError, match=r"after\(...\) must follow ClipUpdate.before"):
        clip.after([torch.zeros(1)])
    clip.before([])
    assert float(clip.after([]).norm) == 0.0


@pytest.mark.parametrize("clip", [ClipValue, ClipNorm, ClipAdaptive, ClipUpdate])
@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_limits_out_of_range_are_refused(clip, limit):
    with pytest.raises(ValueError, match=rf"{clip.__name__}\(.*\) must be positive and finite; got"):
        clip(limit)


def test_a_sequence_of_no_clips_is_refused():
    with pytest.raises(ValueError, match=r"ClipSequence\(clips=...\) must hold at least one"):
        ClipSequence(())


@pytest.mark.parametrize("clip", [ClipNorm(1.0), ClipValue(1.0), ClipAdaptive(0.1)], ids=["norm", "value", "adaptive"])
def test_sparse_gradients_are_refused(clip):
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1])).sum().backward()
    with pytest.raises(ValueError, match="must be dense; got a sparse one"):
        clip(table.parameters())


def running(norms: list[float], clip: ClipRunning) -> list[tuple[float, bool]]:
    """The norm after clipping, and whether it was clipped, for gradients of these norms."""
    found = []
    for norm in norms:
        w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        w.grad = norm * torch.tensor([0.6, 0.8], dtype=torch.float64)
        was_clipped = bool(clip([w]).was_clipped)
        found.append((float(w.grad.norm()), was_clipped))
    return found


NORMS = [1.0, 1.2, 0.8, 1.1, 0.9, 1.3, 30.0, 1.0, 1.0, math.inf, 40.0, 1.1]


def test_running_norms_against_the_formula_written_out():
    clip = ClipRunning(2.0, decay=0.9, patience=3)
    found, weight, total, squares = running(NORMS, clip), 0.0, 0.0, 0.0
    for place, (norm, (after, was_clipped)) in enumerate(zip(NORMS, found, strict=True)):
        if not math.isfinite(norm):
            assert not was_clipped
            continue
        limit = math.inf
        if place >= 3:
            mean = total / weight
            limit = math.exp(mean + 2.0 * max(0.05, math.sqrt(squares / weight - mean**2)))
        assert after == pytest.approx(min(norm, limit), rel=1e-5)
        assert was_clipped == (norm > limit)
        seen = math.log(min(norm, limit))
        weight, total, squares = 0.9 * weight + 0.1, 0.9 * total + 0.1 * seen, 0.9 * squares + 0.1 * seen**2
    assert [place for place, (_, was_clipped) in enumerate(found) if was_clipped] == [6, 10]


@pytest.mark.parametrize("wrap", [lambda clip: clip, lambda clip: ClipSequence((ClipNorm(100.0), clip))])
def test_running_norms_go_on_where_they_were(wrap):
    whole = running(NORMS, wrap(ClipRunning(patience=3)))
    first, second = wrap(ClipRunning(patience=3)), wrap(ClipRunning(patience=3))
    before = running(NORMS[:6], first)
    second.load_state_dict(first.state_dict())
    assert before + running(NORMS[6:], second) == whole
    assert running(NORMS[6:], wrap(ClipRunning(patience=3))) != whole[6:]


@pytest.mark.parametrize(("name", "value"), [("deviations", 0.0), ("decay", 1.0), ("patience", -1)])
def test_settings_of_running_norms_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"ClipRunning\({name}"):
        ClipRunning(**{name: value})
