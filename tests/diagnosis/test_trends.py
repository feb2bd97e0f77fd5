"""What a history says, on curves of which it is known: slopes, spikes, repetition, tails of rates, layers and sites."""

import math

import numpy as np
import pytest
from scipy import stats

from thalweg.diagnosis.trends import theil_sen, trends_of


def history(losses, *, lr=1e-3, norms=None, clipped=False):
    rates = np.broadcast_to(lr, len(losses))
    sizes = np.broadcast_to(1.0 if norms is None else norms, len(losses))
    return [
        {"event": "step", "step": i + 1, "loss": float(loss), "lr": float(rate), "grad_norm": float(size),
         "clipped": clipped}
        for i, (loss, rate, size) in enumerate(zip(losses, rates, sizes, strict=True))
    ]  # fmt: skip


def test_slope_is_that_of_scipy():
    values = 3.0 - 0.2 * np.arange(60) + np.random.default_rng(0).normal(0, 1, 60)
    slope, error = theil_sen(values)
    assert slope == pytest.approx(stats.theilslopes(values)[0])
    assert 0.3 < error / stats.linregress(np.arange(60), values).stderr < 3.0


def test_slope_of_many_points_is_drawn_from_pairs():
    values = np.random.default_rng(1).normal(0, 1, 2000) - 0.01 * np.arange(2000)
    assert theil_sen(values)[0] == pytest.approx(-0.01, rel=0.02)


def test_levels_of_a_falling_loss():
    found = trends_of(history(np.linspace(2.0, 1.0, 200)))
    assert found["loss_start"] == pytest.approx(2.0, abs=0.01)
    assert found["loss_end"] == pytest.approx(1.0, abs=0.05)
    assert found["drop"] == pytest.approx(0.5, abs=0.03)
    assert found["gain_at_end"] == pytest.approx(0.1, abs=0.01)  # a tenth of the run is a tenth of the fall
    assert found["spikes"] == 0


def test_jumps_count_as_spikes_and_noise_does_not():
    draw = np.random.default_rng(0)
    calm = 1.0 + 0.05 * draw.normal(size=300)
    assert trends_of(history(calm))["spikes"] == 0
    jumps = calm.copy()
    jumps[[100, 150, 151, 250]] += 2.0
    found = trends_of(history(jumps))
    assert found["spikes"] == 3  # neighbors are one jump
    assert found["spike_steps"][0] == 101
    assert found["spike_height"] == pytest.approx(2.0, rel=0.2)


def test_jump_that_is_nothing_beside_what_was_learned_is_none():
    losses = np.concatenate([np.linspace(2.0, 1e-4, 150), np.full(150, 1e-4)])
    losses[200:300:20] = 0.05
    assert trends_of(history(losses))["spikes"] == 0


@pytest.mark.parametrize(("shuffled", "low", "high"), [(True, -0.3, 0.3), (False, 0.9, 1.0)])
def test_repetition_tells_order_from_shuffling(shuffled, low, high):
    draw = np.random.default_rng(2)
    epoch = draw.normal(0, 0.2, 40)
    losses = np.concatenate([draw.permutation(epoch) if shuffled else epoch for _ in range(5)]) + 1.0
    assert low < trends_of(history(losses), steps_per_epoch=40)["repetition"] <= high


def test_rate_that_became_nothing():
    losses = np.concatenate([np.linspace(2.0, 1.5, 60), np.full(140, 1.5)])
    rates = np.concatenate([np.full(60, 1e-2), np.full(140, 1e-6)])
    found = trends_of(history(losses, lr=rates))
    assert found["lr_tail"] == pytest.approx(0.7)
    assert found["gain_before_tail"] > 0.05
    assert found["lr_end"] == pytest.approx(1e-4)


def test_incidents_and_what_was_undone():
    entries = [
        *history([1.0, 0.9]),
        {"event": "rejected", "step": 3, "reason": "the loss was NaN or infinite", "where": "body", "what": "output"},
        {"event": "rollback", "step": 3, "to_step": 1},
        {"event": "step", "step": 2, "loss": 0.8, "lr": 1e-3, "grad_norm": 1.0},
    ]
    found = trends_of(entries)
    assert (found["rejected"], found["rollbacks"], found["num_steps"]) == (1, 1, 2)
    assert found["first_rejected"]["where"] == "body"
    assert found["loss_best"] == 0.8


def test_nan_in_a_loop_of_ones_own_is_counted():
    entries = history([1.0, math.nan, math.inf])
    found = trends_of(entries)
    assert (found["num_steps"], found["not_finite"]) == (1, 2)


def test_layers_and_sites():
    steps = history(np.linspace(1.0, 0.5, 20))
    for step in steps[::2]:
        step["layers"] = {
            "first": {"grad_norm": 0.0, "update_ratio": 0.0},
            "second": {"grad_norm": 2.0, "update_ratio": 0.0},
            "third": {"grad_norm": 1.0, "update_ratio": 1e-3, "unchanged": 0.25},
        }
        step["alignment"] = -0.5
        step["sites"] = [
            {"name": "a", "kind": "relu", "std": 1.0, "flow": 8.0, "dead": 0.75},
            {"name": "b", "kind": "tanh", "std": 0.1, "flow": 4.0, "saturated": 0.5},
            {"name": "c", "kind": "linear", "std": 0.01, "flow": 2.0},
        ]
    found = trends_of(steps)
    assert found["without_gradient"] == ["first"]
    assert found["without_update"] == ["second"]
    assert found["update_ratio"]["third"] == pytest.approx(1e-3)
    assert found["unchanged"] == {"third": 0.25}
    assert found["alignment"] == -0.5
    assert found["dead"] == {"a (relu)": 0.75}
    assert found["saturated"] == {"b (tanh)": 0.5}
    assert found["sites_start"]["flow_range"] == pytest.approx(math.log(4.0))
    assert found["sites_start"]["std_slope"] == pytest.approx(math.log(0.1))


def test_evaluations():
    entries = [*history([1.0, 0.5, 0.1])]
    entries += [{"event": "evaluation", "loss": loss, "metrics": {"accuracy": 0.5}} for loss in (0.8, 0.4, 0.6)]
    found = trends_of(entries)
    assert found["valid_rise"] == pytest.approx(0.5)
    assert found["valid_best_at"] == pytest.approx(2 / 3)
    assert found["metrics"] == {"accuracy": 0.5}


def test_nothing_is_said_of_nothing():
    assert trends_of([]) == {"num_steps": 0, "rejected": 0, "rollbacks": 0}
