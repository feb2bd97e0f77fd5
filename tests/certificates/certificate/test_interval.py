"""Certificates and intervals never tell more than they know."""

import json
import math

import numpy as np
import pytest

from thalweg.certificates.certificate.interval import Certificate, Interval, Proof, relative
from thalweg.certificates.certificate.ladder import (
    at_least,
    at_most,
    ladder_section,
    percent,
    prospects,
    rungs,
    says_nothing,
    sentence,
    unlimited,
)
from thalweg.certificates.checker.check import Refused, check
from thalweg.certificates.new_texts.level import held_out_level


def level(**changes):
    fields = {
        "name": "floor",
        "quantity": "training loss",
        "unit": "nats",
        "loss": 0.5,
        "bound": 0.4,
        "scope": "No model is better.",
        "proof": Proof.PROOF,
        "seconds": 0.1,
    }
    return Certificate(**fields | changes)


def test_the_best_bound_is_that_of_the_whole_configuration():
    levels = (
        level(bound=0.1),
        level(name="head", bound=0.49, whole=False),
        level(name="factored", bound=0.3),
        level(name="guess", bound=0.3, proof=Proof.ESTIMATE),
        level(quantity="training errors", loss=3.0, bound=2.0),
    )
    interval = Interval(loss=0.5, levels=levels)
    assert interval.best is levels[2]
    assert (interval.bound, interval.proof) == (0.3, Proof.PROOF)
    assert math.isclose(interval.relative_gap, 0.4)


def test_a_bound_that_rounding_lifts_above_the_loss_is_lowered_and_a_false_one_refused():
    assert level(bound=0.5 + 1e-11).gap == 0.0
    with pytest.raises(ValueError, match="above its value"):
        level(bound=0.51)
    with pytest.raises(ValueError, match="has the loss nan"):
        level(loss=math.nan)


@pytest.mark.parametrize(
    ("gap", "loss", "share"), [(0.0, 0.0, 0.0), (0.1, 0.0, math.inf), (0.5, -2.0, 0.25), (math.inf, 1.0, math.inf)]
)
def test_relative_gaps(gap, loss, share):
    assert relative(gap, loss) == share


def test_levels_of_another_point_are_refused():
    with pytest.raises(ValueError, match="certify one point at a time"):
        Interval(loss=0.6, levels=(level(),))


def test_an_interval_without_a_bound_is_open_below():
    interval = Interval(loss=0.5, levels=(level(whole=False),))
    assert interval.bound == -math.inf
    assert interval.proof is Proof.ESTIMATE
    assert interval.to_json()["bound"] is None
    assert "no lower bound applies" in sentence(interval)
    assert ladder_section(interval)["low"] is None


def test_what_was_reached_is_the_upper_end_and_never_below_the_bound():
    interval = Interval(loss=0.5, levels=(level(), level(name="head", whole=False, bound=0.42, reached=0.45)))
    assert interval.best_reached == 0.45
    assert [rung["value"] for rung in rungs(interval)] == [0.5, 0.45, 0.42, 0.4]
    assert [rung["kind"] for rung in rungs(interval)] == ["model", "reached", "partial", "bound"]
    assert "and at most 0.4500" in sentence(interval)
    near = Interval(loss=0.21782614, levels=(level(loss=0.21782614, bound=0.2, reached=0.2178261399),))
    assert sentence(near).startswith("The best possible training loss is at least 0.20000000 nats, and your model has")
    assert Interval(loss=0.5, levels=(level(reached=0.4 - 1e-12),)).best_reached == 0.4


def test_a_bound_that_leaves_nearly_everything_open_is_no_percentage():
    levels = (level(bound=0.0002), level(name="head", whole=False, bound=0.3, reached=0.35))
    interval = Interval(loss=0.5, levels=levels)
    assert sentence(interval).endswith("at least 0.0002 nats and at most 0.3500, and your model has 0.5000.")
    (said,) = prospects(interval)
    assert "lowers it from 0.5000 to 0.3500, and cannot bring it below 0.3000 (proved)" in said
    assert "at most 20" in sentence(Interval(loss=0.5, levels=(level(),)))
    assert prospects(Interval(loss=0.5, levels=(level(), levels[1]))) == []


