"""Scoring: both layouts, single texts and pairs; metrics against sklearn and scipy; messages; a small training."""

import json
import random

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error
from tests.folders import put_files

from thalweg.data.arrays.standardize import Standardizer
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.models import presets
from thalweg.tasks.base import HeadOptions, Settings
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.regression import correlations, nmse
from thalweg.tasks.score.meter import ScoreMeter
from thalweg.tasks.score.task import Score

SINGLE = {"text": "text", "number": "score"}
PAIR = {"text": "first", "other": "second", "number": "score"}
CASES = [
    ("bag", False, presets.pooled_bag),
    ("padded", False, presets.pooled_lstm),
    ("padded", False, presets.pooled_transformer),
    ("bag", True, presets.pair_bag),
    ("padded", True, presets.pair_lstm),
    ("padded", True, presets.pair_transformer),
    ("joint", False, presets.pooled_linear),
    ("joint", True, presets.pooled_linear),
]
GOOD = ["fine", "great", "lovely", "superb", "warm", "clever"]
BAD = ["dull", "weak", "bleak", "clumsy", "cold", "silly"]


def settings(columns=SINGLE, layout="padded", **changes):
    values = {"columns": columns, "valid_share": 0.2, "normalize": ("lower",), "tokenizer": "word"}
    values |= {"vocabulary_size": 1000, "bigrams": 0 if layout == "padded" else 50, "max_length": 12, "lags": 0}
    return Settings(**(values | {"scaling": "none", "layout": layout} | changes))


