"""Back-translation: the commands of docs/data.md, as a shell runs them."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

import thalweg

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


@pytest.mark.slow
def test_the_commands_of_the_docs_lead_from_texts_to_a_translator(tmp_path):
    section = PAGE.read_text(encoding="utf-8").split("## Texts of the target language alone")[1]
    found = re.search(r"```sh\n(.*?)```", section, re.S)
    assert found
    script = f'set -e\nthalweg() {{ "{sys.executable}" -m thalweg "$@"; }}\n{found[1]}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Starting from" in done.stderr
    with (tmp_path / "back.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    written = (tmp_path / "german.txt").read_text(encoding="utf-8").splitlines()
    assert [row["source"] for row in rows] == written
    assert len({row["text"] for row in rows}) > 1
    run = thalweg.load(tmp_path / "runs" / "forward")
    assert run.predict(["the red house 3"])[0]["text"]
