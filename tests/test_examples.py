"""Every example runs in an empty folder and says what it promises.

In this process, since importing torch takes longer than most of them; one is run as a person would run it.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Lightning warns of its own ways with PyTorch, of folders that exist and of few workers.
WARNS = {"in_lightning.py": ("ignore:.*LeafSpec:FutureWarning", "ignore::UserWarning:lightning")}

# Words that each example must print: the last thing that it does.
PROMISED = {
    "classify_csv.py": "report: runs/reviews/report.html",
    "forecast.py": "in 3 days: load",
    "head_in_trainer.py": "sampled: perplexity",
    "in_accelerate.py": "the same to the last bit after step 40",
    "in_lightning.py": "manual: resumed after epoch 4, the same to the last bit",
    "in_trainer.py": "Newton-CG: resumed at step 6, the same to the last bit",
    "online.py": "billing (",
    "own_head.py": "18.0 h: rate",
    "own_loop.py": "L-BFGS: loss",
    "own_model.py": "validation: loss",
    "physics_informed.py": "Levenberg-Marquardt: largest error",
    "watch_loop.py": "error: dead-units: 100% of the units of 3 (relu)",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name, marks=[pytest.mark.filterwarnings(text) for text in WARNS.get(path.name, ())])
        for path in EXAMPLES
    ],
)
def test_example_runs_in_an_empty_folder(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert PROMISED[path.name] in capsys.readouterr().out


@pytest.mark.slow
def test_an_example_runs_as_a_person_would_run_it(tmp_path):
    path = ROOT / "examples" / "own_loop.py"
    search = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert PROMISED[path.name] in done.stdout, done.stdout[-3000:]


def test_every_example_has_a_promise():
    assert [path.name for path in EXAMPLES] == sorted(PROMISED)