def rows_file(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_source(path)


def made_up(num, *, pair, seed=0):
    """Prices between 1000 and 2000 that grow with the share of good words (for pairs: of words in common)."""
    rng = random.Random(seed)
    rows = []
    for _ in range(num):
        words = rng.choices(GOOD + BAD, k=5)
        if pair:
            num_same = rng.randrange(6)
            others = [*words[:num_same], *rng.choices(["x", "y", "z"], k=5 - num_same)]
            rows.append({"first": " ".join(words), "second": " ".join(others), "score": 1000 + 200 * num_same})
        else:
            rows.append({"text": " ".join(words), "score": 1000 + 200 * sum(word in GOOD for word in words)})
    return rows


def prepared(tmp_path, layout="padded", *, pair=False, num=200, **changes):
    source = rows_file(tmp_path / "a.jsonl", made_up(num, pair=pair))
    return Score.prepare(source, None, settings(PAIR if pair else SINGLE, layout, **changes))


def networks(task, build=presets.pooled_lstm, **options):
    torch.manual_seed(0)
    sizes = {"width": 16, "hidden": 16, "layers": 1, "heads": 2, "dropout": 0.0}
    model = build(task.shape(), presets.ModelOptions(**(sizes | options)))
    return model, task.head(model, HeadOptions())


@pytest.mark.parametrize(("layout", "pair", "build"), CASES)
def test_training_learns_the_rule_and_answers_in_the_original_unit(tmp_path, layout, pair, build):
    task, data = prepared(tmp_path, layout, pair=pair)
    model, head = networks(task, build)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
    losses = []
    for step in range(60):
        batch = task.batch(data.train, np.arange(step * 32, step * 32 + 32) % len(data.train))
        total, count = head.loss(head(model(**batch.inputs)), batch.targets)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        losses.append((total / count).item())
    assert task.reads_pairs == pair
    assert 0.2 < losses[0] < 2.0  # half the variance, whatever the unit
    assert np.mean(losses[-5:]) < 0.4 * losses[0]
    meter = task.meter()
    with torch.no_grad():
        batch = task.batch(data.valid, np.arange(len(data.valid)))
        meter.update(head(model(**batch.inputs)), batch)
    metrics = meter.compute()
    assert metrics["nmse"] < 0.6
    assert metrics["pearson"] > 0.65
    if pair:
        answers = task.predict(model, head, [("fine warm cold dull weak", "fine warm cold dull weak")], AnswerOptions())
        assert answers[0]["other"] == "fine warm cold dull weak"
    else:
        answers = task.predict(model, head, ["fine great lovely superb warm"], AnswerOptions())
    assert 1600 < answers[0]["score"] < 2400

    scatter, distribution, worst = task.sections(model, head, data, seed=0)
    assert scatter["x"] == pytest.approx([round(x / 200) * 200 for x in scatter["x"]], rel=1e-6)
    assert len(scatter["names"]) == len(scatter["y"]) == len(data.valid)
    assert sum(distribution["lines"]["true"]) == len(data.valid)
    errors = [abs(float(row[0]) - float(row[1])) for row in worst["rows"]]
    assert errors[0] == pytest.approx(max(errors), abs=2)
    json.dumps([scatter, distribution, worst], allow_nan=False)


@pytest.mark.parametrize(("layout", "pair", "build"), [CASES[0], CASES[1], CASES[3], CASES[4], *CASES[6:]])
def test_save_and_load_answer_the_same(tmp_path, layout, pair, build):
    task, _ = prepared(tmp_path, layout, pair=pair)
    model, head = networks(task, build)
    put_files(tmp_path, task.files())
    again = Score.load(tmp_path, settings(PAIR if pair else SINGLE, layout))
    inputs = [("a fine film", "dull"), ["", "unseen words"]] if pair else ["A FINE film", ""]
    answers = task.predict(model, head, inputs, AnswerOptions())
    assert again.predict(model, head, inputs, AnswerOptions()) == answers
    assert task.predict(model, head, [], AnswerOptions()) == []


def test_answers_do_not_depend_on_the_other_inputs(tmp_path):
    task, _ = prepared(tmp_path, pair=True)
    model, head = networks(task, presets.pair_lstm)
    pairs = [("fine", "fine fine fine"), ("dull weak cold silly", "x")]
    together = task.predict(model, head, pairs, AnswerOptions())
    alone = [task.predict(model, head, [pair], AnswerOptions())[0] for pair in pairs]
    assert [a["score"] for a in together] == pytest.approx([a["score"] for a in alone], rel=1e-6)


@pytest.mark.parametrize(("layout", "pair", "build"), [CASES[0], CASES[4], CASES[7]])
def test_answers_and_metrics_stay_within_the_training_numbers(tmp_path, layout, pair, build):
    task, data = prepared(tmp_path, layout, pair=pair)
    model, head = networks(task, build)
    layer = model.bias if layout == "joint" else head.output.bias
    low, high = task.span
    inputs = [("fine", "fine film")] if pair else ["fine"]
    batch = task.batch(data.valid, np.arange(len(data.valid)))
    true = task.scaling.inverse(batch.targets.double().numpy())[:, 0]
    for bias, limit in ((100.0, high), (-100.0, low)):
        torch.nn.init.constant_(layer, bias)
        assert task.predict(model, head, inputs, AnswerOptions())[0]["score"] == limit
        meter = task.meter()
        with torch.no_grad():
            meter.update(head(model(**batch.inputs)), batch)
        assert meter.compute()["mae"] == pytest.approx(np.abs(true - limit).mean(), rel=1e-6)
        assert meter.samples().figures(np.ones((1, len(true))))["mae"] == pytest.approx(np.abs(true - limit).mean())


def test_runs_without_a_span_answer_anything(tmp_path):
    task, _ = prepared(tmp_path, "bag")
    put_files(tmp_path, task.files())
    saved = json.loads((tmp_path / "score.json").read_text())
    assert saved.pop("span") == list(task.span)
    (tmp_path / "score.json").write_text(json.dumps(saved))
    old = Score.load(tmp_path, settings(layout="bag"))
    model, head = networks(old, presets.pooled_bag)
    torch.nn.init.constant_(head.output.bias, 100.0)
    assert old.predict(model, head, ["fine"], AnswerOptions())[0]["score"] > 10 * task.span[1]


@pytest.mark.parametrize("tokenizer", ["word", "bpe", "char", "byte"])
def test_a_pair_is_one_bag_that_knows_the_order_of_its_texts(tmp_path, tokenizer):
    changes = {} if tokenizer == "word" else {"bigrams": 0}
    task, data = prepared(tmp_path, "joint", pair=True, tokenizer=tokenizer, **changes)
    batch = task.batch(data.train, np.array([0, 1]))
    assert set(batch.inputs) == {"tokens", "offsets", "weights"}
    assert int(batch.inputs["tokens"].max()) < task.shape().vocabulary_size
    model, head = networks(task, presets.pooled_linear)
    torch.nn.init.normal_(model.table.weight, std=0.01)
    there, back, again = task.predict(
        model, head, [("fine warm", "fine x"), ("fine x", "fine warm"), ("fine warm", "fine x")], AnswerOptions()
    )
    assert there["score"] == again["score"] != back["score"]


def test_targets_are_standardized_over_the_training_part(tmp_path):
    task, data = prepared(tmp_path)
    targets = data.train.columns["targets"]
    assert targets.mean() == pytest.approx(0.0, abs=1e-6)
    assert targets.std() == pytest.approx(1.0, abs=1e-6)
    back = task.scaling.inverse(data.valid.columns["targets"])
    assert np.abs(back - 200 * np.round(back / 200)).max() < 1e-3


def test_cut_is_deterministic_and_keeps_equal_pairs_on_one_side(tmp_path):
    rows = made_up(100, pair=True)
    source = rows_file(tmp_path / "a.jsonl", rows + rows)
    (_, first), (_, second) = (Score.prepare(source, None, settings(PAIR)) for _ in range(2))
    assert first.valid.raw == second.valid.raw
    raw = first.valid.raw
    assert all(raw.count(text) % 2 == 0 for text in raw)
    assert len(first.train) + len(first.valid) == 200


def test_features_of_a_pair_are_those_of_both_texts(tmp_path):
    rows = [{"first": "fine warm film", "second": f"x y {'a b' if i % 2 else 'b a'}", "score": i} for i in range(40)]
    source = rows_file(tmp_path / "a.jsonl", [row | {"first": f"{row['first']} {row['score']}"} for row in rows])
    task, data = Score.prepare(source, None, settings(PAIR, "bag"))
    features, word = task.reader.features, task.reader.tokenizer.id_of
    bigrams = {features.parts(place) for place in range(features.vocabulary_size, features.num_features)}
    assert {(word("fine"), word("warm")), (word("x"), word("y"))} <= bigrams
    num_texts = 2 * len(data.train)
    assert features.idf[word("x")] == pytest.approx(np.log((1 + num_texts) / (1 + num_texts / 2)) + 1)


def test_pairs_in_another_order_are_other_pairs(tmp_path):
    task, data = prepared(tmp_path, pair=True)
    batch = task.batch(data.train, np.array([0, 1]))
    assert set(batch.inputs) == {"tokens", "mask", "other_tokens", "other_mask"}
    bag_task, bag_data = prepared(tmp_path, "bag", pair=True)
    batch = bag_task.batch(bag_data.train, np.array([0, 1]))
    assert {"tokens", "offsets", "weights", "other_tokens", "other_offsets", "other_weights"} == set(batch.inputs)
    assert batch.targets.shape == (2, 1)


def test_metrics_equal_sklearn_and_scipy_in_the_original_unit(tmp_path):
    task, data = prepared(tmp_path)
    meter = task.meter()
    assert isinstance(meter, ScoreMeter)
    guesses = []
    for start in range(0, len(data.valid), 7):
        batch = task.batch(data.valid, np.arange(start, min(start + 7, len(data.valid))))
        guesses.append(0.5 * batch.targets + 0.3 * torch.randn(batch.targets.shape))
        meter.update(guesses[-1], batch)
    metrics = meter.compute()
    true = task.scaling.inverse(data.valid.columns["targets"].astype(np.float64))[:, 0]
    predicted = task.scaling.inverse(torch.cat(guesses).double().numpy())[:, 0]
    expected = {
        "nmse": mean_squared_error(true, predicted) / true.var(),
        "pearson": pearsonr(true, predicted).statistic,
        "spearman": spearmanr(true, predicted).statistic,
        "mae": mean_absolute_error(true, predicted),
    }
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert metrics.keys() == task.explanations.keys()


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1e6, 1e-3), (-5.0, 1e-9), (0.0, 1e9)])
def test_nmse_and_correlations_in_any_unit(shift, scale):
    rng = np.random.default_rng(0)
    true = np.round(rng.normal(size=50), 1)  # with ties
    predicted = 0.7 * true + rng.normal(size=50)
    unit = [torch.from_numpy(shift + scale * values) for values in (predicted, true)]
    expected = mean_squared_error(true, predicted) / true.var()
    assert nmse(*unit) == pytest.approx(expected, rel=1e-4)
    assert correlations(*unit) == pytest.approx(
        (pearsonr(true, predicted).statistic, spearmanr(true, predicted).statistic), rel=1e-4
    )


