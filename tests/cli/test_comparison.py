"""`thalweg compare` as a person uses it: what it prints, where, and how it exits."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from reviews import write_reviews

from thalweg.cli.comparison import show_comparison
from thalweg.cli.main import run
from thalweg.comparison.compare import Comparison
from thalweg.comparison.running import Runner

SMALL = ("--model", "mlp", "--width", 8, "--hidden", 8, "--batch-size", 32)
FEW = (*SMALL, "--steps", 3, "--trials", 2, "--seeds", 2)


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_reviews(tmp_path / "reviews.csv", rows=120)


@pytest.fixture(autouse=True)
def _no_page(monkeypatch):
    """Drawing a page takes longer than most of these comparisons."""
    # Not by its dotted name, in which `compare` is the function of that name.
    monkeypatch.setattr(sys.modules["thalweg.comparison.compare"], "render", lambda result: "")


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        run(["compare", *map(str, arguments)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_table_sentence_and_files(reviews, capsys):
    code, out, err = call(capsys, reviews, "--optimizers", "adamw,sgd,gradient", *FEW)
    assert code == 0
    assert "On reviews: 10 runs of 3 steps: 2 trials of adamw, sgd; nothing to tune of gradient; then 2 seeds" in err
    assert "gradient takes all data in every step, so for all entrants dropout is 0" in err
    assert "10 of 10 runs: gradient, seed 1" in err
    assert "reviews, mlp: target validation loss" in out
    lines = {line.split()[0] for line in out.splitlines() if line}
    assert {"adamw", "sgd", "gradient"} <= lines
    assert "runs/compare-reviews/compare.json" in out
    code, out, err = call(capsys, reviews, "--optimizers", "adamw,sgd,gradient", *FEW, "--quiet")
    assert (code, out, err) == (0, "", "")


def test_json_is_all_that_is_on_standard_output(reviews, capsys):
    code, out, _ = call(capsys, reviews, "--vary", "skip=none,residual", *FEW, "--json", "--target", "0.001")
    assert code == 0
    found = json.loads(out)
    assert set(found) == {"folder", "rows", "sentence", "failed"}
    keys = {"name", "target", "seconds_to_target", "steps_to_target", "evaluations_to_target", "loss", "metric"}
    assert keys | {"trials", "seeds", "failed"} <= set(found["rows"][0])
    assert [row["seconds_to_target"] for row in found["rows"]] == [None, None]
    assert found["sentence"].startswith(("On reviews", "No difference"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_is_done(number, reviews, capsys, monkeypatch):
    real, calls = Runner.train, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(Runner, "train", interrupted)
    code, out, err = call(capsys, reviews, "--optimizers", "adamw,sgd", *FEW)
    assert (code, out) == (128 + number, "")
    assert "the same command goes on" in err
    code, out, err = call(capsys, reviews, "--optimizers", "adamw,sgd", *FEW)
    assert code == 0
    assert "Going on with runs/compare-reviews" in err
    assert "8 of 8 runs: sgd, seed 1" in err
    assert len(calls) == 3 + 8 - 2


def test_what_an_optimizer_prints_is_not_the_json_object(reviews, tmp_path, capsys, monkeypatch):
    loud = 'import torch\n\n\nclass Loud(torch.optim.SGD):\n    def step(self):\n        print("loud")\n'
    (tmp_path / "loud_optimizer.py").write_text(loud, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = call(capsys, reviews, "--optimizers", "adamw,loud_optimizer.Loud", *FEW, "--json")
    assert code == 0
    assert json.loads(out)["rows"][1]["name"] == "loud_optimizer.Loud"
    assert "loud" in err.splitlines()


def test_names_and_columns_send_no_escape_bytes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"{word} film {number},{word}" for number in range(30) for word in ("good", "bad")]
    Path("x.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    label = r'sgd:label="\u001b[31mred\u009b2J"'
    code, out, err = call(capsys, "x.csv", "--optimizers", f"adamw,{label}", *FEW[:-4], "--trials", 0, "--seeds", 1)
    assert code == 0, err
    assert "␛[31mred\\x9b2J" in out
    assert not {"\x1b", "\x07", "\x9b"} & {*out, *err}
    code, _, err = call(capsys, "\x1b[2Jno.csv", "--optimizers", "adamw")
    assert code == 2
    assert "␛[2Jno.csv" in err
    assert "\x1b" not in err


def test_several_data_sets_of_which_one_fails(reviews, capsys):
    code, out, err = call(capsys, reviews, "none.csv", "--optimizers", "adamw,sgd", *FEW)
    assert code == 0
    assert "none.csv is left out" in err
    assert "none failed: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--optimizers", "adamw,sopa"), "There is no optimizer 'sopa'"),
        (("--optimizers", "adamw,adamw"), "the same entrant"),
        (("--optimizers", "adamw", "--target", "low"), "--target must be a number or auto; got 'low'"),
        (("--optimizers", "adamw", "--budget", "soon"), "expected a duration"),
        (("--optimizers", "adamw", "--epochs", "3"), "--epochs"),
        (("--optimizers", "adamw", "--storage", "nodb://x"), "The storage nodb://x cannot be used"),
        (("--optimizers", "adamw,sgd", "--budget", "0.000001s"), "more than the 1e-06 s that a run has"),
        (("--vary", "head=softmax,vmff"), "Did you mean 'vmf'"),
    ],
)
def test_mistakes_are_sentences(arguments, message, reviews, capsys):
    code, out, err = call(capsys, reviews, *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_many_starts_are_shown_by_median_and_best_and_failures_by_name(capsys):
    row = {
        "name": "<b>adamw</b>[red]", "data": "x", "seconds_to_target": None, "steps_to_target": None,
        "evaluations_to_target": None, "reached": 0, "loss": None, "loss_spread": None, "loss_median": 0.25,
        "loss_best": 0.125, "metric": None, "metric_spread": None, "metric_median": 2.5, "metric_best": 1.25,
        "diverged": 3, "seeds": 20, "trials": 0, "seconds_tuning": 0.0, "peak_bytes": 2_000_000, "failed": "",
    }  # fmt: skip
    data = {
        "name": "x", "model": "mlp", "failed": "", "scored_on": "train", "scored_by": "loss", "metric": "nmse",
        "target": 0.1, "target_from": "It was given.", "budget": {"seconds": 60.0}, "vary": "optimizer",
    }  # fmt: skip
    failed = row | {"name": "muon", "failed": "This model has no matrices.", "seeds": 0}
    found = Comparison(Path("runs/x"), {"data": [data], "rows": [row, failed], "sentence": "Nothing."})
    show_comparison(found)
    out = capsys.readouterr().out
    assert "<b>adamw</b>[red]" in out
    assert "> 60" in out
    assert all(word in out for word in ("0.25", "0.125", "2.5", "1.25", "median", "best", "failed:"))
