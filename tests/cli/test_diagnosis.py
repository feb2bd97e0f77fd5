"""`thalweg diagnose` as a person uses it: what it prints, what it writes, and how it exits."""

import json
import shutil

import pytest

from thalweg.cli import diagnosis as command
from thalweg.cli.main import run as run_command
from thalweg.diagnosis import Diagnosis, Finding, Repair, Severity
from thalweg.training.session.api import train


def call(capsys, *arguments):
    """Run the command line in this process; return exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        run_command([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnosed")
    rows = [f"{'fine' if k % 2 else 'awful'} thing {k % 37} {k},{'good' if k % 2 else 'bad'}" for k in range(60)]
    (folder / "reviews.csv").write_text("review,stars\n" + "\n".join(rows) + "\n")
    options = {"model": "mlp", "width": 4, "optimizer": "adamw", "lr": 0.05, "steps": 8, "out": folder / "runs"}
    for seed in (0, 1):
        train(folder / "reviews.csv", seed=seed, **options)
    return folder / "runs"


FOUND = Diagnosis(
    [
        Finding(
            "learning-rate-too-high",
            Severity.ERROR,
            "The loss rose from 0.69 to 9.1 \x1b[31min 5 steps.",
            Repair("Lower the learning rate.", {"lr": 0.001}),
            figures={"rise": 13.2},
            also=["dead-units"],
        ),
        Finding(
            "padding-not-masked", Severity.NOTE, "Padding counts.", Repair("Pass the mask.", action="mask-padding")
        ),
    ],
    skipped={"spectrum": "it takes about 9 s, and 1 s are left."},
    seconds=1.5,
)


@pytest.fixture
def found(monkeypatch):
    def diagnose(subject, *, seconds, say, progress):
        assert subject.train
        say(f"Diagnosing: 1 probe, about {seconds:.0f} s.")
        progress("gradients", 0, 1)
        return FOUND

    monkeypatch.setattr(command, "diagnose", diagnose)


def test_findings_are_printed_the_worst_first_with_the_command_that_repairs(runs, found, capsys):
    folder = runs / "reviews"
    code, out, err = call(capsys, "diagnose", folder)
    assert code == 0
    assert "Diagnosing: 1 probe, about 30 s." in err
    lines = out.splitlines()
    assert lines[0] == f"{folder}: 2 findings."
    assert lines[2] == "1. error: Learning rate too high"
    assert lines[3] == "   The loss rose from 0.69 to 9.1 ␛[31min 5 steps."
    assert f"     thalweg train --apply {folder}/diagnosis.json#1" in lines
    assert "   Probably follows from it: dead units." in lines
    assert "   Repair: Pass the mask." in lines
    assert f"{folder}/diagnosis.json#2" not in out
    assert "Not measured: spectrum (it takes about 9 s, and 1 s are left)." in lines
    assert lines[-2:] == [
        f"Measured in 1.5 s. Figures: {folder}/diagnosis.json",
        f"Page: {folder}/diagnosis.html",
    ]
    assert "Learning rate too high" in (folder / "diagnosis.html").read_text()


def test_repair_that_was_found_can_be_applied(runs, found, capsys):
    folder = runs / "reviews"
    call(capsys, "diagnose", folder, "--quiet", "--no-report")
    code, _, err = call(
        capsys,
        "train",
        "--apply",
        f"{folder}/diagnosis.json#1",
        "--steps",
        2,
        "--out",
        runs.parent / "repaired",
        "--json",
    )
    assert code == 0, err
    recipe = (runs.parent / "repaired" / "reviews" / "recipe.toml").read_text()
    assert "lr = 0.001 " in recipe
    assert "steps = 2 " in recipe
    code, _, err = call(capsys, "train", "--apply", f"{folder}/diagnosis.json#2")
    assert code == 2
    assert "not mended by an option" in err
    assert "Pass the mask." in err
    code, _, err = call(capsys, "train", "--apply", f"{folder}/diagnosis.json#1", "--overwrite")
    assert code == 2
    assert "beside the old one" in err


def test_json_is_one_object_on_standard_output(runs, found, capsys):
    folder = runs / "reviews"
    (folder / "diagnosis.html").unlink(missing_ok=True)
    code, out, _ = call(capsys, "diagnose", folder, "--json", "--no-report", "--seconds", "2s")
    answer = json.loads(out)
    assert code == 0
    assert set(answer) == {"run", "findings", "skipped", "seconds", "figures"}
    assert answer["findings"][0].items() >= {"name": "learning-rate-too-high", "severity": "error"}.items()
    assert answer["findings"][0]["repair"]["options"] == {"lr": 0.001}
    assert json.loads((folder / "diagnosis.json").read_text())["findings"] == answer["findings"]
    assert not (folder / "diagnosis.html").exists()


def test_quiet_prints_nothing(runs, found, capsys):
    assert call(capsys, "diagnose", runs / "reviews", "--quiet") == (0, "", "")


def test_everything_is_measured_and_drawn(runs, capsys):
    folder = runs / "reviews"
    code, out, err = call(capsys, "diagnose", folder, "--landscape", "--between", runs / "reviews-2")
    assert code == 0, err
    assert f"The barrier on the line to {runs / 'reviews-2'} is " in out
    probes = json.loads((folder / "diagnosis.json").read_text())["probes"]
    assert probes["landscape"]["plane"]["directions"] == ["path", "path-2"]
    assert len(probes["between"]["losses"]) == 21
    page = (folder / "diagnosis.html").read_text()
    assert "Loss around the weights" in page
    assert call(capsys, "evaluate", folder, runs.parent / "reviews.csv", "--json")[0] == 0  # the folder is still whole


def test_unfinished_run_without_history_is_diagnosed_all_the_same(runs, capsys, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(runs / "reviews-2", folder)
    for name in ("history.jsonl", "metrics.json", "report.html"):
        (folder / name).unlink()
    code, _, err = call(capsys, "diagnose", folder)
    assert code == 0
    assert "no history" in err


WRONG = {
    "no folder": (["none"], "There is no run folder none"),
    "no run": (["."], "is not a run folder"),
    "stream": (["stream"], "has learned from a stream"),
    "no time": (["reviews", "--seconds", "0"], "--seconds must be above zero; got 0"),
    "no other run": (["reviews", "--between", "none"], "There is no run folder none"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_diagnosed_is_told(runs, capsys, monkeypatch, case):
    arguments, message = case
    monkeypatch.chdir(runs)
    (runs / "stream" / "step-00000001").mkdir(parents=True, exist_ok=True)
    code, out, err = call(capsys, "diagnose", *arguments)
    assert (code, out) == (2, "")
    assert message in err
