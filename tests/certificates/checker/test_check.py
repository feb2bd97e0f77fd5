"""A certificate proves itself with numpy alone, and the last line says what was verified."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forging import HONEST, Forger, bag

from thalweg.certificates.checker import check as checker
from thalweg.certificates.checker.check import check, main

FILES = sorted(Path(checker.__file__).parent.glob("[!_]*.py"))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "certificate.json"
    bag().save(path)
    return path


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_certificate_is_verified(name, tmp_path):
    path = tmp_path / "certificate.json"
    interval = HONEST[name]()
    interval.save(path)
    report = check(path)
    assert (report.refused, report.verified) == ([], [level.name for level in interval.levels])
    assert report.bound_verified == any(level.whole for level in interval.levels)  # else it is of the layer only
    assert main([str(path)]) == (0 if report.bound_verified else 1)


def test_exit_codes_and_the_last_line(saved, tmp_path, capsys):
    assert main([str(saved), str(saved)]) == 0
    said = capsys.readouterr().out
    assert said.count("2 of 2 levels verified; the interval's bound: verified") == 2
    assert said.count("Not verified: that these are the numbers of your data and of your model") == 2
    nothing = tmp_path / "nothing.json"
    assert main([str(nothing)]) == 2
    assert "cannot be read as a certificate (FileNotFoundError" in capsys.readouterr().out
    forger = Forger(saved)
    forger["scale"] = 2.0 * forger["scale"]
    forger.save()
    assert main([str(saved)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("REFUSED factored: The dual is not feasible")
    assert said.endswith("1 of 2 levels verified; the interval's bound: NOT VERIFIED\n")
    assert main([str(saved), str(nothing)]) == 2


def test_bounds_are_printed_rounded_down(saved):
    bound = Forger(saved).level["bound"]
    printed = check(saved).sentences[0].split(" >= ")[1].split(",")[0]
    assert bound * (1 - 1e-8) <= float(printed) <= bound


@pytest.mark.parametrize(("key", "value"), [("scope", "No model is better."), ("proof", "proof"), ("bound", 0.1)])
def test_where_no_level_is_of_the_whole_the_interval_says_so(key, value, tmp_path):
    path = tmp_path / "certificate.json"
    HONEST["labels l2"]().save(path)
    forger = Forger(path)
    assert forger.content["bound"] is None
    forger.content[key] = value
    forger.save()
    assert "interval: " in check(path).refused[0]


def test_with_evidence_computed_again_that_is_what_counts(saved):
    other = dict(bag(3).levels[0].evidence)
    proof = {"residual", "exponent", "scale"}

    def rebuilt(name, evidence):
        return evidence if name == "head" else {k: evidence[k] if k in proof else other[k] for k in other}

    assert check(saved, lambda name, evidence: evidence).refused == []
    report = check(saved, rebuilt)
    assert report.verified == ["head"]
    assert not report.bound_verified
    assert len(report.refused) == 1


def test_the_checker_runs_alone_without_thalweg_or_torch(saved, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    for file in FILES:
        (alone / file.name).write_text(file.read_text())
    blocker = "import sys; sys.modules['thalweg'] = sys.modules['torch'] = sys.modules['scipy'] = None; "
    script = (
        f"{blocker}import runpy; sys.argv = ['check.py', {str(saved)!r}]; runpy.run_path('check.py', None, '__main__')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def verify(*command):
        return subprocess.run(
            [sys.executable, *command], cwd=alone, env=environment, capture_output=True, text=True, check=False
        )

    for done in (verify("-c", script), verify("check.py", str(saved)), verify(str(alone / "check.py"), str(saved))):
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[0].startswith("factored: training loss >= 0.34436")
    forger = Forger(saved)
    forger["l2"] = 0.5 * forger["l2"]
    forger.save()
    done = verify("check.py", str(saved))
    assert (done.returncode, done.stderr) == (1, "")
    assert "REFUSED" in done.stdout
    saved.write_text("no certificate")
    assert verify("check.py", str(saved)).returncode == 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_checkers_files_are_short_and_need_numpy_alone(path):
    text = path.read_text()
    assert text.count("\n") <= 200
    assert "thalweg" not in text.split('"""', 2)[2]


def test_a_floor_of_an_unknown_model_says_what_it_assumes_of_the_rows():
    evidence = {
        "rule": "floor", "measure": "entropy", "group": np.array([0, 0]), "label": np.array([0, 1]),
        "weight": np.array([1, 1]), "examples": 2,
    }  # fmt: skip
    said = checker.statement({**evidence, "view": "a full example"})["assumptions"]
    assert "from that row alone" in said[0]
    assert checker.statement({**evidence, "view": "a text as a bag of its words"})["assumptions"] == ()
