"""Runs of every task are certified: what applies gives a bound, and everything else says why not."""

import json
import math

import numpy as np
import pytest

import thalweg
from thalweg.certificates.checker.check import Refused, check
from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.training.certified.certify import certify_run, open_run
from thalweg.training.certified.checking import Rebuilt
from thalweg.training.integrity.run_files import CERTIFICATE

WORDS = ["river", "stone", "light", "water", "field"]


def make(task, folder):
    """Write data in which the same input comes with different answers; return the file, options and the floor."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, 3)) for _ in range(60)]
    path = folder / f"{task}.jsonl"
    options = {"epochs": 2, "width": 8, "hidden": 8, "seed": 1, "name": task, "out": folder / "runs"}
    rows = {
        "classify": [{"text": line, "label": str(rng.integers(2))} for line in lines],
        "several": [{"text": line, "labels": [str(rng.integers(3)), "x"]} for line in lines],
        "score": [{"text": line, "score": int(rng.integers(5))} for line in lines],
        "tag": [{"tokens": line.split(), "tags": rng.choice(["A", "B"], 3).tolist()} for line in lines],
        "translate": [{"source": line, "target": " ".join(rng.choice(WORDS, 2))} for line in lines],
    }
    if task == "forecast":
        path = folder / "series.csv"
        path.write_text("x\n" + "\n".join(str(rng.integers(2)) for _ in range(80)) + "\n")
        return path, options | {"lags": 2, "task": "forecast"}
    if task == "language":
        path = folder / "prose.txt"
        path.write_text("\n".join(lines))
        return path, options | {"max_length": 8, "task": "language", "tokenizer": "word", "valid_share": 0.2}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[task]))
    return path, options | ({"model": "lstm", "head": "softmax"} if task == "tag" else {})


TASKS = ["classify", "several", "score", "tag", "translate", "forecast", "language"]


@pytest.fixture(scope="module", params=TASKS)
def trained(request, tmp_path_factory):
    path, options = make(request.param, tmp_path_factory.mktemp("certify"))
    return thalweg.train(path, **options)


def test_a_run_of_every_task_gets_an_interval(trained, tmp_path):
    certified = certify_run(trained, seconds=1.0)
    interval = certified.interval
    assert math.isfinite(interval.loss)
    assert 0.0 < interval.bound < interval.loss
    assert interval.levels[0].name == "floor"
    assert interval.scope.startswith("No model of any kind that sees only ")
    interval.save(tmp_path / CERTIFICATE)
    assert check(tmp_path / CERTIFICATE).refused == []
    rebuilt = Rebuilt(open_run(trained))
    report = check(tmp_path / CERTIFICATE, rebuilt)
    assert not report.refused
    assert report.bound_verified
    assert rebuilt.hashes == dict(interval.hashes)


def test_a_crf_has_no_bound_and_none_is_claimed(tmp_path):
    path, options = make("tag", tmp_path)
    certified = certify_run(thalweg.train(path, **options | {"model": "linear", "head": "crf"}), seconds=1.0)
    assert math.isfinite(certified.interval.loss)
    assert certified.interval.bound == -math.inf
    assert all(level.name not in ("floor", "head") for level in certified.interval.levels)


@pytest.mark.usefixtures("pictures")
def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, options = make("classify", tmp_path)
    folder = thalweg.train(path, **options).folder

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    with monkeypatch.context() as patch:  # a picture needs no optimizer
        patch.setattr("thalweg.training.session.session.Session.__init__", None)
        code, out, _ = call("certify", folder, "--seconds", "60s")
    assert code == 0
    assert out.startswith("The best possible training loss is at least 0.")
    assert "floor of the data" in out
    assert "How far from the best?" in (folder / "report.html").read_text(encoding="utf-8")
    code, out, err = call("certify", folder, "--json", "--no-report", "--quiet", "--seconds", "60s")
    content = json.loads(out)
    assert (code, err) == (0, "")
    assert {"loss", "bound", "relative_gap", "scope", "proof", "levels"} <= content.keys()
    assert {"name", "bound", "scope", "proof", "seconds"} <= content["levels"][0].keys()
    code, out, _ = call("check", folder / CERTIFICATE, "--run", folder)
    assert code == 0
    assert "Inputs, targets, weights, penalty and loss were computed again from" in out
    assert out.rstrip().endswith("the interval's bound: verified")
    code, out, _ = call("check", folder / CERTIFICATE)
    assert code == 0
    assert "Not verified: that these are the numbers of your data and of your model" in out.replace("\n", " ")

    other = thalweg.train(path, **options | {"seed": 2, "name": "other"}).folder
    code, out, _ = call("check", folder / CERTIFICATE, "--run", other)
    assert code == 1
    assert "REFUSED The weights of the certificate do not match" in out
    code, out, _ = call("check", folder / CERTIFICATE, "--run", other, "--json")
    assert json.loads(out)["accepted"] is False

    before = (folder / "model.safetensors").read_bytes()
    code, _, err = call("certify", folder, "--polish")
    assert code == 2
    assert "Polishing needs an L2 penalty" in err
    assert (folder / "model.safetensors").read_bytes() == before
    decayed = thalweg.train(path, **options | {"name": "decayed", "l2": 1e-3, "model": "lstm", "weight_decay": 0.0})
    loss = thalweg.certify(decayed, seconds=1.0).loss
    code, out, _ = call("certify", decayed.folder, "--polish", "--seconds", "60s")
    assert code == 0
    assert "The polished output layer is in the run" in out
    polished = thalweg.load(decayed.folder)
    (head,) = [level for level in thalweg.certify(polished, seconds=1.0).levels if level.name == "head"]
    assert head.loss < loss
    assert head.relative_gap < 1e-5
    assert (decayed.folder / "model.before-polish.safetensors").is_file()

    code, _, err = call("certify", folder, "--seconds", "0")
    assert code == 2
    assert "--seconds must be above zero" in err
    code, _, err = call("check", tmp_path / "nothing.json")
    assert code == 2
    assert "There is no certificate" in err
    path.write_text(path.read_text() + '{"text": "one more", "label": "1"}\n')
    code, _, err = call("certify", folder)
    assert code == 2
    assert "has changed since" in err
    path.unlink()
    with pytest.raises(InputError, match="restore the file"):
        thalweg.certify(folder)


def test_an_unfinished_run_is_refused(tmp_path):
    path, options = make("classify", tmp_path)
    run = thalweg.train(path, **options)
    run.ledger.write({}, removed=["metrics.json"])
    with pytest.raises(InputError, match="has not finished, so there is nothing to certify"):
        thalweg.certify(run)


def test_a_file_that_is_no_certificate_is_refused(tmp_path):
    path = tmp_path / "certificate.json"
    for text in ("", "[]", "{}", '{"levels": 3, "arrays": {}}', "\x00"):
        path.write_text(text)
        with pytest.raises(Refused, match="cannot be read as a certificate"):
            check(path)