def test_a_sentence_shows_the_digits_that_matter():
    assert "0.4999900 nats" in sentence(Interval(loss=0.5, levels=(level(bound=0.49999),)))
    near = Interval(loss=0.636514168, levels=(level(loss=0.636514168, bound=0.636514168 - 1e-14),))
    assert "is at least 0.63651416 nats, and your model has 0.63651416:" in sentence(near)
    assert "up to float64 rounding" in sentence(near)  # not 'at most 0 %'
    assert "up to float64 rounding" in sentence(Interval(loss=0.5, levels=(level(bound=0.5),)))
    assert percent(25.0) == "2,500\u00a0%"


@pytest.mark.parametrize(
    ("value", "places", "low", "high"),
    [
        (0.45678999, 4, "0.4567", "0.4568"),
        (0.3, 4, "0.3000", "0.3000"),
        (2.19e-6, 4, "2.1e-06", "0.0001"),  # a bound above 0 is not said to be 0
        (0.0, 4, "0.0000", "0.0000"),
        (-0.00012, 3, "-0.001", "-0.000"),
        (1234.5, 0, "1,234", "1,235"),
    ],
)
def test_what_is_said_of_a_bound_is_not_above_it(value, places, low, high):
    assert (at_least(value, places), at_most(value, places)) == (low, high)
    assert at_least(1e300, 8) == at_most(1e300, 8)


def test_a_table_has_shares_counts_and_limits_and_no_row_without_a_bound():
    levels = (
        level(bound=0.0),
        level(quantity="training errors", unit="fraction of the targets", loss=22 / 482, bound=12 / 482),
        level(name="head", whole=False, bound=0.0),
        level(name="separable", quantity="errors", unit="errors", loss=22.0, bound=12.0, whole=False),
        level(name="local", quantity="smallest curvature", unit="1", loss=-2.18e-7, bound=-0.0014649, whole=False),
        held_out_level(2, 50),
    )
    interval = Interval(loss=0.5, levels=levels)
    assert [says_nothing(one) for one in levels] == [True, False, True, False, False, False]
    assert [row[:3] for row in ladder_section(interval)["rows"]] == [
        ["training errors (floor of the data)", "2.48\u00a0%", "4.56\u00a0%"],
        ["errors of every output layer", "12", "22"],
        ["smallest curvature (neighborhood)", "-0.00147", "-2.18e-07"],
        ["error on new data (at most 13.72\u00a0%)", "0.48\u00a0%", "4.00\u00a0%"],
    ]
    assert unlimited(interval) is levels[0]
    assert levels[0].scope in ladder_section(interval)["text"]
    polished = level(name="head", whole=False, bound=0.5 - 1e-8)
    row = ladder_section(Interval(loss=0.5, levels=(levels[0], polished)))["rows"][0]
    assert row[1:4] == ["0.49999999", "0.50000000", "2e-06\u00a0%"]  # digits that show the gap beside it
    (said,) = prospects(interval)
    assert said.endswith("might bring it to 0, as far as can be proved.")
    assert [entry["upper"] for entry in interval.to_json()["levels"]] == [None] * 5 + [0.1372]


def test_saved_and_read_back(tmp_path):
    shared = np.arange(3.0)
    evidence = {"rule": "unknown here", "X": shared, "l2": 0.5}
    levels = (level(evidence=evidence), level(name="head", whole=False, evidence={**evidence, "Y": shared.copy()}))
    path = tmp_path / "certificate.json"
    Interval(loss=0.5, levels=levels, left_out={"local": "No time."}, hashes={"data": "ab"}).save(path)
    content = json.loads(path.read_text())
    keys = {"loss", "bound", "relative_gap", "scope", "proof", "levels"}
    assert keys <= content.keys()
    assert {"name", "bound", "scope", "proof", "seconds"} <= content["levels"][0].keys()
    assert len(content["arrays"]) == 1  # equal arrays are written once
    assert [name.name for name in tmp_path.iterdir() if name.name.startswith(".")] == []
    report = check(path)
    assert "unknown here" in report.refused[0]
    assert not report.bound_verified
    path.with_suffix(".npz").unlink()
    with pytest.raises(Refused, match="cannot be read as a certificate"):
        check(path)
