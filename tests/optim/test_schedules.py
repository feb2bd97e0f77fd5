"""Each schedule, step by step, against PyTorch's own class or the published formula."""

import json
import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from thalweg.optim import schedules

T = 60
RATES = (0.3, 0.07)
WARMUPS = {0: 0, 1: 1, 10: 10, 0.25: 15}  # as it is given, in steps


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rate} for rate in RATES], lr=1.0)


def walk(optimizer: torch.optim.Optimizer, schedule: LRScheduler, steps: int) -> list[list[float]]:
    """The rates that the next steps are taken with."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


# The published formulas after a warmup of w steps, at step t of T, with the base rate 1.
def hf_linear(t: int, w: int) -> float:
    return max(0.0, (T - t) / max(1, T - w))


def hf_cosine(t: int, w: int) -> float:
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * 0.5 * 2.0 * ((t - w) / max(1, T - w)))))


def hf_cosine_with_min_lr(t: int, w: int) -> float:
    return max(0.0, hf_cosine(t, w) * (1 - 0.1) + 0.1)


def hf_hard_restarts(t: int, w: int) -> float:
    progress = (t - w) / max(1, T - w)
    return 0.0 if progress >= 1.0 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((3 * progress) % 1.0))))


def hf_polynomial(t: int, w: int) -> float:
    lr_end, lr_range = 0.05, 1.0 - 0.05
    return lr_range * (1 - (t - w) / (T - w)) ** 2.0 + lr_end


def hf_inverse_sqrt(t: int, w: int) -> float:
    timescale = w or 10_000
    return 1.0 / math.sqrt((t + timescale - w) / timescale)


def hf_warmup_stable_decay(t: int, w: int) -> float:
    decay = 15
    stable = T - w - decay
    if t < w + stable:
        return 1.0
    progress = (t - w - stable) / max(1, decay)
    return max(0.0, (1.0 - progress) * (1.0 - 0.02) + 0.02)


CASES: dict[str, tuple[Callable[..., LRScheduler], dict, Callable[[int, int], float]]] = {
    "constant_with_warmup": (schedules.constant_with_warmup, {}, lambda t, w: 1.0),
    "linear": (schedules.linear, {}, hf_linear),
    "cosine": (schedules.cosine, {}, hf_cosine),
    "cosine with an end": (schedules.cosine, {"end_ratio": 0.1}, hf_cosine_with_min_lr),
    "cosine_with_restarts": (schedules.cosine_with_restarts, {"num_cycles": 3}, hf_hard_restarts),
    "polynomial": (schedules.polynomial, {"power": 2.0, "end_ratio": 0.05}, hf_polynomial),
    "inverse_sqrt": (schedules.inverse_sqrt, {}, hf_inverse_sqrt),
    "warmup_stable_decay": (
        schedules.warmup_stable_decay,
        {"decay": 0.25, "end_ratio": 0.02, "decay_type": "linear"},
        hf_warmup_stable_decay,
    ),
    "cosine_with_min_lr": (schedules.cosine_with_min_lr, {"min_lr": 0.1}, hf_cosine_with_min_lr),
    "step": (schedules.step, {"step_size": 7, "gamma": 0.5}, lambda t, w: 0.5 ** ((t - w) // 7)),
    "exponential": (schedules.exponential, {"gamma": 0.97}, lambda t, w: 0.97 ** (t - w)),
}
every_schedule = pytest.mark.parametrize("name", CASES)


@every_schedule
def test_every_step_follows_the_published_formula_after_the_warmup(name):
    make, options, formula = CASES[name]
    for warmup, w in WARMUPS.items():
        sgd = optimizer()
        rates = walk(sgd, make(sgd, total_steps=T, warmup=warmup, **options), T)
        for t in range(T):
            factor = (t + 1) / w if t < w else formula(t, w)
            expected = [factor * rate for rate in RATES]
            assert rates[t] == pytest.approx(expected, rel=1e-12, abs=1e-15), f"warmup {warmup}, step {t}"


def by_pytorch(make: Callable[[torch.optim.Optimizer], LRScheduler]) -> list[list[float]]:
    sgd = optimizer()
    return walk(sgd, make(sgd), T)


@pytest.mark.parametrize(
    ("ours", "pytorch"),
    [
        (lambda o: schedules.constant(o), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        (
            lambda o: schedules.linear(o, total_steps=T),
            lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=T),
        ),
        (lambda o: schedules.cosine(o, total_steps=T), lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=T)),
        (
            lambda o: schedules.cosine_with_restarts(o, total_steps=T, num_cycles=4),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=T // 4),
        ),
        (
            lambda o: schedules.polynomial(o, total_steps=T, power=3.0),
            lambda o: lr_scheduler.PolynomialLR(o, total_iters=T, power=3.0),
        ),
        (lambda o: schedules.step(o, step_size=9), lambda o: lr_scheduler.StepLR(o, step_size=9, gamma=0.1)),
        (lambda o: schedules.exponential(o, gamma=0.9), lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9)),
        (
            lambda o: schedules.warmup_stable_decay(o, total_steps=T, decay=20, decay_type="linear"),
            lambda o: lr_scheduler.LambdaLR(o, lambda t: min(1.0, (T - t) / 20)),
        ),
    ],
    ids=["constant", "linear", "cosine", "restarts", "polynomial", "step", "exponential", "wsd"],
)
def test_every_step_equals_pytorchs_own_class(ours, pytorch):
    for mine, theirs in zip(by_pytorch(ours), by_pytorch(pytorch), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-12)


# Names of Hugging Face's `get_scheduler`, its settings and ours, and from which step on the rates are the same: 0 from
# the end of the warm-up, -1 from the first step.
HUGGING_FACE: list[tuple[str, dict, dict, int]] = [
    ("constant", {}, {}, -1),
    ("constant_with_warmup", {}, {}, 0),
    ("linear", {}, {}, 0),
    ("cosine", {"num_cycles": 1.3}, {"num_cycles": 1.3}, 0),
    ("cosine_with_restarts", {"num_cycles": 3}, {"num_cycles": 3}, 0),
    ("inverse_sqrt", {}, {}, 0),
    ("inverse_sqrt", {"timescale": 17}, {"timescale": 17}, 0),
    ("cosine_with_min_lr", {"min_lr": 0.2}, {"min_lr": 0.2}, 0),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 1.5}, {"min_lr_rate": 0.1, "num_cycles": 1.5}, 0),
    ("cosine_warmup_with_min_lr", {"min_lr": 0.2}, {"min_lr": 0.2}, -1),
    *(
        ("cosine_warmup_with_min_lr", numbers, numbers, -1)
        for numbers in ({"min_lr_rate": 0.1, "warmup_lr_rate": 0.3}, {"min_lr_rate": 0.0, "num_cycles": 2.5})
    ),
    ("warmup_stable_decay", {"num_decay_steps": 20}, {"decay": 20}, 0),
    *(
        (
            "warmup_stable_decay",
            {"num_decay_steps": 11, "min_lr_ratio": 0.1, "decay_type": down, "warmup_type": up, "num_cycles": cycles},
            {"decay": 11, "end_ratio": 0.1, "decay_type": down, "warmup_type": up, "num_cycles": cycles},
            0,
        )
        for down in ("linear", "cosine", "1-sqrt")
        for up, cycles in (("linear", 0.5), ("cosine", 1.5))
    ),
]


@pytest.mark.parametrize("case", HUGGING_FACE, ids=str)
def test_rates_are_those_of_the_same_name_at_hugging_face(case):
    get_scheduler = pytest.importorskip("transformers.optimization").get_scheduler
    name, theirs, ours, same_from = case
    for warmup in (0, 1, 7):
        one, other = optimizer(), optimizer()
        expected = walk(one, get_scheduler(name, one, warmup, T, scheduler_specific_kwargs=theirs), T)
        found = walk(other, getattr(schedules, name)(other, total_steps=T, warmup=warmup, **ours), T)
        first = 0 if same_from < 0 else warmup
        for t in range(first, T):
            assert found[t] == pytest.approx(expected[t], rel=1e-12, abs=1e-15), f"warmup {warmup}, step {t}"


@pytest.mark.parametrize(
    ("shape", "factors"),
    [
        ("linear", [0.25, 0.5, 0.75, 1.0]),
        ("cosine", [0.1464466, 0.5, 0.8535534, 1.0]),
        ("1-sqrt", [0.1339746, 0.2928932, 0.5, 1.0]),
    ],
)
def test_shapes_of_the_warmup(shape, factors):
    sgd = optimizer()
    rates = walk(sgd, schedules.warmup_stable_decay(sgd, total_steps=T, warmup=4, warmup_type=shape), 4)
    assert [rate[1] / RATES[1] for rate in rates] == pytest.approx(factors, abs=1e-7)


@every_schedule
def test_a_resumed_schedule_goes_on_exactly_and_its_state_is_json(name):
    make, options, _ = CASES[name]

    def build() -> tuple[torch.optim.Optimizer, LRScheduler]:
        sgd = optimizer()
        return sgd, make(sgd, total_steps=T, warmup=10, **options)

    for stop in (1, 5, 30):
        sgd, schedule = build()
        walk(sgd, schedule, stop)
        saved = json.loads(json.dumps([sgd.state_dict(), schedule.state_dict()], allow_nan=False))
        resumed, resumed_schedule = build()
        resumed.load_state_dict(saved[0])
        resumed_schedule.load_state_dict(saved[1])
        assert walk(resumed, resumed_schedule, T - stop) == walk(sgd, schedule, T - stop)


@every_schedule
def test_the_first_step_of_a_warmup_is_not_zero_and_the_last_is_full(name):
    make, options, _ = CASES[name]
    sgd = optimizer()
    rates = walk(sgd, make(sgd, total_steps=T, warmup=4, **options), 4)
    assert [rate[0] / RATES[0] for rate in rates] == pytest.approx([0.25, 0.5, 0.75, 1.0])


@every_schedule
def test_rates_stay_finite_and_not_negative_beyond_the_end(name):
    make, options, _ = CASES[name]
    sgd = optimizer()
    beyond = walk(sgd, make(sgd, total_steps=T, warmup=3, **options), T + 10)[T:]
    assert all(0.0 <= rate <= RATES[0] for pair in beyond for rate in pair)


def test_defaults_that_depend_on_the_length_of_the_run():
    sgd = optimizer()
    rates = walk(sgd, schedules.exponential(sgd, total_steps=T), T + 1)
    assert rates[T][0] == pytest.approx(0.01 * RATES[0])
    sgd = optimizer()
    rates = walk(sgd, schedules.step(sgd, total_steps=T), T)
    assert [rates[t][1] / RATES[1] for t in (19, 20, 39, 40, 59)] == pytest.approx([1.0, 0.1, 0.1, 0.01, 0.01])


def test_warmup_may_fill_the_whole_run():
    for make in (schedules.linear, schedules.cosine, schedules.cosine_with_restarts, schedules.polynomial):
        sgd = optimizer()
        rates = walk(sgd, make(sgd, total_steps=4, warmup=4), 4)
        assert [rate[0] / RATES[0] for rate in rates] == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0.0, 0), (0.1, 20), (0.999, 200), (1, 1), (7.0, 7), (200, 200)])
def test_warmup_in_steps_and_as_a_share(warmup, steps):
    result = schedules.warmup_steps(warmup, 200)
    assert result == steps
    assert isinstance(result, int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: schedules.warmup_steps(-1, 10), r"warmup=.*got -1"),
        (lambda o: schedules.warmup_steps(1.5, 10), r"warmup=.*got 1.5"),
        (lambda o: schedules.warmup_steps(float("nan"), 10), r"warmup=.*got nan"),
        (lambda o: schedules.warmup_steps(11, 10), r"warmup=.*at most total_steps=10; got 11"),
        (lambda o: schedules.warmup_steps(0, 0), r"total_steps=.*at least 1; got 0"),
        (lambda o: schedules.warmup_steps(0.5, None), r"warmup=.*must be in steps"),
        (lambda o: schedules.linear(o, total_steps=0), r"total_steps=.*at least 1; got 0"),
        (lambda o: schedules.linear(o, total_steps=5, warmup=6), r"warmup=.*at most total_steps=5; got 6"),
        (lambda o: schedules.step(o), r"step\(total_steps=...\) must be given"),
        (lambda o: schedules.exponential(o), r"exponential\(total_steps=...\) must be given"),
        (lambda o: schedules.polynomial(o, total_steps=5, power=0), r"polynomial\(power=...\) must be positive; got 0"),
        (lambda o: schedules.polynomial(o, total_steps=5, end_ratio=2), r"polynomial\(end_ratio=...\) .*got 2"),
        (lambda o: schedules.cosine(o, total_steps=5, num_cycles=0), r"cosine\(num_cycles=...\) .*got 0"),
        (lambda o: schedules.cosine(o, total_steps=5, end_ratio=-0.1), r"cosine\(end_ratio=...\) .*got -0.1"),
        (lambda o: schedules.cosine_with_restarts(o, total_steps=5, num_cycles=0), r"\(num_cycles=...\) .*got 0"),
        (lambda o: schedules.inverse_sqrt(o, timescale=0), r"inverse_sqrt\(timescale=...\) .*got 0"),
        (lambda o: schedules.warmup_stable_decay(o, total_steps=5, decay=-1), r"decay=... .*got -1"),
        (
            lambda o: schedules.warmup_stable_decay(o, total_steps=5, warmup=3, decay=3),
            r"3 steps of warmup and 3 of decay",
        ),
        (lambda o: schedules.warmup_stable_decay(o, total_steps=5, end_ratio=7), r"\(end_ratio=...\) .*got 7"),
        (lambda o: schedules.step(o, step_size=0), r"step\(step_size=...\) .*got 0"),
        (lambda o: schedules.step(o, step_size=1, gamma=1.5), r"step\(gamma=...\) .*got 1.5"),
        (lambda o: schedules.exponential(o, gamma=0.0), r"exponential\(gamma=...\) .*got 0.0"),
        (
            lambda o: schedules.warmup_stable_decay(o, total_steps=5, decay_type="sqrt"),
            r"decay_type=...\) must be one of",
        ),
        (lambda o: schedules.warmup_stable_decay(o, total_steps=5, warmup_type="no"), r"warmup_type.*cosine.*got 'no'"),
        (lambda o: schedules.warmup_stable_decay(o, total_steps=5, num_cycles=0), r"num_cycles=...\) .*got 0"),
        (
            lambda o: schedules.cosine_with_min_lr(o, total_steps=5),
            r"needs where it ends: either min_lr or min_lr_rate",
        ),
        (lambda o: schedules.cosine_with_min_lr(o, total_steps=5, min_lr=2.0), r"between 0 and .* rate 1; got 2.0"),
        (
            lambda o: schedules.cosine_warmup_with_min_lr(o, total_steps=5, min_lr=0.1, min_lr_rate=0.1),
            r"cosine_warmup_with_min_lr needs where it ends.*got 0.1, 0.1",
        ),
        (lambda o: schedules.cosine_with_min_lr(o, total_steps=5, min_lr_rate=2), r"min_lr_rate=...\) .*got 2"),
        (
            lambda o: schedules.cosine_warmup_with_min_lr(o, total_steps=5, min_lr=0.1, warmup_lr_rate=2),
            r"warmup_lr_rate=...\) must lie in \[0, 1\]; got 2",
        ),
        (
            lambda o: schedules.cosine_warmup_with_min_lr(o, total_steps=5, min_lr=0.1, num_cycles=0),
            r"num_cycles=...\) must be positive; got 0",
        ),
    ],
)
def test_schedule_arguments_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(optimizer())
