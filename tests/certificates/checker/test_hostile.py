"""Evidence that no honest program makes: types, shapes and scales at which arithmetic would not be what it seems."""

import dataclasses
import json
import math
import time

import numpy as np
import pytest
import torch
from dual_cases import exact_bound
from forging import bag

from thalweg.batch import Batch
from thalweg.certificates.certificate.interval import Interval
from thalweg.certificates.checker import check as checker
from thalweg.certificates.checker import rules
from thalweg.certificates.checker.check import Refused, prove
from thalweg.certificates.levels import certify_objective
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective

TARGETS = np.array([[0.62], [-1.3], [0.87]])
POINTS = np.array([[0.13, -0.54], [0.64, 0.1], [-0.53, 0.36]])


def network(**changed):
    """Evidence of a network whose residual is that of no weights at all: with a small l2 it is far from feasible."""
    whole = np.round(TARGETS * 2**11).astype(np.int64)
    made = {"rule": "two_layer", "X": POINTS, "loss": "squared", "factor": 1.0, "T": TARGETS, "count": 3.0, "l2": 1e-9,
            "leak": 0.0, "hidden_bias": "NONE", "output_bias": "NONE", "skip": 0, "free_bias": 0, "offset": 0.0,
            "U": np.zeros((1, 2)), "u": np.zeros(1), "A": np.zeros((1, 1)), "a": np.zeros(1), "S": np.zeros((2, 1)),
            "method": "fan", "residual": whole, "exponent": -10, "scale": 1.0}  # fmt: skip
    made.update(changed)
    width = made["X"].shape[1]
    return {**made, "U": made["U"][:, :1].repeat(width, 1), "S": np.zeros((width, 1))}


def signs(delta, **changed):
    return network(method="signs", theta=np.zeros((2, 3)), delta=delta, **changed)


def first_of_four(number):
    delta = np.ones((2, 4))
    delta[:, 0] = number
    return delta


def moments(**changed):
    made = {"unit": np.ones(3), "sign": np.array([1.0, -1.0]), "hull": np.zeros(2), "share": np.zeros((2, 2)),
            "products": np.zeros((2, 6, 6), np.float32), "own": np.full((2, 3), -1e-3),
            "cone": np.zeros((2, 3, 6), np.float32)}  # fmt: skip
    return network(method="moments", **{**made, **changed})


def head(**changed):
    made = {"rule": "head", "loss": "softmax", "T": np.array([0, 1, 2]), "count": 3.0, "scale": 1.0, "exponent": -10,
            "residual": np.zeros((3, 3), np.int64), "free_bias": 0, "X": POINTS, "W": np.zeros((2, 3)),
            "regularizer": "l2", "l2": 1.0, "offset": 0.0}  # fmt: skip
    return {**made, **changed}


def packed(starts, columns, width=2):
    made = head(X_values=np.ones(len(columns)), X_columns=np.array(columns), X_starts=starts, X_width=width)
    del made["X"]
    return made


HOSTILE = {
    "signs, a delta whose inverse is infinite": (signs(first_of_four(5e-324)), "too large"),
    "signs, a delta whose inverse overflows": (signs(first_of_four(1e-310)), "too large"),
    "signs, features whose squares overflow": (signs(np.ones((2, 4)), X=POINTS * 1e200), "largest of X"),
    "fan, features whose squares underflow": (network(X=POINTS * 1e-200, l2=1e-60), "largest of X"),
    "moments, one row of a cone for all": (moments(cone=np.ones((2, 1, 6), np.float32)), "do not fit the rows"),
    "moments, one number for all": (moments(own=np.zeros((2, 1))), "do not fit the rows"),
    "a penalty below 0 elsewhere": (network(offset=-1.0, l2=10.0), "not negative"),
    "weights of one byte": (network(U=np.full((1, 2), 16, np.int8), l2=10.0), "another kind"),
    "a bias of its own for each example": (network(a=TARGETS, l2=10.0), "do not fit X"),
    "a hidden bias of its own for each example": (network(u=TARGETS, l2=10.0), "do not fit X"),
    "features of one byte": (network(X=np.full((3, 2), 100, np.int8)), "another kind"),
    "features of float32": (network(X=POINTS.astype(np.float32)), "another kind"),
    "features of int64": (network(X=np.full((3, 2), 2**62)), "another kind"),
    "soft targets of float32": (head(T=np.full((3, 3), 1 / 3, np.float32)), "another kind"),
    "soft targets of truth values": (head(T=np.eye(3, dtype=bool)), "another kind"),
    "weights of examples as integers": (head(weight=np.array([1, 2, 2**62])), "one weight for each example"),
    "errors of more than all targets": (
        {"rule": "floor", "measure": "errors", "group": np.array([0, 0]), "label": np.array([0, 1]), "examples": 2,
         "weight": np.array([1, 1]), "total": 0.001}, "share of the targets"),
    "starts that wrap around": (packed(np.array([0, 2**62, -(2**63), -(2**62), 2]), [0, 1]), "do not fit together"),
    "starts that wrap around in 32 bits": (
        packed(np.array([0, 2**31 - 1, -2, 2], np.int32), [0, 1]), "do not fit together"),
    "starts that wrap around in 8 bits": (packed(np.array([0, 127, -2, 2], np.int8), [0, 1]), "do not fit together"),
    "columns up to 2^31": (packed(np.array([0, 1, 1, 2]), [0, 2**31 - 2], 2**31 - 1), "do not fit together"),
}  # fmt: skip


