"""A run that goes on keeps its options: another value is refused by name, and only its length may change."""

import os
import re
import shutil
import signal

import pytest

from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.storage.ledger import Ledger
from thalweg.training.folder.resuming import resumed, resumption
from thalweg.training.folder.run import Run
from thalweg.training.integrity import checkpoint_names
from thalweg.training.integrity.checkpoint_names import CHECKPOINTS
from thalweg.training.integrity.claim import Claim
from thalweg.training.integrity.run_files import CERTIFICATE, METRICS, REPORT, WEIGHTS
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train
from thalweg.training.session.finish import finish
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare

BAG = {"model": "bag", "optimizer": "adamw", "width": 4, "epochs": 4.0, "batch_size": 30, "lr": 0.02, "seed": 3}


@pytest.fixture
def cut(reviews, tmp_path):
    """A run that was interrupted in its fourth step of twenty."""
    with prepare(Request(Options({"source": str(reviews), **BAG}), tmp_path / "cut"), lambda sentence: None) as session:
        for entry in train_loop(session):
            if entry["event"] == "step" and entry["step"] == 3:
                os.kill(os.getpid(), signal.SIGINT)
        finish(session, Status.INTERRUPTED)
    return session.run


CONTRADICTIONS = {
    "model": ({"model": "gru"}, r"was started with --model bag \(got gru\), and .*; leave it out"),
    "rate": ({"lr": 0.1}, r"--lr 0\.02 \(got 0\.1\)"),
    "several": (
        {"lr": 0.1, "width": 8, "steps": 99},
        r"--width 4 \(got 8\) and --lr 0\.02 \(got 0\.1\), .*leave them out",
    ),
    "name": ({"name": "other"}, r"--name reviews \(got other\)"),
    "seed": ({"seed": 4}, r"--seed 3 \(got 4\)"),
    "column": ({"text_column": "label"}, r"--text-column text \(got label\)"),
    "switch": ({"skip_bad_rows": True}, r"--no-skip-bad-rows \(got --skip-bad-rows\)"),
    "list": ({"normalize": ("nfkc",)}, r"--normalize nfc,lower,spaces \(got nfkc\)"),
    "optimizer": ({"optimizer": "sgd"}, r"--optimizer adamw \(got sgd\)"),
    "other data": ({"source": "b.csv"}, r"--source .*reviews\.csv \(got b\.csv\), and a run goes on with its own data"),
    "other validation": ({"valid": "v.csv"}, r"--valid \"\" \(got v\.csv\)"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_an_option_that_contradicts_the_run_is_refused_by_name(cut, case):
    given, message = CONTRADICTIONS[case]
    recipe = (cut.folder / "recipe.toml").read_bytes()
    with pytest.raises(InputError, match=message):
        train(resume=cut.folder, **given)
    assert (cut.folder / "recipe.toml").read_bytes() == recipe


def test_every_option_is_either_kept_or_may_change(cut):
    """The table of options decides: no other place lists them."""
    values = cut.recipe.values()
    others = {float: 0.123, int: 77, str: "other", bool: True, tuple: ("other",), dict: {"other": 1}}
    for name, option in OPTIONS.items():
        given = Options({name: others[type(values[name])]})
        if option.resumed:
            assert resumed(cut.folder, given).changes[name] == given[name]
        else:
            with pytest.raises(InputError, match=f"was started with .*{option.flag[2:]}"):
                resumed(cut.folder, given)


def test_the_runs_own_options_are_no_contradiction(cut, reviews):
    train(reviews, resume=cut.folder, **BAG, name="reviews", text_column="text")
    assert cut.status is Status.COMPLETED
    with pytest.raises(InputError, match="is finished, so there is nothing to resume"):
        train(reviews, resume=cut.folder, **BAG)


def test_the_recipe_file_of_the_run_is_no_contradiction(cut):
    assert not resumed(cut.folder, Options(source=str(cut.folder / "recipe.toml"))).changes
    assert not resumed(cut.folder, Options(optimizer="auto")).changes


@pytest.mark.parametrize(
    ("given", "steps", "message"),
    [
        ({"epochs": 6.0}, 30, r"goes on with --epochs 6 \(before: 4\); its recipe"),
        ({"steps": 22}, 22, r"--steps 22 \(before: 0\), --epochs 0 \(before: 4\)"),
        ({"epochs": 2.0}, 10, r"--epochs 2 \(before: 4\)"),
        ({"time": 1e6, "patience": 5}, 20, r"--time 1000000 \(before: 0\), --patience 5 \(before: 0\)"),
    ],
)
def test_an_interrupted_run_may_become_longer_or_shorter(cut, given, steps, message):
    said = []
    run = train(resume=cut.folder, say=said.append, **given)
    assert (run.status, run.result["steps"]) == (Status.COMPLETED, steps)
    assert re.search(message, " ".join(said))
    assert {name: run.recipe.values()[name] for name in given} == given


def test_no_run_is_made_shorter_than_it_is(cut):
    recipe = (cut.folder / "recipe.toml").read_bytes()
    with pytest.raises(InputError, match="has taken 4 steps already, and --steps 2 makes 2 in all; give more"):
        train(resume=cut.folder, steps=2)
    assert (cut.folder / "recipe.toml").read_bytes() == recipe
    assert train(resume=cut.folder).result["steps"] == 20


def test_a_finished_run_goes_on_for_longer(reviews, tmp_path):
    run, said = train(reviews, out=tmp_path, **BAG), []
    run.ledger.write({CERTIFICATE: b"{}"})
    longer = train(resume=run.folder, epochs=6.0, say=said.append)
    assert (longer.status, longer.result["steps"], longer.recipe.training.epochs) == (Status.COMPLETED, 30, 6.0)
    assert [entry["step"] for entry in longer.history if entry["event"] == "step"] == [*range(1, 31)]
    assert not (run.folder / CERTIFICATE).exists()
    spoken = " ".join(said)
    assert "The finished run" in spoken
    assert "follows the cosine schedule of the new length" in spoken
    assert "certificate.json was about the weights so far, and is removed." in spoken


def test_a_run_that_ended_early_needs_the_limit_that_ended_it_lifted(reviews, tmp_path):
    options = BAG | {"lr": 1e-9, "patience": 1, "epochs": 40.0}
    run = train(reviews, out=tmp_path, **options)
    assert run.status is Status.STOPPED_EARLY
    with pytest.raises(InputError, match=r"nothing to resume\. Stopped early .* Give a larger --patience to go on"):
        train(resume=run.folder, epochs=50.0)
    assert train(resume=run.folder, patience=0, epochs=5.0).result["steps"] == 25


def test_a_proved_optimum_is_the_end(reviews, tmp_path):
    run = train(reviews, out=tmp_path, select="none")
    assert run.status is Status.PROVED
    with pytest.raises(InputError, match=r"nothing to resume\. Converged: .* Train a new one\."):
        train(resume=run.folder, epochs=500.0)


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(reviews, tmp_path):
    run = train(reviews, out=tmp_path, **BAG)
    (run.folder / CHECKPOINTS).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="has no checkpoint to go on from"):
        train(resume=run.folder, epochs=6.0)
    assert Run(run.folder).finished


@pytest.mark.parametrize("flag", ["--overwrite", "--fast", "--online"])
def test_what_is_for_new_runs_is_refused_beside_resume(cut, capsys, flag):
    with pytest.raises(SystemExit, match="2"):
        command(["train", "--resume", str(cut.folder), flag])
    assert "leave" in capsys.readouterr().err
    assert not cut.finished


def test_a_checkpoint_has_any_name_that_leads_to_it(cut, monkeypatch):
    place = checkpoint_names.steps(cut.folder / CHECKPOINTS)[0]
    link = cut.folder.parent / "link"
    link.symlink_to(place)
    (place.parent / "link").symlink_to(place.name)
    named = (place, f"{place}/", place.parent / "." / place.name, link, place.parent / "link")
    assert {resumption(None, one) for one in named} == {(cut.folder, place)}
    monkeypatch.chdir(place)
    assert resumption(cut.folder, ".") == (cut.folder, place)


@pytest.mark.parametrize("name", ["checkpoints/copy", "checkpoints/step-00000099", "checkpoints", "", "recipe.toml"])
def test_what_is_no_checkpoint_is_refused_with_those_that_there_are(cut, name):
    place = checkpoint_names.steps(cut.folder / CHECKPOINTS)[0]
    shutil.copytree(place, place.parent / "copy")
    shown = "" if name.endswith(".toml") else rf".* There are .*{place.name}.*; --resume \S*{cut.folder.name} goes on"
    with pytest.raises(InputError, match=f"There is no checkpoint {cut.folder / name}; give the folder of one{shown}"):
        train(resume_from=cut.folder / name)


def test_the_checkpoints_of_a_run_are_told_from_a_model_of_a_stream(cut, tmp_path):
    place = checkpoint_names.steps(cut.folder / CHECKPOINTS)[0]
    for inside in (place.parent, place):
        assert not checkpoint_names.is_online(inside)
        with pytest.raises(InputError, match=rf"is not a run folder.*; give that of the run, {cut.folder}\."):
            Run(inside)
    stream = tmp_path / "other" / "stream"
    shutil.copytree(place.parent, stream)
    (stream.parent / "recipe.toml").touch()
    assert checkpoint_names.is_online(stream)


@pytest.fixture
def leave_waiting(monkeypatch):
    """Write files of a run as a process does that is killed before they have their names."""

    def write(run, names):
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "_complete", lambda *given, **named: [])
            run.ledger.write({name: (run.folder / name).read_bytes() for name in names})

    return write


