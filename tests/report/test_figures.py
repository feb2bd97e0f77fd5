import math

import pytest

from thalweg.report import figures


def step(number, **entries):
    return {"event": "step", "step": number, "epoch": number / 10, **entries}


def evaluation(number, loss, best=False, **metrics):
    return {"event": "evaluation", "step": number, "epoch": number / 10, "loss": loss, "metrics": metrics, "best": best}


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def test_loss_figure_draws_the_recorded_losses_and_the_last_best():
    history = [
        step(1, loss=3.0),
        step(2, loss=2.0),
        evaluation(2, 2.5, best=True),
        step(3, loss=1.5),
        evaluation(3, 2.2, best=True),
        step(4, loss=1.0),
        evaluation(4, 2.4),
    ]
    drawn = traces(figures.loss_figure(history))
    assert list(drawn["training"].x) == [1, 2, 3, 4]
    assert list(drawn["training"].y) == [3.0, 2.0, 1.5, 1.0]
    assert list(drawn["validation"].y) == [2.5, 2.2, 2.4]
    assert (drawn["kept"].x, drawn["kept"].y) == ((3,), (2.2,))


def test_loss_figure_of_a_long_run_is_raw_and_smoothed_and_thin():
    history = [step(i, loss=5.0 if i == 777 else 1.0) for i in range(1, 20_001)]
    drawn = traces(figures.loss_figure(history))
    raw, smoothed = drawn["training, each step"], drawn["training, smoothed"]
    assert len(raw.x) <= 1500
    assert len(smoothed.x) <= 1500
    assert max(raw.y) == 5.0
    assert raw.x[raw.y.index(5.0)] == 777
    assert max(smoothed.y) < 1.2


def test_loss_figure_marks_rejected_steps_and_rollbacks_at_the_last_finite_loss():
    history = [
        step(1, loss=2.0),
        step(2, loss=math.nan),
        {"event": "rejected", "step": 2, "reason": "<b>NaN</b>"},
        {"event": "rollback", "step": 2, "to_step": 0, "lr_scale": 0.5, "reason": "3 in a row"},
        step(1, loss=1.9),
    ]
    drawn = traces(figures.loss_figure(history))
    assert (drawn["rejected step"].x, drawn["rejected step"].y) == ((2,), (2.0,))
    assert drawn["rejected step"].text == ("&lt;b&gt;NaN&lt;/b&gt;",)
    assert drawn["rolled back"].x == (2, 0, None)
    assert drawn["rolled back"].y == (2.0, 2.0, None)
    assert list(drawn["training"].y) == [2.0, None, None, 1.9]


def test_rejected_steps_before_any_finite_loss_are_marked_at_the_first_one():
    history = [{"event": "rejected", "step": 1, "reason": "inf"}, step(1, loss=math.inf), step(2, loss=4.0)]
    drawn = traces(figures.loss_figure(history))
    assert (drawn["rejected step"].x, drawn["rejected step"].y) == ((1,), (4.0,))


def test_loss_axis_is_logarithmic_only_where_positive_values_need_it():
    for losses, kind in [([1000.0, 1.0], "log"), ([3.0, 1.0], None), ([1000.0, -1.0], None), ([1000.0, 0.0], None)]:
        figure = figures.loss_figure([step(i + 1, loss=loss) for i, loss in enumerate(losses)])
        assert figure.layout.yaxis.type == kind


def test_an_empty_history_gives_no_curves():
    assert len(figures.loss_figure([]).data) == 0
    assert figures.learning_rate_figure([]) is None
    assert figures.gradient_norm_figure([]) is None
    assert figures.throughput_figure([]) is None
    assert figures.layer_figure([], "update_ratio") is None
    assert figures.metric_groups([]) == []


def test_power_ticks_are_few_and_inside_the_drawn_range():
    for low, high in [(0.3, 4), (1e-6, 1e6), (1, 1), (0.5, 0.6), (1e-300, 1e300), (2e-5, 9e-4), (123.0, 456.0)]:
        ticks = figures.power_ticks(low, high)
        assert 1 <= len(ticks) <= 11
        assert ticks == sorted(ticks)
        assert any(0.1 * low <= tick <= 10 * high for tick in ticks)


