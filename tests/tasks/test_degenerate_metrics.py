"""Metrics of every task where there is little to measure: beside scikit-learn, scipy, seqeval and sacreBLEU."""

import math
import warnings

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF, TER
from scipy import stats
from seqeval import metrics as seqeval
from sklearn import metrics as sklearn

from thalweg.batch import Batch
from thalweg.data.arrays.standardize import Standardizer
from thalweg.tasks.classify.decision import Decision
from thalweg.tasks.classify.meter import LabelMeter
from thalweg.tasks.forecast.metrics import Answers, series_samples
from thalweg.tasks.score.meter import ScoreMeter
from thalweg.tasks.tag.meter import TagMeter
from thalweg.tasks.translate.scores import score
from thalweg.tasks.writing.token_sums import TokenMeter, perplexity

LABELS = {  # given and true labels of three
    "perfect": ([0, 1, 2, 1], [0, 1, 2, 1]),
    "all wrong": ([1, 2, 0], [0, 1, 2]),
    "always the same answer": ([1, 1, 1, 1, 1], [0, 1, 2, 1, 1]),
    "one class is missing": ([0, 1, 1, 0], [0, 1, 0, 0]),
    "a class that nothing is": ([0, 2, 1, 0], [0, 1, 0, 0]),
    "one class only, found": ([2, 2, 2], [2, 2, 2]),
    "one class only, not found": ([0, 1, 0], [2, 2, 2]),
    "one example, right": ([1], [1]),
    "one example, wrong": ([0], [1]),
}
SETS = {  # the same of labels that come together
    "perfect": ([[1, 0, 1], [0, 1, 0]], [[1, 0, 1], [0, 1, 0]]),
    "nothing given": ([[0, 0, 0], [0, 0, 0]], [[1, 0, 1], [0, 1, 0]]),
    "nothing true": ([[1, 0, 1], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]),
    "neither": ([[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]),
    "all given": ([[1, 1, 1], [1, 1, 1]], [[1, 0, 1], [0, 1, 0]]),
    "a label that nothing has": ([[1, 1, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0]]),
    "one example": ([[1, 0, 1]], [[1, 1, 0]]),
}
TAGS = ("O", "B-x", "I-x", "B-y", "I-y")
SENTENCES = {  # given and true tags
    "perfect": (["B-x I-x O", "O"], ["B-x I-x O", "O"]),
    "all outside, given and true": (["O O", "O"], ["O O", "O"]),
    "all outside given": (["O O O", "O"], ["B-x I-x O", "B-y"]),
    "all outside true": (["B-x I-x O", "B-y"], ["O O O", "O"]),
    "a type that nothing has": (["B-y I-y O"], ["B-x I-x O"]),
    "one word": (["B-x"], ["B-x"]),
    "spans that begin with I": (["I-x I-x O I-y"], ["B-x I-x O B-y"]),
    "half of a span": (["B-x O O"], ["B-x I-x I-x"]),
    "another type in the middle": (["B-x I-y O"], ["B-x I-x O"]),
    "two spans side by side": (["B-x B-x I-x"], ["B-x I-x I-x"]),
}
NUMBERS = {  # predicted and true ones
    "perfect": ([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]),
    "always the mean": ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]),
    "always something else": ([7.0, 7.0, 7.0], [1.0, 2.0, 3.0]),
    "backwards": ([3.0, 2.0, 1.0], [1.0, 2.0, 3.0]),
    "ties": ([1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 2.0, 3.0]),
    "two examples": ([1.0, 5.0], [2.0, 3.0]),
    "far from 0": ([1e9 + 1, 1e9 + 2, 1e9 + 4], [1e9, 1e9 + 2, 1e9 + 3]),
    "small": ([1e-12, 2e-12, 5e-12], [2e-12, 3e-12, 4e-12]),
}
CONSTANT = {  # true numbers that are all equal, some of which have another mean by rounding
    "one example": [3.0],
    "equal": [2.0] * 5,
    "59 of 12345.678": [12345.678] * 59,
    "10 of 0.1": [0.1] * 10,
}
TEXTS = {"equal": "a b c d e", "empty": "", "disjoint": "x y z w v", "one word": "a", "longer": "a b c d e f g h"}


def contains_its_figures(found, samples):
    """Intervals are made without a warning, and each contains the figure."""
    for name, (low, high) in samples.intervals(draws=200).items():
        assert low - 1e-12 <= found[name] <= high + 1e-12, name


def label_meter(given, true, *, multilabel=False):
    meter = LabelMeter(3, Decision(multilabel=multilabel))
    logits = 4.0 * (torch.tensor(given) * 2 - 1) if multilabel else 4.0 * torch.eye(3)[given]
    meter.update(logits.float(), Batch({}, torch.tensor(true)))
    return meter


@pytest.mark.parametrize("case", LABELS)
def test_labels(case):
    given, true = LABELS[case]
    meter = label_meter(given, true)
    found = meter.compute()
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(true, given))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(true, given, average="macro", zero_division=0))
    confidence = torch.softmax(4.0 * torch.eye(3), -1)[0, 0].item()  # that of every answer
    assert found["ece"] == pytest.approx(abs(found["accuracy"] - confidence), abs=1e-6)
    rows, labels = meter.details()["labels"], [0, 1, 2]
    expected = sklearn.precision_recall_fscore_support(true, given, labels=labels, zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] for row in rows] == pytest.approx(column.tolist())
    for average in ("macro", "weighted", "micro"):
        figures = sklearn.precision_recall_fscore_support(true, given, average=average, zero_division=0)[:3]
        assert list(meter.details()["averages"][average].values()) == pytest.approx(figures)
    contains_its_figures(found, meter.samples())


