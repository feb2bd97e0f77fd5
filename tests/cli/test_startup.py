"""What a command imports, and answers without PyTorch, which are those of the networks."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from thalweg import InputError, load, train
from thalweg.cli.main import run as command_line
from thalweg.tasks.classify.task import Classify
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.score.task import Score
from thalweg.training.folder.run import Run

ROWS = [(f"{'fine' if k % 2 else 'awful'} thing {k % 17}", "good" if k % 2 else "bad") for k in range(90)]
TWO = "text,label\n" + "".join(f"{text},{name}\n" for text, name in ROWS)
THREE = "text,label\n" + "".join(f"{text},{name if k % 3 else 'odd'}\n" for k, (text, name) in enumerate(ROWS))
SEVERAL = "text,labels\n" + "".join(f"{text},{name}{';odd' if k % 3 else ''}\n" for k, (text, name) in enumerate(ROWS))
NUMBERS = "text,score\n" + "".join(f"{text},{k % 7 / 2}\n" for k, (text, _) in enumerate(ROWS))
PAIRS = "a,b,score\n" + "".join(f"{text},{ROWS[k - 1][0]},{k % 7 / 2}\n" for k, (text, _) in enumerate(ROWS))
ADAM = {"optimizer": "adamw", "steps": 5}
RUNS = {  # data, options
    "bag": (TWO, {"model": "bag", "width": 3, **ADAM}),
    "bag proved": (TWO, {"model": "bag", "select": "none"}),
    "linear": (THREE, {"model": "linear", **ADAM}),
    "tuned": (TWO, {"model": "linear", "threshold": "auto", **ADAM}),
    "several": (SEVERAL, {"model": "bag", "width": 3, **ADAM}),
    "score": (NUMBERS, {"task": "score", "model": "linear", **ADAM}),
    "score bag": (NUMBERS, {"task": "score", "model": "bag", "width": 3, **ADAM}),
    "pairs": (PAIRS, {"task": "score", "model": "linear", **ADAM}),
    "gru": (TWO, {"model": "gru", "hidden": 3, "width": 3, "steps": 2}),
}
LABELED = ("bag", "bag proved", "linear", "tuned", "several")
TEXTS = ["a fine thing 3", "awful", "", "ünknown words", "fine awful fine"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("runs"), {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("thalweg.training.session.finish.render_report", lambda report: "no pictures")
        for kind, (content, options) in RUNS.items():
            (folder / "data.csv").write_text(content)
            found[kind] = train(folder / "data.csv", out=folder, name=kind, **{"task": "classify", **options}).folder
    with pytest.raises(SystemExit, match="0"):
        command_line(["certify", str(found["bag proved"]), "--seconds", "0.2", "--quiet"])
    return found


@pytest.fixture
def command(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            command_line([*map(str, arguments)])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return call


def almost(answer):
    """Every number of an answer within a millionth, whatever else there is as it is."""
    if isinstance(answer, dict):
        return {key: almost(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [*map(almost, answer)]
    return pytest.approx(answer, abs=1e-6) if isinstance(answer, float) else answer


@pytest.fixture
def by_networks(monkeypatch):
    """Answers of `thalweg predict` as PyTorch gives them."""

    def call(command, *arguments):
        with monkeypatch.context() as patched:
            for task in (Classify, Score):
                patched.setattr(task, "predictor", lambda self, weights: None)
            return command(*arguments)

    return call


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, options) for kind in RUNS for options in ((), ("--top", 1), ("--top", 5)) if kind in LABELED),
        *((kind, ()) for kind in ("score", "score bag", "pairs")),
        *((kind, ("--threshold", 0.3)) for kind in ("bag", "tuned", "several")),
    ],
    ids=str,
)
def test_answers_without_pytorch_are_those_of_the_networks(runs, command, by_networks, monkeypatch, kind, options):
    asked = ("predict", runs[kind], *(f"{text}\tfine" if kind == "pairs" else text for text in TEXTS), *options)
    expected = by_networks(command, *asked, "--json")
    monkeypatch.setattr(Run, "_networks", None)
    found = command(*asked, "--json")
    answers = [json.loads(line) for line in found.splitlines()]
    assert answers == [almost(json.loads(line)) for line in expected.splitlines()]
    assert len(answers) == len(TEXTS)


def test_tables_and_lines_are_those_of_the_networks(runs, command, by_networks, tmp_path):
    (tmp_path / "new.csv").write_text("id,text\n1,fine thing\n2,\n3,awful\n")
    for form in (("--csv", "--keep", "id"), ()):
        asked = ("predict", runs["linear"], "--file", tmp_path / "new.csv", *form)
        here, there = command(*asked), by_networks(command, *asked)
        rows = [[line.split(",") for line in out.splitlines()] for out in (here, there)]
        numbers = [[float(cell) for row in one for cell in row if cell.startswith("0.")] for one in rows]
        words = [[cell for row in one for cell in row if not cell.startswith("0.")] for one in rows]
        assert words[0] == words[1]
        np.testing.assert_allclose(*numbers, atol=1e-6)


def test_models_that_need_pytorch_answer_with_it(runs, command):
    out = command("predict", runs["gru"], "fine", "--json")
    assert json.loads(out) == almost(load(runs["gru"]).predict(["fine"])[0])


@pytest.mark.parametrize("freeze", [False, True])
def test_pretrained_models_need_pytorch(runs, freeze):
    run = load(runs["bag"])
    run.recipe = run.recipe.with_(model="hf:models/small", freeze=freeze)
    assert not run._reads_bags


def test_what_was_loaded_or_changed_answers_itself(runs):
    run = load(runs["linear"])
    run.model.bias.data[:] = run.model.bias.new_tensor([0.0, 50.0, 0.0])
    assert run.answering()[1](["fine"], AnswerOptions())[0]["probability"] > 0.999


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "labels.json", "features.safetensors"])
def test_a_damaged_run_is_refused_without_pytorch_as_with_it(runs, tmp_path, name):
    folder = shutil.copytree(runs["bag"], tmp_path / "x")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    for answer in (lambda run: run.answering(), lambda run: run.predict(["fine"])):
        with pytest.raises(InputError, match=rf"{name} .*differs|{name} is damaged|{name} has changed"):
            answer(Run(folder))


CODE = """
import sys
from thalweg.cli.main import run

for arguments in {commands}:
    try:
        run(arguments)
    except SystemExit as end:
        assert end.code == 0, arguments
    loaded = sorted({{"torch", "sacrebleu", "optuna", "plotly", "sklearn", "pandas"}} & sys.modules.keys())
    assert not loaded, (arguments, loaded)
"""


def test_commands_that_train_nothing_import_no_pytorch(runs, tmp_path):
    """One process for all of them: what one imports is still there for the next."""
    (tmp_path / "data.csv").write_text(TWO)
    folder = str(runs["bag proved"])
    commands = [
        *(["--help"], ["--version"], ["train", "--help"], ["completion", "bash"]),
        *(["data", str(tmp_path / "data.csv")], ["data", "sunspots"], ["data", "tokens", "--json"]),
        *(["verify", folder], ["check", f"{folder}/certificate.json"]),
        ["predict", folder, "fine thing"],
        ["predict", str(runs["pairs"]), "fine\tawful"],
        ["predict", str(runs["several"]), "--file", str(tmp_path / "data.csv"), "--csv"],
    ]
    done = subprocess.run([sys.executable, "-c", CODE.format(commands=commands)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