def test_metrics_between_zero_and_one_share_a_figure():
    history = [
        evaluation(1, 1.0, accuracy=0.2, perplexity=9.0, f1=0.1),
        evaluation(2, 0.9, accuracy=0.4, perplexity=4.0),
    ]
    assert figures.metric_groups(history) == [["accuracy", "f1"], ["perplexity"]]
    assert figures.metric_groups(history, max_names=1) == [["accuracy"], ["f1"], ["perplexity"]]
    drawn = traces(figures.metric_figure(history, ["accuracy", "f1"]))
    assert list(drawn["accuracy"].y) == [0.2, 0.4]
    assert list(drawn["f1"].y) == [0.1, None]


def test_learning_rate_and_speed_are_drawn_as_recorded():
    history = [step(i, lr=i / 1000, examples_per_second=10.0 * i, tokens_per_second=0.0) for i in (1, 2, 3)]
    assert list(figures.learning_rate_figure(history).data[0].y) == [0.001, 0.002, 0.003]
    speed = figures.throughput_figure(history).data[0]
    assert speed.name == "examples per second"
    assert list(speed.y) == [10.0, 20.0, 30.0]


def test_a_learning_rate_that_never_changes_and_the_speed_of_full_steps_are_left_out():
    history = [step(i, lr=0.1, examples_per_second=9.0) | {"epoch": float(i)} for i in (1, 2)]
    assert figures.learning_rate_figure(history) is None
    assert figures.throughput_figure(history) is None
    assert figures.gap_figure(history) is None
    assert not figures.sees_all_data([step(1)])
    assert not figures.sees_all_data([])


def test_the_kept_evaluation_is_the_last_one_that_says_so():
    history = [evaluation(1, 1.0, best=True), evaluation(2, 2.0), evaluation(3, 3.0, best=True), evaluation(4, 4.0)]
    assert figures.kept_evaluation(history)["step"] == 3
    assert figures.kept_evaluation([*history, {**history[1], "kept": True, "step": 5}])["step"] == 5
    assert figures.kept_evaluation([evaluation(1, 1.0)]) is None


def test_clipped_fractions_count_each_stretch():
    history = [step(i, grad_norm=1.0, clipped=i > 6) for i in range(1, 9)]
    middles, shares = figures.clipped_fractions(history, num_bins=2)
    assert middles == [3.0, 7.0]
    assert shares == [0.0, 0.5]
    assert figures.clipped_sentence(history) == "The gradient was clipped in 25% of the steps (2)."
    assert figures.clipped_sentence([step(1, clipped=False)]) == ""
    assert figures.clipped_sentence([step(1)]) == ""
    assert list(figures.gradient_norm_figure(history).data[-1].y)[-1] == 1.0


def layered(num_layers, num_steps=3):
    return [
        step(
            i,
            layers={
                f"net.{k}.weight": {"update_ratio": 10.0 ** -(k % 5 + 1), "grad_norm": i} for k in range(num_layers)
            },
        )
        for i in range(1, num_steps + 1)
    ]


def test_few_layers_are_lines_with_their_values():
    figure = figures.layer_figure(layered(3), "update_ratio")
    assert [trace.type for trace in figure.data] == ["scatter"] * 3
    assert [trace.name for trace in figure.data] == ["net.0", "net.1", "net.2"]
    assert [list(trace.y) for trace in figure.data] == [[0.1] * 3, [0.01] * 3, [0.001] * 3]


def test_many_layers_are_a_heat_map_of_powers_of_ten():
    figure = figures.layer_figure(layered(100), "update_ratio")
    (heat,) = figure.data
    assert heat.type == "heatmap"
    assert len(heat.z) == 100
    assert [row[0] for row in heat.z[:5]] == pytest.approx([-1, -2, -3, -4, -5])
    assert heat.customdata[7][0] == ["net.7.weight", pytest.approx(1e-3)]
    assert heat.y[7] == 7
    assert figure.layout.yaxis.ticktext[7] == "net.7"
    assert figure.layout.height < 1500


def test_layer_values_join_stretches_by_their_largest_and_count_repeated_steps_once():
    history = [*layered(1, num_steps=500), step(500, layers={"net.0.weight": {"grad_norm": 7.0}})]
    steps, names, rows = figures.layer_values(history, "grad_norm")
    assert names == ["net.0.weight"]
    assert len(steps) == len(rows[0]) == 167
    assert rows[0][:2] == [3.0, 6.0]
    assert rows[0][-1] == 499.0


def test_layer_values_leave_out_a_layer_without_a_finite_value():
    history = [step(1, layers={"a": {"grad_norm": math.nan}, "b": {"grad_norm": 0.0}, "c": None})]
    assert figures.layer_values(history, "grad_norm")[1:] == (["b"], [[0.0]])
