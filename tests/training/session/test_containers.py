"""Training on several files, archives, folders and objects: complete recipes, checksums, and what is asked later."""

import pytest

from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.training.folder.again import read_again
from thalweg.training.session.api import train

ROWS = "".join(f"a {word} film number {i},{label}\n" for i in range(20) for word, label in (("fine", 1), ("bad", 0)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text,label\n" + ROWS)
    (tmp_path / "b.csv").write_text("text,label\n" + ROWS.replace("film", "book"))
    return tmp_path


def test_a_run_on_several_files_is_complete_and_repeats(folder, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        command(["train", "a.csv", "b.csv", "--fast", "--seed", "3"])
    assert "2 files are read one after another: a.csv, b.csv." in capsys.readouterr().err
    first = train("runs/a-b/recipe.toml", fast=True)
    assert first.folder.name == "a-b-2"
    assert first.recipe.data.source == "a.csv + b.csv"
    assert list(first.data["files"]) == ["a.csv", "b.csv"]
    assert first.data["num_train"] + first.data["num_valid"] == 80
    assert (folder / "runs/a-b/model.safetensors").read_bytes() == (first.folder / "model.safetensors").read_bytes()
    assert first.has_learned_from("b.csv")
    assert first.has_learned_from("a.csv + c.csv")
    assert not first.has_learned_from("runs/a-b/recipe.toml")
    assert first.evaluate("a.csv + b.csv").metrics
    assert len(read_again(first)[1].train) == first.data["num_train"]
    (folder / "b.csv").write_text("text,label\n" + ROWS)
    with pytest.raises(InputError, match=r"b.csv has changed since"):
        read_again(first)
