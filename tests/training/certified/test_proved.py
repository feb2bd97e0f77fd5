"""Training to a proved optimum: when it is the default, what it keeps, what it says, and that it resumes."""

import html
import json
import re

import pytest

from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.storage.files import sum_of_file
from thalweg.training.certified.proof import proof_summary
from thalweg.training.recipe.recipe import Options
from thalweg.training.session import finish, sizing
from thalweg.training.session.api import train
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare

ROWS = [("a fine film", "good"), ("a clever plot", "good"), ("lovely songs", "good"), ("a dull film", "bad")]
ROWS += [("noisy songs", "bad"), ("a silly plot", "bad"), ("it begins at nine", "other"), ("a film at nine", "other")]


@pytest.fixture
def labeled(tmp_path):
    path = tmp_path / "labeled.csv"
    rows = [f"{text} {number % 7},{label}" for number in range(12) for text, label in ROWS]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


def session_for(source, out, **options):
    return prepare(Request(Options(options, source=source), out), lambda sentence: None)


@pytest.mark.usefixtures("pictures")
def test_the_default_ends_at_a_proved_optimum_and_keeps_the_last_weights(labeled, tmp_path):
    run = train(labeled, out=tmp_path / "runs")
    found = run.result["certificate"]
    assert run.status is Status.PROVED
    assert run.recipe.training.optimizer == "factored-newton"
    assert run.recipe.model.width == 3
    assert found["relative_gap"] <= 1e-4
    assert found["bound"] <= found["loss"]
    assert run.result["best_step"] == run.result["steps"]
    assert run.history[-2]["gap"] == pytest.approx(found["relative_gap"], rel=1e-3)
    assert found["reached"]
    assert found["sentence"].startswith(
        "Certified: no training can lower the penalized training loss on these features"
    )
    assert "nothing about accuracy or new data" in found["sentence"]
    assert run.result["verdict"].endswith("; the training loss is certified.")
    assert found["sentence"] in html.unescape((run.folder / "report.html").read_text())


def test_the_same_recipe_gives_the_same_bits(labeled, tmp_path):
    first = train(labeled, out=tmp_path / "one")
    again = train(first.folder / "recipe.toml", out=tmp_path / "two")
    weights = [sum_of_file(run.folder / "model.safetensors") for run in (first, again)]
    assert weights[0] == weights[1]


def test_an_interrupted_run_ends_with_the_same_bits(labeled, tmp_path):
    options = {"model": "bag", "select": "none", "certify": 1e-9, "evaluate_every": 2}
    whole = train(labeled, out=tmp_path / "one", **options)
    with session_for(labeled, tmp_path / "two", **options) as session:
        for entry in train_loop(session):
            if entry["event"] == "evaluation":
                break
    resumed = train(labeled, out=tmp_path / "two", **options)
    assert resumed.result["steps"] == whole.result["steps"] > 2
    assert [sum_of_file(run.folder / "model.safetensors") for run in (whole, resumed)] == [
        sum_of_file(whole.folder / "model.safetensors")
    ] * 2


@pytest.mark.usefixtures("pictures")
def test_a_gap_that_stays_open_is_told(labeled, tmp_path):
    run = train(labeled, out=tmp_path, certify=1e-4, steps=2)
    assert run.status is Status.COMPLETED
    assert run.result["certificate"]["relative_gap"] > 1e-4
    found = run.result["certificate"]
    assert found["reached"] is False
    assert re.match(r"Not certified: gap 0\.\d\d after 2 steps \(the tolerance is 0\.0001\)\.", found["sentence"])
    assert "More --epochs or a larger --l2" in found["sentence"]
    assert re.search(r"; not certified: gap 0\.\d\d after 2 steps\.$", run.result["verdict"])
    page = (run.folder / "report.html").read_text()
    for claim in ("Proved", "Certified", "is certified", "provably"):
        assert claim not in json.dumps(run.result) + page[: page.index('<h2 id="repeat">')]


def test_a_gap_without_a_tolerance_is_no_certificate(labeled, tmp_path):
    run = train(labeled, out=tmp_path, optimizer="factored-newton", certify=0.0, steps=3)
    found = run.result["certificate"]
    assert found["reached"] is False
    assert "(no tolerance was asked for)" in found["sentence"]


def test_a_status_that_rounding_takes_back_is_not_printed(labeled, tmp_path, monkeypatch):
    monkeypatch.setattr(finish, "proof_summary", lambda certificate, _, steps: proof_summary(certificate, 1e-30, steps))
    run = train(labeled, out=tmp_path)
    assert run.status is Status.COMPLETED
    assert run.result["sentence"] == Status.COMPLETED.value
    assert run.result["certificate"]["reached"] is False


