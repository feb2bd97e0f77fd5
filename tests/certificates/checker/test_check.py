"""A certificate proves itself with numpy alone; one that was tampered with is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from thalweg.certificates.certificate.interval import Interval
from thalweg.certificates.checker import check as checker
from thalweg.certificates.checker.check import check, fingerprint, main
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.regularizers import L1, L2, Ball, ElasticNet
from thalweg.certificates.losses import SoftmaxLoss

FILES = sorted(Path(checker.__file__).parent.glob("[!_]*.py"))
PENALTIES = {"l2": L2(0.05), "l1": L1(0.02), "elastic": ElasticNet(0.02, 0.05), "ball": Ball(2.0)}


@pytest.fixture(params=PENALTIES)
def saved(request, tmp_path):
    rng = np.random.default_rng(3)
    x, labels = torch.from_numpy(rng.normal(size=(40, 6))), torch.from_numpy(rng.integers(0, 3, 40))
    head = Head(Features(x), SoftmaxLoss.of_labels(labels, 3), PENALTIES[request.param], intercept=True)
    level = head.certificate(head.at(torch.from_numpy(0.2 * rng.normal(size=(6, 3)))))
    path = tmp_path / "certificate.json"
    Interval(loss=level.loss, levels=(level,)).save(path)
    return path


def test_an_honest_certificate_is_verified(saved):
    report = check(saved)
    assert (report.refused, report.verified) == ([], ["head"])
    assert not report.bound_verified  # it speaks of the output layer only


@pytest.mark.parametrize("field", ["bound", "loss", "scope", "whole", "proof", "unit", "quantity"])
def test_changed_fields_are_refused(saved, field):
    content = json.loads(saved.read_text())
    level = content["levels"][0]
    changes = {"bound": level["bound"] + 1e-9, "loss": level["loss"] * 1.001, "whole": True}
    level[field] = changes.get(field, "proof under a stated tolerance")
    saved.write_text(json.dumps(content))
    assert check(saved).refused
    assert main([str(saved)]) == 1


@pytest.mark.parametrize("name", ["residual", "X", "T", "W"])
def test_changed_arrays_are_refused_whether_or_not_their_checksums_fit(saved, name):
    content = json.loads(saved.read_text())
    with np.load(saved.with_suffix(".npz")) as file:
        arrays = {key: file[key] for key in file.files}
    key = content["levels"][0]["evidence"][name]["array"]
    arrays[key] = np.roll(arrays[key], 1, axis=0)
    np.savez(saved.with_suffix(".npz"), **arrays)
    with pytest.raises(checker.Unreadable, match="has been changed"):
        check(saved)
    content["arrays"][key] = fingerprint({key: arrays[key]})
    saved.write_text(json.dumps(content))
    assert check(saved).refused


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_checkers_files_are_short_and_need_numpy_alone(path):
    text = path.read_text()
    assert text.count("\n") <= 200
    assert "thalweg" not in text.split('"""', 2)[2]
