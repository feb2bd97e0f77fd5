import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.report.curves import Curve, curve, of_event, smooth, surviving, thin, thinned


def steps_with(losses, start=1):
    return [{"event": "step", "step": start + i, "epoch": i / 10, "loss": loss} for i, loss in enumerate(losses)]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=400), st.integers(5, 60))
def test_thin_keeps_the_limit_the_order_the_ends_and_the_extremes(values, limit):
    kept = thin(values, limit)
    assert len(kept) <= max(limit, 0)
    assert kept == sorted(set(kept))
    assert all(0 <= i < len(values) for i in kept)
    if values:
        assert kept[0] == 0
        assert kept[-1] == len(values) - 1
    finite = [value for value in values if value is not None]
    if finite:
        drawn = [values[i] for i in kept if values[i] is not None]
        assert min(drawn) == min(finite)
        assert max(drawn) == max(finite)
    if None in values:
        assert any(values[i] is None for i in kept)


def test_thin_leaves_a_short_curve_alone():
    assert thin([1.0, None, 3.0], 5) == [0, 1, 2]


def test_thin_finds_single_spikes_among_a_hundred_thousand():
    values = [0.0] * 100_000
    values[12_345], values[77_777] = 5.0, -5.0
    kept = thin(values, 1500)
    assert len(kept) <= 1500
    assert {12_345, 77_777} <= set(kept)


def test_thin_refuses_a_limit_that_cannot_hold_extremes():
    with pytest.raises(ValueError, match=r"thin\(limit=\.\.\.\) must be at least 5; got 4"):
        thin([1.0], 4)


def test_thinned_curve_takes_steps_values_and_epochs_together():
    line = Curve([float(i) for i in range(100)], [float(-i) for i in range(100)], [i / 2 for i in range(100)])
    small = thinned(line, 20)
    assert len(small) <= 20
    assert all(
        value == -step and epoch == step / 2
        for step, value, epoch in zip(small.steps, small.values, small.epochs, strict=True)
    )


def test_smooth_is_the_normalized_two_sided_exponential_kernel():
    values = [1.0, 4.0, None, 2.0, 8.0, 5.0]
    span = 1.7
    smoothed = smooth(Curve([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], values, [None] * 6), span).values
    for i, value in enumerate(values):
        if value is None:
            assert smoothed[i] is None
            continue
        weights = [(math.exp(-abs(i - j) / span), other) for j, other in enumerate(values) if other is not None]
        expected = sum(weight * other for weight, other in weights) / sum(weight for weight, _ in weights)
        assert smoothed[i] == pytest.approx(expected, rel=1e-12)


def test_smooth_does_not_mix_what_lies_on_both_sides_of_a_rollback():
    records = [*steps_with([1.0] * 5), *steps_with([9.0] * 5, start=2)]
    smoothed = smooth(curve(records, "loss"), span=100)
    assert smoothed.values[:5] == pytest.approx([1.0] * 5)
    assert smoothed.values[5] is None
    assert smoothed.values[6:] == pytest.approx([9.0] * 5)


def test_smooth_forgets_a_spike_without_a_trace():
    values = [1.0] * 20 + [1e30] + [1.0] * 2000
    smoothed = smooth(Curve([float(i) for i in range(len(values))], list(values), [None] * len(values)), span=5)
    assert smoothed.values[-1] == pytest.approx(1.0, rel=1e-12)


def test_curve_reads_nested_values_and_breaks_where_steps_go_back():
    records = [
        {"step": 1, "epoch": 0.5, "metrics": {"f1": 0.2}},
        {"step": 2, "epoch": 1.0, "metrics": {"f1": math.nan}},
        {"step": 2, "epoch": 1.0, "metrics": None},
        {"step": 3, "metrics": {"f1": math.inf}},
    ]
    line = curve(records, "metrics", "f1")
    assert line.steps == [1, 2, 2, 2, 3]
    assert line.values == [0.2, None, None, None, None]
    assert line.epochs == [0.5, 1.0, None, 1.0, None]


def test_surviving_drops_what_a_resumed_run_computed_again():
    history = [*steps_with([5, 4, 3, 2]), {"event": "resumed", "step": 2}, *steps_with([3, 2, 1], start=3)]
    kept = surviving(history)
    assert [(record["event"], record["step"]) for record in kept] == [
        ("step", 1),
        ("step", 2),
        ("resumed", 2),
        ("step", 3),
        ("step", 4),
        ("step", 5),
    ]
    assert surviving([]) == []


def test_of_event_leaves_out_records_without_a_step():
    records = [{"event": "step"}, {"event": "step", "step": None}, {"event": "step", "step": 1}, {"step": 2}]
    assert of_event(records, "step") == [{"event": "step", "step": 1}]