@pytest.mark.parametrize("again", ["resume", "same"])
def test_a_run_that_was_killed_while_its_last_files_took_their_names_ends_by_the_same_command(
    reviews, tmp_path, leave_waiting, again
):
    run = train(str(reviews), **BAG, out=tmp_path)
    weights = run.ledger.sums[WEIGHTS]
    leave_waiting(run, (METRICS, REPORT))
    with pytest.raises(InputError, match="is finished, so there is nothing to resume"):
        train(resume=run.folder, patience=3)
    ended = train(resume=run.folder) if again == "resume" else train(str(reviews), **BAG, out=tmp_path)
    assert (ended.folder, ended.finished, ended.ledger.sums[WEIGHTS]) == (run.folder, True, weights)
    assert ended.ledger.is_complete


@pytest.mark.parametrize("names", [(WEIGHTS, METRICS), (CERTIFICATE, REPORT)])
def test_a_change_of_a_finished_run_that_waits_is_not_taken_for_its_end(reviews, tmp_path, leave_waiting, names):
    run = train(str(reviews), **BAG, out=tmp_path)
    run.ledger.write({CERTIFICATE: b"{}", WEIGHTS: (run.folder / WEIGHTS).read_bytes()})
    weights = run.ledger.sums[WEIGHTS]
    leave_waiting(run, names)
    with pytest.raises(InputError, match="is finished, so there is nothing to resume"):
        train(resume=run.folder)
    assert train(str(reviews), **BAG, out=tmp_path).folder != run.folder
    assert (run.status, run.ledger.sums[WEIGHTS]) == (Status.COMPLETED, weights)


def test_a_run_that_another_takes_the_place_of_before_it_goes_on_is_left_alone(cut, reviews, tmp_path, monkeypatch):
    def claim(folder, work="trained"):
        shutil.rmtree(folder)
        shutil.copytree(other.folder, folder)
        return Claim(folder, work)

    other = train(str(reviews), **BAG | {"seed": 4}, name=cut.folder.name, out=tmp_path)
    monkeypatch.setattr("thalweg.training.integrity.placing.Claim", claim)
    with pytest.raises(InputError, match="has been changed by another process meanwhile; repeat the command"):
        train(resume=cut.folder, epochs=5.0)
    assert Run(cut.folder).ledger.sums == other.ledger.sums
