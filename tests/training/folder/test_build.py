"""Every switch of a recipe reaches the network, the optimizer or the loop, and does there what it says."""

import math

import numpy as np
import pytest
import torch
from reviews import WORDS, session_for
from torch import nn

from thalweg import names
from thalweg.errors import InputError
from thalweg.models import skips
from thalweg.models.mlp import MaskedLinear
from thalweg.status import Status
from thalweg.training.folder import build
from thalweg.training.session.api import train
from thalweg.training.session.finish import finish
from thalweg.training.session.loop import train as train_loop

ACTIVATIONS = {
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU,
    "silu": nn.SiLU,
}  # fmt: skip


@pytest.mark.parametrize(("model", "name"), [*(("mlp", name) for name in ACTIVATIONS), ("transformer", "silu")])
def test_the_activation_is_in_the_network(reviews, tmp_path, model, name):
    session = session_for(reviews, tmp_path, model=model, activation=name)
    everything = {type(module) for module in session.model.modules()}
    kinds = {found for found in everything if found.__module__ == "torch.nn.modules.activation"}
    assert kinds == {ACTIVATIONS[name]}


SKIPS = {
    "none": skips.NoSkip, "residual": skips.Residual, "prenorm": skips.PreNorm, "highway": skips.Highway,
    "rezero": skips.ReZero,
}  # fmt: skip


@pytest.mark.parametrize(("model", "name"), [
    ("mlp", "none"), ("mlp", "highway"), ("lstm", "residual"), ("lstm", "rezero"), ("gru", "prenorm"),
    ("transformer", "residual"), ("transformer", "highway"), ("transformer", "rezero"),
])  # fmt: skip
def test_the_skip_is_in_the_network_and_trains(reviews, tmp_path, model, name):
    kind = SKIPS[name]
    session = session_for(reviews, tmp_path, model=model, skip=name, layers=3)
    found = {type(module) for module in session.model.modules() if isinstance(module, skips.AbstractSkip)}
    assert kind in found
    assert found <= {kind, skips.NoSkip}, "a layer that changes the width has no way around it"
    losses = [entry["loss"] for entry in train_loop(session) if entry["event"] == "step"]
    assert len(losses) == 6
    assert all(map(math.isfinite, losses))


INITIALIZED = {
    "xavier": {"model": "mlp"},
    "he": {"model": "mlp"},
    "orthogonal": {"model": "mlp"},
    "lsuv": {"model": "mlp"},
    "tfixup": {"model": "transformer", "skip": "residual"},
}


@pytest.mark.parametrize("name", INITIALIZED)
def test_the_initialization_changes_the_start_and_nothing_else(reviews, tmp_path, name):
    plain = session_for(reviews, tmp_path / "a", **INITIALIZED[name])
    scheme = session_for(reviews, tmp_path / "b", init=name, **INITIALIZED[name])
    before, after = plain.model.state_dict(), scheme.model.state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    if name == "orthogonal":
        weight = next(m.weight for m in scheme.model.modules() if isinstance(m, nn.Linear)).detach()
        torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), rtol=0, atol=1e-5)


def test_a_sparse_mlp_keeps_its_zeros_through_training_and_in_the_file(reviews, tmp_path):
    run = train(
        reviews, out=tmp_path, model="mlp", width=16, hidden=16, layers=2, sparsity=0.5, epochs=3.0, lr=0.05,
        weight_decay=0.1, input_skip=True,
    )  # fmt: skip
    masked = [module for module in run.model.modules() if isinstance(module, MaskedLinear)]
    assert len(masked) >= 3
    for layer in masked:
        off = layer.mask == 0
        assert 0.35 < float(off.float().mean()) < 0.65
        assert float(layer.weight.detach()[off].abs().max()) == 0.0
        assert float(layer.weight.detach()[~off].abs().min()) > 0.0


def test_the_input_skip_adds_a_linear_map_from_input_to_output(reviews, tmp_path):
    with_skip = session_for(reviews, tmp_path / "a", model="mlp", input_skip=True)
    without = session_for(reviews, tmp_path / "b", model="mlp")
    counts = [build.count_parameters(session.model, session.head) for session in (with_skip, without)]
    assert counts[0] - counts[1] == 8 * with_skip.model.width


def test_label_smoothing_reaches_the_head(reviews, tmp_path):
    session = session_for(reviews, tmp_path, label_smoothing=0.2)
    assert session.head.label_smoothing == 0.2


def test_dropout_reaches_the_network_and_is_off_in_answers(reviews, tmp_path):
    session = session_for(reviews, tmp_path, model="lstm", dropout=0.5)
    shares = {module.p for module in session.model.modules() if isinstance(module, nn.Dropout)}
    assert shares == {0.5}
    batch = session.feed(0)[0]
    session.model.eval()
    assert torch.equal(session.model(**batch.inputs), session.model(**batch.inputs))


