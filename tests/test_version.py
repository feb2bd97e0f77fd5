"""The version is the one that pyproject.toml says, wherever it is asked for."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

import thalweg
from thalweg.cli import main


def test_the_version_is_that_of_the_project(capsys):
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert thalweg.__version__ == importlib.metadata.version("thalweg") == project["version"]
    with pytest.raises(SystemExit, match="0"):
        main.run(["--version"])
    assert capsys.readouterr().out.split() == [project["version"]]