@pytest.mark.parametrize("case", SETS)
def test_sets_of_labels(case):
    given, true = SETS[case]
    meter = label_meter(given, true, multilabel=True)
    found = meter.compute()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one row
        assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(np.array(true), np.array(given)))
        for name in ("macro", "micro"):
            expected = sklearn.f1_score(np.array(true), np.array(given), average=name, zero_division=0)
            assert found[f"{name}_f1"] == pytest.approx(expected)
    contains_its_figures(found, meter.samples())


@pytest.mark.parametrize("case", SENTENCES)
def test_tags(case):
    given, true = ([text.split() for text in part] for part in SENTENCES[case])
    length = max(map(len, true))
    padded = [[(row + ["O"] * length)[:length] for row in part] for part in (given, true)]
    ids = [torch.tensor([[TAGS.index(tag) for tag in row] for row in part]) for part in padded]
    mask = torch.tensor([[place < len(row) for place in range(length)] for row in true])
    meter = TagMeter(TAGS)
    meter.update(4.0 * torch.eye(5)[ids[0]], Batch({}, ids[1], mask))
    found = meter.compute()
    flat = [[tag for row in part for tag in row] for part in (true, given)]
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(*flat))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(*flat, average="macro", zero_division=0))
    for name in ("f1", "precision", "recall"):
        expected = getattr(seqeval, f"{name}_score")(true, given, zero_division=0)
        assert found[f"span_{name}"] == pytest.approx(float(expected)), name
    contains_its_figures(found, meter.samples())


def score_meter(predicted, true):
    meter = ScoreMeter(Standardizer.fit(np.zeros((2, 1)), "none"))
    prediction, target = (torch.tensor(values, dtype=torch.float64)[:, None] for values in (predicted, true))
    meter.update(prediction, Batch({}, target))
    return meter


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(case):
    predicted, true = NUMBERS[case]
    meter = score_meter(predicted, true)
    found = meter.compute()
    assert found["nmse"] == pytest.approx(1.0 - sklearn.r2_score(true, predicted), rel=1e-6, abs=1e-12)
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(true, predicted))
    if len(set(predicted)) == 1:  # says nothing about the true ones; scipy has no number for it
        assert found["pearson"] == found["spearman"] == 0.0
    else:
        assert found["pearson"] == pytest.approx(stats.pearsonr(predicted, true).statistic, abs=1e-6)
        assert found["spearman"] == pytest.approx(stats.spearmanr(predicted, true).statistic, abs=1e-12)
    contains_its_figures(found, meter.samples())


@pytest.mark.parametrize("case", CONSTANT)
def test_equal_numbers_have_no_variance_to_compare_with(case):
    true = CONSTANT[case]
    predicted = np.linspace(-1.0, 1.0, len(true)) + true
    meter = score_meter(predicted.tolist(), true)
    found = meter.compute()
    assert found.pop("mae") == pytest.approx(sklearn.mean_absolute_error(true, predicted))
    assert all(map(math.isnan, found.values()))
    assert meter.samples().intervals(draws=200).keys() <= {"mae"}
    actual = np.array(true)[:, None]
    answers = Answers(predicted[:, None], actual, actual, None, predicted[:, None])
    series = series_samples(("a",), answers, np.ones(1)).values
    assert all(math.isnan(series[name]) for name in ("skill", "nmse", "naive_nmse", "ar_nmse"))
    assert series["mae"] == series["mase"] == pytest.approx(sklearn.mean_absolute_error(true, predicted))


@pytest.mark.parametrize(("rows", "expected"), [(1, 0.0), (4, 0.0), (4, math.log(7.0)), (2, math.inf)])
def test_tokens(rows, expected):
    logits = torch.zeros(rows, 3, 7, dtype=torch.float64)
    if expected == 0.0:
        logits[..., 2] = 1000.0  # certain, and right
    elif expected == math.inf:
        logits[..., 2] = -torch.inf
    meter = TokenMeter(lambda nats, right: {"perplexity": perplexity(nats), "token_accuracy": right}, "texts")
    meter.update(logits, Batch({}, torch.full((rows, 3), 2), torch.tensor([[True, False, True]] * rows)))
    found = meter.compute()
    assert found["perplexity"] == pytest.approx(math.exp(expected) if expected < 700 else math.inf)
    assert found["token_accuracy"] == float(expected == 0.0)
    if math.isfinite(expected):  # else an evaluation asks for no interval
        contains_its_figures(found, meter.samples())


@pytest.mark.parametrize("reference", TEXTS)
@pytest.mark.parametrize("written", TEXTS)
def test_translations(written, reference):
    texts = [TEXTS[written]] * 3, [[TEXTS[reference]] * 3]
    found = score(*texts).values
    expected = {"bleu": BLEU(), "chrf": CHRF(), "chrf_plus_plus": CHRF(word_order=2), "ter": TER()}
    assert found == {name: metric.corpus_score(*texts).score for name, metric in expected.items()} | {
        "exact_match": float(written == reference)
    }