def test_accumulated_micro_batches_take_the_step_of_the_large_batch(reviews, tmp_path):
    """All data in one batch, or in ten micro-batches whose last one is smaller: the same steps."""
    options = {"model": "mlp", "dropout": 0.0, "optimizer": "sgd", "lr": 0.5, "steps": 4, "precision": "float64"}
    large = session_for(reviews, tmp_path / "a", batch_size=0, **options)
    small = session_for(reviews, tmp_path / "b", batch_size=17, accumulate=10, **options)
    assert large.feed.steps_per_epoch == small.feed.steps_per_epoch == 1
    assert len({batch.num_examples for batch in small.feed(0)}) == 2
    start = {name: tensor.clone() for name, tensor in build.get_weights(large.model, large.head).items()}
    for session in (large, small):
        list(train_loop(session))
    a, b = (build.get_weights(session.model, session.head) for session in (large, small))
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], rtol=1e-9, atol=1e-12)
    assert not all(torch.equal(tensor, start[name]) for name, tensor in a.items())


def test_word_vectors_start_the_embedding(reviews, tmp_path):
    path = tmp_path / "vectors.txt"
    vectors = {word: np.random.default_rng(k).normal(size=8) for k, word in enumerate([*WORDS, "unseen"])}
    path.write_text("\n".join(f"{word} {' '.join(map(str, vector))}" for word, vector in vectors.items()) + "\n")
    session = session_for(reviews, tmp_path, model="lstm", word_vectors=str(path), normalize_vectors="none")
    table = next(module for module in session.model.modules() if isinstance(module, nn.Embedding)).weight.detach()
    tokenizer = session.task.reader.tokenizer
    for word in WORDS:
        np.testing.assert_allclose(table[tokenizer.id_of(word)], vectors[word], rtol=1e-5)
    lengths = session_for(reviews, tmp_path, model="lstm", word_vectors=str(path), name="b")
    table = next(module for module in lengths.model.modules() if isinstance(module, nn.Embedding)).weight.detach()
    norms = torch.stack([table[tokenizer.id_of(word)].norm() for word in WORDS])
    torch.testing.assert_close(norms, norms.mean().expand(len(WORDS)), rtol=1e-4, atol=0)


def test_word_vectors_of_another_width_are_refused(reviews, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("river 1 2 3\nstone 4 5 6\n")
    with pytest.raises(InputError, match=r"width 3.* has width 8; give --width 3"):
        session_for(reviews, tmp_path, model="lstm", word_vectors=str(path))


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("float64", torch.float64), ("bfloat16", torch.float32)]
)
def test_precision(reviews, tmp_path, precision, dtype):
    session = session_for(reviews, tmp_path, precision=precision, model="mlp")
    assert {parameter.dtype for parameter in session.model.parameters()} == {dtype}
    assert session.autocast is (torch.bfloat16 if precision == "bfloat16" else None)
    entries = list(train_loop(session))
    assert entries[-1]["status"] == "COMPLETED"
    assert all(math.isfinite(entry["loss"]) for entry in entries if entry["event"] == "step")


@pytest.mark.parametrize("scaling", names.SCALINGS)
def test_numbers_are_scaled_and_come_back(tmp_path, scaling):
    path = tmp_path / "level.csv"
    path.write_text("level\n" + "\n".join(str(500 + 40 * math.sin(k / 3)) for k in range(120)) + "\n")
    session = session_for(path, tmp_path, task="forecast", lags=6, scaling=scaling, steps=2)
    seen = session.prepared.train.columns["features"]
    if scaling == "range":
        assert (seen.min(), seen.max()) == (pytest.approx(-1.0), pytest.approx(1.0))
    elif scaling == "standard":
        assert abs(seen.mean()) < 0.1
        assert seen.std() == pytest.approx(1.0, abs=0.1)
    else:
        assert 460 <= seen.min() < seen.max() <= 540
    list(train_loop(session))
    finish(session, Status.COMPLETED)
    (answer,) = session.run.predict([[500.0] * 6])
    if scaling != "none":
        assert 400 < answer["forecast"][0] < 600, "in the unit of the data"


def test_the_steps_of_text_normalization_are_kept_with_the_run(reviews, tmp_path):
    plain = session_for(reviews, tmp_path, normalize=[])
    lower = session_for(reviews, tmp_path, normalize=["lower", "spaces"], name="b")
    texts = ["  RIVER   Stone"]
    assert plain.task.reader.normalizer.many(texts) == texts
    assert lower.task.reader.normalizer.many(texts) == ["river stone"]
    known = lower.task.reader.tokenizer
    assert lower.task.reader.encode([["river"]])[0].tolist() == [known.id_of("river")]


def test_forecasts_run_in_float64(tmp_path):
    run = train("sunspots", out=tmp_path, precision="float64", steps=3)
    assert run.predict([[float(k) for k in range(10)]])[0]["forecast"]


def test_every_name_in_the_tables_leads_to_something():
    for table, what in ((names.ACTIVATIONS, "a"), (names.SKIPS, "s"), (names.SCHEDULES, "s")):
        for name in table:
            assert callable(names.find(table, name, what))
    for spec in map(names.task_spec, names.TASKS):
        assert names.task_class(spec.name).name == spec.name
        for model in spec.models.values():
            assert callable(names.load(model.builder))
            assert not model.pair_builder or callable(names.load(model.pair_builder))
