"""Two processes have the curve of one, whatever the optimizer, the head and the model."""

import random
from pathlib import Path

import pytest
import torch
from ranks import together

from thalweg import distributed, names, sharded
from thalweg.errors import InputError, RankError
from thalweg.optim import catalog
from thalweg.training.integrity.checkpoint_names import ledger_of
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.loop import train
from thalweg.training.session.prepare import Request, prepare
from thalweg.training.steps.evaluate import evaluate

WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]
LSTM = {
    "model": "lstm", "width": 6, "hidden": 6, "dropout": 0.0, "precision": "float64", "steps": 4, "batch_size": 100,
    "optimizer": "adamw",
}  # fmt: skip
DENSE = ("levenberg-marquardt", *names.QUASI_NEWTON)
SMALL = {"source": "few.csv", "width": 2, "hidden": 2, "vocabulary_size": 12, "batch_size": 0, "steps": 3}
TRANSLATE = {**LSTM, "task": "translate", "source": "pairs.tsv", "width": 8, "hidden": 8, "lr": 1e-2, "batch_size": 33}
OF_TORCH = ("sgd", "adamw", "adagrad", "nadam", "rprop")
CASES = {
    **{f"optimizer {name}": {**LSTM, "optimizer": name} for name in (*OF_TORCH, *catalog.OPTIMIZERS)},
    **{f"method {name}": {**LSTM, "optimizer": name} for name in ("gradient", "newton-cg", "kfac", "sophia")},
    **{f"method {name}": {**LSTM, **SMALL, "optimizer": name} for name in ("newton", *DENSE)},
    "adamw armijo": {**LSTM, "line_search": "armijo"},
    "lbfgs wolfe": {**LSTM, "optimizer": "lbfgs", "line_search": "wolfe", "batch_size": 0},
    "accumulation": {**LSTM, "accumulate": 3, "batch_size": 30},
    "average": {**LSTM, "average": "ema"},
    "schedule-free": {**LSTM, "average": "schedule-free"},
    "clipping": {**LSTM, "clip": 0.1},
    "chosen": {key: value for key, value in LSTM.items() if key != "optimizer"},
    "proved": {"source": "reviews.csv"},
    **{f"dropout {name}": {**LSTM, "model": name, "heads": 2, "dropout": 0.3} for name in ("bag", "gru")},
    "dropout transformer": {**LSTM, "model": "transformer", "heads": 2, "dropout": 0.3},
    **{f"head {name}": {**TRANSLATE, "head": name} for name in names.HEADS if name != names.CHAIN_HEAD},
    "dispersion": {**TRANSLATE, "head": "contrastive", "dispersion": "sliced"},
    "tag": {**LSTM, "task": "tag", "source": "words.conll", "head": "crf", "batch_size": 33},
    "score": {**LSTM, "task": "score", "source": "numbers.csv", "batch_size": 33},
    "forecast": {"task": "forecast", "source": "sunspots", "precision": "float64", "steps": 4, "model": "mlp"},
    "language": {
        **LSTM, "task": "language", "source": "lines.txt", "model": "transformer", "heads": 2, "max_length": 32,
        "vocabulary_size": 300, "batch_size": 7,
    },
}  # fmt: skip
DIVIDED = ("clipping", "tag", "score", "forecast", "language", "head softmax")  # whose evaluation is compared, too
CLOSE = 1e-5  # of each loss, relative


def write_data(folder):
    """Write texts of different lengths, of which the last batch is not full."""
    generator, rows = random.Random(0), ["text,label"]
    for number in range(403):
        mark = ("fine", "awful")[number % 2] if generator.random() < 0.9 else "plain"
        rows.append(f"{' '.join(generator.choices(WORDS, k=generator.randint(2, 9)))} {mark},{'ab'[number % 2]}")
    (folder / "reviews.csv").write_text("\n".join(rows) + "\n")
    (folder / "few.csv").write_text("\n".join(rows[:64]) + "\n")
    (folder / "lines.txt").write_text("\n".join(row.partition(",")[0] for row in rows[1:]) + "\n")
    numbers = [f"{row.partition(',')[0]},{number % 5}" for number, row in enumerate(rows[1:])]
    (folder / "numbers.csv").write_text("\n".join(["text,number", *numbers]) + "\n")
    texts = [generator.choices(WORDS, k=generator.randint(2, 6)) for _ in range(120)]
    (folder / "pairs.tsv").write_text("".join(f"{' '.join(text)}\t{' '.join(reversed(text))}\n" for text in texts))
    tagged = ["\n".join(f"{word}\tB-{word[0].upper()}" for word in text) for text in texts]
    (folder / "words.conll").write_text("\n\n".join(tagged) + "\n")


def curves(folder, part, steps=None, cases=None):
    """Return how each case ends, and its losses; `steps` in place of its own number, `cases` in place of these."""
    torch.set_num_threads(1)
    found = {}
    for case, given in (cases or CASES).items():
        options = {"source": "reviews.csv", **given, "name": case.replace(" ", "-")}
        if steps is not None and "steps" in given:
            options["steps"] = steps
        if "." in options["source"]:
            options["source"] = str(Path(folder) / options["source"])
        with prepare(Request(Options(options), Path(folder) / part), lambda sentence: None) as session:
            entries = list(train(session))
            if case in DIVIDED:  # by batches that are few enough for two processes to have several each
                with sharded.whole(session.model):
                    seen = evaluate(session.task, session.model, session.head, session.prepared.train, batch_size=16)
                found[f"evaluated {case}"] = [seen.num_examples, [seen.loss, *seen.metrics.values()]]
        losses = [entry["loss"] for entry in entries if entry["event"] in ("step", "evaluation", "selection")]
        found[case] = [entries[-1]["status"], losses]
    return found


def in_two(folder):
    return curves(folder, "two"), refusals(folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The curves of one process; of two, those of each and what they refuse."""
    folder = tmp_path_factory.mktemp("ranks")
    write_data(folder)
    return curves(folder, "one"), *together(in_two, str(folder), folder=folder, seconds=900.0)


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(found):
    alone, (first, _), (second, _) = found
    assert first == second
    assert first.keys() == alone.keys()
    for case, (status, losses) in alone.items():
        assert first[case][0] == status, case
        assert first[case][1] == pytest.approx(losses, rel=CLOSE), case
        assert len(losses) >= 2, case


def refusals(folder):
    """Return what is said of batches that are too small and of weights that have parted, and what a checkpoint says."""
    torch.set_num_threads(1)

    def session(name, **given):
        options = Options({**LSTM, "source": str(Path(folder) / "reviews.csv"), "name": name, **given})
        return prepare(Request(options, Path(folder) / "runs"), lambda sentence: None)

    with pytest.raises(InputError, match="share of every batch") as small:
        session("small", batch_size=1)
    with session("apart") as apart:
        with torch.no_grad():
            next(apart.model.parameters()).add_(float(distributed.rank()))
        with pytest.raises(RankError, match="other weights") as parted:
            list(train(apart))
    with session("alike") as alike:
        list(train(alike))
        about = ledger_of(alike.newest()).about
    return [str(small.value), str(parted.value), about["environment"]["processes"]]


@pytest.mark.slow
def test_what_cannot_be_shared_or_has_parted_is_told_by_all(found):
    _, (_, first), (_, second) = found
    assert first == second
    small, parted, processes = first
    assert small.startswith("Each of the 2 processes needs a share of every batch, and --batch-size is 1; start fewer")
    assert "process 1 of 2 has other weights than process 0" in parted
    assert processes == 2
