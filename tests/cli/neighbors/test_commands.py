"""The commands that bring a run to other programs."""

import json

import pytest

import thalweg
from thalweg.cli import main

DATA = {"text": ["good film", "fine cast", "bad film", "poor cast"] * 4, "label": ["pos", "pos", "neg", "neg"] * 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return thalweg.train(
        DATA, task="classify", model="linear", l2=0.01, out=tmp_path_factory.mktemp("runs"), name="run"
    )


def code_of(*words):
    with pytest.raises(SystemExit) as ended:
        main.run([str(word) for word in words])
    return ended.value.code


def test_export_says_where_the_graph_is_and_what_it_takes(run, capsys):
    assert code_of("export", run.folder, "--onnx") == 0
    shown = capsys.readouterr().out
    assert "run-onnx/model.onnx: answers as the run does, up to " in shown
    assert "input   tokens  int64 [batch, length]" in shown
    assert code_of("export", run.folder, "--onnx") == 2
    assert "is there already" in capsys.readouterr().err


def test_export_as_json_and_without_a_format(run, tmp_path, capsys):
    assert code_of("export", run.folder, "--onnx", "--out", tmp_path / "graph", "--json") == 0
    assert json.loads(capsys.readouterr().out)["labels"] == ["neg", "pos"]
    assert code_of("export", run.folder) == 2
    assert "--onnx" in capsys.readouterr().err
    assert code_of("export", tmp_path / "nothing", "--onnx") == 2
    assert "no run folder" in capsys.readouterr().err


def test_serve_takes_its_limits_from_the_command_line(run, monkeypatch, capsys):
    called = []
    monkeypatch.setattr("thalweg.cli.neighbors.serve.serve", lambda *given: called.append(given))
    assert code_of("serve", run.folder, "--port", "0", "--max-inputs", "7", "--timeout", "1m") == 0
    ((_, host, port, limits, _),) = called
    assert (host, port, limits.inputs, limits.seconds, limits.body) == ("127.0.0.1", 0, 7, 60.0, 2**20)
    assert code_of("serve", run.folder, "--max-inputs", "0") == 2
    assert "limit of inputs must be above 0" in capsys.readouterr().err
