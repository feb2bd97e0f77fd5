"""A certificate proves itself with numpy alone; one that was tampered with is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thalweg.certificates.certificate.interval import Certificate, Interval, Proof
from thalweg.certificates.checker import check as checker
from thalweg.certificates.checker.check import Refused, check, fingerprint, main
from thalweg.certificates.floors.floor import class_floor, number_floor
from thalweg.certificates.floors.norm import norm_floor

FILES = sorted(Path(checker.__file__).parent.glob("[!_]*.py"))


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def level(name, evidence, *, loss=None, bound=None, whole=True):
    """A certificate with the loss and the bound that its evidence proves."""
    found, proved = checker.rule(evidence["rule"])(evidence)
    loss = loss if found is None else found
    return Certificate(
        name=name, quantity=f"loss of {name}", unit="nats", loss=float(loss), bound=float(proved), scope="No less.",
        proof=Proof.PROOF, seconds=0.0, evidence=evidence, whole=whole,
    )  # fmt: skip


def head_evidence(rng, loss="softmax", regularizer="l2", packed=False, intercept=False):
    """A head trained a little, with the natural dual point; feasible by construction."""
    n, d, k = 40, 6, 1 if "hinge" in loss else 3
    x = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.6)
    w, b = 0.2 * rng.normal(size=(d, k)), np.zeros(k)
    c = np.full((n, 1), 1 / n)
    evidence = {"rule": "head", "loss": loss, "W": w, "c": c, "regularizer": regularizer, "offset": 0.125}
    evidence |= {"l2": 0.05, "l1": 0.02 if regularizer != "l2" else 0.0, "radius": 2.0}
    z = x @ w + b
    if loss == "softmax":
        target = rng.integers(0, k, n)
        dual, hard = softmax(z), np.eye(k)[target]
        if intercept:  # mix in one distribution so that the column sums fit
            share = max(0.0, 1 - (hard.sum(0) / dual.sum(0)).min())
            rest = hard.sum(0) - (1 - share) * dual.sum(0)
            dual = (1 - share) * dual + rest / n
            evidence["b"] = b
        residual = hard - dual
        shrunk = hard
    elif loss == "logistic":
        target = rng.random((n, k))
        dual = 1 / (1 + np.exp(-z))
        residual, shrunk = target - dual, target
    elif loss == "squared":
        target = rng.normal(size=(n, k))
        dual = residual = target - z
        shrunk = 0.0
    else:
        target = rng.choice([-1.0, 1.0], (n, k))
        dual = np.clip(2 * (1 - target * z), 0, None) if loss == "squared_hinge" else (target * z < 1).astype(float)
        residual, shrunk = target * dual, 0.0
    if regularizer == "l1":
        s = min(1.0, 0.02 / np.abs(x.T @ (c * residual)).max() * (1 - 1e-13))
        dual = s * dual + (1 - s) * shrunk
    evidence |= {"T": target, "dual": dual}
    if not packed:
        return {**evidence, "X": x}
    rows, columns = np.nonzero(x)
    starts = np.r_[0, np.cumsum(np.bincount(rows, minlength=n))]
    return {**evidence, "X_values": x[rows, columns], "X_columns": columns, "X_starts": starts, "X_width": d}


def factored_evidence(rng):
    evidence = head_evidence(rng, packed=True)
    width = 2
    e, w = 0.3 * rng.normal(size=(6, width)), 0.3 * rng.normal(size=(width, 3))
    dense = np.zeros((40, 6))
    dense[np.repeat(np.arange(40), np.diff(evidence["X_starts"])), evidence["X_columns"]] = evidence["X_values"]
    p, hard = softmax(dense @ e @ w), np.eye(3)[evidence["T"]]
    s = min(1.0, 0.05 / np.linalg.norm(dense.T @ (hard - p) / 40, 2))
    return evidence | {"rule": "factored", "regularizer": "nuclear", "E": e, "W": w, "dual": s * p + (1 - s) * hard}


def farkas_evidence():
    """Two crossing pairs of points: no line parts them."""
    x = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    sign = np.array([1.0, 1.0, -1.0, -1.0])
    return {
        "rule": "separable", "X": x, "sign": sign, "multiplier": np.full(4, 0.25), "set": np.zeros(4, int),
        "example": np.arange(4), "tolerance": 1e-12,
    }  # fmt: skip


LEVELS = {
    "floor": lambda rng: level(
        "floor", class_floor(rng.integers(0, 6, 50), rng.integers(0, 3, 50), 3, smoothing=0.1).evidence, loss=2.0
    ),
    "squares": lambda rng: level(
        "squares", number_floor(rng.integers(0, 6, 50), rng.normal(size=(50, 1)), None, 50.0, 0.5).evidence, loss=2.0
    ),
    "norm_floor": lambda rng: level("norm_floor", norm_floor(rng.dirichlet(np.ones(4)), 2.0, 0.01).evidence, loss=2.0),
    "head": lambda rng: level("head", head_evidence(rng), whole=False),
    "intercept": lambda rng: level("intercept", head_evidence(rng, intercept=True), whole=False),
    "l1": lambda rng: level("l1", head_evidence(rng, regularizer="l1", packed=True), whole=False),
    "elastic": lambda rng: level("elastic", head_evidence(rng, regularizer="elastic"), whole=False),
    "ball": lambda rng: level("ball", head_evidence(rng, regularizer="ball"), whole=False),
    "logistic": lambda rng: level("logistic", head_evidence(rng, "logistic"), whole=False),
    "squared": lambda rng: level("squared", head_evidence(rng, "squared"), whole=False),
    "squared_hinge": lambda rng: level("squared_hinge", head_evidence(rng, "squared_hinge"), whole=False),
    "hinge": lambda rng: level("hinge", head_evidence(rng, "hinge"), whole=False),
    "factored": lambda rng: level("factored", factored_evidence(rng)),
    "separable": lambda rng: level("separable", farkas_evidence(), loss=2.0),
}  # fmt: skip


@pytest.fixture(params=LEVELS)
def saved(request, tmp_path):
    made = LEVELS[request.param](np.random.default_rng(3))
    path = tmp_path / "certificate.json"
    Interval(loss=made.loss, levels=(made,), quantity=made.quantity).save(path)
    return path


def change(path, edit, *, knowing):
    """Change a saved certificate; `knowing`: also the checksums, as somebody would who knows of them."""
    content = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as file:
        arrays = {name: file[name] for name in file.files}
    one = content["levels"][0]
    names = {key: value["array"] for key, value in one["evidence"].items() if isinstance(value, dict)}
    evidence = {key: arrays[name].copy() for key, name in names.items()}
    scalars = {key: value for key, value in one["evidence"].items() if not isinstance(value, dict)}
    edit(one, evidence, scalars)
    for key, value in evidence.items():
        arrays[names[key]] = value
    one["evidence"] |= scalars
    content["bound"] = one["bound"] if one["whole"] else content["bound"]
    content["loss"] = one["loss"]
    if knowing:
        content["arrays"] = {name: fingerprint({name: array}) for name, array in arrays.items()}
    np.savez(path.with_suffix(".npz"), **arrays)
    path.write_text(json.dumps(content))


def test_an_honest_certificate_is_verified(saved):
    (sentence,) = check(saved)
    assert "is proved" in sentence
    assert "NOT" not in sentence


def scaled(one, evidence, scalars):
    key = next(key for key in ("dual", "weight", "multiplier") if key in evidence)
    evidence[key] *= 1.5


def relabeled(one, evidence, scalars):
    key = next(key for key in ("T", "label", "targets", "sign") if key in evidence)
    if key == "sign":
        evidence[key][0] *= -1
    elif key == "T" and evidence[key].dtype.kind == "i":
        evidence[key][0] = (evidence[key][0] + 1) % 3
    else:
        evidence[key][0] += 1


def reweighted(one, evidence, scalars):
    key = next(key for key in ("W", "weight", "shares", "X") if key in evidence)
    evidence[key].reshape(-1)[0] += 0.25


def not_a_number(one, evidence, scalars):
    key = next(key for key in ("dual", "weight", "multiplier") if key in evidence)
    evidence[key].reshape(-1)[0] = np.nan


def truncated(one, evidence, scalars):
    key = next(key for key in ("dual", "weight", "multiplier") if key in evidence)
    evidence[key] = evidence[key][:-1]


# What a refusal may say: what is claimed and what is proved, what is out of its range, or what does not fit together.
REASONS = (
    r"claims the (bound|loss)|bound is above the loss|NaN or infinity|not feasible|not distributions|cannot be read|"
    r"do(es)? not fit|different shapes|outside|sum to|apart|negative|positive|comes twice|two sets|"
    r"are wrong|needs labels"
)
TAMPERING = [scaled, relabeled, reweighted, not_a_number, truncated]


@pytest.mark.parametrize("edit", TAMPERING, ids=lambda edit: edit.__name__)
def test_changed_arrays_are_noticed_by_their_checksums(saved, edit):
    change(saved, edit, knowing=False)
    with pytest.raises(Refused, match="has been changed"):
        check(saved)


@pytest.mark.parametrize("edit", TAMPERING, ids=lambda edit: edit.__name__)
def test_changed_arrays_are_noticed_by_the_mathematics(saved, edit):
    name = json.loads(saved.read_text())["levels"][0]["name"]
    change(saved, edit, knowing=True)
    if name in {"floor", "squares"} and edit in {scaled, relabeled, reweighted}:
        pytest.skip("other counts are an honest floor of other data: only `thalweg check --run` can tell")
    with pytest.raises(Refused, match=REASONS):
        check(saved)


def test_a_raised_bound_a_lowered_loss_and_odd_numbers_are_refused(saved):
    original = saved.read_text(), saved.with_suffix(".npz").read_bytes()
    one = json.loads(original[0])["levels"][0]
    room = one["loss"] - one["bound"]
    edits = {
        "bound raised": {"bound": one["bound"] + max(1e-6 * abs(one["loss"]), min(1e-3, 0.5 * room))},
        "bound above the loss": {"bound": one["loss"] + 1.0},
        "bound is NaN": {"bound": float("nan")},
        "loss below the bound": {"loss": one["bound"] - 1.0},
        "loss is NaN": {"loss": float("nan")},
    }
    if one["name"] not in {"floor", "squares", "norm_floor", "separable"}:
        edits["loss lowered"] = {"loss": one["bound"] + 0.5 * room}
    for edit in edits.values():
        change(saved, lambda level, evidence, scalars, edit=edit: level.update(edit), knowing=True)
        with pytest.raises(Refused, match=REASONS):
            check(saved)
        saved.write_text(original[0])
        saved.with_suffix(".npz").write_bytes(original[1])
    check(saved)


@pytest.mark.parametrize("name", ["head", "elastic", "l1", "ball", "factored"])
def test_other_penalties_are_refused(name, tmp_path):
    made = LEVELS[name](np.random.default_rng(3))
    path = tmp_path / "certificate.json"
    for scalar, value in (("l2", 10.0), ("l2", -1.0), ("l2", float("nan")), ("l1", 5.0), ("radius", 0.01)):
        used = {"head": {"l2"}, "elastic": {"l1", "l2"}, "l1": {"l1"}, "ball": {"radius"}, "factored": {"l2"}}[name]
        if scalar not in used:
            continue
        Interval(loss=made.loss, levels=(made,), quantity=made.quantity).save(path)
        change(path, lambda level, e, scalars, s=scalar, v=value: scalars.update({s: v}), knowing=True)
        with pytest.raises(Refused, match=REASONS):
            check(path)


def test_a_bound_of_the_whole_must_be_that_of_a_level(saved):
    content = json.loads(saved.read_text())
    content["bound"] = content["loss"]
    saved.write_text(json.dumps(content))
    with pytest.raises(Refused, match="not the best one of its levels"):
        check(saved)


def test_damaged_files_are_refused(saved):
    arrays = saved.with_suffix(".npz")
    arrays.write_bytes(arrays.read_bytes()[:-100])
    with pytest.raises(Refused, match="cannot be read as a certificate"):
        check(saved)
    arrays.write_bytes(b"no archive")
    with pytest.raises(Refused, match="cannot be read as a certificate"):
        check(saved)


def test_the_checker_runs_alone_without_thalweg_or_torch(tmp_path):
    made = LEVELS["factored"](np.random.default_rng(1))
    path = tmp_path / "certificate.json"
    Interval(loss=made.loss, levels=(made,), quantity=made.quantity).save(path)
    alone = tmp_path / "alone"
    alone.mkdir()
    for file in FILES:
        (alone / file.name).write_text(file.read_text())
    blocker = "import sys; sys.modules['thalweg'] = sys.modules['torch'] = sys.modules['scipy'] = None; "
    script = (
        f"{blocker}import runpy; sys.argv = ['check.py', {str(path)!r}]; runpy.run_path('check.py', None, '__main__')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def verify():
        return subprocess.run(
            [sys.executable, "-c", script], cwd=alone, env=environment, capture_output=True, text=True, check=False
        )

    done = verify()
    assert (done.returncode, done.stderr) == (0, "")
    assert "factored: the bound" in done.stdout
    change(path, scaled, knowing=True)
    done = verify()
    assert done.returncode == 1
    assert "REFUSED" in done.stdout


def test_main_checks_every_file(saved, capsys):
    assert main([str(saved), str(saved)]) == 0
    assert capsys.readouterr().out.count("is proved") == 2
    assert main([str(saved.with_name("nothing.json"))]) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_checkers_files_are_short_and_need_numpy_alone(path):
    text = path.read_text()
    assert text.count("\n") <= 200
    assert "thalweg" not in text.split('"""', 2)[2]
