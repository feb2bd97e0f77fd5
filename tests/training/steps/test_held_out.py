"""What an evaluation keeps of its examples gives its own metrics, for any draw of them; words; losses one by one."""

import numpy as np
import pytest
import torch

from thalweg.batch import Batch
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.distance import Cosine
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.heads.targets import Targets
from thalweg.tasks.forecast.metrics import Answers, series_metrics, series_samples
from thalweg.tasks.regression import correlations, drawn_scores, nmse
from thalweg.tasks.tag.task import TagMeter
from thalweg.tasks.translate.scores import score
from thalweg.tasks.writing.token_sums import TokenMeter, perplexity
from thalweg.training.steps.evaluate import Evaluation, loss_by_example
from thalweg.training.steps.held_out import brackets, chosen_from, interval_notes, part_seen, to_json

ROWS = np.array([0, 0, 3, 1, 5, 5, 5, 2])  # a draw of 8 of the 8 rows
WEIGHTS = np.bincount(ROWS, minlength=8)[None].astype(float)


def drawn(samples, weights=WEIGHTS):
    return {name: float(value[0]) for name, value in samples.figures(weights).items()}


@pytest.mark.parametrize("tags", [("A", "B", "C", "D"), ("B-x", "I-x", "B-y", "O")])
def test_tags(tags):
    torch.manual_seed(0)
    logits, targets = torch.randn(8, 6, 4), torch.randint(0, 3, (8, 6))
    mask = torch.arange(6) < torch.tensor([6, 2, 5, 1, 4, 6, 3, 6])[:, None]
    meters = TagMeter(tags), TagMeter(tags)
    for meter, rows in zip(meters, (torch.arange(8), torch.from_numpy(ROWS)), strict=True):
        for part in rows.split(3):
            meter.update(logits[part], Batch({}, targets[part], mask[part]))
    assert meters[0].samples().values == pytest.approx(meters[0].compute(), abs=1e-6)
    assert drawn(meters[0].samples()) == pytest.approx(meters[1].compute(), abs=1e-6)


def test_tokens():
    torch.manual_seed(1)
    logits, targets = torch.randn(8, 5, 7), torch.randint(0, 7, (8, 5))
    mask = torch.arange(5) < torch.tensor([5, 2, 5, 1, 4, 5, 3, 5])[:, None]
    meters = [TokenMeter(lambda nats, right: {"perplexity": perplexity(nats), "right": right}, "texts") for _ in "ab"]
    for meter, rows in zip(meters, (np.arange(8), ROWS), strict=True):
        meter.update(logits[rows], Batch({}, targets[rows], mask[rows]))
    assert meters[0].samples().values == pytest.approx(meters[0].compute())
    assert drawn(meters[0].samples()) == pytest.approx(meters[1].compute())


def test_numbers():
    rng = np.random.default_rng(2)
    prediction, target = np.round(rng.normal(size=(2, 8)), 1)
    target[3] = target[1]  # ranks with ties
    found = {name: float(value[0]) for name, value in drawn_scores(prediction, target)(WEIGHTS).items()}
    p, y = torch.from_numpy(prediction[ROWS]), torch.from_numpy(target[ROWS])
    pearson, spearman = correlations(p, y)
    assert found == pytest.approx({"nmse": nmse(p, y), "pearson": pearson, "spearman": spearman})
    once = np.zeros((1, 8))
    once[0, 2] = 8.0
    assert all(np.isnan(value[0]) for value in drawn_scores(prediction, target)(once).values())


@pytest.mark.parametrize("columns", [("a",), ("a", "b")])
def test_series(columns):
    parts = list(np.random.default_rng(3).normal(size=(6, 8, len(columns))) + 5.0)
    parts[3][0] = np.nan  # the value a season ago is not known at first
    parts[5] = (parts[5] > 5.0).astype(float)
    scale = np.full(len(columns), 2.0)
    samples = series_samples(columns, Answers(*parts), scale)
    assert samples.in_time
    assert samples.values == pytest.approx(series_metrics(columns, Answers(*parts), scale))
    assert drawn(samples) == pytest.approx(series_metrics(columns, Answers(*(part[ROWS] for part in parts)), scale))


