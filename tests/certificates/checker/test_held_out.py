"""Limits of the error on new data: never inside the exact ones, close to them; counts that are none are refused."""

import json
from fractions import Fraction
from math import comb

import numpy as np
import pytest

from thalweg.certificates.certificate.interval import Interval, Proof
from thalweg.certificates.checker.check import Refused, check, prove
from thalweg.certificates.checker.held_out import about, limits, lower_limit
from thalweg.certificates.new_texts.level import held_out_level
from thalweg.certificates.new_texts.shares import share_interval

EVIDENCE = {
    "rule": "held_out",
    "wrong": 3,
    "examples": 40,
    "chance": 0.05,
    "compared": 1,
    "data": "rows",
    "baseline": 9,
}


@pytest.mark.parametrize("size", [1, 2, 37, 362, 5000, 60_000])
def test_limits_are_outside_the_exact_ones_and_close(size):
    for wrong in sorted({0, 1, size // 10, size // 2, size - 1, size}):
        for compared in (1, 20):
            low, high = limits(EVIDENCE | {"wrong": wrong, "examples": size, "compared": compared})
            exact = share_interval(wrong, size, 1 - 0.05 / compared)
            assert low <= exact[0] * (1 + 1e-15)
            assert high >= exact[1] * (1 - 1e-15)
            assert (low, high) == pytest.approx(exact, abs=1e-7)


def test_the_best_of_several_models_is_covered():
    """Of 20 models of nearly the same error the best on 300 examples looks better than it is."""
    rng = np.random.default_rng(0)
    errors = 0.15 + 0.01 * rng.standard_normal((2000, 20))
    wrong = rng.binomial(300, errors)
    best = wrong.argmin(1)
    true, seen = errors[np.arange(2000), best], wrong[np.arange(2000), best]
    covered = {}
    for compared in (1, 20):
        counts = EVIDENCE | {"examples": 300, "compared": compared}
        ranges = {k: limits(counts | {"wrong": k}) for k in set(seen.tolist())}
        covered[compared] = np.mean(
            [ranges[k][0] <= p <= ranges[k][1] for k, p in zip(seen.tolist(), true, strict=True)]
        )
    assert covered[1] < 0.8
    assert covered[20] > 0.95


@pytest.mark.parametrize(("wrong", "size"), [(1, 1), (1, 30), (7, 30), (30, 30), (50, 90)])
def test_tail_is_small_enough_in_exact_numbers(wrong, size):
    p = Fraction(lower_limit(wrong, size, 0.025))
    tail = sum(comb(size, i) * p**i * (1 - p) ** (size - i) for i in range(wrong, size + 1))
    assert Fraction(0.025) * Fraction(999_999, 1_000_000) < tail <= Fraction(0.025)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wrong": 41}, "wrong must be a whole number from 0 to 40"),
        ({"wrong": -1}, "wrong must be"),
        ({"wrong": True}, "wrong must be"),
        ({"wrong": 3.0}, "wrong must be"),
        ({"examples": 0}, "examples must be a whole number from 1"),
        ({"examples": "40"}, "examples must be"),
        ({"compared": 0}, "compared must be"),
        ({"baseline": 41}, "baseline must be"),
        ({"chance": 0.9}, "chance must be"),
        ({"chance": 0}, "chance must be"),
        ({"chance": float("nan")}, "chance is no finite number"),
        ({"data": 7}, "data must be a few words"),
        ({"data": "x" * 201}, "data must be a few words"),
    ],
)
def test_evidence_that_is_none_is_refused(change, message):
    with pytest.raises(Refused, match=message):
        prove(EVIDENCE | change)


def saved(path, **changes):
    """A certificate with this level only, some of whose entries are replaced."""
    level = held_out_level(3, 40, data="validation examples", baseline=9)
    file = path / "certificate.json"
    Interval(loss=1.0, levels=(level,)).save(file)
    content = json.loads(file.read_text())
    content["levels"][0] |= {key: value for key, value in changes.items() if key != "evidence"}
    content["levels"][0]["evidence"] |= changes.get("evidence", {})
    file.write_text(json.dumps(content))
    return check(file)


def test_an_honest_level_is_verified_and_says_the_same(tmp_path):
    report = saved(tmp_path)
    assert report.verified == ["held_out"]
    assert report.verdict.endswith("1 of 1 levels verified; the interval's bound: none is claimed")
    assert "wrong on 1.57 % to 20.39 %, since it is on 3 of 40 validation examples" in report.sentences[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"bound": 0.02},
        {"loss": 0.05},
        {"evidence": {"wrong": 2}},
        {"evidence": {"compared": 5}},
        {"evidence": {"chance": 0.5}},
        {"evidence": {"examples": 10**400}},
        {"evidence": {"data": "all texts in the world"}},
        {"scope": "On new data this model is never wrong."},
        {"proof": "proof"},
        {"probability": 0.001},
        {"upper": 0.05},
        {"upper": None},
        {"whole": True},
        {"quantity": "training loss"},
        {"assumptions": []},
    ],
    ids=str,
)
def test_forged_levels_are_refused(tmp_path, changes):
    report = saved(tmp_path, **changes)
    assert report.verified == []
    assert report.refused
    assert not report.bound_verified


def test_level_never_bounds_the_training_loss():
    level = held_out_level(0, 50)
    interval = Interval(loss=0.4, levels=(level,))
    assert interval.best is None
    assert interval.bound == -np.inf
    assert (level.loss, level.bound, level.proof, level.probability) == (0.0, 0.0, Proof.PROBABILISTIC, 0.05)
    chosen = held_out_level(5, 50, compared=20)
    assert "for the best of 20 evaluations on them" in chosen.scope
    assert chosen.bound < held_out_level(5, 50).bound
    assert any("--test FILE" in said for said in chosen.assumptions)


def test_it_says_which_new_data_are_not_covered():
    split, file = about(EVIDENCE)["assumptions"], about(EVIDENCE | {"file": "test.csv"})["assumptions"]
    assert any(said.startswith("New data that repeat training or validation examples, or whose") for said in split)
    assert "New data whose answer no training example has are not covered." in file


def test_a_file_of_many_levels_is_refused_before_any_is_verified(tmp_path):
    saved(tmp_path)
    content = json.loads((tmp_path / "certificate.json").read_text())
    content["levels"] *= 3
    (tmp_path / "certificate.json").write_text(json.dumps(content))
    with pytest.raises(Refused, match="more levels than any certificate"):
        check(tmp_path / "certificate.json")
