"""A stranger's recipe or run that names code: nothing of it is imported unless the user says so."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from watched import watched

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
def made(tmp_path_factory):
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
        thalweg.certify("runs/x", seconds=SECONDS).save("certificate.json")
    repair = {"sentence": "", "options": {"lr": 0.05}}
    (folder / "runs/x/repair.json").write_text(json.dumps({"findings": [{"repair": repair}]}))
    sys.modules.pop("canary")
    (folder / "sung").unlink()
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of that folder, as it comes from a stranger."""
    folder = tmp_path / "stranger"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    yield folder
    sys.modules.pop("canary", None)
    assert not list((tmp_path / "temporary").iterdir())


def done(arguments, folder):
    """Return the exit code of a command, which may write into the runs, and into `page.html`."""
    own = [folder / "runs", folder / "page.html", folder / ".page.html.", folder.parent / "temporary"]
    with watched(own, folder) as beyond, pytest.raises(SystemExit) as end:
        command(arguments)
    assert beyond == []
    return end.value.code


SECONDS = 0.1
BRIEF = ("--seconds", str(SECONDS))
READS = {
    "predict": ["predict", "runs/x", "a fine film"],
    "evaluate": ["evaluate", "runs/x", "data.csv", "--report", "page.html"],
    "certify": ["certify", "runs/x", *BRIEF],
    "polish": ["certify", "runs/x", "--polish", *BRIEF],
    "check": ["check", "certificate.json"],
    "check against its run": ["check", "certificate.json", "--run", "runs/x"],
    "diagnose": ["diagnose", "runs/x", *BRIEF],
    "verify": ["verify", "runs/x"],
    "look at the data of a recipe": ["data", "runs/x/recipe.toml"],
    "compare by a recipe": [
        *("compare", "runs/x/recipe.toml", "--optimizers", "sgd", "--steps", "1", "--trials", "0", "--seeds", "1"),
    ],
    "a stream": ["train", "data.csv", "--online", "--name", "stream"],
    "a stream by a recipe": ["train", "runs/x/recipe.toml", "--online", "--name", "stream"],
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
    code = done(READS[case], here)
    assert code in (0, 1) or case in ("compare by a recipe", "a stream by a recipe")  # which are refused


@pytest.mark.parametrize("case", TRAINS)
def test_nothing_is_imported_to_train_unless_the_user_says_so(here, case, capfd):
    assert done(TRAINS[case], here) == 2
    told = " ".join(capfd.readouterr().err.split())
    assert f"names code, {PATH}, which would be imported and run: give --trust" in told


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
    (run / name).parent.joinpath("itself").symlink_to("itself")
    require_inside(run)
    (run / name).symlink_to(outside)
    with pytest.raises(InputError, match=rf"{name} is a link that leads out of the run"):
        require_inside(run)


OUTSIDE = {
    "report.html": "<p>",
    "diagnosis.json": "{}",
    "new.html": "<p>",
    "unfinished/a": "a",
    "replaced/recipe.toml": "",
}
REPLACED = ("model.safetensors", "history.jsonl", "metrics.json", "manifest.json", "recipe.toml", "labels.json")
WRITERS = {
    "resume": ["train", "--resume", "runs/x", "--steps", "3", "--trust"],
    "overwrite": ["train", "runs/x/recipe.toml", "--name", "x", "--overwrite", "--trust"],
    "certify": ["certify", "runs/x", *BRIEF],
    "polish": ["certify", "runs/x", "--polish", *BRIEF],
    "diagnose": ["diagnose", "runs/x", *BRIEF],
    "evaluate": ["evaluate", "runs/x", "data.csv", "--report", "runs/x/report.html"],
    "verify": ["verify", "runs/x"],
    "a stream": ["train", "data.csv", "--online", "--name", "stream", "--overwrite"],
}


@pytest.mark.parametrize("case", WRITERS)
def test_no_link_in_a_run_leads_a_command_out_of_it(here, tmp_path, case):
    outside, runs = tmp_path / "outside", here / "runs"
    run = runs / "x"
    for name, text in OUTSIDE.items():
        (outside / name).parent.mkdir(exist_ok=True, parents=True)
        (outside / name).write_text(text)
    links = {
        "x/report.html": "report.html", "x/diagnosis.json": "diagnosis.json", "x/diagnosis.html": "new.html",
        "x/.report.html.new.thalweg-tmp": "new.html", "x/.a.0123abcd.thalweg-tmp": "unfinished",
        "x/checkpoints/.step-00000001.0123abcd.thalweg-tmp": "unfinished", "x/certificate.json": "diagnosis.json",
        ".x.0123abcd.thalweg-tmp": "unfinished", ".x.lock": "new.html", ".x.replaced": "replaced",
        "x/mine": "unfinished",
        "stream/step-00000009": "unfinished", "stream/.step-00000001.0123abcd.thalweg-tmp": "unfinished",
    }  # fmt: skip
    if case == "resume":  # refuses every link among the checkpoints, as tested above
        links = {name: target for name, target in links.items() if "checkpoints" not in name}
    for name in REPLACED:
        shutil.move(run / name, outside / name)
        links[f"x/{name}"] = name
    for name, target in links.items():
        (runs / name).parent.mkdir(exist_ok=True)
        (runs / name).unlink(missing_ok=True)
        (runs / name).symlink_to(outside / target)
    before = {path: path.is_file() and path.read_bytes() for path in outside.rglob("*")}
    own = [runs, here / "sung", here / "__pycache__", tmp_path / "temporary"]
    with watched(own, tmp_path / "none") as beyond, pytest.raises(SystemExit) as end:
        command(WRITERS[case])
    assert beyond == []
    assert {path: path.is_file() and path.read_bytes() for path in outside.rglob("*")} == before
    assert (run / "mine").is_symlink() or case == "overwrite"
    assert end.value.code in (0, 1)


BESIDE = (
    "antigravity", "canary", "cyclopts", "filelock", "json", "lazy_loader", "numpy", "pyarrow", "random", "re", "rich",
    "safetensors", "sitecustomize", "tomllib", "torch", "typing", "usercustomize",
)  # fmt: skip
SCRIPT = "import sys\nfrom thalweg.__main__ import run\nsys.exit(run())\n"  # as it is installed
FRESH = {"as a module": ["-m", "thalweg", "data", "runs/x/recipe.toml"], "as a script": ["bin", "--version"]}


@pytest.mark.parametrize("how", FRESH)
def test_modules_beside_the_data_are_not_imported(here, tmp_path, how):
    """A process of its own: the names are of modules that have been imported in this one."""
    for name in BESIDE:
        (here / f"{name}.py").write_text('import pathlib\npathlib.Path(__file__).with_name("sung").write_text("")')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/thalweg").write_text(SCRIPT)
    arguments = [str(tmp_path / "bin/thalweg") if one == "bin" else one for one in FRESH[how]]
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=here)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not (here / "sung").exists()
