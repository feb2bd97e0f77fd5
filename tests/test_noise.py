"""Random state: nobody's is changed, and trainings side by side give the weights of single ones."""

import contextlib
import csv
import logging
import random
import threading
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import thalweg
from thalweg import noise
from thalweg.diagnosis import diagnose

DROPOUT = {"model": "gru", "width": 8, "hidden": 8, "dropout": 0.4, "steps": 24, "batch_size": 16}
LINEAR = {"width": 8, "steps": 12, "model": "bag", "optimizer": "adamw"}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    draw = random.Random(0)
    rows = [f"{draw.choice(('river', 'stone'))} {('fine', 'awful')[k % 2]} {k},{'ab'[k % 2]}" for k in range(120)]
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return str(path)


def weights(run):
    return load_file(run.folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_the_state_is_put_back_after_an_error_too():
    before = torch.get_rng_state()
    with contextlib.suppress(ZeroDivisionError), noise.borrowed():
        noise.seed(1)
        first = torch.rand(3)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), first)


def global_state():
    numbers = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return (
        torch.get_rng_state().tolist(), random.getstate(), numbers["pos"], numbers["key"].tolist(),
        torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), list(warnings.filters),
        logging.getLogger().level, logging.getLogger().handlers[:], torch.are_deterministic_algorithms_enabled(),
        torch.backends.mha.get_fastpath_enabled(), np.geterr(), csv.get_dialect("excel").delimiter,
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["train", "train auto", "predict", "evaluate", "certify", "diagnose"])
def test_the_callers_state_is_as_it_was(reviews, tmp_path, monkeypatch, verb):
    monkeypatch.setattr("thalweg.training.session.finish.render_report", lambda report: "no pictures")
    run = thalweg.train(reviews, out=tmp_path / "before", **LINEAR)
    before = global_state()
    match verb:
        case "train":
            thalweg.train(reviews, out=tmp_path, **DROPOUT)
        case "train auto":
            thalweg.train(reviews, out=tmp_path, model="gru", width=8, hidden=8, steps=4)
        case "predict":
            run.predict(["fine stone"])
        case "evaluate":
            run.evaluate(reviews)
        case "certify":
            thalweg.certify(run, seconds=1.0)
        case "diagnose":
            diagnose(run, seconds=2.0)
    assert global_state() == before


def test_what_the_caller_has_drawn_makes_no_difference(reviews, tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.training.session.finish.render_report", lambda report: "no pictures")
    torch.manual_seed(1)
    one = thalweg.train(reviews, out=tmp_path / "one", **DROPOUT)
    torch.manual_seed(2)
    random.seed(2)
    assert same(weights(one), weights(thalweg.train(reviews, out=tmp_path / "two", **DROPOUT)))


def test_trainings_side_by_side_give_the_weights_of_single_ones(reviews, tmp_path, monkeypatch):
    monkeypatch.setattr("thalweg.training.session.finish.render_report", lambda report: "no pictures")
    options = [DROPOUT | {"seed": seed} for seed in (1, 2)] + [LINEAR]
    single = [weights(thalweg.train(reviews, out=tmp_path / f"single{n}", **one)) for n, one in enumerate(options)]
    found = {}

    def work(number):
        found[number] = weights(thalweg.train(reviews, out=tmp_path / f"thread{number}", **options[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[number], single[number]) for number in range(3))
    assert not same(single[0], single[1])


def test_trainings_step_by_step_in_turns_give_the_weights_of_single_ones():
    def loop(seed):
        with noise.borrowed():
            noise.seed(seed)
            model, head = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5)), thalweg.Softmax(8, 2)
        batch = thalweg.Batch({"input": torch.eye(3)}, torch.tensor([0, 1, 1]))
        optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.1)
        options = thalweg.training.steps.fit.FitOptions(seed=seed)
        for _ in thalweg.fit(model, head, optimizer, lambda step: [batch], steps=10, options=options):
            torch.rand(5)  # the caller's own
            yield [parameter.detach().clone() for parameter in model.parameters()]

    single = [list(loop(seed))[-1] for seed in (1, 2)]
    for found in zip(loop(1), loop(2), strict=True):
        last = found
    assert all(
        torch.equal(a, b) for one, other in zip(last, single, strict=True) for a, b in zip(one, other, strict=True)
    )
