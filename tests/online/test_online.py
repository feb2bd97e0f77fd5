import itertools
import math
import random
import signal
import threading

import numpy as np
import pytest
import torch

from thalweg.errors import InputError
from thalweg.models.hashed import HashedTable
from thalweg.online.classifier import OnlineClassifier
from thalweg.online.learn import learn_online
from thalweg.online.progress import OnlineRecord
from thalweg.online.regressor import OnlineRegressor

WORDS = {
    "river": "water bank stream flow delta",
    "hill": "peak slope ridge rock cliff",
    "sky": "cloud rain wind sun star",
}


def separable(num_rows: int, seed: int = 0) -> list[dict[str, object]]:
    rng = random.Random(seed)
    rows: list[dict[str, object]] = []
    for _ in range(num_rows):
        label = rng.choice(list(WORDS))
        own = rng.choices(WORDS[label].split(), k=3)
        rows.append({"text": " ".join([*own, *rng.choices(["the", "a", "of", "and", "in"], k=4)]), "label": label})
    return rows


def run(rows, model, **options) -> OnlineRecord:
    *_, record = learn_online(rows, model, **options)
    assert record.last
    return record


def weights(model) -> list[np.ndarray]:
    return [array.copy() for array in model._linear.table.arrays().values()]


def test_one_step_of_the_classifier_follows_the_gradient_of_its_loss():
    model = OnlineClassifier(lr=1e-3)
    for row in separable(30):
        model.learn(row["text"], row["label"])
    text, label = "water peak cloud", "sky"
    features = model._linear.hasher.features(text)
    before = torch.tensor(model._linear.outputs(features)[1].astype(np.float64), requires_grad=True)
    squares = model._linear.table._squares[model._linear.outputs(features)[0]].astype(np.float64)
    values = torch.tensor(features.values.astype(np.float64))
    logits = values @ before + torch.tensor(model._bias.astype(np.float64))
    torch.nn.functional.cross_entropy(logits[None], torch.tensor([model.classes.index(label)])).backward()
    assert before.grad is not None
    gradient = before.grad.numpy()
    assert model.learn(text, label).loss == pytest.approx(
        -torch.log_softmax(logits, 0)[model.classes.index(label)].item(), rel=1e-5
    )
    step = 1e-3 * math.log2(3) / np.sqrt(squares + (gradient**2).sum(axis=1) + 1e-8)
    np.testing.assert_allclose(
        model._linear.outputs(features)[1], before.detach().numpy() - step[:, None] * gradient, rtol=1e-4, atol=1e-7
    )


# Learning


def test_separable_stream_is_learned():
    record = run(separable(1000), OnlineClassifier())
    assert record.score > 0.97
    assert record.loss < 0.1
    assert record.frequent_score < 0.4
    assert record.num_scored == record.num_rows == 1000
    assert record.num_classes == 3


CHINESE = ("电影很好看喜欢精彩感动", "糟糕无聊失望难受讨厌退票", "今天我们去看了一场新上映的片子和朋友在城里")
HINDI = (
    "अच्छी सुंदर बढ़िया शानदार मज़ेदार पसंद",
    "बुरी उबाऊ खराब निराश बेकार नापसंद",
    "यह फ़िल्म हमने कल शहर में दोस्तों के साथ देखी और कहानी",
)


@pytest.mark.parametrize(("words", "space"), [(CHINESE, ""), ([part.split() for part in HINDI], " ")])
@pytest.mark.parametrize("column", ["text", "评论"])
def test_texts_in_other_scripts_are_learned(words, space, column):
    good, bad, neutral = words
    rng = random.Random(0)
    rows = []
    for _ in range(1000):
        label = rng.random() < 0.5
        chosen = [*rng.choices(good if label else bad, k=3), *rng.choices(neutral, k=9)]
        rng.shuffle(chosen)
        rows.append({column: space.join(chosen), "label": label})
    record = run(rows, OnlineClassifier())
    assert record.frequent_score < 0.6
    assert record.score >= 0.95


def test_rows_are_predicted_before_they_are_learned():
    rng = random.Random(0)
    rows = [{"text": f"unique{i} words{i}", "label": rng.choice("ab")} for i in range(2000)]
    model = OnlineClassifier()
    record = run(rows, model)
    assert abs(record.score - 0.5) < 4 * math.sqrt(0.25 / 2000)  # four standard errors around chance
    seen = [model.predict({"text": row["text"]})[0] == row["label"] for row in rows]
    assert sum(seen) / 2000 > 0.9  # the same rows, once learned, are known


