"""The command line on runs of pretrained models."""

import pytest

import thalweg
from thalweg.cli.main import run as command_line


@pytest.mark.parametrize("freeze", [True, False])
def test_a_new_process_answers_at_the_command_line(models, reviews, tmp_path, monkeypatch, capsys, freeze):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    run = thalweg.train(reviews, out=tmp_path, model=models("bert"), freeze=freeze, fast=True, max_length=16)
    monkeypatch.setattr("sys.argv", ["thalweg", "predict", str(run.folder), "a fine film", ""])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        command_line()
    found = capsys.readouterr()
    assert found.out.count("%") == len(found.out.splitlines()) == 2
    assert not found.err
