"""Checked against a run, a certificate must be about the run's own problem, whatever its file holds."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import thalweg
from thalweg.certificates.certificate.interval import Interval, level_to_json
from thalweg.certificates.checker.check import Refused, check, check_level
from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.cli.main import run as command
from thalweg.training.certified.certify import certify_run, open_run
from thalweg.training.certified.checking import Rebuilt
from thalweg.training.integrity.run_files import CERTIFICATE

WORDS = ["river", "stone", "light", "water", "field"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checking")
    rng = np.random.default_rng(0)
    rows = [{"text": " ".join(rng.choice(WORDS, 3)), "label": str(rng.integers(3))} for _ in range(90)]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return thalweg.train(path, out=folder / "runs", steps=3, optimizer="factored-newton")


@pytest.fixture(scope="module")
def interval(trained):
    return certify_run(trained, seconds=2.0).interval


def level_of(interval, name, quantity="training loss"):
    return next(level for level in interval.levels if (level.name, level.quantity) == (name, quantity))


def test_an_honest_certificate_passes_with_and_without_the_run(trained, interval, tmp_path):
    interval.save(tmp_path / CERTIFICATE)
    for rebuilt in (None, Rebuilt(open_run(trained))):
        report = check(tmp_path / CERTIFICATE, rebuilt)
        assert report.bound_verified
        assert not report.refused
        assert report.verified == ["floor", "floor", "head", "factored", "held_out"]
        assert report.verdict.endswith("levels verified; the interval's bound: verified")


def other_targets(objective):
    batch = objective.batches[0]
    objective.batches = [dataclasses.replace(batch, targets=batch.targets.flip(0)), *objective.batches[1:]]


def equal_targets(objective):
    objective.batches = [dataclasses.replace(one, targets=torch.zeros_like(one.targets)) for one in objective.batches]


def fewer_examples(objective):
    objective.batches = objective.batches[:1]
    batch = objective.batches[0]
    first = {"tokens": batch.inputs["tokens"][:1], "offsets": batch.inputs["offsets"][:1]}
    weights = batch.inputs.get("weights")
    if weights is not None:
        first["weights"] = weights[:1]
    objective.batches = [dataclasses.replace(batch, inputs=first, targets=batch.targets[:1])]


def other_penalty(objective):
    objective.l2 = 10.0 * objective.l2


def other_features(objective):
    batch = objective.batches[0]
    inputs = batch.inputs | {"weights": 100.0 * batch.inputs["weights"]}
    objective.batches = [dataclasses.replace(batch, inputs=inputs), *objective.batches[1:]]


def other_weights(objective):
    with torch.no_grad():
        objective.head.output.weight.mul_(0.5)


def example_weights(objective):
    batch = objective.batches[0]
    weights = torch.linspace(0.1, 2.0, batch.num_examples, dtype=torch.float64)
    objective.batches = [dataclasses.replace(batch, weights=weights), *objective.batches[1:]]


FORGERIES = [
    other_targets, equal_targets, fewer_examples, other_penalty, other_features, other_weights, example_weights,
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES)
def test_an_honest_proof_of_another_problem_is_refused(trained, interval, tmp_path, forge):
    """The file is right in itself, and has the hashes of the run."""
    from thalweg.training.certified.certify import training_objective

    opened = open_run(trained)
    objective, _ = training_objective(trained.recipe, opened.task, opened.prepared, trained.model, trained.head)
    objective = objective.copied(torch.float64)
    forge(objective)
    problem = factored_problem(objective, opened.task.about())
    level = problem.certificate(problem.at(*factors_of(objective)))
    path = tmp_path / CERTIFICATE
    Interval(loss=level.loss, levels=(level,), hashes=interval.hashes).save(path)
    assert check(path).bound_verified
    report = check(path, Rebuilt(open_run(trained)))
    assert not report.bound_verified
    assert report.refused


@pytest.mark.parametrize("options", [
    {"hidden": 3, "lags": 2, "activation": "leaky_relu"}, {"hidden": 4, "lags": 3, "layers": 2, "activation": "relu"},
])  # fmt: skip
def test_two_layers_of_a_run(tmp_path, options):
    """An honest certificate passes, also of the last two layers of a deeper network; another loss does not."""
    series = tmp_path / "series.csv"
    series.write_text("x\n" + "".join(f"{np.sin(0.7 * i) + np.cos(0.3 * i * i):.3f}\n" for i in range(60)))
    run = thalweg.train(series, out=tmp_path, model="mlp", l2=0.01, weight_decay=0.0, steps=20, **options)
    found = certify_run(run, seconds=10.0).interval
    level = level_of(found, "two_layer")
    assert level.whole == ("layers" not in options)
    path = tmp_path / CERTIFICATE
    found.save(path)
    rebuilt = Rebuilt(open_run(run))
    report = check(path, rebuilt)
    assert not report.refused
    assert "two_layer" in report.verified
    other = dict(level.evidence) | {"l2": 0.02}
    own = rebuilt("two_layer", other)
    assert own["l2"] == 0.01
    with pytest.raises(Refused, match="claims the loss"):
        check_level(level_to_json(level) | {"loss": 1.1 * level.loss}, own)


def test_a_floor_of_other_counts_is_refused(trained, interval, tmp_path):
    floor = level_of(interval, "floor")
    evidence = dict(floor.evidence) | {"weight": np.asarray(floor.evidence["weight"]) * 1.01}
    level = dataclasses.replace(floor, bound=1.005 * floor.bound, evidence=evidence)
    path = tmp_path / CERTIFICATE
    Interval(loss=level.loss, levels=(level,), hashes=interval.hashes).save(path)
    report = check(path, Rebuilt(open_run(trained)))
    assert not report.bound_verified


def test_a_rule_that_no_run_has_is_refused(trained):
    with pytest.raises(Refused, match="cannot be computed again from a run"):
        Rebuilt(open_run(trained))("threshold", {"rule": "threshold"})


def test_exit_codes(trained, interval, tmp_path, capsys):
    path = tmp_path / CERTIFICATE

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            command(["check", *map(str, arguments)])
        return ended.value.code, capsys.readouterr()

    interval.save(path)
    code, output = call(path, "--run", trained.folder)
    assert code == 0
    assert output.out.rstrip().endswith("5 of 6 levels verified; the interval's bound: verified")
    assert "Not verified" not in output.out
    code, output = call(path)
    assert code == 0
    assert "of your data and of your model, which `check FILE --run RUN` computes again." in output.out
    # The level that carries the bound is not there, or has no evidence: a true bound that is not verified.
    bare = dataclasses.replace(level_of(interval, "factored"), evidence={})
    Interval(loss=interval.loss, levels=(level_of(interval, "floor"), bare), hashes=interval.hashes).save(path)
    code, output = call(path, "--run", trained.folder)
    assert code == 1
    assert output.out.rstrip().endswith("1 of 2 levels verified; the interval's bound: NOT VERIFIED")
    code, output = call(path, "--json")
    assert code == 1
    assert json.loads(output.out)["accepted"] is False
    path.write_text("{}")
    code, output = call(path)
    assert code == 2
    assert "Traceback" not in output.err
    assert "cannot be read as a certificate" in output.err.replace("\n", " ")