def test_outcome_is_what_predict_said():
    model = OnlineClassifier()
    for row in separable(200):
        label, probabilities = model.predict(row["text"])
        outcome = model.learn(row["text"], row["label"])
        assert outcome.prediction == label
        if row["label"] in probabilities:
            assert outcome.probability == pytest.approx(probabilities[row["label"]], rel=1e-5)
            assert outcome.loss == pytest.approx(-math.log(probabilities[row["label"]]), rel=1e-4, abs=1e-6)


def test_predicting_changes_nothing():
    model = OnlineClassifier()
    run(separable(50), model)
    before, features = weights(model), model.num_features
    for text in ("water", "words never seen", ""):
        model.predict(text)
        model.predict({"text": text, "new": 3.0})
    assert model.num_features == features
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_number_columns_are_learned_on_any_scale():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3)) * [1e-6, 1.0, 1e6] + [5.0, 0.0, -1e7]
    labels = (x[:, 0] - 5) * 1e6 + x[:, 1] - (x[:, 2] + 1e7) / 1e6 > 0
    rows = [{"a": a, "b": b, "c": c, "label": bool(y)} for (a, b, c), y in zip(x.tolist(), labels, strict=True)]
    record = run(rows, OnlineClassifier())
    assert record.score_since > 0.93
    assert record.score > 0.9


def test_intervals_let_a_linear_model_bend():
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    rows = [{"x": float(v), "label": "far" if abs(v) > 1 else "near"} for v in x]
    record = run(rows, OnlineClassifier())
    assert record.frequent_score < 0.7
    assert record.score > 0.93


def test_category_columns_are_learned():
    rng = random.Random(0)
    rows = [{"city": rng.choice(["Bern", "Rome", "Oslo"]), "day": rng.choice("ab")} for _ in range(300)]
    record = run([row | {"label": row["city"] == "Rome"} for row in rows], OnlineClassifier())
    assert record.score_since > 0.99


def test_l2_keeps_weights_smaller():
    sizes = []
    for l2 in (0.0, 0.1):
        model = OnlineClassifier(l2=l2)
        run(separable(500), model)
        sizes.append(float(np.abs(model._linear.table.arrays()["weights"]).sum()))
    assert sizes[1] < 0.8 * sizes[0]


