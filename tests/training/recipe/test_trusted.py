"""A stranger's recipe or run that names code: nothing of it is imported unless the user says so."""

import json
import os
import subprocess
import sys

import pytest

import thalweg
from thalweg.certificates.certificate.interval import Interval
from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.report.document import write_page
from thalweg.training.certified.risk import risk_on_new_texts
from thalweg.training.folder.run import Run
from thalweg.training.recipe.trusted import names_code, require_inside, require_trust

CANARY = """
import pathlib, torch
pathlib.Path(__file__).with_name("sung").write_text("imported")
class Evil(torch.optim.SGD): pass
"""
PATH = "canary.Evil"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A folder with data, a module that writes a file when it is imported, and what was trained by it."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "canary.py").write_text(CANARY)
    rows = [f"{'a fine' if i % 2 else 'an awful'} film {i % 7},{'good' if i % 2 else 'bad'}" for i in range(40)]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        options = {"model": "mlp", "steps": 2, "l2": 0.01, "lr": 0.1, "schedule": "constant", "warmup": 0.0}
        thalweg.train("data.csv", name="x", optimizer=PATH, **options)
        thalweg.certify("runs/x", seconds=1.0).save(folder / "certificate.json")
    repair = {"sentence": "", "options": {"lr": 0.05}}
    (folder / "runs/x/repair.json").write_text(json.dumps({"findings": [{"repair": repair}]}))
    forget(folder)
    return folder


def forget(folder):
    sys.modules.pop("canary", None)
    (folder / "sung").unlink()


@pytest.fixture
def here(stranger, monkeypatch):
    monkeypatch.chdir(stranger)
    monkeypatch.syspath_prepend(stranger)
    yield stranger
    sys.modules.pop("canary", None)
    (stranger / "sung").unlink(missing_ok=True)


READS = {
    "predict": ["predict", "runs/x", "a fine film"],
    "evaluate": ["evaluate", "runs/x", "data.csv", "--report", "page.html"],
    "certify": ["certify", "runs/x", "--seconds", "1"],
    "check": ["check", "certificate.json"],
    "check against its run": ["check", "certificate.json", "--run", "runs/x"],
    "diagnose": ["diagnose", "runs/x", "--seconds", "1", "--no-report"],
    "look at the data of a recipe": ["data", "runs/x/recipe.toml"],
    "compare by a recipe": [
        *("compare", "runs/x/recipe.toml", "--optimizers", "sgd", "--steps", "1", "--trials", "0", "--seeds", "1"),
    ],
}
TRAINS = {
    "a recipe": ["train", "runs/x/recipe.toml"],
    "a run that goes on": ["train", "--resume", "runs/x", "--steps", "4"],
    "a run that is begun from": ["train", "data.csv", "--start-from", "runs/x"],
    "another optimizer's options": ["train", "runs/x/recipe.toml", "--lr", "0.2"],
    "a repair": ["train", "--apply", "runs/x/repair.json#1"],
    "a bound on new texts": ["certify", "runs/x", "--risk", "--seconds", "1"],
}


@pytest.mark.parametrize("case", READS)
def test_nothing_is_imported_to_look_at_a_run(here, case):
    with pytest.raises(SystemExit) as end:
        command(READS[case])
    assert end.value.code in (0, 1) or case == "compare by a recipe"  # which is refused
    assert not (here / "sung").exists()


@pytest.mark.parametrize("case", TRAINS)
def test_nothing_is_imported_to_train_unless_the_user_says_so(here, case, capfd):
    with pytest.raises(SystemExit) as end:
        command(TRAINS[case])
    told = " ".join(capfd.readouterr().err.split())
    assert end.value.code == 2
    assert f"names code, {PATH}, which would be imported and run: give --trust" in told
    assert not (here / "sung").exists()


def test_python_asks_for_trust_as_well(here):
    for refused in (
        lambda: thalweg.train("runs/x/recipe.toml"),
        lambda: thalweg.train(resume="runs/x", steps=4),
        lambda: risk_on_new_texts("runs/x"),
    ):
        with pytest.raises(InputError, match=r"runs/x\S* names code, canary.Evil.*\(trust=True in Python\)"):
            refused()
    assert Run("runs/x").predict(["a fine film"])
    assert not (here / "sung").exists()


@pytest.mark.parametrize("how", [{"trust": True}, {"optimizer": PATH}])
def test_what_the_user_trusts_or_names_himself_is_imported(here, how):
    assert thalweg.train("runs/x/recipe.toml", fast=True, **how).finished
    assert (here / "sung").exists()


NAMES = {
    "adamw": False, "torch.optim.AdamW": False, "thalweg.optim.soap.SOAP": False, "auto": False, "antigravity.X": True,
    "torch.nn.Linear": True, "x.__main__.X": True, "__main__.X": True, "torch.optimizers.X": True,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_which_names_lead_to_code(name):
    assert names_code(name) is NAMES[name]
    require_trust(name, {"optimizer": name}, "r.toml", trust=False)
    require_trust(name, {}, "r.toml", trust=True)
    if NAMES[name]:
        with pytest.raises(
            InputError, match=rf"r.toml names code, {name}, which .* whoever wrote r.toml, or --optimizer"
        ):
            require_trust(name, {"optimizer": "sgd"}, "r.toml", trust=False)
        with pytest.raises(InputError, match=r"whoever wrote r.toml\.$"):
            require_trust(name, None, "r.toml", trust=False)


LINKS = {"report.html": "file", "certificate.json": "file", ".certificate.json.tmp": "file", "page.html": "device"}


@pytest.mark.parametrize("name", LINKS)
def test_what_is_written_into_a_run_follows_no_link_out_of_it(tmp_path, name):
    outside = tmp_path / "outside"
    if LINKS[name] == "device":
        os.mkfifo(outside)
    else:
        outside.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(outside)
    write_page(run / "report.html", "<p>")
    write_page(run / "page.html", "<p>")
    Interval(loss=1.0, levels=()).save(run / "certificate.json")
    assert outside.is_fifo() or outside.read_text() == "mine"
    assert not (run / name.removesuffix(".tmp")).is_symlink()


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/step-00000001", "checkpoints/step-00000002/state.json"])
def test_a_run_whose_checkpoints_lead_out_of_it_does_not_go_on(tmp_path, name):
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (run / name).parent.mkdir(parents=True)
    (run / "checkpoints-of-mine").symlink_to(outside)  # the user's own
    (run / name).parent.joinpath("inside").symlink_to(run)
    require_inside(run)
    (run / name).symlink_to(outside)
    with pytest.raises(InputError, match=rf"{name} is a link that leads out of the run"):
        require_inside(run)


def test_modules_beside_the_data_are_not_imported(here):
    """Names of packages that the command needs, the first of all before its own code."""
    for name in ("lazy_loader", "torch", "numpy", "cyclopts", "pyarrow"):
        (here / f"{name}.py").write_text(CANARY)
    done = subprocess.run(
        [sys.executable, "-m", "thalweg", "--version"], capture_output=True, text=True, check=False, cwd=here
    )
    for name in ("lazy_loader", "torch", "numpy", "cyclopts", "pyarrow"):
        (here / f"{name}.py").unlink()
    assert (done.returncode, done.stderr) == (0, "")
    assert not (here / "sung").exists()