@pytest.mark.parametrize("option", [
    {"epochs": 1.0}, {"steps": 3}, {"lr": 0.01, "epochs": 1.0}, {"optimizer": "adamw", "epochs": 1.0},
    {"dropout": 0.1, "epochs": 1.0}, {"batch_size": 16, "epochs": 1.0}, {"model": "mlp", "steps": 1},
])  # fmt: skip
def test_who_asks_for_something_else_gets_it(labeled, tmp_path, option):
    session = session_for(labeled, tmp_path, **option)
    training = session.run.recipe.training
    chosen = "normuon" if option.get("model") == "mlp" else "adamw"  # a bag has no matrices inside
    assert (training.optimizer, training.certify) == (chosen, 0.0)
    assert training.batch_size


def test_data_that_are_too_large_are_trained_on_mini_batches(labeled, tmp_path, monkeypatch):
    monkeypatch.setattr(sizing, "MAX_BYTES", 1000)
    said = []
    session = prepare(Request(Options(source=labeled), tmp_path), said.append)
    assert session.run.recipe.training.optimizer == "adamw"
    assert any("without a proof of optimality" in sentence for sentence in said)


@pytest.mark.parametrize(("options", "message"), [
    ({"model": "mlp", "certify": 1e-3}, "duality gap that only"),
    ({"model": "gru", "optimizer": "factored-newton"}, "is for --model bag"),
    ({"optimizer": "linear-newton"}, "is for --model linear; got --model bag"),
    ({"optimizer": "factored-newton", "l2": 0.0}, "needs an --l2 above zero"),
    ({"optimizer": "factored-newton", "dropout": 0.2}, "needs --dropout 0"),
    ({"optimizer": "factored-newton", "batch_size": 8}, "needs --batch-size 0"),
    ({"optimizer": "factored-newton", "precision": "bfloat16"}, "needs --precision float64"),
])  # fmt: skip
def test_refusals(labeled, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        session_for(labeled, tmp_path, **options)


@pytest.mark.parametrize("model", ["bag", "linear"])
def test_float32_and_several_labels(labeled, tmp_path, model):
    run = train(labeled, out=tmp_path, precision="float32", model=model, certify=1e-4)
    assert run.result["certificate"]["relative_gap"] <= 1e-4
    path = tmp_path / "several.jsonl"
    rows = [{"text": text, "label": [label, "any"] if number % 2 else [label]} for number, (text, label) in
            enumerate(ROWS * 12)]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    run = train(path, out=tmp_path, task="classify", model=model)
    assert run.status is Status.PROVED
    assert run.result["certificate"]["relative_gap"] <= 1e-4


def test_a_linear_model_is_proved_predicts_and_is_resumed(labeled, tmp_path):
    run = train(labeled, out=tmp_path / "one", model="linear", certify=1e-9)
    assert (run.status, run.recipe.training.optimizer) == (Status.PROVED, "linear-newton")
    assert "No weights of a linear model" in run.result["certificate"]["scope"]
    assert run.predict(["a silly plot"])[0]["label"] == "bad"
    options = {"model": "linear", "select": "none", "certify": 1e-9, "evaluate_every": 1}
    whole = train(labeled, out=tmp_path / "whole", **options)
    with session_for(labeled, tmp_path / "two", **options) as session:
        for entry in train_loop(session):
            if entry["event"] == "evaluation":
                break
    again = train(labeled, out=tmp_path / "two", **options)
    weights = [sum_of_file(one.folder / "model.safetensors") for one in (whole, again)]
    assert weights[0] == weights[1]
    plain = train(
        labeled, out=tmp_path / "three", model="linear", optimizer="adamw", epochs=30.0, l2=run.recipe.training.l2
    )
    assert plain.predict(["a silly plot"])[0]["label"] == "bad"


def test_the_summary_and_the_json_have_the_proved_line(labeled, tmp_path, capsys):
    for more in ([], ["--json", "--quiet"]):
        with pytest.raises(SystemExit) as ended:
            command(["train", str(labeled), "--out", str(tmp_path / "runs"), *more])
        assert ended.value.code == 0
        out = capsys.readouterr().out
        if more:
            printed = json.loads(out)
            assert printed["certificate"]["reached"] is True
            assert printed["verdict"].startswith("Accuracy ")
        else:
            lines = out.splitlines()
            assert re.match(
                r"Accuracy [01]\.\d{3}, 95 % interval [\d.]+-[\d.]+ on \d+ texts; always answering '(good|bad)' gives",
                lines[0],
            )
            assert lines[0].endswith("; the training loss is certified.")
            assert "Certified: no training can lower the penalized training loss on these features below" in out
            assert "best" not in out