def test_translations():
    written = ["the cat sat on a mat", "a dog", "", "it rains all day today", "no", "the cat sat", "an egg", "x y z"]
    wanted = ["the cat sat on the mat", "a dog", "one", "it rained all day today", "no", "a cat sat", "one egg", "x"]
    scored = score(written, [wanted])
    again = [[texts[row] for row in ROWS] for texts in (written, wanted)]
    assert scored.samples.values == pytest.approx(scored.values, rel=1e-12)
    assert drawn(scored.samples) == pytest.approx(score(again[0], [again[1]]).values, rel=1e-12)
    assert scored.samples.shares == {"exact_match": (2, 8)}


HEADS = [
    (Softmax(3, 4, label_smoothing=0.1), torch.tensor([0, 3, 1])),
    (Softmax(3, 4, class_weights=torch.tensor([1.0, 2.0, 0.5, 1.0])), torch.tensor([0, 3, 1])),
    (Bernoulli(3, 2, label_smoothing=0.1), torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])),
    (Squared(3, 2), torch.randn(3, 2)),
    (Cosine(3, Targets(torch.randn(5, 4))), torch.tensor([0, 4, 1])),
]


@pytest.mark.parametrize(("head", "targets"), HEADS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])], ids=["plain", "weighted"])
def test_losses_one_by_one(head, targets, weights):
    with torch.inference_mode():
        prediction = head(torch.randn(3, 3))
        total, count, each = loss_by_example(head, prediction, Batch({}, targets, None, weights), True)
        assert each.sum(0) == pytest.approx((float(total), float(count)), rel=1e-5)
        for i in range(3):
            one = slice(i, i + 1)
            alone = head.loss(prediction[one], targets[one], None, None if weights is None else weights[one])
            assert each[i] == pytest.approx([float(part) for part in alone], rel=1e-5)
        assert loss_by_example(head, prediction, Batch({}, targets), False)[2].shape == (0, 2)


def test_words():
    found = Evaluation(0.3, {"accuracy": 0.9}, 40, {"accuracy": (0.76, 0.97)}, {"accuracy": 0.5})
    assert brackets(found.intervals.get("accuracy")) == "[0.7600, 0.9700]"
    assert brackets(None) == ""
    notes = interval_notes(found, "validation example", 3)
    assert notes[0].startswith("In brackets: 95 % intervals from 40 validation examples, taken as independent")
    assert notes[0].endswith("Always giving the most frequent answer has accuracy 0.5000 on them.")
    assert "the best of 3 evaluations on the same examples" in notes[1]
    assert len(interval_notes(found)) == 1
    assert interval_notes(Evaluation(0.3, {})) == []
    rows = Evaluation(0.3, {"mae": 1.0}, 31, {"mae": (0.5, 1.5)}, unit="rows")
    assert "from 31 examples (bootstrap, drawing blocks of neighboring rows)." in interval_notes(rows)[0]
    assert to_json(found)["intervals"] == {"accuracy": [0.76, 0.97]}
    history = [{"event": "step"}, {"event": "evaluation"}, {"event": "evaluation"}]
    assert chosen_from(history, keeps_last=False) == 2
    assert chosen_from(history, keeps_last=True) == 0


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(0.004, "saw 0.4 % of"), (0.4, "saw 40 % of"), (0.9999, "saw 99 % of"), (1.0, None), (8.0, None)],
)
def test_a_part_of_the_data_is_said_to_be_one(epochs, expected):
    notes = part_seen(epochs, "training examples")
    assert [expected in note for note in notes] == [True] * (expected is not None)