def spread(rows, width, low):
    """Rows of integers beside a column that makes their rank look like 1 in float64."""
    x = np.random.default_rng(0).integers(1, 2**40, (rows, width)) * 2.0 ** (low - 40)
    return np.column_stack([np.ones(rows), x])


def long_signs(rows, width):
    made = signs(np.ones((2, rows + 1)), X=np.ones((rows, width)), T=np.ones((rows, 1)), l2=1e9)
    return {**made, "theta": np.zeros((2, rows)), "residual": np.ones((rows, 1), np.int64)}


def large_head(rows, width, outputs, **changed):
    made = {"X": np.ones((rows, width)), "T": np.zeros(rows, np.int64), "W": np.zeros((width, outputs)),
            "residual": np.zeros((rows, outputs), np.int64)}  # fmt: skip
    return head(**{**made, **changed})


def many_cells(x):
    none = np.zeros((0, 1))
    return network(
        method="cells", X=x, T=np.ones((len(x), 1)), residual=np.ones((len(x), 1), np.int64), l2=1e9, multiplier=none,
        cell=np.zeros(0, np.int64), side=np.zeros(0, np.int64), row=none.astype(np.int64),
    )  # fmt: skip


def many_sets(number):
    each, label = np.arange(number), np.arange(number) % 2
    return {"rule": "separable", "X": np.zeros((number, 0)), "label": label, "answer": label, "example": each,
            "rival": 1 - label, "set": each // 2, "stopped": 0}  # fmt: skip


def close_layer(rows, classes):
    """A layer whose scores differ in the 40th digit, so that each of them is decided in integers."""
    label = np.arange(rows) % classes
    x = np.c_[np.ones(rows), 1e-40 * np.eye(classes)[label]]
    return {"rule": "separable", "X": x, "label": label, "answer": label, "W": np.c_[np.ones(classes), np.eye(classes)],
            "b": np.zeros(classes)}  # fmt: skip


LONG = {
    "cells of a rank that float64 does not see": lambda: many_cells(spread(40, 5, -80)),
    "cells of rank 3": lambda: many_cells(np.random.default_rng(0).normal(size=(500, 3))),
    "a million rows of cells": lambda: many_cells(np.ones((1_000_000, 1))),
    "signs in many dimensions": lambda: long_signs(3, 6000),
    "a fan of many rows": lambda: network(X=np.ones((2_000_000, 2)), T=np.ones((2_000_000, 1)),
                                          residual=np.ones((2_000_000, 1), np.int64), l2=1e9),
    "a head of many products": lambda: large_head(2500, 2500, 9000),
    "a head of many outputs": lambda: large_head(1, 1, 20_000_000),
    "many sets": lambda: many_sets(2_000_000),
    "a layer that is hardly right": lambda: close_layer(20_000, 30),
    "a norm floor of many classes": lambda: {
        "rule": "norm_floor", "counts": np.ones(8000, np.int64), "residual": np.zeros((1400, 8000), np.int64),
        "exponent": -61, "smoothing": 0.0, "radius": 1.0, "l2": 1.0, "free_bias": 0},
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_what_would_take_long_is_refused_before_it_does(name):
    evidence, begin = LONG[name](), time.process_time()
    level = {"name": evidence["rule"], "loss": 1.0, "bound": 0.0}
    with pytest.raises(Refused, match=r"too large|too long|too many|too close"):
        checker.check_level(level, evidence)
    assert time.process_time() - begin < 5.0


def test_levels_of_a_file_share_the_time(tmp_path, monkeypatch):
    path, interval = tmp_path / "certificate.json", bag()
    interval.save(path)
    one, two = (checker.price(level.evidence)[0] for level in interval.levels)
    monkeypatch.setattr(rules, "MAX_PRODUCTS", one + two)
    assert checker.check(path).refused == []
    monkeypatch.setattr(rules, "MAX_PRODUCTS", 0.99 * (one + two))
    assert checker.check(path).refused == ["head: It is too large to be verified here."]


def test_what_is_saved_is_within_what_the_checker_does_for_a_file(tmp_path, monkeypatch):
    """The price of some levels is known only when they have been verified: those of halfspaces, of hidden units."""
    rng = np.random.default_rng(0)
    x, labels = torch.from_numpy(rng.normal(size=(60, 3))), torch.from_numpy(rng.integers(0, 3, 60))
    objective = Objective(torch.nn.Identity(), Softmax(3, 3).double(), [Batch({"input": x}, labels)])
    interval = certify_objective(objective, seconds=10.0)
    path = tmp_path / "certificate.json"
    interval.save(path)
    checker.check(path)
    spent = rules.SPENT[0]
    sizes = sum(checker.price(level.evidence)[0] for level in interval.levels if level.evidence)
    assert spent > 1.1 * sizes
    for limit, left_out in ((1.01 * spent, 1), (0.99 * spent, 2), (1.01 * sizes, 2)):
        monkeypatch.setattr(rules, "MAX_PRODUCTS", limit)
        monkeypatch.setattr(checker, "MAX_PRODUCTS", limit)
        interval.save(path)
        report = checker.check(path)
        assert report.refused == []
        assert sum("NOT VERIFIED, it was saved without" in sentence for sentence in report.sentences) == left_out


def test_evidence_that_the_checker_would_not_verify_is_not_saved(tmp_path):
    level = bag().levels[0]
    large = dataclasses.replace(level, evidence={**level.evidence, "residual": np.zeros((6_000_000, 3), np.int64)})
    Interval(loss=level.loss, levels=(large,)).save(tmp_path / "certificate.json")
    assert json.loads((tmp_path / "certificate.json").read_text())["levels"][0]["evidence"] == {}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_evidence_proves_nothing(name):
    evidence, said = HOSTILE[name]
    with pytest.raises(Refused, match=said):
        prove(evidence)


@pytest.mark.parametrize("exponent", range(-560, 0, 40))
def test_feasibility_is_that_of_large_numbers_at_every_scale(exponent):
    """The same problem in units in which products underflow: a fan's values were squared to 0 there, and feasible."""
    size = 2.0 ** (exponent + 10)
    for l2, feasible in ((0.5, False), (0.6, True)):
        for scale in (1.0, 1e50):
            problem = network(
                X=POINTS * 2.0**-190, l2=l2 * size * 2.0**-190 * scale, T=TARGETS * size * scale,
                exponent=exponent, scale=scale,
            )  # fmt: skip
            if not 1e-60 < problem["l2"] < 1e60:
                problem["count"] = 3.0 * problem["l2"] / 1e-60
                problem["l2"] = 1e-60
            if not 1e-60 < problem["count"] < 1e60:
                continue
            if feasible:
                assert prove(problem).value > 0.0
            else:
                with pytest.raises(Refused, match="not feasible"):
                    prove(problem)


def test_soft_targets_prove_what_they_do_in_exact_arithmetic():
    for seed in range(20):
        soft = np.random.default_rng(seed).dirichlet(np.ones(3), 3).astype(np.float32).astype(float)
        evidence = head(T=soft)
        assert checker.proved(prove(evidence)) <= exact_bound(evidence)


def test_a_network_beside_a_penalty_that_stays_says_so():
    about = checker.statement(network(offset=0.25))
    assert ", plus 0.25 for the penalty on the weights that stay as they are" in about["scope"]
    assert math.isclose(prove(network(offset=0.25, l2=10.0)).value, 0.25 + prove(network(l2=10.0)).value)