def test_correlation_of_a_constant_prediction_is_zero():
    true = torch.tensor([1.0, 2.0, 3.0])
    assert correlations(torch.full((3,), 2.0), true) == (0.0, 0.0)
    assert nmse(torch.full((3,), 2.0), true) == pytest.approx(1.0)
    assert np.isnan(nmse(true, torch.full((3,), 2.0)))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("good", "data.csv, line 3: expected a number in column 'score', got 'good'"),
        ("", "data.csv, line 3: expected a number in column 'score', got an empty value"),
        ("inf", "data.csv, line 3: expected a number in column 'score', got 'inf'"),
    ],
)
def test_bad_numbers_are_named_with_file_and_line(tmp_path, cell, message):
    path = tmp_path / "data.csv"
    path.write_text(f"text,score\none,1\ntwo,{cell}\nthree,3\n")
    with pytest.raises(InputError, match=message):
        Score.prepare(open_source(path), None, settings())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": f"text {i}", "score": 4} for i in range(30)],
            "expected different numbers in column 'score', got 4 in",
        ),
        ([{"text": "same", "score": i} for i in range(30)], "at least two different texts"),
        (
            [{"text": f"text {i}", "score": i * 1e307} for i in range(9)],
            r"a.jsonl: .* of a size that fits, up to 1e\+100",
        ),
        ([{"text": f"text {i}", "score": [i, 1e200][i == 5]} for i in range(9)], r"up to 1e\+100; got 1e\+200"),
        ([{"text": f"text {i}", "score": i * 1e-300} for i in range(9)], "the largest at least 1e-100; got 8e-300"),
    ],
)
def test_unusable_data_are_refused(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        Score.prepare(rows_file(tmp_path / "a.jsonl", rows), None, settings())


def test_numbers_far_from_those_of_the_training_data_are_refused(tmp_path):
    """Their squares would be infinite in float32, and the learning rate be blamed."""
    train, valid = made_up(50, pair=False), made_up(10, pair=False, seed=1)
    valid[0]["score"] = 1e90
    files = [rows_file(tmp_path / f"{name}.jsonl", rows) for name, rows in (("train", train), ("valid", valid))]
    with pytest.raises(InputError, match=r"expected numbers of a size that fits the training data, got 1e\+90"):
        Score.prepare(*files, settings())


def test_validation_file_is_read_with_the_training_vocabulary_and_must_have_the_columns(tmp_path):
    train = rows_file(tmp_path / "train.jsonl", made_up(50, pair=False))
    valid = rows_file(tmp_path / "valid.jsonl", made_up(10, pair=False, seed=1))
    task, data = Score.prepare(train, valid, settings())
    assert (len(data.train), len(data.valid)) == (50, 10)
    assert len(data.valid.raw) == 10
    assert task.describe(data) == "50 texts with a number"
    wrong = rows_file(tmp_path / "wrong.jsonl", made_up(10, pair=True))
    with pytest.raises(InputError, match=r"wrong.jsonl has no column 'text'; its columns are first, second, score"):
        Score.prepare(train, wrong, settings())


@pytest.mark.parametrize(
    ("pair", "value", "message"),
    [
        (False, 3, "Input 1: expected a text, got '3'"),
        (False, ("a", "b"), "Input 1: expected a text, got"),
        (True, "a", "Input 1: expected a pair of texts, got 'a'"),
        (True, ("a", None), "Input 1: expected a pair of texts, got"),
    ],
)
def test_predict_refuses_other_inputs(tmp_path, pair, value, message):
    task, _ = prepared(tmp_path, pair=pair)
    model, head = networks(task, presets.pair_lstm if pair else presets.pooled_lstm)
    with pytest.raises(InputError, match=message):
        task.predict(model, head, [value], AnswerOptions())


def test_load_names_the_damaged_file(tmp_path):
    with pytest.raises(InputError, match=r"score.json is missing"):
        Score.load(tmp_path, settings())
    (tmp_path / "score.json").write_text('{"is_pair": false, "scaling": {"shift": "x"}}')
    with pytest.raises(InputError, match="scaling"):
        Score.load(tmp_path, settings())


@pytest.mark.parametrize("offset", [0.0, 1e9, -1e12])
def test_different_numbers_have_different_names(offset):
    """Both were '1e+09' where contradictions are listed."""
    numbers = offset + np.array([[2.25], [2.5], [3.0]])
    scaling = Standardizer.fit(numbers, "standard")
    scaled = scaling.forward(numbers).astype(np.float32)[:, 0]
    names = [Score(None, scaling, is_pair=False).answer_name(value) for value in scaled]
    assert [float(name) for name in names] == numbers[:, 0].tolist()