def test_regression_on_numbers_and_its_scores_match_their_definitions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2))
    y = 1000 * (x @ [2.0, -1.0]) + 5000 + rng.normal(0, 100, 2000)
    rows = [{"a": a, "b": b, "target": t} for (a, b), t in zip(x.tolist(), y.tolist(), strict=True)]
    predictions: list[float] = []
    record = run(rows, OnlineRegressor(), on_row=lambda row, outcome: predictions.append(outcome.prediction))
    assert predictions[0] is None
    truth, guess = y[1:], np.array(predictions[1:], dtype=float)
    squared = ((truth - guess) ** 2).sum()
    assert record.score_name == "NMSE"
    assert record.score == pytest.approx(squared / ((truth - truth.mean()) ** 2).sum(), rel=1e-9)
    assert record.mean_absolute_error == pytest.approx(np.abs(truth - guess).mean(), rel=1e-9)
    assert record.loss == pytest.approx(squared / 1999, rel=1e-9)
    assert record.repeat_score == pytest.approx(((y[1:] - y[:-1]) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    means = np.cumsum(y)[:-1] / np.arange(1, 2000)
    assert record.frequent_score == pytest.approx(((y[1:] - means) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    assert record.score < 0.1
    assert record.score_since < 0.05


def test_regression_does_not_depend_on_the_unit():
    rng = np.random.default_rng(1)
    x = rng.normal(size=500)
    y = 3 * x + rng.normal(0, 0.1, 500)
    scores = [
        run([{"x": a, "y": unit * t} for a, t in zip(x.tolist(), y.tolist(), strict=True)], OnlineRegressor()).score
        for unit in (1e-12, 1.0, 1e12)
    ]
    assert scores == pytest.approx([scores[1]] * 3, rel=1e-3)


def test_regression_survives_one_wild_number():
    rng = np.random.default_rng(1)
    x = rng.normal(size=2000)
    y = 3 * x
    y[1000] = 1e30
    model = OnlineRegressor()
    run([{"x": a, "y": t} for a, t in zip(x.tolist(), y.tolist(), strict=True)], model)
    errors = [abs(model.predict({"x": a}) - 3 * a) for a in (-1.0, 0.0, 1.0)]
    assert max(errors) < 1


def test_regression_from_text():
    rng = random.Random(0)
    worth = {"bad": -2.0, "poor": -1.0, "fair": 0.0, "good": 1.0, "superb": 2.0}
    rows = []
    for _ in range(2000):
        words = rng.choices(list(worth), k=3)
        rows.append({"text": " ".join(words), "score": sum(worth[word] for word in set(words))})
    assert run(rows, OnlineRegressor()).score_since < 0.1


def test_constant_numbers_are_predicted_exactly():
    record = run([{"text": f"w{i} x", "score": 3.5} for i in range(20)], OnlineRegressor())
    assert record.loss == 0
    assert math.isnan(record.score)
    assert record.to_dict()["score"] is None


# Budgets


def test_classes_are_added_as_they_come_and_probabilities_stay_proper():
    model = OnlineClassifier(max_classes=40)
    for number in range(40):
        outcome = model.learn(f"word{number} shared", f"class {number}")
        assert outcome.prediction != f"class {number}"
        assert outcome.probability is not None
        assert 0 < outcome.probability <= 1
        _, probabilities = model.predict("shared")
        assert list(probabilities) == [f"class {i}" for i in range(number + 1)]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_new_class_starts_with_the_prior_of_one_example():
    model = OnlineClassifier()
    for _ in range(50):
        model.learn("", "a")
        model.learn("", "b")
    assert model.learn("words never seen", "c").probability == pytest.approx(1 / 101, rel=1e-5)


def test_class_growth_keeps_the_old_weights():
    small, grown = OnlineClassifier(), OnlineClassifier()
    for model in (small, grown):
        run(separable(100), model)
    grown._linear.table.widen(16)
    grown._bias = np.concatenate([grown._bias, np.full(12, -np.inf, dtype=np.float32)])
    for text in ("water stream", "peak", "nothing known"):
        assert small.predict(text)[1] == pytest.approx(grown.predict(text)[1], rel=1e-6)


def test_class_beyond_the_budget_counts_as_wrong_and_is_told():
    rows = [{"text": f"{c} {c} word", "label": c} for c in "abcabcabcabc"]
    model = OnlineClassifier(max_classes=2)
    record = run(rows, model)
    assert model.classes == ["a", "b"]
    assert (record.num_scored, record.num_over_budget) == (12, 4)
    assert record.score <= 8 / 12
    assert math.isfinite(record.loss)
    assert any("beyond the 2 that the model may hold" in note for note in record.notes)


def test_memory_is_fixed_by_the_buckets_however_many_words_come():
    model = OnlineClassifier(num_buckets=512)
    sizes = []
    for start in range(0, 6000, 1500):
        for i in range(start, start + 1500):
            model.learn(f"word{i} other{i}", "ab"[i % 2])
        sizes.append(model.num_bytes)
    assert model.num_features <= 512
    assert len(set(sizes[1:])) == 1
    assert sizes[-1] <= 512 * 4 + 513 * (2 * 4 + 4)


# Rows


def test_records_come_each_time_the_rows_double_and_add_up():
    records = list(learn_online(separable(100), OnlineClassifier()))
    assert [record.num_rows for record in records] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert [record.last for record in records] == [False] * 7 + [True]
    for old, new in itertools.pairwise(records):
        num = new.num_scored - old.num_scored
        assert new.score * new.num_scored == pytest.approx(old.score * old.num_scored + new.score_since * num)
        assert new.loss * new.num_scored == pytest.approx(old.loss * old.num_scored + new.loss_since * num)
    assert records[-1].examples_per_second > 0


def test_records_come_in_time_too():
    records = list(learn_online(separable(20), OnlineClassifier(), record_seconds=1e-9))
    assert [record.num_rows for record in records] == [*range(1, 21), 20]


def test_row_without_label_is_predicted_only():
    rows = separable(100)
    model, with_gaps = OnlineClassifier(), OnlineClassifier()
    run(rows, model)
    outcomes = []
    gaps = [{"text": "water flow"}, {"text": "water", "label": None}, {"text": "water", "label": " "}]
    record = run([*rows, *gaps], with_gaps, on_row=lambda row, outcome: outcomes.append(outcome))
    assert record.num_unlabeled == 3
    assert record.num_scored == 100
    assert [outcome.prediction for outcome in outcomes[-3:]] == ["river"] * 3
    for old, new in zip(weights(model), weights(with_gaps), strict=True):
        np.testing.assert_array_equal(old, new)


BAD_ROWS = [
    {"text": "a b", "x": float("nan"), "label": "river"},
    {"text": "a b", "x": float("-inf"), "label": "river"},
    {"text": "a b", "x": "many", "label": "river"},
    {"text": ["a"], "x": 1.0, "label": "river"},
    {"text": "a b", "x": 1.0, "label": ["river"]},
    {"text": "a b", "x": 1.0, "label": {"name": "river"}},
    {"text": "a b", "x": 1.0, "label": float("nan")},
    {"text": "a b", "x": 10**400, "label": "river"},
    "no row",
    None,
]


def test_bad_rows_are_counted_and_change_nothing():
    rows = [row | {"x": float(i % 7)} for i, row in enumerate(separable(60))]
    clean, dirty = OnlineClassifier(), OnlineClassifier()
    run(rows, clean)
    mixed = [row for number, good in enumerate(rows) for row in ([good, BAD_ROWS[number]] if number < 10 else [good])]
    record = run(mixed, dirty)
    assert (record.num_rejected, record.num_rows, record.num_scored) == (10, 70, 60)
    assert any("10 rows were rejected; the last because: Expected a row of values" in note for note in record.notes)
    for old, new in zip(weights(clean), weights(dirty), strict=True):
        np.testing.assert_array_equal(old, new)
    assert clean.predict({"text": "water", "x": 2.0}) == dirty.predict({"text": "water", "x": 2.0})


def test_regressor_refuses_what_is_no_number():
    for label in ["high", float("inf"), True, None, [1.0], 1e31, 10**400]:
        with pytest.raises(InputError, match="Expected a finite number"):
            OnlineRegressor().learn("some text", label)


@pytest.mark.parametrize("text", ["", "\0", "word " * 100_000, "x" * 10**6, "\ud800", "ﷺ" * 50])
def test_odd_texts_are_learned(text: str):
    model = OnlineClassifier()
    record = run([{"text": text, "label": "a"}, {"text": "b c", "label": "b"}] * 10, model)
    assert record.num_scored == 20
    assert np.isfinite(model._linear.table.arrays()["weights"]).all()
    assert record.num_truncated == (10 if len(text) > 10_000 else 0)


def test_labels_become_class_names():
    for label, name in [
        (1, "1"),
        (1.0, "1"),
        ("1", "1"),
        (2.5, "2.5"),
        (True, "true"),
        (" <b>\n\u202e ", "<b>\n\u202e"),
    ]:
        model = OnlineClassifier()
        model.learn("text", label)
        assert model.classes == [name]


def test_missing_keys_are_no_error():
    rows = [
        {"text": "a b", "x": 1.0, "label": "a"},
        {"label": "a"},
        {"x": 2.0, "label": "b"},
        {"text": "c d", "label": "b"},
    ]
    assert run(rows * 5, OnlineClassifier()).num_scored == 20


def test_stream_without_any_label_is_told():
    record = run([{"text": "a b"}] * 3, OnlineClassifier())
    assert record.num_unlabeled == 3
    assert math.isnan(record.score)
    assert any("No label column" in note for note in record.notes)


def test_stream_whose_order_says_more_than_its_rows_is_told():
    rng = random.Random(0)
    rows = [{"text": f"w{rng.randrange(50)} x", "label": "ab"[i // 100 % 2]} for i in range(1000)]
    record = run(rows, OnlineClassifier())
    assert record.repeat_score > 0.98
    assert any("Repeating the last answer" in note for note in record.notes)


def test_empty_stream_gives_one_record():
    record = run([], OnlineClassifier())
    assert record.num_rows == 0
    assert record.last


# Ctrl-C


def test_interrupt_waits_until_the_row_is_learned():
    rows = separable(200)
    model = OnlineClassifier()

    def interrupt(row, outcome):
        if model.progress.total.num == 100:
            signal.raise_signal(signal.SIGINT)
            model.last_row_finished = True

    with pytest.raises(KeyboardInterrupt):
        run(rows, model, on_row=interrupt)
    assert model.last_row_finished
    assert model.progress.num_rows == 100
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_while_waiting_for_a_row_comes_at_once():
    def stream():
        yield from separable(3)
        signal.raise_signal(signal.SIGINT)
        yield from separable(3)

    model = OnlineClassifier()
    with pytest.raises(KeyboardInterrupt):
        run(stream(), model)
    assert model.progress.num_rows == 3


def test_handler_of_the_program_is_left_alone():
    calls = []
    old = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        run(separable(10), OnlineClassifier(), on_row=lambda *_: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, old)
    assert len(calls) == 10


def test_learning_works_in_another_thread():
    records = []
    thread = threading.Thread(target=lambda: records.append(run(separable(20), OnlineClassifier())))
    thread.start()
    thread.join()
    assert records[0].num_rows == 20


def test_arguments_out_of_range_are_refused():
    for make, message in [
        (lambda: OnlineClassifier(lr=0), r"OnlineClassifier\(lr=...\) must be above 0"),
        (lambda: OnlineClassifier(l2=-1), r"OnlineClassifier\(l2=...\) must be 0 or more"),
        (lambda: OnlineClassifier(max_classes=1), r"OnlineClassifier\(max_classes=...\) must be 2 or more"),
        (lambda: OnlineRegressor(lr=math.nan), r"OnlineRegressor\(lr=...\) must be above 0"),
        (lambda: HashedTable(0, 1), r"HashedTable\(num_buckets=..., width=...\) must be positive"),
        (lambda: list(learn_online([], OnlineClassifier(), save_seconds=0)), r"learn_online\(save_seconds="),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
